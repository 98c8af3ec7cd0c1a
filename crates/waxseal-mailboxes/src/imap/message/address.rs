//! Address lists as ENVELOPE has them (RFC 9051 section 7.5.2), display names as they stand.

use super::lexer::{Lexer, Token};

/// How many addresses of a field are told.
const MAX_ADDRESSES: usize = 5000;

/// One of the parentheses of an address list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct EnvelopeAddress {
    pub(super) name: Option<Vec<u8>>,
    pub(super) route: Option<Vec<u8>>,
    /// The local part, or a group's name.
    pub(super) mailbox: Option<Vec<u8>>,
    /// `None` marks the beginning and the end of a group.
    pub(super) host: Option<Vec<u8>>,
}

/// What has been read of the address that is being read.
#[derive(Default)]
struct Open {
    words: Vec<Token>,
    comment: Option<Vec<u8>>,
    /// The words within `<>`.
    angle: Option<Vec<Token>>,
    in_angle: bool,
}

/// Reads the lists of all `values` into one.
pub(super) fn addresses<'a>(values: impl Iterator<Item = &'a [u8]>) -> Vec<EnvelopeAddress> {
    let mut list = Vec::new();
    for value in values {
        read(value, &mut list);
    }
    list
}

fn read(value: &[u8], list: &mut Vec<EnvelopeAddress>) {
    let mut open = Open::default();
    let mut in_group = false;
    for token in Lexer::address(value) {
        if list.len() >= MAX_ADDRESSES {
            return;
        }
        match token {
            Token::Comment(text) => open.comment = Some(text),
            Token::Special(b'<') if !open.in_angle => {
                open.in_angle = true;
                open.angle = Some(Vec::new());
            }
            Token::Special(b'>') => open.in_angle = false,
            Token::Special(b',') if !open.in_angle => list.extend(std::mem::take(&mut open).close()),
            Token::Special(b':') if !open.in_angle && !in_group => {
                in_group = true;
                let mailbox = Some(phrase(&std::mem::take(&mut open).words));
                list.push(EnvelopeAddress { mailbox, ..EnvelopeAddress::default() });
            }
            Token::Special(b';') if !open.in_angle => {
                list.extend(std::mem::take(&mut open).close());
                if std::mem::take(&mut in_group) {
                    list.push(EnvelopeAddress::default());
                }
            }
            token => match &mut open.angle {
                Some(angle) if open.in_angle => angle.push(token),
                _ => open.words.push(token),
            },
        }
    }
    list.extend(open.close());
    if in_group {
        list.push(EnvelopeAddress::default());
    }
}

impl Open {
    fn close(self) -> Option<EnvelopeAddress> {
        let (name, spec) = match &self.angle {
            Some(angle) => {
                let name = Some(phrase(&self.words)).filter(|name| !name.is_empty());
                (name.or(self.comment), angle.as_slice())
            }
            None if self.words.is_empty() => return None,
            None => (self.comment, self.words.as_slice()),
        };
        // RFC 5322 section 4.4, obs-route: `@a,@b:` before the address.
        let colon = spec.iter().position(|token| *token == Token::Special(b':'));
        let (route, spec) = match colon.and_then(|colon| spec.split_at_checked(colon)) {
            Some((route, [_, spec @ ..])) => (Some(joined(route)), spec),
            _ => (None, spec),
        };
        let at = spec.iter().rposition(|token| *token == Token::Special(b'@'));
        // A host that is missing is not NIL, which would begin a group.
        let (local, host) = match at.and_then(|at| spec.split_at_checked(at)) {
            Some((local, host)) => (joined(local), joined(host.get(1..).unwrap_or_default())),
            None => (joined(spec), Vec::new()),
        };
        Some(EnvelopeAddress { name, route, mailbox: Some(local), host: Some(host) })
    }
}

fn text_of(token: &Token) -> &[u8] {
    match token {
        Token::Atom(text) | Token::Quoted(text) | Token::Literal(text) => text,
        Token::Special(special) => std::slice::from_ref(special),
        Token::Comment(_) => &[],
    }
}

/// A display name: its words, a space between.
fn phrase(tokens: &[Token]) -> Vec<u8> {
    tokens.iter().map(text_of).collect::<Vec<_>>().join(&b' ')
}

fn joined(tokens: &[Token]) -> Vec<u8> {
    tokens.iter().map(text_of).collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_one(value: &str) -> Vec<String> {
        let show = |part: Option<Vec<u8>>| {
            part.map_or_else(|| "NIL".into(), |text| String::from_utf8(text).unwrap())
        };
        addresses([value.as_bytes()].into_iter())
            .into_iter()
            .map(|a| format!("{}|{}|{}|{}", show(a.name), show(a.route), show(a.mailbox), show(a.host)))
            .collect()
    }

    #[test]
    fn addresses_are_read_in_their_forms() {
        for (value, expected) in [
            ("a@b", "NIL|NIL|a|b"),
            (" John Q. Public <jq.p@b.test>", "John Q. Public|NIL|jq.p|b.test"),
            ("\"Doe, \\\"J\\\"\" <d@e>", "Doe, \"J\"|NIL|d|e"),
            ("a@b (Some One)", "Some One|NIL|a|b"),
            ("=?utf-8?Q?J=C3=BC?= <j@b>", "=?utf-8?Q?J=C3=BC?=|NIL|j|b"),
            ("x <@r1,@r2:a@b>", "x|@r1,@r2|a|b"),
            ("\"a b\"@[127.0.0.1]", "NIL|NIL|a b|[127.0.0.1]"),
            ("postmaster", "NIL|NIL|postmaster|"),
            ("a@b@c", "NIL|NIL|a@b|c"),
            ("<>", "NIL|NIL||"),
        ] {
            assert_eq!(read_one(value), [expected], "{value}");
        }
    }

    #[test]
    fn groups_are_marked_by_a_missing_host() {
        assert_eq!(
            read_one("Team: a@b, C <c@d>;, e@f"),
            ["NIL|NIL|Team|NIL", "NIL|NIL|a|b", "C|NIL|c|d", "NIL|NIL|NIL|NIL", "NIL|NIL|e|f"]
        );
        assert_eq!(
            read_one("undisclosed-recipients:;"),
            ["NIL|NIL|undisclosed-recipients|NIL", "NIL|NIL|NIL|NIL"]
        );
        assert_eq!(read_one("open: a@b").len(), 3);
    }

    #[test]
    fn nothing_is_no_address() {
        for empty in ["", "  ", ",,,", ";", "(only a comment)", ">"] {
            assert!(read_one(empty).is_empty(), "{empty}");
        }
    }
}
