//! How long to wait for a statement that runs behind another one.

use futures_channel::oneshot;
use std::sync::{Mutex, PoisonError};

/// The last statement of those that [run in order](pm_core::StatementId::runs_in_order).
#[derive(Default)]
pub(crate) struct Order(Mutex<Option<oneshot::Receiver<()>>>);

/// A statement in flight. Dropped without a reply, it has timed out.
pub(crate) struct Turn(oneshot::Sender<()>);

/// The statement that was in flight before another one was sent.
pub(crate) struct Before(oneshot::Receiver<()>);

impl Order {
    /// Returns the turn of a statement that is sent, and the one before it if that has no reply yet.
    pub(crate) fn next(&self) -> (Turn, Option<Before>) {
        let (turn, ended) = oneshot::channel();
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(ended);
        let is_in_flight = |before: &mut oneshot::Receiver<()>| matches!(before.try_recv(), Ok(None));
        (Turn(turn), before.and_then(|mut before| is_in_flight(&mut before).then_some(Before(before))))
    }
}

impl Turn {
    /// Records that the statement got its reply.
    pub(crate) fn end(self) {
        // It may be that none waits behind it.
        self.0.send(()).unwrap_or_default();
    }
}

/// Waits until a statement has taken too long: after `timeout`, which begins when the one before it has its reply. If
/// that one gets none, neither does this one: the connection is not used any more.
pub(crate) async fn turn_timeout<T: Future<Output = ()>>(before: Option<Before>, timeout: impl FnOnce() -> T) {
    if let Some(Before(before)) = before
        && before.await.is_err()
    {
        return;
    }
    timeout().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::future::{pending, ready};

    #[test]
    fn the_timeout_begins_with_the_reply_to_the_statement_before() {
        let order = Order::default();
        let (first, before) = order.next();
        assert!(before.is_none());
        let (second, before) = order.next();
        let mut timeout = Box::pin(turn_timeout(before, || ready(())));
        assert!((&mut timeout).now_or_never().is_none(), "the first has no reply yet");
        first.end();
        assert!(timeout.now_or_never().is_some());
        second.end();
        assert!(order.next().1.is_none(), "none is in flight");
    }

    #[test]
    fn a_statement_behind_one_that_timed_out_times_out_at_once_and_later_ones_do_not() {
        let order = Order::default();
        let (first, _) = order.next();
        let (second, before) = order.next();
        let mut timeout = Box::pin(turn_timeout(before, pending));
        assert!((&mut timeout).now_or_never().is_none());
        drop(first);
        assert!(timeout.now_or_never().is_some());
        drop(second);
        assert!(order.next().1.is_none(), "it is over");
    }
}
