//! What FETCH gives of one message.

use std::ops::Range;
use std::sync::Arc;

use memchr::memchr;

use super::message::{
    BinaryError, Extensions, Found, MAX_HEADER, Part, binary, end_of_header, section, structure,
    write_body_structure, write_envelope,
};
use super::reply::Reply;
use super::selected::{number, put_flags};
use super::session::Enabled;
use super::syntax::{Fetch, FetchItem, Partial, Section, SectionText, internal_date};
use super::wire::SEND_AT;
use super::words::{NUL_STAND_IN, put_literal_head, put_number, put_string};
use crate::store::{Folder, Message, StoreError, Uid};

/// How much of a message is read at first to find its header; more where that does not do.
const FIRST_READ: usize = 16 << 10;
/// Stretches of a message longer than this are sent from where they are.
const SHARE: usize = 8 << 10;

/// Something to send.
#[derive(Debug)]
pub(super) enum Piece {
    Own(Vec<u8>),
    Part(Arc<Vec<u8>>, Range<usize>),
}

/// A stretch of FETCH.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) pieces: Vec<Piece>,
    /// How many messages it deals with.
    pub(super) taken: usize,
    /// Whether one of them was gone.
    pub(super) gone: bool,
    /// Why one of them could not be given.
    pub(super) refusal: Option<Reply>,
}

/// What is to be given of each message.
#[derive(Debug)]
pub(super) struct Give {
    items: Vec<FetchItem>,
    enabled: Enabled,
    /// Whether all of the message has to be read, or its header.
    needs: Needs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Needs {
    Nothing,
    Header,
    Whole,
}

/// Why a message is not given.
enum Missing {
    Store(StoreError),
    Binary(BinaryError),
}

impl From<StoreError> for Missing {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<BinaryError> for Missing {
    fn from(error: BinaryError) -> Self {
        Self::Binary(error)
    }
}

/// A message as far as it was read.
struct Source {
    raw: Arc<Vec<u8>>,
    /// `raw`, less the NULs that no literal can have.
    text: Arc<Vec<u8>>,
    header: Range<usize>,
    structure: Option<Part>,
}

impl Give {
    pub(super) fn new(fetch: Fetch, by_uid: bool, enabled: Enabled) -> Self {
        let mut items = fetch.items;
        let mut implied = |item: FetchItem| {
            if !items.contains(&item) {
                items.insert(0, item);
            }
        };
        if fetch.changed_since.is_some() {
            implied(FetchItem::ModSeq);
        }
        if by_uid {
            implied(FetchItem::Uid);
        }
        let needs = items.iter().map(needs).max().unwrap_or(Needs::Nothing);
        Self { items, enabled, needs }
    }

    /// Gives of `uids` from `first` on, until there is enough to send.
    pub(super) fn stretch(&self, folder: &Folder, uids: &[Uid], first: usize, newly_seen: &[Uid]) -> Given {
        let mut given = Given::default();
        let mut out = Vec::new();
        let mut size = 0;
        for uid in uids.get(first..).unwrap_or_default() {
            given.taken += 1;
            let (pieces, start) = (given.pieces.len(), out.len());
            match self.message(folder, *uid, newly_seen.contains(uid), &mut given.pieces, &mut out) {
                Ok(()) => {}
                Err(missing) => {
                    // Nothing of this message: not half of it.
                    if let Some(Piece::Own(before)) = given.pieces.drain(pieces..).next() {
                        out = before;
                    }
                    out.truncate(start);
                    match missing {
                        Missing::Store(StoreError::Expunged) => given.gone = true,
                        Missing::Store(error) => given.refusal = Some(error.into()),
                        Missing::Binary(BinaryError::UnknownEncoding) => {
                            given.refusal =
                                Some(Reply::no("UNKNOWN-CTE", "A part is encoded in an unknown way"));
                        }
                    }
                }
            }
            size += given.pieces.get(pieces..).unwrap_or_default().iter().map(Piece::len).sum::<usize>();
            if size + out.len() >= SEND_AT {
                break;
            }
        }
        given.pieces.push(Piece::Own(out));
        given
    }

    fn message(
        &self,
        folder: &Folder,
        uid: Uid,
        newly_seen: bool,
        pieces: &mut Vec<Piece>,
        out: &mut Vec<u8>,
    ) -> Result<(), Missing> {
        let message = folder.get(uid).ok_or(StoreError::Expunged)?;
        let mut source = self.source(folder, uid)?;
        out.extend_from_slice(b"* ");
        put_number(number(folder, uid) as u64, out);
        out.extend_from_slice(b" FETCH (");
        let told_flags = self.items.contains(&FetchItem::Flags);
        let also = (newly_seen && !told_flags).then_some(&FetchItem::Flags);
        for (index, item) in self.items.iter().chain(also).enumerate() {
            if index > 0 {
                out.push(b' ');
            }
            self.item(folder, message, item, &mut source, pieces, out)?;
        }
        out.extend_from_slice(b")\r\n");
        Ok(())
    }

