//! What every operation has: a statement, its parameters, and a reading of the reply.

use crate::wire::Rows;
use crate::{Error, Failure, Params, Plan, StatementId};

/// One thing to do in the database, in one statement.
///
/// Build it, send what [`Operation::plan`] says by whatever means, and hand the rows to [`Operation::interpret`].
pub trait Operation {
    /// What the reply means.
    type Output;
    /// The statement it sends.
    const STATEMENT: StatementId;

    /// Returns the statement's parameters; texts and payloads are borrowed.
    fn params(&self) -> Params<'_>;

    /// Returns what the reply means.
    ///
    /// # Errors
    ///
    /// What the database refused, or [`Error::Reply`] when the rows are not of the expected shape.
    fn interpret(self, rows: &Rows) -> Result<Self::Output, Error>;

    /// Returns what to send.
    fn plan(&self) -> Plan<'_> {
        Plan { statement: Self::STATEMENT, params: self.params() }
    }

    /// Returns the refusal that a failure stands for, such as a name that is taken.
    fn refusal(&self, failure: &Failure) -> Option<Error> {
        let _no_constraint_of_this_operation_refuses = failure;
        None
    }
}
