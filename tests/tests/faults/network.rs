//! The network drops everything, or is slow.

use crate::ledger::now_us;
use crate::processes::range;
use crate::scenario::{SECOND, Scenario, TIMEOUT};
use pm_tests::{Proxy, eventually};
use std::time::Duration;

/// Settings of workers behind the proxy: a statement times out after 2 s, and its reply is given up 5 s later.
const BEHIND: [&str; 2] = ["statement_timeout_ms=2000", "connect_timeout_ms=1000"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_costs_no_job() {
    let mut scenario = Scenario::with_leases_of(SECOND * 4).await;
    let proxy = Proxy::before(&scenario.url()).await;
    scenario.produce(4, Duration::from_millis(10));
    scenario.work(&[]);
    for driver in ["driver=tokio-postgres", "driver=sqlx"] {
        scenario.work_at(proxy.url(), &[BEHIND[0], BEHIND[1], driver]);
    }
    scenario.under_way().await;
    let behind = "select count(*) from pm.job where worker in ('worker-1', 'worker-2') and ended_at > clock_timestamp() - interval '1 s'";
    let mut recoveries = Vec::new();
    for outage in [SECOND * 2, SECOND * 12] {
        eventually("all work", TIMEOUT, async || scenario.number(behind) > 10).await;
        proxy.black_hole(true);
        scenario.go_on(outage).await;
        proxy.black_hole(false);
        let healed = now_us();
        eventually("those behind it work again", TIMEOUT, async || scenario.number(behind) > 10).await;
        recoveries.push(Duration::from_micros(now_us() - healed));
    }
    let recovery = format!("{} after it let new connections through (statement timeout 2 s)", range(recoveries));
    scenario.finish("all packets of 2 of 3 workers dropped for 2 and 12 s, lease 4 s", &recovery).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_network_costs_time_only() {
    let mut scenario = Scenario::with_leases_of(SECOND * 4).await;
    let proxy = Proxy::before(&scenario.url()).await;
    scenario.produce(4, Duration::from_millis(10));
    for driver in ["driver=tokio-postgres", "driver=sqlx"] {
        scenario.work_at(proxy.url(), &[driver]);
    }
    scenario.under_way().await;
    proxy.delay_replies(Duration::from_millis(700));
    let slowed = now_us();
    scenario.go_on(SECOND * 15).await;
    let endings = scenario.ledger.endings_since(slowed);
    assert!(endings > 0, "work goes on");
    proxy.delay_replies(Duration::ZERO);
    let recovery = format!("{:.1} s", scenario.recovered(now_us()).await.as_secs_f64());
    let pause = scenario.ledger.longest_pause(slowed);
    let recovery = format!("{recovery}; {endings} endings in the 15 s, at most {:.1} s apart", pause.as_secs_f64());
    scenario.finish("replies pass one by one, each after 0.7 s, for 15 s", &recovery).await;
}
