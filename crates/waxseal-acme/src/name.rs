//! Names that certificates are for.

use std::fmt;
use std::net::IpAddr;

/// Most names of one certificate (Let's Encrypt's bound; others have the same or more).
pub const MAX_NAMES: usize = 100;

/// A name in a certificate: normalised when made, so that two spellings of it are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Kind);

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    Dns(String),
    Wildcard(String),
    Ip(IpAddr),
}

/// What kind of name it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind<'a> {
    /// A DNS name, in A-labels and lower case.
    Dns(&'a str),
    /// All names one label below this DNS name.
    Wildcard(&'a str),
    /// An address (RFC 8738).
    Ip(IpAddr),
}

/// Why a text is no name, or a list no list of names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("a name is empty")]
    Empty,
    /// Several names in one text, or a stray blank.
    #[error(
        "{0:?} holds blanks; write each name as an element of its own: [\"a.example.org\", \"b.example.org\"]"
    )]
    Blank(String),
    /// No DNS name, and no address.
    #[error("{0:?} is neither a host name nor an IP address; write it as in mail.example.org")]
    Invalid(String),
    /// A single label, which no public CA certifies and which every machine resolves otherwise.
    #[error("{0:?} has no dot; write the whole name, as in mail.example.org")]
    SingleLabel(String),
    /// A star somewhere else than as the whole first label.
    #[error("{0:?}: a star stands for one whole label at the beginning, as in *.example.org")]
    Star(String),
    /// Twice in one list.
    #[error("{0} stands there twice")]
    Duplicate(Name),
    /// A name that a wildcard of the same list stands for, which Let's Encrypt refuses.
    #[error("{0} is covered by {1} already; leave it out")]
    Redundant(Name, Name),
    /// A wildcard that the challenge cannot prove.
    #[error("{0} is a wildcard, which only dns-01 can prove")]
    WildcardNeedsDns(Name),
    /// An address that the challenge cannot prove.
    #[error("{0} is an address, which dns-01 cannot prove; take tls-alpn-01 or http-01")]
    AddressCannotDns(Name),
    /// No name at all.
    #[error("no name is given")]
    None,
    /// More than [`MAX_NAMES`].
    #[error("{0} names are more than the {MAX_NAMES} that one certificate may have")]
    TooMany(usize),
}

impl Name {
    /// Reads a name: a DNS name (in U-labels or A-labels), a wildcard, or an address.
    ///
    /// # Errors
    ///
    /// [`NameError`] where it is none.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.chars().any(|char| char.is_whitespace() || char.is_control() || char == ',') {
            return Err(NameError::Blank(text.to_owned()));
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Self(Kind::Ip(address.to_canonical())));
        }
        match text.strip_prefix("*.") {
            Some(rest) => dns(rest, text).map(|rest| Self(Kind::Wildcard(rest))),
            None => dns(text, text).map(|name| Self(Kind::Dns(name))),
        }
    }

    /// What kind of name this is.
    pub fn kind(&self) -> NameKind<'_> {
        match &self.0 {
            Kind::Dns(name) => NameKind::Dns(name),
            Kind::Wildcard(base) => NameKind::Wildcard(base),
            Kind::Ip(address) => NameKind::Ip(*address),
        }
    }

    /// Whether it stands for all names one label below another.
    pub fn is_wildcard(&self) -> bool {
        matches!(self.0, Kind::Wildcard(_))
    }

    /// Whether it is a wildcard, and `name` one label below it.
    fn stands_for(&self, name: &Self) -> bool {
        match (&self.0, &name.0) {
            (Kind::Wildcard(base), Kind::Dns(name)) => {
                name.split_once('.').is_some_and(|(_, parent)| parent == base)
            }
            _ => false,
        }
    }

    /// Whether it is an address.
    pub fn is_ip(&self) -> bool {
        matches!(self.0, Kind::Ip(_))
    }

    /// The name that a CA says in SNI when it asks for a tls-alpn-01 answer: the name itself, and for an address its
    /// reverse name (RFC 8738 section 6).
    pub fn sni(&self) -> String {
        match &self.0 {
            Kind::Dns(name) | Kind::Wildcard(name) => name.clone(),
            Kind::Ip(IpAddr::V4(address)) => {
                let [a, b, c, d] = address.octets();
                format!("{d}.{c}.{b}.{a}.in-addr.arpa")
            }
            Kind::Ip(IpAddr::V6(address)) => {
                let nibbles = address.octets().into_iter().rev().flat_map(|byte| [byte & 0xf, byte >> 4]);
                let mut name = nibbles.fold(String::new(), |name, nibble| format!("{name}{nibble:x}."));
                name.push_str("ip6.arpa");
                name
            }
        }
    }
}

/// A host name in A-labels; `whole` is what was written, for the error.
fn dns(text: &str, whole: &str) -> Result<String, NameError> {
    if text.contains('*') {
        return Err(NameError::Star(whole.to_owned()));
    }
    let text = text.strip_suffix('.').unwrap_or(text);
    let ascii = idna::domain_to_ascii_strict(text).map_err(|_| NameError::Invalid(whole.to_owned()))?;
    let all_numeric = ascii.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    if ascii.is_empty() || all_numeric {
        return Err(NameError::Invalid(whole.to_owned()));
    }
    if !ascii.contains('.') && ascii != "localhost" {
        return Err(NameError::SingleLabel(whole.to_owned()));
    }
    Ok(ascii)
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Dns(name) => f.write_str(name),
            Kind::Wildcard(base) => write!(f, "*.{base}"),
            Kind::Ip(address) => address.fmt(f),
        }
    }
}

