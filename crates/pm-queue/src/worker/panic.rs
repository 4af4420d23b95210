//! Turning the panics of handlers into errors.

use futures_util::FutureExt;
use std::any::Any;
use std::fmt;
use std::panic::AssertUnwindSafe;

/// Runs a handler and turns a panic into an error that contains its message.
///
/// Use it in the loop over a stream. Otherwise a panicking handler ends the loop, and interrupts every other job that
/// the loop works on. Keep the ack outside, so that the job can be soft-failed with the panic's message:
///
/// ```no_run
/// # use pm_queue::{PendingJob, catch_panic};
/// # async fn send(mail: &String) -> Result<(), String> { Ok(()) }
/// # async fn handle(job: PendingJob<String>) {
/// let (mail, ack) = job.into_parts();
/// let settling = match catch_panic(send(&mail)).await {
///     Ok(Ok(())) => ack.commit(),
///     Ok(Err(reason)) => ack.soft_fail(reason),
///     Err(panic) => ack.soft_fail(panic),
/// };
/// # drop(settling.await);
/// # }
/// ```
///
/// State that the handler was changing when it panicked may be half changed, as after any early return; state that
/// handlers share must tolerate that. The panic hook runs as usual, and by default prints to stderr. In programs built
/// with `panic = "abort"` a panic ends the process, and its jobs are retried when their leases expire.
///
/// # Errors
///
/// [`Panicked`] when the handler panicked.
pub async fn catch_panic<T>(handler: impl Future<Output = T>) -> Result<T, Panicked> {
    AssertUnwindSafe(handler).catch_unwind().await.map_err(|panic| Panicked::new(&*panic))
}

/// The panic of a handler. It displays as `panicked: ` followed by the panic's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panicked(String);

impl Panicked {
    fn new(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
        Panicked(text.map_or_else(|| "panicked".to_owned(), |text| format!("panicked: {text}")))
    }
}

impl AsRef<str> for Panicked {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Panicked {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::panic_any;

    fn caught(handler: impl Future<Output = u8>) -> Result<u8, String> {
        catch_panic(handler).now_or_never().expect("it does not wait").map_err(|panic| panic.to_string())
    }

    #[test]
    fn a_panic_becomes_its_message_and_a_result_is_returned() {
        assert_eq!(caught(async { 7 }), Ok(7));
        assert_eq!(caught(async { panic!("no @ in it") }), Err("panicked: no @ in it".to_owned()));
        let count = 3;
        assert_eq!(caught(async { panic!("{count} of them") }), Err("panicked: 3 of them".to_owned()));
        assert_eq!(caught(async { panic_any(7u8) }), Err("panicked".to_owned()));
    }
}
