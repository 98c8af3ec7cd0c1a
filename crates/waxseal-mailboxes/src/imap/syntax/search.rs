//! What SEARCH looks for.

use super::{Cursor, Day, Parsed, SequenceSet, SyntaxError};
use crate::store::{Flag, Keyword};

/// How deep keys may be in each other (NOT, OR, parentheses).
const MAX_NESTING: usize = 32;
/// How many keys there may be.
const MAX_KEYS: usize = 1000;

/// SEARCH and UID SEARCH.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::imap) struct Search {
    /// `None`: the plain SEARCH of RFC 3501.
    pub(in crate::imap) returns: Option<SearchReturn>,
    pub(in crate::imap) charset: Charset,
    /// All of them have to hold.
    pub(in crate::imap) keys: Vec<Key>,
}

/// CHARSET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::imap) enum Charset {
    /// None, US-ASCII or UTF-8.
    Known,
    /// Another; the keys were not read.
    Unknown,
}

/// RETURN (RFC 4731, 5182).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::imap) struct SearchReturn {
    pub(in crate::imap) min: bool,
    pub(in crate::imap) max: bool,
    pub(in crate::imap) all: bool,
    pub(in crate::imap) count: bool,
    pub(in crate::imap) save: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(in crate::imap) enum Key {
    All,
    Flag(Flag),
    Keyword(Keyword),
    Recent,
    /// INTERNALDATE's day is before, on, or on or after.
    Before(Day),
    On(Day),
    Since(Day),
    /// The same of the Date field.
    SentBefore(Day),
    SentOn(Day),
    SentSince(Day),
    Larger(u64),
    Smaller(u64),
    /// A field, its name in lower case, whose text has the string; "" for any that has the field.
    Header(String, String),
    Body(String),
    Text(String),
    ModSeq(u64),
    Sequence(SequenceSet),
    Uid(SequenceSet),
    And(Vec<Self>),
    Or(Box<(Self, Self)>),
    Not(Box<Self>),
}

impl Key {
    /// Whether this key or one in it is such.
    pub(in crate::imap) fn any(&self, is: &dyn Fn(&Self) -> bool) -> bool {
        is(self)
            || match self {
                Self::And(keys) => keys.iter().any(|key| key.any(is)),
                Self::Or(pair) => pair.0.any(is) || pair.1.any(is),
                Self::Not(key) => key.any(is),
                _ => false,
            }
    }

    /// How much work it is to know whether the key holds: 0 nothing read, 1 the file's facts, 2 its header, 3 all of it.
    pub(in crate::imap) fn cost(&self) -> u8 {
        match self {
            Self::Before(_) | Self::On(_) | Self::Since(_) | Self::Larger(_) | Self::Smaller(_) => 1,
            Self::SentBefore(_) | Self::SentOn(_) | Self::SentSince(_) | Self::Header(..) => 2,
            Self::Body(_) | Self::Text(_) => 3,
            Self::And(keys) => keys.iter().map(Self::cost).max().unwrap_or(0),
            Self::Or(pair) => pair.0.cost().max(pair.1.cost()),
            Self::Not(key) => key.cost(),
            _ => 0,
        }
    }
}

