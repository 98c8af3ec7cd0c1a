//! Why a handshake did not succeed.

use std::io;

use crate::hello::Hello;

/// Why there is no session. [`Display`](std::fmt::Display) is what an operator reads in the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The peer's first byte begins no TLS handshake. Nothing was written to it.
    #[error("cleartext where TLS was expected: {}", describe(first))]
    Cleartext {
        /// Everything received so far.
        first: Vec<u8>,
    },
    /// The peer closed the connection in mid-handshake.
    #[error("the peer closed the connection after {received} bytes of its handshake")]
    Closed {
        /// Bytes received from the peer.
        received: usize,
    },
    /// The connection failed.
    #[error("the connection failed in the handshake: {0}")]
    Io(#[from] io::Error),
    /// Nothing both sides accept, or a violation of the protocol. An alert was sent.
    #[error("{explanation}")]
    Refused {
        /// A stable label for counters.
        why: &'static str,
        /// What the client offered and what is allowed, in plain words.
        explanation: String,
        /// What could be read of the client's offer; `None` on a client's side.
        offered: Option<Box<Hello>>,
        /// The cause in the library's words.
        source: rustls::Error,
    },
    /// The other side's certificate is not trusted. An alert was sent.
    #[error("{explanation}")]
    Untrusted {
        /// Which check failed, and what to do.
        explanation: String,
        /// The cause in the library's words.
        source: rustls::Error,
    },
    /// There is no certificate at all.
    #[error("there is no certificate to serve")]
    NoCertificate,
}

impl HandshakeError {
    /// A stable label for counters.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Cleartext { .. } => "cleartext",
            Self::Closed { .. } => "closed",
            Self::Io(_) => "io",
            Self::Refused { why, .. } => why,
            Self::Untrusted { .. } => "untrusted",
            Self::NoCertificate => "no_certificate",
        }
    }
}

fn describe(first: &[u8]) -> &'static str {
    let _ = first;
    todo!()
}
