//! Storage in a directory: one file for each value, safe to share between processes.

mod directory;
mod lease;
mod mount;
mod observer;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use directory::Directory;
use lease::Holder;
use observer::Observer;

use crate::key::Key;
use crate::storage::{BoxFuture, Durability, Guard, Lease, Revision, Storage, StorageError, Stored};
use crate::watch::{Watch, Watchers};

/// Values in files of a directory (0700, files 0600), written beside and renamed into place.
///
/// Every change is made under a lock of the directory that the kernel takes back from a process that dies. A second
/// process may open the same directory; over NFS this needs version 4, whose locks reach the server.
#[derive(Debug)]
pub struct FileStorage {
    inner: Arc<Inner>,
    watchers: Arc<Watchers>,
    _observer: Observer,
}

#[derive(Debug)]
struct Inner {
    directory: Directory,
    /// We, once we could be written down.
    holder: Mutex<Option<Arc<Holder>>>,
}

impl FileStorage {
    /// Opens the directory, made if it is not there. What a process that died has left half-written is removed. One that
    /// cannot be written is open for reading: each write says why not.
    ///
    /// # Errors
    ///
    /// A directory that cannot be made or entered, or that holds somebody else's files.
    pub fn open(root: &Path) -> Result<Self, StorageError> {
        let directory = Directory::open(root)?;
        let holder = match Holder::register(&directory) {
            Ok(holder) => Some(Arc::new(holder)),
            Err(error) if error.is_full() || error.is_read_only() => {
                tracing::error!("{error}. What is there is served; nothing new can be kept");
                None
            }
            Err(error) => return Err(error),
        };
        let watchers = Arc::new(Watchers::default());
        let observer = Observer::start(&directory, Arc::clone(&watchers));
        let inner = Inner { directory, holder: Mutex::new(holder) };
        Ok(Self { inner: Arc::new(inner), watchers, _observer: observer })
    }

    /// Whether `directory`, which is there, is a storage's, or empty, so that it may become one.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn is_ours(directory: &Path) -> std::io::Result<bool> {
        directory::is_ours(directory)
    }

    /// Whether what is kept below `directory`, which is there, would outlast a restart.
    pub fn durability_at(directory: &Path) -> Durability {
        mount::durability(directory)
    }

    /// Runs `work` where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let inner = Arc::clone(&self.inner);
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(done) => done,
            // The runtime is being shut down, or `work` panicked, which it has no means to.
            Err(error) => Err(StorageError::Io {
                what: "finish work in",
                place: self.place(),
                source: std::io::Error::other(error),
            }),
        }
    }
}

/// A guard that can be sent to another thread.
#[derive(Debug)]
enum OwnedGuard {
    Always,
    Absent,
    Unchanged(Revision),
    Held(Lease),
}

impl From<Guard<'_>> for OwnedGuard {
    fn from(guard: Guard<'_>) -> Self {
        match guard {
            Guard::Always => Self::Always,
            Guard::Absent => Self::Absent,
            Guard::Unchanged(revision) => Self::Unchanged(revision),
            Guard::Held(lease) => Self::Held(lease.clone()),
        }
    }
}

impl Inner {
    /// We, as a holder of leases.
    fn holder(&self) -> Result<Arc<Holder>, StorageError> {
        let mut holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
        match &*holder {
            Some(holder) => Ok(Arc::clone(holder)),
            None => Ok(Arc::clone(holder.insert(Arc::new(Holder::register(&self.directory)?)))),
        }
    }

    /// Whether `guard` holds; to be asked, and acted upon, under the directory's lock.
    fn check(&self, key: &Key, guard: &OwnedGuard) -> Result<(), StorageError> {
        let current = || -> Result<_, StorageError> { Ok(self.directory.read(key)?.map(|it| it.revision)) };
        let fine = match guard {
            OwnedGuard::Always => true,
            OwnedGuard::Absent => current()?.is_none(),
            OwnedGuard::Unchanged(revision) => current()? == Some(*revision),
            OwnedGuard::Held(lease) => return lease::check(&self.directory, lease),
        };
        if fine { Ok(()) } else { Err(StorageError::Conflict(key.clone())) }
    }
}

impl Storage for FileStorage {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Stored>, StorageError>> {
        let key = key.clone();
        Box::pin(self.blocking(move |inner| inner.directory.read(&key)))
    }

    fn put<'a>(
        &'a self,
        key: &'a Key,
        value: &'a [u8],
        guard: Guard<'a>,
    ) -> BoxFuture<'a, Result<Revision, StorageError>> {
        let (owned, guard) = (zeroize::Zeroizing::new(value.to_vec()), OwnedGuard::from(guard));
        let name = key.clone();
        Box::pin(async move {
            let written = self.blocking(move |inner| {
                let _locked = inner.directory.lock()?;
                inner.check(&name, &guard)?;
                inner.directory.write(&name, &owned)
            });
            let revision = written.await?;
            self.watchers.tell(key);
            Ok(revision)
        })
    }

    fn delete<'a>(&'a self, key: &'a Key, guard: Guard<'a>) -> BoxFuture<'a, Result<bool, StorageError>> {
        let (name, guard) = (key.clone(), OwnedGuard::from(guard));
        Box::pin(async move {
            let removed = self.blocking(move |inner| {
                let _locked = inner.directory.lock()?;
                inner.check(&name, &guard)?;
                inner.directory.remove(&name)
            });
            let was_there = removed.await?;
            if was_there {
                self.watchers.tell(key);
            }
            Ok(was_there)
        })
    }

    fn list<'a>(&'a self, prefix: &'a Key) -> BoxFuture<'a, Result<Vec<Key>, StorageError>> {
        let prefix = prefix.clone();
        Box::pin(self.blocking(move |inner| inner.directory.list(&prefix)))
    }

    fn acquire<'a>(
        &'a self,
        name: &'a Key,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Option<Lease>, StorageError>> {
        let name = name.clone();
        Box::pin(self.blocking(move |inner| inner.holder()?.acquire(&inner.directory, &name, ttl)))
    }

    fn renew<'a>(&'a self, lease: &'a Lease, ttl: Duration) -> BoxFuture<'a, Result<(), StorageError>> {
        let lease = lease.clone();
        Box::pin(self.blocking(move |inner| inner.holder()?.renew(&inner.directory, &lease, ttl)))
    }

    fn release(&self, lease: Lease) -> BoxFuture<'_, Result<(), StorageError>> {
        Box::pin(self.blocking(move |inner| inner.holder()?.release(&inner.directory, &lease)))
    }

    fn watch(&self, prefix: &Key) -> Watch {
        self.watchers.watch(prefix)
    }

    fn durability(&self) -> Durability {
        mount::durability(self.inner.directory.root())
    }

    fn place(&self) -> String {
        self.inner.directory.root().display().to_string()
    }
}
