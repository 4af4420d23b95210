//! A key keeps a second job for the same work out of the queue while the first has not ended.

use pm_driver_tokio_postgres::{
    BulkAction, Change, ConnectOptions, EnqueueOptions, Enqueued, ErrorKind, InitialState, OnConflict, Precondition,
    QueueName, SettingsChange, State,
};
use pm_tests::{Fixture, next, within};
use std::collections::HashSet;
use std::time::Duration;

fn key(key: &str) -> EnqueueOptions {
    EnqueueOptions::default().key(key)
}

#[tokio::test]
async fn a_second_job_with_the_same_key_is_the_first() {
    let fixture = Fixture::new().await;
    let first = fixture.queue.enqueue_with_outcome("tasks", 1, key("mail 7")).await.unwrap();
    let second = fixture.queue.enqueue_with_outcome("tasks", 2, key("mail 7")).await.unwrap();
    assert_eq!(first, Enqueued::Inserted(first.id()));
    assert_eq!(second, Enqueued::Existing(first.id(), State::Pending));
    assert_eq!(fixture.put_with(3, key("mail 7")).await, first.id());
    let payload = fixture.queue.payload(first.id()).await.unwrap().unwrap();
    assert_eq!(&payload.bytes[..], b"1", "the payload of the first stays");
    assert_eq!(fixture.number("select count(*) from pm.job"), 1);
}

#[tokio::test]
async fn keys_are_scoped_to_their_queue_and_compared_exactly() {
    let fixture = Fixture::new().await;
    fixture.queue.create_queue("other", false).await.unwrap();
    let ids = [
        fixture.put_with(1, key("a")).await,
        fixture.put_with(1, key("A")).await,
        fixture.put(1).await,
        fixture.put(1).await,
        fixture.queue.enqueue("other", 1, key("a")).await.unwrap(),
    ];
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 5);
}

#[tokio::test]
async fn the_state_of_the_holder_is_reported() {
    let fixture = Fixture::new().await;
    let id = fixture.put_with(1, key("a").initial_state(InitialState::Paused)).await;
    let outcome = fixture.queue.enqueue_with_outcome("tasks", 2, key("a")).await.unwrap();
    assert_eq!(outcome, Enqueued::Existing(id, State::Paused));
    fixture.queue.resume_queue("tasks").await.unwrap();
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let _job = next(&mut jobs).await;
    let outcome = fixture.queue.enqueue_with_outcome("tasks", 2, key("a")).await.unwrap();
    assert_eq!(outcome, Enqueued::Existing(id, State::InProgress));
}

#[tokio::test]
async fn on_conflict_refuse_fails_with_the_holders_id() {
    let fixture = Fixture::new().await;
    let refuse = || key("a").on_conflict(OnConflict::Refuse);
    let id = fixture.put_with(1, refuse()).await;
    let error = fixture.queue.enqueue("tasks", 2, refuse()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KeyConflict);
    assert!(error.to_string().contains(&id.to_string()), "{error}");
    let many = [(3, EnqueueOptions::default()), (4, refuse())];
    let error = fixture.queue.enqueue_many("tasks", many).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KeyConflict);
}

#[tokio::test]
async fn a_key_is_free_again_however_its_holder_ended() {
    let fixture = Fixture::with(SettingsChange::new().backoff(vec![Duration::ZERO]).max_retries(1)).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let mut ids = HashSet::new();
    for way in 0..4 {
        let id = fixture.put_with(way, key("a")).await;
        assert!(ids.insert(id), "the key was free");
        let ack = next(&mut jobs).await.into_parts().1;
        match way {
            0 => ack.commit().await.unwrap(),
            1 => ack.hard_fail("no").await.unwrap(),
            2 => {
                ack.soft_fail("again").await.unwrap();
                assert_eq!(fixture.put_with(9, key("a")).await, id, "a retry keeps the key");
                next(&mut jobs).await.into_parts().1.soft_fail("enough").await.unwrap();
            }
            _ => {
                fixture.database.execute("delete from pm.job where state = 1").unwrap();
                assert_eq!(ack.commit().await.unwrap_err().kind(), ErrorKind::LeaseLost);
            }
        }
    }
    assert!(!ids.contains(&fixture.put_with(9, key("a")).await));
    assert_eq!(fixture.number("select count(*) from pm.job where key = 'a'"), 4, "ended jobs still show it");
}

