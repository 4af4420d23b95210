//! Enqueues under locks: which ones they delay, for how long they are sent again, and whether their answers are true.

use super::Auditor;
use crate::sim::general;
use crate::sim::world::{Lock, SECOND};
use pm_core::StatementId;
use pm_queue::driver::{Failure, Rows, Value};
use pm_queue::{Enqueued, Error, ErrorKind};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;
use uuid::Uuid;

/// For how long an enqueue is sent again: when it has certainly not run, and when it may have.
const UNSENT: u64 = 5 * SECOND;
const SENT: u64 = 30 * SECOND;

/// What is known about enqueues.
#[derive(Default)]
pub(super) struct Enqueues {
    /// Every lock: from when, and until when.
    locks: Vec<(Lock, u64, Option<u64>)>,
    sends: BTreeMap<Uuid, Sends>,
    /// Payloads of enqueues that were refused for good.
    refused: BTreeSet<Vec<u8>>,
    /// Payloads of enqueues that have met another job with their key.
    lost_keys: BTreeSet<Vec<u8>>,
}

/// How often and since when a job was sent.
#[derive(Default)]
struct Sends {
    first_at: Option<u64>,
    unanswered: u32,
    is_unknown: bool,
    /// Whether its batch has just met a locked key or a bad text, perhaps another item's, or a statement that gives no
    /// reasons: then it is sent once more at once, even past its retry deadline.
    is_sent_once_more: bool,
}

/// A call that enqueues one job.
pub(crate) struct Call {
    pub(crate) at: u64,
    pub(crate) queue: String,
    pub(crate) key: Option<String>,
    pub(crate) payload: Vec<u8>,
}

/// Returns whether a statement is an enqueue.
pub(super) fn is_enqueue(statement: StatementId) -> bool {
    matches!(general(statement), StatementId::Enqueue | StatementId::EnqueueKeyed | StatementId::EnqueueEach)
}

impl Auditor {
    /// Returns the current locks.
    pub(crate) fn open_locks(&self) -> Vec<Lock> {
        self.enqueues.locks.iter().filter(|(_, _, until)| until.is_none()).map(|(lock, ..)| lock.clone()).collect()
    }

    /// Records that a lock is taken or released now.
    pub(crate) fn locked(&mut self, lock: &Lock, locked: bool, now: u64) {
        for (_, _, until) in self.enqueues.locks.iter_mut().filter(|(other, _, until)| other == lock && until.is_none())
        {
            *until = Some(now);
        }
        if locked {
            self.enqueues.locks.push((lock.clone(), now, None));
        }
    }

