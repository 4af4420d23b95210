//! The errors of operations and of checked input.

use crate::{State, StatementId};
use std::fmt;
use uuid::Uuid;

/// Why an operation failed or an input was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// No queue with this name exists.
    QueueNotFound(String),
    /// A queue with this name exists already.
    QueueExists(String),
    /// No job with this id exists.
    JobNotFound(Uuid),
    /// The lease has ended: it was reaped or settled, or an operator broke it.
    LeaseLost,
    /// The key is reserved by another job, and the caller chose to be refused in that case.
    KeyConflict {
        /// The job that reserves the key.
        holder: Uuid,
        /// Its state at the time of the conflict.
        state: State,
    },
    /// The caller's input breaks a rule.
    Invalid {
        /// The input.
        what: String,
        /// The rule it breaks.
        problem: String,
    },
    /// A reply has an unexpected shape: the tables are another program's, or of another version of the schema.
    Reply {
        /// The statement that was sent.
        statement: StatementId,
        /// What is unexpected about its reply.
        problem: String,
    },
}

impl Error {
    pub(crate) fn invalid(what: impl Into<String>, problem: impl Into<String>) -> Self {
        Error::Invalid { what: what.into(), problem: problem.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::QueueNotFound(name) => write!(f, "queue {name:?} not found"),
            Error::QueueExists(name) => write!(f, "queue {name:?} exists already"),
            Error::JobNotFound(id) => write!(f, "job {id} not found"),
            Error::LeaseLost => f.write_str("lease lost: the job is no longer leased to this worker"),
            Error::KeyConflict { holder, state } => write!(f, "the key is reserved by job {holder}, which is {state}"),
            Error::Invalid { what, problem } => write!(f, "{what} {problem}"),
            Error::Reply { statement, problem } => write!(f, "unexpected reply to {statement:?}: {problem}"),
        }
    }
}

impl std::error::Error for Error {}
