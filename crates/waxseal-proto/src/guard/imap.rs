//! IMAP between a client and its service, up to the login. One command at a time: the next one is read when
//! the last one was answered, which keeps the door's own answers in order.

use std::mem;

use super::sides::{Sides, Turn};
use super::{Cut, MAX_LITERAL, Outputs, Rest, Watch, command_word};
use crate::capability::{Logins, hides, imap_atoms, with_imap_atoms};
use crate::dialogue::is_tag;
use crate::line::{LineError, Literals};
use crate::protocol::Protocol;
use crate::syntax::{Literal, first_word, literal, say, text};

#[derive(Debug)]
pub(super) struct Imap {
    logins: Logins,
    sides: Sides,
    command: Option<Command>,
    rest: Rest,
    /// The service has greeted.
    greeted: bool,
    logged_in: bool,
}

/// The command that the service has to answer.
#[derive(Debug)]
struct Command {
    tag: String,
    kind: Kind,
    /// The literal that the service has to ask for.
    literal: Option<Literal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Login,
    Authenticate,
    Other,
}

/// Parameters of ID by which a service lets itself be told who the client is (Dovecot).
const INTRODUCTIONS: [&str; 6] =
    ["x-originating-", "x-connected-", "x-session-", "x-proxy-ttl", "x-forward-", "x-client-transport"];

impl Imap {
    pub(super) fn new(logins: Logins) -> Self {
        Self {
            logins,
            sides: Sides::new(Literals::Within),
            command: None,
            rest: Rest::None,
            greeted: false,
            logged_in: false,
        }
    }

    /// Answers in the service's stead, once the literals that came along were dropped.
    fn refuse(
        &mut self,
        reply: Option<String>,
        literal: Option<Literal>,
        out: &mut Outputs,
    ) -> Result<(), Cut> {
        match literal {
            Some(Literal { bytes, waits: false }) if bytes > MAX_LITERAL => return Err(Cut::BadLiteral),
            Some(Literal { bytes, waits: false }) => {
                self.sides.client.expect_nothing_of(bytes);
                self.rest = Rest::Drop(reply);
            }
            // A client that waits to be asked for its literal hears the refusal first.
            _ => reply.iter().for_each(|reply| say(&mut out.to_client, reply)),
        }
        Ok(())
    }

    fn command(&mut self, line: &[u8], out: &mut Outputs) -> Result<(), Cut> {
        let literal = literal(line);
        let text = text(line);
        let (tag, rest) = first_word(&text);
        if !is_tag(tag) {
            return self.refuse(Some("* BAD Invalid tag".into()), literal, out);
        }
        let (verb, arguments) = command_word(rest);
        let kind = match verb.as_str() {
            "LOGIN" => Kind::Login,
            "AUTHENTICATE" => Kind::Authenticate,
            _ => Kind::Other,
        };
        let refusal = match verb.as_str() {
            "STARTTLS" => Some("BAD STARTTLS is not for this point of a session"),
            "LOGIN" | "AUTHENTICATE" if self.logins == Logins::Hidden => {
                Some("NO [PRIVACYREQUIRED] Logins need TLS here")
            }
            "ID" if introduces(arguments) => Some("BAD Not for clients"),
            // Before the login nothing else has a use for one, and what servers do with it differs.
            _ if literal.is_some() && kind != Kind::Login => Some("BAD A literal is not for this command"),
            _ if literal.is_some_and(|literal| literal.bytes > MAX_LITERAL) => Some("BAD Literal too large"),
            _ => None,
        };
        if let Some(refusal) = refusal {
            return self.refuse(Some(format!("{tag} {refusal}")), literal, out);
        }
        self.command = Some(Command { tag: tag.to_owned(), kind, literal: None });
        self.forward(line, literal, out)
    }

    /// Gives the service a line of a command. Its literals become such as the service has to ask for, so that
    /// it can never take for commands what was taken for data here.
    fn forward(&mut self, line: &[u8], literal: Option<Literal>, out: &mut Outputs) -> Result<(), Cut> {
        if literal.is_some_and(|literal| literal.bytes > MAX_LITERAL) {
            return Err(Cut::BadLiteral);
        }
        match line.strip_suffix(b"+}\r\n").or_else(|| line.strip_suffix(b"-}\r\n")) {
            Some(start) if literal.is_some() => {
                out.to_service.extend_from_slice(start);
                out.to_service.extend_from_slice(b"}\r\n");
            }
            _ => out.to_service.extend_from_slice(line),
        }
        if let Some(command) = &mut self.command {
            command.literal = literal;
        }
        self.sides.client.turn = Turn::Service;
        Ok(())
    }

