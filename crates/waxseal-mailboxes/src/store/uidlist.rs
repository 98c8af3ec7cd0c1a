//! `dovecot-uidlist`, version 3 (and 1, read only): which file has which UID.

use std::fmt::Write as _;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::Path;

use super::Uid;
use super::error::{At, StoreError};
use super::files;

/// The file's name in a folder.
pub(super) const NAME: &str = "dovecot-uidlist";

/// A file that has a UID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) uid: Uid,
    /// The file's name without flags.
    pub(super) base: Box<[u8]>,
    /// Dovecot's fields between UID and name (`W2481 G...`), kept as they are.
    pub(super) fields: Option<Box<str>>,
}

impl Record {
    /// The size with CRLF line ends, where Dovecot has noted it.
    pub(super) fn virtual_size(&self) -> Option<u64> {
        self.fields.as_deref()?.split(' ').find_map(|field| field.strip_prefix('W')?.parse().ok())
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.uid.to_string().as_bytes());
        out.push(b' ');
        if let Some(fields) = &self.fields {
            out.extend_from_slice(fields.as_bytes());
            out.push(b' ');
        }
        out.push(b':');
        out.extend_from_slice(&self.base);
        out.push(b'\n');
    }
}

/// The list of one folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UidList {
    pub(super) validity: u32,
    /// The next UID to give.
    pub(super) next: Uid,
    /// Further fields of the header (the folder's GUID), kept as they are.
    fields: String,
    /// In ascending order of UIDs.
    pub(super) records: Vec<Record>,
    /// Whether the file ends in a line's end, and may be added to.
    whole: bool,
}

impl UidList {
    /// An empty list.
    pub(super) fn new(validity: u32) -> Self {
        let mut guid = String::from("G");
        for _ in 0..2 {
            let _ = write!(guid, "{:016x}", RandomState::new().hash_one(files::unique_name()));
        }
        Self { validity, next: 1, fields: guid, records: Vec::new(), whole: false }
    }

    /// Reads a list. Lines that make no sense are left out; `None` when the header makes none.
    pub(super) fn parse(content: &[u8]) -> Option<Self> {
        let mut lines = content.split(|byte| *byte == b'\n');
        let header = std::str::from_utf8(lines.next()?).ok()?;
        let mut list =
            Self { validity: 0, next: 1, fields: String::new(), records: Vec::new(), whole: false };
        let mut words = header.split(' ');
        let version = words.next()?;
        match version {
            "3" => {
                for word in words {
                    if let Some(validity) = word.strip_prefix('V') {
                        list.validity = validity.parse().ok()?;
                    } else if let Some(next) = word.strip_prefix('N') {
                        list.next = next.parse().ok()?;
                    } else {
                        let gap = if list.fields.is_empty() { "" } else { " " };
                        let _ = write!(list.fields, "{gap}{word}");
                    }
                }
            }
            "1" => {
                list.validity = words.next()?.parse().ok()?;
                list.next = words.next()?.parse().ok()?;
            }
            _ => return None,
        }
        if list.validity == 0 || list.next == 0 {
            return None;
        }
        // A last line without its end is one that is just being written, or was never finished.
        list.whole = version == "3" && content.ends_with(b"\n");
        let mut last = 0;
        let mut lines = lines.peekable();
        while let Some(line) = lines.next() {
            if lines.peek().is_none() {
                break;
            }
            let Some(record) = record(line, version) else { continue };
            if record.uid > last {
                last = record.uid;
                list.records.push(record);
            }
        }
        list.next = list.next.max(last.saturating_add(1));
        Some(list)
    }

    /// Gives the next UID to a file.
    pub(super) fn give(&mut self, base: &[u8]) -> Result<Uid, StoreError> {
        let uid = self.next;
        self.next = uid.checked_add(1).ok_or(StoreError::Limit("the folder has used up its UIDs"))?;
        self.records.push(Record { uid, base: base.into(), fields: None });
        Ok(uid)
    }

