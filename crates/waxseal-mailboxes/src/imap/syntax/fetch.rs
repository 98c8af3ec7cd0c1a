//! What FETCH asks for.

use super::{Cursor, Parsed, SequenceSet, SyntaxError};

/// How many things one FETCH may ask for: a section can be as large as the message, so their number must be small.
const MAX_ITEMS: usize = 64;
/// How many of them may be parts without their encoding, each of which is made anew.
const MAX_BINARY: usize = 8;
/// How deep a part can be named: no deeper than structures are read.
const MAX_PART_LEVELS: usize = 64;

/// FETCH and UID FETCH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::imap) struct Fetch {
    pub(in crate::imap) set: SequenceSet,
    pub(in crate::imap) items: Vec<FetchItem>,
    /// RFC 7162 section 3.1.4.1.
    pub(in crate::imap) changed_since: Option<u64>,
}

/// section-part.
pub(in crate::imap) type Part = Vec<u32>;

/// `<from.length>`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::imap) struct Partial {
    pub(in crate::imap) from: u32,
    pub(in crate::imap) length: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::imap) enum FetchItem {
    Envelope,
    Flags,
    InternalDate,
    Rfc822,
    Rfc822Header,
    Rfc822Size,
    Rfc822Text,
    /// BODYSTRUCTURE without its extension data.
    Body,
    BodyStructure,
    Uid,
    ModSeq,
    Section {
        section: Section,
        partial: Option<Partial>,
        peek: bool,
    },
    /// RFC 3516.
    Binary {
        part: Part,
        partial: Option<Partial>,
        peek: bool,
    },
    BinarySize(Part),
}

/// What stands between the brackets of `BODY[...]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::imap) struct Section {
    pub(in crate::imap) part: Part,
    pub(in crate::imap) text: SectionText,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::imap) enum SectionText {
    All,
    Header,
    /// Field names as written; `not`: all but these.
    HeaderFields {
        not: bool,
        names: Vec<Vec<u8>>,
    },
    Text,
    Mime,
}

impl FetchItem {
    /// Whether asking for it sets \Seen.
    pub(in crate::imap) fn sets_seen(&self) -> bool {
        match self {
            Self::Rfc822 | Self::Rfc822Text => true,
            Self::Section { peek, .. } | Self::Binary { peek, .. } => !peek,
            _ => false,
        }
    }
}

