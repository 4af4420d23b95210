//! The runtime smol.

use super::Runtime;
use crate::driver::BoxFuture;
use std::time::Duration;

/// smol's global executor. Its threads start with the first task; the variable `SMOL_THREADS` sets their number
/// (default 1).
#[derive(Debug, Clone, Copy, Default)]
pub struct Smol;

impl Runtime for Smol {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        smol::spawn(task).detach();
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let timer = smol::Timer::after(duration);
        Box::pin(async move {
            timer.await;
        })
    }
}
