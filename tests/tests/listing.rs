//! Lists and details show what is stored.

use pm_driver_tokio_postgres::{
    Codec, EnqueueOptions, ErrorKind, InitialState, JobFilter, RawPayload, RunAt, SettingsChange, State, Uuid,
};
use pm_tests::{Fixture, next};
use std::time::Duration;

async fn ids(fixture: &Fixture, filter: JobFilter) -> Vec<Uuid> {
    let jobs = fixture.queue.list_jobs(filter).await.expect("listing succeeds");
    jobs.into_iter().map(|job| job.id).collect()
}

/// Fills `tasks` and the paused queue `other` with jobs in all states; returns the ids in the order of [`State::ALL`].
async fn mixed(fixture: &Fixture) -> Vec<(State, Vec<Uuid>)> {
    let put = async |options| fixture.put_with(1, options).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", pm_tests::unattended().prefetch(1));
    let mut ended = Vec::new();
    for n in 0..5 {
        let id = put(EnqueueOptions::default()).await;
        let ack = next(&mut jobs).await.into_parts().1;
        match n {
            0..3 => ack.commit().await.expect("the lease is valid"),
            _ => ack.hard_fail("no").await.expect("the lease is valid"),
        }
        ended.push(id);
    }
    let in_progress = put(EnqueueOptions::default()).await;
    let job = next(&mut jobs).await;
    drop(jobs);
    // It stays in progress: its lease of twenty minutes outlasts the test.
    std::mem::forget(job);
    let waits = put(EnqueueOptions::default().run_at(RunAt::In(Duration::from_secs(3_600)))).await;
    let ready = put(EnqueueOptions::default()).await;
    let mut paused = vec![put(EnqueueOptions::default().initial_state(InitialState::Paused)).await];
    fixture.queue.create_queue("other", true).await.expect("it is new");
    for _ in 0..2 {
        paused.push(fixture.queue.enqueue("other", 1, EnqueueOptions::default()).await.expect("the job is enqueued"));
    }
    let failed = ended.split_off(3);
    let by_state = [vec![waits, ready], paused, vec![in_progress], ended, failed];
    State::ALL.into_iter().zip(by_state).collect()
}

#[tokio::test]
async fn jobs_are_listed_by_queue_and_state_newest_first() {
    let fixture = Fixture::new().await;
    let by_state = mixed(&fixture).await;
    let mut all: Vec<Uuid> = Vec::new();
    for (state, expected) in by_state {
        let mut expected = expected;
        all.extend(&expected);
        expected.sort_unstable();
        expected.reverse();
        assert_eq!(ids(&fixture, JobFilter::default().state(state)).await, expected, "{state}");
        let jobs = fixture.queue.list_jobs(JobFilter::default().state(state)).await.unwrap();
        assert!(jobs.iter().all(|job| job.state == state));
    }
    all.sort_unstable();
    all.reverse();
    assert_eq!(ids(&fixture, JobFilter::default()).await, all);
    assert_eq!(ids(&fixture, JobFilter::default().queue("other")).await.len(), 2);
    assert_eq!(ids(&fixture, JobFilter::default().queue("tasks")).await.len(), all.len() - 2);
    assert_eq!(ids(&fixture, JobFilter::default().queue("other").state(State::Paused)).await.len(), 2);
    assert!(ids(&fixture, JobFilter::default().queue("other").state(State::Failed)).await.is_empty());
    assert_eq!(fixture.queue.list_pending("tasks").await.unwrap().len(), 2);
    assert!(fixture.queue.list_pending("other").await.unwrap().is_empty(), "its jobs are paused");
}

#[tokio::test]
async fn jobs_in_progress_come_in_pages_too() {
    let fixture = Fixture::new().await;
    fixture.put_many(30).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", pm_tests::unattended());
    let taken = pm_tests::take(&mut jobs, 7).await;
    let mut expected: Vec<_> = taken.iter().map(|job| job.id()).collect();
    drop(jobs);
    expected.sort_unstable();
    expected.reverse();
    let filter = JobFilter::default().state(State::InProgress);
    let first = ids(&fixture, filter.clone().queue("tasks").limit(3)).await;
    let rest = ids(&fixture, filter.clone().after(first[2])).await;
    let listed = [first, rest].concat();
    assert!(expected.iter().all(|id| listed.contains(id)), "{listed:?}");
    assert!(listed.is_sorted_by(|a, b| a > b), "newest first, and none twice");
    fixture.queue.create_queue("other", false).await.unwrap();
    assert!(ids(&fixture, filter.queue("other")).await.is_empty());
}

#[tokio::test]
async fn a_long_list_comes_in_pages() {
    let fixture = Fixture::new().await;
    let mut expected = fixture.put_many(230).await;
    expected.sort_unstable();
    expected.reverse();
    assert_eq!(ids(&fixture, JobFilter::default()).await.len(), 100, "the default page");
    let mut listed = Vec::new();
    let mut filter = JobFilter::default().queue("tasks").limit(50);
    loop {
        let page = ids(&fixture, filter.clone()).await;
        let Some(last) = page.last().copied() else { break };
        assert!(page.len() <= 50);
        listed.extend(page);
        filter = filter.after(last);
    }
    assert_eq!(listed, expected);
    assert!(ids(&fixture, JobFilter::default().limit(0)).await.is_empty());
}

