//! Progress: how often it is stored, and under which leases.

use super::rig::{Fault, Rig, ms, options};
use pm_core::machine::WorkerOptions;
use pm_core::{Error, JsonText, Lease, StatementId, Verdict};

fn progress(n: u64) -> JsonText {
    JsonText::progress(n.to_string()).expect("it is short")
}

/// Returns what is stored of a job.
fn stored(rig: &Rig, lease: Lease) -> Option<String> {
    rig.database.memory.look(|tables| tables.job[&lease.job].progress.clone())
}

#[test]
fn progress_is_stored_at_once_and_then_the_newest_once_a_second() {
    let mut rig = Rig::new(WorkerOptions { reaps: false, ..options() });
    rig.add_jobs(1);
    let lease = rig.wait_next().job.lease;
    for n in 0..490 {
        rig.worker.set_progress(lease, progress(n), rig.now).unwrap();
        rig.run_for(ms(10));
        if n == 0 {
            assert_eq!(stored(&rig, lease).as_deref(), Some("0"));
        }
    }
    assert_eq!(rig.sent(StatementId::SetProgress).count(), 5);
    rig.run_for(ms(1_000));
    assert_eq!(stored(&rig, lease).as_deref(), Some("489"));
    let sent = rig.sent(StatementId::SetProgress).count();
    rig.run_for(ms(5_000));
    assert_eq!(rig.sent(StatementId::SetProgress).count(), sent, "there is nothing new");
}

#[test]
fn the_progress_of_many_jobs_shares_statements_of_500() {
    let mut rig = Rig::new(WorkerOptions { reaps: false, prefetch: 2_000, ..options() });
    let ids = rig.add_jobs(1_200);
    let leases: Vec<_> = ids.iter().map(|_| rig.wait_next().job.lease).collect();
    for (n, lease) in leases.iter().enumerate() {
        rig.worker.set_progress(*lease, progress(n as u64), rig.now).unwrap();
    }
    rig.run_for(ms(50));
    assert_eq!(rig.sent(StatementId::SetProgress).map(|sent| sent.jobs.len()).collect::<Vec<_>>(), [500, 500, 200]);
    assert!(leases.iter().enumerate().all(|(n, lease)| stored(&rig, *lease) == Some(n.to_string())));
}

#[test]
fn progress_whose_statement_failed_is_sent_again_unless_there_is_newer() {
    let mut rig = Rig::new(WorkerOptions { reaps: false, ..options() });
    rig.add_jobs(2);
    let (first, second) = (rig.wait_next().job.lease, rig.wait_next().job.lease);
    rig.fault(StatementId::SetProgress, Fault::LosesReply, 1);
    rig.worker.set_progress(first, progress(1), rig.now).unwrap();
    rig.worker.set_progress(second, progress(1), rig.now).unwrap();
    rig.run_for(ms(20));
    rig.worker.set_progress(second, progress(2), rig.now).unwrap();
    rig.run_for(ms(9_000));
    assert_eq!([first, second].map(|lease| stored(&rig, lease).unwrap()), ["1", "2"]);
}

#[test]
fn a_settlement_does_not_wait_for_progress_and_ends_it() {
    let mut rig = Rig::new(WorkerOptions { reaps: false, ..options() });
    rig.add_jobs(1);
    let taken = rig.wait_next();
    let lease = taken.job.lease;
    rig.worker.set_progress(lease, progress(1), rig.now).unwrap();
    rig.run_for(ms(20));
    rig.worker.set_progress(lease, progress(2), rig.now).unwrap();
    let request_id = rig.settle(&taken, Verdict::Commit);
    assert_eq!(rig.worker.set_progress(lease, progress(3), rig.now), Err(Error::LeaseLost));
    rig.run_for(ms(20));
    assert_eq!(rig.settled[&request_id], Ok(()));
    rig.run_for(ms(5_000));
    assert_eq!((stored(&rig, lease).as_deref(), rig.sent(StatementId::SetProgress).count()), (Some("1"), 1));
}

/// An update would make the transaction fail with a serialization failure, if its snapshot is older.
#[test]
fn progress_waits_while_a_transaction_of_the_caller_settles_the_job() {
    let mut rig = Rig::new(WorkerOptions { reaps: false, ..options() });
    rig.add_jobs(1);
    let lease = rig.wait_next().job.lease;
    rig.unanswered.insert(StatementId::SetProgress);
    rig.worker.set_progress(lease, progress(1), rig.now).unwrap();
    rig.run_for(ms(20));
    assert!(rig.worker.is_being_written(&lease), "it may still run");
    rig.worker.set_progress(lease, progress(2), rig.now).unwrap();
    rig.worker.rest(lease);
    rig.unanswered.clear();
    rig.run_for(ms(5_000));
    assert!(!rig.worker.is_being_written(&lease));
    assert_eq!((stored(&rig, lease).as_deref(), rig.sent(StatementId::SetProgress).count()), (Some("1"), 1));
    rig.worker.resume(lease);
    rig.run_for(ms(1_100));
    assert_eq!(stored(&rig, lease).as_deref(), Some("2"), "after a rollback it is stored");
}
