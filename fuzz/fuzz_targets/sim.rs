#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drop(pm_tests::sim::live_bytes(bytes)));
