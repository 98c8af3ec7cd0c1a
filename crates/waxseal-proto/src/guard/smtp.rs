//! SMTP, submission and LMTP between a client and its service, followed for the whole session.
//!
//! Clients pipeline (RFC 2920), so the door's own replies stand in a queue among those that the service
//! still owes.

use std::collections::VecDeque;
use std::mem;

use super::body::Body;
use super::sides::{Sides, Turn};
use super::{Cut, Outputs, Watch, command_word};
use crate::capability::{Capabilities, Logins, hides};
use crate::line::{LineError, Literals};
use crate::protocol::Protocol;
use crate::syntax::{first_word, say, text};

/// How many replies may be owed to a client before it has to wait.
const MAX_PENDING: usize = 256;

#[derive(Debug)]
pub(super) struct Smtp {
    protocol: Protocol,
    logins: Logins,
    hostname: Box<str>,
    sides: Sides,
    pending: VecDeque<Owed>,
    reply: Reply,
    /// Whether the service takes BDAT.
    chunking: bool,
    /// LMTP: how many recipients the service has accepted for this message.
    accepted: usize,
}

/// A reply that the client is owed.
#[derive(Debug)]
enum Owed {
    /// The door's own.
    Own(&'static str),
    /// The service's, of no consequence.
    Plain,
    /// To EHLO or LHLO.
    Ehlo,
    /// To what ends a transaction: HELO, RSET.
    Reset,
    Rcpt,
    Data,
    Auth,
    /// To a whole message. LMTP: one for each accepted recipient, but this many at least.
    Message {
        at_least: usize,
    },
    /// LMTP: so many more to a message.
    Left(usize),
}

/// The service's reply as it comes.
#[derive(Debug, Default)]
struct Reply {
    /// How many lines there were.
    lines: usize,
    /// The last line that the client may see: it becomes the last one of all if those that follow are hidden.
    held: Option<Vec<u8>>,
    chunking: bool,
}

impl Smtp {
    pub(super) fn new(protocol: Protocol, logins: Logins, hostname: &str) -> Self {
        Self {
            protocol,
            logins,
            hostname: hostname.into(),
            sides: Sides::new(Literals::Apart),
            pending: VecDeque::new(),
            reply: Reply::default(),
            chunking: false,
            accepted: 0,
        }
    }

    fn forward(&mut self, line: &[u8], owed: Owed, out: &mut Outputs) {
        out.to_service.extend_from_slice(line);
        self.pending.push_back(owed);
        self.settle(out);
    }

    /// As [`Self::forward`], for a command whose reply decides what the client's next bytes are: no client may
    /// send anything behind it (RFC 2920 section 3.1).
    fn forward_and_wait(&mut self, line: &[u8], owed: Owed, out: &mut Outputs) {
        self.forward(line, owed, out);
        self.sides.client.turn = Turn::Service;
    }

    /// Replies in the service's stead, when all that is owed before was said.
    fn answer(&mut self, reply: &'static str, out: &mut Outputs) {
        self.pending.push_back(Owed::Own(reply));
        self.settle(out);
    }

    /// Says those of our own replies whose turn it is: never in the middle of one of the service's.
    fn settle(&mut self, out: &mut Outputs) {
        if self.reply.lines > 0 {
            return;
        }
        loop {
            match self.pending.front() {
                Some(Owed::Own(reply)) => say(&mut out.to_client, reply),
                Some(&Owed::Message { at_least }) if self.protocol == Protocol::Lmtp => {
                    // RFC 2033 section 4.2: one reply for each recipient.
                    let count = mem::take(&mut self.accepted).max(at_least);
                    if let Some(front) = self.pending.front_mut() {
                        *front = Owed::Left(count);
                    }
                    continue;
                }
                Some(Owed::Left(0)) => {}
                _ => return,
            }
            self.pending.pop_front();
        }
    }

    /// An idle session holds next to nothing, however much it has pipelined.
    fn rest(&mut self) {
        if self.pending.is_empty() {
            self.pending = VecDeque::new();
        }
    }

