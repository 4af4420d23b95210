//! The primary is lost, and a synchronous standby takes over.

use crate::ledger::now_us;
use crate::scenario::{DATABASE, SECOND, Scenario, TIMEOUT, durable};
use pm_sandbox::Server;
use pm_tests::{Proxy, eventually};
use std::path::PathBuf;
use std::time::Duration;

/// A directory that is removed at the end of the test.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        // It is in the temporary directory, so a failure to remove it does not matter.
        std::fs::remove_dir_all(&self.0).ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_synchronous_standby_takes_over_without_a_loss() {
    let directory = Directory(std::env::temp_dir().join(format!("pm-standby-{}", std::process::id())));
    let primary = Server::start_with(durable()).expect("a private Postgres starts");
    primary.create_database(DATABASE).expect("it is a new server");
    primary.copy_as_standby(&directory.0).expect("copying succeeds");
    let standby = Server::start_with(durable().data_dir(&directory.0)).expect("a standby starts");
    primary.execute("postgres", "alter system set synchronous_standby_names = '*'").unwrap();
    primary.execute("postgres", "select pg_reload_conf()").unwrap();
    eventually("the standby is synchronous", TIMEOUT, async || {
        let states = primary.execute("postgres", "select sync_state from pg_stat_replication").unwrap();
        states.first().is_some_and(|row| row[0].as_deref() == Some("sync"))
    })
    .await;

    // Some clients name both servers, some use an address that moves.
    let (first, second) = (primary.socket_dir().display(), standby.socket_dir().display());
    let ports = format!("{},{}", primary.port(), standby.port());
    let both =
        format!("host={first},{second} port={ports} user=postgres dbname={DATABASE} target_session_attrs=read-write");
    let mut scenario = Scenario::at(primary, &both, SECOND * 30).await;
    let proxy = Proxy::before(&scenario.url()).await;
    scenario.produce(4, Duration::from_millis(10));
    (0..2).for_each(|_| scenario.work_at(&both, &["driver=tokio-postgres"]));
    scenario.work_at(proxy.url(), &["driver=sqlx"]);
    scenario.under_way().await;
    scenario.go_on(SECOND * 2).await;

    let killed = now_us();
    tokio::task::block_in_place(|| {
        scenario.server.kill();
        standby.execute("postgres", "select pg_promote()").expect("it takes over");
    });
    let promoted = now_us();
    proxy.lead_to(&standby.url_of(DATABASE));
    scenario.server = standby;
    let recovery = scenario.recovered(promoted).await;
    scenario.go_on(SECOND * 2).await;
    let recovery = format!(
        "{:.1} s after the promotion, which took {:.1} s",
        recovery.as_secs_f64(),
        Duration::from_micros(promoted - killed).as_secs_f64()
    );
    scenario.finish("primary killed for ever, synchronous standby promoted", &recovery).await;
}
