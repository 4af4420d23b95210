//! An enqueue that replaces a pending job: it is applied once, even when its reply is lost and it is sent again.

use pm_core::op::{EnqueueKeyed, FetchJob, Holder, ReplaceJobs, Settle, SettleItem};
use pm_core::{Codec, Lease, NewJob, OnConflict, QueueName, Reason, Verdict};
use pm_driver_tokio_postgres::{ConnectOptions, EnqueueOptions, Enqueued, State, Uuid, connect_with};
use pm_tests::{Direct, Fixture, Loss, Proxy, TIMEOUT, eventually, next, within};

const KEY: &str = "report";

fn keyed() -> EnqueueOptions {
    EnqueueOptions::default().key(KEY)
}

fn replacing() -> EnqueueOptions {
    keyed().on_conflict(OnConflict::Replace)
}

/// Returns a new job for the queue `tasks` that replaces the holder of the key.
fn update(number: u128) -> NewJob {
    let options = EnqueueOptions::default().codec(Codec::Raw).key(KEY).on_conflict(OnConflict::Replace);
    let payload = number.to_string().into();
    NewJob { id: Uuid::from_u128(number), queue: QueueName::new("tasks").unwrap(), payload, options }
}

/// Sends a job as a producer does: an enqueue, and its follow-up if the key is taken.
async fn send(direct: &mut Direct, job: &NewJob) -> Option<Holder> {
    let jobs = std::slice::from_ref(job);
    let reply = direct.run(EnqueueKeyed { jobs, in_transaction: true }).await;
    if reply.present.is_empty() { None } else { direct.run(ReplaceJobs { jobs }).await[0] }
}

/// Fetches a job as a worker does and ends the lease.
async fn work(direct: &mut Direct, id: Uuid, number: i64, verdict: Verdict, state: State) {
    let lease = Lease { job: id, number };
    direct.run(FetchJob { lease, worker: "worker".to_owned() }).await.expect("it is ready");
    let items = [SettleItem { lease, verdict, state, delay: None }];
    let unsettled = direct.run(Settle { items: &items, passes: false }).await;
    assert!(unsettled.missed.is_empty(), "{unsettled:?}");
}

const EVENTS: [&str; 10] = [
    "nothing",
    "claimed",
    "finished",
    "failed",
    "claimed and released",
    "replaced by another",
    "replaced by another and finished",
    "moved",
    "renamed",
    "restarted",
];

async fn happen(event: &str, fixture: &Fixture, direct: &mut Direct, id: Uuid) {
    match event {
        "claimed" => {
            let lease = Lease { job: id, number: 1 };
            direct.run(FetchJob { lease, worker: "worker".to_owned() }).await.expect("it is ready");
        }
        "finished" => work(direct, id, 1, Verdict::Commit, State::Finished).await,
        "failed" => drop(fixture.queue.fail_jobs(&[id], "enough").await.unwrap()),
        "claimed and released" => work(direct, id, 1, Verdict::Release, State::Pending).await,
        "replaced by another" => assert!(send(direct, &update(99)).await.unwrap().replaced),
        "replaced by another and finished" => {
            assert!(send(direct, &update(99)).await.unwrap().replaced);
            work(direct, id, 1, Verdict::Commit, State::Finished).await;
        }
        "moved" => {
            fixture.queue.create_queue("other", false).await.unwrap();
            assert_eq!(fixture.queue.move_jobs(&[id], "other").await.unwrap(), 1);
        }
        "renamed" => fixture.queue.rename_queue("tasks", "other").await.unwrap(),
        "restarted" => {
            work(direct, id, 1, Verdict::Commit, State::Finished).await;
            assert_eq!(fixture.queue.restart_jobs(&[id], false).await.unwrap(), 1);
        }
        _ => {}
    }
}

/// An enqueue that replaced a job returns the same answer when it is sent again, and replaces and inserts nothing.
#[tokio::test]
async fn a_replacement_sent_again_returns_the_first_answer_whatever_happened_to_the_job() {
    for event in EVENTS {
        let fixture = Fixture::new().await;
        let mut direct = Direct::to(&fixture.database.url()).await;
        let id = fixture.put_with(0, keyed()).await;
        let first = send(&mut direct, &update(7)).await.expect("the key is taken");
        assert!(first.replaced && first.id == id, "{event}: {first:?}");
        happen(event, &fixture, &mut direct, id).await;
        if event == "renamed" {
            fixture.queue.create_queue("tasks", false).await.unwrap();
        }
        let before = fixture.column("select row(state, seq, attempt, payload)::text from pm.job");
        let again = send(&mut direct, &update(7)).await;
        let is_the_same = again.is_some_and(|again| again.replaced && again.id == id);
        assert!(is_the_same, "{event}: {again:?} after {first:?}");
        let after = fixture.column("select row(state, seq, attempt, payload)::text from pm.job");
        assert_eq!(before, after, "{event}");
    }
}

/// The record of a job's replacements is deleted with it: as with any deleted job, an enqueue sent again is a new job.
#[tokio::test]
async fn a_replacement_sent_again_after_its_job_was_deleted_is_a_new_job() {
    let fixture = Fixture::new().await;
    let mut direct = Direct::to(&fixture.database.url()).await;
    let id = fixture.put_with(0, keyed()).await;
    assert!(send(&mut direct, &update(7)).await.unwrap().replaced);
    assert_eq!(fixture.queue.delete_jobs(&[id]).await.unwrap(), 1);
    assert_eq!(fixture.number("select count(*) from pm.replacement"), 0);
    assert_eq!(send(&mut direct, &update(7)).await, None);
    assert_eq!(fixture.column("select id from pm.job"), [update(7).id.to_string()]);
}