    /// RFC 3030 section 2. The chunk follows its command at once, so both sides have to see the same size.
    fn chunk(&mut self, line: &[u8], argument: &str, out: &mut Outputs) -> Result<(), Cut> {
        if !self.chunking {
            self.answer("503 5.5.1 BDAT was not offered", out);
            return Err(Cut::BadLiteral);
        }
        let (size, last) = first_word(argument);
        let is_number = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_digit());
        let size = size.parse::<u64>().ok().filter(|_| is_number);
        let last = match last {
            "" => Some(false),
            word if word.eq_ignore_ascii_case("LAST") => Some(true),
            _ => None,
        };
        let (Some(size), Some(last)) = (size, last) else {
            self.answer("501 5.5.4 Syntax: BDAT count [LAST]", out);
            return Err(Cut::BadLiteral);
        };
        self.forward(line, if last { Owed::Message { at_least: 1 } } else { Owed::Plain }, out);
        self.sides.client.expect_bytes(size);
        Ok(())
    }

    /// A whole reply of the service, and what it changes.
    fn replied(&mut self, code: u16, reply: &Reply) -> Result<(), Cut> {
        // Where a reply of our own is due, the service has spoken unasked.
        let own = matches!(self.pending.front(), Some(Owed::Own(_)));
        let front = if own { None } else { self.pending.pop_front() };
        match (&front, code) {
            (Some(Owed::Data), 354) => {
                self.sides.client.turn = Turn::Body(Body::new());
                return Ok(());
            }
            (Some(Owed::Auth), 334) => {
                self.sides.client.turn = Turn::AuthLine;
                return Ok(());
            }
            // The service waits for data that is no command, and nobody else knows of it.
            (_, 300..400) => return Err(Cut::OutOfStep),
            _ => {}
        }
        let accepted = (200..300).contains(&code);
        if let Some(Owed::Data | Owed::Auth | Owed::Ehlo) = front {
            self.sides.client.turn = Turn::Command;
        }
        match front {
            Some(Owed::Rcpt) if accepted => self.accepted += 1,
            Some(Owed::Ehlo) if accepted => {
                self.accepted = 0;
                self.chunking = reply.chunking;
            }
            Some(Owed::Reset) if accepted => self.accepted = 0,
            // Last words, or the end of an exchange that took too long: what comes is commands again.
            None if matches!(self.sides.client.turn, Turn::AuthLine) => {
                self.sides.client.turn = Turn::Command;
            }
            Some(Owed::Left(left)) => self.pending.push_front(Owed::Left(left.saturating_sub(1))),
            _ => {}
        }
        Ok(())
    }
}

/// The code of a reply line and whether another line follows (RFC 5321 section 4.2).
fn parse(line: &[u8]) -> Option<(u16, bool)> {
    let (code, rest) = line.split_at_checked(3)?;
    let code = code
        .iter()
        .try_fold(0, |code, digit| digit.is_ascii_digit().then(|| code * 10 + u16::from(digit - b'0')))?;
    match rest.first() {
        Some(b'-') => Some((code, true)),
        Some(b' ' | b'\r' | b'\n') => Some((code, false)),
        _ => None,
    }
}

impl Watch for Smtp {
    fn sides(&mut self) -> &mut Sides {
        &mut self.sides
    }

    fn client_may_speak(&self) -> bool {
        self.pending.len() < MAX_PENDING
    }

