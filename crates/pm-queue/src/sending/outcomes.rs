//! The futures that wait for the outcomes of a machine.

use super::task::{Driven, Shared, State};
use pm_core::machine::{RequestId, Trouble};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
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

    fn poll(&mut self, request_id: RequestId, cx: &mut Context<'_>) -> Poll<Result<T, Option<Trouble>>> {
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

/// The outcome of a request, as a future. The error is `None` if the task has ended without an outcome. Dropping it
/// does not cancel the request.
pub(crate) struct Outcome<M: Driven, T> {
    shared: Arc<Shared<M>>,
    outcomes: fn(&mut M::Waiters) -> &mut Outcomes<T>,
    request_id: RequestId,
}

impl<M: Driven> Shared<M> {
    /// Starts a request, and returns its outcome, which will be among these `outcomes`.
    pub(crate) fn request<T, E>(
        self: &Arc<Self>,
        outcomes: fn(&mut M::Waiters) -> &mut Outcomes<T>,
        start: impl FnOnce(&mut State<M>) -> Result<RequestId, E>,
    ) -> Result<Outcome<M, T>, E> {
        let request_id = self.update(|state| {
            start(state).inspect(|request_id| {
                outcomes(&mut state.waiters).0.insert(*request_id, Slot::Waiting(None));
            })
        })?;
        Ok(Outcome { shared: self.clone(), outcomes, request_id })
    }
}

impl<M: Driven, T> Future for Outcome<M, T> {
    type Output = Result<T, Option<Trouble>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        (self.outcomes)(&mut self.shared.lock().waiters).poll(self.request_id, cx)
    }
}

impl<M: Driven, T> Drop for Outcome<M, T> {
    fn drop(&mut self) {
        (self.outcomes)(&mut self.shared.lock().waiters).0.remove(&self.request_id);
    }
}

/// Adds the waker of `cx` to `wakers`, unless one that wakes the same task is there.
pub(crate) fn add_waker(wakers: &mut Vec<Waker>, cx: &Context<'_>) {
    if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
        wakers.push(cx.waker().clone());
    }
}
