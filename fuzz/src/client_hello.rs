//! The ClientHello, which is read before the TLS library is given the same bytes.

use waxseal_tls::{Hello, Version};

/// Reads the bytes as records, and again wrapped into one, so that the message inside is reached without a header.
pub fn run(data: &[u8]) {
    judge(data);
    let message = &data[..data.len().min(16_000)];
    let length = (message.len() as u16).to_be_bytes();
    judge(&[&[22, 3, 1, length[0], length[1]], message].concat());
}

fn judge(records: &[u8]) {
    let Some(hello) = Hello::from_records(records) else { return };
    // Nothing can come out that did not go in.
    let names: usize = hello.alpn.iter().flatten().map(Vec::len).sum();
    let numbers = hello.suites.len() + hello.groups.len() + hello.schemes.len() + hello.shares.len();
    assert!(names + 2 * numbers + hello.sni.as_ref().map_or(0, String::len) <= records.len());
    let _ = (hello.offers(Version::Tls12), hello.offers(Version::Tls13));
}
