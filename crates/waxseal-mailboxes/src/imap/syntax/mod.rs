//! The grammar of commands (RFC 9051 section 9, RFC 3501 section 9 and the extensions served), over one whole command.
//!
//! A command arrives here without its last CRLF and with its literals in place (`{3}` CRLF `abc`), already bounded by
//! whoever read it; so every list below is bounded by the command's length, and nothing nests but search keys.
//! Nothing is known here of folders, messages or sockets.

mod command;
mod date;
mod fetch;
mod list;
mod search;
mod sequence;

pub(super) use self::command::{AppendHead, Command, SetFlags, StatusItem, append_head, parse, tag_of};
pub(super) use self::date::{Day, internal_date};
pub(super) use self::fetch::{Fetch, FetchItem, Partial, Section, SectionText};
pub(super) use self::list::{List, ListSelect};
pub(super) use self::search::{Charset, Key, Search, SearchReturn};
pub(super) use self::sequence::{Ranges, SequenceSet};

use crate::store::{Flag, Flags, Keyword};

/// What is wrong with a command, for the text of BAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SyntaxError(pub(super) &'static str);

type Parsed<T> = Result<T, SyntaxError>;

/// What is left to read of a command.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

/// ATOM-CHAR: any CHAR that is no atom-special.
fn is_atom(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"(){%*\"\\]".contains(&byte)
}

/// ASTRING-CHAR.
fn is_astring(byte: u8) -> bool {
    is_atom(byte) || byte == b']'
}

/// list-char. Beyond ASCII as well: UTF-8 in unquoted patterns and names is answered by what a name may be, not here.
fn is_list(byte: u8) -> bool {
    is_astring(byte) || byte == b'%' || byte == b'*'
}

