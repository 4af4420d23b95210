//! Real faults on a durable server: `scripts/test --faults`. Most print a line of the table in docs/reliability.md:
//! fault, jobs in, jobs finished, runs beyond the first, time to recover.
//!
//! Workers are processes, half of them on each driver; their logs and the producers' are audited against the tables.

mod clocks;
mod disk;
mod ledger;
mod limits;
mod locks;
mod network;
mod processes;
mod scenario;
mod slow_link;
mod standby;
