//! Ending leases, and asking what became of words that changed nothing.

use super::{position, read_position};
use crate::statement::Definition;
use crate::wire::{Rows, Type, Value, column, optional_column};
use crate::{Error, Lease, Operation, Params, Plan, State, StatementId, Verdict};
use std::borrow::Cow;
use std::time::Duration;

pub(crate) const SETTLE: Definition = Definition {
    sql: include_str!("settle.sql"),
    params: &[
        Type::UuidArray,
        Type::Int8Array,
        Type::Int2Array,
        Type::Int2Array,
        Type::Int8Array,
        Type::TextArray,
        Type::Bool,
    ],
    columns: &[Type::Int8],
};

pub(crate) const OUTCOME: Definition = Definition {
    sql: include_str!("outcome.sql"),
    params: &[Type::UuidArray, Type::Int8Array, Type::Int2Array],
    columns: &[Type::Int8, Type::Bool],
};

/// The end of one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettleItem {
    /// Which lease.
    pub lease: Lease,
    /// How it ends.
    pub verdict: Verdict,
    /// The state the job takes.
    pub state: State,
    /// The time until the job is ready again; none means at once.
    pub delay: Option<Duration>,
}

impl SettleItem {
    /// Returns about how many bytes the item takes in a statement.
    pub(crate) fn weight(&self) -> usize {
        100 + self.verdict.reason().map_or(0, str::len)
    }
}

/// Ends leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settle<'a> {
    /// The words, sorted by job id, which is the order of locking.
    pub items: &'a [SettleItem],
    /// Whether jobs that someone has locked are passed by instead of waited for.
    pub passes: bool,
}

/// The words that changed nothing, by their places in the batch, from 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unsettled {
    /// Their jobs are not leased to them: heard before, or too late. [`Outcome`] tells which.
    pub missed: Vec<usize>,
    /// Their jobs are locked by someone and were passed by.
    pub locked: Vec<usize>,
}

impl<'a> Settle<'a> {
    /// Returns the plan for these items.
    pub(crate) fn plan_of(items: &'a [SettleItem], passes: bool) -> Plan<'a> {
        Plan { statement: Self::STATEMENT, params: Self::params_of(items, passes) }
    }

    fn params_of(items: &'a [SettleItem], passes: bool) -> Params<'a> {
        let reason = |item: &'a SettleItem| item.verdict.reason().map(Cow::Borrowed);
        vec![
            Value::UuidArray(column(items, |item| item.lease.job)),
            Value::Int8Array(column(items, |item| item.lease.number)),
            Value::Int2Array(column(items, |item| item.verdict.code())),
            Value::Int2Array(column(items, |item| item.state.code())),
            optional_column(items, |item| item.delay.map(crate::time::whole_ms), Value::Int8Array),
            optional_column(items, reason, Value::TextArray),
            Value::Bool(passes),
        ]
    }
}

impl Operation for Settle<'_> {
    type Output = Unsettled;
    const STATEMENT: StatementId = StatementId::Settle;

    fn params(&self) -> Params<'_> {
        Self::params_of(self.items, self.passes)
    }

    fn interpret(self, rows: &Rows) -> Result<Unsettled, Error> {
        let mut unsettled = Unsettled::default();
        for mut row in rows.iter(Self::STATEMENT) {
            let ordinal: i64 = row.read()?;
            let place = position(&row, ordinal.saturating_abs(), self.items.len())?;
            let places = if ordinal < 0 { &mut unsettled.locked } else { &mut unsettled.missed };
            places.push(place);
        }
        Ok(unsettled)
    }
}

/// Follow-up of [`Settle`] for words that changed nothing: whether each had been heard before.
///
/// `true` means that this very word took effect earlier, `false` that someone else has the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// The words that changed nothing.
    pub items: &'a [SettleItem],
}

impl<'a> Outcome<'a> {
    /// Returns the plan for these items.
    pub(crate) fn plan_of(items: &'a [SettleItem]) -> Plan<'a> {
        Plan { statement: Self::STATEMENT, params: Self::params_of(items) }
    }

    fn params_of(items: &'a [SettleItem]) -> Params<'a> {
        vec![
            Value::UuidArray(column(items, |item| item.lease.job)),
            Value::Int8Array(column(items, |item| item.lease.number)),
            Value::Int2Array(column(items, |item| item.verdict.code())),
        ]
    }
}

impl Operation for Outcome<'_> {
    type Output = Vec<bool>;
    const STATEMENT: StatementId = StatementId::Outcome;

    fn params(&self) -> Params<'_> {
        Self::params_of(self.items)
    }

    fn interpret(self, rows: &Rows) -> Result<Vec<bool>, Error> {
        let mut heard = vec![false; self.items.len()];
        for mut row in rows.iter(Self::STATEMENT) {
            let position = read_position(&mut row, heard.len())?;
            heard[position] = row.read()?;
        }
        Ok(heard)
    }
}
