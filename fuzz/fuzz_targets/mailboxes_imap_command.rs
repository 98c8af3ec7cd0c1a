#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waxseal_mailboxes::fuzzing::imap_command(data));
