//! What the fuzz targets run, and what must hold whatever they are fed.

use std::sync::Arc;

use waxseal_proto::{Capabilities, Protocol};

pub mod capability;
pub mod dialogue;
pub mod guard;
pub mod line_buffer;
pub mod opening;
pub mod proxy_header;

/// The input's first byte, for settings, and the rest of it.
fn split_settings(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(&settings, rest)| (settings, rest))
}

/// Cuts the input into pieces as it says itself: a piece ends before each byte 0xff, which goes.
fn pieces(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|&byte| byte == 0xff)
}

/// The capabilities of a service that offers all that must be hidden.
fn service(protocol: Protocol) -> Arc<Capabilities> {
    let entries = match protocol {
        Protocol::Imap => &["IMAP4rev1", "SASL-IR", "STARTTLS", "AUTH=PLAIN", "LOGINDISABLED", "IDLE"][..],
        Protocol::Pop3 => &["TOP", "STLS", "USER", "SASL PLAIN", "XCLIENT"],
        Protocol::ManageSieve => {
            &["\"SASL\" \"PLAIN\"", "\"STARTTLS\"", "\"XCLIENT\"", "\"SIEVE\" \"fileinto\""]
        }
        _ => &["PIPELINING", "STARTTLS", "AUTH PLAIN", "XCLIENT ADDR", "CHUNKING"],
    };
    Arc::new(Capabilities::new(protocol, entries.iter().map(|&entry| entry.to_owned()).collect()))
}
