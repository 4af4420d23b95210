//! Settlements: sent again, resolved after lost replies, and reported one by one.

use super::database::{FAILED, FINISHED, PENDING, exact_backoff, timestamp};
use super::rig::{Fault, Rig, ms, options};
use pm_core::machine::{Trouble, WorkerOptions};
use pm_core::{Error, Failure, Reason, StatementId, Verdict};

fn soft_fail() -> Verdict {
    Verdict::SoftFail(Reason::new("no"))
}

#[test]
fn a_settle_is_tried_again_until_30_s_after_the_end_of_its_lease() {
    for failure in [Failure::not_sent("refused"), Failure::no_reply("cut")] {
        let mut rig = Rig::new(options());
        rig.add_jobs(1);
        let taken = rig.wait_next();
        let lease_ends = rig.times(StatementId::Claim)[0] + ms(10_000);
        rig.fault(StatementId::Settle, Fault::Fails(failure.clone()), 1_000_000);
        let request_id = rig.settle(&taken, Verdict::Commit);
        rig.run_for((lease_ends + ms(29_990)).since(rig.now));
        assert_eq!(rig.settled.get(&request_id), None);
        assert!(rig.sent(StatementId::Settle).count() > 8);
        rig.run_for(ms(5_100));
        assert_eq!(rig.settled[&request_id], Err(Trouble::Failed(failure)));
        let sent = rig.sent(StatementId::Settle).count();
        rig.run_for(ms(20_000));
        assert_eq!(rig.sent(StatementId::Settle).count(), sent);
    }
}

#[test]
fn a_settle_whose_reply_is_lost_is_sent_again_and_counts_once() {
    for (verdict, state) in [(Verdict::Commit, FINISHED), (soft_fail(), PENDING), (Verdict::Release, PENDING)] {
        let mut rig = Rig::new(options());
        let job = rig.add_jobs(1)[0];
        let taken = rig.wait_next();
        rig.worker.shut_down(rig.now);
        rig.fault(StatementId::Settle, Fault::LosesReply, 2);
        let request_id = rig.settle(&taken, verdict);
        rig.run_for(ms(1_000));
        assert_eq!(rig.settled[&request_id], Ok(()));
        assert_eq!(rig.database.job(job).state, state);
        assert!(rig.database.job(job).retry_count <= 1);
        assert_eq!((rig.sent(StatementId::Settle).count(), rig.sent(StatementId::Outcome).count()), (3, 1));
    }
}

#[test]
fn settlements_that_miss_are_resolved_one_by_one() {
    let mut rig = Rig::new(options());
    let jobs = rig.add_jobs(3);
    let taken: Vec<_> = (0..3).map(|_| rig.wait_next()).collect();
    rig.unanswered.insert(StatementId::Settle);
    let first = rig.settle(&taken[0], Verdict::Commit);
    rig.pump();
    let index = rig.index_of(StatementId::Settle).unwrap();
    rig.lose_reply(index);
    rig.database.force_restart(jobs[1]);
    rig.unanswered.clear();
    let [second, third] = [1, 2].map(|n| rig.settle(&taken[n], Verdict::HardFail(Reason::new("never"))));
    rig.run_for(ms(200));
    assert_eq!(rig.settled[&first], Ok(()), "it was applied before");
    assert_eq!(rig.settled[&second], Err(Trouble::Refused(Error::LeaseLost)));
    assert_eq!(rig.settled[&third], Ok(()));
    assert_eq!([0, 2].map(|n| rig.database.job(jobs[n]).state), [FINISHED, FAILED]);
}

#[test]
fn settlements_that_miss_while_an_outcome_is_in_flight_are_resolved_too() {
    let mut rig = Rig::new(options());
    let jobs = rig.add_jobs(4);
    let taken: Vec<_> = (0..4).map(|_| rig.wait_next()).collect();
    jobs[..3].iter().for_each(|job| rig.database.force_restart(*job));
    rig.unanswered.insert(StatementId::Outcome);
    let request_ids: Vec<_> = (0..4)
        .map(|n| {
            let request_id = rig.settle(&taken[n], Verdict::Commit);
            rig.run_for(ms(10));
            request_id
        })
        .collect();
    rig.worker.shut_down(rig.now);
    assert!(!rig.worker.is_drained());
    rig.unanswered.clear();
    rig.run_for(ms(100));
    for request_id in &request_ids[..3] {
        assert_eq!(rig.settled[request_id], Err(Trouble::Refused(Error::LeaseLost)));
    }
    assert_eq!(rig.settled[&request_ids[3]], Ok(()));
}

