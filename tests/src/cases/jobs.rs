//! Showing jobs, and operators' actions on them.

use super::Harness;
use crate::unattended;
use pm_queue::{
    BulkAction, Change, Codec, EnqueueOptions, ErrorKind, InitialState, JobFilter, Precondition, QueueName, RawPayload,
    State, Uuid,
};

pub(super) async fn jobs_are_found_by_page_state_and_suffix(harness: Harness) {
    let mut ids = harness.put_many(230).await;
    harness.queue.finish_jobs(&ids[..2]).await.unwrap();
    ids.sort_unstable();
    ids.reverse();
    let mut found = Vec::new();
    loop {
        let mut filter = JobFilter::default().queue("tasks").limit(60);
        filter.after = found.last().copied();
        let page = harness.queue.list_jobs(filter).await.unwrap();
        if page.is_empty() {
            break;
        }
        found.extend(page.into_iter().map(|job| job.id));
    }
    assert_eq!(found, ids);
    let finished = harness.queue.list_jobs(JobFilter::default().state(State::Finished)).await.unwrap();
    assert_eq!(finished.len(), 2);
    assert_eq!(harness.queue.list_pending("tasks").await.unwrap().len(), 228);
    let text = ids[7].to_string();
    let matches = harness.queue.resolve_ids(&text[text.len() - 12..]).await.unwrap();
    assert_eq!(matches.iter().map(|one| (one.id, one.queue.as_str())).collect::<Vec<_>>(), [(ids[7], "tasks")]);
    assert_eq!(harness.queue.resolve_ids_among_all(&text).await.unwrap().len(), 1);
    assert_eq!(harness.queue.resolve_ids("no hex").await.unwrap_err().kind(), ErrorKind::Invalid);
    let nowhere = harness.queue.list_jobs(JobFilter::default().queue("nowhere")).await.unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::QueueNotFound);
    assert_eq!(harness.queue.get_job(Uuid::nil()).await.unwrap(), None);
}

pub(super) async fn a_payload_is_shown_as_it_is_stored(harness: Harness) {
    let raw = RawPayload { codec: Codec::MessagePack, bytes: vec![0x93, 0x01, 0xc0, 0xff].into() };
    let id = harness.queue.enqueue("tasks", &raw, EnqueueOptions::default()).await.unwrap();
    assert_eq!(harness.queue.payload(id).await.unwrap(), Some(raw.clone()));
    assert_eq!(harness.queue.payload(Uuid::nil()).await.unwrap(), None);
    let empty = RawPayload { codec: Codec::Json, bytes: Default::default() };
    let id = harness.queue.enqueue("tasks", &empty, EnqueueOptions::default().codec(Codec::Json)).await.unwrap();
    assert_eq!((harness.job(id).await.payload_bytes, harness.queue.payload(id).await.unwrap()), (0, Some(empty)));
    let mut jobs = harness.queue.try_stream_jobs::<RawPayload>("tasks");
    assert_eq!(*harness.next(&mut jobs).await.payload(), raw);
}

