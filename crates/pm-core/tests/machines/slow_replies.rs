//! Replies that take seconds, or longer than a lease: jobs that can be worked on are, and problems are reported.

use super::database::{FINISHED, PENDING};
use super::rig::{Fault, Rig, ms, options};
use pm_core::machine::{Trouble, WorkerOptions};
use pm_core::{Error, Failure, Instant, StatementId, TakenJob, Verdict};
use std::time::Duration;

/// Returns a rig whose replies take `latency`, on a queue with this lease.
fn slow_rig(latency: Duration, lease: Duration) -> Rig {
    let heartbeat = Some(Duration::from_secs(3_600));
    let statement_timeout = Duration::from_secs(60);
    let mut rig = Rig::new(WorkerOptions { prefetch: 1_000, heartbeat, statement_timeout, ..options() });
    rig.database.set_lease(1, lease);
    (rig.latency, rig.replies_are_late) = (latency, true);
    rig
}

/// Takes the next job as soon as there is one; waits for up to `timeout`.
fn take_within(rig: &mut Rig, timeout: Duration) -> Option<TakenJob> {
    let end = rig.now + timeout;
    while rig.now < end {
        if let Some(job) = rig.next() {
            return Some(job);
        }
        rig.run_for(ms(10));
    }
    None
}

/// Asks for a job and waits until one has arrived.
fn wait_for_arrival(rig: &mut Rig) {
    assert!(rig.next().is_none());
    let end = rig.now + ms(120_000);
    while !rig.worker.has_job() {
        assert!(rig.now < end, "none arrived");
        rig.run_for(ms(10));
    }
}

#[test]
fn a_job_whose_reply_takes_20_s_is_worked_on_at_its_first_attempt() {
    let mut rig = slow_rig(ms(20_000), ms(60_000));
    let id = rig.add_jobs(1)[0];
    let job = take_within(&mut rig, ms(60_000)).expect("it is handed out when it arrives");
    rig.settle(&job, Verdict::Commit);
    rig.run_for(ms(30_000));
    let job = rig.database.job(id);
    assert_eq!((job.state, job.attempt, job.retry_count), (FINISHED, 1, 0));
    assert_eq!(rig.failed, []);
}

#[test]
fn a_job_that_no_handler_takes_is_released_5_s_after_its_arrival() {
    let mut rig = slow_rig(ms(20_000), ms(600_000));
    rig.add_jobs(1);
    wait_for_arrival(&mut rig);
    rig.run_for(ms(4_980));
    assert_eq!(rig.sent(StatementId::Settle).count(), 0, "a handler may still come");
    rig.run_for(ms(40));
    assert_eq!(rig.sent(StatementId::Settle).count(), 1);
}

#[test]
fn a_lease_that_arrives_after_a_third_of_its_length_is_extended_at_once_and_then_regularly() {
    let mut rig = slow_rig(ms(12_000), ms(30_000));
    rig.add_jobs(2);
    let job = take_within(&mut rig, ms(60_000)).unwrap();
    let arrived_at = rig.now;
    rig.pump();
    let extended_at = *rig.times(StatementId::Extend).last().expect("it is extended at once");
    assert!(arrived_at.since(extended_at) <= ms(10), "{extended_at:?} {arrived_at:?}");
    rig.run_for(ms(300_000));
    assert_eq!(rig.lost, [], "it is trusted for ten times its length");
    rig.settle(&job, Verdict::Commit);
    rig.run_for(ms(30_000));
    assert_eq!(rig.database.job(job.job.lease.job).state, FINISHED);
}

#[test]
fn the_lease_of_a_job_that_waits_for_a_handler_is_extended_from_its_arrival_on() {
    let mut rig = slow_rig(ms(8_000), ms(20_000));
    rig.add_jobs(1);
    wait_for_arrival(&mut rig);
    rig.run_for(ms(4_900));
    rig.next().expect("a handler comes in time");
    rig.run_for(ms(100_000));
    assert_eq!(rig.lost, [], "the extension was in flight when the handler came");
}

#[test]
fn jobs_that_arrive_after_the_end_of_their_lease_are_released_and_the_problem_is_reported() {
    let mut rig = slow_rig(ms(20_000), ms(10_000));
    let id = rig.add_jobs(1)[0];
    assert!(take_within(&mut rig, ms(290_000)).is_none(), "no handler gets it");
    let claims = rig.sent(StatementId::Claim).count();
    assert!((2..=14).contains(&claims), "{claims} claims: it must keep trying, with pauses");
    let is_invalid = |trouble: &Trouble| matches!(trouble, Trouble::Refused(Error::Invalid { .. }));
    assert!(rig.failed.len() >= 2 && rig.failed.iter().all(is_invalid), "{:?}", rig.failed);
    let message = rig.failed[0].to_string();
    assert!(message.contains("\"a\"") && message.contains("10s") && message.contains("20s"), "{message}");
    // The link becomes fast enough for the lease: the next claim is worked on.
    rig.latency = ms(1_000);
    rig.database.change_job(id, |job| job.max_retries = Some(1_000));
    let job = take_within(&mut rig, ms(60_000)).expect("work goes on");
    rig.settle(&job, Verdict::Commit);
    rig.run_for(ms(5_000));
    assert_eq!(rig.database.job(id).state, FINISHED);
}