#[test]
fn a_failed_outcome_request_does_not_disturb_the_settle_in_flight() {
    let mut rig = Rig::new(options());
    let jobs = rig.add_jobs(3);
    let taken: Vec<_> = (0..3).map(|_| rig.wait_next()).collect();
    rig.database.force_restart(jobs[0]);
    rig.unanswered.insert(StatementId::Outcome);
    let first = rig.settle(&taken[0], Verdict::Commit);
    rig.run_for(ms(10));
    rig.unanswered.insert(StatementId::Settle);
    let second = rig.settle(&taken[1], Verdict::Commit);
    rig.run_for(ms(10));
    let index = rig.index_of(StatementId::Outcome).unwrap();
    rig.fail(index, Failure::no_reply("cut"));
    // The rig checks that no second settle is in flight, and that there is no busy loop.
    let third = rig.settle(&taken[2], Verdict::Commit);
    rig.run_for(ms(1_000));
    rig.unanswered.clear();
    rig.run_for(ms(1_000));
    assert_eq!(rig.settled[&first], Err(Trouble::Refused(Error::LeaseLost)));
    assert_eq!((&rig.settled[&second], &rig.settled[&third]), (&Ok(()), &Ok(())));
}

#[test]
fn soft_failures_follow_the_backoff_table_and_the_last_one_is_final() {
    let mut rig = Rig::new(options());
    rig.database.change_queue(1, |queue| queue.settings.backoff = exact_backoff(3, [0, 3_000, 5_000]));
    let job = rig.add_jobs(1)[0];
    for (failures, delay) in [(1, 0), (2, 3_000), (3, 5_000)] {
        let taken = rig.wait_next();
        let request_id = rig.settle(&taken, soft_fail());
        rig.unanswered.insert(StatementId::Claim);
        rig.run_for(ms(2));
        let now = rig.now;
        rig.unanswered.clear();
        assert_eq!(rig.settled[&request_id], Ok(()));
        let row = rig.database.job(job);
        assert_eq!((row.state, row.retry_count), (PENDING, failures));
        assert_eq!(row.run_at, (delay > 0).then(|| timestamp(now + ms(delay))));
        rig.run_for(ms(delay));
    }
    let taken = rig.wait_next();
    rig.settle(&taken, soft_fail());
    rig.run_for(ms(10));
    let row = rig.database.job(job);
    assert_eq!((row.state, row.retry_count, row.attempt), (FAILED, 4, 4));
}

#[test]
fn the_settings_of_a_job_override_those_of_its_queue() {
    let mut rig = Rig::new(options());
    let job = rig.add_jobs(1)[0];
    rig.database.change_job(job, |job| job.max_retries = Some(0));
    let taken = rig.wait_next();
    rig.settle(&taken, soft_fail());
    rig.run_for(ms(10));
    assert_eq!(rig.database.job(job).state, FAILED);
}

#[test]
fn a_second_settlement_of_a_lease_is_refused() {
    let mut rig = Rig::new(options());
    rig.add_jobs(1);
    let taken = rig.wait_next();
    let [first, second] = [Verdict::Commit, soft_fail()].map(|verdict| rig.settle(&taken, verdict));
    rig.run_for(ms(10));
    assert_eq!(rig.settled[&first], Ok(()));
    assert_eq!(rig.settled[&second], Err(Trouble::Refused(Error::LeaseLost)));
}

#[test]
fn a_locked_job_does_not_delay_the_settlement_of_others() {
    let mut rig = Rig::new(WorkerOptions { prefetch: 20, ..options() });
    rig.database.set_lease(1, ms(60_000));
    let jobs = rig.add_jobs(5);
    let taken: Vec<_> = (0..5).map(|_| rig.wait_next()).collect();
    rig.database.locked.insert(jobs[1]);
    let request_ids: Vec<_> = taken.iter().map(|taken| rig.settle(taken, Verdict::Commit)).collect();
    rig.run_for(ms(10));
    let sizes: Vec<_> = rig.sent(StatementId::Settle).map(|settle| settle.jobs.len()).collect();
    assert_eq!(sizes, [5, 5], "the first waited for the lock, the next skipped it");
    rig.run_for(ms(2_000));
    let settled: Vec<_> = request_ids.iter().map(|request_id| rig.settled.contains_key(request_id)).collect();
    assert_eq!(settled, [true, false, true, true, true]);
    let late = rig.add_jobs(1);
    let taken = rig.wait_next();
    assert_eq!(taken.job.lease.job, late[0]);
    let request_id = rig.settle(&taken, Verdict::Commit);
    rig.run_for(ms(500));
    assert_eq!(rig.settled[&request_id], Ok(()), "a later one is not delayed either");
    let tried = rig.sent(StatementId::Settle).count();
    assert!(tried < 40, "{tried} settles: there must be pauses between the tries of the locked one");
    rig.database.locked.clear();
    rig.run_for(ms(6_000));
    assert_eq!(rig.settled[&request_ids[1]], Ok(()));
}

#[test]
fn no_statement_settles_more_than_500_jobs() {
    let mut rig = Rig::new(WorkerOptions { prefetch: 500, ..options() });
    rig.add_jobs(1_200);
    let taken: Vec<_> = (0..1_200).map(|_| rig.wait_next()).collect();
    let request_ids: Vec<_> = taken.iter().map(|taken| rig.settle(taken, Verdict::Commit)).collect();
    rig.run_for(ms(100));
    assert!(request_ids.iter().all(|request_id| rig.settled[request_id] == Ok(())));
    assert_eq!(rig.sent(StatementId::Settle).map(|settle| settle.jobs.len()).collect::<Vec<_>>(), [500, 500, 200]);
}