    /// Judges an enqueue that a process sends: not again after its retry deadline plus a wait of `waits_us` for a
    /// connection.
    pub(crate) fn enqueue_sent(&mut self, statement: StatementId, params: &[Value<'_>], now: u64, waits_us: u64) {
        for id in ids(statement, params) {
            let sends = self.enqueues.sends.entry(id).or_default();
            sends.is_unknown |= sends.unanswered > 0;
            sends.unanswered += 1;
            let first_at = *sends.first_at.get_or_insert(now);
            let is_sent_once_more = std::mem::take(&mut sends.is_sent_once_more);
            let most = if sends.is_unknown { SENT } else { UNSENT };
            if now - first_at > most + waits_us && !is_sent_once_more {
                self.violate(format!("retry deadline: {id} is sent again {} us after the first time", now - first_at));
            }
        }
    }

    /// Records the answer to an enqueue, which may show whether it ran.
    pub(crate) fn enqueue_answered(
        &mut self,
        statement: StatementId,
        params: &[Value<'_>],
        answer: Option<&Result<Rows, Failure>>,
    ) {
        let known = answer.is_some_and(|answer| {
            answer.as_ref().is_ok() || answer.as_ref().is_err_and(|failure| failure.class() != pm_core::Class::Unknown)
        });
        let may_be_anothers = |failure: &Failure| {
            let waited = failure.sqlstate() == Some("55P03") && statement == StatementId::EnqueueKeyed;
            waited || failure.class() == pm_core::Class::Permanent
        };
        let may_be_anothers = answer.is_some_and(|answer| answer.as_ref().is_err_and(may_be_anothers));
        let has_no_reasons = statement == StatementId::EnqueueFresh && answer.is_some_and(Result::is_ok);
        let is_present = |index: usize| {
            let rows = answer.and_then(|answer| answer.as_ref().ok());
            rows.is_some_and(|rows| outcome_of(rows, statement, index) == Some(2))
        };
        if let [_, _, _, _, _, _, _, Value::BytesArray(payloads), ..] = params {
            let lost = payloads.iter().enumerate().filter(|(index, _)| known && is_present(*index));
            self.enqueues.lost_keys.extend(lost.filter_map(|(_, payload)| payload.map(<[u8]>::to_vec)));
        }
        for (index, id) in ids(statement, params).enumerate().filter(|_| known) {
            self.enqueues.sends.entry(id).and_modify(|sends| {
                sends.unanswered -= 1;
                // The cheaper statement does not report why a job was not inserted, so it is sent once more at once.
                sends.is_sent_once_more = may_be_anothers || has_no_reasons;
                // Another job has the key and may end by then: it is sent again for as long.
                sends.is_unknown |= is_present(index);
            });
        }
    }

    /// Judges the answer to the enqueue of one job.
    pub(crate) fn call_answered(&mut self, call: &Call, answer: &Result<Enqueued, Error>, now: u64) {
        self.enqueued(&call.payload, answer);
        let Err(error) = answer else { return };
        let is_lock = error.source().is_some_and(|source| source.to_string().contains("55P03"));
        // A holder of the key that has ended when it is looked up is taken for a locked one the second time, or when
        // the retry deadline has passed by then.
        let lost_its_key = self.enqueues.lost_keys.contains(&call.payload);
        let may_look_locked = call.key.is_some() && (lost_its_key || !self.link.keeps_leases());
        if is_lock && !may_look_locked && !self.was_locked(call, now) {
            self.violate(format!(
                "a lock delays no others: the enqueue of {:?} with key {:?} was answered: {error}",
                call.queue, call.key
            ));
        }
        // The key may become free, and a straggler succeed, after that answer.
        if error.is_outcome_unknown() || error.kind() == ErrorKind::KeyConflict {
            return;
        }
        if self.intents.get(&call.payload).is_some_and(|id| !self.deleted.contains(id)) {
            self.violate(format!("answers are true: a job that is in was answered: {error}"));
        }
        self.enqueues.refused.insert(call.payload.clone());
    }

    fn was_locked(&self, call: &Call, now: u64) -> bool {
        self.enqueues.locks.iter().any(|(lock, from, until)| {
            let is_needed = lock.queue == call.queue && (lock.key.is_none() || lock.key == call.key);
            // One that comes while others still wait for the lock waits behind them, and reports the lock: they wait
            // for up to 30 s when they may have run and no reply shows that the lock is gone.
            is_needed && *from <= now && until.is_none_or(|until| until + SENT >= call.at)
        })
    }

    /// Returns whether an enqueue of this payload was refused for good.
    pub(super) fn was_refused(&self, payload: &[u8]) -> bool {
        self.enqueues.refused.contains(payload)
    }
}

/// Returns the outcome of one item in the reply to an enqueue, if it was not inserted.
pub(crate) fn outcome_of(rows: &Rows, statement: StatementId, index: usize) -> Option<i16> {
    let mut outcomes =
        rows.iter(statement).filter_map(|mut row| Some((row.read::<i64>().ok()?, row.read::<i16>().ok()?)));
    outcomes.find(|(at, outcome)| *at == index as i64 + 1 && *outcome != 3).map(|(_, outcome)| outcome)
}

/// Returns the ids of the jobs of an enqueue; none of another statement.
fn ids<'a>(statement: StatementId, params: &'a [Value<'_>]) -> impl Iterator<Item = Uuid> + use<'a> {
    let ids = match params.first() {
        Some(Value::UuidArray(ids)) if is_enqueue(statement) => &ids[..],
        _ => &[],
    };
    ids.iter().copied().flatten()
}