    fn client_line(&mut self, line: &[u8], out: &mut Outputs) -> Result<(), Cut> {
        if !self.sides.client.is_at_command() {
            self.forward_and_wait(line, Owed::Auth, out);
            return Ok(());
        }
        let text = text(line);
        let (verb, argument) = command_word(&text);
        match verb.as_str() {
            "STARTTLS" => self.answer("503 5.5.1 STARTTLS is not for this point of a session", out),
            // The service believes the door, so nobody else may introduce a client.
            "XCLIENT" | "XFORWARD" => self.answer("550 5.7.1 Not for clients", out),
            // They would turn the session round (RFC 2645), with nobody watching.
            "TURN" | "ATRN" => self.answer("502 5.5.1 Not supported", out),
            "AUTH" if self.logins == Logins::Hidden => {
                self.answer("538 5.7.11 Encryption required for authentication", out);
            }
            "AUTH" => self.forward_and_wait(line, Owed::Auth, out),
            "DATA" => self.forward_and_wait(line, Owed::Data, out),
            "EHLO" | "LHLO" => self.forward_and_wait(line, Owed::Ehlo, out),
            "BDAT" => return self.chunk(line, argument, out),
            "HELO" | "RSET" => self.forward(line, Owed::Reset, out),
            "RCPT" => self.forward(line, Owed::Rcpt, out),
            _ => self.forward(line, Owed::Plain, out),
        }
        Ok(())
    }

    fn body_end(&mut self, out: &mut Outputs) {
        out.to_service.extend_from_slice(b"\r\n");
        self.sides.client.turn = Turn::Command;
        self.pending.push_back(Owed::Message { at_least: 0 });
        self.settle(out);
    }

    fn service_line(&mut self, mut line: Vec<u8>, out: &mut Outputs) -> Result<(), Cut> {
        let (code, more) = parse(&line).ok_or(Cut::OutOfStep)?;
        let before = out.to_client.len();
        let shown = &mut out.to_client;
        let keyword = text(line.get(4..).unwrap_or_default());
        self.reply.chunking |= command_word(&keyword).0 == "CHUNKING";
        // The first line of an EHLO reply is a greeting; the others are keywords.
        if code == 250 && self.reply.lines > 0 && hides(self.protocol, &keyword, self.logins) {
            if !more {
                let mut last = self.reply.held.take().unwrap_or_else(|| b"250 OK\r\n".to_vec());
                if let Some(mark) = last.get_mut(3) {
                    *mark = b' ';
                }
                shown.extend_from_slice(&last);
            }
        } else {
            shown.extend_from_slice(&self.reply.held.take().unwrap_or_default());
            if more && code == 250 {
                self.reply.held = Some(mem::take(&mut line));
            }
            shown.extend_from_slice(&line);
        }
        self.reply.lines += 1;
        if more {
            return Ok(());
        }
        let reply = mem::take(&mut self.reply);
        self.replied(code, &reply).inspect_err(|_| out.to_client.truncate(before))?;
        self.settle(out);
        self.rest();
        Ok(())
    }

    fn refuse_line(&mut self, error: LineError, out: &mut Outputs) {
        self.answer(
            match error {
                LineError::BareLf => "500 5.5.2 Error: bare LF received, lines end in CRLF",
                LineError::BareCr => "500 5.5.2 Error: bare CR received, lines end in CRLF",
                LineError::Nul => "500 5.5.2 Error: NUL received",
                LineError::TooLong => "500 5.5.6 Error: line too long",
            },
            out,
        );
    }

    fn is_mid_command(&self) -> bool {
        !self.sides.client.is_at_command()
    }

    fn farewell(&mut self, cut: Cut, out: &mut Outputs) {
        match cut {
            Cut::BareLineFeed => say(
                &mut out.to_client,
                "550 5.5.2 Error: bare CR or LF around a line of one dot, message refused",
            ),
            Cut::TooManyErrors => {
                say(&mut out.to_client, &format!("421 4.7.0 {} Error: too many errors", self.hostname));
            }
            Cut::OutOfStep | Cut::LineTooLong => {
                say(&mut out.to_client, &format!("421 4.3.0 {} {cut}", self.hostname));
            }
            // Its reply was given.
            Cut::BadLiteral => {}
        }
    }

    fn service_offers(&mut self, capabilities: &Capabilities) {
        self.chunking = capabilities.offers("CHUNKING");
    }

    fn is_transparent(&self) -> bool {
        false
    }
}
