//! What a claim returns besides jobs, and what happens to jobs claimed ahead.

use pm_core::op::{Claim, LineCursor};
use pm_driver_tokio_postgres::{EnqueueOptions, RunAt, SettingsChange, State};
use pm_tests::{Direct, Fixture, TIMEOUT, eventually, take, unattended};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn an_empty_claim_still_reports_what_is_due_and_which_queues_are_paused() {
    let fixture = Fixture::with(SettingsChange::new().lease(SECOND * 77)).await;
    fixture.queue.create_queue("paused", true).await.unwrap();
    fixture.queue.enqueue("paused", 1u64, EnqueueOptions::default()).await.unwrap();
    fixture.put_with(1, EnqueueOptions::default().run_at(RunAt::In(SECOND * 600))).await;
    let queue_id = |name: &str| fixture.number(&format!("select id from pm.queue where name = '{name}'")) as i32;
    let ids = [queue_id("tasks"), queue_id("paused"), 4_711];
    let lines = ids.map(|queue_id| LineCursor { queue_id, priority: 0, cursor: 0 });
    let empty = Claim { lines: lines.to_vec(), limit: 10, lease: 5, worker: "by hand".to_owned(), due_bound: None };
    let reply = Direct::to(&fixture.database.url()).await.run(empty).await;
    assert!(reply.jobs.is_empty());
    let due = reply.next_due.expect("a job is due");
    assert!(due > SECOND * 590 && due <= SECOND * 600, "{due:?}");
    let mut queues: Vec<_> = reply.queues.iter().map(|queue| (queue.queue_id, queue.paused)).collect();
    queues.sort_unstable();
    assert_eq!(queues, [(ids[0], false), (ids[1], true)], "a queue that does not exist is left out");
    assert_eq!(reply.queues.iter().find(|queue| queue.queue_id == ids[0]).unwrap().lease, SECOND * 77);
}

/// Jobs that have not started for 5 s are released without counting an attempt.
#[tokio::test]
async fn jobs_claimed_ahead_by_a_stream_that_is_not_polled_go_to_others_within_seconds() {
    let fixture = Fixture::new().await;
    fixture.put_many(100).await;
    let mut idle = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended().prefetch(60));
    for job in take(&mut idle, 30).await {
        job.into_parts().1.commit().await.unwrap();
    }
    let ahead = async || fixture.jobs_in(State::InProgress) > 0;
    eventually("some are claimed ahead", TIMEOUT, ahead).await;
    let mut others = fixture.another(Default::default()).await.try_stream_jobs::<u64>("tasks");
    for job in take(&mut others, 70).await {
        job.into_parts().1.commit().await.unwrap();
    }
    drop(idle);
    assert_eq!(fixture.number("select max(retry_count) from pm.job"), 0, "no retry is counted");
    assert_eq!(fixture.number("select count(*) from pm.attempt"), 0);
}
