//! Every parser that is fed from outside, for fuzzing: each takes whatever bytes there are and must return.

use crate::smtp::fuzzing as smtp;
use crate::store::fuzzing as store;

/// A command of IMAP without its tag, literals in place, as it is read and as APPEND is told from others.
pub fn imap_command(input: &[u8]) {
    crate::imap::fuzz_command(input);
}

/// A message, for all that IMAP tells of it.
pub fn imap_message(input: &[u8]) {
    crate::imap::fuzz_message(input);
}

/// A line of POP3.
pub fn pop3_command(input: &[u8]) {
    crate::pop3::fuzz_command(input);
}

/// A line of SMTP, LMTP or submission.
pub fn smtp_command(input: &[u8]) {
    smtp::command(input);
}

/// What follows DATA, cut in two at the first byte's value: both ways of reading must agree.
///
/// # Panics
/// When they do not.
pub fn smtp_data(input: &[u8]) {
    smtp::data(input);
}

/// A message's header, for what submission and loops are judged by.
pub fn message_header(input: &[u8]) {
    smtp::header(input);
}

/// What a client answers in AUTH: BASE64, then PLAIN.
pub fn sasl_plain(input: &[u8]) {
    let _ = crate::sasl::decode(input).and_then(|message| crate::sasl::plain(&message));
    let _ = crate::sasl::plain(input);
}

/// `dovecot-uidlist`.
pub fn uid_list(input: &[u8]) {
    store::uid_list(input);
}

/// Folder names in UTF-8 and in modified UTF-7; a name that is taken must come out as it went in.
///
/// # Panics
/// When it does not.
pub fn folder_name(input: &[u8]) {
    store::folder_name(input);
}

/// The file of accounts.
pub fn accounts(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input) {
        crate::accounts::fuzz_file(text);
    }
}
