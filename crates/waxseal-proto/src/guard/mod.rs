//! What is let through between a client and its service once both are connected.
//!
//! The greeting, where the client is to see it, goes through [`Guard::from_service`] like anything else.

mod body;
mod imap;
mod managesieve;
mod pop3;
mod sides;
mod smtp;

use std::fmt;

use self::imap::Imap;
use self::managesieve::ManageSieve;
use self::pop3::Pop3;
use self::sides::{Heard, Sides};
use self::smtp::Smtp;
use crate::capability::{Capabilities, Logins};
use crate::line::{LineError, MAX_ERRORS};
use crate::protocol::Protocol;

pub use self::sides::MAX_INSIDE_LINE;

/// The longest literal in a login, in bytes.
pub const MAX_LITERAL: u64 = 65536;

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
    /// `None` once nothing needs to be looked at any more.
    watch: Option<Box<dyn Watch>>,
}

/// One protocol's part of a guard.
trait Watch: fmt::Debug + Send + Sync {
    fn sides(&mut self) -> &mut Sides;
    /// Whether there is room for what the client's next words come to.
    fn client_may_speak(&self) -> bool {
        true
    }
    /// One whole line of the client, CRLF included.
    fn client_line(&mut self, line: &[u8], out: &mut Outputs) -> Result<(), Cut>;
    /// The end of a message.
    fn body_end(&mut self, _out: &mut Outputs) {}
    /// One whole line of the service, with its literals.
    fn service_line(&mut self, line: Vec<u8>, out: &mut Outputs) -> Result<(), Cut>;
    /// Answers a malformed line.
    fn refuse_line(&mut self, error: LineError, out: &mut Outputs);
    /// Whether a line that is lost now leaves a command unfinished.
    fn is_mid_command(&self) -> bool;
    /// The last words to the client.
    fn farewell(&mut self, cut: Cut, out: &mut Outputs);
    fn service_offers(&mut self, _capabilities: &Capabilities) {}
    fn is_transparent(&self) -> bool;
}

/// What becomes of the line behind a literal.
#[derive(Debug, Default, PartialEq, Eq)]
enum Rest {
    /// There was no literal: the next line is a command.
    #[default]
    None,
    /// It belongs to the command that was forwarded.
    Forward,
    /// It is dropped, and then this is said, if anything is.
    Drop(Option<String>),
}

