//! Timers: polls, promotions, reaps; errors, and shutting down.

use super::database::exact_backoff;
use super::rig::{Fault, Rig, ms, options};
use pm_core::machine::{Trouble, WorkerOptions};
use pm_core::op::Notification;
use pm_core::{Error, Failure, QueueName, Reason, StatementId, Verdict};

#[test]
fn an_idle_worker_polls_at_intervals_that_double_from_the_minimum_to_the_maximum() {
    let mut rig = Rig::new(WorkerOptions { poll_least: ms(100), poll_most: ms(800), ..options() });
    assert!(rig.next().is_none());
    rig.run_for(ms(10_000));
    let times = rig.times(StatementId::Poll);
    assert_eq!(rig.log.len(), times.len(), "nothing but polls");
    let intervals: Vec<_> = times.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    assert!(intervals.len() > 12);
    for (n, interval) in intervals.iter().enumerate() {
        let wait = ms(100 << n.min(3));
        assert!((wait * 4 / 5..=wait + rig.latency).contains(interval), "interval {n}: {interval:?}");
    }
}

#[test]
fn a_steady_trickle_of_jobs_does_not_postpone_polls_for_ever() {
    let mut rig = Rig::new(WorkerOptions { poll_least: ms(20), ..options() });
    assert!(rig.next().is_none());
    rig.run_for(ms(100));
    for _ in 0..1_000 {
        rig.add_jobs(1);
        rig.worker.handle_wake_up("a", 0, rig.now);
        rig.run_for(ms(5));
        let taken = rig.wait_next();
        rig.settle(&taken, Verdict::Commit);
        rig.next();
    }
    let times = rig.times(StatementId::Poll);
    let longest = times.windows(2).map(|pair| pair[1].since(pair[0])).max().unwrap();
    assert!(longest <= ms(2_200) && rig.now.since(*times.last().unwrap()) <= ms(2_200), "{longest:?}");
}

#[test]
fn a_worker_that_only_settles_does_not_poll() {
    let mut rig = Rig::new(WorkerOptions { queues: Vec::new(), ..options() });
    let backoff = pm_core::Backoff::new(vec![ms(0), ms(500)], 3, 0).unwrap();
    for retry_count in [0, 1] {
        let mut job = rig.database.fetch(1, rig.now);
        job.columns.retry_count = retry_count;
        rig.worker.adopt(&job, rig.now, ms(10_000), &backoff, rig.now);
        rig.worker.settle(job.lease, Verdict::SoftFail(Reason::new("no")), rig.now, 0);
        rig.run_for(ms(3_000));
    }
    assert!(rig.log.iter().all(|logged| matches!(
        logged.statement,
        StatementId::Settle | StatementId::Outcome | StatementId::NotifyIdle
    )));
    assert!(!rig.worker.is_draining());
}

#[test]
fn a_worker_that_only_settles_releases_a_lost_claim_of_its_user() {
    let mut rig = Rig::new(WorkerOptions { queues: Vec::new(), ..options() });
    let job = rig.database.fetch(1, rig.now);
    rig.worker.handle_lost_claim(job.lease.number, rig.now);
    rig.run_for(ms(10));
    let job = rig.database.job(job.lease.job);
    assert_eq!((job.state, job.retry_count), (super::database::PENDING, 0));
    rig.run_for(ms(10_000));
    assert_eq!((rig.sent(StatementId::ReleaseClaim).count(), rig.timer()), (3, None));
}

#[test]
fn a_listening_worker_polls_rarely_and_claims_when_it_is_notified() {
    let mut rig = Rig::new(options());
    rig.worker.set_listening(Some(ms(30_000)), rig.now);
    assert!(rig.next().is_none());
    rig.run_for(ms(60_000));
    let polls = rig.sent(StatementId::Poll).count();
    assert!(polls < 14, "{polls} polls in a minute");
    for priority in [Some(0), None] {
        rig.add_jobs(1);
        rig.worker.handle_notification(Notification { queue_id: 1, priority }, rig.now);
        rig.run_for(ms(10));
        let taken = rig.next().unwrap();
        rig.settle(&taken, Verdict::Commit);
        assert!(rig.next().is_none());
    }
}

/// Returns a worker that listens, waits for a job and polls every 24 to 30 s, 1 ms before its next poll.
fn rig_before_rare_poll() -> Rig {
    let mut rig = Rig::new(options());
    rig.worker.set_listening(Some(ms(30_000)), rig.now);
    assert!(rig.next().is_none());
    rig.run_for(ms(120_000));
    let next_poll = rig.timer().expect("it polls again");
    rig.run_for(next_poll.since(rig.now) - ms(1));
    rig
}

