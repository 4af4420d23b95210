//! The trait of all operations: a statement, its parameters, and the interpretation of its reply.

use crate::statement::Declaration;
use crate::wire::{Rows, Type};
use crate::{Error, Failure, Params, Plan, StatementId};

/// One thing to be done in the database, in one statement.
///
/// Build it, send its [`plan`](Operation::plan) in any way, and pass the rows of the reply to [`Operation::interpret`].
pub trait Operation {
    /// The meaning of the reply.
    type Output;
    /// The statement that it sends.
    const STATEMENT: StatementId;
    /// The declaration of this statement.
    const DECLARATION: Declaration;
    /// The types of the columns of the reply, in order.
    const COLUMNS: &'static [Type];

    /// Returns the parameters of the statement. Texts and payloads are borrowed.
    fn params(&self) -> Params<'_>;

    /// Returns the meaning of the reply.
    ///
    /// # Errors
    ///
    /// If the database refused the operation, or with [`Error::Reply`] if the rows do not have the expected shape.
    fn interpret(self, rows: &Rows) -> Result<Self::Output, Error>;

    /// Returns the statement and its parameters.
    fn plan(&self) -> Plan<'_> {
        Plan { statement: Self::STATEMENT, params: self.params() }
    }

    /// Returns the refusal that a failure of the statement means, such as a name that is taken, if it means one.
    fn refusal(&self, failure: &Failure) -> Option<Error> {
        let _no_constraint_of_this_operation_refuses = failure;
        None
    }
}
