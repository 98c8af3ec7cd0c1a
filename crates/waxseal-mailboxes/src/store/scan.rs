//! What files a folder has, and under which names.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::core::Core;
use super::error::{At, StoreError};
use super::files::{self, Stamp};
use super::folder::Access;
use super::letters::Letters;

/// Directories are trusted to be as they were only when they were still for this long before they were read: file systems
/// take their times from a clock that ticks every few milliseconds, and two changes may bear one time.
const SETTLING: Duration = Duration::from_millis(50);
/// The same on file systems that know whole seconds only.
const SETTLING_SECONDS: Duration = Duration::from_secs(2);

/// In which of Maildir's directories a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    New,
    Cur,
}

impl Place {
    fn dir(self, folder: &Path) -> PathBuf {
        folder.join(if self == Self::New { "new" } else { "cur" })
    }

    /// The path of a file in this place.
    pub(super) fn path(self, folder: &Path, name: &[u8]) -> PathBuf {
        self.dir(folder).join(files::os(name))
    }
}

/// The files of a folder at one time.
pub(super) struct Scan {
    pub(super) found: Vec<(Place, Box<[u8]>)>,
    pub(super) stamps: [Stamp; 2],
    pub(super) began: SystemTime,
}

impl Scan {
    pub(super) fn take(core: &Core) -> Result<Self, StoreError> {
        let began = SystemTime::now();
        let stamps = core.dir_stamps()?;
        let mut found = Vec::new();
        for place in [Place::New, Place::Cur] {
            let dir = place.dir(&core.dir);
            let names = match files::list(&dir)? {
                Some(names) => names,
                None if core.dir.is_dir() => {
                    files::make_dir(&dir)?;
                    return Self::take(core);
                }
                None => return Err(io::Error::from(io::ErrorKind::NotFound)).at(&dir),
            };
            found.extend(names.into_iter().map(|name| (place, name)));
        }
        Ok(Self { found, stamps, began })
    }

    /// Whether the directories were as they were found to be all the while.
    pub(super) fn is_calm(&self) -> bool {
        self.stamps.iter().all(|stamp| {
            let settling = if stamp.is_in_seconds() { SETTLING_SECONDS } else { SETTLING };
            stamp.modified.is_some_and(|then| then + settling < self.began)
        })
    }

    /// Whether a session that may write has messages to take over from `new/`.
    pub(super) fn waits_for(&self, access: Access) -> bool {
        access == Access::ReadWrite && self.found.iter().any(|(place, _)| *place == Place::New)
    }

    /// Gives names of their own to files whose names cannot be told apart without flags, or cannot stand in a list.
    pub(super) fn separate(&mut self, core: &Core) -> Result<(), StoreError> {
        // What is in `cur/` keeps its name.
        self.found.sort_by_key(|(place, _)| *place == Place::New);
        let mut taken: HashMap<Box<[u8]>, usize> = HashMap::with_capacity(self.found.len());
        let mut kept: Vec<(Place, Box<[u8]>)> = Vec::with_capacity(self.found.len());
        for (place, name) in self.found.drain(..) {
            let base = files::base(&name);
            let usable =
                !base.is_empty() && !base.contains(&b'\n') && base.len() + 64 <= files::MAX_FILE_NAME;
            let first = taken.get(base).copied().and_then(|index| kept.get_mut(index));
            match first {
                None if usable => {
                    taken.insert(base.into(), kept.len());
                    kept.push((place, name));
                }
                // One file seen under two names, as someone renamed it while we looked.
                Some(first) if !first.0.path(&core.dir, &first.1).exists() => *first = (place, name),
                _ => {
                    let from = place.path(&core.dir, &name);
                    let fresh = Letters::parse(files::info(&name)).file_name(files::unique_name().as_bytes());
                    match fs::rename(&from, place.path(&core.dir, &fresh)) {
                        Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                        renamed => renamed.at(&from)?,
                    }
                    tracing::info!(file = %from.display(), "a file name that cannot be kept was replaced");
                    kept.push((place, fresh.into_boxed_slice()));
                }
            }
        }
        self.found = kept;
        Ok(())
    }

    /// Moves what is new to `cur/`; says the base names of it.
    pub(super) fn claim(&mut self, core: &Core) -> Result<Vec<Box<[u8]>>, StoreError> {
        let mut claimed = Vec::new();
        for (place, name) in &mut self.found {
            if *place == Place::Cur {
                continue;
            }
            let base = files::base(name);
            let to = Letters::parse(files::info(name)).file_name(base);
            let from = place.path(&core.dir, name);
            match fs::rename(&from, Place::Cur.path(&core.dir, &to)) {
                // Another program was faster; the next look shows what it did.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                renamed => renamed.at(&from)?,
            }
            claimed.push(base.into());
            *place = Place::Cur;
            *name = to.into_boxed_slice();
        }
        Ok(claimed)
    }
}

/// What orders new messages: the seconds and microseconds in their names, then the names.
pub(super) fn arrival(base: &[u8]) -> (u64, u64, &[u8]) {
    let number = |text: &[u8]| {
        let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
        digits.fold(0_u64, |sum, byte| sum.saturating_mul(10).saturating_add(u64::from(byte - b'0')))
    };
    let micros =
        base.iter().position(|byte| *byte == b'.').and_then(|dot| base.get(dot + 1..)?.strip_prefix(b"M"));
    (number(base), micros.map_or(0, number), base)
}
