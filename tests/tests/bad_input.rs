//! Bad input fails with a clear error of the right kind.

use futures_util::StreamExt;
use futures_util::future::join_all;
use pm_core::{MAX_PAYLOAD_BYTES, NewJob, job_id};
use pm_driver_tokio_postgres::{
    Codec, ConnectOptions, EnqueueOptions, Error, ErrorKind, InitialState, JobAck, JobFilter, QueueName, RawPayload,
    RunAt, SettingsChange, State, StreamOptions, Timestamp, connect,
};
use pm_tests::{Fixture, next, take, within};
use serde::Serialize;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

fn bad_names() -> [(String, &'static str); 7] {
    [
        (String::new(), "empty"),
        ("x".repeat(201), "201 bytes"),
        ("a\nb".to_owned(), "control"),
        ("a\0b".to_owned(), "control"),
        (" a".to_owned(), "blank"),
        ("a ".to_owned(), "blank"),
        (" ".to_owned(), "blank"),
    ]
}

#[track_caller]
fn assert_kind<T>(kind: ErrorKind, answer: Result<T, Error>) -> String {
    let error = answer.err().expect("it is refused");
    assert_eq!(error.kind(), kind, "{error}");
    error.to_string()
}

#[tokio::test]
async fn bad_queue_names_are_refused_everywhere_with_the_reason() {
    let Fixture { queue, database: _kept } = Fixture::without_queue().await;
    for (name, why) in bad_names() {
        let name = name.as_str();
        let filter = JobFilter::default().queue(name);
        let messages = [
            assert_kind(ErrorKind::Invalid, queue.create_queue(name, false).await),
            assert_kind(ErrorKind::Invalid, queue.pause_queue(name).await),
            assert_kind(ErrorKind::Invalid, queue.resume_queue(name).await),
            assert_kind(ErrorKind::Invalid, queue.queue_settings(name).await),
            assert_kind(ErrorKind::Invalid, queue.set_queue_settings(name, SettingsChange::new()).await),
            assert_kind(ErrorKind::Invalid, queue.list_jobs(filter).await),
            assert_kind(ErrorKind::Invalid, queue.list_pending(name).await),
            assert_kind(ErrorKind::Invalid, queue.enqueue(name, 1, EnqueueOptions::default()).await),
            assert_kind(ErrorKind::Invalid, queue.enqueue_many(name, [(1, EnqueueOptions::default())]).await),
            assert_kind(ErrorKind::Invalid, queue.try_stream_jobs::<u64>(name).next().await.expect("an error first")),
        ];
        assert!(messages.iter().all(|message| message.contains(why)), "{why}: {messages:?}");
    }
    assert!(queue.list_queues().await.unwrap().is_empty());
}

#[tokio::test]
async fn odd_but_good_queue_names_work() {
    let fixture = Fixture::without_queue().await;
    for name in ["x".repeat(200), "ä".repeat(100), "it's; drop table job --".to_owned(), "🐘 %s $1 \"q\"".to_owned()]
    {
        fixture.queue.create_queue(&name, false).await.unwrap();
        let id = fixture.queue.enqueue(&name, 1, EnqueueOptions::default()).await.unwrap();
        let mut jobs = fixture.queue.try_stream_jobs::<u64>(&name);
        let job = next(&mut jobs).await;
        assert_eq!((job.id(), &*job.metadata().queue), (id, name.as_str()));
        job.into_parts().1.commit().await.unwrap();
        assert_eq!(fixture.job(id).await.queue, name);
    }
}

#[tokio::test]
async fn an_unknown_queue_is_reported_by_name() {
    let Fixture { queue, database: _kept } = Fixture::new().await;
    let filter = JobFilter::default().queue("nowhere");
    let many = [(1, EnqueueOptions::default()), (2, EnqueueOptions::default())];
    for message in [
        assert_kind(ErrorKind::QueueNotFound, queue.enqueue("nowhere", 1, EnqueueOptions::default()).await),
        assert_kind(ErrorKind::QueueNotFound, queue.enqueue_many("nowhere", many).await),
        assert_kind(ErrorKind::QueueNotFound, queue.pause_queue("nowhere").await),
        assert_kind(ErrorKind::QueueNotFound, queue.resume_queue("nowhere").await),
        assert_kind(ErrorKind::QueueNotFound, queue.queue_settings("nowhere").await),
        assert_kind(ErrorKind::QueueNotFound, queue.set_queue_settings("nowhere", SettingsChange::new()).await),
        assert_kind(ErrorKind::QueueNotFound, queue.list_jobs(filter).await),
        assert_kind(ErrorKind::QueueNotFound, queue.list_pending("nowhere").await),
    ] {
        assert!(message.contains("\"nowhere\""), "{message}");
    }
}

#[tokio::test]
async fn a_stream_of_an_unknown_queue_reports_it_once_and_ends() {
    let fixture = Fixture::new().await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("nowhere");
    let message = assert_kind(ErrorKind::QueueNotFound, within("the error", jobs.next()).await.unwrap());
    assert!(message.contains("\"nowhere\""), "{message}");
    assert!(within("the end", jobs.next()).await.is_none());
    assert!(within("the end, again", jobs.next()).await.is_none());
}

#[tokio::test]
async fn a_stream_goes_on_with_the_queues_that_exist() {
    let fixture = Fixture::new().await;
    fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>(["nowhere", "tasks"]);
    assert_kind(ErrorKind::QueueNotFound, within("the error", jobs.next()).await.unwrap());
    next(&mut jobs).await.into_parts().1.commit().await.unwrap();
    fixture.put(2).await;
    next(&mut jobs).await.into_parts().1.commit().await.unwrap();
}

#[tokio::test]
async fn a_stream_of_no_queue_is_refused() {
    let fixture = Fixture::new().await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>(Vec::<String>::new());
    assert_kind(ErrorKind::Invalid, jobs.next().await.unwrap());
    assert!(jobs.next().await.is_none());
}

#[tokio::test]
async fn texts_that_cannot_be_stored_are_refused_before_anything_is_sent() {
    let fixture = Fixture::new().await;
    let options = EnqueueOptions::default;
    for (options, why) in [
        (options().description("a\0b"), "NUL"),
        (options().description("x".repeat(8 * 1024 + 1)), "8193 bytes"),
        (options().key("a\0b"), "NUL"),
        (options().key(""), "empty"),
        (options().key("x".repeat(1_001)), "1001 bytes"),
        (options().backoff(vec![]), "1 to 64"),
        (options().backoff(vec![Duration::from_secs(u64::MAX)]), "ten years"),
        (options().max_retries(u32::MAX), "million"),
        (options().jitter_percent(101), "100%"),
    ] {
        let message = assert_kind(ErrorKind::Invalid, fixture.queue.enqueue("tasks", 1, options).await);
        assert!(message.contains(why), "{why}: {message}");
    }
    assert_eq!(fixture.number("select count(*) from pm.job"), 0);
}

#[tokio::test]
async fn a_time_that_the_database_cannot_store_is_refused() {
    let fixture = Fixture::new().await;
    for run_at in [
        RunAt::At(Timestamp::INFINITY),
        RunAt::At(Timestamp::NEG_INFINITY),
        RunAt::At(Timestamp::from_unix_us(i64::MAX - 1)),
        RunAt::At(Timestamp::from_unix_us(i64::MIN + 1)),
        RunAt::In(Duration::MAX),
        RunAt::In(Duration::from_secs(400_000 * 366 * 86_400)),
    ] {
        let options = EnqueueOptions::default().run_at(run_at);
        assert_kind(ErrorKind::Invalid, fixture.queue.enqueue("tasks", 1, options).await);
    }
    fixture.put(2).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    next(&mut jobs).await.into_parts().1.commit().await.unwrap();
}

#[tokio::test]
async fn a_due_time_of_infinity_put_in_by_sql_does_not_stop_the_workers() {
    let fixture = Fixture::new().await;
    let never = fixture.put_with(1, EnqueueOptions::default().run_at(RunAt::In(Duration::from_secs(60)))).await;
    fixture.database.execute("update pm.job set run_at = 'infinity'").unwrap();
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    for n in 0..3 {
        let id = fixture.put(n).await;
        let job = next(&mut jobs).await;
        assert_eq!(job.id(), id);
        job.into_parts().1.commit().await.unwrap();
    }
    assert_eq!(fixture.job(never).await.run_at, Some(Timestamp::INFINITY));
}

/// Every timeout, at both limits, on both drivers: refused with a clear error, or accepted by the server unchanged.
#[tokio::test]
async fn timeouts_that_the_server_would_not_take_are_refused_by_name() {
    type Change = fn(ConnectOptions, Duration) -> ConnectOptions;
    const TIMEOUTS: [(&str, Change); 3] = [
        ("connect_timeout", ConnectOptions::connect_timeout),
        ("statement_timeout", ConnectOptions::statement_timeout),
        ("lock_timeout", ConnectOptions::lock_timeout),
    ];
    const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);
    let fixture = Fixture::new().await;
    let url = fixture.database.url();
    for (name, change) in TIMEOUTS {
        let past_the_end = LONGEST + Duration::from_millis(1);
        for bad in [Duration::ZERO, Duration::from_nanos(999_999), past_the_end, Duration::MAX] {
            let options = change(ConnectOptions::default(), bad);
            let errors = [
                pm_driver_tokio_postgres::connect_with(&url, options.clone()).await.unwrap_err(),
                pm_driver_sqlx::connect_with(&url, options).await.unwrap_err(),
            ];
            for error in errors {
                assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
                assert!(error.to_string().contains(name) && error.to_string().contains("24.8 days"), "{error}");
            }
        }
        let options = change(ConnectOptions::default(), LONGEST);
        pm_driver_tokio_postgres::connect_with(&url, options.clone()).await.unwrap().list_queues().await.unwrap();
        pm_driver_sqlx::connect_with(&url, options).await.unwrap().list_queues().await.unwrap();
    }
}

