//! Payloads of every codec and size come out as they went in, and are stored once.

use pm_core::op::{CopyJob, FetchJob};
use pm_core::{Lease, NewJob, QueueName};
use pm_driver_tokio_postgres::{Codec, ConnectOptions, EnqueueOptions, OnConflict, Queue, RawPayload, State, Uuid};
use pm_tests::{Direct, Fixture, LOCK_WAITS, Seed, eventually, run_in, unattended};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use std::collections::BTreeMap;
use std::time::Duration;

const LARGE: usize = 100 << 20;
/// Enough for 100 MB in a debug build on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Returns bytes that do not compress.
fn noise(length: usize, seed: &mut Seed) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&seed.next_u64().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Returns bytes that compress well, and no two pages of them the same.
fn pattern(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    for (page, bytes) in bytes.chunks_mut(4_096).enumerate() {
        let (first, rest) = bytes.split_at_mut(bytes.len().min(8));
        first.copy_from_slice(&page.to_le_bytes()[..first.len()]);
        rest.fill(page as u8);
    }
    bytes
}

/// Enqueues a payload, and returns the payload that a stream hands out, after committing the job.
async fn through<T: Serialize, U: DeserializeOwned + 'static>(
    fixture: &Fixture,
    codec: Codec,
    payload: T,
) -> (U, Uuid) {
    let options = EnqueueOptions::default().codec(codec);
    let start = std::time::Instant::now();
    let id = fixture.queue.enqueue("tasks", payload, options).await.expect("the job is enqueued");
    let put = start.elapsed();
    let mut jobs = fixture.queue.try_stream_jobs_with::<U>("tasks", unattended());
    let next = tokio::time::timeout(TIMEOUT, futures_util::StreamExt::next(&mut jobs)).await;
    let (payload, ack) = next.expect("in time").expect("the stream goes on").expect("it is read").into_parts();
    println!("in after {put:?}, out after {:?}", start.elapsed() - put);
    assert_eq!(ack.id(), id);
    ack.commit().await.unwrap();
    assert_eq!(fixture.state(id).await, State::Finished);
    (payload, id)
}

/// Fails without printing 100 MB.
fn assert_same(one: &[u8], other: &[u8]) {
    assert_eq!(one.len(), other.len());
    let differs = one.iter().zip(other).position(|(one, other)| one != other);
    assert_eq!(differs, None, "the index of the first difference");
}

#[tokio::test]
async fn a_json_text_of_100_mb_goes_through_byte_for_byte() {
    let fixture = Fixture::new().await;
    let letters = pattern(LARGE).into_iter().map(|byte| char::from(b' ' + byte % 90).to_ascii_lowercase());
    let text: String = letters.collect();
    let (back, id) = through::<_, String>(&fixture, Codec::Json, &text).await;
    assert_same(back.as_bytes(), text.as_bytes());
    assert!(fixture.job(id).await.payload_bytes > LARGE as u64);
}

#[tokio::test]
async fn a_message_pack_of_100_mb_goes_through_byte_for_byte_without_growing() {
    #[derive(Serialize, Deserialize)]
    struct Scan {
        name: String,
        #[serde(with = "serde_bytes")]
        pixels: Vec<u8>,
    }
    let fixture = Fixture::new().await;
    let scan = Scan { name: "page 1".to_owned(), pixels: pattern(LARGE) };
    let (back, id) = through::<_, Scan>(&fixture, Codec::MessagePack, &scan).await;
    assert_eq!(back.name, "page 1");
    assert_same(&back.pixels, &scan.pixels);
    let stored = fixture.job(id).await.payload_bytes;
    assert!(stored < LARGE as u64 + 100, "{stored} bytes for {LARGE} and two names");
}

#[tokio::test]
async fn raw_bytes_of_100_mb_go_through_byte_for_byte_without_growing() {
    let fixture = Fixture::new().await;
    let bytes = ByteBuf::from(noise(LARGE, &mut Seed::from_environment()));
    let (back, id) = through::<_, ByteBuf>(&fixture, Codec::Raw, &bytes).await;
    assert_same(&back, &bytes);
    assert_eq!(fixture.job(id).await.payload_bytes, LARGE as u64);
}

