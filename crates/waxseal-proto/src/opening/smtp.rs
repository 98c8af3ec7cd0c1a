//! The opening of SMTP, submission and LMTP services (RFC 5321, RFC 3207, RFC 2033, Postfix XCLIENT).

use super::introduction::{Attributes, Form};
use super::{Approach, Goal, Move, OpeningError, OpeningPlan};
use crate::capability::Capabilities;
use crate::line::Literals;
use crate::protocol::Protocol;
use crate::syntax::{say, shown, text};

#[derive(Debug)]
pub(super) struct Smtp {
    protocol: Protocol,
    plan: OpeningPlan,
    phase: Phase,
    secured: bool,
    reply: Reply,
    greeting: Vec<u8>,
    capabilities: Option<Capabilities>,
    /// XCLIENT commands still to be said, the next one last.
    introduction: Vec<String>,
}

/// Which reply is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    Xclient,
    ClientsHello,
    Done,
}

/// A reply of one or more lines (RFC 5321 section 4.2).
#[derive(Debug, Default)]
struct Reply {
    raw: Vec<u8>,
    lines: Vec<String>,
}

impl Reply {
    /// Takes a line; gives the code when it was the last one.
    fn add(&mut self, line: &[u8]) -> Result<Option<u16>, OpeningError> {
        let text = text(line);
        let garbage = || OpeningError::Garbage { text: shown(line) };
        let code = text.get(..3).filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()));
        let code = code.and_then(|code| code.parse().ok()).filter(|code| (200..600).contains(code));
        let code: u16 = code.ok_or_else(garbage)?;
        let more = match text.as_bytes().get(3) {
            Some(b'-') => true,
            Some(b' ') | None => false,
            Some(_) => return Err(garbage()),
        };
        self.raw.extend_from_slice(line);
        self.lines.push(text.get(4..).unwrap_or_default().to_owned());
        Ok((!more).then_some(code))
    }

    fn text(&self) -> String {
        shown(&self.raw)
    }
}

impl Smtp {
    pub(super) fn new(protocol: Protocol, plan: OpeningPlan) -> Self {
        Self {
            protocol,
            plan,
            phase: Phase::Greeting,
            secured: false,
            reply: Reply::default(),
            greeting: Vec::new(),
            capabilities: None,
            introduction: Vec::new(),
        }
    }

    fn say_ehlo(&mut self, out: &mut Vec<u8>) -> Move {
        let verb = if self.protocol == Protocol::Lmtp { "LHLO" } else { "EHLO" };
        self.say(&format!("{verb} {}", self.plan.hostname), Phase::Ehlo, out)
    }

    fn say(&mut self, line: &str, phase: Phase, out: &mut Vec<u8>) -> Move {
        say(out, line);
        self.phase = phase;
        Move::Listen
    }

    fn heard(&mut self, code: u16, reply: Reply, out: &mut Vec<u8>) -> Result<Move, OpeningError> {
        let accepted = (200..300).contains(&code);
        let refused = || Err(OpeningError::Refused { text: reply.text() });
        match self.phase {
            Phase::Greeting if !accepted => refused(),
            Phase::Greeting => {
                self.greeting = reply.raw;
                let asks =
                    self.plan.starttls || self.plan.introduce.is_some() || self.plan.goal == Goal::Learn;
                if asks { Ok(self.say_ehlo(out)) } else { Ok(self.say_clients_hello(out)) }
            }
            Phase::Ehlo if accepted => {
                self.capabilities = Some(self.keywords(&reply));
                self.go_on(out)
            }
            // RFC 5321 section 4.1.4: a server from before EHLO. It knows no extension.
            Phase::Ehlo if code >= 500 && self.protocol != Protocol::Lmtp => {
                self.capabilities = Some(Capabilities::new(self.protocol, Vec::new()));
                if self.plan.starttls || self.plan.introduce.is_some() {
                    return self.go_on(out);
                }
                let helo = format!("HELO {}", self.plan.hostname);
                Ok(self.say(&helo, Phase::Helo, out))
            }
            Phase::Ehlo => refused(),
            Phase::Helo if accepted => self.go_on(out),
            Phase::Helo => refused(),
            Phase::StartTls if code == 220 => Ok(Move::StartTls),
            Phase::StartTls => Err(OpeningError::StartTlsRefused { text: reply.text() }),
            Phase::Xclient if accepted => {
                self.greeting = reply.raw;
                Ok(self.say_introduction(out))
            }
            Phase::Xclient => Err(OpeningError::XclientRefused { text: reply.text() }),
            Phase::ClientsHello if accepted => {
                self.capabilities = Some(self.keywords(&reply));
                Ok(self.ready(out))
            }
            Phase::ClientsHello => Err(OpeningError::HelloRefused { reply: reply.raw }),
            Phase::Done => Err(OpeningError::Garbage { text: reply.text() }),
        }
    }

    /// The keywords of an EHLO reply; its first line is the greeting.
    fn keywords(&self, reply: &Reply) -> Capabilities {
        Capabilities::new(self.protocol, reply.lines.iter().skip(1).cloned().collect())
    }

    /// What follows once the capabilities are known.
    fn go_on(&mut self, out: &mut Vec<u8>) -> Result<Move, OpeningError> {
        let offers = |keyword| self.capabilities.as_ref().and_then(|known| known.arguments(keyword));
        if self.plan.starttls && !self.secured {
            if offers("STARTTLS").is_none() {
                return Err(OpeningError::NoStartTls);
            }
            return Ok(self.say("STARTTLS", Phase::StartTls, out));
        }
        if let Some(client) = self.plan.introduce.take() {
            let announced = offers("XCLIENT").ok_or(OpeningError::XclientNotOffered)?;
            let proto = self.proto();
            self.introduction = Attributes::of(&client, Form::Smtp { proto }).xclient(announced)?;
            self.introduction.reverse();
        }
        Ok(self.say_introduction(out))
    }

    /// XCLIENT's PROTO: how the client itself speaks.
    fn proto(&self) -> &'static str {
        let is_helo = |hello: &Vec<u8>| hello.get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"HELO"));
        match self.protocol {
            Protocol::Lmtp => "LMTP",
            _ if self.plan.hello.as_ref().is_some_and(is_helo) => "SMTP",
            _ => "ESMTP",
        }
    }

    fn say_introduction(&mut self, out: &mut Vec<u8>) -> Move {
        match self.introduction.pop() {
            Some(command) => self.say(&command, Phase::Xclient, out),
            None => self.say_clients_hello(out),
        }
    }

    fn say_clients_hello(&mut self, out: &mut Vec<u8>) -> Move {
        match self.plan.hello.take() {
            Some(hello) => {
                out.extend_from_slice(&hello);
                self.phase = Phase::ClientsHello;
                Move::Listen
            }
            None => self.ready(out),
        }
    }

    fn ready(&mut self, out: &mut Vec<u8>) -> Move {
        if self.plan.goal == Goal::Learn {
            say(out, "QUIT");
        }
        self.phase = Phase::Done;
        Move::Ready { greeting: std::mem::take(&mut self.greeting), capabilities: self.capabilities.take() }
    }
}

impl Approach for Smtp {
    fn response(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<Move, OpeningError> {
        match self.reply.add(line)? {
            Some(code) => {
                let reply = std::mem::take(&mut self.reply);
                self.heard(code, reply, out)
            }
            None => Ok(Move::Listen),
        }
    }

    fn secured(&mut self, out: &mut Vec<u8>) {
        self.secured = true;
        self.capabilities = None;
        self.say_ehlo(out);
    }

    fn literals(&self) -> Literals {
        Literals::Apart
    }
}
