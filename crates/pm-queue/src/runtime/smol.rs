//! smol.

use super::Runtime;
use crate::BoxFuture;
use std::time::Duration;

/// smol's global executor: its threads start with the first task (`SMOL_THREADS` says how many, by default one).
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
