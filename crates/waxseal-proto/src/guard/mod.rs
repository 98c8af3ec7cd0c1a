//! What is let through between a client and its service once both are connected.
//!
//! The greeting, where the client is to see it, goes through [`Guard::from_service`] like anything else.

use crate::capability::Capabilities;
use crate::protocol::Protocol;

/// How the client's side is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientLeg {
    /// By TLS.
    Tls,
    /// Not at all.
    Clear {
        /// What becomes of logins.
        auth: Auth,
    },
}

/// What becomes of logins in cleartext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// They are the service's affair.
    Pass,
    /// They are hidden and refused.
    Refuse,
}

/// Stands between a client and its service.
#[derive(Debug)]
pub struct Guard {
    #[expect(dead_code)]
    protocol: Protocol,
}

/// What the guard wants written. Allocates nothing while empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outputs {
    /// To the service.
    pub to_service: Vec<u8>,
    /// To the client.
    pub to_client: Vec<u8>,
}

/// What became of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Forward exactly the first `n` bytes (never 0) as they stand, after what [`Outputs`] holds.
    Pass(usize),
    /// The first `n` bytes (never 0) were taken; what came of them is in [`Outputs`].
    Took(usize),
    /// Nothing was taken: not before the other side has spoken. Also the answer to empty input.
    Wait,
    /// Write [`Outputs`], then end the session.
    Close(Cut),
}

/// Why a guard ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cut {
    /// A message body holds what another server may take for its end (SMTP smuggling).
    BareLineFeed,
    /// The service sent a line without end.
    LineTooLong,
    /// Too many malformed lines from the client.
    TooManyErrors,
    /// A literal or chunk whose end servers may see in different places.
    BadLiteral,
    /// The service said what no command asked for.
    OutOfStep,
}

impl Guard {
    /// A guard for a session that begins. HTTP passes untouched.
    pub fn new(protocol: Protocol, _leg: ClientLeg, _hostname: &str) -> Self {
        Self { protocol }
    }

    /// Tells what the service announced while the guard was not yet listening ([`crate::Ready::capabilities`]):
    /// without it SMTP's BDAT is refused until an EHLO reply has announced CHUNKING.
    pub fn service_offers(&mut self, _capabilities: &Capabilities) {}

    /// Looks at what the client sent.
    pub fn from_client(&mut self, input: &[u8], _out: &mut Outputs) -> Taken {
        if input.is_empty() { Taken::Wait } else { Taken::Pass(input.len()) }
    }

    /// Looks at what the service sent.
    pub fn from_service(&mut self, input: &[u8], _out: &mut Outputs) -> Taken {
        if input.is_empty() { Taken::Wait } else { Taken::Pass(input.len()) }
    }

    /// Whether from here on nothing needs to be looked at in either direction. Nothing is held back then.
    pub fn is_transparent(&self) -> bool {
        true
    }
}
