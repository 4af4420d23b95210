//! Leases: for how long they are trusted, and how they are extended.

use super::rig::{Fault, Rig, ms, options};
use pm_core::machine::{Trouble, WorkerOptions};
use pm_core::{Error, Failure, Reason, State, StatementId, Verdict};

fn rig_with_heartbeat(max_ms: u64) -> Rig {
    let mut rig = Rig::new(WorkerOptions { heartbeat: Some(ms(max_ms)), ..options() });
    rig.database.set_lease(1, ms(9_000));
    rig.add_jobs(1);
    rig
}

#[test]
fn heartbeat_extends_at_every_third_of_the_lease_until_its_maximum_and_then_the_lease_is_lost() {
    let mut rig = rig_with_heartbeat(20_000);
    let taken = rig.wait_next();
    let claimed = rig.times(StatementId::Claim)[0];
    let started = rig.now;
    rig.run_for(ms(60_000));
    let times = rig.times(StatementId::Extend);
    assert_eq!(times.len(), 6, "{times:?}");
    for (n, time) in times.iter().enumerate() {
        assert_eq!(*time, claimed + ms(3_000 * (n as u64 + 1)), "a third of the lease after the previous one was sent");
        assert!(time.since(started) < ms(20_000));
    }
    assert_eq!(rig.lost, [taken.job.lease]);
    assert!(!rig.worker.is_trusted(&taken.job.lease, rig.now));
}

#[test]
fn without_heartbeat_no_lease_is_extended() {
    let mut rig = Rig::new(options());
    rig.add_jobs(1);
    let taken = rig.wait_next();
    rig.run_for(ms(30_000));
    assert_eq!((rig.sent(StatementId::Extend).count(), &rig.lost[..]), (0, &[taken.job.lease][..]));
}

#[test]
fn trust_is_measured_from_the_sending_of_the_claim() {
    let mut rig = Rig::new(options());
    rig.latency = ms(400);
    rig.add_jobs(1);
    let taken = rig.wait_next();
    let sent_at = rig.times(StatementId::Claim)[0];
    let trust_ends = sent_at + ms(9_500);
    rig.run_for(trust_ends.since(rig.now) - ms(1));
    assert!(rig.worker.is_trusted(&taken.job.lease, rig.now));
    assert_eq!(rig.timer().unwrap().min(trust_ends), rig.timer().unwrap(), "its timeout is not later");
    rig.run_for(ms(1));
    assert!(!rig.worker.is_trusted(&taken.job.lease, rig.now));
    assert_eq!(rig.lost, [taken.job.lease]);
}

#[test]
fn a_settlement_after_the_end_of_trust_is_sent_and_the_database_decides() {
    let mut rig = Rig::new(WorkerOptions { reaps: false, ..options() });
    rig.add_jobs(1);
    let taken = rig.wait_next();
    rig.run_for(ms(12_000));
    assert_eq!(rig.lost, [taken.job.lease]);
    let request_id = rig.settle(&taken, Verdict::Commit);
    rig.run_for(ms(10));
    assert_eq!(rig.settled[&request_id], Ok(()), "the lease was not reaped");
}

#[test]
fn an_extension_returns_the_remaining_time_and_is_refused_for_a_lost_lease() {
    let mut rig = Rig::new(options());
    let job = rig.add_jobs(1)[0];
    let taken = rig.wait_next();
    rig.run_for(ms(4_000));
    let request_id = rig.worker.extend(taken.job.lease);
    rig.run_for(ms(10));
    assert_eq!(rig.extended[&request_id], Ok(ms(10_000)));
    rig.database.force_restart(job);
    let request_id = rig.worker.extend(taken.job.lease);
    rig.run_for(ms(10));
    assert_eq!(rig.extended[&request_id], Err(Trouble::Refused(Error::LeaseLost)));
    assert_eq!(rig.lost, [taken.job.lease]);
}

#[test]
fn the_extension_of_a_locked_job_is_retried_and_does_not_delay_others() {
    let mut rig = Rig::new(options());
    rig.add_jobs(2);
    let taken = [rig.wait_next(), rig.wait_next()];
    rig.database.locked.insert(taken[0].job.lease.job);
    let request_ids = taken.each_ref().map(|taken| rig.worker.extend(taken.job.lease));
    rig.run_for(ms(3_000));
    assert!(!rig.extended.contains_key(&request_ids[0]));
    assert_eq!(rig.extended[&request_ids[1]], Ok(ms(10_000)));
    assert_eq!(rig.lost, [], "a lock is no loss");
    rig.database.locked.clear();
    rig.database.reaps_nothing = true;
    rig.run_for(ms(1_000));
    assert_eq!(rig.extended[&request_ids[0]], Ok(ms(10_000)));
    rig.database.locked.insert(taken[0].job.lease.job);
    let request_id = rig.worker.extend(taken[0].job.lease);
    rig.run_for(ms(13_000));
    let trouble = rig.extended[&request_id].clone().unwrap_err();
    assert!(matches!(trouble, Trouble::Failed(failure) if failure.sqlstate() == Some("55P03")), "its lease has ended");
}

#[test]
fn a_failed_extension_is_retried_until_the_end_of_the_lease() {
    let mut rig = Rig::new(options());
    rig.add_jobs(1);
    let taken = rig.wait_next();
    rig.fault(StatementId::Extend, Fault::Fails(Failure::not_sent("refused")), 3);
    let request_id = rig.worker.extend(taken.job.lease);
    rig.run_for(ms(1_000));
    assert!(rig.extended[&request_id].is_ok());
    assert_eq!(rig.sent(StatementId::Extend).count(), 4);
    let failure = Failure::not_sent("refused");
    rig.fault(StatementId::Extend, Fault::Fails(failure.clone()), 1_000_000);
    let request_id = rig.worker.extend(taken.job.lease);
    rig.run_for(ms(9_500));
    assert!(!rig.extended.contains_key(&request_id));
    rig.run_for(ms(10_000));
    assert_eq!(rig.extended[&request_id], Err(Trouble::Failed(failure)));
}

