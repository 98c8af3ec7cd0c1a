//! What can go wrong, by what a protocol can say about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why the store did not do something, by what a protocol can say about it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such folder (`NO [NONEXISTENT]`); also when it was deleted under an open [`Folder`](super::Folder).
    #[error("there is no such folder")]
    NoSuchFolder,
    /// There is one already (`NO [ALREADYEXISTS]`).
    #[error("there is such a folder already")]
    FolderExists,
    /// What was asked cannot be done to this folder: deleting INBOX, moving a folder into itself (`NO [CANNOT]`).
    #[error("{0}")]
    Cannot(&'static str),
    /// There are too many folders, or too many keywords in this one (`NO [LIMIT]`).
    #[error("{0}")]
    Limit(&'static str),
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
    #[error("the mailbox is locked by another program")]
    Locked,
    /// The system's answer (`NO [UNAVAILABLE]`, 451 4.3.0).
    #[error("{}: {source}", path.display())]
    Io {
        /// What was worked on.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl StoreError {
    /// What the system said, sorted by what can be said about it.
    pub(crate) fn from_io(source: io::Error, path: &Path) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Io { path: path.to_owned(), source },
        }
    }

    /// Whether this is the system saying that a file is not there.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Names the path in an error of the system.
pub(super) trait At<T> {
    fn at(self, path: &Path) -> Result<T, StoreError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, path: &Path) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::from_io(source, path))
    }
}
