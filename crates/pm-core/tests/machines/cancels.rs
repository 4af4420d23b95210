//! Cancel requests: how a worker learns of them.

use super::database::IN_PROGRESS;
use super::rig::{Fault, Rig, ms, options};
use pm_core::machine::WorkerOptions;
use pm_core::op::Notification;
use pm_core::{StatementId, Verdict};

#[test]
fn without_a_listener_a_worker_looks_once_per_poll_interval_while_jobs_run() {
    let mut rig = Rig::new(WorkerOptions { reaps: false, ..options() });
    rig.run_for(ms(5_000));
    assert_eq!(rig.sent(StatementId::CancelRequests).count(), 0, "no job runs");
    let ids = rig.add_jobs(2);
    let (first, second) = (rig.wait_next(), rig.wait_next());
    rig.run_for(ms(4_500));
    assert_eq!(rig.sent(StatementId::CancelRequests).count(), 4);
    rig.database.cancel(ids[1]);
    let cancelled_at = rig.now;
    while rig.cancelled.is_empty() {
        rig.run_for(ms(10));
    }
    assert!(rig.now.since(cancelled_at) <= ms(1_100), "{:?}", rig.now.since(cancelled_at));
    rig.run_for(ms(3_000));
    assert_eq!(rig.cancelled, [second.job.lease], "it is reported once");
    assert!(rig.worker.is_cancelled(&second.job.lease) && !rig.worker.is_cancelled(&first.job.lease));
    rig.settle(&first, Verdict::Commit);
    rig.settle(&second, Verdict::Commit);
    rig.run_for(ms(3_000));
    let looks = rig.sent(StatementId::CancelRequests).count();
    rig.run_for(ms(10_000));
    assert_eq!(rig.sent(StatementId::CancelRequests).count(), looks, "no job runs any more");
}

#[test]
fn with_a_listener_a_worker_looks_when_its_queue_has_changed_and_not_otherwise() {
    let mut rig = Rig::new(WorkerOptions { reaps: false, ..options() });
    rig.worker.set_listening(Some(ms(30_000)), rig.now);
    let ids = rig.add_jobs(1);
    let taken = rig.wait_next();
    rig.run_for(ms(5_000));
    let looks = rig.sent(StatementId::CancelRequests).count();
    assert!(looks <= 1, "{looks}");
    rig.database.cancel(ids[0]);
    for _ in 0..50 {
        rig.worker.handle_notification(Notification { queue_id: 1, priority: None }, rig.now);
        rig.run_for(ms(4));
    }
    assert_eq!(rig.cancelled, [taken.job.lease]);
    assert!(rig.sent(StatementId::CancelRequests).count() <= looks + 2, "notifications share a look");
}

#[test]
fn a_look_that_fails_is_sent_again() {
    let mut rig = Rig::new(WorkerOptions { reaps: false, ..options() });
    let ids = rig.add_jobs(1);
    rig.wait_next();
    rig.fault(StatementId::CancelRequests, Fault::LosesReply, 2);
    rig.database.cancel(ids[0]);
    rig.run_for(ms(8_000));
    assert_eq!(rig.cancelled.len(), 1);
}

#[test]
fn an_extension_reports_a_cancel_request() {
    let mut rig = Rig::new(WorkerOptions { heartbeat: Some(ms(60_000)), reaps: false, ..options() });
    rig.worker.set_listening(Some(ms(30_000)), rig.now);
    let ids = rig.add_jobs(1);
    let taken = rig.wait_next();
    rig.run_for(ms(1_000));
    rig.database.cancel(ids[0]);
    rig.run_for(ms(10_000));
    assert_eq!(rig.cancelled, [taken.job.lease], "although no notification came");
}

#[test]
fn more_leases_than_fit_in_a_statement_are_looked_at_page_by_page() {
    let mut rig = Rig::new(WorkerOptions { reaps: false, prefetch: 2_000, ..options() });
    let ids = rig.add_jobs(1_200);
    let taken: Vec<_> = ids.iter().map(|_| rig.wait_next()).collect();
    for id in &ids {
        rig.database.cancel(*id);
    }
    rig.run_for(ms(2_000));
    assert_eq!(rig.cancelled.len(), taken.len());
}

