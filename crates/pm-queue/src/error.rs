//! The error type of this crate: a kind to act on, a message, advice, and the cause.

use crate::worker::JobAck;
use pm_core::machine::Trouble;
use pm_core::{Advice, Class, Error as CoreError, Failure};
use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// The error of every call: a kind to act on, a message, and the cause as its [source](std::error::Error::source).
///
/// `Display` writes the message and, after it, the [advice](Error::advice).
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    advice: Option<Advice>,
    is_unknown: bool,
    source: Option<Arc<dyn StdError + Send + Sync>>,
    /// The ack of a job that could not be decoded, or whose result was refused.
    ack: Option<Arc<Mutex<Option<JobAck>>>>,
}

/// The kind of an error. Each kind calls for a different action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The queue does not exist: create it.
    QueueNotFound,
    /// A queue of this name exists already: choose another name.
    QueueExists,
    /// The job does not exist.
    JobNotFound,
    /// The lease is no longer valid: it has ended, or another worker or an operator has the job now. Stop working on
    /// it.
    LeaseLost,
    /// Another job has reserved the key.
    KeyConflict,
    /// The payload cannot be encoded, or cannot be decoded as the requested type.
    Payload,
    /// The input is not valid: the message explains why.
    Invalid,
    /// pm's tables are missing, older or newer than this program: migrate, or upgrade the program.
    Schema,
    /// The role lacks a privilege, or row-level security hides rows from it: the message lists what it lacks.
    Forbidden,
    /// The database cannot be reached or does not answer: try again later.
    Unavailable,
    /// This program has closed the queue.
    Closed,
    /// The database reported another error, which the message contains.
    Database,
}

impl Error {
    /// Returns the kind of error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the message, without the advice. For programs that give the advice in their own words.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns what would prevent the error, if that is known.
    pub fn advice(&self) -> Option<&Advice> {
        self.advice.as_ref()
    }

    /// Returns whether the operation may have been done in spite of the error, or may still be: it was sent, and no
    /// reply came.
    ///
    /// If this is false, a failed enqueue has added no job and never will. If it is true, look for the job, or enqueue
    /// it again with the same key.
    pub fn is_outcome_unknown(&self) -> bool {
        self.is_unknown
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), advice: None, is_unknown: false, source: None, ack: None }
    }

    /// Returns an error of kind `Schema` with the advice to migrate.
    pub(crate) fn unmigrated(message: impl Into<String>) -> Self {
        Error { advice: Some(Advice::Migrate), ..Error::new(ErrorKind::Schema, message) }
    }

    pub(crate) fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// Adds that the error occurred while the jobs of a refused call were being deleted.
    pub(crate) fn after(mut self, refusal: &Error) -> Self {
        self.message = format!(
            "{}; this happened while deleting jobs of a call that was refused: {refusal}; roll the transaction back",
            self.message
        );
        self
    }

    pub(crate) fn with_ack(mut self, ack: JobAck) -> Self {
        self.ack = Some(Arc::new(Mutex::new(Some(ack))));
        self
    }

    /// Takes the ack out of an error that has one: of kind `Payload`, which a stream yielded for a job that could not
    /// be decoded, or of a result that [`JobAck::commit_with`] has refused.
    ///
    /// With it the worker decides how to settle the job. If the ack is not taken, dropping the last clone of the error
    /// settles the job: as [`JobAck::unreadable`] does, so that another worker can try it, or with a soft fail that has
    /// the refusal as its reason. Later calls return `None`.
    pub fn take_ack(&self) -> Option<JobAck> {
        self.ack.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn closed() -> Self {
        Error::new(ErrorKind::Closed, "this program has closed the queue")
    }

    pub(crate) fn no_task() -> Self {
        Error { is_unknown: true, ..Error::new(ErrorKind::Unavailable, "the runtime that served this queue has ended") }
    }

    /// Returns the error for a database URL that cannot be parsed. For driver authors. `why` must not contain a
    /// password.
    pub fn bad_url(why: impl fmt::Display) -> Self {
        Error::invalid(format!("the database URL is not valid: {why}"))
    }

    /// Returns an error of kind `Invalid`. For driver authors.
    pub fn invalid(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Invalid, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.advice {
            None => Ok(()),
            Some(Advice::Migrate) => f.write_str("; call Queue::migrate, or set ConnectOptions::migrate"),
            Some(Advice::Pooler) => f.write_str("; connect to the server itself, or set ConnectOptions::pooler"),
            Some(Advice::Grant { role, kind }) => {
                write!(f, "; grant role {role:?} the privileges of {}", kind.article())
            }
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<CoreError> for Error {
    fn from(error: CoreError) -> Self {
        let kind = match &error {
            CoreError::QueueNotFound(_) => ErrorKind::QueueNotFound,
            CoreError::QueueExists(_) => ErrorKind::QueueExists,
            CoreError::JobNotFound(_) => ErrorKind::JobNotFound,
            CoreError::LeaseLost => ErrorKind::LeaseLost,
            CoreError::KeyConflict { .. } => ErrorKind::KeyConflict,
            CoreError::Invalid { .. } => ErrorKind::Invalid,
            _ => ErrorKind::Database,
        };
        Error::new(kind, error.to_string()).with_source(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let (kind, message) = if failure.is_schema() {
            (ErrorKind::Schema, format!("pm's tables are missing or have another version ({failure})"))
        } else if failure.is_pooler() {
            (ErrorKind::Invalid, format!("the connection goes through a transaction pooler ({failure})"))
        } else if failure.is_key_conflict() {
            (ErrorKind::KeyConflict, "another job of the queue has reserved the key".to_owned())
        } else if failure.is_forbidden() {
            (ErrorKind::Forbidden, format!("the role may not do this: {failure}"))
        } else if failure.is_unstorable() {
            let advice = "the encoding of the database cannot store a character of a name or key: use others";
            (ErrorKind::Invalid, format!("{advice} ({failure})"))
        } else if failure.is_search_path() {
            let advice = "a schema comes before pg_catalog in the search_path of this session, and its operators \
                          would replace those of Postgres: leave pg_catalog out of the search_path, or put it first";
            (ErrorKind::Invalid, format!("{advice} ({failure})"))
        } else if failure.is_read_only() {
            let advice = "the server takes no writes: it is a standby, or default_transaction_read_only is set";
            (ErrorKind::Database, format!("{advice} ({failure})"))
        } else if failure.is_connection() {
            (ErrorKind::Unavailable, format!("the database is unavailable: {failure}"))
        } else {
            (ErrorKind::Database, format!("the database reported an error: {failure}"))
        };
        let (advice, is_unknown) = (failure.advice(), failure.class() == Class::Unknown);
        Error { advice, is_unknown, ..Error::new(kind, message).with_source(failure) }
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Refused(error) => error.into(),
            Trouble::Failed(failure) => failure.into(),
            Trouble::Unknown(trouble) => {
                let error = Error::from(*trouble);
                let message = format!("{}; an earlier try got no reply and may have succeeded", error.message);
                Error { message, is_unknown: true, ..error }
            }
        }
    }
}
