//! Results of jobs, stored with a commit and read by their own call, and waiting for the end of jobs.

use super::Harness;
use crate::unattended;
use futures_util::future::join;
use pm_queue::{EnqueueOptions, Error, ErrorKind, State};
use serde::{Deserialize, Serialize, Serializer};
use std::time::Duration;

const MEBIBYTE: usize = 1 << 20;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Invoice {
    number: u64,
    to: String,
}

/// A value that JSON cannot represent.
struct Unserializable;

impl Serialize for Unserializable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("no such thing"))
    }
}

pub(super) async fn a_result_is_stored_with_its_commit_until_a_restart(harness: Harness) {
    let ids = harness.put_many(4).await;
    let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", unattended().prefetch(4));
    let mut acks = Vec::new();
    for _ in 0..4 {
        acks.push(harness.take(&mut jobs).await.1);
    }
    drop(jobs);
    let invoice = Invoice { number: u64::MAX, to: "Zoë → 🦀 \\ \"\0\"".to_owned() };
    let (first, second) = (acks.remove(0), acks.remove(0));
    // The settlements share a statement.
    let settling = (first.commit_with(&invoice), second.commit(), acks.remove(0).soft_fail("later"));
    settling.0.await.unwrap();
    settling.1.await.unwrap();
    settling.2.await.unwrap();
    acks.remove(0).commit_with(None::<u8>).await.unwrap();
    assert_eq!(harness.queue.result::<Invoice>(ids[0]).await.unwrap(), Some(invoice));
    let stored = serde_json::json!(harness.queue.result::<serde_json::Value>(ids[0]).await.unwrap());
    assert_eq!(stored["number"], u64::MAX);
    let odd = harness.queue.result::<u64>(ids[0]).await.unwrap_err();
    assert_eq!(odd.kind(), ErrorKind::Payload);
    for id in [ids[1], ids[2]] {
        assert_eq!(harness.queue.result::<Invoice>(id).await.unwrap(), None);
        assert_eq!(harness.job(id).await.result_bytes, None);
    }
    assert_eq!(harness.queue.result::<Option<u8>>(ids[3]).await.unwrap(), Some(None), "null is a result");
    assert_eq!(harness.job(ids[3]).await.result_bytes, Some(4));
    assert_eq!(harness.queue.result::<u8>(pm_queue::Uuid::nil()).await.unwrap(), None, "there is no such job");
    let copy = harness.queue.copy_job(ids[0], "tasks", EnqueueOptions::default()).await.unwrap();
    assert_eq!(harness.queue.result::<Invoice>(copy).await.unwrap(), None);
    assert_eq!(harness.queue.restart_jobs(&ids[..1], false).await.unwrap(), 1);
    assert_eq!((harness.job(ids[0]).await.result_bytes, harness.state(ids[0]).await), (None, State::Pending));
}

/// A result that cannot be stored is refused before anything is sent, and the worker decides what becomes of the job.
pub(super) async fn a_result_that_is_refused_leaves_the_ack_to_the_worker(harness: Harness) {
    let ids = harness.put_many(4).await;
    let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", unattended().prefetch(4));
    let mut acks = Vec::new();
    for _ in 0..4 {
        acks.push(harness.take(&mut jobs).await.1);
    }
    drop(jobs);
    let largest = "a".repeat(MEBIBYTE - 2);
    acks.remove(0).commit_with(&largest).await.unwrap();
    assert_eq!(harness.queue.result::<String>(ids[0]).await.unwrap().map(|text| text.len()), Some(MEBIBYTE - 2));
    let refused: Error = acks.remove(0).commit_with("a".repeat(MEBIBYTE - 1)).await.unwrap_err();
    assert_eq!((refused.kind(), refused.message().contains("1048577 bytes long")), (ErrorKind::Invalid, true));
    refused.take_ack().expect("the ack is live").commit().await.unwrap();
    assert_eq!(harness.state(ids[1]).await, State::Finished);
    let refused = acks.remove(0).commit_with(Unserializable).await.unwrap_err();
    assert_eq!((refused.kind(), refused.message().contains("no such thing")), (ErrorKind::Payload, true));
    assert_eq!(harness.state(ids[2]).await, State::InProgress, "nothing was sent");
    let reason = refused.message().to_owned();
    drop(refused);
    harness.eventually("the drop soft-fails the job", async || harness.job(ids[2]).await.retry_count == 1).await;
    assert_eq!(harness.job(ids[2]).await.reason, Some(reason));
    let mut ack = acks.remove(0);
    let mut transaction = harness.begin().await;
    let inside = transaction.inside();
    let refused = ack.commit_with_in(&*inside, Unserializable).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Payload);
    let settlement = ack.commit_with_in(&*inside, 7).await.unwrap();
    assert_eq!(harness.queue.result::<u8>(ids[3]).await.unwrap(), None, "not before the commit");
    drop(inside);
    transaction.end(true).await;
    settlement.committed();
    assert_eq!(harness.queue.result::<u8>(ids[3]).await.unwrap(), Some(7));
}

