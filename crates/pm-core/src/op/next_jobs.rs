//! Showing the head of a queue.

use crate::job::JobMetadata;
use crate::statement::{ConnectionClass, Declaration, roles};
use crate::wire::{Rows, Type, Value};
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
    type Output = Head;
    const STATEMENT: StatementId = StatementId::NextJobs;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("next_jobs.sql"), ConnectionClass::Operator, roles::READ);
    const COLUMNS: &'static [Type] = &[
        Type::Bool,
        Type::Bool,
        Type::Uuid,
        Type::Text,
        Type::Int2,
        Type::Int4,
        Type::Int4,
        Type::Int4,
        Type::Int4,
        Type::Int2,
        Type::Timestamp,
        Type::Timestamp,
        Type::Timestamp,
        Type::Timestamp,
        Type::Int8,
        Type::Text,
        Type::Text,
        Type::Text,
        Type::Text,
        Type::Int8,
        Type::Timestamp,
    ];

    fn params(&self) -> Params<'_> {
        vec![Value::Text(self.queue.as_str()), Value::Int8(i64::try_from(self.limit).unwrap_or(i64::MAX))]
    }

    fn interpret(self, rows: &Rows) -> Result<Head, Error> {
        if rows.is_empty() {
            return Err(Error::QueueNotFound(self.queue.to_string()));
        }
        let mut head = Head::default();
        for mut row in rows.iter(Self::STATEMENT) {
            head.is_paused = row.read()?;
            if row.read()? {
                head.jobs.push(JobMetadata::read(&mut row)?);
            }
        }
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(rows: &Rows) -> Result<Head, Error> {
        NextJobs { queue: QueueName::new("tasks").unwrap(), limit: 1 }.interpret(rows)
    }

    #[test]
    fn an_empty_queue_is_distinguished_from_a_missing_one() {
        let missing = Rows::builder(NextJobs::COLUMNS.len()).finish();
        assert_eq!(head(&missing), Err(Error::QueueNotFound("tasks".to_owned())));
        let mut empty = Rows::builder(NextJobs::COLUMNS.len());
        [Some(&[1][..]), Some(&[0])].into_iter().for_each(|cell| empty.push(cell));
        (2..NextJobs::COLUMNS.len()).for_each(|_| empty.push(None));
        assert_eq!(head(&empty.finish()), Ok(Head { is_paused: true, jobs: Vec::new() }));
    }
}
