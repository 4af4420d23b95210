//! Real faults on a durable server: `scripts/test --faults`. Most print a line of the table in docs/reliability.md:
//! fault, jobs in, jobs finished, runs beyond the first, time to recover.
//!
//! Workers are processes, half of them on each driver; what they and the producers said is audited against the tables.

mod books;
mod clocks;
mod disk;
mod limits;
mod locks;
mod network;
mod processes;
mod scene;
mod slow_link;
mod standby;
