//! The sets of connections, one for each class of statements.

use crate::connection::Connection;
use crate::server::Server;
use crate::slot::Slot;
use pm_queue::ConnectOptions;
use pm_queue::driver::{ConnectionClass, Failure, Rows, Statement, Value};
use std::sync::{Arc, Weak};
use tokio::sync::Mutex;

/// All connections of a driver, by class.
pub(crate) struct ConnectionSets {
    hot: ConnectionSet,
    /// The sets of the other classes; without them, all classes share the hot connections.
    separate: Option<SeparateSets>,
}

struct SeparateSets {
    extend: ConnectionSet,
    keyed: ConnectionSet,
    operator: ConnectionSet,
}

/// The connections for statements of one class.
pub(crate) struct ConnectionSet {
    slots: Arc<[Slot]>,
    /// The connection of the last statement of those that run in order. Locked until the next one is written.
    in_order: Mutex<Weak<Connection>>,
    /// Whether a statement waits for a new connection instead of sharing a busy one.
    avoids_sharing: bool,
}

impl ConnectionSets {
    /// Returns sets without connections.
    pub(crate) fn new(options: &ConnectOptions) -> Self {
        let separate = || SeparateSets {
            extend: ConnectionSet::new(1, false),
            keyed: ConnectionSet::new(1, false),
            operator: ConnectionSet::new(options.waiting_connections, true),
        };
        ConnectionSets {
            hot: ConnectionSet::new(options.connections.max(1), false),
            separate: (options.waiting_connections > 0).then(separate),
        }
    }

    /// Returns the connections for a class of statements.
    pub(crate) fn of(&self, class: ConnectionClass) -> &ConnectionSet {
        match (&self.separate, class) {
            (None, _) | (_, ConnectionClass::Hot) => &self.hot,
            (Some(separate), ConnectionClass::Extend) => &separate.extend,
            (Some(separate), ConnectionClass::Keyed) => &separate.keyed,
            (Some(separate), ConnectionClass::Operator) => &separate.operator,
        }
    }

    /// Returns the maximum number of connections.
    pub(crate) fn len(&self) -> usize {
        let separate =
            self.separate.iter().flat_map(|separate| [&separate.extend, &separate.keyed, &separate.operator]);
        separate.chain([&self.hot]).map(|set| set.slots.len()).sum()
    }
}

impl ConnectionSet {
    fn new(connections: usize, avoids_sharing: bool) -> Self {
        ConnectionSet {
            slots: (0..connections).map(|_| Slot::default()).collect(),
            in_order: Mutex::default(),
            avoids_sharing,
        }
    }

    /// Runs a statement on the least busy connection, or in its order.
    pub(crate) async fn run(
        &self,
        server: &Arc<Server>,
        statement: &Statement,
        params: &[Value<'_>],
    ) -> Result<Rows, Failure> {
        if !statement.id.runs_in_order() {
            return self.connection(server).await?.run(statement, params, None).await;
        }
        // The lock is granted in the order of asking, and kept until the statement is written: while the connection is
        // opened and the statement is prepared, too.
        let mut turn = self.in_order.lock().await;
        let connection = match turn.upgrade().filter(|connection| connection.is_running_in_order()) {
            Some(connection) => connection,
            None => self.connection(server).await?,
        };
        *turn = Arc::downgrade(&connection);
        connection.run(statement, params, Some(turn)).await
    }

    /// Returns the least busy connection. If all are busy and there is an empty slot, another one is opened in the
    /// background.
    ///
    /// A connection that has not answered for a while counts as busier than any other, because its statement may be
    /// waiting for a lock.
    async fn connection(&self, server: &Arc<Server>) -> Result<Arc<Connection>, Failure> {
        let mut least_busy: Option<(usize, Arc<Connection>)> = None;
        let mut empty = None;
        for (index, slot) in self.slots.iter().enumerate() {
            match slot.usable() {
                Some(connection) => match connection.load() {
                    0 => return Ok(connection),
                    load if least_busy.as_ref().is_none_or(|(other, _)| load < *other) => {
                        least_busy = Some((load, connection));
                    }
                    _ => {}
                },
                None => empty = empty.or(Some(index)),
            }
        }
        match (empty, least_busy) {
            (Some(index), least_busy) if self.avoids_sharing || least_busy.is_none() => {
                self.slots[index].open(server).await
            }
            (Some(index), Some((_, busy))) => {
                if let Some(spare) = self.slots[index].spare() {
                    let (spares_server, slots) = (server.clone(), self.slots.clone());
                    server.spawn(Box::pin(async move { slots[index].open_spare(&spares_server, spare).await }));
                }
                Ok(busy)
            }
            (None, Some((_, busy))) => Ok(busy),
            (_, None) => Err(Failure::not_sent("no connection is allowed")),
        }
    }
}
