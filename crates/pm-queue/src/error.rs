//! One error for everything: a kind that says what to do, and where it came from.

use crate::ack::JobAck;
use pm_core::machine::Trouble;
use pm_core::{Error as CoreError, Failure};
use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Why something did not come about.
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    is_unknown: bool,
    source: Option<Arc<dyn StdError + Send + Sync>>,
    /// Of a job that came from a stream and cannot be read.
    ack: Option<Arc<Mutex<Option<JobAck>>>>,
}

/// What kind of trouble it is. Each kind asks for another action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The queue does not exist: create it.
    QueueNotFound,
    /// A queue of that name exists already: choose another name.
    QueueExists,
    /// The job does not exist.
    JobNotFound,
    /// Someone else has the job: stop working on it, its outcome is theirs to tell.
    LeaseLost,
    /// The key is held by another job.
    KeyConflict,
    /// The payload cannot be written, or not be read as the wanted type.
    Payload,
    /// The input breaks a rule: the message says which.
    Invalid,
    /// pm's tables are missing, older or newer than this program: migrate, or upgrade the program.
    Schema,
    /// The role may not do this, or does not see all rows: the message says what to grant.
    Forbidden,
    /// The database cannot be reached or does not answer: try again later.
    Unavailable,
    /// The queue was closed by this program.
    Closed,
    /// The database refused for another reason: its words are in the message.
    Database,
}

impl Error {
    /// Returns what kind of trouble it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns whether what was asked for may have been done all the same, or may still be: it was sent, and no reply
    /// came.
    ///
    /// An enqueue that failed otherwise is not in and will not be. After an unknown outcome look for the job, or enqueue
    /// it again with the same key.
    pub fn is_outcome_unknown(&self) -> bool {
        self.is_unknown
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), is_unknown: false, source: None, ack: None }
    }

    pub(crate) fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// Says that it came while a call that was refused was being taken back.
    pub(crate) fn after(mut self, refusal: &Error) -> Self {
        self.message = format!(
            "{}; it came while deleting what had gone in of a call that was refused: {refusal}; roll the transaction back",
            self.message
        );
        self
    }

    pub(crate) fn with_ack(mut self, ack: JobAck) -> Self {
        self.ack = Some(Arc::new(Mutex::new(Some(ack))));
        self
    }

    /// Returns the ack of the job that this error is about, once: of an error of kind `Payload` that a stream yields.
    ///
    /// With it a worker decides what becomes of a job whose payload it cannot read. Left in the error, it goes with the
    /// last clone of it, and the job waits for a worker that can: [`JobAck::unreadable`].
    pub fn take_ack(&self) -> Option<JobAck> {
        self.ack.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn closed() -> Self {
        Error::new(ErrorKind::Closed, "the queue was closed by this program")
    }

    pub(crate) fn no_task() -> Self {
        Error { is_unknown: true, ..Error::new(ErrorKind::Unavailable, "the runtime that served this queue is gone") }
    }

    /// Returns the error for a database's URL that cannot be read, for drivers. `why` must hold no password.
    pub fn bad_url(why: impl fmt::Display) -> Self {
        Error::invalid(format!("the database URL is not valid: {why}"))
    }

    /// Returns the error for input that breaks a rule, for drivers.
    pub fn invalid(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Invalid, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
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
            let advice = "pm's tables are missing or of another version; run: pm db migrate";
            (ErrorKind::Schema, format!("{advice} ({failure})"))
        } else if failure.is_pooler() {
            let advice = "a transaction pooler stands before the database: go past it, or set ConnectOptions::pooler";
            (ErrorKind::Invalid, format!("{advice} ({failure})"))
        } else if failure.is_forbidden() {
            (ErrorKind::Forbidden, format!("the role may not do this: {failure}"))
        } else if failure.is_unstorable() {
            let advice = "the encoding of the database cannot store a character of a name or key: use others";
            (ErrorKind::Invalid, format!("{advice} ({failure})"))
        } else if failure.is_search_path() {
            let advice = "a schema stands before pg_catalog in the search_path of this session, and its operators would \
                          run in place of Postgres's own: leave pg_catalog out of the search_path, or put it first";
            (ErrorKind::Invalid, format!("{advice} ({failure})"))
        } else if failure.is_read_only() {
            let advice = "the server takes no writes: it is a standby, or default_transaction_read_only is on";
            (ErrorKind::Database, format!("{advice} ({failure})"))
        } else if failure.is_connection() {
            (ErrorKind::Unavailable, format!("the database is unavailable: {failure}"))
        } else {
            (ErrorKind::Database, format!("the database refused: {failure}"))
        };
        Error::new(kind, message).with_source(failure)
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Refused(error) => error.into(),
            Trouble::Failed(failure) => failure.into(),
            Trouble::Unknown(trouble) => {
                let error = Error::from(*trouble);
                let message = format!("{}; it was sent before without a reply, and may have been done", error.message);
                Error { message, is_unknown: true, ..error }
            }
        }
    }
}
