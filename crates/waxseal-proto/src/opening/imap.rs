//! The opening of an IMAP service (RFC 9051, RFC 2971).

use std::mem;

use super::introduction::imap_id;
use super::{Approach, Goal, Move, OpeningError, OpeningPlan};
use crate::capability::{Capabilities, imap_atoms, with_imap_atoms};
use crate::line::Literals;
use crate::protocol::Protocol;
use crate::syntax::{first_word, say, shown, text};

#[derive(Debug)]
pub(super) struct Imap {
    plan: OpeningPlan,
    phase: Phase,
    secured: bool,
    /// Whether the capabilities were asked for.
    asked: bool,
    /// How many commands were said; the last one's tag.
    tag: usize,
    greeting: Vec<u8>,
    capabilities: Option<Capabilities>,
}

/// What is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Greeting,
    Capability,
    StartTls,
    Id,
    Done,
}

impl Imap {
    pub(super) fn new(plan: OpeningPlan) -> Self {
        Self {
            plan,
            phase: Phase::Greeting,
            secured: false,
            tag: 0,
            asked: false,
            greeting: Vec::new(),
            capabilities: None,
        }
    }

    fn say(&mut self, command: &str, phase: Phase, out: &mut Vec<u8>) -> Move {
        self.tag += 1;
        say(out, &format!("w{} {command}", self.tag));
        self.phase = phase;
        Move::Listen
    }

    fn ask(&mut self, out: &mut Vec<u8>) -> Move {
        self.asked = true;
        self.say("CAPABILITY", Phase::Capability, out)
    }

    fn note_capabilities(&mut self, line: &[u8]) {
        let Some(atoms) = imap_atoms(line).and_then(|place| line.get(place)) else { return };
        let atoms = text(atoms).split_ascii_whitespace().map(str::to_owned).collect();
        self.capabilities = Some(Capabilities::new(Protocol::Imap, atoms));
    }

    fn greeted(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<Move, OpeningError> {
        let text = text(line);
        let mut words = text.split(' ');
        if words.next() != Some("*") {
            return Err(OpeningError::Garbage { text: shown(line) });
        }
        match words.next().unwrap_or_default().to_ascii_uppercase().as_str() {
            "OK" => {
                self.note_capabilities(line);
                self.greeting = line.to_vec();
                self.go_on(out)
            }
            // Nobody has logged in, so nobody may be held for logged in.
            "PREAUTH" => Err(OpeningError::Preauth),
            "BYE" => Err(OpeningError::Refused { text: shown(line) }),
            _ => Err(OpeningError::Garbage { text: shown(line) }),
        }
    }

    /// What follows once the last answer was a good one.
    fn go_on(&mut self, out: &mut Vec<u8>) -> Result<Move, OpeningError> {
        let starttls = self.plan.starttls && !self.secured;
        let asks = starttls || self.plan.goal == Goal::Learn;
        match &self.capabilities {
            None if asks => return Ok(self.ask(out)),
            // An answer to a question of ours shows that the service has understood all that was sent before it, a
            // PROXY header among it; a greeting shows nothing.
            Some(_) if self.plan.goal == Goal::Learn && !self.asked => return Ok(self.ask(out)),
            Some(known) if starttls && !known.offers_starttls() => return Err(OpeningError::NoStartTls),
            _ => {}
        }
        if starttls {
            return Ok(self.say("STARTTLS", Phase::StartTls, out));
        }
        if let Some(client) = self.plan.introduce.take() {
            return Ok(self.say(&format!("ID {}", imap_id(&client)), Phase::Id, out));
        }
        if self.plan.goal == Goal::Learn {
            self.say("LOGOUT", Phase::Done, out);
        }
        self.phase = Phase::Done;
        Ok(Move::Ready { greeting: self.true_greeting(), capabilities: self.capabilities.take() })
    }

    /// The greeting with the capabilities of now: those it came with are of the time before TLS.
    fn true_greeting(&mut self) -> Vec<u8> {
        let greeting = mem::take(&mut self.greeting);
        match (imap_atoms(&greeting), &self.capabilities) {
            (Some(place), Some(known)) if self.secured => {
                with_imap_atoms(&greeting, place, known.entries().join(" ").as_bytes())
            }
            _ => greeting,
        }
    }

    fn answered(&mut self, verdict: &str, line: &[u8], out: &mut Vec<u8>) -> Result<Move, OpeningError> {
        let text = shown(line);
        match (self.phase, verdict.eq_ignore_ascii_case("OK")) {
            (Phase::StartTls, true) => Ok(Move::StartTls),
            (Phase::StartTls, false) => Err(OpeningError::StartTlsRefused { text }),
            (Phase::Capability | Phase::Id, true) => {
                if self.phase == Phase::Capability && self.capabilities.is_none() {
                    return Err(OpeningError::Garbage { text });
                }
                self.go_on(out)
            }
            (Phase::Id, false) => Err(OpeningError::IdRefused { text }),
            (Phase::Greeting | Phase::Capability | Phase::Done, _) => Err(OpeningError::Garbage { text }),
        }
    }
}

impl Approach for Imap {
    fn response(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<Move, OpeningError> {
        if self.phase == Phase::Greeting {
            return self.greeted(line, out);
        }
        let text = text(line);
        let (tag, rest) = first_word(&text);
        let (word, _) = first_word(rest);
        if tag == "*" && word.eq_ignore_ascii_case("BYE") {
            return Err(OpeningError::Refused { text: shown(line) });
        }
        if tag == "*" && word.eq_ignore_ascii_case("BAD") || tag == "+" {
            return Err(OpeningError::Garbage { text: shown(line) });
        }
        // What a status response to STARTTLS says of capabilities is of the time before TLS.
        if self.phase != Phase::StartTls {
            self.note_capabilities(line);
        }
        if tag == format!("w{}", self.tag) {
            return self.answered(word, line, out);
        }
        if tag == "*" { Ok(Move::Listen) } else { Err(OpeningError::Garbage { text: shown(line) }) }
    }

    fn secured(&mut self, out: &mut Vec<u8>) {
        self.secured = true;
        self.capabilities = None;
        self.ask(out);
    }

    fn literals(&self) -> Literals {
        Literals::Within
    }
}
