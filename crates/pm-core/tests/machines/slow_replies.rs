//! Replies that take seconds, or longer than a lease: whatever can be worked on is, and the rest is told.

use super::fake::{FINISHED, PENDING};
use super::rig::{Fault, Rig, ms, options};
use pm_core::machine::{TakenJob, Trouble, WorkerOptions};
use pm_core::{Error, Failure, Instant, StatementId, Verdict};
use std::time::Duration;

/// A worker whose replies all take so long, on a queue with this lease.
fn slow_rig(latency: Duration, lease: Duration) -> Rig {
    let heartbeat = Some(Duration::from_secs(3_600));
    let statement_timeout = Duration::from_secs(60);
    let mut rig = Rig::new(WorkerOptions { prefetch: 1_000, heartbeat, statement_timeout, ..options() });
    rig.fake.queues.get_mut(&1).expect("the rig has one queue").lease = lease;
    (rig.latency, rig.replies_are_late) = (latency, true);
    rig
}

/// Takes the next job as soon as it is there, within `patience`.
fn take_within(rig: &mut Rig, patience: Duration) -> Option<TakenJob> {
    let end = rig.now + patience;
    while rig.now < end {
        if let Some(job) = rig.next() {
            return Some(job);
        }
        rig.run_for(ms(10));
    }
    None
}

/// Asks for a job and lets time pass until one is there.
fn wait_for_arrival(rig: &mut Rig) {
    assert!(rig.next().is_none());
    let end = rig.now + ms(120_000);
    while !rig.worker.has_job() {
        assert!(rig.now < end, "none arrived");
        rig.run_for(ms(10));
    }
}

#[test]
fn a_job_whose_reply_takes_20_s_is_worked_on_the_first_time() {
    let mut rig = slow_rig(ms(20_000), ms(60_000));
    let id = rig.add_jobs(1)[0];
    let job = take_within(&mut rig, ms(60_000)).expect("it is handed out when it arrives");
    rig.settle(&job, Verdict::Commit);
    rig.run_for(ms(30_000));
    let job = rig.fake.job(id);
    assert_eq!((job.state, job.attempt, job.retry_count), (FINISHED, 1, 0));
    assert_eq!(rig.failed, []);
}

#[test]
fn a_job_that_nobody_asks_for_is_given_back_5_s_after_it_arrived() {
    let mut rig = slow_rig(ms(20_000), ms(600_000));
    rig.add_jobs(1);
    wait_for_arrival(&mut rig);
    rig.run_for(ms(4_980));
    assert_eq!(rig.sent(StatementId::Settle).count(), 0, "a handler may still come");
    rig.run_for(ms(40));
    assert_eq!(rig.sent(StatementId::Settle).count(), 1);
}

#[test]
fn a_lease_that_arrives_after_a_third_of_it_is_extended_at_once_and_kept_alive() {
    let mut rig = slow_rig(ms(12_000), ms(30_000));
    rig.add_jobs(2);
    let job = take_within(&mut rig, ms(60_000)).unwrap();
    let arrived_at = rig.now;
    rig.pump();
    let extended_at = *rig.times(StatementId::Extend).last().expect("at once");
    assert!(arrived_at.since(extended_at) <= ms(10), "{extended_at:?} {arrived_at:?}");
    rig.run_for(ms(300_000));
    assert_eq!(rig.lost, [], "ten leases long");
    rig.settle(&job, Verdict::Commit);
    rig.run_for(ms(30_000));
    assert_eq!(rig.fake.job(job.job.lease.job).state, FINISHED);
}

#[test]
fn a_job_that_waits_for_its_handler_is_extended_from_its_arrival_on() {
    let mut rig = slow_rig(ms(8_000), ms(20_000));
    rig.add_jobs(1);
    wait_for_arrival(&mut rig);
    rig.run_for(ms(4_900));
    rig.next().expect("a handler comes in time");
    rig.run_for(ms(100_000));
    assert_eq!(rig.lost, [], "the extension was under way when the handler came");
}

#[test]
fn jobs_that_come_after_their_lease_are_given_back_unseen_and_the_user_is_told() {
    let mut rig = slow_rig(ms(20_000), ms(10_000));
    let id = rig.add_jobs(1)[0];
    assert!(take_within(&mut rig, ms(290_000)).is_none(), "no handler sees it");
    let claims = rig.sent(StatementId::Claim).count();
    assert!((2..=14).contains(&claims), "{claims} claims: it goes on trying, with pauses");
    let told = rig.failed.iter().filter(|trouble| matches!(trouble, Trouble::Refused(Error::Invalid { .. }))).count();
    assert!(told >= 2 && told == rig.failed.len(), "{:?}", rig.failed);
    let message = rig.failed[0].to_string();
    assert!(message.contains("\"a\"") && message.contains("10s") && message.contains("20s"), "{message}");
    // The link becomes what the lease needs: the next claim is worked on.
    rig.latency = ms(1_000);
    rig.fake.jobs.get_mut(&id).unwrap().max_retries = Some(1_000);
    let job = take_within(&mut rig, ms(60_000)).expect("work goes on");
    rig.settle(&job, Verdict::Commit);
    rig.run_for(ms(5_000));
    assert_eq!(rig.fake.job(id).state, FINISHED);
}