pub(super) async fn a_wait_ends_with_its_job(harness: Harness) {
    let id = harness.put(1).await;
    let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let work = async {
        let (_, ack) = harness.take(&mut jobs).await;
        harness.sleep(Duration::from_millis(120)).await;
        ack.commit_with("done").await.unwrap();
    };
    let (job, ()) = harness.within("the end of the wait", join(harness.queue.wait(id), work)).await;
    let job = job.unwrap();
    assert_eq!((job.state, job.result_bytes), (State::Finished, Some(6)));
    assert_eq!(harness.queue.wait(id).await.unwrap().id, id, "it has ended already");
    let missing = harness.queue.wait(pm_queue::Uuid::nil()).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::JobNotFound);
}

/// A retry does not end a job; a cancel and a deletion do.
pub(super) async fn a_wait_outlasts_retries_and_ends_when_the_job_is_gone(harness: Harness) {
    let options = EnqueueOptions::default().backoff(vec![Duration::ZERO]).jitter_percent(0).max_retries(1);
    let id = harness.put_with(1, options.clone()).await;
    let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let work = async {
        harness.take(&mut jobs).await.1.soft_fail("first").await.unwrap();
        harness.sleep(Duration::from_millis(120)).await;
        harness.take(&mut jobs).await.1.soft_fail("second").await.unwrap();
    };
    let (job, ()) = harness.within("the end of the wait", join(harness.queue.wait(id), work)).await;
    let job = job.unwrap();
    assert_eq!((job.state, job.reason.as_deref()), (State::Failed, Some("second")));
    let later = options.initial_state(pm_queue::InitialState::Paused);
    let [cancelled, deleted] = [harness.put_with(2, later.clone()).await, harness.put_with(3, later).await];
    assert!(harness.before(Duration::from_millis(200), harness.queue.wait(deleted)).await.is_none());
    let change = async {
        harness.sleep(Duration::from_millis(120)).await;
        harness.queue.cancel_jobs(&[cancelled], "no longer wanted").await.unwrap();
        harness.queue.delete_jobs(&[deleted]).await.unwrap();
    };
    let waits = join(harness.queue.wait(cancelled), harness.queue.wait(deleted));
    let ((job, gone), ()) = harness.within("the end of the waits", join(waits, change)).await;
    assert_eq!(job.unwrap().reason.as_deref(), Some("no longer wanted"));
    assert_eq!(gone.unwrap_err().kind(), ErrorKind::JobNotFound);
}

/// Progress is stored under the lease only, the newest in the end, and stays with an ended job until a restart.
pub(super) async fn progress_is_shown_while_a_handler_works(harness: Harness) {
    let ids = harness.put_many(2).await;
    let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", unattended().prefetch(2));
    let (first, second) = (harness.take(&mut jobs).await.1, harness.take(&mut jobs).await.1);
    drop(jobs);
    let shown = async |id, expected: &str| harness.job(id).await.progress.as_deref() == Some(expected);
    first.set_progress(serde_json::json!({ "page": 1, "of": "20 →" })).unwrap();
    let expected = r#"{"of":"20 \u2192","page":1}"#;
    harness.eventually("the first progress is shown", async || shown(ids[0], expected).await).await;
    (2..=50).for_each(|page| first.set_progress(page).unwrap());
    harness.eventually("the newest progress is shown", async || shown(ids[0], "50").await).await;
    let refused = first.set_progress("a".repeat(8 * 1024)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert_eq!(first.set_progress(Unserializable).unwrap_err().kind(), ErrorKind::Payload);
    first.set_progress("a".repeat(8 * 1024 - 2)).unwrap();
    first.soft_fail("later").await.unwrap();
    assert!(harness.job(ids[0]).await.progress.is_some(), "it stays");
    harness.queue.restart_jobs(&[ids[0]], false).await.unwrap();
    assert_eq!(harness.job(ids[0]).await.progress, None);
    harness.queue.restart_jobs(&[ids[1]], true).await.unwrap();
    // The ack does not know yet.
    drop(second.set_progress(1));
    harness.sleep(Duration::from_millis(200)).await;
    assert_eq!(harness.job(ids[1]).await.progress, None, "the lease is lost");
}
