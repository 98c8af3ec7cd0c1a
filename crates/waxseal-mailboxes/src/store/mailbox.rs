//! One account's folders.

use std::io;
use std::time::SystemTime;

use super::{Flags, Folder, FolderName, StoreError, Uid};

/// One account's mail.
#[derive(Clone, Debug)]
pub struct Mailbox;

/// What a folder is for (RFC 6154), by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialUse {
    /// `\Archive`
    Archive,
    /// `\Drafts`
    Drafts,
    /// `\Junk`
    Junk,
    /// `\Sent`
    Sent,
    /// `\Trash`
    Trash,
}

/// A folder in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderEntry {
    /// Its name.
    pub name: FolderName,
    /// Whether it exists; `false` for a level above an existing folder, and for a subscription to what is not there.
    pub exists: bool,
    /// Whether it is subscribed to.
    pub subscribed: bool,
    /// Whether an existing folder is below it.
    pub has_children: bool,
    /// What it is for.
    pub special_use: Option<SpecialUse>,
}

/// A folder's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Messages.
    pub messages: u32,
    /// Of them new to every session.
    pub recent: u32,
    /// Of them without \Seen.
    pub unseen: u32,
    /// Of them with \Deleted.
    pub deleted: u32,
    /// Bytes of all messages with CRLF line ends.
    pub size: u64,
    /// The next UID.
    pub uid_next: Uid,
    /// The folder's UIDVALIDITY.
    pub uid_validity: u32,
    /// The highest modification sequence of the folder (RFC 7162).
    pub highest_modseq: u64,
}

/// Which figures of a folder cost reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figures {
    /// All but [`Status::size`], which stays 0.
    WithoutSize,
    /// All.
    All,
}

/// What of the quota is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Bytes of all messages in all folders.
    pub used: u64,
    /// The limit in bytes, if there is one.
    pub limit: Option<u64>,
}

/// Where a saved message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The folder's UIDVALIDITY.
    pub uid_validity: u32,
    /// The message's UID.
    pub uid: Uid,
}

/// A message on its way in: write its bytes, then give it to [`Mailbox::save`] or [`Mailbox::deliver`]. Dropped, it is gone.
#[derive(Debug)]
pub struct Draft;

impl io::Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Mailbox {
    /// All folders, INBOX first, then by name; with the levels above them and the subscriptions that do not exist.
    pub fn folders(&self) -> Result<Vec<FolderEntry>, StoreError> {
        todo!()
    }

    /// Makes a folder. Levels above need not exist.
    pub fn create(&self, name: &FolderName) -> Result<(), StoreError> {
        let _ = name;
        todo!()
    }

    /// Removes a folder and its messages, not the folders below. Its subscription stays (RFC 9051 section 6.3.7).
    pub fn delete(&self, name: &FolderName) -> Result<(), StoreError> {
        let _ = name;
        todo!()
    }

    /// Renames a folder and all below it. Renaming INBOX moves its messages and leaves it empty (RFC 9051 section 6.3.6).
    pub fn rename(&self, from: &FolderName, to: &FolderName) -> Result<(), StoreError> {
        let _ = (from, to);
        todo!()
    }

    /// Subscribes to a folder, which need not exist.
    pub fn subscribe(&self, name: &FolderName) -> Result<(), StoreError> {
        let _ = name;
        todo!()
    }

    /// Ends a subscription.
    pub fn unsubscribe(&self, name: &FolderName) -> Result<(), StoreError> {
        let _ = name;
        todo!()
    }

    /// Opens a folder for one session, its view already fresh.
    pub fn open(&self, name: &FolderName) -> Result<Folder, StoreError> {
        let _ = name;
        todo!()
    }

    /// A folder's figures, fresh.
    pub fn status(&self, name: &FolderName, figures: Figures) -> Result<Status, StoreError> {
        let _ = (name, figures);
        todo!()
    }

    /// What is used of the quota.
    pub fn quota(&self) -> Result<Quota, StoreError> {
        todo!()
    }

    /// Begins a message. `size`: how many bytes will come, if known, so that a full mailbox is told at once.
    pub fn draft(&self, size: Option<u64>) -> Result<Draft, StoreError> {
        let _ = size;
        todo!()
    }

    /// Puts a message into a folder; it is on disk when this returns (APPEND).
    pub fn save(
        &self,
        draft: Draft,
        folder: &FolderName,
        flags: &Flags,
        internal_date: Option<SystemTime>,
    ) -> Result<Saved, StoreError> {
        let _ = (draft, folder, flags, internal_date);
        todo!()
    }

    /// Puts a message into the INBOX as new; it is on disk when this returns. No UID yet: whoever looks first gives one.
    pub fn deliver(&self, draft: Draft) -> Result<(), StoreError> {
        let _ = draft;
        todo!()
    }
}