#[tokio::test]
async fn a_copy_shares_its_payload_and_the_last_delete_frees_it() {
    const SIZE: usize = 10 << 20;
    const COPIES: usize = 5;
    let fixture = Fixture::new().await;
    fixture.queue.create_queue("other", true).await.unwrap();
    let megabytes = || {
        fixture.database.execute("vacuum full pm.job").unwrap();
        fixture.database.execute("vacuum full pm.payload").unwrap();
        fixture.number("select (pg_total_relation_size('pm.job') + pg_total_relation_size('pm.payload')) >> 20")
    };
    // A running autovacuum still sees dead rows, which then stay.
    let assert_megabytes = async |expected: i64, why: &str| {
        eventually(why, TIMEOUT, async || megabytes() == expected).await;
    };
    let bytes = ByteBuf::from(noise(SIZE, &mut Seed::from_environment()));
    let options = EnqueueOptions::default().codec(Codec::Raw);
    let mut ids = vec![fixture.queue.enqueue("tasks", &bytes, options).await.unwrap()];
    assert_megabytes(10, "one job").await;
    for _ in 0..COPIES {
        ids.push(fixture.queue.copy_job(ids[0], "other", EnqueueOptions::default()).await.unwrap());
    }
    assert_megabytes(10, "six jobs, one payload").await;
    for id in &ids {
        let payload = fixture.queue.payload(*id).await.unwrap().expect("the job exists");
        assert_same(&payload.bytes, &bytes);
    }
    // The source is handed out like any other job.
    let job = fixture.queue.fetch_job::<ByteBuf>(ids[0]).await.unwrap().expect("it is ready");
    assert_same(job.payload(), &bytes);
    job.into_parts().1.commit().await.unwrap();

    let last = ids.pop().unwrap();
    assert_eq!(fixture.queue.delete_jobs(&ids).await.unwrap(), COPIES as u64);
    assert_megabytes(10, "the last copy still refers to it").await;
    assert_same(&fixture.queue.payload(last).await.unwrap().unwrap().bytes, &bytes);
    assert_eq!(fixture.queue.delete_queue("other").await.unwrap(), 1);
    assert_megabytes(0, "nothing is left").await;
    assert_eq!(fixture.number("select count(*) from pm.payload"), 0, "no orphan row");
}

#[tokio::test]
async fn pruning_frees_a_shared_payload_with_its_last_job() {
    let fixture = Fixture::new().await;
    let minute = pm_driver_tokio_postgres::SettingsChange::new().retain(Some(Duration::from_secs(60)));
    fixture.queue.set_queue_settings("tasks", minute).await.unwrap();
    let first = fixture.put(1).await;
    let second = fixture.queue.copy_job(first, "tasks", EnqueueOptions::default()).await.unwrap();
    fixture.queue.finish_jobs(&[first]).await.unwrap();
    let age = "update pm.job set ended_at = ended_at - interval '2 min' where ended_at is not null";
    fixture.database.execute(age).unwrap();
    assert_eq!(fixture.queue.prune().await.unwrap(), 1);
    assert_eq!(fixture.number("select refs from pm.payload"), 1);
    fixture.queue.finish_jobs(&[second]).await.unwrap();
    fixture.database.execute(age).unwrap();
    assert_eq!(fixture.queue.prune().await.unwrap(), 1);
    assert_eq!(fixture.number("select count(*) from pm.payload"), 0);
}

/// The payload becomes shared while an operation that releases it waits, so it is younger than that snapshot.
#[tokio::test]
async fn a_payload_shared_at_the_last_moment_is_freed_with_its_last_job() {
    let fixture = Fixture::new().await;
    let replacing = EnqueueOptions::default().key("k").on_conflict(OnConflict::Replace);
    for replaces in [false, true] {
        let source = fixture.put_with(1, replacing.clone()).await;
        let mut direct = Direct::to(&fixture.database.url()).await;
        let transaction = direct.client.transaction().await.unwrap();
        let (id, queue) = (Uuid::from_u128(1), QueueName::new("tasks").unwrap());
        let job = NewJob { id, queue, payload: "".into(), options: EnqueueOptions::default() };
        run_in(&transaction, CopyJob { source, job }).await;
        let queue = fixture.queue.clone();
        let options = replacing.clone();
        let releasing = tokio::spawn(async move {
            match replaces {
                true => drop(queue.enqueue("tasks", 2u64, options).await.unwrap()),
                false => assert_eq!(queue.delete_jobs(&[source]).await.unwrap(), 1),
            }
        });
        match replaces {
            true => eventually("it waits", TIMEOUT, async || fixture.number(LOCK_WAITS) > 0).await,
            // The deletion skips the locked job and tries again and again.
            false => tokio::time::sleep(Duration::from_millis(200)).await,
        }
        assert!(!releasing.is_finished());
        transaction.commit().await.unwrap();
        releasing.await.unwrap();
        assert_eq!(fixture.number("select refs from pm.payload"), 1);
        assert_eq!(fixture.queue.payload(id).await.unwrap().unwrap().bytes.as_ref(), b"1");
        fixture.queue.delete_jobs(&[id]).await.unwrap();
        assert_eq!(fixture.number("select count(*) from pm.payload"), 0);
    }
}

