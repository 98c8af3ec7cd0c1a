//! Files and their names in a Maildir.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use super::error::{At, StoreError};

/// The longest file name (what Linux's file systems take).
pub(super) const MAX_FILE_NAME: usize = 255;

/// A name that no other delivery has, in the form that Maildir prescribes: time, process, host.
pub(crate) fn unique_name() -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let (pid, micros) = (std::process::id(), now.subsec_micros());
    format!("{}.M{micros}P{pid}Q{count}.{}", now.as_secs(), host())
}

/// The host's name, as it stands in file names and lock files.
pub(super) fn host() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| "localhost".to_owned()).replace(['/', ':', ',', '\n'], "_")
}

/// The part of a file name that stays when flags change.
pub(super) fn base(name: &[u8]) -> &[u8] {
    name.split(|byte| *byte == b':').next().unwrap_or_default()
}

/// The letters behind `:2,`.
pub(super) fn info(name: &[u8]) -> &[u8] {
    name.get(base(name).len()..).and_then(|info| info.strip_prefix(b":2,")).unwrap_or_default()
}

/// A size that stands in a file name, as in `,S=1234`.
pub(super) fn size_in_name(name: &[u8], key: u8) -> Option<u64> {
    base(name).split(|byte| *byte == b',').skip(1).find_map(|field| {
        let digits = field.strip_prefix(&[key, b'='])?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    })
}

/// A path for a name in bytes.
pub(super) fn os(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}

/// The names of the files in a directory, not of those with a dot in front. `None`: there is no such directory.
pub(super) fn list(dir: &Path) -> Result<Option<Vec<Box<[u8]>>>, StoreError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries.at(dir)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.at(dir)?;
        let name: OsString = entry.file_name();
        let is_file = entry.file_type().is_ok_and(|kind| !kind.is_dir());
        if is_file && !name.as_bytes().starts_with(b".") {
            names.push(name.into_vec().into_boxed_slice());
        }
    }
    Ok(Some(names))
}

/// Makes a directory only we may enter; one that is there already is fine.
pub(super) fn make_dir(dir: &Path) -> Result<(), StoreError> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.at(dir),
    }
}

/// Makes a new file only we may read.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Opens a file for adding at its end; makes it if it is missing.
pub(super) fn open_to_append(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).at(path)
}

/// Makes names that were put into a directory survive a crash of the machine.
pub(super) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).at(dir)
}

/// The content of a file, or `None` if there is no such file.
pub(super) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        content => content.at(path).map(Some),
    }
}

/// The end of the names of files that are to replace others, and are left behind by a process killed before they did.
pub(super) const UNFINISHED: &str = ".tmp";

/// Replaces a file as a whole: whoever looks sees the old content or the new.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}{UNFINISHED}", unique_name()));
    let temporary = path.with_file_name(name);
    let written = create_new(&temporary).and_then(|mut file| {
        file.write_all(content)?;
        keep_owner(&file, path);
        file.sync_all()?;
        fs::rename(&temporary, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.at(path)
}

/// What root does in a directory of another user's (`waxseal account` on the mailboxes of `server.run-as`) stays that user's.
fn keep_owner(file: &File, path: &Path) {
    let (Some(Ok(dir)), Ok(ours)) = (path.parent().map(fs::metadata), file.metadata()) else { return };
    if dir.uid() != ours.uid() {
        // Only root can; for whoever is not, the file stays their own.
        let _ = std::os::unix::fs::fchown(file, Some(dir.uid()), Some(dir.gid()));
    }
}

/// What tells whether a file or directory is still as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(super) inode: u64,
    size: u64,
    pub(super) modified: Option<SystemTime>,
}

impl Stamp {
    /// The stamp of what is at `path`; the default one if nothing is there.
    pub(crate) fn of(path: &Path) -> Result<Self, StoreError> {
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            found => found.at(path).map(|found| Self {
                inode: found.ino(),
                size: found.len(),
                modified: found.modified().ok(),
            }),
        }
    }

    /// Whether the time is a whole second, as it always is on some file systems.
    pub(super) fn is_in_seconds(&self) -> bool {
        let since = self.modified.and_then(|then| then.duration_since(SystemTime::UNIX_EPOCH).ok());
        since.is_none_or(|since| since.subsec_nanos() == 0)
    }
}
