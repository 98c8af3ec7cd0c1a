//! Leases in files: a number that grows with each holder, who it is, and until when.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::directory::{Directory, HOLDERS, failed, private, read};
use crate::key::Key;
use crate::storage::{Lease, MAX_LEASE, StorageError};

const LEASES: &str = ".leases";

/// We, as a holder of leases: a file that we keep locked while we live. A lease whose holder's file is not locked is
/// free at once, without waiting for its end.
#[derive(Debug)]
pub(super) struct Holder {
    name: String,
    path: PathBuf,
    /// Leases given back by us of which that could not be written, as on a full disk: free for ourselves at once.
    given_back: Mutex<BTreeMap<Key, u64>>,
    #[expect(dead_code, reason = "held, not used")]
    life: File,
}

/// What stands in a lease's file. It stays after the lease ends, for the fence.
#[derive(Serialize, Deserialize)]
struct Record {
    fence: u64,
    holder: String,
    /// Milliseconds since 1970; 0 once given back.
    until: u64,
}

impl Record {
    /// Whether a holder that lives holds it. An end farther away than any lease is given for was written by a clock
    /// that has been set back since.
    fn is_held(&self, holders: &Path) -> bool {
        let now = unix_millis();
        let plausible = now + millis(MAX_LEASE);
        self.until > now && self.until <= plausible && lives(&holders.join(&self.holder))
    }
}

fn unix_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Whether a process keeps the file locked. What cannot be known is taken for life: its lease ends by time.
fn lives(holder: &Path) -> bool {
    match File::open(holder) {
        Ok(file) => file.try_lock().is_err(),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

impl Holder {
    /// Makes us known, and removes the files of those who have died.
    pub(super) fn register(directory: &Directory) -> Result<Self, StorageError> {
        let holders = directory.own(HOLDERS)?;
        let _locked = directory.lock()?;
        for entry in fs::read_dir(&holders).map_err(failed("read", &holders))?.flatten() {
            if !lives(&entry.path()) {
                match fs::remove_file(entry.path()) {
                    // Another process that ends removes its own.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    removed => removed.map_err(failed("remove", &entry.path()))?,
                }
            }
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let name = format!("{}-{since}", std::process::id());
        let path = holders.join(&name);
        let life = private().create_new(true).open(&path).map_err(failed("make", &path))?;
        life.lock().map_err(failed("lock", &path))?;
        Ok(Self { name, path, given_back: Mutex::default(), life })
    }

    pub(super) fn acquire(
        &self,
        directory: &Directory,
        name: &Key,
        ttl: Duration,
    ) -> Result<Option<Lease>, StorageError> {
        let _locked = directory.lock()?;
        let before = record(directory, name)?;
        let holders = directory.root().join(HOLDERS);
        if before.as_ref().is_some_and(|record| record.is_held(&holders) && !self.gave_back(name, record)) {
            return Ok(None);
        }
        let fence = before.map_or(0, |record| record.fence) + 1;
        let lease = Lease { name: name.clone(), fence };
        self.write(directory, &lease, ttl)?;
        self.given_back().remove(name);
        Ok(Some(lease))
    }

    fn given_back(&self) -> MutexGuard<'_, BTreeMap<Key, u64>> {
        self.given_back.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gave_back(&self, name: &Key, record: &Record) -> bool {
        record.holder == self.name && self.given_back().get(name) == Some(&record.fence)
    }

    pub(super) fn release(&self, directory: &Directory, lease: &Lease) -> Result<(), StorageError> {
        let _locked = directory.lock()?;
        match check(directory, lease) {
            Ok(()) => {
                let ended = Record { fence: lease.fence, holder: String::new(), until: 0 };
                let written = write(directory, lease, &ended);
                if written.is_err() {
                    self.given_back().insert(lease.name.clone(), lease.fence);
                }
                written
            }
            Err(StorageError::LeaseLost(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn renew(
        &self,
        directory: &Directory,
        lease: &Lease,
        ttl: Duration,
    ) -> Result<(), StorageError> {
        let _locked = directory.lock()?;
        check(directory, lease)?;
        self.write(directory, lease, ttl)
    }

    fn write(&self, directory: &Directory, lease: &Lease, ttl: Duration) -> Result<(), StorageError> {
        let until = unix_millis() + millis(ttl.min(MAX_LEASE));
        write(directory, lease, &Record { fence: lease.fence, holder: self.name.clone(), until })
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // What stays is removed by the next one who registers.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether `lease` has not passed to another; under the directory's lock only.
pub(super) fn check(directory: &Directory, lease: &Lease) -> Result<(), StorageError> {
    match record(directory, &lease.name)? {
        Some(record) if record.fence == lease.fence && record.until != 0 => Ok(()),
        _ => Err(StorageError::LeaseLost(lease.name.clone())),
    }
}

fn path(directory: &Directory, name: &Key) -> PathBuf {
    // No key has a tilde.
    directory.root().join(LEASES).join(name.as_str().replace('/', "~"))
}

fn record(directory: &Directory, name: &Key) -> Result<Option<Record>, StorageError> {
    let path = path(directory, name);
    let Some(content) = read(&path)? else { return Ok(None) };
    Ok(Some(serde_json::from_slice(&content).unwrap_or_else(|error| {
        tracing::error!("{} is no lease ({error}); it is taken for one that has ended", path.display());
        // Beyond any number that was given before, as none grows once a millisecond.
        Record { fence: unix_millis(), holder: String::new(), until: 0 }
    })))
}

fn write(directory: &Directory, lease: &Lease, record: &Record) -> Result<(), StorageError> {
    let path = path(directory, &lease.name);
    let text = serde_json::to_vec(record).map_err(|error| failed("write", &path)(error.into()))?;
    directory.replace(&path, &text)
}
