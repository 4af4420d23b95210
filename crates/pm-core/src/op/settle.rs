//! Settling leases, and looking up the outcome of settlements that changed nothing.

use super::{all, index_of};
use crate::statement::{Declaration, roles};
use crate::time::whole_ms;
use crate::wire::{Rows, Value, column, columns, optional_column};
use crate::{Error, Lease, Operation, Params, Plan, State, StatementId, Verdict};
use std::time::Duration;

/// The settlement of one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettleItem {
    /// The lease.
    pub lease: Lease,
    /// How it is settled.
    pub verdict: Verdict,
    /// The new state of the job.
    pub state: State,
    /// The time until the job is due again; `None` is at once.
    pub delay: Option<Duration>,
}

impl SettleItem {
    /// Returns the approximate size of the item in a statement, in bytes.
    pub(crate) fn weight(&self) -> usize {
        100 + self.verdict.reason().or(self.verdict.result()).map_or(0, str::len)
    }
}

/// Settles leases. About 11 µs per job in batches of 500.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settle<'a> {
    /// The settlements, sorted by job id, which is the order of locking.
    pub items: &'a [SettleItem],
    /// Whether jobs that another transaction has locked are skipped instead of waited for.
    pub passes: bool,
}

/// Settles leases whose jobs have succeeded without a result, for about five sixths of the cost of [`Settle`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettleCommits<'a> {
    /// The settlements, all [`Verdict::Commit`], sorted by job id, which is the order of locking.
    pub items: &'a [SettleItem],
}

/// The settlements that changed nothing, by their indexes in the batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unsettled {
    /// The lease has ended: the settlement was applied before, or it is too late. [`Outcome`] returns which.
    pub missed: Vec<usize>,
    /// The job was skipped, because another transaction has locked it.
    pub locked: Vec<usize>,
}

impl<'a> Settle<'a> {
    /// Returns the plan for these items.
    pub(crate) fn plan_of(items: &'a [SettleItem], passes: bool) -> Plan<'a> {
        let params = vec![
            column(items, |item| item.lease.job),
            column(items, |item| item.lease.number),
            column(items, |item| item.verdict.code()),
            column(items, |item| item.state.code()),
            optional_column(items, |item| item.delay.map(whole_ms)),
            optional_column(items, |item| item.verdict.reason()),
            Value::Bool(passes),
            optional_column(items, |item| item.verdict.result()),
        ];
        Plan { statement: Self::STATEMENT, params }
    }
}

impl Operation for Settle<'_> {
    /// The number of a settlement that changed nothing; negative if the job was skipped.
    type Row = i64;
    type Output = Unsettled;
    const DECLARATION: Declaration =
        Declaration::hot(StatementId::Settle, include_str!("settle.sql"), roles::WORK).human_text(5).in_transaction();

    fn params(&self) -> Params<'_> {
        Self::plan_of(self.items, self.passes).params
    }

    fn interpret(&self, rows: &Rows) -> Result<Unsettled, Error> {
        let mut unsettled = Unsettled::default();
        for ordinal in all::<Self>(rows)? {
            let index = index_of::<Self>(ordinal.saturating_abs(), self.items.len())?;
            let indexes = if ordinal < 0 { &mut unsettled.locked } else { &mut unsettled.missed };
            indexes.push(index);
        }
        Ok(unsettled)
    }
}

impl<'a> SettleCommits<'a> {
    /// Returns the plan for these items.
    pub(crate) fn plan_of(items: &'a [SettleItem]) -> Plan<'a> {
        let params = vec![column(items, |item| item.lease.job), column(items, |item| item.lease.number)];
        Plan { statement: Self::STATEMENT, params }
    }
}

impl Operation for SettleCommits<'_> {
    /// The number of a settlement that was applied.
    type Row = i64;
    type Output = Unsettled;
    const DECLARATION: Declaration =
        Declaration::hot(StatementId::SettleCommits, include_str!("settle_commits.sql"), roles::WORK);

    fn params(&self) -> Params<'_> {
        Self::plan_of(self.items).params
    }

    fn interpret(&self, rows: &Rows) -> Result<Unsettled, Error> {
        let mut is_settled = vec![false; self.items.len()];
        for ordinal in all::<Self>(rows)? {
            is_settled[index_of::<Self>(ordinal, self.items.len())?] = true;
        }
        let missed = (0..self.items.len()).filter(|index| !is_settled[*index]).collect();
        Ok(Unsettled { missed, locked: Vec::new() })
    }
}

/// Follow-up of [`Settle`] for settlements that changed nothing: whether each had been applied before.
///
/// `true` means that the same settlement was applied by an earlier statement, `false` that the lease was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// The settlements that changed nothing.
    pub items: &'a [SettleItem],
}

impl<'a> Outcome<'a> {
    /// Returns the plan for these items.
    pub(crate) fn plan_of(items: &'a [SettleItem]) -> Plan<'a> {
        let params = vec![
            column(items, |item| item.lease.job),
            column(items, |item| item.lease.number),
            column(items, |item| item.verdict.code()),
        ];
        Plan { statement: Self::STATEMENT, params }
    }
}

impl Operation for Outcome<'_> {
    type Row = OutcomeRow;
    type Output = Vec<bool>;
    const DECLARATION: Declaration = Declaration::hot(StatementId::Outcome, include_str!("outcome.sql"), roles::WORK);

    fn params(&self) -> Params<'_> {
        Self::plan_of(self.items).params
    }

    fn interpret(&self, rows: &Rows) -> Result<Vec<bool>, Error> {
        let mut applied = vec![false; self.items.len()];
        for OutcomeRow { ordinal, was_applied } in all::<Self>(rows)? {
            applied[index_of::<Self>(ordinal, self.items.len())?] = was_applied;
        }
        Ok(applied)
    }
}

columns! {
    /// The number of a settlement, and whether it had been applied.
    pub struct OutcomeRow {
        pub ordinal: i64,
        pub was_applied: bool,
    }
}
