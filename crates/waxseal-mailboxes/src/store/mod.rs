//! Mail in Maildir++ on a disk that other programs may use too.
//!
//! A [`Store`] has a [`Mailbox`] per account, a mailbox has folders, and an open [`Folder`] is one session's view of one.
//! **All of it is synchronous file work, fsync included: protocols call it through `spawn_blocking`.** Handles are `Send`;
//! `Store` and `Mailbox` clone cheaply; a `Folder` belongs to one session (move it into the blocking task and back).
//!
//! What is in memory is a cache of the disk. Other processes and other programs may deliver, read, rename and remove at
//! any time; [`Folder::refresh`] finds out what they did, and [`Watch`] says when it is worth asking.
//!
//! On disk, per folder: `new/`, `cur/`, `tmp/`, Dovecot's `dovecot-uidlist` and `dovecot-keywords` (so that Dovecot can
//! be pointed at the same directory, and back, with no UID changed), and `waxseal-modseq`, which is ours and can be
//! rebuilt. Account-wide: `subscriptions`, `maildirsize` (the quota file of Maildir++).
//!
//! Dovecot reads it with `mail_location = maildir:ROOT/%d/%n`, where `ROOT` is what the store was opened with.
//!
//! Message bytes are given with CRLF line ends, whatever the file has.

mod core;
mod draft;
mod error;
mod files;
mod flags;
mod folder;
mod letters;
mod lock;
mod mailbox;
mod modseq;
mod name;
mod quota;
mod scan;
mod uidlist;
mod watch;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

pub use self::draft::Draft;
pub use self::error::StoreError;
pub use self::flags::{Flag, FlagChange, Flags, Keyword, MAX_KEYWORD};
pub use self::folder::{Access, Changes, Copied, Folder, Message, Stored};
pub use self::mailbox::{
    Figures, FolderEntry, MAX_FOLDERS, Mailbox, Maildrop, Prepared, Quota, Saved, SpecialUse, Status,
};
pub use self::name::{FolderName, NameError, SEPARATOR};
pub use self::watch::Watch;

pub(crate) use self::files::{Stamp, replace as replace_file, unique_name};
pub(crate) use self::lock::with_file_lock;

use self::core::Core;
use crate::Address;

/// A message's unique identifier in its folder; never 0.
pub type Uid = u32;

/// The directory that holds the mail of all accounts: `ROOT/DOMAIN/LOCAL/` is the Maildir of one.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    shared: Arc<Shared>,
}

/// What the handles of this process have in common.
#[derive(Debug, Default)]
struct Shared {
    cores: Mutex<HashMap<PathBuf, Weak<Core>>>,
    watches: Arc<watch::Watches>,
}

impl Shared {
    /// The one shared state of the folder in `dir`.
    fn core(&self, root: &Path, dir: PathBuf) -> Arc<Core> {
        let mut cores = self.cores.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(core) = cores.get(&dir).and_then(Weak::upgrade).filter(|core| !core.is_gone()) {
            return core;
        }
        if cores.len() >= cores.capacity() {
            cores.retain(|_, core| core.strong_count() > 0);
        }
        let core = Arc::new(Core::new(root.to_owned(), dir.clone(), Arc::clone(&self.watches)));
        cores.insert(dir, Arc::downgrade(&core));
        core
    }

    /// The folder in `dir` is no longer there.
    fn forget(&self, dir: &Path) {
        let core = self.cores.lock().unwrap_or_else(PoisonError::into_inner).remove(dir);
        if let Some(core) = core.and_then(|core| core.upgrade()) {
            core.leave();
        }
    }
}

impl Store {
    /// The store in `root`, which is made if it is missing (mode 0700).
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        files::make_dir(root)?;
        Ok(Self { root: root.to_owned(), shared: Arc::default() })
    }

    /// The mailbox of `owner`, made with its first folders if it is missing. `limit`: its quota in bytes.
    ///
    /// # Errors
    /// When the directories cannot be made.
    pub fn mailbox(&self, owner: &Address, limit: Option<u64>) -> Result<Mailbox, StoreError> {
        let domain = self.root.join(owner.domain());
        let root = domain.join(owner.local());
        if !root.is_dir() {
            files::make_dir(&domain)?;
        }
        Mailbox::open_root(Arc::clone(&self.shared), root, limit)
    }

    /// Somewhere to keep a message that is not in a mailbox yet. It is gone when dropped.
    ///
    /// # Errors
    /// What the disk says.
    pub fn spool(&self) -> Result<Draft, StoreError> {
        // No domain begins with a dot.
        let dir = self.root.join(".spool");
        files::make_dir(&dir)?;
        Draft::new(&dir)
    }
}

pub(crate) mod fuzzing {
    use super::{FolderName, uidlist};

    pub(crate) fn uid_list(input: &[u8]) {
        let _ = uidlist::UidList::parse(input);
    }

    pub(crate) fn folder_name(input: &[u8]) {
        let Ok(text) = std::str::from_utf8(input) else { return };
        for name in [FolderName::from_utf8(text), FolderName::from_utf7(text)].into_iter().flatten() {
            assert_eq!(FolderName::from_utf7(&name.to_utf7()), Ok(name));
        }
    }
}
