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
//! Message bytes are given with CRLF line ends, whatever the file has.

mod flags;
mod folder;
mod mailbox;
mod name;

use std::io;
use std::path::{Path, PathBuf};

pub use self::flags::{Flag, FlagChange, Flags, Keyword, MAX_KEYWORD};
pub use self::folder::{Changes, Copied, Folder, Message, Stored, Watch};
pub use self::mailbox::{Draft, Figures, FolderEntry, Mailbox, Quota, Saved, SpecialUse, Status};
pub use self::name::{FolderName, NameError, SEPARATOR};

use crate::Address;

/// A message's unique identifier in its folder; never 0.
pub type Uid = u32;

/// The directory that holds the mail of all accounts: `ROOT/DOMAIN/LOCAL/` is the Maildir of one.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store in `root`, which is made if it is missing (mode 0700).
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(root: &Path) -> io::Result<Self> {
        let _ = root;
        todo!()
    }

    /// The mailbox of `owner`, made with its INBOX if it is missing. `limit`: its quota in bytes.
    ///
    /// # Errors
    /// When the directories cannot be made.
    pub fn mailbox(&self, owner: &Address, limit: Option<u64>) -> Result<Mailbox, StoreError> {
        let _ = (owner, limit, &self.root);
        todo!()
    }
}

/// Why the store did not do something, by what a protocol can say about it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such folder (`NO [NONEXISTENT]`); also when it was deleted under an open [`Folder`].
    #[error("there is no such folder")]
    NoSuchFolder,
    /// There is one already (`NO [ALREADYEXISTS]`).
    #[error("there is such a folder already")]
    FolderExists,
    /// What was asked cannot be done to this folder (deleting INBOX; moving a folder into itself), or there are too many (`NO [CANNOT]`, `[LIMIT]`).
    #[error("{0}")]
    Cannot(&'static str),
    /// The message is gone; it was expunged by someone else (`NO [EXPUNGEISSUED]`).
    #[error("the message has been expunged")]
    Expunged,
    /// The account's quota would be exceeded (`NO [OVERQUOTA]`, 452 4.2.2).
    #[error("the mailbox is full")]
    OverQuota,
    /// The disk is full (`NO [UNAVAILABLE]`, 452 4.3.1).
    #[error("the disk is full")]
    DiskFull,
    /// Someone else holds the folder's lock for too long (`NO [INUSE]`, 451).
    #[error("the folder is locked by another program")]
    Locked,
    /// The system's answer (`NO [UNAVAILABLE]`, 451 4.3.0).
    #[error("{path}: {source}")]
    Io {
        /// What was worked on.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
