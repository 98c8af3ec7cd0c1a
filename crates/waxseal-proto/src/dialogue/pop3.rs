//! POP3 before TLS (RFC 1939, RFC 2449, RFC 2595 section 4).

use std::sync::Arc;

use super::{Act, DoorWords, StartTls, Talk};
use crate::capability::Capabilities;
use crate::line::LineError;
use crate::syntax::{first_word, say, text};

#[derive(Debug)]
pub(super) struct Pop3 {
    words: DoorWords,
    service: Arc<Capabilities>,
}

impl Pop3 {
    pub(super) fn new(words: DoorWords, service: Arc<Capabilities>) -> Self {
        Self { words, service }
    }
}

impl Talk for Pop3 {
    /// Without the timestamp that would invite APOP (RFC 1939 section 7).
    fn greet(&self, out: &mut Vec<u8>) {
        say(out, &format!("+OK {} ready", self.words.hostname));
    }

    fn command(&mut self, line: &[u8], out: &mut Vec<u8>) -> Act {
        let text = text(line);
        let (verb, argument) = first_word(&text);
        match verb.to_ascii_uppercase().as_str() {
            "CAPA" => {
                say(out, "+OK Capability list follows");
                for capability in self.service.before_tls() {
                    say(out, capability);
                }
                say(out, "STLS");
                say(out, ".");
            }
            "STLS" if argument.is_empty() => {
                return Act::StartTls(b"+OK Begin TLS negotiation\r\n".to_vec());
            }
            "STLS" => say(out, "-ERR STLS takes no argument"),
            "QUIT" => {
                say(out, "+OK Bye");
                return Act::Quit;
            }
            // Without a response code: AUTH (RFC 3206) would have the client ask for another password.
            "USER" | "PASS" | "APOP" | "AUTH" => {
                say(out, "-ERR Start TLS before logging in: STLS");
                return Act::Astray;
            }
            "STAT" | "LIST" | "RETR" | "DELE" | "NOOP" | "RSET" | "TOP" | "UIDL" | "LANG" | "UTF8"
                if self.words.starttls == StartTls::Optional =>
            {
                return Act::Open;
            }
            _ => {
                say(out, "-ERR Unknown command, or not before STLS");
                return Act::Astray;
            }
        }
        Act::Answered
    }

    fn refuse_line(&self, error: LineError, out: &mut Vec<u8>) {
        say(out, &format!("-ERR {error}"));
    }

    fn too_many_errors(&self, out: &mut Vec<u8>) {
        say(out, "-ERR Too many errors, closing the connection");
    }

    fn refuse_injection(&self, out: &mut Vec<u8>) {
        say(out, "-ERR Data after STLS, closing the connection");
    }

    fn refuse_http(&self, out: &mut Vec<u8>) {
        say(out, "-ERR This is a mail server, not a web server");
    }
}