#[test]
fn claims_grow_no_larger_than_their_leases_bear_when_bytes_take_the_time() {
    // Each job takes 300 ms on its way: 33 would take as long as the lease.
    let mut rig = slow_rig(ms(2), ms(10_000));
    rig.add_jobs(100);
    rig.held.insert(StatementId::Claim);
    for _ in 0..4_000 {
        while let Some(job) = rig.next() {
            rig.settle(&job, Verdict::Commit);
        }
        rig.run_for(ms(20));
        if let Some(place) = rig.place_of(StatementId::Claim) {
            let limit = rig.sent(StatementId::Claim).last().unwrap().numbers[0] as u32;
            if rig.now >= rig.in_flight[place].at + ms(300) * limit {
                rig.answer(place);
            }
        }
    }
    let finished = rig.fake.jobs.values().filter(|job| (job.state, job.attempt) == (FINISHED, 1)).count();
    let limits: Vec<_> = rig.sent(StatementId::Claim).map(|claim| claim.numbers[0]).collect();
    assert_eq!(finished, 100, "{limits:?}");
    assert!(limits.iter().any(|limit| *limit >= 4), "{limits:?}");
}

#[test]
fn the_longest_durations_overflow_nothing() {
    let most = Duration::MAX;
    let mut rig = Rig::new(WorkerOptions {
        heartbeat: Some(most),
        poll_least: most,
        poll_most: most,
        statement_timeout: most,
        ..options()
    });
    rig.fake.queues.get_mut(&1).expect("the rig has one queue").lease = Duration::from_millis(i64::MAX as u64 / 4);
    rig.add_jobs(4);
    let job = rig.wait_next();
    rig.worker.extend(job.job.lease);
    rig.fault(StatementId::Claim, Fault::LosesReply, 1);
    rig.worker.handle_lost_claim(7, rig.now);
    rig.worker.set_listening(Some(most), rig.now);
    let fetched = rig.fake.fetch(1, rig.now);
    rig.worker.adopt(&fetched, rig.now, most, &pm_core::Backoff::default(), rig.now);
    assert!(rig.worker.is_trusted(&fetched.lease, rig.now));
    rig.run_for(ms(60_000));
    rig.settle(&job, Verdict::Commit);
    rig.worker.shut_down(rig.now);
    rig.run_for(ms(60_000));
    assert_eq!(rig.fake.job(job.job.lease.job).state, FINISHED);
}

/// Takes and commits whatever is there for so long; returns how many jobs that were.
fn work_for(rig: &mut Rig, duration: Duration) -> usize {
    let end: Instant = rig.now + duration;
    let mut worked = 0;
    while rig.now < end {
        while let Some(job) = rig.next() {
            rig.settle(&job, Verdict::Commit);
            worked += 1;
        }
        rig.run_for(ms(100));
    }
    worked
}

#[test]
fn a_worker_whose_replies_take_6_s_claims_more_and_more_and_releases_nothing() {
    let mut rig = slow_rig(ms(6_000), ms(1_200_000));
    rig.add_jobs(3_000);
    let worked = work_for(&mut rig, ms(90_000));
    assert!(worked > 1_500, "{worked} jobs");
    let claimed_twice = rig.fake.jobs.values().filter(|job| job.attempt > 1).count();
    assert_eq!(claimed_twice, 0, "everything that was claimed was worked on");
}

#[test]
fn a_claim_that_the_server_gives_up_asks_for_less_and_at_last_says_so() {
    let mut rig = Rig::new(WorkerOptions { statement_timeout: ms(3_000), ..options() });
    rig.add_jobs(40);
    // Handlers that take many make it claim many.
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
    let message = rig.failed.last().expect("the user is told").to_string();
    assert!(message.contains("statement timeout of 3s"), "{message}");
    assert!(rig.failed.len() <= 3, "{:?}", rig.failed);
    let given_back = rig.fake.jobs.values().filter(|job| job.state == PENDING).all(|job| job.retry_count == 0);
    assert!(given_back, "no job is blamed");
}
