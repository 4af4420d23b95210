//! Claims: prefetch, order, lost replies, and the release of jobs that no handler takes.

use super::database::{IN_PROGRESS, PENDING};
use super::rig::{Fault, Rig, ms, options};
use pm_core::machine::{Request, Trouble, WorkerOptions};
use pm_core::{Error, Failure, StatementId, Verdict};

#[test]
fn a_lost_claim_is_released_at_once_and_again_until_the_statement_timeout_has_passed() {
    let mut rig = Rig::new(options());
    let job = rig.add_jobs(1)[0];
    rig.fault(StatementId::Claim, Fault::LosesReply, 1);
    assert!(rig.next().is_none());
    rig.run_for(ms(5));
    let claim = rig.sent(StatementId::Claim).next().cloned().unwrap();
    assert_eq!(rig.database.job(job).state, IN_PROGRESS, "it ran");
    rig.unanswered.insert(StatementId::Claim);
    rig.run_for(ms(4_990));
    let releases: Vec<_> = rig.sent(StatementId::ReleaseClaim).cloned().collect();
    assert!(releases.iter().all(|release| release.numbers == [claim.numbers[1]]));
    assert_eq!(releases[0].at, claim.at + rig.latency, "at once");
    let timeout = claim.at + ms(3_000);
    assert!(releases.iter().any(|release| release.at >= timeout), "the claim may have run until then");
    assert!(releases.len() <= 4, "with pauses");
    rig.run_for(ms(10_000));
    assert_eq!(rig.sent(StatementId::ReleaseClaim).count(), releases.len(), "the claim cannot run any more");
    let job = rig.database.job(job);
    assert_eq!((job.state, job.retry_count), (PENDING, 0));
}

#[test]
fn a_release_sent_before_the_statement_timeout_does_not_count_as_the_last_one() {
    let mut rig = Rig::new(options());
    rig.database.set_lease(1, ms(60_000));
    let job = rig.add_jobs(1)[0];
    assert!(rig.next().is_none());
    rig.unanswered.insert(StatementId::Claim);
    rig.run_for(ms(10));
    let index = rig.index_of(StatementId::Claim).unwrap();
    let (claim, sent_at) = (rig.in_flight[index].request.clone(), rig.in_flight[index].at);
    rig.fail(index, Failure::no_reply("cut"));
    rig.run_for(ms(500));
    rig.unanswered.insert(StatementId::ReleaseClaim);
    rig.run_for(ms(2_000));
    let index = rig.index_of(StatementId::ReleaseClaim).unwrap();
    rig.run(index).unwrap();
    rig.database.run(&claim.plan(), sent_at + ms(2_900)).unwrap();
    assert_eq!(rig.database.job(job).state, IN_PROGRESS, "the claim ran late");
    rig.now = sent_at + ms(3_100);
    rig.unanswered.remove(&StatementId::ReleaseClaim);
    rig.run_for(ms(3_000));
    assert_eq!(rig.database.job(job).state, PENDING, "a later release reaches it");
}

#[test]
fn shut_down_releases_a_lost_claim_until_it_cannot_run_any_more() {
    let mut rig = Rig::new(options());
    rig.database.set_lease(1, ms(1_200_000));
    let job = rig.add_jobs(1)[0];
    assert!(rig.next().is_none());
    rig.unanswered.insert(StatementId::Claim);
    rig.run_for(ms(10));
    let index = rig.index_of(StatementId::Claim).unwrap();
    rig.run_for(ms(1_000));
    let claim = rig.give_up(index);
    rig.worker.shut_down(rig.now);
    rig.run_for(ms(2_500));
    assert!(rig.sent(StatementId::ReleaseClaim).count() > 0 && !rig.worker.is_drained(), "it may still run");
    rig.database.run(&claim.request.plan(), rig.now).unwrap();
    assert_eq!(rig.database.job(job).state, IN_PROGRESS, "the claim ran late");
    rig.run_for(ms(3_000));
    assert!(rig.worker.is_drained());
    let job = rig.database.job(job);
    assert_eq!((job.state, job.retry_count), (PENDING, 0), "no job stays leased");
}

#[test]
fn shut_down_does_not_wait_for_a_claim_when_the_server_ended_the_session() {
    let mut rig = Rig::new(options());
    let job = rig.add_jobs(1)[0];
    assert!(rig.next().is_none());
    rig.unanswered.insert(StatementId::Claim);
    rig.run_for(ms(10));
    let index = rig.index_of(StatementId::Claim).unwrap();
    rig.run(index).unwrap();
    rig.fail(index, Failure::reported("57P01", None, "terminating connection"));
    rig.worker.shut_down(rig.now);
    rig.run_for(ms(50));
    assert!(rig.worker.is_drained(), "one release is enough");
    assert_eq!((rig.database.job(job).state, rig.database.job(job).retry_count), (PENDING, 0));
}