    /// Writes the whole list.
    pub(super) fn rewrite(&mut self, dir: &Path) -> Result<(), StoreError> {
        let header = format!("3 V{} N{} {}", self.validity, self.next, self.fields);
        let mut out = Vec::with_capacity(64 + self.records.len() * 64);
        out.extend_from_slice(header.trim_end().as_bytes());
        out.push(b'\n');
        for record in &self.records {
            record.write(&mut out);
        }
        files::replace(&dir.join(NAME), &out)?;
        self.whole = true;
        Ok(())
    }

    /// Adds the last `count` records to the file.
    pub(super) fn append(&mut self, dir: &Path, count: usize) -> Result<(), StoreError> {
        if !self.whole {
            return self.rewrite(dir);
        }
        let mut out = Vec::new();
        for record in self.records.iter().skip(self.records.len().saturating_sub(count)) {
            record.write(&mut out);
        }
        let path = dir.join(NAME);
        let mut file = files::open_to_append(&path)?;
        let written = file.write_all(&out).and_then(|()| file.sync_data());
        if written.is_err() {
            // Half a line may stand there now.
            self.whole = false;
        }
        written.at(&path)
    }
}

fn record(line: &[u8], version: &str) -> Option<Record> {
    let space = line.iter().position(|byte| *byte == b' ')?;
    let (uid, rest) = line.split_at(space);
    let uid = std::str::from_utf8(uid).ok()?.parse().ok().filter(|uid| *uid > 0 && *uid < Uid::MAX)?;
    let rest = rest.get(1..)?;
    let (fields, name) = if version == "1" {
        (&rest[..0], rest)
    } else {
        // Fields hold no colon at their beginning: the name starts at the first word that does.
        let colon =
            if rest.first() == Some(&b':') { 0 } else { rest.windows(2).position(|pair| pair == b" :")? + 1 };
        (rest.get(..colon)?, rest.get(colon + 1..)?)
    };
    let base = files::base(name);
    if base.is_empty() || base.contains(&b'/') {
        return None;
    }
    let fields = std::str::from_utf8(fields).ok()?.trim_end();
    Some(Record { uid, base: base.into(), fields: (!fields.is_empty()).then(|| fields.into()) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_list_written_by_dovecot_is_read_and_written_back_unchanged() {
        let text = b"3 V1275660208 N25022 G3085f01b7f11094c501100008c4a11c1\n\
            25006 :1276528487.M364837P9451.kurkku,S=1355,W=1394\n\
            25017 W2481 G12ab :1276533073.M242911P3632.kurkku\n";
        let mut list = UidList::parse(text).unwrap();
        assert_eq!((list.validity, list.next, list.records.len()), (1_275_660_208, 25_022, 2));
        assert_eq!(list.records[1].virtual_size(), Some(2481));
        let dir = tempfile::tempdir().unwrap();
        list.rewrite(dir.path()).unwrap();
        assert_eq!(std::fs::read(dir.path().join(NAME)).unwrap(), text);
    }

    #[test]
    fn a_header_left_behind_by_added_records_does_not_give_a_uid_twice() {
        let list = UidList::parse(b"3 V7 N1 Gx\n1 :a\n2 :b:2,S\n9 :half").unwrap();
        assert_eq!(list.next, 3);
        assert_eq!(&*list.records[1].base, b"b");
        assert!(!list.whole);
    }

    #[test]
    fn lines_that_make_no_sense_are_left_out() {
        let list =
            UidList::parse(b"3 V7 N5\nx :a\n0 :a\n2 :b\n2 :c\n1 :d\n3 nothing\n4 :../e\n4294967295 :f\n")
                .unwrap();
        assert_eq!(list.records.iter().map(|record| record.uid).collect::<Vec<_>>(), [2]);
        assert_eq!(UidList::parse(b"3 V0 N1\n"), None);
        assert_eq!(UidList::parse(b"garbage"), None);
    }

    proptest! {
        #[test]
        fn no_content_upsets_the_reader(content in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = UidList::parse(&content);
            let mut behind = b"3 V7 N5\n".to_vec();
            behind.extend(content);
            let list = UidList::parse(&behind).unwrap();
            prop_assert!(list.records.windows(2).all(|pair| pair[0].uid < pair[1].uid));
            prop_assert!(list.records.iter().all(|record| record.uid < list.next));
        }
    }
}
