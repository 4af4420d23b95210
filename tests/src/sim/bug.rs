//! Bugs planted on purpose, to see whether the simulator finds them. They stand around the database and before the
//! network; nothing that ships knows of them.

use super::faults::Fate;
use super::world::World;
use bytes::Bytes;
use pm_core::StatementId;
use pm_driver_memory::{JobRow, Tables};
use pm_queue::{Failure, Rows, Value};
use uuid::Uuid;

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // what each does stands at its name below
pub enum Bug {
    SettleUnfenced,
    ReapEarly,
    ReapStrands,
    ReleaseBlames,
    ReleaseOfAll,
    ClaimOfPaused,
    ClaimResent,
    RefreshRevives,
    WakeUpLost,
    SettleForgotten,
    LostSettleBelieved,
    EnqueueForgotten,
    EnqueueUnderNewId,
    TrustFromReply,
    DropUnsaid,
    MoveBreaksLease,
    RestartUnforced,
    KeyTwice,
}

impl Bug {
    /// All bugs, with what each does.
    pub const ALL: [(Bug, &'static str); 18] = [
        (Bug::SettleUnfenced, "a settle counts whatever its lease number"),
        (Bug::ReapEarly, "the reaper does not ask whether a lease is over"),
        (Bug::ReapStrands, "a reaped job gets neither a place in line nor a due time"),
        (Bug::ReleaseBlames, "a release raises the retry count"),
        (Bug::ReleaseOfAll, "giving back a lost claim gives back what others hold too"),
        (Bug::ClaimOfPaused, "a claim does not read the pause"),
        (Bug::ClaimResent, "a claim whose reply was lost is sent again"),
        (Bug::RefreshRevives, "a refresh revives a lease that was reaped"),
        (Bug::WakeUpLost, "an enqueue does not tell that a worker sleeps"),
        (Bug::SettleForgotten, "one settle in eight is answered and not done"),
        (Bug::LostSettleBelieved, "a settle whose reply was lost is not sent again and counts as done"),
        (Bug::EnqueueForgotten, "one enqueue in eight is answered and not done"),
        (Bug::EnqueueUnderNewId, "an enqueue whose reply was lost is sent again under a new id"),
        (Bug::TrustFromReply, "trust in a lease is measured from the reply"),
        (Bug::DropUnsaid, "a dropped ack does not soft-fail its job"),
        (Bug::MoveBreaksLease, "a move takes a job in progress from its holder"),
        (Bug::RestartUnforced, "a restart without force takes jobs in progress"),
        (Bug::KeyTwice, "a key does not keep others out"),
    ];

    /// Runs a statement with the bug in the database.
    pub(super) fn work_on(
        self,
        world: &World,
        statement: StatementId,
        params: &[Value<'_>],
        sent_at: u64,
        fate: Fate,
    ) -> Result<Rows, Failure> {
        let mut params = params.to_vec();
        let before = world.database.tables();
        match (self, statement) {
            (Bug::SettleUnfenced, StatementId::Settle) => {
                each_lease(&mut params, |id, lease, _| before.job.get(&id).and_then(|job| job.lease).unwrap_or(lease))
            }
            (Bug::DropUnsaid, StatementId::Settle) => each_lease(&mut params, |_, lease, reason| match reason {
                Some("dropped without ack") => -1,
                _ => lease,
            }),
            (Bug::SettleForgotten, StatementId::Settle) if world.below(8) == 0 => return Ok(Rows::builder(1).finish()),
            (Bug::EnqueueForgotten, StatementId::Enqueue) if world.below(8) == 0 => {
                return Ok(Rows::builder(3).finish());
            }
            (Bug::RestartUnforced, StatementId::RestartJobs) => params[4] = Value::Bool(true),
            _ => world.database.change(|tables| self.prepare(statement, &params, tables)),
        }
        let answer = world.database.answer(world.catalog.statement(statement), &params);
        world.database.change(|tables| self.tidy_up(statement, &before, tables));
        match (self, statement, fate) {
            (Bug::TrustFromReply, StatementId::Claim | StatementId::Refresh, Fate::Runs { answers_us, .. }) => {
                let late_ms = (world.now_us() - sent_at + answers_us) / 1_000;
                answer.map(|rows| longer(&rows, statement, world.catalog.statement(statement).columns.len(), late_ms))
            }
            _ => answer,
        }
    }

    /// Changes the tables before a statement.
    fn prepare(self, statement: StatementId, params: &[Value<'_>], tables: &mut Tables) {
        match (self, statement) {
            (Bug::ReapEarly, StatementId::Reap) => {
                for job in tables.job.values_mut().filter(|job| job.state == 1) {
                    job.lease_expires_at = job.lease_expires_at.map(|_| pm_queue::Timestamp::from_unix_us(0));
                }
            }
            (Bug::ClaimOfPaused, StatementId::Claim) => {
                tables.queue.values_mut().for_each(|queue| queue.paused = false)
            }
            (Bug::WakeUpLost, StatementId::Enqueue) => {
                tables.queue.values_mut().for_each(|queue| queue.sleeper_until = None);
            }
            (Bug::KeyTwice, StatementId::Enqueue) => tables.job.values_mut().for_each(|job| job.key_held = None),
            (Bug::RefreshRevives, StatementId::Refresh) => {
                for (id, lease) in super::owned::leases_of(params) {
                    let reaped =
                        |job: &&mut JobRow| job.state == 0 && job.lease == Some(lease) && job.verdict == Some(4);
                    if let Some(job) = tables.job.get_mut(&id).filter(reaped) {
                        (job.state, job.seq, job.run_at) = (1, job.seq.or(Some(1)), None);
                    }
                }
            }
            (Bug::ReleaseOfAll, StatementId::ReleaseClaim) => {
                let lease = if let Some(Value::Int8(lease)) = params.first() { Some(*lease) } else { None };
                tables.job.values_mut().filter(|job| job.state == 1).for_each(|job| job.lease = lease);
            }
            _ => {}
        }
    }

    /// Changes the tables after a statement.
    fn tidy_up(self, statement: StatementId, before: &Tables, tables: &mut Tables) {
        let changed = |job: &&mut JobRow| before.job.get(&job.id).is_some_and(|old| *old != **job);
        match (self, statement) {
            (Bug::ReapStrands, StatementId::Reap) => {
                for job in tables.job.values_mut().filter(changed) {
                    (job.seq, job.run_at) = (None, None);
                }
            }
            (Bug::ReleaseBlames, StatementId::Settle) => {
                for job in tables.job.values_mut().filter(changed).filter(|job| job.verdict == Some(3)) {
                    job.retry_count += 1;
                }
            }
            (Bug::MoveBreaksLease, StatementId::MoveJobs) => {
                tables.job.values_mut().filter(changed).for_each(|job| job.lease = None);
            }
            (Bug::ClaimOfPaused, StatementId::Claim) => {
                for (id, queue) in &mut tables.queue {
                    queue.paused = before.queue.get(id).is_some_and(|queue| queue.paused);
                }
            }
            (Bug::WakeUpLost, StatementId::Enqueue) => {
                for (id, queue) in &mut tables.queue {
                    queue.sleeper_until = before.queue.get(id).and_then(|queue| queue.sleeper_until);
                }
            }
            (Bug::KeyTwice, StatementId::Enqueue) => {
                for job in before.job.values() {
                    tables.job.entry(job.id).and_modify(|new| new.key_held.clone_from(&job.key_held));
                }
            }
            (Bug::ReapEarly, StatementId::Reap) => {
                for job in tables.job.values_mut().filter(|job| job.state == 1) {
                    job.lease_expires_at = before.job.get(&job.id).and_then(|old| old.lease_expires_at);
                }
            }
            _ => {}
        }
    }
}

/// Sends a statement as a driver does, with the bug in the driver if there is one.
pub(super) async fn send(
    world: &World,
    process: usize,
    statement: StatementId,
    params: &[Value<'_>],
) -> Option<Result<Rows, Failure>> {
    let answer = world.send(process, statement, params).await.ok()?;
    let is_lost = answer.as_ref().is_err_and(|failure| failure.class() == pm_core::Class::Unknown);
    match (world.bug, statement) {
        (Some(Bug::ClaimResent), StatementId::Claim) if is_lost => world.send(process, statement, params).await.ok(),
        (Some(Bug::LostSettleBelieved), StatementId::Settle) if is_lost => Some(Ok(Rows::builder(1).finish())),
        (Some(Bug::EnqueueUnderNewId), StatementId::Enqueue) if is_lost => {
            let mut params = params.to_vec();
            if let Some(Value::UuidArray(ids)) = params.first_mut() {
                let (high, low) = (world.below(u64::MAX), world.below(u64::MAX));
                ids.iter_mut().zip(0..).for_each(|(id, n)| *id = Some(Uuid::from_u64_pair(high, low ^ n)));
            }
            world.send(process, statement, &params).await.ok()
        }
        _ => Some(answer),
    }
}

/// Changes the lease numbers of a settle, going by job, number and reason.
fn each_lease(params: &mut [Value<'_>], number: impl Fn(Uuid, i64, Option<&str>) -> i64) {
    let [Value::UuidArray(ids), Value::Int8Array(leases), _, _, _, reasons, ..] = params else {
        panic!("a settle has other parameters than the planted bugs know: {params:?}");
    };
    for (n, (id, lease)) in ids.iter().zip(leases).enumerate() {
        let reason = match reasons {
            Value::TextArray(reasons) => reasons[n].as_deref(),
            Value::Null(_) => None,
            odd => panic!("no reasons but {odd:?}"),
        };
        *lease = id.zip(*lease).map(|(id, lease)| number(id, lease, reason));
    }
}

/// Returns the reply to a claim or a refresh with leases that last longer.
fn longer(rows: &Rows, statement: StatementId, columns: usize, by_ms: u64) -> Rows {
    let place = if statement == StatementId::Claim { 3 } else { 1 };
    let mut changed = Rows::builder(columns);
    for mut row in rows.iter(statement) {
        for column in 0..columns {
            let cell: Option<Bytes> = row.read().ok().flatten();
            let lease_ms = cell.as_deref().filter(|_| column == place).and_then(|cell| cell.try_into().ok());
            match lease_ms.map(i64::from_be_bytes) {
                Some(lease_ms) => changed.push(Some(&(lease_ms + by_ms as i64).to_be_bytes())),
                None => changed.push(cell.as_deref()),
            }
        }
    }
    changed.finish()
}
