#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waxseal_fuzz::proxy_header::run(data));
