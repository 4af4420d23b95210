//! Sending statements: those of a single call, and those of a state machine, which a task drives.

mod gates;
mod link;
mod order;
mod outcomes;
mod task;

pub(crate) use link::{CoreEntropy, Link};
pub(crate) use outcomes::{Outcome, Outcomes, add_waker};
pub(crate) use task::{Driven, Shared, State, Task};