/// The payload becomes shared after a fetch has read the job, and before it locks it.
#[tokio::test]
async fn a_fetch_during_the_first_copy_returns_the_payload_too() {
    let fixture = Fixture::new().await;
    let source = fixture.put(1).await;
    let role = format!("{}_waiting", fixture.database.name());
    let mut waiting = Direct::to(&fixture.database.url()).await;
    // To read a job, this role waits for the session that has the advisory lock.
    let setup = format!(
        "create function pm.wait() returns bool language plpgsql as 'begin perform pg_advisory_lock_shared(1); return true; end';
         alter table pm.job enable row level security;
         create role {role}; grant all on schema pm to {role}; grant all on all tables in schema pm to {role};
         create policy waits on pm.job to {role} using (pm.wait());
         set role {role}"
    );
    waiting.client.batch_execute(&setup).await.unwrap();
    let holder = Direct::to(&fixture.database.url()).await;
    holder.client.batch_execute("select pg_advisory_lock(1)").await.unwrap();

    let fetch = FetchJob { lease: Lease { job: source, number: 1 }, worker: "waiting".to_owned() };
    let fetching = tokio::spawn(async move {
        let transaction = waiting.client.transaction().await.unwrap();
        let fetched = run_in(&transaction, fetch).await;
        transaction.commit().await.unwrap();
        fetched
    });
    eventually("it waits", TIMEOUT, async || fixture.number(LOCK_WAITS) > 0).await;
    fixture.queue.copy_job(source, "tasks", EnqueueOptions::default()).await.unwrap();
    holder.client.batch_execute("select pg_advisory_unlock(1)").await.unwrap();
    match fetching.await.unwrap() {
        Some((taken, ..)) => assert_eq!(taken.job.payload().as_ref(), b"1"),
        None => {
            let job = fixture.queue.fetch_job::<u64>(source).await.unwrap().expect("it is ready");
            assert_eq!(*job.payload(), 1);
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    #[serde(with = "serde_bytes")]
    photo: Vec<u8>,
    customer: Option<String>,
    lines: BTreeMap<String, (u64, f64, i128)>,
    state: Progress,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Progress {
    New,
    Sent { at: i64 },
    Back(String, bool),
}

fn orders() -> Vec<Order> {
    let line = |name: &str| (name.to_owned(), (u64::MAX, 0.1, -1));
    let order = |customer: Option<&str>, state| Order {
        photo: vec![0, 0xFF, b'"', b'\\', 0x80],
        customer: customer.map(str::to_owned),
        lines: BTreeMap::from([line("tea"), line("naïve \u{1F469}\u{200D}\u{1F680}"), line("")]),
        state,
    };
    vec![
        order(None, Progress::New),
        order(Some("NUL \0, quote \", line\nbreak, \u{7f}\u{feff}"), Progress::Sent { at: i64::MIN }),
        order(Some("Zoë 東京 مرحبا 🦀 e\u{301}"), Progress::Back("\u{10FFFF}".to_owned(), true)),
    ]
}

#[tokio::test]
async fn structs_enums_and_unicode_come_out_of_both_codecs_as_they_went_in() {
    let fixture = Fixture::new().await;
    for codec in [Codec::Json, Codec::MessagePack] {
        for order in orders() {
            assert_eq!(through::<_, Order>(&fixture, codec, &order).await.0, order, "{codec:?}");
        }
        assert_eq!(through::<_, Vec<Order>>(&fixture, codec, orders()).await.0, orders(), "{codec:?}");
        through::<_, ()>(&fixture, codec, ()).await;
    }
}

#[tokio::test]
async fn unicode_is_kept_in_every_text_of_a_job() {
    let fixture = Fixture::without_queue().await;
    let text = "Zoë 東京 🦀 e\u{301}";
    fixture.queue.create_queue(text, false).await.unwrap();
    let options = EnqueueOptions::default().description(text).key(text);
    let id = fixture.queue.enqueue(text, text, options).await.unwrap();
    let job = fixture.queue.fetch_job::<String>(id).await.unwrap().expect("it is ready");
    assert_eq!((job.payload().as_str(), job.metadata().queue.as_ref()), (text, text));
    job.into_parts().1.hard_fail(text).await.unwrap();
    let job = fixture.job(id).await;
    assert_eq!(
        (job.description.as_deref(), job.key.as_deref(), job.reason.as_deref()),
        (Some(text), Some(text), Some(text))
    );
}

#[tokio::test]
async fn a_raw_payload_passes_through_whatever_its_codec() {
    let fixture = Fixture::new().await;
    let order = orders().pop().unwrap();
    for codec in [Codec::Json, Codec::MessagePack] {
        // The options name another codec; the payload has its own.
        let (raw, first) = through::<_, RawPayload>(&fixture, codec, &order).await;
        assert_eq!(raw.codec, codec);
        let (back, second) = through::<_, Order>(&fixture, Codec::Raw, &raw).await;
        assert_eq!(back, order);
        assert_ne!(first, second);
        assert_eq!(fixture.queue.payload(second).await.unwrap(), Some(raw));
    }
    let raw = RawPayload { codec: Codec::Raw, bytes: (&[0u8, 1, 0xFF][..]).into() };
    assert_eq!(through::<_, RawPayload>(&fixture, Codec::Json, &raw).await.0, raw);
    assert_eq!(through::<_, ByteBuf>(&fixture, Codec::Json, &raw).await.0, [0, 1, 0xFF]);
}

#[tokio::test]
async fn a_json_payload_can_be_read_and_written_in_sql() {
    let fixture = Fixture::new().await;
    let id = fixture.queue.enqueue("tasks", orders().pop().unwrap(), EnqueueOptions::default()).await.unwrap();
    let customer = "select convert_from(payload, 'UTF8')::jsonb ->> 'customer' from pm.job";
    assert_eq!(fixture.column(customer), [orders().pop().unwrap().customer.unwrap()]);
    let write = "update pm.job set payload = convert_to('{\"to\": \"Ada\"}', 'UTF8')";
    fixture.database.execute(write).unwrap();
    let job = fixture.queue.fetch_job::<BTreeMap<String, String>>(id).await.unwrap().expect("it is ready");
    assert_eq!(job.payload()["to"], "Ada");
}

#[tokio::test]
async fn unreadable_since_is_kept_until_a_handler_has_read_the_payload() {
    let fixture = Fixture::new().await;
    fixture.put(1).await;
    let set = "update pm.job set unreadable_since = now() - interval '3 hours'";
    let is_set = || fixture.number("select count(*) from pm.job where unreadable_since < now() - interval '2 hours'");
    fixture.database.execute(set).unwrap();
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    pm_tests::next(&mut jobs).await.into_parts().1.release().await.unwrap();
    assert_eq!(is_set(), 1, "a released job has not been read");
    pm_tests::next(&mut jobs).await.into_parts().1.soft_fail("no").await.unwrap();
    assert_eq!(is_set(), 0);
}

#[tokio::test]
async fn concurrent_copies_are_all_counted_as_sharers() {
    let fixture = Fixture::new().await;
    let source = fixture.put(7).await;
    let copy = |queue: Queue| {
        tokio::spawn(async move { queue.copy_job(source, "tasks", EnqueueOptions::default()).await.unwrap() })
    };
    let mut direct = Direct::to(&fixture.database.url()).await;
    // Both copies wait for the row, each with a snapshot in which the payload is not shared yet.
    let transaction = direct.client.transaction().await.unwrap();
    transaction.batch_execute("select from pm.job for update").await.unwrap();
    let copies = [copy(fixture.queue.clone()), copy(fixture.another(ConnectOptions::default()).await)];
    eventually("both wait", TIMEOUT, async || fixture.number(LOCK_WAITS) >= 2).await;
    transaction.commit().await.unwrap();
    let mut sharers = vec![source];
    for copy in copies {
        sharers.push(copy.await.unwrap());
    }
    assert_eq!(fixture.number("select refs from pm.payload"), 3);
    let last = sharers.pop().unwrap();
    assert_eq!(fixture.queue.delete_jobs(&sharers).await.unwrap(), 2);
    assert_eq!(&fixture.queue.payload(last).await.unwrap().unwrap().bytes[..], b"7");
}
