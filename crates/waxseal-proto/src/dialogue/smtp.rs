//! SMTP, submission and LMTP before TLS (RFC 5321, RFC 3207, RFC 2033).

use std::sync::Arc;

use super::{Act, DoorWords, StartTls, Talk};
use crate::capability::Capabilities;
use crate::line::LineError;
use crate::protocol::Protocol;
use crate::syntax::{first_word, say, text};

#[derive(Debug)]
pub(super) struct Smtp {
    protocol: Protocol,
    words: DoorWords,
    service: Arc<Capabilities>,
    hello: Option<Vec<u8>>,
}

impl Smtp {
    pub(super) fn new(protocol: Protocol, words: DoorWords, service: Arc<Capabilities>) -> Self {
        Self { protocol, words, service, hello: None }
    }

    fn hello(&mut self, verb: &str, name: &str, line: &[u8], out: &mut Vec<u8>) -> Act {
        if (verb == "LHLO") != (self.protocol == Protocol::Lmtp) {
            let right = if self.protocol == Protocol::Lmtp { "LHLO" } else { "EHLO" };
            say(out, &format!("500 5.5.1 This is {}, say {right}", self.protocol.as_str().to_uppercase()));
            return Act::Astray;
        }
        if name.is_empty() {
            say(out, &format!("501 5.5.4 Syntax: {verb} hostname"));
            return Act::Answered;
        }
        self.hello = Some(line.to_vec());
        if verb == "HELO" {
            say(out, &format!("250 {}", self.words.hostname));
            return Act::Answered;
        }
        say(out, &format!("250-{}", self.words.hostname));
        for keyword in self.service.before_tls() {
            say(out, &format!("250-{keyword}"));
        }
        say(out, "250 STARTTLS");
        Act::Answered
    }

    /// A command of the protocol that only the service can answer.
    fn service_needed(&self, out: &mut Vec<u8>) -> Act {
        match self.words.starttls {
            StartTls::Optional => Act::Open,
            StartTls::Required => {
                // RFC 3207 section 4.
                say(out, "530 5.7.0 Must issue a STARTTLS command first");
                Act::Answered
            }
        }
    }
}

impl Talk for Smtp {
    fn greet(&self, out: &mut Vec<u8>) {
        let name = if self.protocol == Protocol::Lmtp { "LMTP" } else { "ESMTP" };
        say(out, &format!("220 {} {name} ready", self.words.hostname));
    }

    fn command(&mut self, line: &[u8], out: &mut Vec<u8>) -> Act {
        let text = text(line);
        let (verb, argument) = first_word(&text);
        let verb = verb.to_ascii_uppercase();
        match verb.as_str() {
            "EHLO" | "HELO" | "LHLO" => return self.hello(&verb, argument, line, out),
            "NOOP" => say(out, "250 2.0.0 OK"),
            "RSET" => say(out, "250 2.0.0 OK"),
            "HELP" => say(out, "214 2.0.0 Start TLS first: STARTTLS"),
            "STARTTLS" if argument.is_empty() => {
                return Act::StartTls(b"220 2.0.0 Ready to start TLS\r\n".to_vec());
            }
            "STARTTLS" => say(out, "501 5.5.4 Syntax error: STARTTLS takes no parameter"),
            "QUIT" => {
                say(out, "221 2.0.0 Bye");
                return Act::Quit;
            }
            // RFC 4954 section 6; no password is asked for.
            "AUTH" => {
                say(out, "538 5.7.11 Encryption required for authentication: issue STARTTLS first");
                return Act::Astray;
            }
            "MAIL" | "RCPT" | "DATA" | "BDAT" | "VRFY" | "EXPN" | "ETRN" | "BURL" => {
                return self.service_needed(out);
            }
            _ => {
                say(out, "500 5.5.2 Error: command not recognized");
                return Act::Astray;
            }
        }
        Act::Answered
    }

    fn refuse_line(&self, error: LineError, out: &mut Vec<u8>) {
        let code = if error == LineError::TooLong { "500 5.5.6" } else { "500 5.5.2" };
        say(out, &format!("{code} Error: {error}"));
    }

    fn too_many_errors(&self, out: &mut Vec<u8>) {
        say(out, &format!("421 4.7.0 {} Error: too many errors", self.words.hostname));
    }

    fn refuse_injection(&self, out: &mut Vec<u8>) {
        say(out, "554 5.5.0 Error: data after STARTTLS, closing the connection");
    }

    fn refuse_http(&self, out: &mut Vec<u8>) {
        say(out, &format!("554 5.7.0 {} This is a mail server, not a web server", self.words.hostname));
    }

    fn take_hello(&mut self) -> Option<Vec<u8>> {
        self.hello.take()
    }
}
