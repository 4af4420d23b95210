//! A key keeps a second job for the same work off the queue while the first has not ended.

use pm_driver_tokio_postgres::{
    ConnectOptions, EnqueueOptions, Enqueued, ErrorKind, InitialState, OnConflict, SettingsChange, State,
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
async fn a_key_is_of_its_queue_and_other_keys_are_other_keys() {
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
async fn the_state_of_the_holder_is_told() {
    let fixture = Fixture::new().await;
    let id = fixture.put_with(1, key("a").initial_state(InitialState::Paused)).await;
    let told = fixture.queue.enqueue_with_outcome("tasks", 2, key("a")).await.unwrap();
    assert_eq!(told, Enqueued::Existing(id, State::Paused));
    fixture.queue.resume_queue("tasks").await.unwrap();
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let _held = next(&mut jobs).await;
    let told = fixture.queue.enqueue_with_outcome("tasks", 2, key("a")).await.unwrap();
    assert_eq!(told, Enqueued::Existing(id, State::InProgress));
}

#[tokio::test]
async fn a_caller_who_wants_so_is_refused_with_the_holders_id() {
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
async fn a_key_is_free_again_when_its_holder_has_ended_however() {
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
                assert_eq!(fixture.put_with(9, key("a")).await, id, "a retry still holds it");
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
    let held = next(&mut jobs).await;
    let reaped = async || fixture.queue.reap().await.expect("it can be reaped").0 == 1;
    pm_tests::eventually("it is reaped", pm_tests::TIMEOUT, reaped).await;
    assert_ne!(fixture.put_with(2, key("a")).await, first);
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_16_racing_enqueuers_one_wins_and_all_learn_who() {
    let fixture = Fixture::new().await;
    let mut handles = Vec::new();
    for _ in 0..16 {
        handles.push(fixture.another(ConnectOptions::default().connections(1)).await);
    }
    for round in 0..20 {
        let tasks: Vec<_> = (0..16)
            .map(|n| {
                let (queue, options) = (handles[n].clone(), key(&format!("round {round}")));
                tokio::spawn(
                    async move { queue.enqueue_with_outcome("tasks", n, options).await.expect("it is answered") },
                )
            })
            .collect();
        let mut told = Vec::new();
        for task in tasks {
            told.push(within("the answer", task).await.unwrap());
        }
        let inserted: Vec<_> = told.iter().filter(|one| matches!(one, Enqueued::Inserted(_))).collect();
        assert_eq!(inserted.len(), 1, "{told:?}");
        let winner = inserted[0].id();
        assert!(told.iter().all(|one| one.id() == winner), "{told:?}");
    }
    assert_eq!(fixture.number("select count(*) from pm.job"), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enqueuers_racing_with_workers_always_get_a_job_that_was_there() {
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
                    ids.push(queue.enqueue("tasks", n, key("the one")).await.expect("it is answered"));
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
    assert!(ids.len() > 1, "the key came free in between");
}

#[tokio::test]
async fn keys_hold_within_one_enqueue_of_many_too() {
    let fixture = Fixture::new().await;
    let jobs = (0..300u64).map(|n| (n, key(&format!("key {}", n % 3))));
    let told = fixture.queue.enqueue_many("tasks", jobs).await.unwrap();
    for (n, one) in told.iter().enumerate() {
        assert_eq!(one.id(), told[n % 3].id());
        assert_eq!(matches!(one, Enqueued::Inserted(_)), n < 3, "job {n}: {one:?}");
    }
    let payloads: HashSet<_> = fixture.column("select convert_from(payload, 'utf8') from pm.job").into_iter().collect();
    assert_eq!(payloads, ["0", "1", "2"].map(str::to_owned).into());
}