    fn source(&self, folder: &Folder, uid: Uid) -> Result<Source, StoreError> {
        let raw = match self.needs {
            Needs::Nothing => Vec::new(),
            Needs::Header => read_header(folder, uid)?,
            Needs::Whole => folder.read(uid)?,
        };
        let header = 0..end_of_header(&raw).unwrap_or(raw.len());
        let raw = Arc::new(raw);
        let text = match memchr(0, &raw) {
            None => Arc::clone(&raw),
            Some(_) => {
                Arc::new(raw.iter().map(|byte| if *byte == 0 { NUL_STAND_IN } else { *byte }).collect())
            }
        };
        Ok(Source { raw, text, header, structure: None })
    }

    fn item(
        &self,
        folder: &Folder,
        message: &Message,
        item: &FetchItem,
        source: &mut Source,
        pieces: &mut Vec<Piece>,
        out: &mut Vec<u8>,
    ) -> Result<(), Missing> {
        let uid = message.uid;
        match item {
            FetchItem::Uid => {
                out.extend_from_slice(b"UID ");
                put_number(uid.into(), out);
            }
            FetchItem::Flags => {
                out.extend_from_slice(b"FLAGS ");
                put_flags(folder, message, self.enabled, out);
            }
            FetchItem::ModSeq => {
                out.extend_from_slice(b"MODSEQ (");
                put_number(message.modseq, out);
                out.push(b')');
            }
            FetchItem::InternalDate => {
                let date = internal_date(folder.internal_date(uid)?);
                out.extend_from_slice(format!("INTERNALDATE \"{date}\"").as_bytes());
            }
            FetchItem::Rfc822Size => {
                let size = folder.size(uid)?;
                out.extend_from_slice(b"RFC822.SIZE ");
                put_number(size, out);
            }
            FetchItem::Envelope => {
                out.extend_from_slice(b"ENVELOPE ");
                write_envelope(source.header(), out);
            }
            FetchItem::Body | FetchItem::BodyStructure => {
                let (name, extensions) = match item {
                    FetchItem::Body => ("BODY ", Extensions::Without),
                    _ => ("BODYSTRUCTURE ", Extensions::With),
                };
                out.extend_from_slice(name.as_bytes());
                let raw = Arc::clone(&source.raw);
                write_body_structure(&raw, source.structure(), extensions, out);
            }
            _ => return self.content(item, source, pieces, out),
        }
        Ok(())
    }