impl Cursor<'_> {
    pub(super) fn fetch(&mut self) -> Parsed<Fetch> {
        let set = self.sequence_set()?;
        self.space()?;
        let items = self.fetch_items()?;
        let mut changed_since = None;
        if self.take(b' ') {
            self.list_of_one_or_more(|cursor| {
                match cursor.word()?.as_str() {
                    "CHANGEDSINCE" => {
                        cursor.space()?;
                        changed_since = Some(cursor.number64()?);
                    }
                    _ => return Err(SyntaxError("there is no such modifier of FETCH")),
                }
                Ok(())
            })?;
        }
        Ok(Fetch { set, items, changed_since })
    }

    fn fetch_items(&mut self) -> Parsed<Vec<FetchItem>> {
        use FetchItem::{Body, Envelope, Flags, InternalDate, Rfc822Size};
        let mut ahead = self.clone();
        let macro_items = match ahead.word().as_deref() {
            Ok("ALL") => Some(vec![Flags, InternalDate, Rfc822Size, Envelope]),
            Ok("FAST") => Some(vec![Flags, InternalDate, Rfc822Size]),
            Ok("FULL") => Some(vec![Flags, InternalDate, Rfc822Size, Envelope, Body]),
            _ => None,
        };
        if let Some(items) = macro_items {
            *self = ahead;
            return Ok(items);
        }
        if self.peek() != Some(b'(') {
            return Ok(vec![self.fetch_item()?]);
        }
        let items = self.list_of_one_or_more(Self::fetch_item)?;
        let binary = items.iter().filter(|item| matches!(item, FetchItem::Binary { .. })).count();
        if items.len() > MAX_ITEMS || binary > MAX_BINARY {
            Err(SyntaxError("too many things are asked for"))
        } else {
            Ok(items)
        }
    }

    fn fetch_item(&mut self) -> Parsed<FetchItem> {
        let name = self.while_is(|byte| byte.is_ascii_alphanumeric() || byte == b'.').to_ascii_uppercase();
        Ok(match (name.as_slice(), self.peek() == Some(b'[')) {
            (b"ENVELOPE", false) => FetchItem::Envelope,
            (b"FLAGS", false) => FetchItem::Flags,
            (b"INTERNALDATE", false) => FetchItem::InternalDate,
            (b"RFC822", false) => FetchItem::Rfc822,
            (b"RFC822.HEADER", false) => FetchItem::Rfc822Header,
            (b"RFC822.SIZE", false) => FetchItem::Rfc822Size,
            (b"RFC822.TEXT", false) => FetchItem::Rfc822Text,
            (b"BODY", false) => FetchItem::Body,
            (b"BODYSTRUCTURE", false) => FetchItem::BodyStructure,
            (b"UID", false) => FetchItem::Uid,
            (b"MODSEQ", false) => FetchItem::ModSeq,
            (b"BODY", true) => self.section_item(false)?,
            (b"BODY.PEEK", true) => self.section_item(true)?,
            (b"BINARY", true) => self.binary_item(false)?,
            (b"BINARY.PEEK", true) => self.binary_item(true)?,
            (b"BINARY.SIZE", true) => FetchItem::BinarySize(self.bracketed_part()?),
            _ => return Err(SyntaxError("FETCH cannot give this")),
        })
    }

    fn section_item(&mut self, peek: bool) -> Parsed<FetchItem> {
        self.expect(b'[', "a section is missing")?;
        let (part, text_follows) = self.part()?;
        let text = if text_follows { self.section_text(&part)? } else { SectionText::All };
        self.expect(b']', "a section is malformed")?;
        let partial = self.partial()?;
        Ok(FetchItem::Section { section: Section { part, text }, partial, peek })
    }

    fn binary_item(&mut self, peek: bool) -> Parsed<FetchItem> {
        let part = self.bracketed_part()?;
        let partial = self.partial()?;
        Ok(FetchItem::Binary { part, partial, peek })
    }

    fn bracketed_part(&mut self) -> Parsed<Part> {
        self.expect(b'[', "a section is missing")?;
        let (part, _) = self.part()?;
        self.expect(b']', "a section is malformed")?;
        Ok(part)
    }

    /// The numbers, and whether section-text has to follow.
    fn part(&mut self) -> Parsed<(Part, bool)> {
        let mut part = Vec::new();
        if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return Ok((part, self.peek() != Some(b']')));
        }
        loop {
            part.push(self.nz_number()?);
            if part.len() > MAX_PART_LEVELS {
                return Err(SyntaxError("a part is named too deep"));
            }
            if !self.take(b'.') {
                return Ok((part, false));
            }
            if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
                return Ok((part, true));
            }
        }
    }

    fn section_text(&mut self, part: &[u32]) -> Parsed<SectionText> {
        let name = self.word()?;
        match name.as_str() {
            "HEADER" => Ok(SectionText::Header),
            "TEXT" => Ok(SectionText::Text),
            "MIME" if !part.is_empty() => Ok(SectionText::Mime),
            "HEADER.FIELDS" | "HEADER.FIELDS.NOT" => {
                self.space()?;
                let names = self.list_of_one_or_more(Self::astring)?;
                Ok(SectionText::HeaderFields { not: name.ends_with("NOT"), names })
            }
            _ => Err(SyntaxError("there is no such section")),
        }
    }

    fn partial(&mut self) -> Parsed<Option<Partial>> {
        if !self.take(b'<') {
            return Ok(None);
        }
        let from = self.number()?;
        self.expect(b'.', "a partial range is malformed")?;
        let length = self.nz_number()?;
        self.expect(b'>', "a partial range is malformed")?;
        Ok(Some(Partial { from, length }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(text: &str) -> Parsed<Vec<FetchItem>> {
        let mut cursor = Cursor::new(text.as_bytes());
        let fetch = cursor.fetch()?;
        cursor.end()?;
        Ok(fetch.items)
    }

    #[test]
    fn sections_are_read() {
        let read =
            items("1:* (UID body.peek[1.2.HEADER.FIELDS.NOT (To \"c c\")]<5.7> BODY[] BINARY.SIZE[3])");
        let section = Section {
            part: vec![1, 2],
            text: SectionText::HeaderFields { not: true, names: vec![b"To".to_vec(), b"c c".to_vec()] },
        };
        let whole = Section { part: vec![], text: SectionText::All };
        assert_eq!(
            read.unwrap(),
            [
                FetchItem::Uid,
                FetchItem::Section { section, partial: Some(Partial { from: 5, length: 7 }), peek: true },
                FetchItem::Section { section: whole, partial: None, peek: false },
                FetchItem::BinarySize(vec![3]),
            ]
        );
    }

    #[test]
    fn macros_stand_alone() {
        assert_eq!(items("1 full").unwrap().len(), 5);
        assert!(items("1 (ALL)").is_err());
        assert!(items("1 ALLX").is_err());
    }

    #[test]
    fn malformed_sections_are_refused() {
        for bad in [
            "BODY[",
            "BODY[MIME]",
            "BODY[1.]",
            "BODY[0]",
            "BODY[1..2]",
            "BODY[HEADER.FIELDS]",
            "BODY[HEADER.FIELDS ()]",
            "BODY[]<1>",
            "BODY[]<1.0>",
            "BODY[]<-1.2>",
            "BINARY[1.MIME]",
            "BODY.PEEK",
            "ENVELOPE[1]",
            "()",
            "(UID UID",
            "BODY[1 TEXT]",
            "",
        ] {
            assert!(items(&format!("1 {bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn changedsince_is_read() {
        let fetch = Cursor::new(b"1:* (FLAGS) (CHANGEDSINCE 12345)").fetch().unwrap();
        assert_eq!(fetch.changed_since, Some(12345));
        assert!(Cursor::new(b"1:* (FLAGS) (VANISHED)").fetch().is_err());
    }
}
