//! What every storage does.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::key::{Key, KeyError};
use crate::watch::Watch;

/// Longest value, in bytes. A chain with its key has a few thousand.
pub const MAX_VALUE: usize = 1 << 20;
/// Longest time a lease is given for at once. One that claims more was written by a clock gone wrong.
pub const MAX_LEASE: Duration = Duration::from_secs(600);

/// A future on the heap, as a trait that is used through `dyn` needs it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Which of its contents a key has. Comparable with others of the same key and storage only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revision(pub(crate) u64);

/// A value as it was read. Wiped from memory when dropped, as it may hold keys.
#[derive(Clone, PartialEq, Eq)]
pub struct Stored {
    /// The content.
    pub value: Zeroizing<Vec<u8>>,
    /// Its revision, for [`Guard::Unchanged`].
    pub revision: Revision,
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, {:?}", self.value.len(), self.revision)
    }
}

/// What must hold for a change to be made. Checked and made as one step, whoever else writes.
#[derive(Clone, Copy, Debug)]
pub enum Guard<'a> {
    /// Nothing.
    Always,
    /// The key has no value.
    Absent,
    /// The key's value is still the one that was read.
    Unchanged(Revision),
    /// The lease has not passed to another holder. It may have run out, as long as nobody took it.
    Held(&'a Lease),
}

/// A right that one holder has at a time, until it runs out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub(crate) name: Key,
    pub(crate) fence: u64,
}

impl Lease {
    /// Grows with each holder, so that one who comes back late is known as such.
    pub fn fence(&self) -> u64 {
        self.fence
    }
}

/// How long values last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Durability {
    /// As far as can be seen, for good.
    Lasting,
    /// Only until the machine or container ends; why.
    Fleeting(String),
}

/// Why storage did not do as told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The guard did not hold: somebody else was faster.
    #[error("{0} was changed by another process")]
    Conflict(Key),
    /// The lease has passed to another holder.
    #[error("the lease {0} was lost to another process")]
    LeaseLost(Key),
    /// No key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A value longer than [`MAX_VALUE`].
    #[error("{key} has {bytes} bytes, more than {MAX_VALUE}")]
    TooLarge {
        /// Whose value.
        key: Key,
        /// Its length.
        bytes: usize,
    },
    /// The system refused.
    #[error("cannot {what} {place}: {source}{remedy}", remedy = remedy(source))]
    Io {
        /// A verb.
        what: &'static str,
        /// The path or address.
        place: String,
        /// The system's word for it.
        source: io::Error,
    },
}

/// The one thing to do, where there is one.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ". Make room there",
        io::ErrorKind::ReadOnlyFilesystem => ". Mount it writable",
        io::ErrorKind::PermissionDenied => ". Let the user that waxseal runs as write there",
        _ => "",
    }
}

impl StorageError {
    /// Whether it is not for us to look there.
    pub(crate) fn is_denied(&self) -> bool {
        self.is_kind(&[io::ErrorKind::PermissionDenied])
    }

    /// Whether no room is left.
    pub fn is_full(&self) -> bool {
        self.is_kind(&[io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded])
    }

    /// Whether writing is not allowed, or not possible for us.
    pub fn is_read_only(&self) -> bool {
        self.is_kind(&[io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::PermissionDenied])
    }

    fn is_kind(&self, kinds: &[io::ErrorKind]) -> bool {
        matches!(self, Self::Io { source, .. } if kinds.contains(&source.kind()))
    }
}

/// Values under keys, leases, and word of changes, shared by all processes that open the same place.
///
/// Whoever takes a lease must read again what made the work necessary: the former holder may have done it.
pub trait Storage: Send + Sync + fmt::Debug + 'static {
    /// The value of `key`.
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Stored>, StorageError>>;

    /// Gives `key` a value: wholly and for good, or not at all.
    fn put<'a>(
        &'a self,
        key: &'a Key,
        value: &'a [u8],
        guard: Guard<'a>,
    ) -> BoxFuture<'a, Result<Revision, StorageError>>;

    /// Takes the value of `key` away; whether there was one.
    fn delete<'a>(&'a self, key: &'a Key, guard: Guard<'a>) -> BoxFuture<'a, Result<bool, StorageError>>;

    /// The keys below `prefix` that have a value, sorted.
    fn list<'a>(&'a self, prefix: &'a Key) -> BoxFuture<'a, Result<Vec<Key>, StorageError>>;

    /// Takes a lease for `ttl` (at most [`MAX_LEASE`]), or `None` where another holds it. A holder that has died is
    /// none, as soon as that can be known and at the latest when its time is up.
    fn acquire<'a>(
        &'a self,
        name: &'a Key,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Option<Lease>, StorageError>>;

    /// Holds a lease for `ttl` from now. [`StorageError::LeaseLost`] where it has passed to another.
    fn renew<'a>(&'a self, lease: &'a Lease, ttl: Duration) -> BoxFuture<'a, Result<(), StorageError>>;

    /// Gives a lease back. No error where it has passed to another already.
    fn release(&self, lease: Lease) -> BoxFuture<'_, Result<(), StorageError>>;

    /// Word of changes of keys below `prefix`, one's own and those of other processes.
    fn watch(&self, prefix: &Key) -> Watch;

    /// How long values last here.
    fn durability(&self) -> Durability;

    /// Where this is, for messages.
    fn place(&self) -> String;
}
