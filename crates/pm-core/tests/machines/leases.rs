//! Leases: how long they are trusted, and how they are kept.

use super::rig::{Fault, Rig, ms, options};
use pm_core::machine::{Trouble, WorkerOptions};
use pm_core::{Error, Failure, Reason, State, StatementId, Verdict};

fn rig_with_heartbeat(most_ms: u64) -> Rig {
    let mut rig = Rig::new(WorkerOptions { heartbeat: Some(ms(most_ms)), ..options() });
    rig.fake.queues.get_mut(&1).expect("the rig has made it").lease = ms(9_000);
    rig.add_jobs(1);
    rig
}

#[test]
fn heartbeat_refreshes_at_a_third_of_the_lease_until_its_maximum_and_then_the_lease_is_lost() {
    let mut rig = rig_with_heartbeat(20_000);
    let taken = rig.wait_next();
    let claimed = rig.times(StatementId::Claim)[0];
    let started = rig.now;
    rig.run_for(ms(60_000));
    let times = rig.times(StatementId::Extend);
    assert_eq!(times.len(), 6, "{times:?}");
    for (n, time) in times.iter().enumerate() {
        assert_eq!(*time, claimed + ms(3_000 * (n as u64 + 1)), "a third after the last one was sent");
        assert!(time.since(started) < ms(20_000));
    }
    assert_eq!(rig.lost, [taken.job.lease]);
    assert!(!rig.worker.is_trusted(&taken.job.lease, rig.now));
}

#[test]
fn without_heartbeat_nothing_is_refreshed() {
    let mut rig = Rig::new(options());
    rig.add_jobs(1);
    let taken = rig.wait_next();
    rig.run_for(ms(30_000));
    assert_eq!((rig.sent(StatementId::Extend).count(), &rig.lost[..]), (0, &[taken.job.lease][..]));
}

#[test]
fn trust_is_counted_from_when_the_claim_was_sent() {
    let mut rig = Rig::new(options());
    rig.latency = ms(400);
    rig.add_jobs(1);
    let taken = rig.wait_next();
    let sent_at = rig.times(StatementId::Claim)[0];
    let trust_ends = sent_at + ms(9_500);
    rig.run_for(trust_ends.since(rig.now) - ms(1));
    assert!(rig.worker.is_trusted(&taken.job.lease, rig.now));
    assert_eq!(rig.timer().unwrap().min(trust_ends), rig.timer().unwrap(), "it wants to be woken by then");
    rig.run_for(ms(1));
    assert!(!rig.worker.is_trusted(&taken.job.lease, rig.now));
    assert_eq!(rig.lost, [taken.job.lease]);
}

#[test]
fn a_word_after_trust_has_ended_is_still_sent_and_the_database_decides() {
    let mut rig = Rig::new(WorkerOptions { reaps: false, ..options() });
    rig.add_jobs(1);
    let taken = rig.wait_next();
    rig.run_for(ms(12_000));
    assert_eq!(rig.lost, [taken.job.lease]);
    let request_id = rig.settle(&taken, Verdict::Commit);
    rig.run_for(ms(10));
    assert_eq!(rig.settled[&request_id], Ok(()), "nobody has reaped it");
}

#[test]
fn a_refresh_tells_what_remains_and_a_lost_lease_is_refused() {
    let mut rig = Rig::new(options());
    let job = rig.add_jobs(1)[0];
    let taken = rig.wait_next();
    rig.run_for(ms(4_000));
    let request_id = rig.worker.extend(taken.job.lease);
    rig.run_for(ms(10));
    assert_eq!(rig.extended[&request_id], Ok(ms(10_000)));
    rig.fake.force_restart(job);
    let request_id = rig.worker.extend(taken.job.lease);
    rig.run_for(ms(10));
    assert_eq!(rig.extended[&request_id], Err(Trouble::Refused(Error::LeaseLost)));
    assert_eq!(rig.lost, [taken.job.lease]);
}

#[test]
fn a_refresh_of_a_locked_job_is_tried_again_and_holds_up_no_other() {
    let mut rig = Rig::new(options());
    rig.add_jobs(2);
    let taken = [rig.wait_next(), rig.wait_next()];
    rig.fake.locked.insert(taken[0].job.lease.job);
    let request_ids = taken.each_ref().map(|taken| rig.worker.extend(taken.job.lease));
    rig.run_for(ms(3_000));
    assert!(!rig.extended.contains_key(&request_ids[0]));
    assert_eq!(rig.extended[&request_ids[1]], Ok(ms(10_000)));
    rig.fake.locked.clear();
    rig.fake.reaps_nothing = true;
    rig.run_for(ms(1_000));
    assert_eq!(rig.extended[&request_ids[0]], Ok(ms(10_000)));
    rig.fake.locked.insert(taken[0].job.lease.job);
    let request_id = rig.worker.extend(taken[0].job.lease);
    rig.run_for(ms(13_000));
    let told = rig.extended[&request_id].clone().unwrap_err();
    assert!(matches!(told, Trouble::Failed(failure) if failure.sqlstate() == Some("55P03")), "its lease has ended");
}

