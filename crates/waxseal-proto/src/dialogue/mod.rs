//! The door speaking alone, from the greeting to STARTTLS. No byte of the client reaches the service.

use std::sync::Arc;

use crate::capability::Capabilities;
use crate::line::Drained;
use crate::protocol::Protocol;

/// What the door says of itself. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DoorWords {
    /// The name in greetings.
    pub hostname: Arc<str>,
    /// Whether a client may go on without TLS.
    pub starttls: StartTls,
}

/// Whether a client may go on without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartTls {
    /// Nothing but STARTTLS and small talk is answered.
    Required,
    /// A command that needs the service opens it, in cleartext and without logins.
    Optional,
}

/// The door's side of a conversation before TLS.
#[derive(Debug)]
pub struct Dialogue {
    #[expect(dead_code)]
    words: DoorWords,
}

/// What to do after [`Dialogue::receive`]. In every case `out` is to be written first.
#[derive(Debug)]
pub enum Step {
    /// Read on.
    More,
    /// Make sure that nothing is unread on the socket either, write [`GoAhead::words`], and start TLS.
    StartTls(GoAhead),
    /// Hand the session to the service. Only where [`StartTls::Optional`].
    Open(CleartextStart),
    /// Close.
    Close(Ended),
}

/// The client asked for TLS and nothing it sent is unread.
#[derive(Debug)]
pub struct GoAhead {
    /// The proof, demanded by whoever starts TLS.
    pub drained: Drained,
    /// The protocol's words for "begin the handshake".
    pub words: Vec<u8>,
}

/// A session that goes on in cleartext.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleartextStart {
    /// The client's last EHLO, HELO or LHLO line with CRLF, to be said to the service again.
    pub hello: Option<Vec<u8>>,
    /// The line that needed the service and everything behind it, as received.
    pub unread: Vec<u8>,
}

/// Why a dialogue ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The client said goodbye.
    Quit,
    /// Bytes stood behind STARTTLS, before the go-ahead. They were not executed.
    Injection {
        /// How many.
        bytes: usize,
    },
    /// Too many unknown commands or malformed lines.
    TooManyErrors,
    /// A TLS ClientHello on a STARTTLS port; `out` holds a TLS alert.
    TlsInCleartext,
    /// An HTTP request on a mail port.
    HttpRequest,
    /// A literal before TLS.
    Literal,
}

impl Dialogue {
    /// A dialogue with what was learnt of the service behind. `None` for HTTP, which has no STARTTLS.
    pub fn new(protocol: Protocol, words: DoorWords, _service: Arc<Capabilities>) -> Option<Self> {
        protocol.has_starttls().then_some(Self { words })
    }

    /// Appends the greeting.
    pub fn greet(&mut self, _out: &mut Vec<u8>) {}

    /// Takes what the client sent and appends the answers to `out`.
    pub fn receive(&mut self, _input: &[u8], _out: &mut Vec<u8>) -> Step {
        Step::More
    }

    /// Whether the client began with a PROXY header, which nobody here believes: the log can name the
    /// setting that would.
    pub fn saw_proxy_header(&self) -> bool {
        false
    }
}
