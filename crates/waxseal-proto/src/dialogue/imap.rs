//! IMAP before TLS (RFC 3501 section 6.2.1, RFC 9051 section 6.2.1).

use std::sync::Arc;

use super::{Act, DoorWords, Ended, StartTls, Talk};
use crate::capability::Capabilities;
use crate::line::LineError;
use crate::syntax::{first_word, literal, say, text};

#[derive(Debug)]
pub(super) struct Imap {
    words: DoorWords,
    service: Arc<Capabilities>,
}

impl Imap {
    pub(super) fn new(words: DoorWords, service: Arc<Capabilities>) -> Self {
        Self { words, service }
    }

    /// The atoms that a client sees before TLS. RFC 2595 section 3.2: LOGINDISABLED keeps a client from
    /// saying a password in the clear.
    fn atoms(&self) -> String {
        let mut atoms: Vec<&str> = self.service.before_tls().collect();
        if atoms.is_empty() {
            atoms.push("IMAP4rev1");
        }
        atoms.extend(["STARTTLS", "LOGINDISABLED"]);
        atoms.join(" ")
    }
}

/// Whether a tag is one (RFC 9051 section 9: ASTRING-CHAR except "+").
pub(crate) fn is_tag(tag: &str) -> bool {
    !tag.is_empty() && tag.bytes().all(|byte| byte.is_ascii_graphic() && !b"(){%*\"\\+".contains(&byte))
}

/// Commands of the protocol that only the service can answer.
const SERVICE_COMMANDS: [&str; 28] = [
    "APPEND",
    "CHECK",
    "CLOSE",
    "COPY",
    "CREATE",
    "DELETE",
    "ENABLE",
    "EXAMINE",
    "EXPUNGE",
    "FETCH",
    "GETQUOTA",
    "GETQUOTAROOT",
    "IDLE",
    "LIST",
    "LSUB",
    "MOVE",
    "NAMESPACE",
    "RENAME",
    "SEARCH",
    "SELECT",
    "SORT",
    "STATUS",
    "STORE",
    "SUBSCRIBE",
    "THREAD",
    "UID",
    "UNSELECT",
    "UNSUBSCRIBE",
];

impl Talk for Imap {
    fn greet(&self, out: &mut Vec<u8>) {
        say(out, &format!("* OK [CAPABILITY {}] {} ready", self.atoms(), self.words.hostname));
    }

    fn command(&mut self, line: &[u8], out: &mut Vec<u8>) -> Act {
        if literal(line).is_some() {
            say(out, "* BYE A literal before TLS is not taken");
            return Act::Close(Ended::Literal);
        }
        let text = text(line);
        let (tag, rest) = first_word(&text);
        if !is_tag(tag) {
            say(out, "* BAD Invalid tag");
            return Act::Astray;
        }
        let (verb, arguments) = first_word(rest);
        let alone = arguments.is_empty();
        match verb.to_ascii_uppercase().as_str() {
            "CAPABILITY" if alone => {
                say(out, &format!("* CAPABILITY {}", self.atoms()));
                say(out, &format!("{tag} OK Capability completed"));
            }
            "ID" => {
                // RFC 2971 section 3.1. What the client says of itself is said again inside TLS if it matters.
                say(out, "* ID NIL");
                say(out, &format!("{tag} OK ID completed"));
            }
            "NOOP" if alone => say(out, &format!("{tag} OK NOOP completed")),
            "LOGOUT" if alone => {
                say(out, "* BYE Logging out");
                say(out, &format!("{tag} OK Logout completed"));
                return Act::Quit;
            }
            "STARTTLS" if alone => {
                return Act::StartTls(format!("{tag} OK Begin TLS negotiation now\r\n").into_bytes());
            }
            "CAPABILITY" | "NOOP" | "LOGOUT" | "STARTTLS" => {
                say(out, &format!("{tag} BAD {} takes no arguments", verb.to_ascii_uppercase()));
            }
            // RFC 5530 section 3.
            "LOGIN" | "AUTHENTICATE" => {
                say(out, &format!("{tag} NO [PRIVACYREQUIRED] Start TLS before logging in: STARTTLS"));
                return Act::Astray;
            }
            verb if self.words.starttls == StartTls::Optional && SERVICE_COMMANDS.contains(&verb) => {
                return Act::Open;
            }
            "" => {
                say(out, &format!("{tag} BAD Command missing"));
                return Act::Astray;
            }
            _ => {
                say(out, &format!("{tag} BAD Unknown command, or not before STARTTLS"));
                return Act::Astray;
            }
        }
        Act::Answered
    }

    fn refuse_line(&self, error: LineError, out: &mut Vec<u8>) {
        say(out, &format!("* BAD {error}"));
    }

    fn too_many_errors(&self, out: &mut Vec<u8>) {
        say(out, "* BYE Too many errors");
    }

    fn refuse_injection(&self, out: &mut Vec<u8>) {
        say(out, "* BYE Data after STARTTLS, closing the connection");
    }

    fn refuse_http(&self, out: &mut Vec<u8>) {
        say(out, "* BYE This is a mail server, not a web server");
    }
}