/// With a listener, nothing would make the worker look again once such a job has started.
#[test]
fn a_job_that_is_cancelled_before_a_handler_takes_it_is_not_started() {
    let mut rig = Rig::new(WorkerOptions { reaps: false, ..options() });
    rig.worker.set_listening(Some(ms(30_000)), rig.now);
    let ids = rig.add_jobs(4);
    let taken = rig.wait_next();
    rig.run_for(ms(50));
    let waits = |rig: &Rig| rig.database.jobs().iter().filter(|job| job.state == IN_PROGRESS).count();
    let ahead = waits(&rig) - 1;
    assert!(ahead > 0 && rig.worker.has_job(), "jobs were claimed ahead");
    for id in ids.iter().filter(|id| **id != taken.job.lease.job) {
        rig.database.cancel(*id);
    }
    rig.worker.handle_notification(Notification { queue_id: 1, priority: None }, rig.now);
    rig.run_for(ms(500));
    assert!(rig.next().is_none(), "none of them is handed out");
    rig.run_for(ms(500));
    assert_eq!((waits(&rig), rig.cancelled.len()), (1, 0), "they have failed, and no handler was asked to stop");
    rig.settle(&taken, Verdict::Commit);
    rig.run_for(ms(100));
    assert_eq!(waits(&rig), 0);
}

/// The claim was in flight when the notification came, so there was no lease to look at.
#[test]
fn a_job_that_is_cancelled_between_its_claim_and_the_reply_is_not_started() {
    let mut rig = Rig::new(WorkerOptions { reaps: false, ..options() });
    rig.worker.set_listening(Some(ms(30_000)), rig.now);
    rig.run_for(ms(1_000));
    let ids = rig.add_jobs(1);
    rig.replies_are_late = true;
    rig.unanswered.insert(StatementId::Claim);
    assert!(rig.next().is_none());
    rig.run_for(ms(1_000));
    assert!(rig.index_of(StatementId::Claim).is_some(), "the claim waits for its reply");
    rig.database.cancel(ids[0]);
    rig.worker.handle_notification(Notification { queue_id: 1, priority: None }, rig.now);
    rig.unanswered.clear();
    rig.run_for(ms(1_000));
    assert!(rig.next().is_none(), "it is not handed out");
    rig.run_for(ms(1_000));
    assert!(rig.database.jobs().iter().all(|job| job.state != IN_PROGRESS), "it has failed");
}

/// A look that was sent before, or sees the commit before its reply, would take the job for one that was taken away.
#[test]
fn a_lease_that_a_transaction_of_the_caller_settles_is_not_looked_at() {
    let mut rig = Rig::new(WorkerOptions { reaps: false, ..options() });
    rig.worker.set_listening(Some(ms(30_000)), rig.now);
    let ids = rig.add_jobs(1);
    let taken = rig.wait_next();
    rig.run_for(ms(1_000));
    rig.unanswered.insert(StatementId::CancelRequests);
    rig.worker.handle_notification(Notification { queue_id: 1, priority: None }, rig.now);
    rig.run_for(ms(50));
    rig.worker.rest(taken.job.lease);
    rig.database.end_job(ids[0]);
    rig.unanswered.clear();
    rig.worker.handle_notification(Notification { queue_id: 1, priority: None }, rig.now);
    rig.run_for(ms(2_000));
    assert!(rig.worker.is_trusted(&taken.job.lease, rig.now));
    rig.worker.resume(taken.job.lease);
    rig.worker.handle_notification(Notification { queue_id: 1, priority: None }, rig.now);
    rig.run_for(ms(1_000));
    assert!(
        !rig.worker.is_trusted(&taken.job.lease, rig.now),
        "the transaction was rolled back, and an operator has it"
    );
}