pub(super) async fn an_operator_restarts_fails_finishes_and_deletes(harness: Harness) {
    let ids = harness.put_many(4).await;
    let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", unattended().prefetch(1));
    let (_, ack) = harness.take(&mut jobs).await;
    assert_eq!(ack.id(), ids[0]);
    drop(jobs);
    let outcomes = harness
        .queue
        .change_jobs(&BulkAction::Restart { force: false }, &[ids[0], Uuid::nil()], &Precondition::default())
        .await
        .unwrap()
        .changes()
        .to_vec();
    assert_eq!(outcomes, [Change::Refused(State::InProgress), Change::NotFound]);
    assert_eq!(harness.queue.restart_jobs(&ids[..1], true).await.unwrap(), 1);
    assert_eq!(ack.commit().await.unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(harness.queue.fail_jobs(&ids[1..2], "with\0NUL").await.unwrap(), 1);
    assert_eq!(harness.job(ids[1]).await.reason.as_deref(), Some("with\u{fffd}NUL"));
    assert_eq!(harness.queue.finish_jobs(&ids[1..3]).await.unwrap(), 1, "one ended already");
    assert_eq!(harness.state(ids[2]).await, State::Finished);
    assert_eq!(harness.queue.restart_jobs(&ids[2..3], false).await.unwrap(), 1);
    assert_eq!(harness.state(ids[2]).await, State::Pending);
    assert_eq!(harness.queue.delete_jobs(&ids).await.unwrap(), 4);
    assert!(harness.jobs().await.is_empty());
}

pub(super) async fn a_job_that_does_not_meet_the_precondition_is_left_unchanged(harness: Harness) {
    harness.queue.create_queue("other", false).await.unwrap();
    let id = harness.put(1).await;
    let queue = &harness.queue;
    let precondition = |state| Precondition { state, queue: Some(QueueName::new("tasks").unwrap()), lease: None };
    let by_every_action = async |precondition: &Precondition| {
        let mut outcomes = queue
            .change_jobs(&BulkAction::Restart { force: true }, &[id], precondition)
            .await
            .unwrap()
            .changes()
            .to_vec();
        outcomes.extend(queue.change_jobs(&BulkAction::Finish, &[id], precondition).await.unwrap().changes().to_vec());
        outcomes.extend(
            queue
                .change_jobs(&BulkAction::Fail { reason: "no".to_owned() }, &[id], precondition)
                .await
                .unwrap()
                .changes()
                .to_vec(),
        );
        outcomes.extend(queue.change_jobs(&BulkAction::Delete, &[id], precondition).await.unwrap().changes().to_vec());
        outcomes.extend(
            queue
                .change_jobs(&BulkAction::Move { to: QueueName::new("other").unwrap() }, &[id], precondition)
                .await
                .unwrap()
                .changes()
                .to_vec(),
        );
        outcomes.extend_from_slice(
            queue.change_jobs(&BulkAction::SetPriority(9), &[id], precondition).await.unwrap().changes(),
        );
        outcomes
    };
    let finished = precondition(Some(State::Finished));
    assert_eq!(by_every_action(&finished).await, [Change::Refused(State::Pending); 6]);
    queue.pause_queue("tasks").await.unwrap();
    let pending = precondition(Some(State::Pending));
    assert_eq!(by_every_action(&pending).await, [Change::Refused(State::Paused); 6]);
    let other_lease = Precondition { lease: Some(7), ..Precondition::default() };
    assert_eq!(by_every_action(&other_lease).await, [Change::Refused(State::Paused); 6]);
    let paused = precondition(Some(State::Paused));
    assert_eq!(
        queue
            .change_jobs(&BulkAction::Move { to: QueueName::new("other").unwrap() }, &[id], &paused)
            .await
            .unwrap()
            .changes()
            .to_vec(),
        [Change::Changed]
    );
    assert_eq!(by_every_action(&paused).await, [Change::InOtherQueue; 6]);
    assert_eq!((harness.state(id).await, harness.job(id).await.queue.as_str()), (State::Pending, "other"));
    let anywhere = Precondition { state: Some(State::Pending), ..Precondition::default() };
    assert_eq!(
        queue.change_jobs(&BulkAction::Delete, &[id, Uuid::nil()], &anywhere).await.unwrap().changes().to_vec(),
        [Change::Changed, Change::NotFound]
    );
}

pub(super) async fn a_moved_job_obeys_its_new_queue(harness: Harness) {
    harness.queue.create_queue("other", true).await.unwrap();
    let id = harness.put_with(1, EnqueueOptions::default().priority(7)).await;
    assert_eq!(harness.queue.move_jobs(&[id], "nowhere").await.unwrap_err().kind(), ErrorKind::QueueNotFound);
    assert_eq!(harness.queue.move_jobs(&[id, Uuid::nil()], "other").await.unwrap(), 1);
    let job = harness.job(id).await;
    assert_eq!((job.queue.as_str(), job.state, job.priority), ("other", State::Paused, 7));
    assert_eq!(harness.queue.resume_queue("other").await.unwrap(), 1);
    let mut jobs = harness.queue.try_stream_jobs::<u64>("other");
    harness.take(&mut jobs).await.1.commit().await.unwrap();
}

pub(super) async fn a_pending_job_can_be_given_another_priority(harness: Harness) {
    let ids = harness.put_many(3).await;
    let paused = harness.put_with(3, EnqueueOptions::default().initial_state(InitialState::Paused)).await;
    assert_eq!(harness.queue.set_priority(&[ids[2], paused, Uuid::nil()], 5).await.unwrap(), 2);
    assert_eq!((harness.job(paused).await.priority, harness.state(paused).await), (5, State::Paused));
    assert_eq!(harness.queue.set_priority(&ids[2..], 5).await.unwrap(), 1, "it has this priority already");
    let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", unattended().prefetch(1));
    let (first, ack) = harness.take(&mut jobs).await;
    assert_eq!((first, ack.id()), (2, ids[2]));
    assert_eq!(harness.queue.set_priority(&[ack.id()], 0).await.unwrap(), 0, "it is in progress");
    ack.commit().await.unwrap();
    let report = harness.queue.change_jobs(&BulkAction::SetPriority(0), &ids[2..], &Precondition::default()).await;
    assert_eq!(report.unwrap().changes(), [Change::Refused(State::Finished)]);
    assert_eq!(harness.job(ids[2]).await.priority, 5);
    for expected in 0..2 {
        let (payload, ack) = harness.take(&mut jobs).await;
        assert_eq!(payload, expected);
        ack.commit().await.unwrap();
    }
}

pub(super) async fn a_copy_shares_the_payload(harness: Harness) {
    let source = harness.put_with(42, EnqueueOptions::default().priority(3).description("large")).await;
    let copy = harness.queue.copy_job(source, "tasks", EnqueueOptions::default()).await.unwrap();
    let job = harness.job(copy).await;
    assert_eq!((job.priority, job.description.as_deref()), (3, Some("large")));
    assert_eq!(harness.queue.payload(copy).await.unwrap(), harness.queue.payload(source).await.unwrap());
    assert_eq!(harness.queue.delete_jobs(&[source]).await.unwrap(), 1);
    let mut jobs = harness.queue.try_stream_jobs::<u64>("tasks");
    let (payload, ack) = harness.take(&mut jobs).await;
    assert_eq!((payload, ack.id()), (42, copy));
    ack.commit().await.unwrap();
    let gone = harness.queue.copy_job(source, "tasks", EnqueueOptions::default()).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::JobNotFound);
}

pub(super) async fn a_job_is_fetched_by_its_id(harness: Harness) {
    let ids = harness.put_many(2).await;
    let job = harness.queue.fetch_job::<u64>(ids[1]).await.unwrap().expect("it is ready");
    assert_eq!((job.id(), *job.payload()), (ids[1], 1));
    assert!(harness.queue.fetch_job::<u64>(ids[1]).await.unwrap().is_none(), "it is in progress");
    job.into_parts().1.commit().await.unwrap();
    harness.queue.pause_queue("tasks").await.unwrap();
    assert!(harness.queue.fetch_job::<u64>(ids[0]).await.unwrap().is_none(), "its queue is paused");
    harness.queue.resume_queue("tasks").await.unwrap();
    assert_eq!(harness.queue.fetch_job::<String>(ids[0]).await.unwrap_err().kind(), ErrorKind::Payload);
    harness.eventually("it is released", async || harness.state(ids[0]).await == State::Pending).await;
}