#[tokio::test]
async fn a_job_is_shown_with_all_its_fields() {
    let fixture = Fixture::with(SettingsChange::new().max_retries(3)).await;
    let options = EnqueueOptions::default().priority(-3).description("äöü 🐘").key("k").max_retries(7);
    let id = fixture.put_with(12_345, options).await;
    let job = fixture.job(id).await;
    assert_eq!((job.id, job.queue.as_str(), job.state, job.priority), (id, "tasks", State::Pending, -3));
    assert_eq!((job.attempt, job.retry_count, job.max_retries, job.codec), (0, 0, 7, Codec::Json));
    assert_eq!((job.description.as_deref(), job.key.as_deref()), (Some("äöü 🐘"), Some("k")));
    assert_eq!((job.reason, job.worker, job.lease, job.run_at, job.ended_at), (None, None, None, None, None));
    assert_eq!(job.payload_bytes, 5);
    assert!(job.created_at <= job.read_at);

    let worker = pm_tests::unattended().worker_name("Ada");
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", worker);
    let ack = next(&mut jobs).await.into_parts().1;
    let job = fixture.job(id).await;
    assert_eq!((job.state, job.attempt, job.worker.as_deref()), (State::InProgress, 1, Some("Ada")));
    assert_eq!(job.lease, Some(ack.lease().number));
    assert!(job.lease_expires_at.unwrap() > job.read_at);
    assert_eq!(fixture.queue.list_jobs(JobFilter::default()).await.unwrap()[0].lease, job.lease);
    ack.commit().await.unwrap();
}

#[tokio::test]
async fn a_payload_is_shown_as_it_is_stored() {
    let fixture = Fixture::new().await;
    let value = serde_json::json!({"a": [1, 2.5, null], "ä": "\u{0}x"});
    for codec in [Codec::Json, Codec::MessagePack] {
        let options = EnqueueOptions::default().codec(codec);
        let id = fixture.queue.enqueue("tasks", &value, options).await.unwrap();
        let stored = fixture.queue.payload(id).await.unwrap().unwrap();
        assert_eq!(stored.codec, codec);
        assert_eq!(fixture.job(id).await.payload_bytes, stored.bytes.len() as u64);
        let mut jobs = fixture.queue.try_stream_jobs::<serde_json::Value>("tasks");
        let (read, ack) = next(&mut jobs).await.into_parts();
        assert_eq!(read, value);
        ack.commit().await.unwrap();
    }
    let odd = RawPayload { codec: Codec::MessagePack, bytes: vec![0xc1, 0, 255].into() };
    let id = fixture.queue.enqueue("tasks", odd.clone(), EnqueueOptions::default()).await.unwrap();
    assert_eq!(fixture.queue.payload(id).await.unwrap(), Some(odd.clone()), "passed through unchanged");
    let mut jobs = fixture.queue.try_stream_jobs::<RawPayload>("tasks");
    let (read, ack) = next(&mut jobs).await.into_parts();
    assert_eq!(read, odd);
    ack.commit().await.unwrap();
    let empty = RawPayload { codec: Codec::Raw, bytes: Vec::new().into() };
    let id = fixture.queue.enqueue("tasks", empty.clone(), EnqueueOptions::default()).await.unwrap();
    assert_eq!(fixture.queue.payload(id).await.unwrap(), Some(empty));
}

#[tokio::test]
async fn a_payload_of_20_mb_goes_through() {
    let fixture = Fixture::new().await;
    let bytes: Vec<u8> = (0..20_000_000u32).map(|n| (n * 7 % 251) as u8).collect();
    let payload = RawPayload { codec: Codec::Raw, bytes: bytes.into() };
    let small = fixture.put(1).await;
    let id = fixture.queue.enqueue("tasks", payload.clone(), EnqueueOptions::default()).await.unwrap();
    assert_eq!(fixture.job(id).await.payload_bytes, 20_000_000);
    let mut jobs = fixture.queue.try_stream_jobs::<RawPayload>("tasks");
    let first = next(&mut jobs).await;
    assert_eq!(first.id(), small);
    let (read, ack) = next(&mut jobs).await.into_parts();
    assert!(read == payload, "the same bytes");
    ack.commit().await.unwrap();
    drop(first);
}

#[tokio::test]
async fn ids_are_found_by_suffixes_of_every_length() {
    let fixture = Fixture::new().await;
    let wanted = fixture.put_many(40).await[17];
    let digits = wanted.simple().to_string();
    for length in 1..=32 {
        let suffix = &digits[32 - length..];
        for found in [
            fixture.queue.resolve_ids(suffix).await.unwrap(),
            fixture.queue.resolve_ids_among_all(&suffix.to_uppercase()).await.unwrap(),
        ] {
            assert!(found.iter().all(|job| job.id.simple().to_string().ends_with(suffix)), "{suffix}: {found:?}");
            let this = found.iter().find(|job| job.id == wanted);
            let this = this.unwrap_or_else(|| panic!("{suffix} of length {length} does not find it"));
            assert_eq!((this.queue.as_str(), this.state), ("tasks", State::Pending));
        }
    }
    let hyphenated = fixture.queue.resolve_ids(&wanted.to_string()[20..]).await.unwrap();
    assert_eq!(hyphenated.len(), 1);
}

