#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| creto_fuzz::proof(data));
