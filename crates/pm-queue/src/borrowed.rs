//! A connection of somebody's pool, for one statement.

use pm_core::Failure;

/// A connection out of a pool, for drivers over one: it goes back with a clear answer.
///
/// Otherwise it is taken out of the pool and closed, also when the statement is given up and this is dropped: nobody knows
/// what such a connection still says.
pub struct BorrowedConnection<C> {
    connection: Option<C>,
    take_out: fn(C),
}

impl<C> BorrowedConnection<C> {
    /// Returns a borrowing of this connection; `take_out` takes it out of its pool and closes it.
    pub fn new(connection: C, take_out: fn(C)) -> Self {
        BorrowedConnection { connection: Some(connection), take_out }
    }

    /// Returns the connection.
    pub fn connection(&mut self) -> &mut C {
        self.connection.as_mut().expect("it is borrowed until it is given back, which ends this")
    }

    /// Returns what was answered; the connection goes back if it is [good for more](Failure::spares_connection).
    ///
    /// # Errors
    ///
    /// As answered.
    pub fn give_back<T>(mut self, answer: Result<T, Failure>) -> Result<T, Failure> {
        if answer.as_ref().err().is_none_or(Failure::spares_connection) {
            drop(self.connection.take());
        }
        answer
    }
}

impl<C> std::fmt::Debug for BorrowedConnection<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BorrowedConnection")
    }
}

impl<C> Drop for BorrowedConnection<C> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            (self.take_out)(connection);
        }
    }
}
