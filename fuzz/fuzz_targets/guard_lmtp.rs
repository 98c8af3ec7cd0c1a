#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waxseal_fuzz::guard::run(waxseal_proto::Protocol::Lmtp, data));
