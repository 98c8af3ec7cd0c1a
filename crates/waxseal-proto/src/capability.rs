//! What a service says it can do, and which of it a client may see.

use crate::protocol::Protocol;
use crate::syntax::{first_word, unquoted};

/// The capabilities of one service as it announced them, in its own order. Learnt, never configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    protocol: Protocol,
    entries: Vec<String>,
}

impl Capabilities {
    /// `entries`: EHLO keyword lines without the greeting line, IMAP atoms, CAPA lines or ManageSieve lines.
    pub fn new(protocol: Protocol, entries: Vec<String>) -> Self {
        Self { protocol, entries }
    }

    /// The protocol in whose form the entries are.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The entries as the service gave them.
    pub fn entries(&self) -> &[String] {
        &self.entries
    }

    /// Whether an entry's first word is `keyword`, without regard to case or quotes.
    pub fn offers(&self, keyword: &str) -> bool {
        self.arguments(keyword).is_some()
    }

    /// What follows `keyword` in its entry, or `None` when it is not offered.
    pub fn arguments(&self, keyword: &str) -> Option<&str> {
        self.entries.iter().find_map(|entry| {
            let (word, rest) = first_word(entry);
            unquoted(word).eq_ignore_ascii_case(keyword).then_some(rest)
        })
    }

    /// Whether the service would start TLS on this connection.
    pub fn offers_starttls(&self) -> bool {
        self.offers(if self.protocol == Protocol::Pop3 { "STLS" } else { "STARTTLS" })
    }

    /// Whether the service would take a login on this connection.
    pub fn offers_auth(&self) -> bool {
        match self.protocol {
            Protocol::Smtp | Protocol::Submission | Protocol::Lmtp => self.offers("AUTH"),
            Protocol::Imap => {
                let mechanism = |entry: &String| starts_with(entry, "AUTH=");
                !self.offers("LOGINDISABLED") || self.entries.iter().any(mechanism)
            }
            Protocol::Pop3 => self.offers("USER") || self.offers("SASL"),
            Protocol::ManageSieve => self.arguments("SASL").is_some_and(|list| !unquoted(list).is_empty()),
            Protocol::Http => true,
        }
    }
}

/// Whether logins are shown to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logins {
    Shown,
    Hidden,
}

/// Whether a client must not see this entry: what the door does itself, what would let a client introduce
/// itself as another, and logins where none are taken. (ManageSieve keeps SASL, emptied.)
pub(crate) fn hides(protocol: Protocol, entry: &str, logins: Logins) -> bool {
    let word = unquoted(first_word(entry).0);
    let among = |list: &[&str]| list.iter().any(|hidden| word.eq_ignore_ascii_case(hidden));
    let login = || match protocol {
        Protocol::Smtp | Protocol::Submission | Protocol::Lmtp => {
            // "AUTH=LOGIN" is the form of servers from before RFC 2554.
            among(&["AUTH"]) || starts_with(word, "AUTH=")
        }
        Protocol::Imap => among(&["SASL-IR"]) || starts_with(word, "AUTH="),
        Protocol::Pop3 => among(&["USER", "SASL"]),
        Protocol::ManageSieve | Protocol::Http => false,
    };
    let own = match protocol {
        Protocol::Smtp | Protocol::Submission | Protocol::Lmtp => &["STARTTLS", "XCLIENT", "XFORWARD"][..],
        Protocol::Imap => &["STARTTLS", "LOGINDISABLED"],
        Protocol::Pop3 => &["STLS", "XCLIENT"],
        Protocol::ManageSieve => &["STARTTLS", "XCLIENT"],
        Protocol::Http => &[],
    };
    among(own) || (logins == Logins::Hidden && login())
}

fn starts_with(word: &str, prefix: &str) -> bool {
    word.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}