#[tokio::test]
async fn a_key_is_free_again_when_its_holder_was_reaped_for_the_last_time() {
    let fixture = Fixture::with(SettingsChange::new().lease(Duration::from_millis(100)).max_retries(0)).await;
    let first = fixture.put_with(1, key("a")).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", pm_tests::unattended());
    let job = next(&mut jobs).await;
    let reaped = async || fixture.queue.reap().await.expect("the reap succeeds").reaped == 1;
    pm_tests::eventually("it is reaped", pm_tests::TIMEOUT, reaped).await;
    assert_ne!(fixture.put_with(2, key("a")).await, first);
    drop(job);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_16_racing_enqueuers_one_wins_and_all_get_its_id() {
    let fixture = Fixture::new().await;
    let mut handles = Vec::new();
    for _ in 0..16 {
        handles.push(fixture.another(ConnectOptions::default().connections(1)).await);
    }
    for round in 0..20 {
        let tasks: Vec<_> = (0..16)
            .map(|n| {
                let (queue, options) = (handles[n].clone(), key(&format!("round {round}")));
                tokio::spawn(async move { queue.enqueue_with_outcome("tasks", n, options).await.expect("it succeeds") })
            })
            .collect();
        let mut outcomes = Vec::new();
        for task in tasks {
            outcomes.push(within("the answer", task).await.unwrap());
        }
        let inserted: Vec<_> = outcomes.iter().filter(|one| matches!(one, Enqueued::Inserted(_))).collect();
        assert_eq!(inserted.len(), 1, "{outcomes:?}");
        let winner = inserted[0].id();
        assert!(outcomes.iter().all(|one| one.id() == winner), "{outcomes:?}");
    }
    assert_eq!(fixture.number("select count(*) from pm.job"), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enqueuers_racing_with_workers_always_get_a_job_that_existed() {
    let fixture = Fixture::new().await;
    let queue = fixture.queue.clone();
    let worker = tokio::spawn(async move {
        let mut jobs = queue.try_stream_jobs::<u64>("tasks");
        while let Some(Ok(job)) = futures_util::StreamExt::next(&mut jobs).await {
            job.into_parts().1.commit().detach();
        }
    });
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let queue = fixture.queue.clone();
            tokio::spawn(async move {
                let mut ids = Vec::new();
                for n in 0..100 {
                    ids.push(queue.enqueue("tasks", n, key("the one")).await.expect("it succeeds"));
                }
                ids
            })
        })
        .collect();
    let mut ids = HashSet::new();
    for task in tasks {
        ids.extend(within("the answers", task).await.unwrap());
    }
    within("the end", fixture.queue.close()).await;
    worker.await.unwrap();
    assert_eq!(fixture.number("select count(*) from pm.job"), ids.len() as i64);
    assert!(ids.len() > 1, "the key was free in between");
}

#[tokio::test]
async fn keys_are_unique_within_one_enqueue_of_many_too() {
    let fixture = Fixture::new().await;
    let jobs = (0..300u64).map(|n| (n, key(&format!("key {}", n % 3))));
    let outcomes = fixture.queue.enqueue_many("tasks", jobs).await.unwrap();
    for (n, one) in outcomes.iter().enumerate() {
        assert_eq!(one.id(), outcomes[n % 3].id());
        assert_eq!(matches!(one, Enqueued::Inserted(_)), n < 3, "job {n}: {one:?}");
    }
    let payloads: HashSet<_> = fixture.column("select convert_from(payload, 'utf8') from pm.job").into_iter().collect();
    assert_eq!(payloads, ["0", "1", "2"].map(str::to_owned).into());
}

/// A restarted job reserves its key again. While another job has the key, it is not restarted: two active jobs would
/// have one key.
#[tokio::test]
async fn a_job_whose_key_is_reserved_by_another_is_not_restarted() {
    let fixture = Fixture::new().await;
    let one = || key("one");
    let first = fixture.put_with(1, one()).await;
    fixture.queue.finish_jobs(&[first]).await.unwrap();
    let second = fixture.put_with(2, one()).await;
    assert_ne!(first, second, "the key was free");
    assert_eq!(fixture.queue.restart_jobs(&[first], false).await.unwrap(), 0);
    assert_eq!(fixture.state(first).await, State::Finished);
    assert_eq!(fixture.put_with(3, one()).await, second, "the second job still has it");
    fixture.queue.finish_jobs(&[second]).await.unwrap();
    let third = fixture.put_with(4, one()).await;
    assert!(third != first && third != second);
    fixture.queue.finish_jobs(&[third]).await.unwrap();
    assert_eq!(fixture.queue.restart_jobs(&[third], false).await.unwrap(), 1);
    assert_eq!(fixture.put_with(5, one()).await, third, "it has reserved its key again");
}

#[tokio::test]
async fn a_job_whose_key_is_reserved_in_the_target_queue_is_not_moved_there() {
    let fixture = Fixture::new().await;
    fixture.queue.create_queue("other", false).await.unwrap();
    let one = || key("one");
    let here = fixture.put_with(1, one()).await;
    let there = fixture.queue.enqueue("other", 2u64, one()).await.unwrap();
    let outcomes = fixture
        .queue
        .change_jobs(&BulkAction::Move { to: QueueName::new("other").unwrap() }, &[here], &Precondition::default())
        .await
        .unwrap()
        .changes()
        .to_vec();
    assert_eq!(outcomes, [Change::KeyTaken]);
    assert_eq!(fixture.job(here).await.queue, "tasks");
    fixture.queue.finish_jobs(&[there]).await.unwrap();
    assert_eq!(
        fixture
            .queue
            .change_jobs(&BulkAction::Move { to: QueueName::new("other").unwrap() }, &[here], &Precondition::default())
            .await
            .unwrap()
            .changes()
            .to_vec(),
        [Change::Changed]
    );
    let holder = fixture.queue.enqueue("other", 3u64, one()).await.unwrap();
    assert_eq!(holder, here, "it has reserved its key there");
}

#[tokio::test]
async fn a_copy_whose_key_is_reserved_is_a_key_conflict() {
    let fixture = Fixture::new().await;
    let keyed = || key("one");
    let source = fixture.put_with(1, keyed()).await;
    let refused = fixture.queue.copy_job(source, "tasks", keyed()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::KeyConflict);
}
