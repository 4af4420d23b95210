//! Bounds on the number of statements of a class that are sent at a time.

use crate::driver::{BoxFuture, Room};
use futures_channel::oneshot;
use futures_util::future::{Either, select};
use pm_core::{ConnectionClass, Failure};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The gates of a queue handle, by class.
pub(crate) struct Gates {
    hot: Option<Arc<Gate>>,
    keyed: Option<Arc<Gate>>,
    operator: Option<Arc<Gate>>,
}

impl Gates {
    pub(crate) fn new(room: Room) -> Self {
        let operator = room.operator.map(Gate::new);
        let keyed = if room.keyed_is_operator { operator.clone() } else { room.keyed.map(Gate::new) };
        Gates { hot: room.hot.map(Gate::new), keyed, operator }
    }

    /// Returns a permit to send a statement of this class, as soon as there is room; none if the class has no bound.
    /// Errors: a failure of the statement that was not sent, when there was no room within `timeout`, which `sleep`
    /// waits for.
    pub(crate) async fn enter(
        &self,
        class: ConnectionClass,
        timeout: Duration,
        sleep: impl FnOnce(Duration) -> BoxFuture<'static, ()>,
    ) -> Result<Option<Permit>, Failure> {
        let gate = match class {
            ConnectionClass::Extend => &None,
            ConnectionClass::Hot => &self.hot,
            ConnectionClass::Keyed => &self.keyed,
            ConnectionClass::Operator => &self.operator,
        };
        let Some(gate) = gate else { return Ok(None) };
        let waiting = match gate.enter() {
            Entering::Now(permit) => return Ok(Some(permit)),
            Entering::Later(waiting) => waiting,
        };
        match select(waiting, sleep(timeout)).await {
            Either::Left((Ok(permit), _)) => Ok(Some(permit)),
            Either::Left((Err(_), _)) | Either::Right(_) => Err(Failure::not_sent(format!(
                "no connection became free within {timeout:?}: all connections for this kind of statement are busy, \
                 perhaps waiting for locks"
            ))),
        }
    }
}

/// Admits a fixed number of statements at a time, in the order of their arrival.
struct Gate(Mutex<Waiting>);

struct Waiting {
    free: usize,
    queue: VecDeque<oneshot::Sender<Permit>>,
}

/// The right to send one statement; returned to the gate when dropped.
pub(crate) struct Permit(Arc<Gate>);

enum Entering {
    Now(Permit),
    Later(oneshot::Receiver<Permit>),
}

impl Gate {
    fn new(room: usize) -> Arc<Self> {
        Arc::new(Gate(Mutex::new(Waiting { free: room.max(1), queue: VecDeque::new() })))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(self: &Arc<Self>) -> Entering {
        let mut waiting = self.lock();
        if waiting.free > 0 {
            waiting.free -= 1;
            return Entering::Now(Permit(self.clone()));
        }
        let (sender, receiver) = oneshot::channel();
        // Remove those that have given up.
        waiting.queue.retain(|other| !other.is_canceled());
        waiting.queue.push_back(sender);
        Entering::Later(receiver)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let next = {
            let mut waiting = self.0.lock();
            let next = std::iter::from_fn(|| waiting.queue.pop_front()).find(|next| !next.is_canceled());
            if next.is_none() {
                waiting.free += 1;
            }
            next
        };
        if let Some(next) = next {
            // If the receiver gives up at this moment, the permit is dropped and goes to the next one.
            drop(next.send(Permit(self.0.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn enter(gates: &Gates, class: ConnectionClass) -> BoxFuture<'_, Result<Option<Permit>, Failure>> {
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
        fourth.now_or_never().unwrap().unwrap().unwrap();
        enter(&gates, ConnectionClass::Operator).now_or_never().unwrap().unwrap().expect("all permits were returned");
    }

    #[test]
    fn a_statement_that_finds_no_room_in_time_is_not_sent() {
        let gates = Gates::new(Room::of_pool(1));
        let _first = enter(&gates, ConnectionClass::Operator).now_or_never().unwrap().unwrap().unwrap();
        let late = gates.enter(ConnectionClass::Keyed, Duration::from_secs(1), |_| Box::pin(async {}));
        let failure = late.now_or_never().unwrap().err().expect("operators' statements share the bound");
        assert_eq!(failure.class(), pm_core::Class::Retry);
    }
}
