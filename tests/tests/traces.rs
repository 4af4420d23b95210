//! The span in which a job was enqueued, from the enqueue to its attempts.

use pm_driver_tokio_postgres::{
    EnqueueOptions, ErrorKind, JobTrace, OnConflict, Queue, Schedule, SettingsChange, TraceContext, Uuid,
};
use pm_tests::{Fixture, next, unattended};
use std::time::Duration;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn context() -> TraceContext {
    TraceContext::new(PARENT, Some("vendor=1,other=2")).unwrap()
}

fn traced() -> EnqueueOptions {
    EnqueueOptions::default().trace(context())
}

/// Claims the job and soft-fails it; returns the trace of the attempt.
async fn attempt(queue: &Queue, id: Uuid) -> Option<JobTrace> {
    let (metadata, ack) = {
        let job = queue.fetch_job::<u64>(id).await.unwrap().expect("the job is ready");
        (job.metadata().clone(), job.into_parts().1)
    };
    ack.soft_fail("once more").await.unwrap();
    metadata.trace
}

async fn with_immediate_retries() -> Fixture {
    Fixture::with(SettingsChange::new().backoff(vec![Duration::ZERO]).jitter_percent(0)).await
}

#[tokio::test]
async fn the_first_attempt_has_the_span_as_parent_and_a_retry_is_linked_to_it() {
    let fixture = with_immediate_retries().await;
    let (id, untraced) = (fixture.put_with(1, traced()).await, fixture.put(2).await);
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let (first, second) = (next(&mut jobs).await, next(&mut jobs).await);
    assert_eq!((first.id(), &first.metadata().trace), (id, &Some(JobTrace::Parent(context()))));
    assert_eq!((second.id(), &second.metadata().trace), (untraced, &None));
    drop(jobs);
    first.into_parts().1.release().await.unwrap();
    assert_eq!(attempt(&fixture.queue, id).await, Some(JobTrace::Parent(context())), "a release counts no attempt");
    fixture.queue.create_queue("others", false).await.unwrap();
    fixture.queue.move_jobs(&[id], "others").await.unwrap();
    assert_eq!(attempt(&fixture.queue, id).await, Some(JobTrace::Link(context())), "a retry, after a move");
    assert_eq!(fixture.job(id).await.trace.as_deref(), Some(context().as_str()));
}

#[tokio::test]
async fn a_moved_job_keeps_its_trace_and_a_snoozed_one_is_linked() {
    let fixture = Fixture::new().await;
    fixture.queue.create_queue("others", false).await.unwrap();
    let id = fixture.put_with(1, traced()).await;
    fixture.queue.move_jobs(&[id], "others").await.unwrap();
    let job = fixture.queue.fetch_job::<u64>(id).await.unwrap().unwrap();
    assert_eq!(job.metadata().trace, Some(JobTrace::Parent(context())));
    job.into_parts().1.snooze(Duration::ZERO).await.unwrap();
    assert_eq!(attempt(&fixture.queue, id).await, Some(JobTrace::Link(context())));
}

#[tokio::test]
async fn copies_and_restarted_jobs_are_linked_from_their_first_attempt_on() {
    let fixture = Fixture::new().await;
    let [source, restarted, untraced] =
        [fixture.put_with(1, traced()).await, fixture.put_with(2, traced()).await, fixture.put(3).await];
    let other = TraceContext::new(&PARENT.replace("4bf9", "5bf9"), None).unwrap();
    let copy = fixture.queue.copy_job(source, "tasks", EnqueueOptions::default().trace(other)).await.unwrap();
    let copy_of_copy = fixture.queue.copy_job(copy, "tasks", EnqueueOptions::default()).await.unwrap();
    let copy_of_none = fixture.queue.copy_job(untraced, "tasks", EnqueueOptions::default()).await.unwrap();
    for _ in 0..2 {
        fixture.queue.fail_jobs(&[restarted, untraced], "no").await.unwrap();
        fixture.queue.restart_jobs(&[restarted, untraced], false).await.unwrap();
    }
    for id in [copy, copy_of_copy, restarted] {
        assert_eq!(fixture.job(id).await.attempt, 0);
        assert_eq!(attempt(&fixture.queue, id).await, Some(JobTrace::Link(context())));
        assert_eq!(fixture.job(id).await.trace, Some(format!("link {}", context())));
    }
    for id in [untraced, copy_of_none] {
        assert_eq!(attempt(&fixture.queue, id).await, None);
        assert_eq!(fixture.job(id).await.trace, None);
    }
    assert_eq!(attempt(&fixture.queue, source).await, Some(JobTrace::Parent(context())), "its copy changes nothing");
}

#[tokio::test]
async fn every_way_to_enqueue_stores_the_trace_and_a_replacement_brings_its_own() {
    let fixture = Fixture::new().await;
    let plain = fixture.put_with(1, traced()).await;
    let keyed = fixture.put_with(2, traced().key("k")).await;
    let many = fixture.queue.enqueue_many("tasks", [(3u64, traced())]).await.unwrap()[0].id();
    let stored = "select count(*) from pm.job where trace = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 \
                  vendor=1,other=2'";
    assert_eq!(fixture.number(stored), 3);
    fixture.put_with(4, EnqueueOptions::default().key("k").on_conflict(OnConflict::Replace)).await;
    assert_eq!(fixture.job(keyed).await.trace, None, "the job that replaces it was enqueued without a span");
    for id in [plain, many] {
        assert_eq!(attempt(&fixture.queue, id).await, Some(JobTrace::Parent(context())));
    }
}

#[tokio::test]
async fn what_pm_would_not_have_stored_is_no_trace() {
    let fixture = Fixture::new().await;
    for odd in ["", "link", "00-00", &format!("{PARENT} "), &format!("{PARENT} {}", "x".repeat(600)), "→"] {
        let id = fixture.put(1).await;
        fixture.database.execute(&format!("update pm.job set trace = '{odd}' where id = '{id}'")).unwrap();
        assert_eq!(attempt(&fixture.queue, id).await, None, "{odd}");
    }
}

#[tokio::test]
async fn a_schedule_has_no_trace() {
    let fixture = Fixture::new().await;
    let schedule = Schedule::new("tasks", "* * * * *").options(traced());
    let error = fixture.queue.set_schedule("s", schedule, 1u64).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("trace"), "{error}");
}