/// The records of a job that is replaced often are not kept for ever.
#[tokio::test]
async fn replacement_records_older_than_a_day_are_deleted_at_the_next() {
    let fixture = Fixture::new().await;
    let mut direct = Direct::to(&fixture.database.url()).await;
    fixture.put_with(0, keyed()).await;
    for number in 1..=3 {
        assert!(send(&mut direct, &update(number)).await.unwrap().replaced);
    }
    fixture.database.execute("update pm.replacement set replaced_at = replaced_at - interval '25 h'").unwrap();
    assert!(send(&mut direct, &update(4)).await.unwrap().replaced);
    assert_eq!(fixture.column("select id from pm.replacement"), [update(4).id.to_string()]);
}

/// End to end, with workers that take the job while the reply is lost: each confirmed payload runs once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_whose_replacement_lost_its_reply_runs_once() {
    let fixture = Fixture::new().await;
    let proxy = Proxy::before(&fixture.database.url()).await;
    let queue =
        connect_with(proxy.url(), ConnectOptions::default()).await.expect("connecting through the proxy succeeds");
    for round in 0..20u64 {
        fixture.queue.pause_queue("tasks").await.unwrap();
        let id = fixture.put_with(round * 2, keyed()).await;
        proxy.trap("share as (", Loss::Reply);
        let (enqueuing, payload) = (queue.clone(), round * 2 + 1);
        let enqueue = tokio::spawn(async move {
            enqueuing.enqueue_with_outcome("tasks", payload, replacing()).await.expect("the enqueue succeeds")
        });
        let is_cut = async || proxy.cuts() == round as usize + 1;
        pm_tests::eventually("the reply is lost", pm_tests::TIMEOUT, is_cut).await;
        fixture.queue.finish_jobs(&[id]).await.unwrap();
        let outcome = within("the answer", enqueue).await.unwrap();
        let ran = format!("select count(*) from pm.job where convert_from(payload, 'utf8') = '{payload}'");
        assert_eq!(fixture.number(&ran), 1, "round {round}: {outcome:?}");
        assert_eq!(outcome, Enqueued::Replaced(id), "round {round}");
        fixture.queue.resume_queue("tasks").await.unwrap();
        fixture.database.execute("delete from pm.job").unwrap();
    }
}

/// A job that a worker claimed ahead and released counts as not started; one that it may have begun counts as started.
#[tokio::test]
async fn a_job_can_be_replaced_until_a_handler_starts_it() {
    let ends: [(&str, bool); 9] = [
        ("never claimed", true),
        ("released", true),
        ("released twice", true),
        ("the claim's reply was lost", true),
        ("failed once", false),
        ("failed once and released", false),
        ("reaped", false),
        ("finished and restarted", false),
        ("snoozed and restarted", false),
    ];
    for (end, is_replaced) in ends {
        let fixture = Fixture::new().await;
        let mut direct = Direct::to(&fixture.database.url()).await;
        let id = fixture.put_with(0, keyed()).await;
        let fails = || Verdict::SoftFail(Reason::new("no"));
        match end {
            "released" => work(&mut direct, id, 1, Verdict::Release, State::Pending).await,
            "released twice" => {
                work(&mut direct, id, 1, Verdict::Release, State::Pending).await;
                work(&mut direct, id, 2, Verdict::Release, State::Pending).await;
            }
            "the claim's reply was lost" => {
                let lease = Lease { job: id, number: 1 };
                direct.run(FetchJob { lease, worker: "worker".to_owned() }).await.expect("it is ready");
                assert_eq!(direct.run(pm_core::op::ReleaseClaim { lease: 1 }).await, 1);
            }
            "failed once" => work(&mut direct, id, 1, fails(), State::Pending).await,
            "failed once and released" => {
                work(&mut direct, id, 1, fails(), State::Pending).await;
                work(&mut direct, id, 2, Verdict::Release, State::Pending).await;
            }
            "reaped" => {
                let lease = Lease { job: id, number: 1 };
                direct.run(FetchJob { lease, worker: "worker".to_owned() }).await.expect("it is ready");
                fixture.database.execute("update pm.job set lease_expires_at = now() - interval '1 s'").unwrap();
                assert_eq!(fixture.queue.reap().await.unwrap().reaped, 1);
            }
            "finished and restarted" => {
                work(&mut direct, id, 1, Verdict::Commit, State::Finished).await;
                assert_eq!(fixture.queue.restart_jobs(&[id], false).await.unwrap(), 1);
            }
            "snoozed and restarted" => {
                work(&mut direct, id, 1, Verdict::Snooze(std::time::Duration::ZERO), State::Pending).await;
                assert_eq!(fixture.queue.restart_jobs(&[id], false).await.unwrap(), 1);
                assert_eq!(fixture.job(id).await.snoozes, 0);
            }
            _ => {}
        }
        let outcome = fixture.queue.enqueue_with_outcome("tasks", 1u64, replacing()).await.unwrap();
        let expected = if is_replaced { Enqueued::Replaced(id) } else { Enqueued::Existing(id, State::Pending) };
        assert_eq!(outcome, expected, "{end}");
    }
}

/// It was reported for another payload.
#[tokio::test]
async fn a_replaced_job_has_no_progress() {
    let fixture = Fixture::new().await;
    let id = fixture.put_with(1, replacing()).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let ack = next(&mut jobs).await.into_parts().1;
    ack.set_progress("halfway").unwrap();
    eventually("it is stored", TIMEOUT, async || fixture.job(id).await.progress.is_some()).await;
    fixture.queue.pause_queue("tasks").await.unwrap();
    ack.release().await.unwrap();
    assert_eq!(fixture.put_with(2, replacing()).await, id);
    assert_eq!(fixture.job(id).await.progress, None);
}
