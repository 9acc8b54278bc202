#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vz_fuzz::databases::rpm(data));