#[test]
fn a_claim_that_can_never_be_released_does_not_keep_a_worker_from_draining() {
    let mut rig = Rig::new(options());
    rig.add_jobs(1);
    rig.fault(StatementId::Claim, Fault::LosesReply, 1);
    rig.fault(StatementId::ReleaseClaim, Fault::Fails(Failure::reported("42P01", None, "no such table")), 1_000_000);
    assert!(rig.next().is_none());
    rig.run_for(ms(50));
    rig.worker.shut_down(rig.now);
    rig.run_for(ms(60_000));
    assert!(rig.worker.is_drained());
    assert_eq!(rig.timer(), None);
}

#[test]
fn a_lost_claim_is_released_until_its_leases_have_expired() {
    let mut rig = Rig::new(options());
    rig.add_jobs(1);
    rig.fault(StatementId::Claim, Fault::LosesReply, 1);
    rig.fault(StatementId::ReleaseClaim, Fault::Fails(Failure::not_sent("refused")), 1_000_000);
    assert!(rig.next().is_none());
    rig.run_for(ms(50));
    rig.worker.shut_down(rig.now);
    rig.run_for(ms(7_000));
    assert!(!rig.worker.is_drained(), "the lease of 10 s has not expired");
    assert!((5..20).contains(&rig.sent(StatementId::ReleaseClaim).count()), "with pauses");
    rig.run_for(ms(7_000));
    assert!(rig.worker.is_drained());
}

#[test]
fn shut_down_during_an_outage_does_not_wait_for_the_leases_of_a_lost_claim_to_expire() {
    let mut rig = Rig::new(options());
    rig.database.set_lease(1, ms(1_200_000));
    rig.add_jobs(1);
    rig.fault(StatementId::Claim, Fault::LosesReply, 1);
    rig.fault(StatementId::ReleaseClaim, Fault::Fails(Failure::not_sent("refused")), 1_000_000);
    assert!(rig.next().is_none());
    rig.run_for(ms(50));
    rig.worker.shut_down(rig.now);
    rig.run_for(ms(25_000));
    assert!(!rig.worker.is_drained(), "releases are sent for 30 s after the statement timeout");
    rig.run_for(ms(15_000));
    assert!(rig.worker.is_drained());
}

#[test]
fn a_claim_that_did_not_run_is_retried_with_pauses() {
    for failure in [Failure::not_sent("refused"), Failure::reported("55P03", None, "locked")] {
        let mut rig = Rig::new(options());
        rig.add_jobs(1);
        rig.fault(StatementId::Claim, Fault::Fails(failure), 5);
        assert!(rig.next().is_none());
        rig.run_for(ms(1_700));
        assert_eq!(rig.next().unwrap().job.columns.retry_count, 0);
        let times = rig.times(StatementId::Claim);
        assert_eq!(times.len(), 6);
        let pauses: Vec<_> = times.windows(2).map(|pair| pair[1].since(pair[0])).collect();
        for (pause, max) in pauses.iter().zip([50, 100, 200, 400, 800]) {
            assert!((ms(max / 2)..=ms(max + 2)).contains(pause), "{pauses:?}");
        }
        assert_eq!((rig.sent(StatementId::ReleaseClaim).count(), &rig.failed[..]), (0, &[][..]));
    }
}

#[test]
fn wake_ups_do_not_shorten_the_pause_after_a_failed_claim() {
    let mut rig = Rig::new(options());
    rig.add_jobs(1);
    rig.fault(StatementId::Claim, Fault::Fails(Failure::not_sent("refused")), 1_000);
    assert!(rig.next().is_none());
    for _ in 0..1_000 {
        rig.worker.handle_wake_up("a", 0, rig.now);
        rig.run_for(ms(5));
    }
    let claims = rig.times(StatementId::Claim).len();
    assert!(claims < 12, "{claims} claims in 5 s");
}

