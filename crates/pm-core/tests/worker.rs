//! Tests of the machines through their public interface, against the database of the memory driver.
//!
//! First examples, then random interleavings of time, replies, faults, and actions of operators and users.

mod machines {
    mod database;
    mod rig;

    mod cancels;
    mod claims;
    mod fires;
    mod leases;
    mod odd_rows;
    mod pipelined;
    mod producer;
    mod progress;
    mod random;
    mod rhythm;
    mod settles;
    mod slow_replies;
}
