//! ManageSieve before TLS (RFC 5804).

use std::sync::Arc;

use super::{Act, DoorWords, Ended, StartTls, Talk};
use crate::capability::Capabilities;
use crate::line::LineError;
use crate::syntax::{first_word, literal, quoted, quoted_string, say, text, unquoted};

#[derive(Debug)]
pub(super) struct ManageSieve {
    words: DoorWords,
    service: Arc<Capabilities>,
}

impl ManageSieve {
    pub(super) fn new(words: DoorWords, service: Arc<Capabilities>) -> Self {
        Self { words, service }
    }

    /// RFC 5804 section 1.7: without TLS there is no mechanism, which an empty list says.
    fn capabilities(&self, out: &mut Vec<u8>) {
        let mut emptied = false;
        for capability in self.service.before_tls() {
            if unquoted(first_word(capability).0).eq_ignore_ascii_case("SASL") {
                say(out, "\"SASL\" \"\"");
                emptied = true;
            } else {
                say(out, capability);
            }
        }
        if !emptied {
            say(out, "\"SASL\" \"\"");
        }
        say(out, "\"STARTTLS\"");
    }
}

impl Talk for ManageSieve {
    fn greet(&self, out: &mut Vec<u8>) {
        self.capabilities(out);
        say(out, &format!("OK {}", quoted(&format!("{} ready", self.words.hostname))));
    }

    fn command(&mut self, line: &[u8], out: &mut Vec<u8>) -> Act {
        if literal(line).is_some() {
            say(out, "BYE \"A literal before TLS is not taken\"");
            return Act::Close(Ended::Literal);
        }
        let text = text(line);
        let (verb, arguments) = first_word(&text);
        let alone = arguments.is_empty();
        match verb.to_ascii_uppercase().as_str() {
            "CAPABILITY" if alone => {
                self.capabilities(out);
                say(out, "OK \"Capability completed\"");
            }
            "NOOP" if alone => say(out, "OK \"NOOP completed\""),
            // RFC 5804 section 2.13.
            "NOOP" => match quoted_string(arguments) {
                Some(tag) => say(out, &format!("OK (TAG {}) \"Done\"", quoted(&tag))),
                None => say(out, "NO \"NOOP takes one string\""),
            },
            "LOGOUT" if alone => {
                say(out, "OK \"Logout completed\"");
                return Act::Quit;
            }
            "STARTTLS" if alone => return Act::StartTls(b"OK \"Begin TLS negotiation now.\"\r\n".to_vec()),
            "CAPABILITY" | "LOGOUT" | "STARTTLS" => say(out, "NO \"This command takes no arguments\""),
            "AUTHENTICATE" => {
                say(out, "NO (ENCRYPT-NEEDED) \"Start TLS before logging in: STARTTLS\"");
                return Act::Astray;
            }
            "UNAUTHENTICATE" | "HAVESPACE" | "PUTSCRIPT" | "LISTSCRIPTS" | "SETACTIVE" | "GETSCRIPT"
            | "DELETESCRIPT" | "RENAMESCRIPT" | "CHECKSCRIPT"
                if self.words.starttls == StartTls::Optional =>
            {
                return Act::Open;
            }
            _ => {
                say(out, "NO \"Unknown command, or not before STARTTLS\"");
                return Act::Astray;
            }
        }
        Act::Answered
    }

    fn refuse_line(&self, error: LineError, out: &mut Vec<u8>) {
        say(out, &format!("NO {}", quoted(&error.to_string())));
    }

    fn too_many_errors(&self, out: &mut Vec<u8>) {
        say(out, "BYE \"Too many errors\"");
    }

    fn refuse_injection(&self, out: &mut Vec<u8>) {
        say(out, "BYE \"Data after STARTTLS, closing the connection\"");
    }

    fn refuse_http(&self, out: &mut Vec<u8>) {
        say(out, "BYE \"This is a mail server, not a web server\"");
    }
}
