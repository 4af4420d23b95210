//! Enqueues with keys, which may have to wait for another transaction.

use super::enqueue::{EnqueueReply, EnqueueRow};
use super::item::{DESCRIPTION, keyed_item_params, replacing};
use crate::statement::{Declaration, roles};
use crate::wire::{Rows, Value};
use crate::{Error, NewJob, Operation, Params, Plan, StatementId};

/// Returns the parameters of new jobs, and the ids of those that may have replaced another job before.
fn keyed_params(jobs: &[NewJob]) -> Params<'_> {
    let mut params = keyed_item_params(jobs);
    params.push(replacing(jobs));
    params
}

/// Inserts jobs, some of which have keys. The reply names the items that were not inserted; all others were.
#[derive(Debug, Clone, PartialEq)]
pub struct EnqueueKeyed<'a> {
    /// The jobs, each of which passed [`NewJob::check`].
    pub jobs: &'a [NewJob],
    /// Whether it runs in the caller's transaction. There it waits for locks as long as the settings of the session
    /// allow. On pm's own connections it skips locked queues, and fails after waiting for a key for 50 ms;
    /// [`EnqueueEach`] then takes over.
    pub in_transaction: bool,
}

impl<'a> EnqueueKeyed<'a> {
    /// Returns the plan for these jobs.
    pub(crate) fn plan_of(jobs: &'a [NewJob]) -> Plan<'a> {
        Plan { statement: Self::STATEMENT, params: Self::params_of(jobs, false) }
    }

    fn params_of(jobs: &'a [NewJob], in_transaction: bool) -> Params<'a> {
        let mut params = keyed_params(jobs);
        params.push(Value::Bool(!in_transaction));
        params
    }
}

impl Operation for EnqueueKeyed<'_> {
    type Row = EnqueueRow;
    type Output = EnqueueReply;
    const DECLARATION: Declaration =
        Declaration::keyed(StatementId::EnqueueKeyed, include_str!("enqueue_keyed.sql"), roles::ENQUEUE)
            .human_text(DESCRIPTION)
            .in_transaction();

    fn params(&self) -> Params<'_> {
        Self::params_of(self.jobs, self.in_transaction)
    }

    fn interpret(&self, rows: &Rows) -> Result<EnqueueReply, Error> {
        EnqueueReply::read::<Self>(rows, self.jobs.len())
    }
}

/// Does the same as [`EnqueueKeyed`] job by job, and skips jobs whose key is locked. About six times as expensive.
#[derive(Debug, Clone, PartialEq)]
pub struct EnqueueEach<'a> {
    /// The jobs, each of which passed [`NewJob::check`].
    pub jobs: &'a [NewJob],
}

impl<'a> EnqueueEach<'a> {
    /// Returns the plan for these jobs.
    pub(crate) fn plan_of(jobs: &'a [NewJob]) -> Plan<'a> {
        Plan { statement: Self::STATEMENT, params: keyed_params(jobs) }
    }
}

impl Operation for EnqueueEach<'_> {
    type Row = EnqueueRow;
    type Output = EnqueueReply;
    const DECLARATION: Declaration =
        Declaration::keyed(StatementId::EnqueueEach, include_str!("enqueue_each.sql"), roles::ENQUEUE)
            .human_text(DESCRIPTION);

    fn params(&self) -> Params<'_> {
        keyed_params(self.jobs)
    }

    fn interpret(&self, rows: &Rows) -> Result<EnqueueReply, Error> {
        EnqueueReply::read::<Self>(rows, self.jobs.len())
    }
}
