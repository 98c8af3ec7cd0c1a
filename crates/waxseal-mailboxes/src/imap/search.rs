//! SEARCH (RFC 9051 section 6.4.4, RFC 4731, RFC 5182, RFC 7162).

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};

use super::give::read_header;
use super::message::{Decoded, end_of_header};
use super::reply::{Answer, Reply, Stop};
use super::session::Session;
use super::syntax::{Charset, Day, Key, Ranges, Search, SearchReturn, SequenceSet};
use super::words::put_number;
use crate::store::{Folder, Message, StoreError};

/// How long one piece of work may take; between two the session can end.
const PIECE: Duration = Duration::from_millis(100);

/// What is looked for.
#[derive(Debug)]
struct Query {
    key: Key,
    /// What `$` stands for.
    saved: Ranges,
}

/// How far a search has come: places in the view.
#[derive(Debug, Default)]
struct Progress {
    next: usize,
    found: Vec<usize>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Session<S> {
    pub(super) async fn search(&mut self, tag: &str, by_uid: bool, search: Search) -> Answer {
        if search.charset == Charset::Unknown {
            return Ok(Reply::no("BADCHARSET (US-ASCII UTF-8)", "Search strings are UTF-8"));
        }
        let mut keys = search.keys;
        // What costs nothing to know first: most messages then need not be read.
        keys.sort_by_key(Key::cost);
        let key = Key::And(keys);
        let with_modseq = key.any(&|key| matches!(key, Key::ModSeq(_)));
        if with_modseq {
            self.enable_condstore();
        }
        let saves = search.returns.is_some_and(|returns| returns.save);
        let saved = self.selected()?.saved.clone();
        let found = self.find(Query { key, saved }).await;
        if let (true, Some(selected)) = (saves, &mut self.selected) {
            // RFC 5182 section 2.1: empty when the search fails.
            let found = found.as_deref().unwrap_or_default();
            let kept = picked(search.returns.unwrap_or_default(), found);
            let view = selected.folder.messages();
            selected.saved = Ranges::of(kept.filter_map(|index| view.get(index)).map(|message| message.uid));
        }
        let found = found?;
        match search.returns {
            Some(returns) => self.tell_found(tag, by_uid, returns, &found, with_modseq).await?,
            None if self.enabled.rev2 => {
                let returns = SearchReturn { all: true, ..SearchReturn::default() };
                self.tell_found(tag, by_uid, returns, &found, with_modseq).await?;
            }
            None => self.list_found(by_uid, &found, with_modseq).await?,
        }
        Ok(Reply::ok("Searched"))
    }

    async fn find(&mut self, query: Query) -> Result<Vec<usize>, Stop> {
        let query = Arc::new(query);
        let mut progress = Progress::default();
        loop {
            let query = Arc::clone(&query);
            let (reached, at_end) =
                self.on_folder(move |folder: &mut Folder| query.piece(folder, progress)).await??;
            if at_end {
                return Ok(reached.found);
            }
            progress = reached;
        }
    }

    /// The number a client knows a message by.
    fn known_as(&self, by_uid: bool, index: usize) -> u32 {
        let uid = || self.selected.as_ref()?.folder.messages().get(index).map(|message| message.uid);
        if by_uid { uid().unwrap_or(0) } else { u32::try_from(index + 1).unwrap_or(u32::MAX) }
    }

    fn highest_modseq(&self, found: impl Iterator<Item = usize>) -> u64 {
        let view = self.selected.as_ref().map_or(&[][..], |selected| selected.folder.messages());
        found.filter_map(|index| view.get(index)).map(|message| message.modseq).max().unwrap_or(0)
    }

    /// `* SEARCH 2 3 (MODSEQ 17)`
    async fn list_found(&mut self, by_uid: bool, found: &[usize], with_modseq: bool) -> Result<(), Stop> {
        self.wire.out().extend_from_slice(b"* SEARCH");
        for index in found {
            let number = self.known_as(by_uid, *index);
            let out = self.wire.out();
            out.push(b' ');
            put_number(number.into(), out);
            self.wire.send_if_much().await?;
        }
        if with_modseq && !found.is_empty() {
            let modseq = self.highest_modseq(found.iter().copied());
            self.wire.out().extend_from_slice(format!(" (MODSEQ {modseq})").as_bytes());
        }
        self.put("");
        Ok(())
    }

    /// `* ESEARCH (TAG "a") UID MIN 2 ALL 2:3 COUNT 2`
    async fn tell_found(
        &mut self,
        tag: &str,
        by_uid: bool,
        returns: SearchReturn,
        found: &[usize],
        with_modseq: bool,
    ) -> Result<(), Stop> {
        let SearchReturn { min, max, all, count, .. } = returns;
        if !(min || max || all || count) {
            return Ok(());
        }
        let mut text = format!("* ESEARCH (TAG \"{tag}\")");
        if by_uid {
            text.push_str(" UID");
        }
        if let (Some(first), Some(last)) = (found.first(), found.last()) {
            if min {
                text.push_str(&format!(" MIN {}", self.known_as(by_uid, *first)));
            }
            if max {
                text.push_str(&format!(" MAX {}", self.known_as(by_uid, *last)));
            }
        }
        if count {
            text.push_str(&format!(" COUNT {}", found.len()));
        }
        if with_modseq && !found.is_empty() {
            let modseq = self.highest_modseq(picked(returns, found));
            text.push_str(&format!(" MODSEQ {modseq}"));
        }
        let mut text = text.into_bytes();
        if all && !found.is_empty() {
            text.extend_from_slice(b" ALL ");
            Ranges::of(found.iter().map(|index| self.known_as(by_uid, *index))).write(&mut text);
        }
        self.wire.send_through(&text).await?;
        self.put("");
        Ok(())
    }
}

/// What of the found counts where MIN or MAX alone are asked for (RFC 5182 section 2.1, RFC 7162 section 3.1.10).
fn picked(returns: SearchReturn, found: &[usize]) -> impl Iterator<Item = usize> + '_ {
    let ends_only = (returns.min || returns.max) && !returns.all && !returns.count;
    let first = if ends_only && returns.min { found.first() } else { None };
    let last = if ends_only && returns.max { found.last() } else { None };
    let all = if ends_only { &[][..] } else { found };
    first.into_iter().chain(last).chain(all).copied()
}

