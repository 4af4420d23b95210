#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pm_proof::connecting(bytes));