#[test]
fn an_empty_claim_does_not_postpone_a_poll_that_was_asked_for() {
    let mut rig = rig_before_rare_poll();
    rig.run_for(ms(10));
    rig.worker.handle_notification(Notification { queue_id: 1, priority: Some(0) }, rig.now);
    rig.pump();
    let claim = rig.index_of(StatementId::Claim).expect("it was notified");
    rig.run(claim).unwrap();
    // The claim has not seen what is added from now on.
    let due = rig.now + ms(500);
    rig.database.add_job(1, 0, Some(due));
    rig.worker.handle_change(rig.now);
    rig.run_for(ms(600));
    assert!(rig.next().is_some());
}

#[test]
fn a_poll_during_an_empty_claim_is_soon_followed_by_one_that_sets_idle_until() {
    let mut rig = rig_before_rare_poll();
    rig.worker.handle_notification(Notification { queue_id: 1, priority: Some(0) }, rig.now);
    rig.run_for(ms(3_000));
    let polls: Vec<_> = rig.sent(StatementId::Poll).collect();
    let polls = &polls[polls.len() - 2..];
    assert!(polls[0].numbers.is_empty(), "this one was sent while a line seemed to have jobs");
    assert!(!polls[1].numbers.is_empty());
}

#[test]
fn a_poll_that_ran_before_a_soft_fail_does_not_hide_its_retry() {
    let mut rig = Rig::new(WorkerOptions { poll_least: ms(5_000), poll_most: ms(5_000), ..options() });
    rig.database.change_queue(1, |queue| queue.settings.backoff = exact_backoff(3, [1_000]));
    rig.add_jobs(1);
    let taken = rig.wait_next();
    rig.run_for(ms(1_500));
    rig.unanswered.insert(StatementId::Poll);
    rig.worker.handle_change(rig.now);
    rig.run_for(ms(30));
    let poll = rig.index_of(StatementId::Poll).expect("it polls");
    rig.run(poll).unwrap();
    rig.settle(&taken, Verdict::SoftFail(Reason::new("no")));
    rig.run_for(ms(10));
    rig.unanswered.clear();
    rig.run_for(ms(1_100));
    assert_eq!(rig.sent(StatementId::Promote).count(), 1);
}

#[test]
fn jobs_are_promoted_when_they_are_due() {
    let mut rig = Rig::new(WorkerOptions { poll_least: ms(900), ..options() });
    let due = [2_300, 2_900, 7_000].map(|offset| rig.now + ms(offset));
    let ids = due.map(|at| rig.database.add_job(1, 0, Some(at)));
    for (at, id) in due.into_iter().zip(ids) {
        let taken = loop {
            match rig.next() {
                Some(taken) => break taken,
                None => rig.run_for(ms(5)),
            }
        };
        assert_eq!(taken.job.lease.job, id);
        assert!(rig.now >= at && rig.now.since(at) < ms(50), "{:?} late", rig.now.since(at));
    }
    assert!(rig.sent(StatementId::Promote).count() <= 6);
}

#[test]
fn leases_are_reaped_when_they_expire() {
    let mut rig = Rig::new(options());
    rig.add_jobs(1);
    rig.database.claim_by_another(1, rig.now);
    let end = rig.now + ms(10_000);
    rig.run_for(ms(10_500));
    let times = rig.times(StatementId::Reap);
    assert_eq!(times.len(), 1, "{times:?}");
    assert!(times[0] >= end && times[0].since(end) <= ms(60));
}

#[test]
fn a_worker_with_reaping_disabled_never_reaps() {
    let mut rig = Rig::new(WorkerOptions { reaps: false, ..options() });
    rig.add_jobs(1);
    rig.database.claim_by_another(1, rig.now);
    rig.run_for(ms(15_000));
    assert_eq!(rig.sent(StatementId::Reap).count(), 0);
}

#[test]
fn a_reap_that_finds_only_locked_jobs_is_retried_after_growing_pauses() {
    let mut rig = Rig::new(options());
    rig.add_jobs(1);
    rig.database.claim_by_another(1, rig.now);
    rig.database.reaps_nothing = true;
    rig.run_for(ms(30_000));
    let times = rig.times(StatementId::Reap);
    let pauses: Vec<_> = times.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    // Polls between two reaps do not shorten the pauses.
    for (pause, min) in pauses.iter().zip([100, 200, 400, 800, 1_600, 2_000, 2_000, 2_000]) {
        assert!((ms(min)..=ms(min + 60)).contains(pause), "{pauses:?}");
    }
    assert!(times.len() > 10, "{pauses:?}");
    rig.database.reaps_nothing = false;
    rig.run_for(ms(2_100));
    assert_eq!(rig.wait_next().job.columns.retry_count, 1, "it is reaped once it is not locked");
}

