//! Why a handshake did not succeed.

use std::io;

use crate::hello::{Hello, MAX_HELLO};

/// Why there is no session. [`Display`](std::fmt::Display) is what an operator reads in the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The peer's first byte begins no TLS handshake. Nothing was written to it.
    #[error("cleartext where TLS was expected: {}", describe_cleartext(first))]
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

    pub(crate) fn refused_by_library(error: rustls::Error) -> Self {
        let explanation = format!("TLS cannot be set up: {error}");
        Self::Refused { why: "internal", explanation, offered: None, source: error }
    }

    pub(crate) fn too_long() -> Self {
        Self::Refused {
            why: "too_long",
            explanation: format!("the ClientHello is longer than {MAX_HELLO} bytes"),
            offered: None,
            source: rustls::Error::PeerSentOversizedRecord,
        }
    }
}

/// What a client says that was expected to say a ClientHello.
fn describe_cleartext(first: &[u8]) -> String {
    const ALERT: u8 = 21;
    let starts = |words: &[&str]| {
        words
            .iter()
            .any(|word| first.get(..word.len()).is_some_and(|w| w.eq_ignore_ascii_case(word.as_bytes())))
    };
    // SSL 2.0: the length with its highest bit set, then the message type 1.
    let is_ssl2 = matches!(first, [0x80..=0xff, _, 1, ..]);
    if starts(&["GET ", "POST ", "HEAD ", "PUT ", "OPTIONS ", "CONNECT ", "PRI * HTTP"]) {
        "an HTTP request without TLS".into()
    } else if starts(&["PROXY ", "\r\n\r\n\0\r\nQUIT\n"]) {
        "a PROXY header; its sender is not in proxy.trusted-networks".into()
    } else if starts(&["SSH-"]) {
        "SSH".into()
    } else if is_ssl2 {
        "a ClientHello in the form of SSL 2.0; the client is too old".into()
    } else if first.first() == Some(&ALERT) {
        "the client gave up with an alert before it began".into()
    } else if first.iter().take(16).all(|byte| (0x20..0x7f).contains(byte) || b"\t\r\n".contains(byte)) {
        "the client began to talk without TLS; set it to \"SSL/TLS\" for this port, or to the port for STARTTLS".into()
    } else {
        format!("{} bytes that are no TLS", first.len())
    }
}