#[test]
fn claims_stay_small_enough_for_their_leases_when_each_job_takes_long_to_transfer() {
    // Each job takes 300 ms to transfer: 33 take as long as the lease.
    let mut rig = slow_rig(ms(2), ms(10_000));
    rig.add_jobs(100);
    rig.unanswered.insert(StatementId::Claim);
    for _ in 0..4_000 {
        while let Some(job) = rig.next() {
            rig.settle(&job, Verdict::Commit);
        }
        rig.run_for(ms(20));
        if let Some(index) = rig.index_of(StatementId::Claim) {
            let limit = rig.sent(StatementId::Claim).last().unwrap().numbers[0] as u32;
            if rig.now >= rig.in_flight[index].at + ms(300) * limit {
                rig.answer(index);
            }
        }
    }
    let finished = rig.database.jobs().iter().filter(|job| (job.state, job.attempt) == (FINISHED, 1)).count();
    let limits: Vec<_> = rig.sent(StatementId::Claim).map(|claim| claim.numbers[0]).collect();
    assert_eq!(finished, 100, "{limits:?}");
    assert!(limits.iter().any(|limit| *limit >= 4), "{limits:?}");
}

#[test]
fn maximum_durations_do_not_overflow() {
    let max = Duration::MAX;
    let mut rig = Rig::new(WorkerOptions {
        heartbeat: Some(max),
        poll_least: max,
        poll_most: max,
        statement_timeout: max,
        ..options()
    });
    rig.database.set_lease(1, Duration::from_millis(i64::MAX as u64 / 4));
    rig.add_jobs(4);
    let job = rig.wait_next();
    rig.worker.extend(job.job.lease);
    rig.fault(StatementId::Claim, Fault::LosesReply, 1);
    rig.worker.handle_lost_claim(7, rig.now);
    rig.worker.set_listening(Some(max), rig.now);
    let fetched = rig.database.fetch(1, rig.now);
    rig.worker.adopt(&fetched, rig.now, max, &pm_core::Backoff::default(), rig.now);
    assert!(rig.worker.is_trusted(&fetched.lease, rig.now));
    rig.run_for(ms(60_000));
    rig.settle(&job, Verdict::Commit);
    rig.worker.shut_down(rig.now);
    rig.run_for(ms(60_000));
    assert_eq!(rig.database.job(job.job.lease.job).state, FINISHED);
}

/// Takes and commits jobs for `duration`; returns how many.
fn work_for(rig: &mut Rig, duration: Duration) -> usize {
    let end: Instant = rig.now + duration;
    let mut committed = 0;
    while rig.now < end {
        while let Some(job) = rig.next() {
            rig.settle(&job, Verdict::Commit);
            committed += 1;
        }
        rig.run_for(ms(100));
    }
    committed
}

#[test]
fn a_worker_whose_replies_take_6_s_claims_ever_more_and_releases_nothing() {
    let mut rig = slow_rig(ms(6_000), ms(1_200_000));
    rig.add_jobs(3_000);
    let committed = work_for(&mut rig, ms(90_000));
    assert!(committed > 1_500, "{committed} jobs");
    let claimed_twice = rig.database.jobs().iter().filter(|job| job.attempt > 1).count();
    assert_eq!(claimed_twice, 0, "every claimed job was worked on");
}

#[test]
fn claims_that_time_out_on_the_server_become_smaller_and_are_reported_at_last() {
    let mut rig = Rig::new(WorkerOptions { statement_timeout: ms(3_000), ..options() });
    rig.add_jobs(40);
    // Handlers that take many jobs make the worker claim many.
    for _ in 0..20 {
        let job = rig.wait_next();
        rig.settle(&job, Verdict::Commit);
    }
    rig.run_for(ms(100));
    while let Some(job) = rig.next() {
        rig.settle(&job, Verdict::Commit);
    }
    rig.latency = ms(3_000);
    rig.fault(StatementId::Claim, Fault::Fails(Failure::reported("57014", None, "statement timeout")), 5);
    let from = rig.now;
    rig.run_for(ms(40_000));
    let limits: Vec<_> =
        rig.sent(StatementId::Claim).filter(|claim| claim.at >= from).map(|claim| claim.numbers[0]).collect();
    assert!(limits.len() >= 5 && limits[1..5].iter().all(|limit| *limit <= 2), "{limits:?}");
    let message = rig.failed.last().expect("the user gets an event").to_string();
    assert!(message.contains("statement timeout of 3s"), "{message}");
    assert!(rig.failed.len() <= 3, "{:?}", rig.failed);
    let released = rig.database.jobs().iter().filter(|job| job.state == PENDING).all(|job| job.retry_count == 0);
    assert!(released, "no attempt is counted");
}