#[test]
fn a_missing_queue_is_reported_once_and_the_worker_drains() {
    let missing = QueueName::new("missing").unwrap();
    let mut rig = Rig::new(WorkerOptions { queues: vec![missing], ..options() });
    assert!(rig.next().is_none());
    rig.run_for(ms(5_000));
    assert_eq!(rig.failed, [Trouble::Refused(Error::QueueNotFound("missing".to_owned()))]);
    assert!(rig.worker.is_drained());
    assert_eq!(rig.log.len(), 1);
}

#[test]
fn a_missing_queue_is_reported_once_and_existing_queues_are_served() {
    let queues = ["missing", "a"].map(|name| QueueName::new(name).unwrap());
    let mut rig = Rig::new(WorkerOptions { queues: queues.into(), ..options() });
    rig.add_jobs(1);
    rig.wait_next();
    rig.run_for(ms(5_000));
    assert_eq!(rig.failed, [Trouble::Refused(Error::QueueNotFound("missing".to_owned()))]);
    assert!(!rig.worker.is_draining());
}

#[test]
fn a_missing_schema_is_reported_once_and_the_worker_drains() {
    let missing = Failure::reported("42P01", None, "relation does not exist");
    for statement in [StatementId::Poll, StatementId::Claim] {
        let mut rig = Rig::new(options());
        rig.add_jobs(1);
        rig.fault(statement, Fault::Fails(missing.clone()), 1_000);
        assert!(rig.next().is_none());
        rig.run_for(ms(10_000));
        assert_eq!(rig.failed, [Trouble::Failed(missing.clone())], "{statement:?}");
        assert!(rig.worker.is_drained());
        assert!(rig.sent(statement).count() == 1);
    }
}

#[test]
fn connection_failures_are_retried_without_an_event() {
    let mut rig = Rig::new(options());
    rig.add_jobs(1);
    rig.fault(StatementId::Poll, Fault::Fails(Failure::not_sent("refused")), 4);
    assert!(rig.next().is_none());
    rig.run_for(ms(60));
    assert!(rig.worker.failures() > 0);
    rig.wait_next();
    assert_eq!((rig.worker.failures(), &rig.failed[..]), (0, &[][..]));
}

#[test]
fn shut_down_releases_unstarted_jobs_and_ends_with_the_last_settlement() {
    let mut rig = Rig::new(options());
    let jobs = rig.add_jobs(12);
    let taken: Vec<_> = (0..3).map(|_| rig.wait_next()).collect();
    rig.run_for(ms(10));
    assert!(rig.worker.has_job());
    rig.worker.shut_down(rig.now);
    assert!(!rig.worker.has_job() && rig.next().is_none());
    rig.run_for(ms(50));
    let started = |job: &&pm_core::Lease| jobs.contains(&job.job);
    let started: Vec<_> = taken.iter().map(|taken| &taken.job.lease).filter(started).map(|lease| lease.job).collect();
    let in_progress = rig.database.jobs().into_iter().filter(|job| job.state == super::database::IN_PROGRESS);
    assert_eq!(in_progress.map(|job| job.id).collect::<Vec<_>>(), started, "the others are released");
    assert!(rig.database.jobs().iter().all(|job| job.retry_count == 0));
    for job in &taken {
        assert!(rig.worker.is_draining() && !rig.worker.is_drained());
        rig.settle(job, Verdict::Commit);
    }
    assert!(!rig.worker.is_drained(), "the settlement has not been sent");
    rig.pump();
    assert!(!rig.worker.is_drained(), "the settlement has not been applied");
    rig.run_for(ms(10));
    assert!(rig.worker.is_drained());
    assert_eq!(rig.timer(), None);
}

#[test]
fn jobs_of_a_claim_in_flight_at_shut_down_are_released() {
    let mut rig = Rig::new(options());
    rig.add_jobs(1);
    assert!(rig.next().is_none());
    rig.unanswered.insert(StatementId::Claim);
    rig.run_for(ms(10));
    rig.worker.shut_down(rig.now);
    rig.run_for(ms(10));
    assert!(!rig.worker.is_drained(), "the claim may return jobs");
    rig.unanswered.clear();
    rig.run_for(ms(10));
    assert!(rig.worker.is_drained());
    assert!(rig.database.jobs().iter().all(|job| (job.state, job.retry_count) == (super::database::PENDING, 0)));
}
