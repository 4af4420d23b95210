//! Every way to a key, beside every state of the job that has or had it: one job of a queue holds a key, or none.

use futures_util::StreamExt;
use pm_core::op::{Change, Precondition};
use pm_driver_tokio_postgres::{
    BulkAction, EnqueueOptions, Enqueued, ErrorKind, InitialState, KeyHold, OnConflict, QueueName, SettingsChange,
    Timestamp, Uuid,
};
use pm_tests::{Fixture, next, unattended};
use std::time::Duration;

const KEY: &str = "report";

/// What the job that has or had the key is doing.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Holder {
    Absent,
    Pending,
    Paused,
    InProgress,
    BackingOff,
    Finished,
    Failed,
    EndedButHeldUntilLater,
    EndedButHeldForEver,
    /// It was to be held beyond its end, and that time has passed since.
    Lapsed,
    Deleted,
}

use Holder::*;

const HOLDERS: [Holder; 11] = [
    Absent,
    Pending,
    Paused,
    InProgress,
    BackingOff,
    Finished,
    Failed,
    EndedButHeldUntilLater,
    EndedButHeldForEver,
    Lapsed,
    Deleted,
];

impl Holder {
    fn holds(self) -> bool {
        matches!(self, Pending | Paused | InProgress | BackingOff | EndedButHeldUntilLater | EndedButHeldForEver)
    }

    /// Brings such a job about in the queue `tasks`.
    async fn stand(self, fixture: &Fixture) {
        let far = Timestamp::from_unix_us(4_102_444_800_000_000);
        let hold = match self {
            EndedButHeldUntilLater | Lapsed => KeyHold::Until(far),
            EndedButHeldForEver => KeyHold::ForEver,
            _ => KeyHold::WhileActive,
        };
        let mut options = keyed().key_hold(hold);
        if self == Absent {
            return;
        }
        if self == Paused {
            options = options.initial_state(InitialState::Paused);
        }
        let id = fixture.put_with(1, options).await;
        match self {
            InProgress => {
                let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
                let held = next(&mut jobs).await;
                held.into_parts().1.leave();
                drop(jobs);
            }
            BackingOff => {
                let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
                let ack = jobs.next().await.unwrap().unwrap().into_parts().1;
                ack.soft_fail("once").await.unwrap();
            }
            Finished | EndedButHeldUntilLater | EndedButHeldForEver | Lapsed => {
                assert_eq!(fixture.queue.finish_jobs(&[id]).await.unwrap(), 1);
            }
            Failed => assert_eq!(fixture.queue.fail_jobs(&[id], "no").await.unwrap(), 1),
            Deleted => assert_eq!(fixture.queue.delete_jobs(&[id]).await.unwrap(), 1),
            _ => {}
        }
        if self == Lapsed {
            fixture.database.execute("update pm.job set key_until = now() - interval '1 s'").unwrap();
        }
    }
}

fn keyed() -> EnqueueOptions {
    EnqueueOptions::default().key(KEY)
}

/// How a job comes to hold the key in the queue `tasks`.
const PATHS: [&str; 7] = ["enqueue", "replace", "restart", "restart by force", "restart of two", "move", "copy"];

/// Makes the job that is to come by this path; it has the key in another queue, or had it in this one.
async fn prepare(path: &str, fixture: &Fixture) -> Vec<Uuid> {
    let count = if path == "restart of two" { 2 } else { 1 };
    let mut ids = Vec::new();
    for n in 0..count {
        match path {
            "restart" | "restart by force" | "restart of two" => {
                let id = fixture.put_with(n, keyed()).await;
                assert_eq!(fixture.queue.fail_jobs(&[id], "no").await.unwrap(), 1);
                ids.push(id);
            }
            "move" | "copy" => ids.push(fixture.queue.enqueue("elsewhere", 1u64, keyed()).await.unwrap()),
            _ => {}
        }
    }
    ids
}

