#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waxseal_mailboxes::fuzzing::smtp_command(data));
