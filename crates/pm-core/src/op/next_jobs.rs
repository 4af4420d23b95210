//! Showing the head of a queue.

use super::all;
use crate::job::JobMetadata;
use crate::statement::{Declaration, roles};
use crate::wire::{Parameter, Rows, Value, columns};
use crate::{Error, Operation, Params, QueueName, StatementId};

/// Lists the next jobs of a queue in the order in which they would be claimed, without claiming them.
///
/// The cost does not depend on the backlog. It grows with the jobs in progress, and with jobs that are due and not
/// promoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextJobs {
    /// The queue.
    pub queue: QueueName,
    /// The maximum number of jobs.
    pub limit: usize,
}

/// The head of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Head {
    /// Whether the queue is paused, so that the jobs are not claimed.
    pub is_paused: bool,
    /// The jobs that are ready, or would be if the queue were not paused, in the order of claims.
    pub jobs: Vec<JobMetadata>,
}

impl Operation for NextJobs {
    type Row = HeadRow;
    type Output = Head;
    const DECLARATION: Declaration =
        Declaration::operator(StatementId::NextJobs, include_str!("next_jobs.sql"), roles::READ);

    fn params(&self) -> Params<'_> {
        vec![Value::Text(self.queue.as_str()), self.limit.param()]
    }

    fn interpret(&self, rows: &Rows) -> Result<Head, Error> {
        let rows = all::<Self>(rows)?;
        let first = rows.first().ok_or_else(|| Error::QueueNotFound(self.queue.to_string()))?;
        Ok(Head { is_paused: first.is_paused, jobs: rows.into_iter().filter_map(|row| row.job).collect() })
    }
}

columns! {
    /// A job, if the queue has one.
    pub struct HeadRow {
        pub is_paused: bool,
        pub job: Option<JobMetadata>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Columns;

    fn head(rows: &Rows) -> Result<Head, Error> {
        NextJobs { queue: QueueName::new("tasks").unwrap(), limit: 1 }.interpret(rows)
    }

    #[test]
    fn an_empty_queue_is_distinguished_from_a_missing_one() {
        let columns = HeadRow::COLUMNS.len();
        assert_eq!(head(&Rows::builder(columns).finish()), Err(Error::QueueNotFound("tasks".to_owned())));
        let mut empty = Rows::builder(columns);
        HeadRow { is_paused: true, job: None }.write(&mut empty);
        assert_eq!(head(&empty.finish()), Ok(Head { is_paused: true, jobs: Vec::new() }));
    }
}
