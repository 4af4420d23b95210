//! The futures that wait for the outcomes of a machine.

use crate::Error;
use pm_core::machine::RequestId;
use std::collections::HashMap;
use std::task::{Context, Poll, Waker};

/// Outcomes by request id, for the futures that still wait for them.
pub(crate) struct Outcomes<T>(HashMap<RequestId, Slot<T>>);

enum Slot<T> {
    Waiting(Option<Waker>),
    Delivered(Result<T, Error>),
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
    pub(crate) fn deliver(&mut self, request_id: RequestId, outcome: Result<T, Error>, wake: &mut Vec<Waker>) {
        if let Some(slot) = self.0.get_mut(&request_id)
            && let Slot::Waiting(waker) = std::mem::replace(slot, Slot::Delivered(outcome))
        {
            wake.extend(waker);
        }
    }

    /// Delivers this error to all requests without an outcome.
    pub(crate) fn deliver_all(&mut self, error: impl Fn() -> Error, wake: &mut Vec<Waker>) {
        for slot in self.0.values_mut() {
            if let Slot::Waiting(waker) = slot {
                wake.extend(waker.take());
                *slot = Slot::Delivered(Err(error()));
            }
        }
    }

    /// Returns the outcome if it has been delivered; otherwise `cx` is woken when it is.
    pub(crate) fn poll(&mut self, request_id: RequestId, cx: &mut Context<'_>) -> Poll<Result<T, Error>> {
        match self.0.get_mut(&request_id) {
            Some(Slot::Waiting(waker)) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(Slot::Delivered(_)) | None => match self.0.remove(&request_id) {
                Some(Slot::Delivered(outcome)) => Poll::Ready(outcome),
                Some(Slot::Waiting(_)) | None => Poll::Ready(Err(Error::no_task())),
            },
        }
    }
}

/// Adds the waker of `cx` to `wakers`, unless one that wakes the same task is there.
pub(crate) fn add_waker(wakers: &mut Vec<Waker>, cx: &Context<'_>) {
    if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
        wakers.push(cx.waker().clone());
    }
}