#[tokio::test]
async fn a_suffix_of_many_jobs_finds_eleven_and_one_of_none_finds_none() {
    let fixture = Fixture::new().await;
    let fill = "insert into pm.job (id, queue_id, priority, codec, payload, state)
                select ('01890000-0000-7000-8000-0000000' || lpad(n::text, 2, '0') || 'abc')::uuid, 1, 0, 0, '1', 2
                from generate_series(1, 30) n";
    fixture.database.execute(fill).unwrap();
    let found = fixture.queue.resolve_ids("abc").await.unwrap();
    assert_eq!(found.len(), 11, "ten to show, one to know that there are more");
    assert!(found.is_sorted_by(|a, b| a.id > b.id), "newest first");
    assert_eq!(fixture.queue.resolve_ids("07abc").await.unwrap().len(), 1);
    assert!(fixture.queue.resolve_ids("fff").await.unwrap().is_empty());
    assert!(fixture.queue.resolve_ids("0189-0000-0000-7000-8000-0000-0009-9abc").await.unwrap().is_empty());
    for bad in ["", "-", "xyz", "%", &"a".repeat(33)] {
        assert_eq!(fixture.queue.resolve_ids(bad).await.unwrap_err().kind(), ErrorKind::Invalid, "{bad:?}");
        assert_eq!(fixture.queue.resolve_ids_among_all(bad).await.unwrap_err().kind(), ErrorKind::Invalid, "{bad:?}");
    }
}

#[tokio::test]
async fn queues_are_listed_by_name_with_exact_counts() {
    let fixture = Fixture::new().await;
    assert!(fixture.queue.list_queues().await.unwrap()[0].counts.iter().all(|count| count.jobs == 0));
    mixed(&fixture).await;
    fixture.queue.create_queue("alone", false).await.unwrap();
    let queues = fixture.queue.list_queues().await.unwrap();
    assert_eq!(queues.iter().map(|queue| queue.name.as_str()).collect::<Vec<_>>(), ["alone", "other", "tasks"]);
    assert_eq!(queues.iter().map(|queue| queue.paused).collect::<Vec<_>>(), [false, true, false]);
    for queue in &queues {
        for (state, stored) in State::ALL.into_iter().zip([
            "0 and not (job.paused or queue.paused)",
            "0 and (job.paused or queue.paused)",
            "1",
            "2",
            "3",
        ]) {
            let sql = format!(
                "select count(*) from pm.job join pm.queue on queue.id = queue_id where name = '{}' and state = {stored}",
                queue.name
            );
            let count = queue.count(state);
            assert_eq!((count.jobs as i64, count.is_estimate), (fixture.number(&sql), false), "{} {state}", queue.name);
        }
    }
    assert_eq!(queues[2].counts.map(|count| count.jobs), [2, 1, 1, 3, 2]);
    assert_eq!(queues[1].counts.map(|count| count.jobs), [0, 2, 0, 0, 0]);
}

#[tokio::test]
async fn counts_beyond_ten_thousand_are_close_estimates() {
    let fixture = Fixture::new().await;
    let fill = "insert into pm.job (id, queue_id, priority, codec, payload, state, seq, ended_at, failed_at)
                select gen_random_uuid(), 1, 0, 0, '1', n % 4 / 2 * (2 + n % 2), case when n % 4 < 2 then nextval('pm.job_seq') end,
                       case when n % 4 >= 2 then now() end, case when n % 4 = 3 then now() end
                from generate_series(1, 60000) n";
    fixture.database.execute(fill).unwrap();
    let counts = fixture.queue.list_queues().await.unwrap()[0].counts.map(|count| count.jobs as i64);
    for (state, expected) in [(State::Pending, 30_000), (State::Finished, 15_000), (State::Failed, 15_000)] {
        let shown = counts[State::ALL.iter().position(|other| *other == state).unwrap()];
        assert!((shown - expected).abs() * 20 <= expected, "{state}: {shown}, not about {expected}");
    }
    assert_eq!(fixture.queue.pause_queue("tasks").await.unwrap(), 30_000, "pausing counts exactly");
}

#[tokio::test]
async fn a_list_is_as_long_as_its_limit() {
    let fixture = Fixture::new().await;
    fixture.put_many(5).await;
    for (limit, listed) in [(0, 0), (1, 1), (5, 5), (6, 5)] {
        assert_eq!(fixture.queue.list_jobs(JobFilter::default().limit(limit)).await.unwrap().len(), listed);
    }
    assert_eq!(fixture.queue.list_jobs(JobFilter::default()).await.unwrap().len(), 5);
}