/// The first word of a command in upper case, and its arguments. Blanks are whatever any server may take for
/// one.
fn command_word(line: &str) -> (String, &str) {
    let line = line.trim();
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    (word.to_ascii_uppercase(), rest.trim_start())
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Cut {
    /// A message body holds what another server may take for its end (SMTP smuggling).
    #[error("Bare CR or LF around a line of one dot")]
    BareLineFeed,
    /// The service sent a line without end.
    #[error("The mail service sent too long a line")]
    LineTooLong,
    /// Too many malformed lines from the client, or one in the middle of a command.
    #[error("Too many malformed lines")]
    TooManyErrors,
    /// A literal or chunk whose end servers may see in different places.
    #[error("Literal not acceptable here")]
    BadLiteral,
    /// The service said what no command asked for.
    #[error("The mail service is out of step")]
    OutOfStep,
}

impl Guard {
    /// A guard for a session that begins. HTTP passes untouched.
    pub fn new(protocol: Protocol, leg: ClientLeg, hostname: &str) -> Self {
        let logins = match leg {
            ClientLeg::Clear { auth: Auth::Refuse } => Logins::Hidden,
            ClientLeg::Clear { auth: Auth::Pass } | ClientLeg::Tls => Logins::Shown,
        };
        let watch: Box<dyn Watch> = match protocol {
            Protocol::Smtp | Protocol::Submission | Protocol::Lmtp => {
                Box::new(Smtp::new(protocol, logins, hostname))
            }
            Protocol::Imap => Box::new(Imap::new(logins)),
            Protocol::Pop3 => Box::new(Pop3::new(logins)),
            Protocol::ManageSieve => Box::new(ManageSieve::new(logins)),
            Protocol::Http => return Self { watch: None },
        };
        Self { watch: Some(watch) }
    }

    /// Tells what the service announced while the guard was not yet listening ([`crate::Ready::capabilities`]):
    /// without it SMTP's BDAT is refused until an EHLO reply has announced CHUNKING.
    pub fn service_offers(&mut self, capabilities: &Capabilities) {
        if let Some(watch) = &mut self.watch {
            watch.service_offers(capabilities);
        }
    }

    /// Looks at what the client sent.
    pub fn from_client(&mut self, input: &[u8], out: &mut Outputs) -> Taken {
        self.look(input, out, hear_client)
    }

    /// Looks at what the service sent.
    pub fn from_service(&mut self, input: &[u8], out: &mut Outputs) -> Taken {
        self.look(input, out, hear_service)
    }

    /// Whether from here on nothing needs to be looked at in either direction. Nothing is held back then.
    pub fn is_transparent(&self) -> bool {
        self.watch.is_none()
    }

    fn look(&mut self, input: &[u8], out: &mut Outputs, hear: Hear) -> Taken {
        let Some(watch) = &mut self.watch else {
            return if input.is_empty() { Taken::Wait } else { Taken::Pass(input.len()) };
        };
        let taken = hear(&mut **watch, input, out).unwrap_or_else(|cut| {
            watch.farewell(cut, out);
            Taken::Close(cut)
        });
        if watch.is_transparent() && !matches!(taken, Taken::Close(_)) {
            if watch.sides().client.has_lost_bytes() {
                return Taken::Close(Cut::TooManyErrors);
            }
            out.to_service.extend(watch.sides().client.take_held());
            self.watch = None;
        }
        taken
    }
}

/// One side's part of [`Guard::look`].
type Hear = fn(&mut dyn Watch, &[u8], &mut Outputs) -> Result<Taken, Cut>;

/// Takes from the client until it has to wait or something is to be passed on as it stands.
fn hear_client(watch: &mut dyn Watch, input: &[u8], out: &mut Outputs) -> Result<Taken, Cut> {
    let mut taken = 0;
    loop {
        if taken > 0 && watch.sides().client.passes() {
            return Ok(Taken::Took(taken));
        }
        let rest = input.get(taken..).unwrap_or_default();
        let heard = if watch.client_may_speak() { watch.sides().client.hear(rest) } else { Heard::Wait };
        match heard {
            Heard::Wait if taken == 0 => return Ok(Taken::Wait),
            Heard::Wait => return Ok(Taken::Took(taken)),
            Heard::Pass(count) => return Ok(Taken::Pass(count)),
            Heard::Took(count) => taken += count,
            Heard::Line(count, line) => {
                taken += count;
                match line {
                    Ok(line) => watch.client_line(&line, out)?,
                    Err(error) => refuse_line(watch, error, out)?,
                }
            }
            Heard::BodyEnd(count) => {
                taken += count;
                watch.body_end(out);
            }
            Heard::LookAlike => return Err(Cut::BareLineFeed),
        }
    }
}

fn refuse_line(watch: &mut dyn Watch, error: LineError, out: &mut Outputs) -> Result<(), Cut> {
    let lost = watch.is_mid_command();
    watch.refuse_line(error, out);
    let malformed = &mut watch.sides().client.malformed;
    *malformed += 1;
    if lost || *malformed >= MAX_ERRORS { Err(Cut::TooManyErrors) } else { Ok(()) }
}

/// Takes from the service until nothing needs to be looked at any more.
fn hear_service(watch: &mut dyn Watch, input: &[u8], out: &mut Outputs) -> Result<Taken, Cut> {
    let mut taken = 0;
    while taken < input.len() && !watch.is_transparent() {
        let (count, line) = watch.sides().service.feed(input.get(taken..).unwrap_or_default());
        taken += count;
        if let Some(line) = line {
            watch.service_line(line.map_err(|_| Cut::LineTooLong)?, out)?;
        }
    }
    Ok(if taken == 0 { Taken::Wait } else { Taken::Took(taken) })
}
