//! The machines, driven through their public face against a tiny database in memory.
//!
//! Named examples first; then random interleavings of time, replies, faults, operators and users.

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