    /// The service asks for more.
    fn asked(&mut self, line: &[u8], out: &mut Outputs) -> Result<(), Cut> {
        let command = self.command.as_mut().ok_or(Cut::OutOfStep)?;
        match (command.literal.take(), command.kind) {
            (Some(literal), _) => {
                if literal.waits {
                    out.to_client.extend_from_slice(line);
                }
                self.rest = Rest::Forward;
                self.sides.client.expect_bytes(literal.bytes);
            }
            (None, Kind::Authenticate) => {
                out.to_client.extend_from_slice(line);
                self.sides.client.turn = Turn::AuthLine;
            }
            (None, _) => return Err(Cut::OutOfStep),
        }
        Ok(())
    }

    /// The command is over.
    fn answered(&mut self, command: &Command, accepted: bool) {
        self.sides.client.turn = Turn::Command;
        if let Some(Literal { bytes, waits: false }) = command.literal {
            // The client did not wait to hear that nobody wants it.
            self.sides.client.expect_nothing_of(bytes);
            self.rest = Rest::Drop(None);
        }
        self.logged_in |= accepted && command.kind != Kind::Other;
    }

    /// The line as the client may see it.
    fn edited(&self, line: Vec<u8>) -> Vec<u8> {
        let Some(place) = imap_atoms(&line) else { return line };
        let list = line.get(place.clone()).unwrap_or_default();
        let shown = |atom: &&[u8]| !hides(Protocol::Imap, &text(atom), self.logins);
        let mut atoms: Vec<&[u8]> = list.split(|&byte| byte == b' ').filter(shown).collect();
        if self.logins == Logins::Hidden {
            // RFC 2595 section 3.2.
            atoms.push(b"LOGINDISABLED");
        }
        let atoms = atoms.join(&b' ');
        if atoms == list { line } else { with_imap_atoms(&line, place, &atoms) }
    }
}

/// Whether the parameters of an ID command tell who the client is. Escapes and case are looked through.
fn introduces(parameters: &str) -> bool {
    let plain = parameters.replace('\\', "").to_ascii_lowercase();
    INTRODUCTIONS.iter().any(|name| plain.contains(name))
}

impl Watch for Imap {
    fn sides(&mut self) -> &mut Sides {
        &mut self.sides
    }

    fn client_line(&mut self, line: &[u8], out: &mut Outputs) -> Result<(), Cut> {
        if !self.sides.client.is_at_command() {
            out.to_service.extend_from_slice(line);
            self.sides.client.turn = Turn::Service;
            return Ok(());
        }
        match mem::take(&mut self.rest) {
            Rest::None => self.command(line, out),
            Rest::Forward => self.forward(line, literal(line), out),
            Rest::Drop(reply) => self.refuse(reply, literal(line), out),
        }
    }

    fn service_line(&mut self, line: Vec<u8>, out: &mut Outputs) -> Result<(), Cut> {
        let text = text(&line);
        let (tag, rest) = first_word(&text);
        if tag == "+" {
            return self.asked(&line, out);
        }
        let word = command_word(rest).0;
        if tag == "*" && word == "PREAUTH" && !self.greeted {
            self.logged_in = true;
        }
        self.greeted = true;
        // An answer to a line whose tag the service could not read has none.
        let over = |command: &mut Command| tag == command.tag || (tag == "*" && word == "BAD");
        if let Some(command) = self.command.take_if(over) {
            if self.sides.client.passes() || self.rest != Rest::None {
                // An end before the literal that it asked for has come: what comes now is nobody's.
                return Err(Cut::OutOfStep);
            }
            self.answered(&command, tag != "*" && word == "OK");
        }
        let line = self.edited(line);
        out.to_client.extend_from_slice(&line);
        Ok(())
    }

    fn refuse_line(&mut self, error: LineError, out: &mut Outputs) {
        say(&mut out.to_client, &format!("* BAD {error}"));
    }

    fn is_mid_command(&self) -> bool {
        self.rest != Rest::None || !self.sides.client.is_at_command()
    }

    fn farewell(&mut self, cut: Cut, out: &mut Outputs) {
        say(&mut out.to_client, &format!("* BYE {cut}"));
    }

    fn is_transparent(&self) -> bool {
        self.logged_in
    }
}
