//! Tests of the machines through their public interface, against a small in-memory database.
//!
//! First examples, then random interleavings of time, replies, faults, and actions of operators and users.

mod machines {
    mod fake;
    mod fake_schedules;
    mod rig;

    mod claims;
    mod fires;
    mod leases;
    mod odd_rows;
    mod producer;
    mod random;
    mod rhythm;
    mod settles;
    mod slow_replies;
}
