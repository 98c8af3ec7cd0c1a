//! What a service says it can do, and which of it a client may see.

use std::ops::Range;

use memchr::memchr;

use crate::line::content;
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

    /// The entries that a client sees before TLS, but for STARTTLS itself: logins are hidden.
    pub(crate) fn before_tls(&self) -> impl Iterator<Item = &str> {
        let protocol = self.protocol;
        self.entries.iter().map(String::as_str).filter(move |entry| !hides(protocol, entry, Logins::Hidden))
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

/// Where the atoms stand in an IMAP response that lists capabilities: `* CAPABILITY ...`, or the code
/// `[CAPABILITY ...]` of a status response (RFC 9051 sections 7.1 and 7.2.2).
pub(crate) fn imap_atoms(line: &[u8]) -> Option<Range<usize>> {
    let after_word = |from: usize| {
        let rest = line.get(from..)?;
        memchr(b' ', rest).map(|blank| from + blank + 1)
    };
    let second = after_word(0)?;
    let third = after_word(second)?;
    let is = |at: usize, word: &[u8]| {
        line.get(at..at + word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word))
    };
    if is(0, b"* CAPABILITY ") {
        return Some(third..content(line).len().max(third));
    }
    const CODE: &[u8] = b"[CAPABILITY ";
    if !is(third, CODE) {
        return None;
    }
    let start = third + CODE.len();
    let length = memchr(b']', line.get(start..)?)?;
    Some(start..start + length)
}

/// The line with other atoms in that place.
pub(crate) fn with_imap_atoms(line: &[u8], place: Range<usize>, atoms: &[u8]) -> Vec<u8> {
    let before = line.get(..place.start).unwrap_or_default();
    let after = line.get(place.end..).unwrap_or_default();
    [before, atoms, after].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(protocol: Protocol, entries: &[&str]) -> Capabilities {
        Capabilities::new(protocol, entries.iter().map(ToString::to_string).collect())
    }

    fn shown(protocol: Protocol, entries: &[&str]) -> Vec<String> {
        of(protocol, entries).before_tls().map(str::to_owned).collect()
    }

    #[test]
    fn the_services_order_is_kept_and_what_must_not_show_does_not() {
        let smtp = [
            "PIPELINING",
            "SIZE 10",
            "starttls",
            "AUTH PLAIN",
            "AUTH=PLAIN",
            "XCLIENT NAME",
            "XFORWARD A",
            "DSN",
        ];
        assert_eq!(shown(Protocol::Smtp, &smtp), ["PIPELINING", "SIZE 10", "DSN"]);
        let imap = ["IMAP4rev1", "SASL-IR", "LITERAL+", "STARTTLS", "AUTH=PLAIN", "LoginDisabled", "IDLE"];
        assert_eq!(shown(Protocol::Imap, &imap), ["IMAP4rev1", "LITERAL+", "IDLE"]);
        let pop3 = ["CAPA", "TOP", "STLS", "USER", "SASL PLAIN", "XCLIENT", "UIDL"];
        assert_eq!(shown(Protocol::Pop3, &pop3), ["CAPA", "TOP", "UIDL"]);
    }

    #[test]
    fn a_login_is_offered_where_a_client_would_find_one() {
        assert!(of(Protocol::Imap, &["IMAP4rev1"]).offers_auth());
        assert!(!of(Protocol::Imap, &["IMAP4rev1", "LOGINDISABLED"]).offers_auth());
        assert!(of(Protocol::Imap, &["LOGINDISABLED", "AUTH=CRAM-MD5"]).offers_auth());
        assert!(of(Protocol::Smtp, &["auth PLAIN"]).offers_auth());
        assert!(!of(Protocol::Smtp, &["AUTHOR x"]).offers_auth());
        assert!(of(Protocol::Pop3, &["SASL PLAIN"]).offers_auth());
        assert!(!of(Protocol::ManageSieve, &["\"SASL\" \"\""]).offers_auth());
        assert!(of(Protocol::ManageSieve, &["\"SASL\" \"PLAIN\""]).offers_auth());
        assert!(of(Protocol::ManageSieve, &["\"STARTTLS\""]).offers_starttls());
        assert!(of(Protocol::Pop3, &["stls"]).offers_starttls());
    }

    fn atoms(line: &str) -> Option<&str> {
        imap_atoms(line.as_bytes()).and_then(|place| line.get(place))
    }

    #[test]
    fn imap_capabilities_are_found_in_lists_and_in_codes() {
        assert_eq!(atoms("* CAPABILITY IMAP4rev1 IDLE\r\n"), Some("IMAP4rev1 IDLE"));
        assert_eq!(atoms("* OK [capability IMAP4rev1 IDLE] ready\r\n"), Some("IMAP4rev1 IDLE"));
        assert_eq!(atoms("a1 OK [CAPABILITY X] done\r\n"), Some("X"));
        assert_eq!(atoms("* OK [ALERT] [CAPABILITY X]\r\n"), None);
        assert_eq!(atoms("* OK [CAPABILITY X\r\n"), None);
        assert_eq!(atoms("* CAPABILITY\r\n"), None);
        assert_eq!(atoms("* CAPABILITY \r\n"), Some(""));
    }
}