#[test]
fn jobs_that_no_handler_takes_are_released_after_5_s_or_a_quarter_of_the_lease() {
    for (lease, released_after) in [(60_000, 5_000), (10_000, 2_500)] {
        let mut rig = Rig::new(options());
        rig.database.set_lease(1, ms(lease));
        let job = rig.add_jobs(1)[0];
        assert!(rig.next().is_none());
        rig.run_for(ms(released_after - 1));
        assert_eq!(rig.database.job(job).state, IN_PROGRESS);
        assert_eq!(rig.sent(StatementId::Settle).count(), 0);
        rig.run_for(ms(50));
        let job = rig.database.job(job);
        assert_eq!((job.state, job.retry_count, job.seq), (PENDING, 0, Some(1)), "it keeps its position");
        rig.run_for(ms(20_000));
        assert_eq!(rig.sent(StatementId::Claim).count(), 1, "no handler waits for it");
        assert!(rig.next().is_none());
        rig.wait_next();
    }
}

#[test]
fn a_handler_that_waits_while_a_slow_claim_arrives_too_late_still_gets_a_job() {
    let mut rig = Rig::new(options());
    rig.add_jobs(1);
    (rig.latency, rig.replies_are_late) = (ms(9_600), true);
    assert!(rig.next().is_none());
    rig.run_for(ms(20_000));
    rig.latency = ms(2);
    rig.run_for(ms(9_000));
    assert!(rig.sent(StatementId::Settle).count() > 0, "the late job was released");
    rig.run_for(ms(3_000));
    let claims = rig.sent(StatementId::Claim).count();
    assert!(claims >= 2, "{claims} claims: the waiting handler was forgotten");
}

#[test]
fn jobs_of_a_paused_queue_are_released_when_the_worker_learns_of_the_pause() {
    let mut rig = Rig::new(options());
    rig.database.set_lease(1, ms(60_000));
    let job = rig.add_jobs(1)[0];
    assert!(rig.next().is_none());
    rig.run_for(ms(20));
    assert!(rig.worker.has_job());
    rig.database.change_queue(1, |queue| queue.paused = true);
    rig.run_for(ms(2_010));
    assert_eq!((rig.database.job(job).state, rig.database.job(job).retry_count), (PENDING, 0));
    assert!(!rig.worker.has_job());
    rig.database.change_queue(1, |queue| queue.paused = false);
    assert_eq!(rig.wait_next().job.lease.job, job);
}

#[test]
fn prefetch_never_exceeds_what_was_taken_in_the_last_second() {
    let mut rig = Rig::new(WorkerOptions { prefetch: 8, ..options() });
    rig.database.set_lease(1, ms(60_000));
    rig.add_jobs(1_000);
    rig.run_for(ms(200));
    assert_eq!(rig.sent(StatementId::Claim).count(), 0, "no handler waits");
    let mut taken = Vec::new();
    for round in 0..400 {
        // The handler becomes faster, then slower.
        let pause = if round < 200 { 400 / (round + 1) } else { (round - 199) * 10 };
        rig.run_for(ms(pause));
        if let Some(job) = rig.next() {
            rig.settle(&job, Verdict::Commit);
            taken.push(rig.now);
        }
        rig.pump();
        let last_second = taken.iter().filter(|time| rig.now.since(**time) <= ms(1_000)).count();
        if let Some(claim) = rig.sent(StatementId::Claim).last().filter(|claim| claim.at == rig.now) {
            let limit = claim.numbers[0] as usize;
            assert!(limit <= last_second.max(1) && limit <= 8, "{limit} jobs, {last_second} taken");
        }
    }
    assert!(rig.sent(StatementId::Claim).any(|claim| claim.numbers[0] >= 4), "it prefetches");
    assert!(taken.len() > 200);
}

#[test]
fn prefetched_payloads_are_bounded_in_bytes() {
    const SMALL: usize = 200;
    const LARGE: usize = 80;
    let mut rig = Rig::new(WorkerOptions { prefetch: 1_000, ..options() });
    rig.database.set_lease(1, ms(60_000));
    rig.add_jobs(SMALL);
    for id in rig.add_jobs(LARGE) {
        rig.database.change_job(id, |job| job.payload = Some(vec![b' '; 1 << 20].into()));
    }
    let mut max_mib = 0;
    for n in 0..SMALL + LARGE {
        let job = rig.wait_next();
        if n >= SMALL {
            let claimed = rig.database.jobs().into_iter().filter(|job| job.state == IN_PROGRESS);
            max_mib = max_mib.max(claimed.filter_map(|job| job.payload).map(|payload| payload.len() >> 20).sum());
            rig.run_for(ms(2));
        }
        rig.settle(&job, Verdict::Commit);
    }
    assert!((17..=40).contains(&max_mib), "{max_mib} MiB were leased at the same time");
}

