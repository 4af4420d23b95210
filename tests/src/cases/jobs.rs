//! What is shown of jobs, and what operators do to them.

use super::Stage;
use crate::unattended;
use pm_queue::{Change, Codec, EnqueueOptions, ErrorKind, JobFilter, QueueName, RawPayload, State, StillIs, Uuid};

pub(super) async fn jobs_are_found_by_page_state_and_suffix(stage: Stage) {
    let mut ids = stage.put_many(230).await;
    stage.queue.finish_jobs(&ids[..2]).await.unwrap();
    ids.sort_unstable();
    ids.reverse();
    let mut found = Vec::new();
    loop {
        let mut filter = JobFilter::default().queue("tasks").limit(60);
        filter.after = found.last().copied();
        let page = stage.queue.list_jobs(filter).await.unwrap();
        if page.is_empty() {
            break;
        }
        found.extend(page.into_iter().map(|job| job.id));
    }
    assert_eq!(found, ids);
    let finished = stage.queue.list_jobs(JobFilter::default().state(State::Finished)).await.unwrap();
    assert_eq!(finished.len(), 2);
    assert_eq!(stage.queue.list_pending("tasks").await.unwrap().len(), 228);
    let text = ids[7].to_string();
    let matches = stage.queue.resolve_ids(&text[text.len() - 12..]).await.unwrap();
    assert_eq!(matches.iter().map(|one| (one.id, one.queue.as_str())).collect::<Vec<_>>(), [(ids[7], "tasks")]);
    assert_eq!(stage.queue.resolve_ids_among_all(&text).await.unwrap().len(), 1);
    assert_eq!(stage.queue.resolve_ids("no hex").await.unwrap_err().kind(), ErrorKind::Invalid);
    let nowhere = stage.queue.list_jobs(JobFilter::default().queue("nowhere")).await.unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::QueueNotFound);
    assert_eq!(stage.queue.get_job(Uuid::nil()).await.unwrap(), None);
}

pub(super) async fn a_payload_is_shown_as_it_is_stored(stage: Stage) {
    let raw = RawPayload { codec: Codec::MessagePack, bytes: vec![0x93, 0x01, 0xc0, 0xff].into() };
    let id = stage.queue.enqueue("tasks", &raw, EnqueueOptions::default()).await.unwrap();
    assert_eq!(stage.queue.payload(id).await.unwrap(), Some(raw.clone()));
    assert_eq!(stage.queue.payload(Uuid::nil()).await.unwrap(), None);
    let empty = RawPayload { codec: Codec::Json, bytes: Default::default() };
    let id = stage.queue.enqueue("tasks", &empty, EnqueueOptions::default().codec(Codec::Json)).await.unwrap();
    assert_eq!((stage.job(id).await.payload_bytes, stage.queue.payload(id).await.unwrap()), (0, Some(empty)));
    let mut jobs = stage.queue.try_stream_jobs::<RawPayload>("tasks");
    assert_eq!(*stage.next(&mut jobs).await.payload(), raw);
}

