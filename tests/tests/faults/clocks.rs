//! Clients have wrong clocks.

use crate::ledger::now_us;
use crate::scenario::{SECOND, Scenario, TIMEOUT};
use pm_tests::eventually;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_a_year_off_cost_nothing() {
    let mut scenario = Scenario::with_leases_of(SECOND * 3).await;
    scenario.produce(4, Duration::from_millis(10));
    scenario.work(&["driver=tokio-postgres"]);
    let url = scenario.url();
    (0..2).for_each(|_| scenario.work_at(&url, &["years_off=1"]));
    let each = "select count(distinct worker) from pm.job where state = 2";
    eventually("all work", TIMEOUT, async || scenario.number(each) == 3).await;
    scenario.under_way().await;
    scenario.go_on(SECOND * 8).await;
    // All its handlers are busy when it is killed.
    scenario.put(1_000).await;
    scenario.endings(now_us(), 50).await;
    let victim = scenario.workers.remove(0);
    assert!(!victim.kill().is_empty(), "it had jobs");
    scenario.under_way().await;
    let recovery = "nothing to recover from; a killed worker's jobs were reaped by the two".to_owned();
    scenario.finish("clocks of 2 of 3 workers a year off, each second to the other side", &recovery).await;
}
