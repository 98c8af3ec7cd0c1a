//! The opening of a ManageSieve service (RFC 5804, Pigeonhole's XCLIENT).

use std::mem;

use super::introduction::{Attributes, Form};
use super::{Approach, Goal, Move, OpeningError, OpeningPlan};
use crate::capability::Capabilities;
use crate::line::Literals;
use crate::protocol::Protocol;
use crate::syntax::{say, shown, text, unquoted};

#[derive(Debug)]
pub(super) struct ManageSieve {
    plan: OpeningPlan,
    phase: Phase,
    secured: bool,
    /// Whether the capabilities were asked for.
    asked: bool,
    /// The capabilities as they come, raw and as entries.
    greeting: Vec<u8>,
    entries: Vec<String>,
}

/// What is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Capabilities,
    StartTls,
    Xclient,
    Done,
}

/// The first word of a response line when it ends a response (RFC 5804 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Ok,
    No,
    Bye,
}

/// The verdict that a response line gives, if it is no capability, challenge or other data.
pub(crate) fn verdict(line: &[u8]) -> Option<Verdict> {
    let text = text(line);
    let word = text.split([' ', '(', '"', '{']).next().unwrap_or_default();
    match word.to_ascii_uppercase().as_str() {
        "OK" => Some(Verdict::Ok),
        "NO" => Some(Verdict::No),
        "BYE" => Some(Verdict::Bye),
        _ => None,
    }
}

impl ManageSieve {
    pub(super) fn new(plan: OpeningPlan) -> Self {
        Self {
            plan,
            phase: Phase::Capabilities,
            secured: false,
            asked: false,
            greeting: Vec::new(),
            entries: Vec::new(),
        }
    }

    fn say(&mut self, command: &str, phase: Phase, out: &mut Vec<u8>) -> Move {
        say(out, command);
        self.phase = phase;
        Move::Listen
    }

    /// What follows once the last answer was a good one.
    fn go_on(&mut self, out: &mut Vec<u8>) -> Result<Move, OpeningError> {
        let capabilities = Capabilities::new(Protocol::ManageSieve, self.entries.clone());
        if self.plan.starttls && !self.secured {
            if !capabilities.offers_starttls() {
                return Err(OpeningError::NoStartTls);
            }
            return Ok(self.say("STARTTLS", Phase::StartTls, out));
        }
        if let Some(client) = self.plan.introduce.take() {
            let announced = capabilities.arguments("XCLIENT").ok_or(OpeningError::XclientNotOffered)?;
            let commands = Attributes::of(&client, Form::Dovecot).xclient(unquoted(announced))?;
            if let Some(command) = commands.first() {
                return Ok(self.say(command, Phase::Xclient, out));
            }
        }
        if self.plan.goal == Goal::Learn {
            if !self.asked {
                // As in IMAP: a greeting does not show that what was sent before it has been understood.
                self.asked = true;
                self.entries.clear();
                self.greeting.clear();
                return Ok(self.say("CAPABILITY", Phase::Capabilities, out));
            }
            say(out, "LOGOUT");
        }
        self.phase = Phase::Done;
        Ok(Move::Ready { greeting: mem::take(&mut self.greeting), capabilities: Some(capabilities) })
    }
}

impl Approach for ManageSieve {
    fn response(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<Move, OpeningError> {
        let text_shown = shown(line);
        if self.phase == Phase::Capabilities {
            self.greeting.extend_from_slice(line);
        }
        let Some(verdict) = verdict(line) else {
            if self.phase != Phase::Capabilities || !line.starts_with(b"\"") {
                return Err(OpeningError::Garbage { text: text_shown });
            }
            self.entries.push(text(line));
            return Ok(Move::Listen);
        };
        match (self.phase, verdict) {
            (_, Verdict::Bye) | (Phase::Capabilities, Verdict::No) => {
                Err(OpeningError::Refused { text: text_shown })
            }
            (Phase::Capabilities | Phase::Xclient, Verdict::Ok) => self.go_on(out),
            (Phase::StartTls, Verdict::Ok) => Ok(Move::StartTls),
            (Phase::StartTls, Verdict::No) => Err(OpeningError::StartTlsRefused { text: text_shown }),
            (Phase::Xclient, Verdict::No) => Err(OpeningError::XclientRefused { text: text_shown }),
            (Phase::Done, _) => Err(OpeningError::Garbage { text: text_shown }),
        }
    }

    /// RFC 5804 section 2.2: the service gives its capabilities again, unasked.
    fn secured(&mut self, _out: &mut Vec<u8>) {
        self.secured = true;
        self.greeting.clear();
        self.entries.clear();
        self.phase = Phase::Capabilities;
    }

    fn literals(&self) -> Literals {
        Literals::Within
    }
}
