//! The connections of each class of statements.

use crate::connection::Connection;
use crate::server::Server;
use crate::slot::Slot;
use pm_core::ConnectionClass;
use pm_queue::{ConnectOptions, Failure};
use std::sync::Arc;

/// All connections of a driver, by class.
pub(crate) struct ConnectionSets {
    hot: ConnectionSet,
    /// Of those classes that have connections of their own; otherwise they share the hot ones.
    apart: Option<Apart>,
}

struct Apart {
    extend: ConnectionSet,
    keyed: ConnectionSet,
    operator: ConnectionSet,
}

/// Connections that share the statements of one class.
pub(crate) struct ConnectionSet {
    slots: Arc<[Slot]>,
    /// Whether a statement rather waits for a new connection than for another statement.
    is_exclusive: bool,
}

impl ConnectionSets {
    /// Returns places for connections, all empty.
    pub(crate) fn new(options: &ConnectOptions) -> Self {
        let apart = || Apart {
            extend: ConnectionSet::new(1, false),
            keyed: ConnectionSet::new(1, false),
            operator: ConnectionSet::new(options.waiting_connections, true),
        };
        ConnectionSets {
            hot: ConnectionSet::new(options.connections.max(1), false),
            apart: (options.waiting_connections > 0).then(apart),
        }
    }

    /// Returns the set for statements of a class.
    pub(crate) fn of(&self, class: ConnectionClass) -> &ConnectionSet {
        match (&self.apart, class) {
            (None, _) | (_, ConnectionClass::Hot) => &self.hot,
            (Some(apart), ConnectionClass::Extend) => &apart.extend,
            (Some(apart), ConnectionClass::Keyed) => &apart.keyed,
            (Some(apart), ConnectionClass::Operator) => &apart.operator,
        }
    }

    /// Returns how many connections there may be.
    pub(crate) fn len(&self) -> usize {
        let apart = self.apart.iter().flat_map(|apart| [&apart.extend, &apart.keyed, &apart.operator]);
        apart.chain([&self.hot]).map(|set| set.slots.len()).sum()
    }
}

impl ConnectionSet {
    fn new(connections: usize, is_exclusive: bool) -> Self {
        ConnectionSet { slots: (0..connections).map(|_| Slot::default()).collect(), is_exclusive }
    }

    /// Returns the least busy connection; when all are busy and there is room, one more is opened meanwhile.
    ///
    /// One that has not answered for a while is busier than any other: what runs on it may wait for a lock.
    pub(crate) async fn connection(&self, server: &Arc<Server>) -> Result<Arc<Connection>, Failure> {
        let mut least_busy: Option<(usize, Arc<Connection>)> = None;
        let mut empty = None;
        for (place, slot) in self.slots.iter().enumerate() {
            match slot.usable() {
                Some(connection) => match connection.load() {
                    0 => return Ok(connection),
                    load if least_busy.as_ref().is_none_or(|(other, _)| load < *other) => {
                        least_busy = Some((load, connection));
                    }
                    _ => {}
                },
                None => empty = empty.or(Some(place)),
            }
        }
        match (empty, least_busy) {
            (Some(place), least_busy) if self.is_exclusive || least_busy.is_none() => {
                self.slots[place].open(server).await
            }
            (Some(place), Some((_, busy))) => {
                if let Some(spare) = self.slots[place].spare() {
                    let (spares_server, slots) = (server.clone(), self.slots.clone());
                    server.spawn(Box::pin(async move { slots[place].open_spare(&spares_server, spare).await }));
                }
                Ok(busy)
            }
            (None, Some((_, busy))) => Ok(busy),
            (_, None) => Err(Failure::not_sent("there is no room for a connection")),
        }
    }
}
