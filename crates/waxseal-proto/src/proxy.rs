//! The PROXY protocol, versions 1 and 2: who the client is, said before anything else.

use std::net::SocketAddr;

/// The longest header that is read, in bytes. Version 2 could announce 64 KiB; no sender comes near.
pub const MAX_PROXY_HEADER: usize = 4096;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyHead {
    /// They may become a header; read on.
    More,
    /// They are no PROXY header.
    None,
    /// A whole header.
    Header {
        /// Its length in bytes.
        used: usize,
        /// Source and destination; `None` for LOCAL and UNKNOWN.
        addresses: Option<(SocketAddr, SocketAddr)>,
    },
    /// A header that cannot be read; the text says why.
    Invalid(String),
}

/// Facts of the client's TLS session that go into a version 2 header.
#[derive(Clone, Copy, Debug)]
pub struct TlsFacts<'a> {
    /// As in `TLSv1.3`.
    pub version: &'a str,
    /// The cipher suite's name.
    pub cipher: &'a str,
    /// The server name that the client asked for.
    pub sni: Option<&'a str>,
    /// The application protocol agreed on.
    pub alpn: Option<&'a [u8]>,
}

/// Reads the header at the start of `buf`, the first bytes of a connection.
pub fn read(_buf: &[u8]) -> ProxyHead {
    ProxyHead::None
}

/// Appends a version 1 header.
pub fn write_v1(_source: SocketAddr, _destination: SocketAddr, _out: &mut Vec<u8>) {}

/// Appends a version 2 header, with the facts of the client's TLS session where it has one.
pub fn write_v2(
    _source: SocketAddr,
    _destination: SocketAddr,
    _tls: Option<TlsFacts<'_>>,
    _out: &mut Vec<u8>,
) {
}