impl Cursor<'_> {
    pub(super) fn search(&mut self) -> Parsed<Search> {
        let returns = if self.take_words("RETURN ") {
            let returns = self.search_returns()?;
            self.space()?;
            Some(returns)
        } else {
            None
        };
        if self.take_words("CHARSET ") {
            let charset = self.astring()?.to_ascii_uppercase();
            self.space()?;
            if charset != b"UTF-8" && charset != b"US-ASCII" {
                return Ok(Search { returns, charset: Charset::Unknown, keys: Vec::new() });
            }
        }
        let mut left = MAX_KEYS;
        let mut keys = vec![self.key(MAX_NESTING, &mut left)?];
        while self.take(b' ') {
            keys.push(self.key(MAX_NESTING, &mut left)?);
        }
        self.end()?;
        Ok(Search { returns, charset: Charset::Known, keys })
    }

    fn search_returns(&mut self) -> Parsed<SearchReturn> {
        let mut returns = SearchReturn::default();
        let given = self.list(|cursor| {
            match cursor.word()?.as_str() {
                "MIN" => returns.min = true,
                "MAX" => returns.max = true,
                "ALL" => returns.all = true,
                "COUNT" => returns.count = true,
                "SAVE" => returns.save = true,
                _ => return Err(SyntaxError("SEARCH cannot return this")),
            }
            Ok(())
        })?;
        // RFC 4731 section 3.1: an empty list is ALL.
        returns.all |= given.is_empty();
        Ok(returns)
    }

    fn key(&mut self, depth: usize, left: &mut usize) -> Parsed<Key> {
        let deeper = depth.checked_sub(1).ok_or(SyntaxError("search keys are nested too deep"))?;
        *left = left.checked_sub(1).ok_or(SyntaxError("there are too many search keys"))?;
        match self.peek() {
            Some(b'(') => {
                return self.list_of_one_or_more(|cursor| cursor.key(deeper, left)).map(Key::And);
            }
            Some(b'0'..=b'9' | b'*' | b'$') => return self.sequence_set().map(Key::Sequence),
            _ => {}
        }
        let name = self.word()?;
        let not = |key| Key::Not(Box::new(key));
        Ok(match name.as_str() {
            "ALL" => Key::All,
            "ANSWERED" => Key::Flag(Flag::Answered),
            "DELETED" => Key::Flag(Flag::Deleted),
            "DRAFT" => Key::Flag(Flag::Draft),
            "FLAGGED" => Key::Flag(Flag::Flagged),
            "SEEN" => Key::Flag(Flag::Seen),
            "UNANSWERED" => not(Key::Flag(Flag::Answered)),
            "UNDELETED" => not(Key::Flag(Flag::Deleted)),
            "UNDRAFT" => not(Key::Flag(Flag::Draft)),
            "UNFLAGGED" => not(Key::Flag(Flag::Flagged)),
            "UNSEEN" => not(Key::Flag(Flag::Seen)),
            "RECENT" => Key::Recent,
            "OLD" => not(Key::Recent),
            "NEW" => Key::And(vec![Key::Recent, not(Key::Flag(Flag::Seen))]),
            "OR" => {
                self.space()?;
                let first = self.key(deeper, left)?;
                self.space()?;
                Key::Or(Box::new((first, self.key(deeper, left)?)))
            }
            "NOT" => {
                self.space()?;
                not(self.key(deeper, left)?)
            }
            _ => {
                self.space()?;
                self.key_with_argument(&name)?
            }
        })
    }

    fn key_with_argument(&mut self, name: &str) -> Parsed<Key> {
        Ok(match name {
            "BCC" | "CC" | "FROM" | "SUBJECT" | "TO" => {
                Key::Header(name.to_ascii_lowercase(), self.search_text()?)
            }
            "HEADER" => {
                let field = self.search_text()?;
                self.space()?;
                Key::Header(field, self.search_text()?)
            }
            "BODY" => Key::Body(self.search_text()?),
            "TEXT" => Key::Text(self.search_text()?),
            "KEYWORD" => Key::Keyword(self.search_keyword()?),
            "UNKEYWORD" => Key::Not(Box::new(Key::Keyword(self.search_keyword()?))),
            "BEFORE" => Key::Before(self.day()?),
            "ON" => Key::On(self.day()?),
            "SINCE" => Key::Since(self.day()?),
            "SENTBEFORE" => Key::SentBefore(self.day()?),
            "SENTON" => Key::SentOn(self.day()?),
            "SENTSINCE" => Key::SentSince(self.day()?),
            "LARGER" => Key::Larger(self.number64()?),
            "SMALLER" => Key::Smaller(self.number64()?),
            "UID" => Key::Uid(self.sequence_set()?),
            "MODSEQ" => self.search_modseq()?,
            _ => return Err(SyntaxError("there is no such search key")),
        })
    }

    fn search_keyword(&mut self) -> Parsed<Keyword> {
        Keyword::new(self.atom()?).ok_or(SyntaxError("a keyword is malformed or too long"))
    }

    /// A string in lower case, as it is compared.
    fn search_text(&mut self) -> Parsed<String> {
        let text = self.astring()?;
        let text = std::str::from_utf8(&text).map_err(|_| SyntaxError("a search string is not UTF-8"))?;
        Ok(text.to_lowercase())
    }

    /// RFC 7162 section 3.1.5: an entry name and type may stand before the number; all flags share one value here.
    fn search_modseq(&mut self) -> Parsed<Key> {
        if self.peek() == Some(b'"') {
            let entry = self.quoted()?;
            self.space()?;
            let kind = self.word()?;
            if !entry.starts_with(b"/flags/") || !["ALL", "PRIV", "SHARED"].contains(&kind.as_str()) {
                return Err(SyntaxError("there is no such metadata entry"));
            }
            self.space()?;
        }
        self.number64().map(Key::ModSeq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(text: &str) -> Parsed<Search> {
        Cursor::new(text.as_bytes()).search()
    }

    #[test]
    fn keys_are_read() {
        let read = search(
            "RETURN (MIN COUNT) CHARSET utf-8 2:4 OR FROM Smith NOT (SEEN SINCE 1-Feb-2026) HEADER X-Y \"\"",
        );
        let read = read.unwrap();
        assert_eq!(read.returns, Some(SearchReturn { min: true, count: true, ..SearchReturn::default() }));
        assert_eq!(read.keys.len(), 3);
        assert_eq!(read.keys[2], Key::Header("x-y".into(), String::new()));
        assert!(
            matches!(&read.keys[1], Key::Or(pair) if pair.0 == Key::Header("from".into(), "smith".into()))
        );
        assert!(read.keys[1].any(&|key| *key == Key::Flag(Flag::Seen)));
        assert!(search("RETURN () ALL").unwrap().returns.unwrap().all);
    }

    #[test]
    fn an_unknown_charset_is_told_apart() {
        assert_eq!(
            Cursor::new(b"CHARSET KOI8-R SUBJECT {2}\r\n\xff\xfe").search().unwrap().charset,
            Charset::Unknown
        );
    }

    #[test]
    fn nesting_and_number_are_bounded() {
        assert!(search(&format!("{}ALL", "NOT ".repeat(40))).is_err());
        assert!(search(&"(".repeat(100_000)).is_err());
        assert!(search(&["ALL"; 1001].join(" ")).is_err());
        assert!(search(&["ALL"; 1000].join(" ")).is_ok());
    }

    #[test]
    fn malformed_keys_are_refused() {
        for bad in
            ["", "FOO", "OR ALL", "NOT", "()", "SINCE tomorrow", "LARGER x", "UID", "ALL ", "1,,2", "SEENX"]
        {
            assert!(search(bad).is_err(), "{bad}");
        }
    }
}
