//! Every operation that can reserve a key, in every state of the job that has or had it: at most one job of a queue has
//! a key reserved.

use futures_util::StreamExt;
use pm_core::op::{Change, Precondition};
use pm_driver_tokio_postgres::{
    BulkAction, EnqueueOptions, Enqueued, ErrorKind, InitialState, KeyHold, OnConflict, QueueName, SettingsChange,
    Timestamp, Uuid,
};
use pm_tests::{Fixture, next, unattended};
use std::time::Duration;

const KEY: &str = "report";

/// The state of the job that has or had the key.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Holder {
    Absent,
    Pending,
    Paused,
    InProgress,
    BackingOff,
    Finished,
    Failed,
    EndedWithKeyUntilLater,
    EndedWithKeyForEver,
    /// It kept the key beyond its end, until a time that has passed.
    Lapsed,
    /// Its time to start has passed, and no reap has found it yet.
    Expired,
    Deleted,
}

use Holder::*;

const HOLDERS: [Holder; 12] = [
    Absent,
    Pending,
    Paused,
    InProgress,
    BackingOff,
    Finished,
    Failed,
    EndedWithKeyUntilLater,
    EndedWithKeyForEver,
    Lapsed,
    Expired,
    Deleted,
];

impl Holder {
    fn has_key(self) -> bool {
        matches!(self, Pending | Paused | InProgress | BackingOff | EndedWithKeyUntilLater | EndedWithKeyForEver)
    }

    /// Creates such a job in the queue `tasks`.
    async fn create(self, fixture: &Fixture) {
        let far = Timestamp::from_unix_us(4_102_444_800_000_000);
        let hold = match self {
            EndedWithKeyUntilLater | Lapsed => KeyHold::Until(far),
            EndedWithKeyForEver => KeyHold::ForEver,
            _ => KeyHold::WhileActive,
        };
        let mut options = keyed().key_hold(hold);
        if self == Absent {
            return;
        }
        if self == Paused {
            options = options.initial_state(InitialState::Paused);
        }
        if self == Expired {
            options = options.expires_in(Duration::from_secs(3_600));
        }
        let id = fixture.put_with(1, options).await;
        match self {
            InProgress => {
                let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
                let job = next(&mut jobs).await;
                job.into_parts().1.leave();
                drop(jobs);
            }
            BackingOff => {
                let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
                let ack = jobs.next().await.unwrap().unwrap().into_parts().1;
                ack.soft_fail("once").await.unwrap();
            }
            Finished | EndedWithKeyUntilLater | EndedWithKeyForEver | Lapsed => {
                assert_eq!(fixture.queue.finish_jobs(&[id]).await.unwrap(), 1);
            }
            Failed => assert_eq!(fixture.queue.fail_jobs(&[id], "no").await.unwrap(), 1),
            Deleted => assert_eq!(fixture.queue.delete_jobs(&[id]).await.unwrap(), 1),
            _ => {}
        }
        if self == Lapsed {
            fixture.database.execute("update pm.job set key_until = now() - interval '1 s'").unwrap();
        }
        if self == Expired {
            fixture.database.execute("update pm.job set expires_at = now() where expires_at is not null").unwrap();
        }
    }
}

fn keyed() -> EnqueueOptions {
    EnqueueOptions::default().key(KEY)
}

/// The operations by which a job can reserve the key in the queue `tasks`.
const PATHS: [&str; 7] = ["enqueue", "replace", "restart", "restart by force", "restart of two", "move", "copy"];

/// Creates the job that will take this path; it has the key in another queue, or had it in this one.
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
            "move" | "copy" => ids.push(fixture.queue.enqueue("other", 1u64, keyed()).await.unwrap()),
            _ => {}
        }
    }
    ids
}

/// Takes the path; returns how many jobs reserved the key.
async fn take(path: &str, fixture: &Fixture, ids: &[Uuid], holder: Holder) -> usize {
    let changes = match path {
        "enqueue" | "replace" => {
            let on_conflict = if path == "replace" { OnConflict::Replace } else { OnConflict::Keep };
            let outcome =
                fixture.queue.enqueue_with_outcome("tasks", 2u64, keyed().on_conflict(on_conflict)).await.unwrap();
            if path == "replace" {
                let is_replaced = matches!(outcome, Enqueued::Replaced(_));
                assert_eq!(is_replaced, matches!(holder, Pending | Paused), "{holder:?}: {outcome:?}");
            }
            return matches!(outcome, Enqueued::Inserted(_)).into();
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

/// Every path judges in the same way whether a key is free, and no job becomes active while another has its key.
#[tokio::test]
async fn every_path_takes_a_free_key_and_leaves_a_reserved_one() {
    let an_hour = SettingsChange::new().backoff(vec![Duration::from_secs(3_600)]);
    let fixture = Fixture::with(an_hour).await;
    fixture.queue.create_queue("other", false).await.unwrap();
    for path in PATHS {
        for holder in HOLDERS {
            fixture.database.execute("delete from pm.job").unwrap();
            let ids = prepare(path, &fixture).await;
            holder.create(&fixture).await;
            let reserved = take(path, &fixture, &ids, holder).await;
            assert_eq!(reserved, usize::from(!holder.has_key()), "{path} with {holder:?}");
            let in_tasks = "from pm.job where queue_id = (select id from pm.queue where name = 'tasks')";
            let active = fixture.number(&format!("select count(*) {in_tasks} and state < 2 and key = '{KEY}'"));
            assert!(active <= 1, "{path} with {holder:?}: {active} active jobs with the key");
            let reserved = fixture.number(&format!("select count(*) {in_tasks} and reserved_key = '{KEY}'"));
            assert_eq!(reserved, 1, "{path} with {holder:?}: one job has the key");
        }
    }
}

/// A lapsed key of the source of a copy, or of a job that is restarted or moved, is released by that action itself.
#[tokio::test]
async fn a_lapsed_key_does_not_block_an_action_on_its_own_job() {
    let fixture = Fixture::new().await;
    Lapsed.create(&fixture).await;
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
    Lapsed.create(&fixture).await;
    let lapsed: Uuid = fixture.column("select id from pm.job")[0].parse().unwrap();
    assert_eq!(fixture.queue.restart_jobs(&[lapsed], false).await.unwrap(), 1);
    assert_eq!(fixture.column("select reserved_key from pm.job"), [KEY]);

    fixture.database.execute("delete from pm.job").unwrap();
    fixture.queue.create_queue("other", false).await.unwrap();
    Lapsed.create(&fixture).await;
    let there = fixture.queue.enqueue("other", 1u64, keyed()).await.unwrap();
    let lapsed: Uuid = fixture.column(&format!("select id from pm.job where id <> '{there}'"))[0].parse().unwrap();
    assert_eq!(fixture.queue.move_jobs(&[lapsed], "other").await.unwrap(), 1, "it needs no key there");
    assert_eq!(fixture.column("select id from pm.job where reserved_key is not null"), [there.to_string()]);
}
