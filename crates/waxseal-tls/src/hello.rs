//! What a client offers, read from its ClientHello (RFC 8446 section 4.1.2).

/// What a ClientHello says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hello {
    /// The host named, as sent.
    pub sni: Option<String>,
    /// Versions offered, by their numbers on the wire.
    pub versions: Vec<u16>,
    /// Cipher suites offered, by their numbers on the wire.
    pub suites: Vec<u16>,
    /// Groups offered, by their numbers on the wire.
    pub groups: Vec<u16>,
    /// Signature schemes offered, by their numbers on the wire.
    pub schemes: Vec<u16>,
    /// Application protocols offered; `None` without that extension.
    pub alpn: Option<Vec<Vec<u8>>>,
}
