//! A connection of the pool, for one statement.

use crate::statement::failure;
use pm_queue::Failure;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgConnectOptions;
use sqlx::{PgConnection, PgPool, Postgres};

/// A connection out of the pool. It is closed when it is dropped and not given back: nobody knows what it still says.
pub(crate) struct Lent(Option<PoolConnection<Postgres>>);

impl Lent {
    pub(crate) async fn of(pool: &PgPool) -> Result<Self, Failure> {
        match pool.acquire().await {
            Ok(connection) => Ok(Lent(Some(connection))),
            Err(error) => Err(unreachable(&pool.connect_options(), &error)),
        }
    }

    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        self.0.as_mut().expect("it is lent until it is given back, which ends this")
    }

    /// Returns what was answered; the connection goes back if it was the server that spoke.
    pub(crate) fn give_back<T>(mut self, answer: Result<T, sqlx::Error>) -> Result<T, Failure> {
        if matches!(answer, Ok(_) | Err(sqlx::Error::Database(_))) {
            drop(self.0.take());
        }
        answer.map_err(|error| failure(&error))
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        drop(self.0.take().map(PoolConnection::detach));
    }
}

/// Returns the failure to get a connection.
pub(crate) fn unreachable(server: &PgConnectOptions, error: &sqlx::Error) -> Failure {
    let told = matches!(error, sqlx::Error::Database(_)).then(|| failure(error));
    let host = server.get_socket().map_or_else(|| server.get_host().to_owned(), |path| path.display().to_string());
    Failure::unreachable(&format!("{host}:{}", server.get_port()), told, error)
}
