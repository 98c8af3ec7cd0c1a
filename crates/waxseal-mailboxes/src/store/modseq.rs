//! `waxseal-modseq`: when each message was last changed, counted in changes (RFC 7162). Ours alone, and rebuilt if lost.
//!
//! Lines `UID MODSEQ LETTERS`, later ones count; UID 0 for what is no message's (an expunge). The letters are those the
//! message had at that time: a file name with others shows that another program has changed it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::SystemTime;

use super::Uid;
use super::error::{At, StoreError};
use super::files::{self, Stamp};
use super::letters::Letters;

/// The file's name in a folder.
pub(super) const NAME: &str = "waxseal-modseq";
/// Lines beyond the needed ones, before the file is written anew.
const SLACK: usize = 1000;

/// What is known of a folder's changes.
#[derive(Debug, Default)]
pub(super) struct Modseqs {
    validity: u32,
    highest: u64,
    known: HashMap<Uid, (u64, Letters)>,
    lines: usize,
    whole: bool,
    stamp: Stamp,
    pending: String,
}

impl Modseqs {
    /// Reads the file if it is another than before.
    pub(super) fn reload(&mut self, dir: &Path, validity: u32) -> Result<(), StoreError> {
        let path = dir.join(NAME);
        let stamp = Stamp::of(&path)?;
        if self.validity == validity && self.stamp == stamp {
            return Ok(());
        }
        let content = files::read_if_there(&path)?.unwrap_or_default();
        *self = Self::parse(&String::from_utf8_lossy(&content), validity);
        self.stamp = stamp;
        Ok(())
    }

    fn parse(content: &str, validity: u32) -> Self {
        let mut modseqs = Self { validity, ..Self::default() };
        let mut lines = content.split_inclusive('\n');
        let header: Option<u32> =
            lines.next().and_then(|line| line.strip_prefix("1 ")?.strip_suffix('\n')?.parse().ok());
        if header != Some(validity) {
            // Lost, or of another folder in this place. The clock is ahead of any count that was ever given, as that
            // began with the clock and there are fewer than a thousand changes a second: nobody sees it go back.
            modseqs.highest = clock();
            return modseqs;
        }
        modseqs.whole = content.ends_with('\n');
        for line in lines {
            let Some(line) = line.strip_suffix('\n') else { continue };
            let mut words = line.split(' ');
            let (Some(Ok(uid)), Some(Ok(modseq))) =
                (words.next().map(str::parse::<Uid>), words.next().map(str::parse::<u64>))
            else {
                continue;
            };
            modseqs.lines += 1;
            modseqs.highest = modseqs.highest.max(modseq);
            if uid != 0 {
                let letters = Letters::parse(words.next().unwrap_or_default().as_bytes());
                modseqs.known.insert(uid, (modseq, letters));
            }
        }
        // RFC 7162 section 3.1: never 0, and below 2^63.
        modseqs.highest = modseqs.highest.clamp(1, u64::MAX >> 2);
        modseqs
    }

    /// The modification sequence of a message, if it had these letters when it was last looked at.
    pub(super) fn of(&self, uid: Uid, letters: Letters) -> Option<u64> {
        self.known.get(&uid).filter(|(_, known)| *known == letters).map(|(modseq, _)| *modseq)
    }

    /// The highest of all.
    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// Begins a change: what is noted now has this number.
    pub(super) fn advance(&mut self) -> u64 {
        self.highest += 1;
        self.highest
    }

    /// Notes a message's letters under the present number.
    pub(super) fn note(&mut self, uid: Uid, letters: Letters) {
        self.known.insert(uid, (self.highest, letters));
        self.lines += 1;
        let letters: String = letters.iter().map(char::from).collect();
        let _ = writeln!(self.pending, "{uid} {} {letters}", self.highest);
    }

    /// Notes that a message is gone.
    pub(super) fn forget(&mut self, uid: Uid) {
        self.known.remove(&uid);
        self.lines += 1;
        let _ = writeln!(self.pending, "0 {}", self.highest);
    }

    /// Writes what was noted. The folder's lock is held.
    pub(super) fn flush(&mut self, dir: &Path) -> Result<(), StoreError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let path = dir.join(NAME);
        let pending = std::mem::take(&mut self.pending);
        if self.whole && self.lines <= 2 * self.known.len() + SLACK {
            let written = files::open_to_append(&path)?.write_all(pending.as_bytes());
            self.whole = written.is_ok();
            written.at(&path)?;
        } else {
            let mut all = format!("1 {}\n0 {}\n", self.validity, self.highest);
            for (uid, (modseq, letters)) in &self.known {
                let letters: String = letters.iter().map(char::from).collect();
                let _ = writeln!(all, "{uid} {modseq} {letters}");
            }
            files::replace(&path, all.as_bytes())?;
            self.lines = self.known.len() + 1;
            self.whole = true;
        }
        self.stamp = Stamp::of(&path)?;
        Ok(())
    }
}

fn clock() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_known_again_and_a_lost_file_never_goes_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Modseqs::default();
        first.reload(dir.path(), 7).unwrap();
        for uid in 1..2000 {
            let modseq = first.advance();
            first.note(uid % 3 + 1, Letters::parse(b"S"));
            assert_eq!(first.of(uid % 3 + 1, Letters::parse(b"S")), Some(modseq));
            first.flush(dir.path()).unwrap();
        }
        let mut second = Modseqs::default();
        second.reload(dir.path(), 7).unwrap();
        assert_eq!((second.highest, &second.known), (first.highest, &first.known));
        assert!(second.lines < 1500, "{}", second.lines);
        assert_eq!(second.of(1, Letters::parse(b"FS")), None);

        std::fs::remove_file(dir.path().join(NAME)).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(5));
        second.reload(dir.path(), 7).unwrap();
        assert!(second.known.is_empty());
    }

    #[test]
    fn a_torn_last_line_is_left_out_and_nothing_is_added_to_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(NAME), "1 7\n1 5 S\nx\n2 6 ST").unwrap();
        let mut modseqs = Modseqs::default();
        modseqs.reload(dir.path(), 7).unwrap();
        assert_eq!((modseqs.highest, modseqs.known.len()), (5, 1));
        modseqs.advance();
        modseqs.note(2, Letters::default());
        modseqs.flush(dir.path()).unwrap();
        let mut again = Modseqs::default();
        again.reload(dir.path(), 7).unwrap();
        assert_eq!(again.known, modseqs.known);
    }
}
