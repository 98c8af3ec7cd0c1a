//! One writer at a time: among our processes by `flock`, against Dovecot by its dotlock.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::error::{At, StoreError};
use super::files;

/// How long to wait for a lock that others hold.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a dotlock may stand untouched before it counts as forgotten (as in Dovecot).
const STALE: Duration = Duration::from_secs(120);
/// The same for one that does not say whose it is: its maker was killed before it could write that.
const NAMELESS: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(5);

/// An exclusive `flock`, given back by the system even when the process is killed.
#[derive(Debug)]
pub(super) struct Flock(#[expect(dead_code, reason = "held open: the lock goes when it closes")] File);

impl Flock {
    /// Waits for the lock.
    pub(super) fn wait(path: &Path) -> Result<Self, StoreError> {
        let since = Instant::now();
        loop {
            if let Some(lock) = Self::now(path)? {
                return Ok(lock);
            }
            pause(since)?;
        }
    }

    /// Takes the lock, or `None` if another has it.
    pub(super) fn now(path: &Path) -> Result<Option<Self>, StoreError> {
        let file = files::open_to_append(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(source).at(path),
        }
    }
}

/// Does something while nobody else does it.
pub(crate) fn with_file_lock<T, E: From<StoreError>>(
    path: &Path,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let _lock = Flock::wait(path)?;
    work()
}

/// The right to change a folder's UID list and what goes with it.
#[derive(Debug)]
pub(super) struct FolderLock {
    dotlock: PathBuf,
    _ours: Flock,
}

impl FolderLock {
    /// Waits for the folder's lock.
    pub(super) fn wait(dir: &Path) -> Result<Self, StoreError> {
        let ours = Flock::wait(&dir.join("waxseal-lock"))?;
        let dotlock = dir.join("dovecot-uidlist.lock");
        let since = Instant::now();
        loop {
            match files::create_new(&dotlock) {
                Ok(mut file) => {
                    // Whom to look for when the lock seems forgotten; Dovecot writes the same. In one piece, so that whoever is
                    // killed here leaves all of it or nothing.
                    let holder = format!("{}:{}", std::process::id(), files::host());
                    let _ = file.write_all(holder.as_bytes());
                    return Ok(Self { dotlock, _ours: ours });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if is_forgotten(&dotlock) {
                        let _ = fs::remove_file(&dotlock);
                        continue;
                    }
                }
                Err(error) => return Err(error).at(&dotlock),
            }
            pause(since)?;
        }
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.dotlock);
    }
}

fn pause(since: Instant) -> Result<(), StoreError> {
    if since.elapsed() > PATIENCE {
        return Err(StoreError::Locked);
    }
    std::thread::sleep(PAUSE);
    Ok(())
}

/// Whether the holder of a dotlock is dead: killed on this host, or silent for too long.
fn is_forgotten(dotlock: &Path) -> bool {
    let Ok(before) = fs::metadata(dotlock) else { return false };
    let content = fs::read_to_string(dotlock).unwrap_or_default();
    let dead = content.split_once(':').is_some_and(|(pid, holder_host)| {
        // Only one of our processes at a time is here, as `flock` is held: a dotlock with our own number is an old one's.
        let gone = |pid: u32| pid == std::process::id() || !Path::new(&format!("/proc/{pid}")).exists();
        holder_host.trim_end() == files::host() && pid.parse().is_ok_and(gone)
    });
    let age = before.modified().ok().and_then(|then| SystemTime::now().duration_since(then).ok());
    let patience = if content.contains(':') { STALE } else { NAMELESS };
    let forgotten = dead || age.is_some_and(|age| age > patience);
    // It may be another's by now.
    forgotten && fs::metadata(dotlock).is_ok_and(|now| now.ino() == before.ino())
}