impl<'a> Cursor<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Takes `byte` if it is next.
    fn take(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn expect(&mut self, byte: u8, otherwise: &'static str) -> Parsed<()> {
        if self.take(byte) { Ok(()) } else { Err(SyntaxError(otherwise)) }
    }

    fn space(&mut self) -> Parsed<()> {
        self.expect(b' ', "a space is missing")
    }

    fn open(&mut self) -> Parsed<()> {
        self.expect(b'(', "a list is missing")
    }

    fn end(&self) -> Parsed<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(SyntaxError("something stands behind the command")) }
    }

    fn while_is(&mut self, accept: impl Fn(u8) -> bool) -> &'a [u8] {
        let length = self.rest.iter().position(|byte| !accept(*byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    /// Takes `words` if they are next, in whatever case.
    fn take_words(&mut self, words: &str) -> bool {
        match self.rest.split_at_checked(words.len()) {
            Some((start, rest)) if start.eq_ignore_ascii_case(words.as_bytes()) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn atom(&mut self) -> Parsed<&'a str> {
        let atom = self.while_is(is_atom);
        if atom.is_empty() { Err(SyntaxError("an atom is missing")) } else { Ok(ascii(atom)) }
    }

    /// An atom in capitals.
    fn word(&mut self) -> Parsed<String> {
        Ok(self.atom()?.to_ascii_uppercase())
    }

    /// A number of at most 63 bits (RFC 9051: number64, mod-sequence-value).
    fn number64(&mut self) -> Parsed<u64> {
        let digits = ascii(self.while_is(|byte| byte.is_ascii_digit()));
        match digits.parse::<u64>() {
            Ok(number) if number <= i64::MAX as u64 => Ok(number),
            _ => Err(SyntaxError("a number is missing or too large")),
        }
    }

    fn number(&mut self) -> Parsed<u32> {
        u32::try_from(self.number64()?).map_err(|_| SyntaxError("a number is too large"))
    }

    fn nz_number(&mut self) -> Parsed<u32> {
        match self.number()? {
            0 => Err(SyntaxError("a number must not be 0")),
            number => Ok(number),
        }
    }

    fn quoted(&mut self) -> Parsed<Vec<u8>> {
        self.expect(b'"', "a string is missing")?;
        let mut text = Vec::new();
        loop {
            let (first, rest) = self.rest.split_first().ok_or(SyntaxError("a quoted string has no end"))?;
            self.rest = rest;
            match first {
                b'"' => return Ok(text),
                b'\\' => match self.rest.split_first() {
                    Some((escaped @ (b'"' | b'\\'), rest)) => {
                        text.push(*escaped);
                        self.rest = rest;
                    }
                    _ => return Err(SyntaxError("only \" and \\ can be escaped in a quoted string")),
                },
                0 | b'\r' | b'\n' => return Err(SyntaxError("a quoted string has a control character")),
                byte => text.push(*byte),
            }
        }
    }

    fn literal(&mut self) -> Parsed<Vec<u8>> {
        let bad = SyntaxError("a literal is malformed");
        self.expect(b'{', "a string is missing")?;
        let length = usize::try_from(self.number64()?).map_err(|_| bad)?;
        self.take(b'+');
        if !(self.take(b'}') && self.take(b'\r') && self.take(b'\n')) {
            return Err(bad);
        }
        let (text, rest) = self.rest.split_at_checked(length).ok_or(bad)?;
        self.rest = rest;
        // RFC 9051 section 9: a literal's CHAR8 is anything but NUL.
        if text.contains(&0) { Err(SyntaxError("a literal has a NUL")) } else { Ok(text.to_vec()) }
    }

    fn string(&mut self) -> Parsed<Vec<u8>> {
        if self.peek() == Some(b'{') { self.literal() } else { self.quoted() }
    }

    fn unquoted_or_string(&mut self, unquoted: fn(u8) -> bool) -> Parsed<Vec<u8>> {
        match self.peek() {
            Some(b'"' | b'{') => self.string(),
            _ => match self.while_is(|byte| unquoted(byte) || !byte.is_ascii()) {
                [] => Err(SyntaxError("an argument is missing")),
                text => Ok(text.to_vec()),
            },
        }
    }

    fn astring(&mut self) -> Parsed<Vec<u8>> {
        self.unquoted_or_string(is_astring)
    }

    /// A mailbox name or a pattern of LIST.
    fn list_mailbox(&mut self) -> Parsed<Vec<u8>> {
        self.unquoted_or_string(is_list)
    }

    /// The rest of a list after its `(`, up to and with its `)`. May be empty.
    fn rest_of_list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut items = Vec::new();
        if self.take(b')') {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            if self.take(b')') {
                return Ok(items);
            }
            self.space()?;
        }
    }

    fn list<T>(&mut self, item: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        self.open()?;
        self.rest_of_list(item)
    }

    fn list_of_one_or_more<T>(&mut self, item: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let items = self.list(item)?;
        if items.is_empty() { Err(SyntaxError("a list is empty")) } else { Ok(items) }
    }

    /// A flag that a client may set, added to `flags`: not \Recent, and no flag-extension, as this server defines none.
    fn flag(&mut self, flags: &mut Flags) -> Parsed<()> {
        if self.take(b'\\') {
            let name = self.atom()?;
            let known = Flag::ALL
                .into_iter()
                .find(|flag| flag.as_str().get(1..).is_some_and(|known| known.eq_ignore_ascii_case(name)));
            flags.insert(known.ok_or(SyntaxError("there is no such system flag"))?);
        } else {
            let keyword =
                Keyword::new(self.atom()?).ok_or(SyntaxError("a keyword is malformed or too long"))?;
            flags.insert_keyword(keyword);
        }
        Ok(())
    }

    fn flag_list(&mut self) -> Parsed<Flags> {
        let mut flags = Flags::new();
        self.list(|cursor| cursor.flag(&mut flags))?;
        Ok(flags)
    }
}

/// Bytes known to be ASCII as text.
fn ascii(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_read_in_their_three_forms() {
        let mut cursor = Cursor::new(b"atom \"q\\\"\\\\\" {3}\r\na\"b {2+}\r\ncd");
        let mut read = Vec::new();
        for _ in 0..4 {
            read.push(cursor.astring().unwrap());
            cursor.take(b' ');
        }
        assert_eq!(read, [b"atom".to_vec(), b"q\"\\".to_vec(), b"a\"b".to_vec(), b"cd".to_vec()]);
        cursor.end().unwrap();
    }

    #[test]
    fn malformed_strings_are_refused() {
        for bad in [
            "",
            "\"",
            "\"a",
            "\"a\\x\"",
            "{",
            "{}\r\n",
            "{3}\r\nab",
            "{3}abc",
            "{1-}\r\na",
            "\"a\0\"",
            "{1}\r\n\0",
            "{99999999999999999999}\r\n",
            "(",
            "\"a\nb\"",
        ] {
            assert!(Cursor::new(bad.as_bytes()).astring().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn flags_are_those_a_client_may_set() {
        let flags = Cursor::new(b"(\\seen $Forwarded \\FLAGGED)").flag_list().unwrap();
        assert!(flags.contains(Flag::Seen) && flags.contains(Flag::Flagged));
        assert_eq!(flags.keywords().iter().map(Keyword::as_str).collect::<Vec<_>>(), ["$Forwarded"]);
        for bad in ["(\\Recent)", "(\\Nonsense)", "(a", "(a  b)", "(\\)", "a"] {
            assert!(Cursor::new(bad.as_bytes()).flag_list().is_err(), "{bad}");
        }
    }
}