    /// The items that are octets of the message.
    fn content(
        &self,
        item: &FetchItem,
        source: &mut Source,
        pieces: &mut Vec<Piece>,
        out: &mut Vec<u8>,
    ) -> Result<(), Missing> {
        let whole = |text| Section { part: Vec::new(), text };
        match item {
            FetchItem::Rfc822 => {
                out.extend_from_slice(b"RFC822 ");
                source.put_section(&whole(SectionText::All), None, pieces, out);
            }
            FetchItem::Rfc822Header => {
                out.extend_from_slice(b"RFC822.HEADER ");
                source.put_section(&whole(SectionText::Header), None, pieces, out);
            }
            FetchItem::Rfc822Text => {
                out.extend_from_slice(b"RFC822.TEXT ");
                source.put_section(&whole(SectionText::Text), None, pieces, out);
            }
            FetchItem::Section { section, partial, .. } => {
                put_section_name(section, *partial, out);
                source.put_section(section, *partial, pieces, out);
            }
            FetchItem::Binary { part, partial, .. } => {
                let raw = Arc::clone(&source.raw);
                let content = binary(&raw, source.structure(), part)?;
                out.extend_from_slice(b"BINARY[");
                put_part(part, out);
                out.push(b']');
                put_origin(*partial, out);
                match content {
                    None => out.extend_from_slice(b"NIL"),
                    Some(content) => {
                        let content = content.get(cut(0..content.len(), *partial)).unwrap_or_default();
                        // literal8 (RFC 3516 section 4.2) where a literal cannot be.
                        if memchr(0, content).is_some() {
                            out.push(b'~');
                        }
                        put_literal_head(content.len(), out);
                        out.extend_from_slice(content);
                    }
                }
            }
            FetchItem::BinarySize(part) => {
                let raw = Arc::clone(&source.raw);
                let size = binary(&raw, source.structure(), part)?.map_or(0, |content| content.len());
                out.extend_from_slice(b"BINARY.SIZE[");
                put_part(part, out);
                out.extend_from_slice(b"] ");
                put_number(size as u64, out);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Source {
    fn header(&self) -> &[u8] {
        self.raw.get(self.header.clone()).unwrap_or_default()
    }

    fn structure(&mut self) -> &Part {
        let raw = &self.raw;
        self.structure.get_or_insert_with(|| structure(raw))
    }

    fn put_section(
        &mut self,
        wanted: &Section,
        partial: Option<Partial>,
        pieces: &mut Vec<Piece>,
        out: &mut Vec<u8>,
    ) {
        let found = match (wanted.part.as_slice(), &wanted.text) {
            // What needs no structure: all the more as only the header may have been read.
            ([], SectionText::Header) => Found::Range(self.header.clone()),
            ([], SectionText::All) => Found::Range(0..self.raw.len()),
            ([], SectionText::Text) => Found::Range(self.header.end..self.raw.len()),
            ([], SectionText::HeaderFields { not, names }) => {
                let mut fields = Vec::new();
                super::message::write_fields(self.header(), names, *not, &mut fields);
                Found::Made(fields)
            }
            _ => {
                let raw = Arc::clone(&self.raw);
                section(&raw, self.structure(), wanted)
            }
        };
        match found {
            Found::Nothing => out.extend_from_slice(b"NIL"),
            Found::Made(bytes) => {
                super::words::put_literal(bytes.get(cut(0..bytes.len(), partial)).unwrap_or_default(), out);
            }
            Found::Range(range) => {
                let range = cut(range, partial);
                put_literal_head(range.len(), out);
                if range.len() < SHARE {
                    out.extend_from_slice(self.text.get(range).unwrap_or_default());
                } else {
                    pieces.push(Piece::Own(std::mem::take(out)));
                    pieces.push(Piece::Part(Arc::clone(&self.text), range));
                }
            }
        }
    }
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Self::Own(bytes) => bytes.len(),
            Self::Part(_, range) => range.len(),
        }
    }
}

fn needs(item: &FetchItem) -> Needs {
    match item {
        FetchItem::Uid
        | FetchItem::Flags
        | FetchItem::ModSeq
        | FetchItem::InternalDate
        | FetchItem::Rfc822Size => Needs::Nothing,
        FetchItem::Envelope | FetchItem::Rfc822Header => Needs::Header,
        FetchItem::Section { section, .. } => match section.text {
            SectionText::Header | SectionText::HeaderFields { .. } if section.part.is_empty() => {
                Needs::Header
            }
            _ => Needs::Whole,
        },
        _ => Needs::Whole,
    }
}

/// The message as far as its header goes, or a little further.
pub(super) fn read_header(folder: &Folder, uid: Uid) -> Result<Vec<u8>, StoreError> {
    let mut length = FIRST_READ;
    loop {
        let start = folder.read_range(uid, 0, length)?;
        if start.len() < length || length >= MAX_HEADER || end_of_header(&start).is_some() {
            return Ok(start);
        }
        length *= 4;
    }
}

/// The part of a range that `<from.length>` asks for.
fn cut(range: Range<usize>, partial: Option<Partial>) -> Range<usize> {
    let Some(Partial { from, length }) = partial else { return range };
    let start = range.start.saturating_add(from as usize).min(range.end);
    start..start.saturating_add(length as usize).min(range.end)
}

fn put_part(part: &[u32], out: &mut Vec<u8>) {
    for (index, number) in part.iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        put_number((*number).into(), out);
    }
}

/// `<from>`, and the space before what follows.
fn put_origin(partial: Option<Partial>, out: &mut Vec<u8>) {
    if let Some(Partial { from, .. }) = partial {
        out.push(b'<');
        put_number(from.into(), out);
        out.push(b'>');
    }
    out.push(b' ');
}

fn put_section_name(section: &Section, partial: Option<Partial>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"BODY[");
    put_part(&section.part, out);
    let text = match &section.text {
        SectionText::All => "",
        SectionText::Header => "HEADER",
        SectionText::Text => "TEXT",
        SectionText::Mime => "MIME",
        SectionText::HeaderFields { not: false, .. } => "HEADER.FIELDS (",
        SectionText::HeaderFields { not: true, .. } => "HEADER.FIELDS.NOT (",
    };
    if !text.is_empty() && !section.part.is_empty() {
        out.push(b'.');
    }
    out.extend_from_slice(text.as_bytes());
    if let SectionText::HeaderFields { names, .. } = &section.text {
        for (index, name) in names.iter().enumerate() {
            if index > 0 {
                out.push(b' ');
            }
            // As it was asked for, since clients look for it; a field's name can stand without quotes.
            match name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
                true if !name.is_empty() => out.extend_from_slice(name),
                _ => put_string(name, out),
            }
        }
        out.push(b')');
    }
    out.push(b']');
    put_origin(partial, out);
}
