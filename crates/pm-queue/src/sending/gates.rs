//! Bounds on the number of statements of a class that are sent at a time.

use crate::driver::{BoxFuture, Room};
use futures_util::future::{Either, select};
use pm_core::{ConnectionClass, Failure};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The gates of a queue handle, by class. Each admits a fixed number of statements at a time, in the order of their
/// arrival.
pub(crate) struct Gates {
    hot: Option<Arc<Semaphore>>,
    keyed: Option<Arc<Semaphore>>,
    operator: Option<Arc<Semaphore>>,
}

impl Gates {
    pub(crate) fn new(room: Room) -> Self {
        let gate = |room: usize| Arc::new(Semaphore::new(room.clamp(1, Semaphore::MAX_PERMITS)));
        let operator = room.operator.map(gate);
        let keyed = if room.keyed_is_operator { operator.clone() } else { room.keyed.map(gate) };
        Gates { hot: room.hot.map(gate), keyed, operator }
    }

    /// Returns a permit to send a statement of this class, as soon as there is room; none if the class has no bound.
    /// Errors: a failure of the statement that was not sent, when there was no room within `timeout`, which `sleep`
    /// waits for.
    pub(crate) async fn enter(
        &self,
        class: ConnectionClass,
        timeout: Duration,
        sleep: impl FnOnce(Duration) -> BoxFuture<'static, ()>,
    ) -> Result<Option<SemaphorePermit<'_>>, Failure> {
        let gate = match class {
            ConnectionClass::Extend => &None,
            ConnectionClass::Hot => &self.hot,
            ConnectionClass::Keyed => &self.keyed,
            ConnectionClass::Operator => &self.operator,
        };
        let Some(gate) = gate else { return Ok(None) };
        if let Ok(permit) = gate.try_acquire() {
            return Ok(Some(permit));
        }
        match select(pin!(gate.acquire()), sleep(timeout)).await {
            Either::Left((Ok(permit), _)) => Ok(Some(permit)),
            Either::Left((Err(_), _)) | Either::Right(_) => Err(Failure::not_sent(format!(
                "no connection became free within {timeout:?}: all connections for this kind of statement are busy, \
                 perhaps waiting for locks"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn enter(gates: &Gates, class: ConnectionClass) -> BoxFuture<'_, Result<Option<SemaphorePermit<'_>>, Failure>> {
        Box::pin(gates.enter(class, Duration::from_secs(1), |_| Box::pin(std::future::pending())))
    }

    #[test]
    fn permits_are_granted_in_order_and_skip_one_that_has_given_up() {
        let gates = Gates::new(Room { operator: Some(1), ..Room::default() });
        let first = enter(&gates, ConnectionClass::Operator).now_or_never().unwrap().unwrap().unwrap();
        let [mut second, mut third, mut fourth] = [(); 3].map(|()| enter(&gates, ConnectionClass::Operator));
        for waiting in [&mut second, &mut third, &mut fourth] {
            assert!(waiting.now_or_never().is_none());
        }
        assert!(
            enter(&gates, ConnectionClass::Hot).now_or_never().unwrap().unwrap().is_none(),
            "other classes do not wait"
        );
        drop(second);
        drop(first);
        assert!((&mut fourth).now_or_never().is_none(), "it is not its turn");
        let third = third.now_or_never().unwrap().unwrap().unwrap();
        drop(third);
        drop(fourth.now_or_never().unwrap().unwrap().unwrap());
        let last = enter(&gates, ConnectionClass::Operator).now_or_never().unwrap().unwrap();
        assert!(last.is_some(), "all permits were returned");
    }

    #[test]
    fn a_statement_that_finds_no_room_in_time_is_not_sent() {
        let gates = Gates::new(Room::of_pool(1));
        let _first = enter(&gates, ConnectionClass::Operator).now_or_never().unwrap().unwrap().unwrap();
        let late = gates.enter(ConnectionClass::Keyed, Duration::from_secs(1), |_| Box::pin(async {}));
        let failure = late.now_or_never().unwrap().expect_err("operators' statements share the bound");
        assert_eq!(failure.class(), pm_core::Class::Retry);
    }
}