/// Goes the path; returns how many jobs came to hold the key.
async fn go(path: &str, fixture: &Fixture, ids: &[Uuid], holder: Holder) -> usize {
    let changes = match path {
        "enqueue" | "replace" => {
            let on_conflict = if path == "replace" { OnConflict::Replace } else { OnConflict::Keep };
            let told =
                fixture.queue.enqueue_with_outcome("tasks", 2u64, keyed().on_conflict(on_conflict)).await.unwrap();
            if path == "replace" {
                let is_replaced = matches!(told, Enqueued::Replaced(_));
                assert_eq!(is_replaced, matches!(holder, Pending | Paused), "{holder:?}: {told:?}");
            }
            return matches!(told, Enqueued::Inserted(_)).into();
        }
        "copy" => {
            return match fixture.queue.copy_job(ids[0], "tasks", keyed()).await {
                Ok(_) => 1,
                Err(error) if error.kind() == ErrorKind::KeyConflict => 0,
                Err(error) => panic!("{holder:?}: {error}"),
            };
        }
        "move" => fixture
            .queue
            .change_jobs(&BulkAction::Move { to: QueueName::new("tasks").unwrap() }, ids, &Precondition::default())
            .await
            .unwrap()
            .changes()
            .to_vec(),
        _ => {
            let force = path == "restart by force";
            fixture
                .queue
                .change_jobs(&BulkAction::Restart { force }, ids, &Precondition::default())
                .await
                .unwrap()
                .changes()
                .to_vec()
        }
    };
    assert!(
        changes.iter().all(|change| [Change::Changed, Change::KeyTaken].contains(change)),
        "{holder:?}: {changes:?}"
    );
    changes.iter().filter(|change| **change == Change::Changed).count()
}

/// Promise: whether a key is free is judged alike on every path, and a job never becomes active beside its holder.
#[tokio::test]
async fn every_path_takes_a_free_key_and_leaves_a_held_one() {
    let an_hour = SettingsChange::new().backoff(vec![Duration::from_secs(3_600)]);
    let fixture = Fixture::with(an_hour).await;
    fixture.queue.create_queue("elsewhere", false).await.unwrap();
    for path in PATHS {
        for holder in HOLDERS {
            fixture.database.execute("delete from pm.job").unwrap();
            let ids = prepare(path, &fixture).await;
            holder.stand(&fixture).await;
            let came = go(path, &fixture, &ids, holder).await;
            assert_eq!(came, usize::from(!holder.holds()), "{path} beside {holder:?}");
            let in_tasks = "from pm.job where queue_id = (select id from pm.queue where name = 'tasks')";
            let active = fixture.number(&format!("select count(*) {in_tasks} and state < 2 and key = '{KEY}'"));
            assert!(active <= 1, "{path} beside {holder:?}: {active} active jobs with the key");
            let holding = fixture.number(&format!("select count(*) {in_tasks} and reserved_key = '{KEY}'"));
            assert_eq!(holding, 1, "{path} beside {holder:?}: one job holds the key");
        }
    }
}

/// A hold that has lapsed is the source's own, or that of a job restarted beside: it goes with what is done to that job.
#[tokio::test]
async fn a_lapsed_hold_of_a_job_that_is_changed_itself_is_in_no_ones_way() {
    let fixture = Fixture::new().await;
    Lapsed.stand(&fixture).await;
    let id: Uuid = fixture.column("select id from pm.job")[0].parse().unwrap();
    let copy = fixture.queue.copy_job(id, "tasks", keyed()).await.unwrap();
    assert_eq!(fixture.column("select id from pm.job where reserved_key is not null"), [copy.to_string()]);
    let refused = fixture
        .queue
        .change_jobs(&BulkAction::Restart { force: false }, &[id], &Precondition::default())
        .await
        .unwrap()
        .changes()
        .to_vec();
    assert_eq!(refused, [Change::KeyTaken]);

    fixture.database.execute("delete from pm.job").unwrap();
    Lapsed.stand(&fixture).await;
    let lapsed: Uuid = fixture.column("select id from pm.job")[0].parse().unwrap();
    assert_eq!(fixture.queue.restart_jobs(&[lapsed], false).await.unwrap(), 1);
    assert_eq!(fixture.column("select reserved_key from pm.job"), [KEY]);

    fixture.database.execute("delete from pm.job").unwrap();
    fixture.queue.create_queue("elsewhere", false).await.unwrap();
    Lapsed.stand(&fixture).await;
    let there = fixture.queue.enqueue("elsewhere", 1u64, keyed()).await.unwrap();
    let lapsed: Uuid = fixture.column(&format!("select id from pm.job where id <> '{there}'"))[0].parse().unwrap();
    assert_eq!(fixture.queue.move_jobs(&[lapsed], "elsewhere").await.unwrap(), 1, "it claims no key there");
    assert_eq!(fixture.column("select id from pm.job where reserved_key is not null"), [there.to_string()]);
}
