//! POP3 between a client and its service, up to the login, one command at a time.

use memchr::memmem;

use super::sides::{Sides, Turn};
use super::{Cut, Outputs, Watch, command_word};
use crate::capability::{Logins, hides};
use crate::line::{LineError, Literals};
use crate::opening::XCLIENT_CODE;
use crate::protocol::Protocol;
use crate::syntax::{say, text};

#[derive(Debug)]
pub(super) struct Pop3 {
    logins: Logins,
    sides: Sides,
    awaited: Option<Awaited>,
    logged_in: bool,
}

/// What the service has to answer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Plain,
    Capa,
    /// Another command whose good answer is a list.
    Listing,
    /// A login; with AUTH the service may ask for more.
    Login,
    /// The list, whose status was good. Whether it is of capabilities.
    List {
        capabilities: bool,
    },
}

impl Pop3 {
    pub(super) fn new(logins: Logins) -> Self {
        Self { logins, sides: Sides::new(Literals::Apart), awaited: None, logged_in: false }
    }

    fn forward(&mut self, line: &[u8], awaited: Awaited, out: &mut Outputs) {
        out.to_service.extend_from_slice(line);
        self.awaited = Some(awaited);
        self.sides.client.turn = Turn::Service;
    }

    fn answered(&mut self) {
        self.awaited = None;
        self.sides.client.turn = Turn::Command;
    }

    fn status(&mut self, status: &str, awaited: Awaited) -> Result<(), Cut> {
        match (status, awaited) {
            ("+OK", Awaited::Capa) => self.awaited = Some(Awaited::List { capabilities: true }),
            ("+OK", Awaited::Listing) => self.awaited = Some(Awaited::List { capabilities: false }),
            ("+OK", Awaited::Login) => {
                self.logged_in = true;
                self.answered();
            }
            ("+", Awaited::Login) => self.sides.client.turn = Turn::AuthLine,
            ("+OK" | "-ERR", _) => self.answered(),
            _ => return Err(Cut::OutOfStep),
        }
        Ok(())
    }
}

impl Watch for Pop3 {
    fn sides(&mut self) -> &mut Sides {
        &mut self.sides
    }

    fn client_line(&mut self, line: &[u8], out: &mut Outputs) -> Result<(), Cut> {
        if !self.sides.client.is_at_command() {
            self.forward(line, Awaited::Login, out);
            return Ok(());
        }
        let text = text(line);
        let (verb, argument) = command_word(&text);
        let mut refuse = |words| say(&mut out.to_client, words);
        match (verb.as_str(), argument.is_empty()) {
            ("STLS", _) => refuse("-ERR STLS is not for this point of a session"),
            ("XCLIENT", _) => refuse("-ERR Not for clients"),
            ("USER" | "PASS" | "APOP" | "AUTH", _) if self.logins == Logins::Hidden => {
                refuse("-ERR Logins need TLS here");
            }
            ("CAPA", _) => self.forward(line, Awaited::Capa, out),
            // Without an argument they list what there is (RFC 1734 servers, RFC 6856 section 4).
            ("AUTH" | "LANG", true) => self.forward(line, Awaited::Listing, out),
            ("PASS" | "APOP" | "AUTH", _) => self.forward(line, Awaited::Login, out),
            _ => self.forward(line, Awaited::Plain, out),
        }
        Ok(())
    }

    fn service_line(&mut self, line: Vec<u8>, out: &mut Outputs) -> Result<(), Cut> {
        let text = text(&line);
        match self.awaited {
            // The greeting, or last words. That the service trusts the door is none of the client's affair.
            None => {
                let code = memmem::find(&line, XCLIENT_CODE.as_bytes()).unwrap_or(line.len());
                let (before, rest) = line.split_at_checked(code).unwrap_or((&line, &[]));
                out.to_client.extend_from_slice(before);
                out.to_client.extend_from_slice(rest.strip_prefix(XCLIENT_CODE.as_bytes()).unwrap_or(rest));
                return Ok(());
            }
            Some(Awaited::List { .. }) if text == "." => self.answered(),
            Some(Awaited::List { capabilities: true }) if hides(Protocol::Pop3, &text, self.logins) => {
                return Ok(());
            }
            Some(Awaited::List { .. }) => {}
            Some(awaited) => self.status(&command_word(&text).0, awaited)?,
        }
        out.to_client.extend_from_slice(&line);
        Ok(())
    }

    fn refuse_line(&mut self, error: LineError, out: &mut Outputs) {
        say(&mut out.to_client, &format!("-ERR {error}"));
    }

    fn is_mid_command(&self) -> bool {
        !self.sides.client.is_at_command()
    }

    fn farewell(&mut self, cut: Cut, out: &mut Outputs) {
        say(&mut out.to_client, &format!("-ERR {cut}"));
    }

    fn is_transparent(&self) -> bool {
        self.logged_in
    }
}