#[test]
fn heartbeat_continues_after_failed_extensions() {
    let mut rig = rig_with_heartbeat(60_000);
    let taken = rig.wait_next();
    rig.fault(StatementId::Extend, Fault::LosesReply, 2);
    rig.fault(StatementId::Extend, Fault::Fails(Failure::not_sent("refused")), 2);
    rig.run_for(ms(30_000));
    assert!(rig.worker.is_trusted(&taken.job.lease, rig.now));
    assert_eq!(rig.lost, []);
}

#[test]
fn an_extension_and_a_settlement_may_overlap() {
    let mut rig = rig_with_heartbeat(60_000);
    let taken = rig.wait_next();
    rig.unanswered.insert(StatementId::Extend);
    rig.run_for(ms(3_100));
    let request_id = rig.settle(&taken, Verdict::Commit);
    rig.run_for(ms(10));
    rig.unanswered.clear();
    rig.run_for(ms(100));
    assert_eq!((&rig.settled[&request_id], &rig.lost[..]), (&Ok(()), &[][..]));
}

#[test]
fn no_statement_extends_more_than_500_leases() {
    let mut rig = Rig::new(WorkerOptions { heartbeat: Some(ms(60_000)), prefetch: 500, ..options() });
    rig.database.set_lease(1, ms(6_000));
    rig.add_jobs(900);
    let taken: Vec<_> = (0..900).map(|_| rig.wait_next()).collect();
    let request_ids: Vec<_> = taken.iter().rev().map(|taken| rig.worker.extend(taken.job.lease)).collect();
    rig.unanswered.insert(StatementId::Extend);
    rig.run_for(ms(2_500));
    rig.unanswered.clear();
    // The rig checks the size of every statement.
    rig.run_for(ms(100));
    assert!(request_ids.iter().all(|request_id| rig.extended[request_id].is_ok()));
    assert_eq!(rig.lost, []);
}

#[test]
fn a_lease_that_a_transaction_settles_is_not_extended_and_afterwards_with_a_quarter_of_it_left() {
    let mut rig = rig_with_heartbeat(60_000);
    let lease = rig.wait_next().job.lease;
    let claimed = rig.times(StatementId::Claim)[0];
    rig.worker.rest(lease);
    rig.run_for(ms(5_000));
    assert_eq!(rig.sent(StatementId::Extend).count(), 0, "not while the transaction is open");
    rig.worker.resume(lease);
    rig.run_for(ms(10_000));
    // 8.55 s of the 9 s are trusted.
    let late = ms(8_550) - ms(8_550) / 4;
    assert_eq!(rig.times(StatementId::Extend), [claimed + late, claimed + late * 2]);
    assert_eq!(rig.lost, []);
}

#[test]
fn the_lease_is_extended_before_a_failed_transaction_is_retried() {
    let mut rig = rig_with_heartbeat(60_000);
    let lease = rig.wait_next().job.lease;
    rig.run_for(ms(2_000));
    rig.worker.rest(lease);
    let failed_at = rig.now;
    let request_id = rig.worker.resume_and_extend(lease, rig.now).expect("heartbeat is on");
    rig.run_for(ms(6_000));
    assert!(rig.extended[&request_id].is_ok());
    assert_eq!(rig.times(StatementId::Extend), [failed_at], "and not again for two thirds of the lease");

    let mut rig = Rig::new(options());
    rig.add_jobs(1);
    let unattended = rig.wait_next().job.lease;
    rig.worker.rest(unattended);
    assert_eq!(
        rig.worker.resume_and_extend(unattended, rig.now),
        None,
        "without heartbeat the handler extends its lease"
    );
}

#[test]
fn when_a_transaction_settles_unsent_extensions_are_refused_and_those_in_flight_are_visible() {
    let mut rig = rig_with_heartbeat(60_000);
    let lease = rig.wait_next().job.lease;
    let unsent = rig.worker.extend(lease);
    rig.worker.rest(lease);
    rig.run_for(ms(100));
    assert!(rig.extended[&unsent].is_err());
    assert_eq!(rig.sent(StatementId::Extend).count(), 0);
    rig.worker.resume(lease);

    rig.unanswered.insert(StatementId::Extend);
    rig.worker.extend(lease);
    rig.run_for(ms(10));
    assert!(rig.worker.is_being_written(&lease));
    rig.worker.rest(lease);
    assert!(rig.worker.is_being_written(&lease), "it may still run");
    rig.unanswered.clear();
    rig.run_for(ms(100));
    assert!(!rig.worker.is_being_written(&lease));
}

#[test]
fn a_soft_fail_in_a_transaction_notifies_idle_workers_of_the_retry() {
    let mut rig = rig_with_heartbeat(60_000);
    let lease = rig.wait_next().job.lease;
    rig.worker.rest(lease);
    let item =
        rig.worker.settlement(lease, Verdict::SoftFail(Reason::new("later")), 0).expect("the lease is not settled");
    assert_eq!(item.state, State::Pending);
    let before = rig.sent(StatementId::NotifyIdle).count();
    rig.worker.handle_settled_in_transaction(&item, rig.now);
    rig.run_for(ms(100));
    assert_eq!(rig.sent(StatementId::NotifyIdle).count(), before + 1);
    assert_eq!(rig.worker.settlement(lease, Verdict::Commit, 0), None, "it is settled");
}