#[tokio::test]
async fn durations_longer_than_any_calendar_mean_for_ever() {
    let fixture = Fixture::new().await;
    let id = fixture.put(1).await;
    for window in [Duration::from_secs(1 << 40), Duration::MAX] {
        assert_eq!(fixture.queue.activity(window).await.unwrap()[0].enqueued.jobs, 1);
        fixture.queue.doctor(window).await.unwrap();
    }
    let other = fixture.another(ConnectOptions::default()).await;
    let never = StreamOptions::default().poll(Duration::MAX, Duration::MAX).idle_poll(Duration::MAX);
    let mut jobs = other.try_stream_jobs_with::<u64>("tasks", never);
    let job = next(&mut jobs).await;
    assert_eq!(job.id(), id);
    job.into_parts().1.commit().await.unwrap();
}

#[tokio::test]
async fn a_workers_name_is_stored_as_far_as_possible() {
    let fixture = Fixture::new().await;
    for (name, kept) in [("a\0b", "a\u{fffd}b".to_owned()), (&"é".repeat(50_000), "é".repeat(100))] {
        let id = fixture.put(1).await;
        let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", StreamOptions::default().worker_name(name));
        let job = next(&mut jobs).await;
        assert_eq!(fixture.job(id).await.worker, Some(kept));
        job.into_parts().1.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_nul_in_a_reason_is_replaced_and_a_long_one_cut_between_characters() {
    let fixture = Fixture::with(SettingsChange::new().backoff(vec![Duration::from_secs(3_600)])).await;
    fixture.put_many(2).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let ack = next(&mut jobs).await.into_parts().1;
    let id = ack.id();
    ack.soft_fail("a\0b").await.unwrap();
    assert_eq!(fixture.reason(id).await, "a\u{fffd}b");

    let ack = next(&mut jobs).await.into_parts().1;
    let id = ack.id();
    ack.hard_fail("ä".repeat(10_000)).await.unwrap();
    assert_eq!(fixture.reason(id).await, "ä".repeat(4_096));
    assert_eq!(fixture.queue.attempts(id).await.unwrap()[0].reason, Some("ä".repeat(4_096)));
}

#[tokio::test]
async fn a_payload_of_another_type_delays_its_job_with_the_decoders_message() {
    let fixture = Fixture::with(SettingsChange::new().backoff(vec![Duration::from_secs(3_600)])).await;
    let bad = fixture.queue.enqueue("tasks", "seven", EnqueueOptions::default()).await.unwrap();
    let good = fixture.put(7).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let message = assert_kind(ErrorKind::Payload, within("the error", jobs.next()).await.unwrap());
    assert!(message.contains(&bad.to_string()), "{message}");
    let job = next(&mut jobs).await;
    assert_eq!((job.id(), *job.payload()), (good, 7));
    job.into_parts().1.commit().await.unwrap();
    within("the end", fixture.queue.close()).await;

    let other = fixture.another(Default::default()).await;
    let job = other.job(bad).await.unwrap();
    assert_eq!((job.state, job.retry_count), (State::Pending, 0), "a later deployment can still run it");
    let reason = job.reason.unwrap();
    assert!(reason.contains("invalid type: string") && reason.contains("u64"), "{reason}");
}

#[derive(Serialize)]
struct Unreadable {
    a: u32,
}

#[tokio::test]
async fn the_raw_codec_takes_bytes_and_refuses_structs() {
    let fixture = Fixture::new().await;
    let raw = || EnqueueOptions::default().codec(Codec::Raw);
    assert_kind(ErrorKind::Payload, fixture.queue.enqueue("tasks", Unreadable { a: 1 }, raw()).await);
    let bytes = vec![0u8, 255, 10];
    let id = fixture.queue.enqueue("tasks", &bytes, raw()).await.unwrap();
    let stored = RawPayload { codec: Codec::Raw, bytes: bytes.clone().into() };
    assert_eq!(fixture.queue.payload(id).await.unwrap(), Some(stored));
    let mut jobs = fixture.queue.try_stream_jobs::<Vec<u8>>("tasks");
    let (got, ack) = next(&mut jobs).await.into_parts();
    assert_eq!(got, bytes);
    ack.commit().await.unwrap();
}

#[test]
fn a_payload_over_the_limit_is_refused_before_it_is_sent() {
    let job = |size| NewJob {
        id: job_id(0, [0; 10]),
        queue: QueueName::new("tasks").expect("the name is valid"),
        payload: vec![0; size].into(),
        options: EnqueueOptions::default(),
    };
    assert_eq!(MAX_PAYLOAD_BYTES, 1_000_000_000);
    assert!(matches!(job(MAX_PAYLOAD_BYTES + 1).check(), Err(pm_core::Error::Invalid { .. })));
    assert_eq!(job(1_000).check(), Ok(()));
}

#[tokio::test]
async fn a_server_that_is_down_is_reported_within_5_s_without_the_password() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses =
        [unused.to_string(), silent.local_addr().unwrap().to_string(), "no-such-host.invalid:5432".to_owned()];
    for address in addresses {
        let start = Instant::now();
        let error = connect(&format!("postgres://me:s3cret@{address}/db")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(start.elapsed() < Duration::from_millis(5_800), "{:?} for {address}", start.elapsed());
        assert!(error.to_string().contains(&address), "{error}");
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
    }
}

#[tokio::test]
async fn a_missing_unix_socket_is_reported_by_its_directory() {
    let error = connect("postgres://me:s3cret@%2Fnowhere%2Fat-all/db").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("/nowhere/at-all"), "{error}");
    assert!(!error.to_string().contains("s3cret"));
}

#[tokio::test]
async fn a_bad_url_is_refused_without_its_password() {
    for url in ["nonsense", "http://me:s3cret@host/db", "postgres://me:s3cret@host:port/db", "postgres://a b:s3cret@[/"]
    {
        let error = connect(url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{url:?}: {error}");
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
    }
}

#[tokio::test]
async fn a_missing_database_or_role_is_reported_with_the_servers_message() {
    let fixture = Fixture::new().await;
    let url = fixture.database.url();
    let error = connect(&url.replace(fixture.database.name(), "no_such_database")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Database);
    assert!(error.to_string().contains("no_such_database"), "{error}");
    let error = connect(&url.replace("postgres@", "no_such_role@")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Database);
    assert!(error.to_string().contains("no_such_role"), "{error}");
}

#[tokio::test]
async fn settings_out_of_range_are_refused() {
    let Fixture { queue, database: _kept } = Fixture::new().await;
    let before = queue.queue_settings("tasks").await.unwrap();
    for change in [
        SettingsChange::new().lease(Duration::from_millis(99)),
        SettingsChange::new().lease(Duration::MAX),
        SettingsChange::new().retain(Some(Duration::from_secs(59))),
        SettingsChange::new().backoff(vec![]),
        SettingsChange::new().max_retries(u32::MAX),
        SettingsChange::new().jitter_percent(101),
    ] {
        assert_kind(ErrorKind::Invalid, queue.set_queue_settings("tasks", change).await);
    }
    assert_eq!(queue.queue_settings("tasks").await.unwrap(), before);
}

#[tokio::test]
async fn a_job_that_does_not_exist_is_reported_by_its_id() {
    let Fixture { queue, database: _kept } = Fixture::new().await;
    let id = job_id(1, [7; 10]);
    assert_eq!(queue.get_job(id).await.unwrap(), None);
    assert_eq!(queue.payload(id).await.unwrap(), None);
    assert!(queue.attempts(id).await.unwrap().is_empty());
    let message = assert_kind(ErrorKind::JobNotFound, queue.job(id).await);
    assert!(message.contains(&id.to_string()), "{message}");
}

#[tokio::test]
async fn an_unknown_queue_is_reported_whatever_the_initial_state() {
    let fixture = Fixture::new().await;
    for state in [InitialState::Auto, InitialState::Pending, InitialState::Paused] {
        let options = EnqueueOptions::default().initial_state(state);
        let error = fixture.queue.enqueue("nowhere", 1u64, options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::QueueNotFound, "{state:?}");
    }
}

/// A job that a trigger of the user drops is not reported as enqueued; the others of its batch are, and are in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_a_trigger_drops_is_not_reported_as_enqueued() {
    const JOBS: usize = 50;
    let fixture = Fixture::new().await;
    fixture
        .database
        .execute(
            "create function drop_it() returns trigger language plpgsql as $$ begin return null; end $$;
             create trigger bad before insert on pm.job for each row when (new.description = 'poison') execute function drop_it();",
        )
        .unwrap();
    let description = |n| if n == JOBS / 2 { "poison" } else { "food" };
    let put = |n| fixture.put_with_outcome(n as u64, EnqueueOptions::default().description(description(n)));
    for (n, outcome) in within("all enqueues", join_all((0..JOBS).map(put))).await.into_iter().enumerate() {
        assert_eq!(outcome.is_ok(), n != JOBS / 2, "{n}: {outcome:?}");
    }
    assert_eq!(fixture.jobs_in(State::Pending), JOBS as i64 - 1);
}

/// An item that the database refuses for good fails alone, in a batch of enqueues or of settlements.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_item_does_not_fail_its_neighbours() {
    const JOBS: usize = 200;
    let fixture = Fixture::new().await;
    fixture
        .database
        .execute(
            "create function refuse() returns trigger language plpgsql as
             $$ begin raise exception 'poison is refused here'; end $$;
             create trigger bad before insert on pm.job for each row when (new.description = 'poison') execute function refuse();
             create trigger worse before update on pm.job for each row when (new.reason = 'poison') execute function refuse();",
        )
        .unwrap();
    let description = |n| if n == JOBS / 2 { "poison" } else { "food" };
    let put = |n| fixture.put_with_outcome(n as u64, EnqueueOptions::default().description(description(n)));
    for (n, outcome) in within("all enqueues", join_all((0..JOBS).map(put))).await.into_iter().enumerate() {
        match outcome {
            Ok(_) => assert_ne!(n, JOBS / 2),
            Err(error) => {
                assert_eq!(n, JOBS / 2, "{error}");
                assert!(
                    error.kind() == ErrorKind::Database && error.to_string().contains("poison is refused"),
                    "{error}"
                );
            }
        }
    }
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let taken = take(&mut jobs, JOBS - 1).await;
    let poisoned = taken[70].id();
    let settle = |ack: JobAck| {
        if ack.id() == poisoned { ack.hard_fail("poison") } else { ack.hard_fail("food") }
    };
    let settlements: Vec<_> =
        taken.into_iter().map(|job| job.into_parts().1).map(|ack| (ack.id(), settle(ack))).collect();
    for (id, settlement) in settlements {
        assert_eq!(within("the answer", settlement).await.is_ok(), id != poisoned);
    }
    assert_eq!((fixture.jobs_in(State::Failed), fixture.jobs_in(State::InProgress)), (JOBS as i64 - 2, 1));
}
