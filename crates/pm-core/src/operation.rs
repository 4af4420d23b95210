//! The trait of all operations: a statement, its parameters, and the interpretation of its reply.

use crate::statement::Declaration;
use crate::wire::{Columns, Rows};
use crate::{Error, Failure, Params, Plan, StatementId};

/// One thing to be done in the database, in one statement.
///
/// Build it, send its [`plan`](Operation::plan) in any way, and pass the rows of the reply to [`Operation::interpret`].
pub trait Operation {
    /// A row of the reply.
    type Row: Columns;
    /// The meaning of the reply.
    type Output;
    /// The declaration of the statement that it sends.
    const DECLARATION: Declaration;
    /// The statement that it sends.
    const STATEMENT: StatementId = Self::DECLARATION.id;

    /// Returns the parameters of the statement, by default none. Texts and payloads are borrowed.
    fn params(&self) -> Params<'_> {
        Vec::new()
    }

    /// Returns the meaning of the reply.
    ///
    /// # Errors
    ///
    /// If the database refused the operation, or with [`Error::Reply`] if the rows do not have the expected shape.
    fn interpret(&self, rows: &Rows) -> Result<Self::Output, Error>;

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

/// Implements [`Operation`] for an operation whose output is its rows as they are: `all` of them, the `only` one, or
/// `at_most_one`, as the functions of these names in the module above return them.
///
/// Names the operation and its rows, then the declaration of its statement, then the method `params`, if there are any.
macro_rules! operation {
    (@output all $row:ty) => { Vec<$row> };
    (@output only $row:ty) => { $row };
    (@output at_most_one $row:ty) => { Option<$row> };
    ($op:ident: $kind:ident $row:ty; $declaration:expr; $($params:tt)*) => {
        impl $crate::Operation for $op {
            type Row = $row;
            type Output = $crate::operation::operation!(@output $kind $row);
            const DECLARATION: $crate::Declaration = $declaration;

            $($params)*

            fn interpret(&self, rows: &$crate::Rows) -> Result<Self::Output, $crate::Error> {
                super::$kind::<Self>(rows)
            }
        }
    };
}
pub(crate) use operation;
