//! Statistics of queues and tables, on a real Postgres.

use pm_driver_tokio_postgres::{ConnectOptions, Count, EnqueueOptions, InitialState, QueueStats, RunAt, State};
use pm_tests::{Fixture, next, take, unattended};
use std::time::Duration;

fn exactly(jobs: u64) -> Count {
    Count { jobs, is_estimate: false }
}

async fn tasks(fixture: &Fixture) -> QueueStats {
    let stats = fixture.queue.stats().await.expect("reading the statistics succeeds");
    stats.queues.into_iter().find(|stats| stats.queue.name == "tasks").expect("the queue exists")
}

#[tokio::test]
async fn a_fresh_database_reports_only_its_tables() {
    let fixture = Fixture::without_queue().await;
    let stats = fixture.queue.stats().await.unwrap();
    assert_eq!((stats.queues, stats.window), (vec![], Duration::from_secs(300)));
    let names: Vec<_> = stats.tables.iter().map(|table| (table.name.as_str(), table.index_of.as_deref())).collect();
    for expected in [("job", None), ("queue", None), ("attempt", None), ("payload", None), ("job_line", Some("job"))] {
        assert!(names.contains(&expected), "{expected:?} is not among {names:?}");
    }
    let job = stats.tables.iter().position(|table| table.name == "job").unwrap();
    assert!(stats.tables[job + 1].index_of.is_some(), "indexes follow their table");
}

#[tokio::test]
async fn jobs_enqueued_and_ended_recently_are_counted() {
    let fixture = Fixture::new().await;
    assert_eq!(tasks(&fixture).await.oldest_waiting, None);
    fixture.put_many(6).await;
    fixture.put_with(6, EnqueueOptions::default().run_at(RunAt::In(Duration::from_secs(3_600)))).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended().prefetch(1));
    for n in 0..4 {
        let (_, ack) = next(&mut jobs).await.into_parts();
        match n {
            0..3 => ack.commit().await.unwrap(),
            _ => ack.hard_fail("no").await.unwrap(),
        }
    }
    drop(jobs);
    let stats = tasks(&fixture).await;
    assert_eq!((stats.enqueued, stats.finished, stats.failed), (exactly(7), exactly(3), exactly(1)));
    assert_eq!(stats.queue.count(State::Finished), exactly(3));
    let hour_ago = "update pm.job set created_at = created_at - interval '1 h', ended_at = ended_at - interval '1 h'";
    fixture.database.execute(hour_ago).unwrap();
    let stats = tasks(&fixture).await;
    assert_eq!((stats.enqueued, stats.finished, stats.failed), (exactly(0), exactly(0), exactly(0)));
    let longer = fixture.queue.activity(Duration::from_secs(7_200)).await.unwrap();
    assert_eq!((longer[0].enqueued, longer[0].finished, longer[0].failed), (exactly(7), exactly(3), exactly(1)));
}

#[tokio::test]
async fn the_age_of_the_oldest_ready_job_is_reported() {
    let fixture = Fixture::new().await;
    let age = async |id, minutes: u32| {
        let sql = format!("update pm.job set created_at = now() - interval '{minutes} min' where id = '{id}'");
        fixture.database.execute(&sql).unwrap();
    };
    let waits_min = async || tasks(&fixture).await.oldest_waiting.map(|waits| waits.as_secs() / 60);
    let paused = fixture.put_with(1, EnqueueOptions::default().initial_state(InitialState::Paused)).await;
    age(paused, 90).await;
    let later = fixture.put_with(1, EnqueueOptions::default().run_at(RunAt::In(Duration::from_secs(60)))).await;
    age(later, 80).await;
    assert_eq!(waits_min().await, None, "neither is ready");
    let urgent = fixture.put_with(1, EnqueueOptions::default().priority(9)).await;
    age(urgent, 5).await;
    let ordinary = fixture.put(1).await;
    age(ordinary, 30).await;
    assert_eq!(waits_min().await, Some(30), "whatever its priority");
    fixture.queue.pause_queue("tasks").await.unwrap();
    assert_eq!(waits_min().await, Some(30), "a paused queue's jobs wait too");
    fixture.queue.finish_jobs(&[ordinary]).await.unwrap();
    assert_eq!(waits_min().await, Some(5));
    fixture
        .database
        .execute(&format!("update pm.job set run_at = now() - interval '50 min' where id = '{later}'"))
        .unwrap();
    assert_eq!(waits_min().await, Some(50), "it is due and has no position yet");
}

/// Each statement may take 5 s: a hundred times what it needs, and a fraction of what it would need if it compared
/// every queue with every other.
#[tokio::test]
async fn ten_thousand_queues_are_served_and_listed() {
    const QUEUES: usize = 10_000;
    let fixture = Fixture::without_queue().await;
    let add = "insert into pm.queue (name) select 'q' || n from generate_series(1, 10000) n; \
               insert into pm.job (id, queue_id, priority, seq, codec, payload) \
               select gen_random_uuid(), id, 0, nextval('pm.job_seq'), 0, '1' from pm.queue; \
               insert into pm.job (id, queue_id, priority, run_at, codec, payload) \
               select gen_random_uuid(), id, 0, now() + interval '1 h', 0, '1' from pm.queue";
    fixture.database.execute(add).unwrap();
    let queue = fixture.another(ConnectOptions::default().statement_timeout(Duration::from_secs(5))).await;
    let mut jobs = queue.try_stream_jobs::<u64>((1..=QUEUES).map(|n| format!("q{n}")).collect::<Vec<_>>());
    let taken = take(&mut jobs, 100).await;
    let stats = queue.stats().await.unwrap();
    assert_eq!(stats.queues.len(), QUEUES);
    let pending = |stats: &QueueStats| stats.queue.count(State::Pending).jobs;
    let claimed = fixture.jobs_in(State::InProgress) as u64;
    assert!((100..=QUEUES as u64).contains(&claimed));
    assert!(stats.queues.iter().all(|stats| (1..=2).contains(&pending(stats))));
    drop(taken);
}

#[tokio::test]
async fn a_job_in_progress_does_not_wait() {
    let fixture = Fixture::new().await;
    fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let job = next(&mut jobs).await;
    assert_eq!(tasks(&fixture).await.oldest_waiting, None);
    drop(job);
}

/// 100,000 jobs take more pages than the sample.
#[tokio::test]
async fn rates_beyond_the_newest_jobs_are_close_estimates() {
    let fixture = Fixture::new().await;
    let fill = "insert into pm.job (id, queue_id, priority, codec, payload, state, created_at, ended_at, failed_at)
                select lpad(to_hex(n), 32, '0')::uuid, 1, 0, 0, convert_to(repeat('x', 300), 'UTF8'), 2 + (n % 5 / 4),
                       now() - interval '1 h', case when n % 2 = 0 then now() end, case when n % 5 = 4 then now() end
                from generate_series(1, 100000) n";
    fixture.database.execute(fill).unwrap();
    let pages = fixture.number("select pg_relation_size('pm.job') / 8192");
    assert!(pages > 2_000, "{pages} pages are no more than the sample has");
    let stats = tasks(&fixture).await;
    assert_eq!(stats.enqueued, exactly(0), "the newest are older than the window, so the others are too");
    for (count, expected) in [(stats.finished, 40_000i64), (stats.failed, 10_000)] {
        assert!(count.is_estimate, "{count:?}");
        let shown = i64::try_from(count.jobs).unwrap();
        assert!((shown - expected).abs() * 10 <= expected, "{shown} is not about {expected}");
    }
}
