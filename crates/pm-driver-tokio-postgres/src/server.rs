//! Connecting to the server.

use crate::connection::Connection;
use crate::dial::{self, Dial, DialError, Messages, Sockets};
use crate::enclosing::Enclosing;
use crate::listener::ChannelListener;
use crate::role::role;
use crate::statement::message_chain;
use futures_util::StreamExt;
use pm_queue::connecting::{Attempt, Refusal, Role, Route, Target};
use pm_queue::driver::{BoxFuture, Failure, Listener, SESSION_MARK, opening_script};
use pm_queue::{ConnectOptions, Error};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Client;

/// Opens and sets up connections to the server.
pub(crate) struct Server {
    route: Arc<Route>,
    /// The route of the listener; none if it cannot listen.
    listener: Option<Arc<Route>>,
    sockets: Arc<dyn Sockets>,
    session_script: String,
    options: ConnectOptions,
    /// Whether connections go through a transaction pooler, so that no state may be kept in a session.
    pooler: bool,
}

impl Server {
    pub(crate) fn new(url: &str, options: &ConnectOptions, sockets: Arc<dyn Sockets>) -> Result<Self, Error> {
        let route = route(url, options)?;
        let listener = options.listens_at().map(|url| self::route(url, options)).transpose()?;
        Ok(Server {
            listener: listener.or_else(|| (!options.pooler).then(|| route.clone())),
            route,
            sockets,
            session_script: opening_script(options),
            options: options.clone(),
            pooler: options.pooler,
        })
    }

    pub(crate) fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.sockets.spawn(task);
    }

    pub(crate) fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        self.sockets.sleep(duration)
    }

    /// Opens a connection that is ready for statements.
    pub(crate) async fn connect(&self) -> Result<Connection, Failure> {
        let open = |attempt| -> BoxFuture<'_, _> { Box::pin(self.establish(attempt)) };
        self.route.connect(&*self.sockets, &open).await
    }

    async fn establish(&self, attempt: Attempt) -> Result<(Connection, Option<Role>), Refusal> {
        let (client, mut messages) = self.dial(&self.route, &attempt, !self.pooler).await?;
        // The next statement on the connection notices if it has ended.
        self.sockets.spawn(Box::pin(async move { while let Some(Ok(_)) = messages.next().await {} }));
        let role = match self.route.asks_role() {
            true => Some(role(&client).await.map_err(|error| refusal(&error))?),
            false => None,
        };
        if !self.pooler {
            client.batch_execute(&self.session_script).await.map_err(|error| refusal(&error))?;
        }
        let enclosing = self.pooler.then(|| Enclosing::new(&self.options));
        Ok((Connection::new(client, enclosing), role))
    }

    async fn dial(&self, route: &Route, attempt: &Attempt, marked: bool) -> Result<(Client, Messages), Refusal> {
        let unusable = |error: Error| Refusal::of(error.to_string());
        let dial = Dial::new(route.target(), attempt, marked.then_some(SESSION_MARK)).map_err(unusable)?;
        self.sockets.dial(&dial).await.map_err(|error| match &error {
            DialError::Postgres(error) => refusal(error),
            DialError::Other(_) => Refusal::of(message_chain(&error)),
        })
    }

    /// Opens a listener on a channel, if there is a route for it.
    pub(crate) async fn listen(&self, channel: &str) -> Result<Option<Box<dyn Listener>>, Failure> {
        let Some(route) = &self.listener else { return Ok(None) };
        let open = |attempt| -> BoxFuture<'_, _> {
            Box::pin(async move {
                let (client, messages) = self.dial(route, &attempt, true).await?;
                let failed =
                    |failure: Failure| Refusal { reported: Some(failure.clone()), ..Refusal::of(failure.message()) };
                let (listener, role) =
                    ChannelListener::new(client, messages, channel, route.asks_role()).await.map_err(failed)?;
                match role.is_some_and(|role| role.is_standby) {
                    true => Err(Refusal::of("LISTEN is not possible on a standby")),
                    false => Ok((listener, role)),
                }
            })
        };
        Ok(Some(Box::new(route.connect(&*self.sockets, &open).await?)))
    }
}

fn route(url: &str, options: &ConnectOptions) -> Result<Arc<Route>, Error> {
    let target = Target::read(url, options)?;
    dial::check(&target)?;
    Ok(Arc::new(Route::new(target)))
}

fn refusal(error: &tokio_postgres::Error) -> Refusal {
    let reported =
        error.as_db_error().map(|reported| Failure::reported(reported.code().code(), None, reported.message()));
    let why = message_chain(error);
    // An error that the server reports is not one of TLS, even if its text contains the word.
    let is_tls = reported.is_none() && why.contains("TLS");
    Refusal { reported, is_tls, why: format!("{why}{}", Refusal::advice(&why)) }
}
