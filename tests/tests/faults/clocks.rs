//! Clients do not know what time it is.

use crate::books::now_us;
use crate::scene::{PATIENCE, SECOND, Scene};
use pm_tests::eventually;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_a_year_off_cost_nothing() {
    let mut scene = Scene::with_leases_of(SECOND * 3).await;
    scene.produce(4, Duration::from_millis(10));
    scene.work(&["driver=tokio-postgres"]);
    let url = scene.url();
    (0..2).for_each(|_| scene.work_at(&url, &["years_off=1"]));
    let each = "select count(distinct worker) from pm.job where state = 2";
    eventually("all work", PATIENCE, async || scene.number(each) == 3).await;
    scene.under_way().await;
    scene.go_on(SECOND * 8).await;
    // All hands are full when it is killed.
    scene.put(1_000).await;
    scene.endings(now_us(), 50).await;
    let victim = scene.workers.remove(0);
    assert!(!victim.kill().is_empty(), "it had jobs");
    scene.under_way().await;
    let recovery = "nothing to recover from; a killed worker's jobs were reaped by the two".to_owned();
    scene.finish("clocks of 2 of 3 workers a year off, each second to the other side", &recovery).await;
}
