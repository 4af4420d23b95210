//! Faults that take long or need more of the machine than other tests: `scripts/test --faults` runs them.

mod backend;
