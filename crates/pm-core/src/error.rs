//! What an operation can refuse, as data about the caller's options.

use crate::{State, StatementId};
use std::fmt;
use uuid::Uuid;

/// Why an operation did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// No queue of this name exists; create it first.
    QueueNotFound(String),
    /// A queue of this name exists already.
    QueueExists(String),
    /// No job of this id exists.
    JobNotFound(Uuid),
    /// Someone else has the job: the lease was reaped, settled or broken.
    LeaseLost,
    /// The key is held by another job, and the caller asked to refuse.
    KeyConflict {
        /// The job that holds the key.
        holder: Uuid,
        /// Its state when asked.
        state: State,
    },
    /// The caller's input breaks a rule.
    Invalid {
        /// What was given.
        what: String,
        /// Which rule it breaks.
        problem: String,
    },
    /// The database answered in an unexpected shape: another program's tables, or another version of the schema.
    Reply {
        /// The statement that was answered.
        statement: StatementId,
        /// What was odd.
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
            Error::LeaseLost => f.write_str("lease lost: someone else has the job"),
            Error::KeyConflict { holder, state } => write!(f, "the key is held by job {holder}, which is {state}"),
            Error::Invalid { what, problem } => write!(f, "{what} {problem}"),
            Error::Reply { statement, problem } => write!(f, "unexpected reply to {statement:?}: {problem}"),
        }
    }
}

impl std::error::Error for Error {}
