//! How many statements a driver carries at the same time.

use crate::ConnectOptions;

/// How many statements of each class a driver carries at the same time; `None` for no bound.
///
/// In a pool each connection carries one statement at a time. The bounds keep connections free for the classes that
/// must not wait: an extension of leases always finds one, and claims and settlements find one while other statements
/// wait for locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Room {
    /// The bound for [`ConnectionClass::Hot`](pm_core::ConnectionClass::Hot).
    pub hot: Option<usize>,
    /// The bound for [`ConnectionClass::Keyed`](pm_core::ConnectionClass::Keyed).
    pub keyed: Option<usize>,
    /// The bound for [`ConnectionClass::Operator`](pm_core::ConnectionClass::Operator).
    pub operator: Option<usize>,
    /// Whether keyed enqueues and operators' statements share the bound `operator`.
    pub keyed_is_operator: bool,
    /// How many jobs are sent in one statement (at most 1,000) while a second such statement may be in flight; `None`
    /// if only one may be.
    ///
    /// The driver must run statements that [run in order](pm_core::StatementId::runs_in_order) in the order in which
    /// they are sent, that is, in which their futures are first polled. So it pipelines them on one connection.
    pub pipelined_enqueues: Option<usize>,
}

impl Room {
    /// Returns the bounds for a driver that pipelines statements on its own connections, and enqueues on one of them.
    ///
    /// Operators' statements are sent one per connection: a statement pipelined behind one that waits for a lock would
    /// wait too.
    pub fn of_pipelined(options: &ConnectOptions) -> Room {
        let operator = (options.waiting_connections > 0).then_some(options.waiting_connections);
        Room { operator, pipelined_enqueues: Some(1_000), ..Room::default() }
    }

    /// Returns the bounds for a driver's own pool, and the number of connections that the pool needs for them.
    pub fn of_own_pool(options: &ConnectOptions) -> (Room, usize) {
        let (hot, waiting) = (options.connections.max(1), options.waiting_connections);
        match waiting {
            0 => (Room::default(), hot),
            _ => {
                let room = Room { hot: Some(hot), keyed: Some(1), operator: Some(waiting), ..Room::default() };
                // One more extends leases.
                (room, hot + 1 + 1 + waiting)
            }
        }
    }

    /// Returns the bounds for the caller's pool of this many connections.
    ///
    /// With 4 connections or more, the classes do not wait for each other. With 2 or 3, claims, settlements and
    /// extensions find a connection while other classes wait, but not while several settlements wait for locked jobs.
    /// With a single connection every statement waits for the one before it, up to `lock_timeout` each time.
    pub fn of_pool(connections: usize) -> Room {
        let (keyed, operator) = match connections {
            0..5 => (0, 1),
            5..8 => (1, 1),
            _ => (1, 2),
        };
        let hot = connections.saturating_sub(keyed + operator + 1).max(connections.min(2));
        Room {
            hot: Some(hot),
            keyed: Some(keyed).filter(|keyed| *keyed > 0),
            operator: Some(operator),
            keyed_is_operator: keyed == 0,
            ..Room::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_keeps_connections_for_classes_that_must_not_wait() {
        for connections in 0..40 {
            let room = Room::of_pool(connections);
            let may_wait = room.keyed.unwrap_or(0) + room.operator.unwrap_or(0);
            let hot = room.hot.unwrap_or(usize::MAX);
            assert!(connections < 2 || hot >= 2 && may_wait < connections, "{connections}: {room:?}");
            let is_left = hot + may_wait < connections;
            assert!(connections < 4 || is_left, "none is left for extensions: {connections}: {room:?}");
        }
    }
}
