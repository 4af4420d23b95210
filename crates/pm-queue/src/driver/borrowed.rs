//! A connection borrowed from the caller's pool for one statement.

use pm_core::Failure;

/// A connection borrowed from a pool, for one statement. For driver authors.
///
/// It goes back to the pool after a definite reply. Otherwise, also when the statement is abandoned and this is
/// dropped, it is taken out of the pool and closed, because a late reply might still arrive on it.
pub struct BorrowedConnection<C> {
    connection: Option<C>,
    discard: fn(C),
}

impl<C> BorrowedConnection<C> {
    /// Wraps a borrowed connection; `discard` takes it out of its pool and closes it.
    pub fn new(connection: C, discard: fn(C)) -> Self {
        BorrowedConnection { connection: Some(connection), discard }
    }

    /// Returns the connection.
    pub fn connection(&mut self) -> &mut C {
        self.connection.as_mut().expect("give_back consumes self, and nothing else takes the connection")
    }

    /// Passes the statement's result on, and returns the connection to the pool if it is [still
    /// usable](Failure::spares_connection).
    ///
    /// # Errors
    ///
    /// The error in `answer`.
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
            (self.discard)(connection);
        }
    }
}
