//! Last words, in each protocol's own form.

use crate::protocol::Protocol;

/// Why the door ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Farewell {
    /// The service behind does not answer.
    Unreachable,
    /// The listener or the address has too many connections.
    TooManyConnections,
    /// The process is stopping.
    ShuttingDown,
    /// The client took too long.
    TimedOut,
    /// The service was lost in mid-session.
    ServiceFailed,
    /// The client spoke in the clear on a port that is encrypted from the first byte.
    CleartextOnTls,
    /// Too many handshakes are in progress.
    HandshakesBusy,
}

/// The words to write before closing.
pub fn farewell(_protocol: Protocol, _hostname: &str, _why: Farewell) -> Vec<u8> {
    Vec::new()
}
