//! A message while it comes in: the beginning in memory, what is long in a file.

use std::io::{self, Write};
use std::path::Path;

use mail_parser::{HeaderName, HeaderValue, MessageParser};

use crate::session::blocking;
use crate::store::{Draft, Store, StoreError};

/// What is kept in memory of a message, and the longest header taken.
const HEAD: usize = 256 << 10;

/// A message while it comes in.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    head: Vec<u8>,
    pending: Vec<u8>,
    spool: Option<Draft>,
    bytes: u64,
    failed: Option<StoreError>,
}

impl Incoming {
    /// Bytes that came, also those that were not kept.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes more bytes. Above `limit` they are only counted; a disk that fails is told of at the end.
    pub(crate) async fn push(&mut self, store: &Store, bytes: &[u8], limit: u64) {
        self.bytes += bytes.len() as u64;
        if self.bytes > limit || self.failed.is_some() {
            return;
        }
        let room = HEAD.saturating_sub(self.head.len()).min(bytes.len());
        let (head, rest) = bytes.split_at(room);
        self.head.extend_from_slice(head);
        self.pending.extend_from_slice(rest);
        if self.pending.len() >= HEAD {
            self.spill(store).await;
        }
    }

    async fn spill(&mut self, store: &Store) {
        let (store, spool, pending) = (store.clone(), self.spool.take(), std::mem::take(&mut self.pending));
        let written = blocking(move || {
            let mut spool = spool.map_or_else(|| store.spool(), Ok)?;
            spool.write_all(&pending).map_err(|error| StoreError::from_io(error, Path::new("spool")))?;
            Ok(spool)
        });
        match written.await {
            Ok(spool) => self.spool = Some(spool),
            Err(error) => self.failed = Some(error),
        }
    }

    /// The message is whole.
    pub(crate) async fn finish(mut self, store: &Store) -> Result<Whole, StoreError> {
        if self.head.last().is_some()
            && self.spool.is_none()
            && self.pending.is_empty()
            && !self.head.ends_with(b"\r\n")
        {
            // A chunked message need not end its last line; a file of lines does.
            self.head.extend_from_slice(b"\r\n");
        }
        if !self.pending.is_empty() && !self.pending.ends_with(b"\r\n") {
            self.pending.extend_from_slice(b"\r\n");
        }
        if !self.pending.is_empty() && self.failed.is_none() {
            self.spill(store).await;
        }
        match self.failed {
            Some(error) => Err(error),
            None => Ok(Whole { head: self.head, spool: self.spool }),
        }
    }
}

/// A whole message that is in no mailbox yet.
#[derive(Debug)]
pub(crate) struct Whole {
    head: Vec<u8>,
    spool: Option<Draft>,
}

/// What a header tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct HeaderFacts {
    /// Received lines.
    pub(crate) received: usize,
    pub(crate) has_date: bool,
    pub(crate) has_message_id: bool,
    /// The addresses in From and Sender; `None` for one that is no address.
    pub(crate) from: Vec<Option<String>>,
}

impl Whole {
    /// What the header tells; `None` when it is longer than we take.
    pub(crate) fn facts(&self) -> Option<HeaderFacts> {
        let end = if self.head.starts_with(b"\r\n") {
            Some(0)
        } else {
            memchr::memmem::find(&self.head, b"\r\n\r\n").map(|at| at + 2)
        };
        let end = match (end, &self.spool) {
            (Some(end), _) => end,
            (None, None) => self.head.len(),
            (None, Some(_)) => return None,
        };
        Some(facts(self.head.get(..end).unwrap_or_default()))
    }

    /// Writes the message behind `trace`.
    pub(crate) fn write(&mut self, trace: &[u8], draft: &mut Draft) -> Result<(), StoreError> {
        let mut copy = || -> io::Result<()> {
            draft.write_all(trace)?;
            draft.write_all(&self.head)?;
            if let Some(spool) = &mut self.spool {
                let mut reader = spool.reader().map_err(io::Error::other)?;
                io::copy(&mut reader, draft)?;
            }
            Ok(())
        };
        copy().map_err(|error| StoreError::from_io(error, Path::new("draft")))
    }
}

pub(super) fn facts(header: &[u8]) -> HeaderFacts {
    let mut facts = HeaderFacts::default();
    for line in header.split(|byte| *byte == b'\n') {
        let is = |name: &str| {
            let Some((head, rest)) = line.split_at_checked(name.len()) else { return false };
            let next = rest.iter().find(|byte| !b" \t".contains(byte));
            head.eq_ignore_ascii_case(name.as_bytes()) && next == Some(&b':')
        };
        facts.received += usize::from(is("Received"));
        facts.has_date |= is("Date");
        facts.has_message_id |= is("Message-ID");
    }
    let message = MessageParser::default().parse_headers(header);
    for field in message.iter().flat_map(|message| message.headers()) {
        if !matches!(field.name, HeaderName::From | HeaderName::Sender) {
            continue;
        }
        match &field.value {
            HeaderValue::Address(addresses) => {
                facts.from.extend(addresses.iter().map(|found| found.address().map(str::to_owned)));
            }
            HeaderValue::Empty => {}
            _ => facts.from.push(None),
        }
    }
    facts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_header_is_read_without_its_body() {
        let header = b"Received: a\r\nreceived : b\r\n\tReceived: folded\r\nFrom: A <a@b>, =?utf-8?q?C?= <c@d>\r\nfrom: e@f\r\n\
            Sender: g@h\r\nDate: x\r\n";
        let facts = facts(header);
        assert_eq!((facts.received, facts.has_date, facts.has_message_id), (2, true, false));
        let from: Vec<_> = facts.from.iter().map(|address| address.as_deref().unwrap()).collect();
        assert_eq!(from, ["a@b", "c@d", "e@f", "g@h"]);
    }

    proptest! {
        #[test]
        fn no_header_upsets_the_reader(header in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = facts(&header);
        }
    }
}