/// The names of one certificate; every error with the index of the text that it is about (`None`: the whole list).
///
/// # Errors
///
/// Blanks, duplicates, no names or too many, and names that `challenge` cannot prove.
pub fn parse_names(
    texts: &[String],
    challenge: crate::ChallengeKind,
) -> Result<Vec<Name>, Vec<(Option<usize>, NameError)>> {
    let mut names: Vec<Name> = Vec::new();
    let mut errors = Vec::new();
    let wildcards: Vec<Name> =
        texts.iter().filter_map(|text| Name::parse(text).ok()).filter(Name::is_wildcard).collect();
    if texts.is_empty() {
        errors.push((None, NameError::None));
    }
    if texts.len() > MAX_NAMES {
        errors.push((None, NameError::TooMany(texts.len())));
    }
    for (index, text) in texts.iter().enumerate().take(MAX_NAMES) {
        match Name::parse(text).and_then(|name| provable(name, challenge)) {
            Ok(name) if names.contains(&name) => errors.push((Some(index), NameError::Duplicate(name))),
            Ok(name) => match wildcards.iter().find(|wildcard| wildcard.stands_for(&name)) {
                Some(wildcard) => errors.push((Some(index), NameError::Redundant(name, wildcard.clone()))),
                None => names.push(name),
            },
            Err(error) => errors.push((Some(index), error)),
        }
    }
    if errors.is_empty() { Ok(names) } else { Err(errors) }
}

fn provable(name: Name, challenge: crate::ChallengeKind) -> Result<Name, NameError> {
    let dns = challenge == crate::ChallengeKind::Dns01;
    if name.is_wildcard() && !dns {
        return Err(NameError::WildcardNeedsDns(name));
    }
    if name.is_ip() && dns {
        return Err(NameError::AddressCannotDns(name));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ChallengeKind::{Dns01, Http01, TlsAlpn01};

    fn parsed(text: &str) -> String {
        Name::parse(text).map_or_else(|error| format!("{error:?}"), |name| name.to_string())
    }

    #[test]
    fn spellings_of_one_name_are_one_name() {
        assert_eq!(parsed("MAIL.Example.ORG."), "mail.example.org");
        assert_eq!(parsed("*.Example.org"), "*.example.org");
        assert_eq!(parsed("bücher.example"), "xn--bcher-kva.example");
        assert_eq!(parsed("XN--BCHER-KVA.example"), "xn--bcher-kva.example");
        assert_eq!(parsed("2001:DB8:0::1"), "2001:db8::1");
        assert_eq!(parsed("[2001:db8::1]"), "2001:db8::1");
        assert_eq!(parsed("::ffff:192.0.2.1"), "192.0.2.1");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for wrong in [
            "",
            "a b.example",
            "a.example\nb.example",
            "a.example,b.example",
            "a..example",
            "-a.example",
            "a.*.example",
        ] {
            assert!(Name::parse(wrong).is_err(), "{wrong:?}");
        }
        for wrong in
            ["mail", "*.", "*", "**.example.org", "1.2.3", "1.2.3.4.5", "a_b.example", "https://a.example"]
        {
            assert!(Name::parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(Name::parse(&format!("{}.example", "a".repeat(64))).is_err());
        assert!(Name::parse(&"a.".repeat(130)).is_err());
    }

    #[test]
    fn errors_of_a_list_come_together_with_their_places() {
        let texts = ["a.example", "A.example.", "", "*.b.example"].map(str::to_owned);
        let errors = parse_names(&texts, TlsAlpn01).expect_err("three mistakes");
        assert_eq!(errors.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [Some(1), Some(2), Some(3)]);
        assert!(matches!(errors[0].1, NameError::Duplicate(_)) && matches!(errors[1].1, NameError::Empty));
        assert!(matches!(errors[2].1, NameError::WildcardNeedsDns(_)));
        assert_eq!(parse_names(&[], Http01).expect_err("none"), [(None, NameError::None)]);
    }

    #[test]
    fn a_name_that_a_wildcard_stands_for_is_left_to_it() {
        let texts = ["a.example.org", "*.example.org", "example.org", "a.b.example.org"].map(str::to_owned);
        let errors = parse_names(&texts, Dns01).expect_err("one of them");
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].0, Some(0));
        assert_eq!(
            errors[0].1.to_string(),
            "a.example.org is covered by *.example.org already; leave it out"
        );
    }

    #[test]
    fn wildcards_need_dns_01_and_addresses_the_others() {
        let wildcard = ["*.example.org".to_owned()];
        let address = ["192.0.2.1".to_owned()];
        assert!(parse_names(&wildcard, Dns01).is_ok() && parse_names(&wildcard, Http01).is_err());
        assert!(parse_names(&address, Dns01).is_err() && parse_names(&address, TlsAlpn01).is_ok());
    }

    #[test]
    fn an_address_is_asked_for_by_its_reverse_name() {
        assert_eq!(Name::parse("127.0.0.1").expect("an address").sni(), "1.0.0.127.in-addr.arpa");
        let v6 = Name::parse("2001:db8::1").expect("an address").sni();
        assert_eq!(v6, "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
    }
}
