//! The files themselves: reading, replacing whole, listing.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::key::Key;
use crate::keys;
use crate::storage::{MAX_VALUE, Revision, StorageError, Stored};

/// How long another process may hold the lock of the directory, which it needs for one write.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the lock is tried.
const LOCK_POLL: Duration = Duration::from_millis(2);

const LOCK: &str = ".lock";
const TEMPORARY: &str = ".tmp";
/// Where holders of leases are; no other directory has one.
pub(super) const HOLDERS: &str = ".holders";

/// A directory of ours.
#[derive(Debug)]
pub(super) struct Directory {
    root: PathBuf,
    written: AtomicU64,
}

/// The right to change files, until dropped. Belongs to an open file, so that it is told apart from that of other
/// threads too, and the kernel takes it back from a process that dies.
#[derive(Debug)]
pub(super) struct Locked(#[expect(dead_code, reason = "held, not used")] File);

/// The error of an operation on a path.
pub(super) fn failed(what: &'static str, place: &Path) -> impl FnOnce(io::Error) -> StorageError {
    move |source| StorageError::Io { what, place: place.display().to_string(), source }
}

/// What may lie in a directory that is to become ours: the file system's own, and values that were put back from
/// somewhere without what lies beside them.
const HARMLESS: [&str; 4] = [LOCK, TEMPORARY, ".leases", "lost+found"];

/// Whether a directory is ours or may become ours. Nobody else's is closed to others, or given away.
pub(super) fn is_ours(root: &Path) -> io::Result<bool> {
    if root.join(HOLDERS).is_dir() {
        return Ok(true);
    }
    for entry in fs::read_dir(root)? {
        let name = entry?.file_name();
        if !HARMLESS.iter().chain(&keys::ROOTS).any(|own| name.to_str() == Some(own)) {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Directory {
    /// A directory that can only be read is opened all the same, and says so: what is there can be served.
    pub(super) fn open(root: &Path) -> Result<Self, StorageError> {
        make(root)?;
        if !is_ours(root).map_err(failed("read", root))? {
            let others =
                io::Error::other("it holds what is not waxseal's; name a directory of waxseal's own");
            return Err(failed("use", root)(others));
        }
        let directory = Self::view(root);
        match keep_private(root).and_then(|()| directory.sweep()) {
            // Whoever writes is told.
            Err(error) if error.is_full() || error.is_read_only() => {}
            done => done?,
        }
        Ok(directory)
    }

    /// The same directory for looking only: nothing is made or swept.
    pub(super) fn view(root: &Path) -> Self {
        Self { root: root.to_owned(), written: AtomicU64::new(0) }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// A directory of our own beside the values, made if it is not there.
    pub(super) fn own(&self, name: &str) -> Result<PathBuf, StorageError> {
        let path = self.root.join(name);
        make(&path)?;
        Ok(path)
    }

    /// Removes what those who died have left half-written: under the lock nobody else is writing.
    fn sweep(&self) -> Result<(), StorageError> {
        let _locked = self.lock()?;
        let temporary = self.own(TEMPORARY)?;
        for entry in fs::read_dir(&temporary).map_err(failed("read", &temporary))?.flatten() {
            fs::remove_file(entry.path()).map_err(failed("remove", &entry.path()))?;
        }
        Ok(())
    }

    pub(super) fn lock(&self) -> Result<Locked, StorageError> {
        let path = self.root.join(LOCK);
        let file = private().create(true).truncate(false).open(&path).map_err(failed("open", &path))?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Locked(file)),
                Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => std::thread::sleep(LOCK_POLL),
                Err(TryLockError::WouldBlock) => {
                    return Err(failed("lock", &path)(io::ErrorKind::TimedOut.into()));
                }
                Err(TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
            }
        }
    }

    pub(super) fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.as_str())
    }

    pub(super) fn read(&self, key: &Key) -> Result<Option<Stored>, StorageError> {
        let path = self.path(key);
        let Some(value) = read(&path)? else { return Ok(None) };
        if value.len() > MAX_VALUE {
            return Err(StorageError::TooLarge { key: key.clone(), bytes: value.len() });
        }
        let revision = revision(&value);
        Ok(Some(Stored { value, revision }))
    }

    /// Under [`Directory::lock`] only.
    pub(super) fn write(&self, key: &Key, value: &[u8]) -> Result<Revision, StorageError> {
        if value.len() > MAX_VALUE {
            return Err(StorageError::TooLarge { key: key.clone(), bytes: value.len() });
        }
        self.replace(&self.path(key), value)?;
        Ok(revision(value))
    }

    /// Gives `path` a new content: after a crash it has the old one or the new one, whole.
    pub(super) fn replace(&self, path: &Path, content: &[u8]) -> Result<(), StorageError> {
        let parent = path.parent().unwrap_or(&self.root);
        make(parent)?;
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let temporary = self.root.join(TEMPORARY).join(format!("{}-{number}", std::process::id()));
        let written = write_and_rename(&temporary, path, content);
        if written.is_err() {
            // What cannot be removed is swept at the next start.
            let _ = fs::remove_file(&temporary);
        }
        written?;
        sync(parent)
    }

    /// Under [`Directory::lock`] only.
    pub(super) fn remove(&self, key: &Key) -> Result<bool, StorageError> {
        let path = self.path(key);
        match fs::remove_file(&path) {
            Ok(()) => {
                sync(path.parent().unwrap_or(&self.root))?;
                Ok(true)
            }
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(failed("remove", &path)(error)),
        }
    }

    pub(super) fn list(&self, prefix: &Key) -> Result<Vec<Key>, StorageError> {
        let mut keys = Vec::new();
        self.walk(&self.path(prefix), &mut |key, _| keys.push(key))?;
        keys.sort_unstable();
        Ok(keys)
    }

    /// The key of the file at `path`, if it is one of ours.
    pub(super) fn key_of(&self, path: &Path) -> Option<Key> {
        Key::new(path.strip_prefix(&self.root).ok()?.to_str()?).ok()
    }

    /// Visits every value at and below `from`. Depth is bounded, as a path that is too deep is no key. A directory below it
    /// that may not be looked into hides no other; whoever reads a value in there is told.
    pub(super) fn walk(
        &self,
        from: &Path,
        visit: &mut dyn FnMut(Key, &fs::Metadata),
    ) -> Result<(), StorageError> {
        let entries = match fs::read_dir(from) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(failed("read", from)(error)),
        };
        for entry in entries {
            let path = entry.map_err(failed("read", from))?.path();
            let Some(key) = self.key_of(&path) else { continue };
            match fs::symlink_metadata(&path) {
                Ok(found) if found.is_dir() => match self.walk(&path, visit) {
                    Err(error) if error.is_denied() => tracing::debug!("{error}"),
                    walked => walked?,
                },
                Ok(found) if found.is_file() => visit(key, &found),
                Ok(_) => {}
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(failed("read", &path)(error)),
            }
        }
        Ok(())
    }
}