pub(super) async fn an_operator_restarts_fails_finishes_and_deletes(stage: Stage) {
    let ids = stage.put_many(4).await;
    let mut jobs = stage.queue.try_stream_jobs_with::<u64>("tasks", unattended().prefetch(1));
    let (_, ack) = stage.take(&mut jobs).await;
    assert_eq!(ack.id(), ids[0]);
    drop(jobs);
    let told = stage.queue.restart_jobs_told(&[ids[0], Uuid::nil()], false, &StillIs::default()).await.unwrap();
    assert_eq!(told, [Change::Refused(State::InProgress), Change::NotFound]);
    assert_eq!(stage.queue.restart_jobs(&ids[..1], true).await.unwrap(), 1);
    assert_eq!(ack.commit().await.unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(stage.queue.fail_jobs(&ids[1..2], "with\0NUL").await.unwrap(), 1);
    assert_eq!(stage.job(ids[1]).await.reason.as_deref(), Some("with\u{fffd}NUL"));
    assert_eq!(stage.queue.finish_jobs(&ids[1..3]).await.unwrap(), 1, "one ended already");
    assert_eq!(stage.state(ids[2]).await, State::Finished);
    assert_eq!(stage.queue.restart_jobs(&ids[2..3], false).await.unwrap(), 1);
    assert_eq!(stage.state(ids[2]).await, State::Pending);
    assert_eq!(stage.queue.delete_jobs(&ids).await.unwrap(), 4);
    assert!(stage.jobs().await.is_empty());
}

pub(super) async fn a_job_that_is_not_what_it_was_chosen_for_is_spared(stage: Stage) {
    stage.queue.create_queue("other", false).await.unwrap();
    let id = stage.put(1).await;
    let queue = &stage.queue;
    let still_is = |state| StillIs { state, queue: Some(QueueName::new("tasks").unwrap()), lease: None };
    let of_every_word = async |still_is: &StillIs| {
        let mut told = queue.restart_jobs_told(&[id], true, still_is).await.unwrap();
        told.extend(queue.finish_jobs_told(&[id], still_is).await.unwrap());
        told.extend(queue.fail_jobs_told(&[id], "no", still_is).await.unwrap());
        told.extend(queue.delete_jobs_told(&[id], still_is).await.unwrap());
        told.extend(queue.move_jobs_told(&[id], "other", still_is).await.unwrap());
        told
    };
    let finished = still_is(Some(State::Finished));
    assert_eq!(of_every_word(&finished).await, [Change::Refused(State::Pending); 5]);
    queue.pause_queue("tasks").await.unwrap();
    let pending = still_is(Some(State::Pending));
    assert_eq!(of_every_word(&pending).await, [Change::Refused(State::Paused); 5]);
    let under = StillIs { lease: Some(7), ..StillIs::default() };
    assert_eq!(of_every_word(&under).await, [Change::Refused(State::Paused); 5]);
    let paused = still_is(Some(State::Paused));
    assert_eq!(queue.move_jobs_told(&[id], "other", &paused).await.unwrap(), [Change::Changed]);
    assert_eq!(of_every_word(&paused).await, [Change::Elsewhere; 5]);
    assert_eq!((stage.state(id).await, stage.job(id).await.queue.as_str()), (State::Pending, "other"));
    let anywhere = StillIs { state: Some(State::Pending), ..StillIs::default() };
    assert_eq!(
        queue.delete_jobs_told(&[id, Uuid::nil()], &anywhere).await.unwrap(),
        [Change::Changed, Change::NotFound]
    );
}

pub(super) async fn a_moved_job_obeys_its_new_queue(stage: Stage) {
    stage.queue.create_queue("other", true).await.unwrap();
    let id = stage.put_with(1, EnqueueOptions::default().priority(7)).await;
    assert_eq!(stage.queue.move_jobs(&[id], "nowhere").await.unwrap_err().kind(), ErrorKind::QueueNotFound);
    assert_eq!(stage.queue.move_jobs(&[id, Uuid::nil()], "other").await.unwrap(), 1);
    let job = stage.job(id).await;
    assert_eq!((job.queue.as_str(), job.state, job.priority), ("other", State::Paused, 7));
    assert_eq!(stage.queue.resume_queue("other").await.unwrap(), 1);
    let mut jobs = stage.queue.try_stream_jobs::<u64>("other");
    stage.take(&mut jobs).await.1.commit().await.unwrap();
}

pub(super) async fn a_copy_shares_the_payload(stage: Stage) {
    let source = stage.put_with(42, EnqueueOptions::default().priority(3).description("large")).await;
    let copy = stage.queue.copy_job(source, "tasks", EnqueueOptions::default()).await.unwrap();
    let job = stage.job(copy).await;
    assert_eq!((job.priority, job.description.as_deref()), (3, Some("large")));
    assert_eq!(stage.queue.payload(copy).await.unwrap(), stage.queue.payload(source).await.unwrap());
    assert_eq!(stage.queue.delete_jobs(&[source]).await.unwrap(), 1);
    let mut jobs = stage.queue.try_stream_jobs::<u64>("tasks");
    let (payload, ack) = stage.take(&mut jobs).await;
    assert_eq!((payload, ack.id()), (42, copy));
    ack.commit().await.unwrap();
    let gone = stage.queue.copy_job(source, "tasks", EnqueueOptions::default()).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::JobNotFound);
}

pub(super) async fn a_job_is_fetched_by_its_id(stage: Stage) {
    let ids = stage.put_many(2).await;
    let job = stage.queue.fetch_job::<u64>(ids[1]).await.unwrap().expect("it is ready");
    assert_eq!((job.id(), *job.payload()), (ids[1], 1));
    assert!(stage.queue.fetch_job::<u64>(ids[1]).await.unwrap().is_none(), "it is in progress");
    job.into_parts().1.commit().await.unwrap();
    stage.queue.pause_queue("tasks").await.unwrap();
    assert!(stage.queue.fetch_job::<u64>(ids[0]).await.unwrap().is_none(), "its queue is paused");
    stage.queue.resume_queue("tasks").await.unwrap();
    assert_eq!(stage.queue.fetch_job::<String>(ids[0]).await.unwrap_err().kind(), ErrorKind::Payload);
    stage.eventually("it is given back", async || stage.state(ids[0]).await == State::Pending).await;
}
