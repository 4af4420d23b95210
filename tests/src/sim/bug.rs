//! Bugs planted on purpose, to check that the simulation finds them. They wrap the database and the network; shipped
//! code does not contain them.

use super::faults::Fate;
use super::general;
use super::pool::{LONGEST_WAIT_US, passes_locked_jobs};
use super::world::{Entry, SECOND, World};
use bytes::Bytes;
use pm_core::StatementId;
use pm_driver_memory::{JobRow, Tables};
use pm_queue::Timestamp;
use pm_queue::driver::{Failure, Rows, Statement, Type, Value};
use uuid::Uuid;

/// By how much a schedule counts as due too early, with that bug.
const EARLY_US: i64 = 5_000_000;

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // see the descriptions in `ALL`
pub enum Bug {
    SettleUnfenced,
    ReapEarly,
    ReapStrands,
    ReleaseBlames,
    ReleaseOfAll,
    ClaimOfPaused,
    ClaimResent,
    ExtendRevives,
    NotificationSkipped,
    SettleForgotten,
    LostSettleTrusted,
    EnqueueForgotten,
    EnqueueUnderNewId,
    TrustFromReply,
    DropNotSettled,
    MoveBreaksLease,
    RestartUnforced,
    KeyTwice,
    FireOfChanged,
    TickStays,
    TickKeyShared,
    OverlapIgnored,
    TickEarly,
    SetRecomputes,
    NextTickHidden,
    TextRefused,
    IdleFromSending,
    ReleasedOnce,
    LockRetried,
    LockNotPassed,
    KeysMixed,
    ReplaceForgotten,
    AttemptsStay,
    RestartKeyless,
    FrontierDropped,
    OperatorsUnbounded,
    GivenUpLivesOn,
    RollbackIgnored,
    RollbackTakenForCommit,
    RefusedCallStays,
    LockedNotFound,
    EditStrands,
    LockedQueueConfirmed,
    LateCommitConfirmed,
    SecondBatchConfirmed,
    SnoozeCounts,
    CancelForgotten,
    CancelOutlivesReap,
    ExpiredClaimed,
    ResultOfUncommitted,
    ProgressUnfenced,
    TimeoutIgnored,
}

