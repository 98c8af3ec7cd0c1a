//! Storage that ends with the process: for tests, and for those who embed waxseal.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::key::Key;
use crate::storage::{
    BoxFuture, Durability, Guard, Lease, MAX_LEASE, MAX_VALUE, Revision, Storage, StorageError, Stored,
};
use crate::watch::{Watch, Watchers};

/// Values in memory. Share it in an `Arc`; leases follow tokio's clock.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    content: Mutex<Content>,
    watchers: Watchers,
}

#[derive(Debug, Default)]
struct Content {
    values: BTreeMap<Key, Stored>,
    leases: BTreeMap<Key, Held>,
    revision: u64,
}

#[derive(Debug)]
struct Held {
    fence: u64,
    until: Option<Instant>,
}

impl Content {
    fn check(&self, key: &Key, guard: Guard<'_>) -> Result<(), StorageError> {
        let current = self.values.get(key).map(|stored| stored.revision);
        let fine = match guard {
            Guard::Always => true,
            Guard::Absent => current.is_none(),
            Guard::Unchanged(revision) => current == Some(revision),
            Guard::Held(lease) => return self.check_lease(lease),
        };
        if fine { Ok(()) } else { Err(StorageError::Conflict(key.clone())) }
    }

    fn check_lease(&self, lease: &Lease) -> Result<(), StorageError> {
        match self.leases.get(&lease.name) {
            Some(held) if held.fence == lease.fence && held.until.is_some() => Ok(()),
            _ => Err(StorageError::LeaseLost(lease.name.clone())),
        }
    }
}

impl MemoryStorage {
    /// An empty storage.
    pub fn new() -> Self {
        Self::default()
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, key: &Key, value: &[u8], guard: Guard<'_>) -> Result<Revision, StorageError> {
        if value.len() > MAX_VALUE {
            return Err(StorageError::TooLarge { key: key.clone(), bytes: value.len() });
        }
        let mut content = self.content();
        content.check(key, guard)?;
        content.revision += 1;
        let revision = Revision(content.revision);
        content.values.insert(key.clone(), Stored { value: Zeroizing::new(value.to_vec()), revision });
        drop(content);
        self.watchers.tell(key);
        Ok(revision)
    }

    fn remove(&self, key: &Key, guard: Guard<'_>) -> Result<bool, StorageError> {
        let mut content = self.content();
        content.check(key, guard)?;
        let was_there = content.values.remove(key).is_some();
        drop(content);
        if was_there {
            self.watchers.tell(key);
        }
        Ok(was_there)
    }

    fn take(&self, name: &Key, ttl: Duration) -> Option<Lease> {
        let now = Instant::now();
        let mut content = self.content();
        let held = content.leases.entry(name.clone()).or_insert(Held { fence: 0, until: None });
        if held.until.is_some_and(|until| until > now) {
            return None;
        }
        held.fence += 1;
        held.until = Some(now + ttl.min(MAX_LEASE));
        Some(Lease { name: name.clone(), fence: held.fence })
    }

    fn prolong(&self, lease: &Lease, until: Option<Instant>) -> Result<(), StorageError> {
        let mut content = self.content();
        content.check_lease(lease)?;
        if let Some(held) = content.leases.get_mut(&lease.name) {
            held.until = until;
        }
        Ok(())
    }
}

impl Storage for MemoryStorage {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Stored>, StorageError>> {
        Box::pin(async move { Ok(self.content().values.get(key).cloned()) })
    }

    fn put<'a>(
        &'a self,
        key: &'a Key,
        value: &'a [u8],
        guard: Guard<'a>,
    ) -> BoxFuture<'a, Result<Revision, StorageError>> {
        Box::pin(async move { self.write(key, value, guard) })
    }

    fn delete<'a>(&'a self, key: &'a Key, guard: Guard<'a>) -> BoxFuture<'a, Result<bool, StorageError>> {
        Box::pin(async move { self.remove(key, guard) })
    }

    fn list<'a>(&'a self, prefix: &'a Key) -> BoxFuture<'a, Result<Vec<Key>, StorageError>> {
        Box::pin(async move {
            let content = self.content();
            Ok(content.values.keys().filter(|key| key.is_below(prefix)).cloned().collect())
        })
    }

    fn acquire<'a>(
        &'a self,
        name: &'a Key,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Option<Lease>, StorageError>> {
        Box::pin(async move { Ok(self.take(name, ttl)) })
    }

    fn renew<'a>(&'a self, lease: &'a Lease, ttl: Duration) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(async move { self.prolong(lease, Some(Instant::now() + ttl.min(MAX_LEASE))) })
    }

    fn release(&self, lease: Lease) -> BoxFuture<'_, Result<(), StorageError>> {
        Box::pin(async move {
            match self.prolong(&lease, None) {
                Err(StorageError::LeaseLost(_)) => Ok(()),
                other => other,
            }
        })
    }

    fn watch(&self, prefix: &Key) -> Watch {
        self.watchers.watch(prefix)
    }

    fn durability(&self) -> Durability {
        Durability::Fleeting("it is kept in memory".to_owned())
    }

    fn place(&self) -> String {
        "memory".to_owned()
    }
}