impl Query {
    /// Goes on for a while; says whether the end was reached.
    fn piece(&self, folder: &Folder, mut progress: Progress) -> Result<(Progress, bool), StoreError> {
        let view = folder.messages();
        let begun = Instant::now();
        while let Some(message) = view.get(progress.next) {
            let mut looked_at = LookedAt { folder, message, index: progress.next, decoded: None };
            match self.holds(&self.key, &mut looked_at) {
                Ok(true) => progress.found.push(progress.next),
                // What is gone is not found.
                Ok(false) | Err(StoreError::Expunged) => {}
                Err(error) => return Err(error),
            }
            progress.next += 1;
            if progress.next.is_multiple_of(64) && begun.elapsed() > PIECE {
                break;
            }
        }
        let at_end = progress.next >= view.len();
        Ok((progress, at_end))
    }

    fn holds(&self, key: &Key, at: &mut LookedAt<'_>) -> Result<bool, StoreError> {
        Ok(match key {
            Key::All => true,
            Key::Flag(flag) => at.message.flags.contains(*flag),
            Key::Keyword(keyword) => at.message.flags.contains_keyword(keyword),
            Key::Recent => at.folder.is_recent(at.message.uid),
            Key::Before(day) => at.arrived()? < *day,
            Key::On(day) => at.arrived()? == *day,
            Key::Since(day) => at.arrived()? >= *day,
            Key::SentBefore(day) => at.header()?.date().is_some_and(|date| date < *day),
            Key::SentOn(day) => at.header()?.date().is_some_and(|date| date == *day),
            Key::SentSince(day) => at.header()?.date().is_some_and(|date| date >= *day),
            Key::Larger(size) => at.folder.size(at.message.uid)? > *size,
            Key::Smaller(size) => at.folder.size(at.message.uid)? < *size,
            Key::Header(name, text) => at.header()?.has_field(name, text),
            Key::Body(text) => at.whole()?.has_in_body(text),
            Key::Text(text) => at.whole()?.has(text),
            Key::ModSeq(modseq) => at.message.modseq >= *modseq,
            Key::Sequence(set) => self.within(set, at, false),
            Key::Uid(set) => self.within(set, at, true),
            Key::And(keys) => {
                for key in keys {
                    if !self.holds(key, at)? {
                        return Ok(false);
                    }
                }
                true
            }
            Key::Or(pair) => self.holds(&pair.0, at)? || self.holds(&pair.1, at)?,
            Key::Not(key) => !self.holds(key, at)?,
        })
    }

    fn within(&self, set: &SequenceSet, at: &LookedAt<'_>, by_uid: bool) -> bool {
        let view = at.folder.messages();
        let largest = match by_uid {
            true => view.last().map_or(0, |message| message.uid),
            false => u32::try_from(view.len()).unwrap_or(u32::MAX),
        };
        let number = if by_uid { at.message.uid } else { u32::try_from(at.index + 1).unwrap_or(u32::MAX) };
        match set {
            SequenceSet::Saved => self.saved.contains(at.message.uid),
            SequenceSet::Written(ranges) => ranges.iter().any(|(from, to)| {
                let (from, to) = (from.unwrap_or(largest), to.unwrap_or(largest));
                (from.min(to)..=from.max(to)).contains(&number)
            }),
        }
    }
}

/// A message that is being looked at.
struct LookedAt<'a> {
    folder: &'a Folder,
    message: &'a Message,
    index: usize,
    decoded: Option<(Decoded, bool)>,
}

impl LookedAt<'_> {
    fn arrived(&self) -> Result<Day, StoreError> {
        self.folder.internal_date(self.message.uid).map(Day::of)
    }

    fn header(&mut self) -> Result<&Decoded, StoreError> {
        if self.decoded.is_none() {
            let bytes = read_header(self.folder, self.message.uid)?;
            let end = end_of_header(&bytes).unwrap_or(bytes.len());
            self.decoded = Some((Decoded::header(bytes.get(..end).unwrap_or_default()), false));
        }
        self.known()
    }

    fn whole(&mut self) -> Result<&Decoded, StoreError> {
        if !matches!(self.decoded, Some((_, true))) {
            let bytes = self.folder.read(self.message.uid)?;
            let end = end_of_header(&bytes).unwrap_or(bytes.len());
            self.decoded = Some((Decoded::whole(&bytes, bytes.get(..end).unwrap_or_default()), true));
        }
        self.known()
    }

    fn known(&self) -> Result<&Decoded, StoreError> {
        self.decoded.as_ref().map(|(decoded, _)| decoded).ok_or(StoreError::Expunged)
    }
}