impl Bug {
    /// All bugs, with what each does.
    pub const ALL: [(Bug, &'static str); 52] = [
        (Bug::SettleUnfenced, "a settlement takes effect whatever its lease number"),
        (Bug::ReapEarly, "the reaper does not check whether a lease has expired"),
        (Bug::ReapStrands, "a reaped job gets neither a position nor a due time"),
        (Bug::ReleaseBlames, "a release raises the retry count"),
        (Bug::ReleaseOfAll, "releasing a lost claim also releases jobs of other holders"),
        (Bug::ClaimOfPaused, "a claim ignores the pause"),
        (Bug::ClaimResent, "a claim whose reply was lost is sent again"),
        (Bug::ExtendRevives, "an extension revives a lease that was reaped"),
        (Bug::NotificationSkipped, "an enqueue does not report that a worker is idle"),
        (Bug::SettleForgotten, "one settlement in eight is answered and not done"),
        (Bug::LostSettleTrusted, "a settlement whose reply was lost is not sent again and counts as done"),
        (Bug::EnqueueForgotten, "one enqueue in eight is answered and not done"),
        (Bug::EnqueueUnderNewId, "an enqueue whose reply was lost is sent again under a new id"),
        (Bug::TrustFromReply, "trust in a lease is measured from the reply"),
        (Bug::DropNotSettled, "a dropped ack does not soft-fail its job"),
        (Bug::MoveBreaksLease, "a move takes a job in progress from its holder"),
        (Bug::RestartUnforced, "a restart without force takes jobs in progress"),
        (Bug::KeyTwice, "a reserved key does not keep other jobs out"),
        (Bug::FireOfChanged, "a firing checks neither revision nor next tick"),
        (Bug::TickStays, "a firing does not advance its schedules"),
        (Bug::TickKeyShared, "the ticks of a schedule share one key"),
        (Bug::OverlapIgnored, "a tick does not wait for the job of the previous one"),
        (Bug::TickEarly, "a schedule counts as due five seconds before its tick"),
        (Bug::SetRecomputes, "setting a schedule again computes its next tick anew"),
        (Bug::NextTickHidden, "workers do not learn when the next tick comes"),
        (Bug::TextRefused, "a reason that the database cannot store is sent again unchanged"),
        (Bug::IdleFromSending, "waiting for a handler is counted from when the claim was sent"),
        (Bug::ReleasedOnce, "a lost claim is released once, while the server may still work on it"),
        (Bug::LockRetried, "an enqueue to a locked queue is sent again past its retry deadline"),
        (Bug::LockNotPassed, "a batch of enqueues does not pass by a locked key"),
        (Bug::KeysMixed, "enqueues without keys wait for the keys of others"),
        (Bug::ReplaceForgotten, "which enqueue replaced a job is not recorded"),
        (Bug::AttemptsStay, "the attempts of a deleted job stay"),
        (Bug::RestartKeyless, "a job is restarted while another job has reserved its key"),
        (Bug::FrontierDropped, "the claim frontier of a line in use is deleted"),
        (Bug::OperatorsUnbounded, "operators' statements take every connection"),
        (Bug::GivenUpLivesOn, "a statement that waits for a lock is given up by its client only"),
        (Bug::RollbackIgnored, "an ack does not come back from a transaction that was rolled back"),
        (Bug::RollbackTakenForCommit, "a settlement that was rolled back counts as committed"),
        (Bug::RefusedCallStays, "a refused call in a transaction leaves its other jobs in"),
        (Bug::LockedNotFound, "a locked job is reported to operators as missing"),
        (Bug::EditStrands, "a job loses its position when its priority changes"),
        (Bug::LockedQueueConfirmed, "an enqueue to a locked queue counts as inserted"),
        (Bug::LateCommitConfirmed, "a commit whose lease has ended counts as settled"),
        (Bug::SecondBatchConfirmed, "the reply to the first of two batches of enqueues counts for the second one too"),
        (Bug::SnoozeCounts, "a job that is put off keeps the attempt"),
        (Bug::CancelForgotten, "a settlement does not look whether the job was cancelled"),
        (Bug::CancelOutlivesReap, "a reap does not look whether the job was cancelled"),
        (Bug::ExpiredClaimed, "a claim does not look whether a job has expired"),
        (Bug::ResultOfUncommitted, "a result is stored with a job that was not committed"),
        (Bug::ProgressUnfenced, "progress of a lost lease is stored"),
        (Bug::TimeoutIgnored, "an extension goes beyond the timeout and its grace"),
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
        match (self, general(statement)) {
            (Bug::SettleUnfenced, StatementId::Settle) | (Bug::ProgressUnfenced, StatementId::SetProgress) => {
                each_lease(&mut params, |id, lease, _| before.job.get(&id).and_then(|job| job.lease).unwrap_or(lease))
            }
            (Bug::DropNotSettled, StatementId::Settle) => each_lease(&mut params, |_, lease, reason| match reason {
                Some("dropped without ack") => -1,
                _ => lease,
            }),
            (Bug::SettleForgotten, StatementId::Settle) if world.below(8) == 0 => {
                return Ok(all_settled(statement, &params));
            }
            (Bug::EnqueueForgotten, StatementId::Enqueue | StatementId::EnqueueKeyed | StatementId::EnqueueEach)
                if world.below(8) == 0 =>
            {
                return Ok(all_inserted(statement, &params, &before));
            }
            (Bug::LockNotPassed, StatementId::EnqueueEach) if !before.locked_keys.is_empty() => {
                return Err(lock_timeout());
            }
            (Bug::KeysMixed, StatementId::Enqueue) if !before.locked_keys.is_empty() => return Err(lock_timeout()),
            (Bug::TickKeyShared, StatementId::FireSchedules) => share_keys(&mut params),
            (Bug::LockedNotFound, statement) if passes_locked_jobs(statement) => {
                if let Value::UuidArray(ids) = &mut params[0] {
                    let locked = ids.iter_mut().filter(|id| id.is_some_and(|id| before.locked_jobs.contains(&id)));
                    locked.for_each(|id| *id = Some(Uuid::nil()));
                }
            }
            (Bug::RestartUnforced, StatementId::RestartJobs) => params[4] = Value::Bool(true),
            (Bug::TimeoutIgnored, StatementId::Extend) => params[2] = Value::Null(Type::TimestampArray),
            _ => world.database.change(|tables| self.prepare(statement, &params, tables, world.now())),
        }
        let answer = world.database.answer(world.catalog.statement(statement), &params);
        world.database.change(|tables| self.tidy_up(statement, &before, tables));
        match (self, general(statement), fate) {
            (Bug::TrustFromReply, StatementId::Claim | StatementId::Extend, Fate::Runs { answers_us, .. }) => {
                let late_ms = (world.now_us() - sent_at + answers_us) / 1_000;
                let column = if statement == StatementId::Claim { 3 } else { 1 };
                answer.map(|rows| later(&rows, world.catalog.statement(statement), column, late_ms as i64))
            }
            (Bug::LockedQueueConfirmed, StatementId::Enqueue, _) if statement == StatementId::EnqueueFresh => {
                answer.map(|_| all_inserted(statement, &params, &before))
            }
            (Bug::LateCommitConfirmed, StatementId::Settle, _) if statement == StatementId::SettleCommits => {
                answer.map(|_| all_settled(statement, &params))
            }
            (Bug::TickEarly, StatementId::DueSchedules, _) => {
                answer.map(|rows| later(&rows, world.catalog.statement(statement), 8, EARLY_US))
            }
            _ => answer,
        }
    }

    /// Changes the tables before a statement.
    fn prepare(self, statement: StatementId, params: &[Value<'_>], tables: &mut Tables, now: Timestamp) {
        match (self, general(statement)) {
            (Bug::ReapEarly, StatementId::Reap) => {
                for job in tables.job.values_mut().filter(|job| job.state == 1) {
                    job.lease_expires_at = job.lease_expires_at.map(|_| Timestamp::from_unix_us(0));
                }
            }
            (Bug::ClaimOfPaused, StatementId::Claim) => {
                tables.queue.values_mut().for_each(|queue| queue.paused = false)
            }
            (Bug::NotificationSkipped, StatementId::Enqueue | StatementId::EnqueueKeyed | StatementId::EnqueueEach) => {
                tables.queue.values_mut().for_each(|queue| queue.idle_until = None);
            }
            (Bug::KeyTwice, StatementId::Enqueue | StatementId::EnqueueKeyed | StatementId::EnqueueEach)
            | (Bug::RestartKeyless, StatementId::RestartJobs) => {
                tables.job.values_mut().for_each(|job| job.reserved_key = None)
            }
            (
                Bug::ReplaceForgotten,
                StatementId::EnqueueKeyed | StatementId::EnqueueEach | StatementId::ReplaceJobs,
            ) => tables.replacement.clear(),
            (Bug::ExtendRevives, StatementId::Extend) => {
                for (id, lease) in super::owned::leases_of(params) {
                    let reaped =
                        |job: &&mut JobRow| job.state == 0 && job.lease == Some(lease) && job.verdict == Some(4);
                    if let Some(job) = tables.job.get_mut(&id).filter(reaped) {
                        (job.state, job.seq, job.run_at) = (1, job.seq.or(Some(1)), None);
                    }
                }
            }
            (Bug::ExpiredClaimed, StatementId::Claim) => {
                tables.job.values_mut().for_each(|job| job.expires_at = None);
            }
            (Bug::CancelForgotten, StatementId::Settle) | (Bug::CancelOutlivesReap, StatementId::Reap) => {
                tables.job.values_mut().for_each(|job| job.cancelled_at = None);
            }
            (Bug::ReleaseOfAll, StatementId::ReleaseClaim) => {
                let lease = if let Some(Value::Int8(lease)) = params.first() { Some(*lease) } else { None };
                tables.job.values_mut().filter(|job| job.state == 1).for_each(|job| job.lease = lease);
            }
            _ => self.prepare_schedules(statement, params, tables, now),
        }
    }

    /// Changes the schedules before a statement.
    fn prepare_schedules(self, statement: StatementId, params: &[Value<'_>], tables: &mut Tables, now: Timestamp) {
        let all = tables.schedule.values_mut();
        match (self, statement, params) {
            (
                Bug::FireOfChanged,
                StatementId::FireSchedules,
                [Value::Int4Array(ids), Value::Int8Array(revisions), Value::TimestampArray(ticks), ..],
            ) => {
                for schedule in all {
                    if let Some(n) = ids.iter().position(|id| *id == Some(schedule.id)) {
                        (schedule.revision, schedule.next_tick) = (revisions[n].unwrap_or_default(), ticks[n]);
                    }
                }
            }
            (Bug::OverlapIgnored, StatementId::FireSchedules, _) => all.for_each(|schedule| schedule.overlap = 0),
            (Bug::TickEarly, StatementId::DueSchedules, _) => {
                let early = |at: Timestamp| Timestamp::from_unix_us(at.unix_us() - EARLY_US);
                all.for_each(|schedule| schedule.next_tick = schedule.next_tick.map(early));
            }
            (Bug::SetRecomputes, StatementId::SetSchedule, [Value::Text(name), ..]) => {
                all.filter(|schedule| schedule.name == **name).for_each(|schedule| schedule.next_tick = None);
            }
            (Bug::NextTickHidden, StatementId::Poll | StatementId::DueSchedules, _) => {
                all.for_each(|schedule| schedule.next_tick = schedule.next_tick.filter(|tick| *tick <= now));
            }
            _ => {}
        }
    }

    /// Changes the tables after a statement.
    fn tidy_up(self, statement: StatementId, before: &Tables, tables: &mut Tables) {
        let changed = |job: &&mut JobRow| before.job.get(&job.id).is_some_and(|old| *old != **job);
        match (self, general(statement)) {
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
            (Bug::ExpiredClaimed, StatementId::Claim) => {
                for old in before.job.values() {
                    tables.job.entry(old.id).and_modify(|job| job.expires_at = old.expires_at);
                }
            }
            (Bug::CancelForgotten, StatementId::Settle) | (Bug::CancelOutlivesReap, StatementId::Reap) => {
                for old in before.job.values() {
                    tables.job.entry(old.id).and_modify(|job| job.cancelled_at = old.cancelled_at);
                }
            }
            (Bug::SnoozeCounts, StatementId::Settle) => {
                for job in tables.job.values_mut().filter(changed).filter(|job| job.verdict == Some(9)) {
                    job.attempt += 1;
                }
            }
            (Bug::ResultOfUncommitted, StatementId::Settle) => {
                for job in tables.job.values_mut().filter(changed).filter(|job| job.verdict != Some(0)) {
                    job.result = job.lease.map(|lease| lease.to_string());
                }
            }
            (Bug::EditStrands, StatementId::EditJobs) => {
                tables.job.values_mut().filter(changed).for_each(|job| job.seq = None);
            }
            (Bug::MoveBreaksLease, StatementId::MoveJobs) => {
                tables.job.values_mut().filter(changed).for_each(|job| job.lease = None);
            }
            (Bug::ClaimOfPaused, StatementId::Claim) => {
                for (id, queue) in &mut tables.queue {
                    queue.paused = before.queue.get(id).is_some_and(|queue| queue.paused);
                }
            }
            (Bug::NotificationSkipped, StatementId::Enqueue | StatementId::EnqueueKeyed | StatementId::EnqueueEach) => {
                for (id, queue) in &mut tables.queue {
                    queue.idle_until = before.queue.get(id).and_then(|queue| queue.idle_until);
                }
            }
            (Bug::KeyTwice, StatementId::Enqueue | StatementId::EnqueueKeyed | StatementId::EnqueueEach)
            | (Bug::RestartKeyless, StatementId::RestartJobs) => {
                for job in before.job.values() {
                    tables.job.entry(job.id).and_modify(|new| new.reserved_key.clone_from(&job.reserved_key));
                }
            }
            (Bug::ReapEarly, StatementId::Reap) => {
                for job in tables.job.values_mut().filter(|job| job.state == 1) {
                    job.lease_expires_at = before.job.get(&job.id).and_then(|old| old.lease_expires_at);
                }
            }
            (Bug::FrontierDropped, StatementId::Reap) => tables.claim_frontier.clear(),
            (Bug::AttemptsStay, StatementId::DeleteJobs | StatementId::PruneJobs) => {
                tables.attempt.extend(before.attempt.iter().map(|(key, row)| (*key, row.clone())));
            }
            _ => self.tidy_up_schedules(statement, before, tables),
        }
    }

    /// Changes the schedules after a statement.
    fn tidy_up_schedules(self, statement: StatementId, before: &Tables, tables: &mut Tables) {
        for (id, old) in &before.schedule {
            let Some(schedule) = tables.schedule.get_mut(id) else { continue };
            match (self, general(statement)) {
                (Bug::FireOfChanged, StatementId::FireSchedules) => schedule.revision = old.revision,
                (Bug::OverlapIgnored, StatementId::FireSchedules) => schedule.overlap = old.overlap,
                (Bug::TickStays, StatementId::FireSchedules)
                | (Bug::TickEarly, StatementId::DueSchedules)
                | (Bug::NextTickHidden, StatementId::Poll | StatementId::DueSchedules) => {
                    schedule.next_tick = old.next_tick
                }
                _ => {}
            }
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
    let sent_at = world.now_us();
    if world.bug == Some(Bug::ReleasedOnce)
        && let (StatementId::ReleaseClaim, Some(Value::Int8(lease))) = (statement, params.first())
        && world.released.lock().expect("the lock is not poisoned").contains(lease)
    {
        let mut none = Rows::builder(1);
        none.push(Some(&0i64.to_be_bytes()));
        return Some(Ok(none.finish()));
    }
    let is_second = world.auditor().has_two_enqueues(process);
    let answer = sent(world, process, statement, params).await?;
    let is_lost = answer.as_ref().is_err_and(|failure| failure.class() == pm_core::Class::Unknown);
    match (world.bug, general(statement)) {
        (Some(Bug::ClaimResent), StatementId::Claim) if is_lost => world.send(process, statement, params).await.ok(),
        (Some(Bug::LostSettleTrusted), StatementId::Settle) if is_lost => Some(Ok(all_settled(statement, params))),
        (Some(Bug::EnqueueUnderNewId), StatementId::Enqueue | StatementId::EnqueueKeyed | StatementId::EnqueueEach)
            if is_lost =>
        {
            let mut params = params.to_vec();
            if let Some(Value::UuidArray(ids)) = params.first_mut() {
                let (high, low) = (world.below(u64::MAX), world.below(u64::MAX));
                ids.iter_mut().zip(0..).for_each(|(id, n)| *id = Some(Uuid::from_u64_pair(high, low ^ n)));
            }
            world.send(process, statement, &params).await.ok()
        }
        (Some(Bug::SecondBatchConfirmed), StatementId::Enqueue) if is_second && answer.is_err() => {
            Some(Ok(all_inserted(statement, params, &world.database.tables())))
        }
        (Some(Bug::TextRefused), StatementId::Settle) if params.iter().any(is_fitted) => {
            Some(Err(Failure::reported("22P05", None, "a character has no equivalent")))
        }
        (Some(Bug::ReleasedOnce), StatementId::ReleaseClaim) => {
            if let (Ok(_), Some(Value::Int8(lease))) = (&answer, params.first()) {
                world.released.lock().expect("the lock is not poisoned").insert(*lease);
            }
            Some(answer)
        }
        (Some(Bug::IdleFromSending), StatementId::Claim) => {
            let may_wait_us = (world.lease_ms as u64 * 1_000 / 4).min(5 * SECOND);
            match answer {
                Ok(rows) if world.now_us() - sent_at >= may_wait_us => {
                    // The result of the release does not matter: if it fails, the leases expire.
                    drop(world.send(process, StatementId::ReleaseClaim, &params[4..5]).await);
                    Some(Ok(without_jobs(&rows, world.catalog.statement(statement))))
                }
                answer => Some(answer),
            }
        }
        (Some(Bug::LockRetried), StatementId::Enqueue | StatementId::EnqueueKeyed | StatementId::EnqueueEach) => {
            let mut answer = answer;
            while answer.as_ref().is_ok_and(|rows| names_locked(rows, statement)) {
                let (timer, fired) = futures_channel::oneshot::channel();
                world.at(world.now_us() + SECOND, Entry::Timer(timer));
                fired.await.ok()?;
                answer = sent(world, process, statement, params).await?;
            }
            Some(answer)
        }
        _ => Some(answer),
    }
}

/// Returns whether a text was sent with substitutes.
fn is_fitted(param: &Value<'_>) -> bool {
    matches!(param, Value::TextArray(texts) if texts.iter().flatten().any(|text| text.contains("\\u{")))
}

/// Sends a statement and shows it to the auditor.
async fn sent(
    world: &World,
    process: usize,
    statement: StatementId,
    params: &[Value<'_>],
) -> Option<Result<Rows, Failure>> {
    let waits_us = if world.is_pooled { LONGEST_WAIT_US } else { 0 };
    world.auditor().enqueue_sent(statement, params, world.now_us(), waits_us);
    let answer = world.send(process, statement, params).await.ok();
    world.auditor().enqueue_answered(statement, params, answer.as_ref());
    answer
}

/// Returns whether the reply to an enqueue reports that a queue's row is locked.
fn names_locked(rows: &Rows, statement: StatementId) -> bool {
    rows.iter(statement).any(|mut row| {
        let outcome: Option<i16> = row.read::<i64>().and_then(|_| row.read()).ok();
        outcome == Some(4)
    })
}

/// Returns the failure of a statement whose wait for a lock timed out.
fn lock_timeout() -> Failure {
    Failure::reported("55P03", None, "canceling statement due to lock timeout")
}

/// Changes the lease numbers of a settle, depending on job, number and reason.
fn each_lease(params: &mut [Value<'_>], number: impl Fn(Uuid, i64, Option<&str>) -> i64) {
    let [Value::UuidArray(ids), Value::Int8Array(leases), others @ ..] = params else {
        panic!("the planted bugs do not know these parameters of a settle: {params:?}");
    };
    let reasons = others.get(3);
    for (n, (id, lease)) in ids.iter().zip(leases).enumerate() {
        let reason = match reasons {
            Some(Value::TextArray(reasons)) => reasons[n].as_deref(),
            Some(Value::Null(_)) | None => None,
            odd => panic!("no reasons: {odd:?}"),
        };
        *lease = id.zip(*lease).map(|(id, lease)| number(id, lease, reason));
    }
}

/// Returns the reply to a settle that has settled every lease.
fn all_settled(statement: StatementId, params: &[Value<'_>]) -> Rows {
    let mut rows = Rows::builder(1);
    if let (StatementId::SettleCommits, Some(Value::UuidArray(ids))) = (statement, params.first()) {
        (1..=ids.len() as i64).for_each(|ordinal| rows.push(Some(&ordinal.to_be_bytes())));
    }
    rows.finish()
}

/// Returns the reply to an enqueue that has inserted every job.
fn all_inserted(statement: StatementId, params: &[Value<'_>], tables: &Tables) -> Rows {
    let is_fresh = statement == StatementId::EnqueueFresh;
    let mut rows = Rows::builder(if is_fresh { 4 } else { 3 });
    let Some(Value::TextArray(queues)) = params.get(1) else { return rows.finish() };
    let placed = queues
        .iter()
        .flatten()
        .filter(|name| tables.queue.values().any(|queue| queue.name.as_deref() == Some(&***name)));
    let inserted = placed.count() as i64;
    for queue in tables.queue.values().filter(|_| is_fresh) {
        rows.push(Some(&queue.id.to_be_bytes()));
        rows.push(Some(queue.name.as_deref().unwrap_or_default().as_bytes()));
        rows.push(Some(&[0]));
        rows.push(Some(&inserted.to_be_bytes()));
    }
    rows.finish()
}

/// Gives the jobs of a firing keys that do not name their tick.
fn share_keys(params: &mut [Value<'_>]) {
    if let Some(Value::TextArray(keys)) = params.last_mut() {
        for key in keys.iter_mut().flatten() {
            *key = key.split('@').next().unwrap_or_default().to_owned().into();
        }
    }
}

/// Returns the reply to a claim without its jobs.
fn without_jobs(rows: &Rows, statement: &Statement) -> Rows {
    let columns = statement.columns.len();
    let mut changed = Rows::builder(columns);
    for mut row in rows.iter(statement.id) {
        let cells: Vec<Option<Bytes>> = (0..columns).map(|_| row.read().ok().flatten()).collect();
        if cells[0].is_none() {
            cells.iter().for_each(|cell| changed.push(cell.as_deref()));
        }
    }
    changed.finish()
}

/// Returns a reply in which one column, milliseconds or a time, is greater by `by`.
fn later(rows: &Rows, statement: &Statement, index: usize, by: i64) -> Rows {
    let columns = statement.columns.len();
    let mut changed = Rows::builder(columns);
    for mut row in rows.iter(statement.id) {
        for column in 0..columns {
            let cell: Option<Bytes> = row.read().ok().flatten();
            let number = cell.as_deref().filter(|_| column == index).and_then(|cell| cell.try_into().ok());
            match number.map(i64::from_be_bytes) {
                Some(number) => changed.push(Some(&(number + by).to_be_bytes())),
                None => changed.push(cell.as_deref()),
            }
        }
    }
    changed.finish()
}
