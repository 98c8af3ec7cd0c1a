//! The opening of a POP3 service (RFC 1939, RFC 2449, RFC 2595, Dovecot's XCLIENT).

use std::mem;

use super::introduction::{Attributes, Form};
use super::{Approach, Goal, Move, OpeningError, OpeningPlan};
use crate::capability::Capabilities;
use crate::line::Literals;
use crate::protocol::Protocol;
use crate::syntax::{say, shown, text};

#[derive(Debug)]
pub(super) struct Pop3 {
    plan: OpeningPlan,
    phase: Phase,
    secured: bool,
    greeting: Vec<u8>,
    capabilities: Option<Capabilities>,
}

/// What is awaited.
#[derive(Debug)]
enum Phase {
    Greeting,
    Capa,
    /// CAPA once more, after it was refused.
    CapaAgain,
    CapaList(Vec<String>),
    Stls,
    Xclient,
    Done,
}

/// How Dovecot says in its greeting that it takes XCLIENT, which saves asking.
pub(crate) const XCLIENT_CODE: &str = "[XCLIENT] ";

impl Pop3 {
    pub(super) fn new(plan: OpeningPlan) -> Self {
        Self { plan, phase: Phase::Greeting, secured: false, greeting: Vec::new(), capabilities: None }
    }

    fn say(&mut self, command: &str, phase: Phase, out: &mut Vec<u8>) -> Move {
        say(out, command);
        self.phase = phase;
        Move::Listen
    }

    fn greets_xclient(&self) -> bool {
        text(&self.greeting).contains(XCLIENT_CODE)
    }

    /// What follows once the last answer was a good one.
    fn go_on(&mut self, out: &mut Vec<u8>) -> Result<Move, OpeningError> {
        let starttls = self.plan.starttls && !self.secured;
        let asks_for_xclient = self.plan.introduce.is_some() && !self.greets_xclient();
        let asks = starttls || asks_for_xclient || self.plan.goal == Goal::Learn;
        match &self.capabilities {
            None if asks => return Ok(self.say("CAPA", Phase::Capa, out)),
            Some(known) if starttls && !known.offers_starttls() => return Err(OpeningError::NoStartTls),
            _ => {}
        }
        if starttls {
            return Ok(self.say("STLS", Phase::Stls, out));
        }
        if let Some(client) = self.plan.introduce.take() {
            let announced = self.capabilities.as_ref().and_then(|known| known.arguments("XCLIENT"));
            let announced = announced.or_else(|| self.greets_xclient().then_some(""));
            let announced = announced.ok_or(OpeningError::XclientNotOffered)?;
            if let Some(command) = Attributes::of(&client, Form::Dovecot).xclient(announced)?.first() {
                return Ok(self.say(command, Phase::Xclient, out));
            }
        }
        if self.plan.goal == Goal::Learn {
            say(out, "QUIT");
        }
        self.phase = Phase::Done;
        let (greeting, capabilities) = (mem::take(&mut self.greeting), self.capabilities.take());
        Ok(Move::Ready { greeting, capabilities })
    }

    fn know(&mut self, list: Vec<String>) {
        self.capabilities = Some(Capabilities::new(Protocol::Pop3, list));
    }
}

impl Approach for Pop3 {
    fn response(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<Move, OpeningError> {
        if let Phase::CapaList(list) = &mut self.phase {
            let line = text(line);
            if line != "." {
                list.push(line);
                return Ok(Move::Listen);
            }
            let list = mem::take(list);
            self.know(list);
            return self.go_on(out);
        }
        let text = shown(line);
        let status = text.split(' ').next().unwrap_or_default();
        let good = match status.to_ascii_uppercase().as_str() {
            "+OK" => true,
            "-ERR" => false,
            _ => return Err(OpeningError::Garbage { text }),
        };
        match (&self.phase, good) {
            (Phase::Greeting, true) => {
                self.greeting = line.to_vec();
                self.go_on(out)
            }
            (Phase::Greeting, false) => Err(OpeningError::Refused { text }),
            (Phase::Capa, true) => {
                self.phase = Phase::CapaList(Vec::new());
                Ok(Move::Listen)
            }
            // A refused PROXY header would look like a refused CAPA, were it not for the answer that follows it.
            (Phase::Capa, false) if self.plan.goal == Goal::Learn => {
                Ok(self.say("CAPA", Phase::CapaAgain, out))
            }
            // A server from before RFC 2449.
            (Phase::Capa | Phase::CapaAgain, false) => {
                self.know(Vec::new());
                self.go_on(out)
            }
            (Phase::Stls, true) => Ok(Move::StartTls),
            (Phase::Stls, false) => Err(OpeningError::StartTlsRefused { text }),
            (Phase::Xclient, true) => self.go_on(out),
            (Phase::Xclient, false) => Err(OpeningError::XclientRefused { text }),
            (Phase::CapaAgain, true) => Err(OpeningError::Garbage { text }),
            (Phase::CapaList(_) | Phase::Done, _) => Err(OpeningError::Garbage { text }),
        }
    }

    fn secured(&mut self, out: &mut Vec<u8>) {
        self.secured = true;
        self.capabilities = None;
        self.say("CAPA", Phase::Capa, out);
    }

    fn literals(&self) -> Literals {
        Literals::Apart
    }
}