/// Whether nothing is there: no file, or one where a directory would have to be.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The content of `path`, one byte more than allowed at most; `None` where there is no file.
pub(super) fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, StorageError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(failed("read", path)(error)),
    };
    let length = file.metadata().map_or(0, |found| found.len()).min(MAX_VALUE as u64) as usize;
    let mut content = Zeroizing::new(Vec::with_capacity(length + 1));
    file.take(MAX_VALUE as u64 + 1).read_to_end(&mut content).map_err(failed("read", path))?;
    Ok(Some(content))
}

/// Contents tell revisions apart. Never kept, so that the hash may be another in the next release.
fn revision(value: &[u8]) -> Revision {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    Revision(hasher.finish())
}

/// How our files are opened for writing.
pub(super) fn private() -> OpenOptions {
    let mut options = File::options();
    options.write(true).mode(0o600);
    options
}

fn write_and_rename(temporary: &Path, path: &Path, content: &[u8]) -> Result<(), StorageError> {
    let mut file =
        private().create(true).truncate(true).open(temporary).map_err(failed("write", temporary))?;
    // Without the fsync a crash after the rename may leave an empty file under the new name.
    file.write_all(content).and_then(|()| file.sync_all()).map_err(failed("write", temporary))?;
    fs::rename(temporary, path).map_err(failed("write", path))
}

/// Makes what was renamed or removed in a directory last.
fn sync(directory: &Path) -> Result<(), StorageError> {
    File::open(directory).and_then(|opened| opened.sync_all()).map_err(failed("sync", directory))
}

fn make(directory: &Path) -> Result<(), StorageError> {
    if directory.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed("make", directory))?;
    directory.parent().map_or(Ok(()), sync)
}

/// Keys lie here: nobody else looks in.
fn keep_private(root: &Path) -> Result<(), StorageError> {
    let mode = fs::metadata(root).map_err(failed("read", root))?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    tracing::warn!("{} was open to others (mode {:o}); it is 700 now", root.display(), mode & 0o777);
    fs::set_permissions(root, fs::Permissions::from_mode(0o700)).map_err(failed("protect", root))
}