#[test]
fn jobs_of_higher_priority_that_arrive_later_are_handed_out_first() {
    let mut rig = Rig::new(options());
    rig.add_jobs(30);
    // Six jobs in quick succession make it prefetch.
    (0..6).for_each(|_| drop(rig.wait_next()));
    rig.run_for(ms(10));
    let high = rig.database.add_job(1, 5, None);
    rig.worker.handle_wake_up("a", 5, rig.now);
    while rig.index_of(StatementId::Claim).is_none() {
        assert_eq!(rig.next().unwrap().job.columns.priority, 0);
        rig.pump();
    }
    assert!(rig.worker.has_job(), "a prefetched job of priority 0 is left");
    rig.run_for(ms(10));
    assert_eq!(rig.next().unwrap().job.lease.job, high);
    assert_eq!(rig.next().unwrap().job.columns.priority, 0);
}

#[test]
fn a_wake_up_during_a_claim_in_flight_is_not_lost() {
    let mut rig = Rig::new(WorkerOptions { poll_least: ms(60_000), poll_most: ms(60_000), ..options() });
    assert!(rig.next().is_none());
    rig.run_for(ms(50));
    rig.worker.handle_wake_up("a", 0, rig.now);
    rig.pump();
    let index = rig.index_of(StatementId::Claim).unwrap();
    rig.run(index).unwrap();
    rig.add_jobs(1);
    rig.worker.handle_wake_up("a", 0, rig.now);
    rig.run_for(ms(10));
    assert!(rig.next().is_some());
}

#[test]
fn a_wake_up_during_a_poll_in_flight_is_not_lost() {
    let mut rig = Rig::new(WorkerOptions { poll_least: ms(60_000), poll_most: ms(60_000), ..options() });
    assert!(rig.next().is_none());
    rig.pump();
    let index = rig.index_of(StatementId::Poll).unwrap();
    rig.run(index).unwrap();
    rig.add_jobs(1);
    rig.worker.handle_wake_up("a", 0, rig.now);
    rig.run_for(ms(30));
    assert!(rig.next().is_some());
}

#[test]
fn jobs_of_a_queue_that_is_renamed_during_their_claim_are_released() {
    let names = ["a", "b"].map(|name| pm_core::QueueName::new(name).unwrap());
    let mut rig = Rig::new(WorkerOptions { queues: names.into(), ..options() });
    rig.database.add_queue("b");
    let job = rig.add_jobs(1)[0];
    rig.unanswered.insert(StatementId::Claim);
    assert!(rig.next().is_none());
    rig.run_for(ms(10));
    let index = rig.index_of(StatementId::Claim).unwrap();
    rig.run(index).unwrap();
    rig.database.change_queue(1, |queue| queue.name = Some("z".to_owned()));
    rig.worker.handle_change(rig.now);
    rig.run_for(ms(30));
    assert_eq!(rig.failed, [Trouble::Refused(Error::QueueNotFound("a".to_owned()))]);
    rig.unanswered.clear();
    rig.run_for(ms(50));
    let job = rig.database.job(job);
    assert_eq!((job.state, job.retry_count), (PENDING, 0));
}

#[test]
fn lines_of_a_paused_queue_do_not_cause_claims_from_an_empty_one_without_pauses() {
    let names = ["a", "b"].map(|name| pm_core::QueueName::new(name).unwrap());
    let mut rig = Rig::new(WorkerOptions { queues: names.into(), prefetch: 1, ..options() });
    assert_eq!(rig.database.add_queue("b"), 2);
    rig.database.change_queue(2, |queue| queue.paused = true);
    rig.database.add_job(2, 0, None);
    rig.latency = ms(100);
    // Positions so high that a claim need not start at the beginning of the line.
    rig.add_jobs(1_100);
    rig.database.change(|tables| tables.job.retain(|_, job| job.queue_id == 2 || job.seq > Some(1_090)));
    let taken = (0..100).filter(|_| {
        rig.run_for(ms(100));
        rig.next().is_some()
    });
    assert_eq!(taken.count(), 11);
    let claims = rig.sent(StatementId::Claim).count();
    assert!(claims <= 11 + 12, "{claims} claims for 11 jobs in 10 s");
}

#[test]
fn an_idle_worker_claims_again_when_the_lease_of_another_worker_expires() {
    let mut rig = Rig::new(options());
    let job = rig.add_jobs(1)[0];
    rig.database.claim_by_another(1, rig.now);
    assert!(rig.next().is_none());
    rig.run_for(ms(9_500));
    assert_eq!(rig.database.job(job).state, IN_PROGRESS);
    rig.run_for(ms(700));
    assert_eq!(rig.next().unwrap().job.columns.retry_count, 1);
}
