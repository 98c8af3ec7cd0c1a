//! ManageSieve between a client and its service, up to the login, one command at a time.

use std::mem;

use super::sides::{Sides, Turn};
use super::{Cut, MAX_LITERAL, Outputs, Rest, Watch, command_word};
use crate::capability::{Logins, hides};
use crate::line::{LineError, Literals, content};
use crate::opening::{Verdict, verdict};
use crate::protocol::Protocol;
use crate::syntax::{Literal, first_word, literal, quoted, quoted_string, say, text, unquoted};

#[derive(Debug)]
pub(super) struct ManageSieve {
    logins: Logins,
    sides: Sides,
    awaited: Option<Awaited>,
    rest: Rest,
    logged_in: bool,
}

/// What the service has to answer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Login,
    Other,
}

impl ManageSieve {
    pub(super) fn new(logins: Logins) -> Self {
        Self {
            logins,
            sides: Sides::new(Literals::Within),
            awaited: None,
            rest: Rest::None,
            logged_in: false,
        }
    }

    fn forward(&mut self, line: &[u8], awaited: Awaited, out: &mut Outputs) {
        out.to_service.extend_from_slice(line);
        self.awaited = Some(awaited);
        self.sides.client.turn = Turn::Service;
    }

    /// Gives the service a line of a login whose last string is this literal, if any.
    fn forward_login(&mut self, line: &[u8], literal: Option<Literal>, out: &mut Outputs) {
        self.forward(line, Awaited::Login, out);
        if let Some(literal) = literal {
            self.sides.client.expect_bytes(literal.bytes);
            self.rest = Rest::Forward;
        }
    }

    fn command(&mut self, line: &[u8], literal: Option<Literal>, out: &mut Outputs) {
        let text = text(line);
        let (verb, arguments) = command_word(&text);
        let refusal = match verb.as_str() {
            "STARTTLS" => "NO \"STARTTLS is not for this point of a session\"",
            "XCLIENT" => "NO \"Not for clients\"",
            "AUTHENTICATE" if self.logins == Logins::Hidden => "NO (ENCRYPT-NEEDED) \"Logins need TLS here\"",
            "AUTHENTICATE" if literal.is_none() || begins_with_literal(arguments) => {
                return self.forward_login(line, literal, out);
            }
            // Before the login nothing else has a use for one, and what servers do with it differs.
            _ if literal.is_some() => "NO \"A literal is not for this place\"",
            _ => return self.forward(line, Awaited::Other, out),
        };
        self.refuse(Some(refusal.into()), literal, out);
    }

    /// Answers in the service's stead, once the literals that came along were dropped.
    fn refuse(&mut self, reply: Option<String>, literal: Option<Literal>, out: &mut Outputs) {
        match literal {
            Some(literal) => {
                self.sides.client.expect_nothing_of(literal.bytes);
                self.rest = Rest::Drop(reply);
            }
            None => reply.iter().for_each(|reply| say(&mut out.to_client, reply)),
        }
    }

    /// A capability as the client may see it, or nothing.
    fn capability(&self, line: &[u8], out: &mut Outputs) {
        let text = text(line);
        if hides(Protocol::ManageSieve, &text, self.logins) {
            return;
        }
        if self.logins == Logins::Hidden && unquoted(first_word(&text).0).eq_ignore_ascii_case("SASL") {
            return say(&mut out.to_client, "\"SASL\" \"\"");
        }
        out.to_client.extend_from_slice(line);
    }
}

/// Whether the arguments of AUTHENTICATE, which end in a literal, are a quoted mechanism and that literal:
/// where else a literal may stand, servers need not agree.
fn begins_with_literal(arguments: &str) -> bool {
    let Some((mechanism, open)) = arguments.rsplit_once('{') else { return false };
    !open.is_empty() && mechanism.ends_with(' ') && quoted_string(mechanism.trim_end()).is_some()
}

impl Watch for ManageSieve {
    fn sides(&mut self) -> &mut Sides {
        &mut self.sides
    }

    fn client_line(&mut self, line: &[u8], out: &mut Outputs) -> Result<(), Cut> {
        let literal = literal(line);
        // RFC 5804 section 4: clients do not wait to be asked for a literal, and no server asks.
        if literal.is_some_and(|literal| literal.waits || literal.bytes > MAX_LITERAL) {
            return Err(Cut::BadLiteral);
        }
        if !self.sides.client.is_at_command() {
            if literal.is_some() && !line.starts_with(b"{") {
                return Err(Cut::BadLiteral);
            }
            self.forward_login(line, literal, out);
            return Ok(());
        }
        match mem::take(&mut self.rest) {
            Rest::None => self.command(line, literal, out),
            // The literal was the last string.
            Rest::Forward if content(line).is_empty() => self.forward(line, Awaited::Login, out),
            Rest::Forward => return Err(Cut::BadLiteral),
            Rest::Drop(reply) => self.refuse(reply, literal, out),
        }
        Ok(())
    }

    fn service_line(&mut self, line: Vec<u8>, out: &mut Outputs) -> Result<(), Cut> {
        let verdict = verdict(&line);
        match (verdict, self.awaited) {
            (Some(verdict), awaited) => {
                if (self.sides.client.passes() || self.rest == Rest::Forward) && verdict != Verdict::Bye {
                    // An end before the login's last string has come: what comes now is nobody's.
                    return Err(Cut::OutOfStep);
                }
                self.logged_in |= verdict == Verdict::Ok && awaited == Some(Awaited::Login);
                if self.awaited.take().is_some() {
                    self.sides.client.turn = Turn::Command;
                }
                out.to_client.extend_from_slice(&line);
            }
            (None, Some(Awaited::Login)) if matches!(self.sides.client.turn, Turn::Service) => {
                out.to_client.extend_from_slice(&line);
                self.sides.client.turn = Turn::AuthLine;
            }
            (None, Some(Awaited::Login)) => return Err(Cut::OutOfStep),
            (None, _) => self.capability(&line, out),
        }
        Ok(())
    }

    fn refuse_line(&mut self, error: LineError, out: &mut Outputs) {
        say(&mut out.to_client, &format!("NO {}", quoted(&error.to_string())));
    }

    fn is_mid_command(&self) -> bool {
        self.rest != Rest::None || !self.sides.client.is_at_command()
    }

    fn farewell(&mut self, cut: Cut, out: &mut Outputs) {
        say(&mut out.to_client, &format!("BYE {}", quoted(&cut.to_string())));
    }

    fn is_transparent(&self) -> bool {
        self.logged_in
    }
}
