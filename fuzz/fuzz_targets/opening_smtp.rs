#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waxseal_fuzz::opening::run(waxseal_proto::Protocol::Smtp, data));
