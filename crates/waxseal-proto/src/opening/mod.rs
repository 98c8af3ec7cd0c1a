//! The door's own words as a client of the service behind, up to the point where the session is handed over.

mod imap;
mod introduction;
mod managesieve;
mod pop3;
mod smtp;

use std::fmt;
use std::mem;
use std::net::SocketAddr;

use self::imap::Imap;
use self::managesieve::ManageSieve;
use self::pop3::Pop3;
use self::smtp::Smtp;
use crate::capability::Capabilities;
use crate::line::{Assembler, Drained, LineBuffer, Literals, Unread};
use crate::protocol::Protocol;

pub(crate) use self::managesieve::{Verdict, verdict};
pub(crate) use self::pop3::XCLIENT_CODE;

/// The most bytes that a service may say until it is ready.
pub const MAX_REPLIES: usize = 65536;

/// What is to be said to the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpeningPlan {
    /// Our own name, for EHLO.
    pub hostname: String,
    /// Whether this leg is to be encrypted by STARTTLS. Never gone on without.
    pub starttls: bool,
    /// The client, introduced by XCLIENT or IMAP ID.
    pub introduce: Option<Client>,
    /// The client's EHLO, HELO or LHLO line with CRLF, to be said on its behalf.
    pub hello: Option<Vec<u8>>,
    /// What it is all for.
    pub goal: Goal,
}

/// What an opening is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Ask for the capabilities, then say goodbye.
    Learn,
    /// Hand the session over.
    Serve,
}

/// The client as it is introduced to the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address.
    pub source: SocketAddr,
    /// The address it connected to.
    pub destination: SocketAddr,
    /// The name it gave in EHLO or HELO, if it did.
    pub helo: Option<String>,
    /// The session's name in our log.
    pub session: String,
}

/// One opening of a service.
#[derive(Debug)]
pub struct Opening {
    approach: Box<dyn Approach>,
    lines: LineBuffer,
    heard: usize,
}

/// One protocol's part of an opening.
trait Approach: fmt::Debug + Send + Sync {
    /// Takes one whole line of the service, with its literals.
    fn response(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<Move, OpeningError>;
    fn secured(&mut self, out: &mut Vec<u8>);
    fn literals(&self) -> Literals;
}

/// What a response comes to.
#[derive(Debug)]
enum Move {
    Listen,
    StartTls,
    Ready { greeting: Vec<u8>, capabilities: Option<Capabilities> },
}

/// What to do after [`Opening::receive`]. In every case `out` is to be written first.
#[derive(Debug)]
pub enum OpeningStep {
    /// Read on.
    More,
    /// Start TLS on this leg, then call [`Opening::secured`].
    StartTls(Drained),
    /// The service is ready.
    Ready(Ready),
}

/// A service ready to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The service's last greeting, whole, as received: after XCLIENT the new 220; for ManageSieve the
    /// capabilities with their OK.
    pub greeting: Vec<u8>,
    /// The last capabilities heard, if any were.
    pub capabilities: Option<Capabilities>,
    /// Bytes behind the last expected reply.
    pub unread: Vec<u8>,
}

/// Why an opening failed. Texts are the service's own words, made printable and cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpeningError {
    /// The service greeted with a refusal.
    #[error("the service refused the connection: {text}")]
    Refused {
        /// Its words.
        text: String,
    },
    /// STARTTLS is wanted and not offered.
    #[error("the service does not offer STARTTLS")]
    NoStartTls,
    /// STARTTLS was offered and then refused.
    #[error("the service refused STARTTLS: {text}")]
    StartTlsRefused {
        /// Its words.
        text: String,
    },
    /// Bytes stood behind the service's go-ahead for TLS.
    #[error("{bytes} bytes were injected behind the service's answer to STARTTLS")]
    Injected {
        /// How many.
        bytes: usize,
    },
    /// The client is to be introduced and the service does not offer XCLIENT.
    #[error("the service does not offer XCLIENT")]
    XclientNotOffered,
    /// XCLIENT was refused.
    #[error("the service refused XCLIENT: {text}")]
    XclientRefused {
        /// Its words.
        text: String,
    },
    /// The IMAP ID command was refused.
    #[error("the service refused ID: {text}")]
    IdRefused {
        /// Its words.
        text: String,
    },
    /// The client's own EHLO or HELO was refused; the reply is for the client.
    #[error("the service refused the client's greeting")]
    HelloRefused {
        /// The reply, whole.
        reply: Vec<u8>,
    },
    /// The service holds the session for logged in (IMAP PREAUTH).
    #[error("the service greeted with PREAUTH")]
    Preauth,
    /// The service does not speak this protocol.
    #[error("the service does not speak the protocol: {text}")]
    Garbage {
        /// What it said.
        text: String,
    },
    /// A reply without end.
    #[error("the service's reply is too long")]
    TooLong,
}

impl OpeningError {
    /// Whether the refusal may concern this one client: it says nothing about the service.
    pub fn is_about_the_client(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::XclientRefused { .. } | Self::HelloRefused { .. })
    }
}

impl Opening {
    /// `None` for HTTP, where nothing is said first.
    pub fn new(protocol: Protocol, plan: OpeningPlan) -> Option<Self> {
        let approach: Box<dyn Approach> = match protocol {
            Protocol::Smtp | Protocol::Submission | Protocol::Lmtp => Box::new(Smtp::new(protocol, plan)),
            Protocol::Imap => Box::new(Imap::new(plan)),
            Protocol::Pop3 => Box::new(Pop3::new(plan)),
            Protocol::ManageSieve => Box::new(ManageSieve::new(plan)),
            Protocol::Http => return None,
        };
        Some(Self { lines: lines(&*approach), approach, heard: 0 })
    }

    /// Takes what the service sent and appends our words to `out`.
    ///
    /// # Errors
    /// [`OpeningError`]: the connection is of no use any more.
    pub fn receive(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<OpeningStep, OpeningError> {
        self.lines.push(input);
        while let Some(response) = self.lines.next() {
            let response = response.map_err(|_| OpeningError::TooLong)?;
            self.heard += response.len();
            if self.heard > MAX_REPLIES {
                return Err(OpeningError::TooLong);
            }
            match self.approach.response(&response, out)? {
                Move::Listen => {}
                Move::StartTls => {
                    let injected = |unread: Unread| OpeningError::Injected { bytes: unread.bytes };
                    return self.take_lines().drained().map(OpeningStep::StartTls).map_err(injected);
                }
                Move::Ready { greeting, capabilities } => {
                    let unread = self.take_lines().into_unread();
                    return Ok(OpeningStep::Ready(Ready { greeting, capabilities, unread }));
                }
            }
        }
        Ok(OpeningStep::More)
    }

    /// TLS stands on this leg: what was known is forgotten and asked again (RFC 3207 section 4.2).
    pub fn secured(&mut self, out: &mut Vec<u8>) {
        self.approach.secured(out);
    }

    fn take_lines(&mut self) -> LineBuffer {
        mem::replace(&mut self.lines, lines(&*self.approach))
    }
}

fn lines(approach: &dyn Approach) -> LineBuffer {
    LineBuffer::over(Assembler::of_service(approach.literals()))
}
