//! The door speaking alone, from the greeting to STARTTLS. No byte of the client reaches the service.

mod imap;
mod managesieve;
mod pop3;
mod smtp;

use std::fmt;
use std::mem;
use std::sync::Arc;

pub(crate) use self::imap::is_tag;

use self::imap::Imap;
use self::managesieve::ManageSieve;
use self::pop3::Pop3;
use self::smtp::Smtp;
use crate::capability::Capabilities;
use crate::line::{Drained, LineBuffer, LineError, MAX_ERRORS};
use crate::protocol::Protocol;
use crate::syntax::is_http_request;

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

/// After this many commands that the door does not know, or logins without TLS, a session is closed.
pub const MAX_ASTRAY: usize = 20;

/// The door's side of a conversation before TLS.
#[derive(Debug)]
pub struct Dialogue {
    talk: Box<dyn Talk>,
    lines: LineBuffer,
    opening: FirstBytes,
    malformed: usize,
    astray: usize,
    proxy_header: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Talking,
    /// The go-ahead was given out; whatever comes now was not to be sent.
    StartingTls,
    Over(Ended),
}

/// One protocol's part of a dialogue.
trait Talk: fmt::Debug + Send + Sync {
    fn greet(&self, out: &mut Vec<u8>);
    /// Answers one whole line, CRLF included.
    fn command(&mut self, line: &[u8], out: &mut Vec<u8>) -> Act;
    fn refuse_line(&self, error: LineError, out: &mut Vec<u8>);
    fn too_many_errors(&self, out: &mut Vec<u8>);
    fn refuse_injection(&self, out: &mut Vec<u8>);
    fn refuse_http(&self, out: &mut Vec<u8>);
    /// The last EHLO, HELO or LHLO line.
    fn take_hello(&mut self) -> Option<Vec<u8>> {
        None
    }
}

/// What a command comes to.
#[derive(Debug)]
enum Act {
    Answered,
    /// Answered with an error that only a client gone astray will see often.
    Astray,
    /// TLS was asked for; these are the words that grant it.
    StartTls(Vec<u8>),
    Open,
    Quit,
    Close(Ended),
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
    pub fn new(protocol: Protocol, words: DoorWords, service: Arc<Capabilities>) -> Option<Self> {
        let talk: Box<dyn Talk> = match protocol {
            Protocol::Smtp | Protocol::Submission | Protocol::Lmtp => {
                Box::new(Smtp::new(protocol, words, service))
            }
            Protocol::Imap => Box::new(Imap::new(words, service)),
            Protocol::Pop3 => Box::new(Pop3::new(words, service)),
            Protocol::ManageSieve => Box::new(ManageSieve::new(words, service)),
            Protocol::Http => return None,
        };
        Some(Self {
            talk,
            lines: LineBuffer::default(),
            opening: FirstBytes::default(),
            malformed: 0,
            astray: 0,
            proxy_header: false,
            state: State::Talking,
        })
    }

    /// Appends the greeting.
    pub fn greet(&mut self, out: &mut Vec<u8>) {
        self.talk.greet(out);
    }

    /// Takes what the client sent and appends the answers to `out`.
    ///
    /// After [`Step::StartTls`] any further byte is an injection. After [`Step::Open`] and [`Step::Close`]
    /// nothing is answered any more.
    pub fn receive(&mut self, input: &[u8], out: &mut Vec<u8>) -> Step {
        match self.state {
            State::Over(ended) => return Step::Close(ended),
            State::StartingTls if input.is_empty() => return Step::More,
            State::StartingTls => return self.injected(input.len(), out),
            State::Talking => {}
        }
        self.opening.push(input);
        if self.opening.are_client_hello() {
            out.extend_from_slice(&TLS_ALERT);
            return self.close(Ended::TlsInCleartext);
        }
        self.lines.push(input);
        while let Some(line) = self.lines.next() {
            if let Some(step) = self.line(line, out) {
                return step;
            }
        }
        Step::More
    }

    /// Whether the client began with a PROXY header, which nobody here believes: the log can name the
    /// setting that would.
    pub fn saw_proxy_header(&self) -> bool {
        self.proxy_header || self.opening.are_proxy_signature()
    }

    fn line(&mut self, line: Result<Vec<u8>, LineError>, out: &mut Vec<u8>) -> Option<Step> {
        let line = match line {
            Ok(line) => line,
            Err(error) => {
                self.talk.refuse_line(error, out);
                self.malformed += 1;
                return self.close_after(self.malformed, MAX_ERRORS, out);
            }
        };
        if is_http_request(&line) {
            self.talk.refuse_http(out);
            return Some(self.close(Ended::HttpRequest));
        }
        self.proxy_header |= line.starts_with(b"PROXY TCP") || line.starts_with(b"PROXY UNKNOWN");
        match self.talk.command(&line, out) {
            Act::Answered => None,
            Act::Astray => {
                self.astray += 1;
                self.close_after(self.astray, MAX_ASTRAY, out)
            }
            Act::StartTls(words) => Some(self.start_tls(words, out)),
            Act::Open => Some(self.open(line)),
            Act::Quit => Some(self.close(Ended::Quit)),
            Act::Close(ended) => Some(self.close(ended)),
        }
    }

    fn start_tls(&mut self, words: Vec<u8>, out: &mut Vec<u8>) -> Step {
        match mem::take(&mut self.lines).drained() {
            Ok(drained) => {
                self.state = State::StartingTls;
                Step::StartTls(GoAhead { drained, words })
            }
            Err(unread) => self.injected(unread.bytes, out),
        }
    }

    fn open(&mut self, line: Vec<u8>) -> Step {
        let mut unread = line;
        unread.extend(mem::take(&mut self.lines).into_unread());
        self.state = State::Over(Ended::Quit);
        Step::Open(CleartextStart { hello: self.talk.take_hello(), unread })
    }

    fn injected(&mut self, bytes: usize, out: &mut Vec<u8>) -> Step {
        self.talk.refuse_injection(out);
        self.close(Ended::Injection { bytes })
    }

    fn close_after(&mut self, count: usize, limit: usize, out: &mut Vec<u8>) -> Option<Step> {
        (count >= limit).then(|| {
            self.talk.too_many_errors(out);
            self.close(Ended::TooManyErrors)
        })
    }

    fn close(&mut self, ended: Ended) -> Step {
        self.state = State::Over(ended);
        self.lines = LineBuffer::default();
        Step::Close(ended)
    }
}

/// A TLS alert record: fatal, unexpected_message (RFC 8446 section 6). A client that began with a
/// ClientHello understands this and no line of text.
const TLS_ALERT: [u8; 7] = [0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x0a];

/// A handshake record of any version starts so (RFC 8446 section 5.1).
const CLIENT_HELLO: [u8; 2] = [0x16, 0x03];

/// The start of a PROXY header of version 2.
const PROXY_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The very first bytes of a client, as many as it takes to know another protocol by.
#[derive(Debug, Default)]
struct FirstBytes {
    bytes: [u8; PROXY_SIGNATURE.len()],
    known: usize,
}

impl FirstBytes {
    fn push(&mut self, input: &[u8]) {
        for (place, &byte) in self.bytes.iter_mut().skip(self.known).zip(input) {
            *place = byte;
            self.known += 1;
        }
    }

    fn are_client_hello(&self) -> bool {
        self.bytes.starts_with(&CLIENT_HELLO)
    }

    fn are_proxy_signature(&self) -> bool {
        self.bytes == PROXY_SIGNATURE
    }
}