#[test]
fn a_refresh_that_fails_is_tried_again_until_the_lease_ends() {
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
fn heartbeat_goes_on_after_failed_refreshes() {
    let mut rig = rig_with_heartbeat(60_000);
    let taken = rig.wait_next();
    rig.fault(StatementId::Extend, Fault::LosesReply, 2);
    rig.fault(StatementId::Extend, Fault::Fails(Failure::not_sent("refused")), 2);
    rig.run_for(ms(30_000));
    assert!(rig.worker.is_trusted(&taken.job.lease, rig.now));
    assert_eq!(rig.lost, []);
}

#[test]
fn a_refresh_and_the_end_of_a_lease_may_cross() {
    let mut rig = rig_with_heartbeat(60_000);
    let taken = rig.wait_next();
    rig.held.insert(StatementId::Extend);
    rig.run_for(ms(3_100));
    let request_id = rig.settle(&taken, Verdict::Commit);
    rig.run_for(ms(10));
    rig.held.clear();
    rig.run_for(ms(100));
    assert_eq!((&rig.settled[&request_id], &rig.lost[..]), (&Ok(()), &[][..]));
}

#[test]
fn no_statement_refreshes_more_than_500_leases() {
    let mut rig = Rig::new(WorkerOptions { heartbeat: Some(ms(60_000)), prefetch: 500, ..options() });
    rig.fake.queues.get_mut(&1).unwrap().lease = ms(6_000);
    rig.add_jobs(900);
    let taken: Vec<_> = (0..900).map(|_| rig.wait_next()).collect();
    let request_ids: Vec<_> = taken.iter().rev().map(|taken| rig.worker.extend(taken.job.lease)).collect();
    rig.held.insert(StatementId::Extend);
    rig.run_for(ms(2_500));
    rig.held.clear();
    // The rig looks at the size of every statement.
    rig.run_for(ms(100));
    assert!(request_ids.iter().all(|request_id| rig.extended[request_id].is_ok()));
    assert_eq!(rig.lost, []);
}

#[test]
fn a_lease_that_a_transaction_settles_is_left_alone_and_then_extended_with_a_quarter_of_it_left() {
    let mut rig = rig_with_heartbeat(60_000);
    let lease = rig.wait_next().job.lease;
    let claimed = rig.times(StatementId::Claim)[0];
    rig.worker.rest(lease);
    rig.run_for(ms(5_000));
    assert_eq!(rig.sent(StatementId::Extend).count(), 0, "not while the transaction is open");
    rig.worker.resume(lease);
    rig.run_for(ms(10_000));
    // Of 9 s, 8.55 are trusted.
    let late = ms(8_550) - ms(8_550) / 4;
    assert_eq!(rig.times(StatementId::Extend), [claimed + late, claimed + late * 2]);
    assert_eq!(rig.lost, []);
}

#[test]
fn a_transaction_that_failed_begins_its_next_try_with_a_whole_lease() {
    let mut rig = rig_with_heartbeat(60_000);
    let lease = rig.wait_next().job.lease;
    rig.run_for(ms(2_000));
    rig.worker.rest(lease);
    let failed_at = rig.now;
    let request_id = rig.worker.resume_and_extend(lease, rig.now).expect("it is kept alive");
    rig.run_for(ms(6_000));
    assert!(rig.extended[&request_id].is_ok());
    assert_eq!(rig.times(StatementId::Extend), [failed_at], "and not again for two thirds of the lease");

    let mut rig = Rig::new(options());
    rig.add_jobs(1);
    let unattended = rig.wait_next().job.lease;
    rig.worker.rest(unattended);
    assert_eq!(rig.worker.resume_and_extend(unattended, rig.now), None, "a lease of the handler's own is left to it");
}

#[test]
fn an_extension_under_way_shows_and_one_not_sent_is_refused_when_a_transaction_settles() {
    let mut rig = rig_with_heartbeat(60_000);
    let lease = rig.wait_next().job.lease;
    let unsent = rig.worker.extend(lease);
    rig.worker.rest(lease);
    rig.run_for(ms(100));
    assert!(rig.extended[&unsent].is_err());
    assert_eq!(rig.sent(StatementId::Extend).count(), 0);
    rig.worker.resume(lease);

    rig.held.insert(StatementId::Extend);
    rig.worker.extend(lease);
    rig.run_for(ms(10));
    assert!(rig.worker.is_extending(&lease));
    rig.worker.rest(lease);
    assert!(rig.worker.is_extending(&lease), "it may still run");
    rig.held.clear();
    rig.run_for(ms(100));
    assert!(!rig.worker.is_extending(&lease));
}

#[test]
fn a_soft_fail_in_a_transaction_wakes_those_who_look_for_the_retry() {
    let mut rig = rig_with_heartbeat(60_000);
    let lease = rig.wait_next().job.lease;
    rig.worker.rest(lease);
    let item = rig.worker.settlement(lease, Verdict::SoftFail(Reason::new("later")), 0).expect("it is ours");
    assert_eq!(item.state, State::Pending);
    let before = rig.sent(StatementId::NotifyIdle).count();
    rig.worker.handle_settled_elsewhere(&item, rig.now);
    rig.run_for(ms(100));
    assert_eq!(rig.sent(StatementId::NotifyIdle).count(), before + 1);
    assert_eq!(rig.worker.settlement(lease, Verdict::Commit, 0), None, "it is settled");
}
