//! The futures that wait for the outcomes of a machine.

use pm_core::machine::{RequestId, Trouble};
use std::collections::HashMap;
use std::task::{Context, Poll, Waker};

/// Outcomes by request id, for the futures that still wait for them.
pub(crate) struct Outcomes<T>(HashMap<RequestId, Slot<T>>);

enum Slot<T> {
    Waiting(Option<Waker>),
    Delivered(Result<T, Trouble>),
}

impl<T> Default for Outcomes<T> {
    fn default() -> Self {
        Outcomes(HashMap::new())
    }
}

impl<T> Outcomes<T> {
    /// Registers a request whose outcome will be awaited.
    pub(crate) fn expect(&mut self, request_id: RequestId) {
        self.0.insert(request_id, Slot::Waiting(None));
    }

    /// Discards the outcome of a request, which is no longer awaited.
    pub(crate) fn forget(&mut self, request_id: RequestId) {
        self.0.remove(&request_id);
    }

    /// Delivers the outcome of a request, if it is still awaited.
    pub(crate) fn deliver(&mut self, request_id: RequestId, outcome: Result<T, Trouble>, wake: &mut Vec<Waker>) {
        if let Some(slot) = self.0.get_mut(&request_id)
            && let Slot::Waiting(waker) = std::mem::replace(slot, Slot::Delivered(outcome))
        {
            wake.extend(waker);
        }
    }

    /// Discards the requests without an outcome, because the task has ended.
    pub(crate) fn end(&mut self, wake: &mut Vec<Waker>) {
        self.0.retain(|_, slot| match slot {
            Slot::Waiting(waker) => {
                wake.extend(waker.take());
                false
            }
            Slot::Delivered(_) => true,
        });
    }

    /// Returns the outcome if it has been delivered; otherwise `cx` is woken when it is. The error is `None` if the
    /// task has ended without an outcome.
    pub(crate) fn poll(&mut self, request_id: RequestId, cx: &mut Context<'_>) -> Poll<Result<T, Option<Trouble>>> {
        if let Some(Slot::Waiting(waker)) = self.0.get_mut(&request_id) {
            *waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        match self.0.remove(&request_id) {
            Some(Slot::Delivered(outcome)) => Poll::Ready(outcome.map_err(Some)),
            Some(Slot::Waiting(_)) | None => Poll::Ready(Err(None)),
        }
    }
}

/// Adds the waker of `cx` to `wakers`, unless one that wakes the same task is there.
pub(crate) fn add_waker(wakers: &mut Vec<Waker>, cx: &Context<'_>) {
    if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
        wakers.push(cx.waker().clone());
    }
}
