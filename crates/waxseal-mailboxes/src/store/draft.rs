//! A message on its way into the store.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::error::{At, StoreError};
use super::files;

/// A message on its way in: write its bytes, then give it to [`Mailbox::save`](super::Mailbox::save) or
/// [`Mailbox::deliver`](super::Mailbox::deliver). Dropped, it is gone.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    name: String,
    file: BufWriter<File>,
    bytes: u64,
    /// Line feeds without a carriage return: the message is this much longer when given out.
    bare: u64,
    last: u8,
    finished: bool,
}

impl Draft {
    pub(super) fn new(tmp: &Path) -> Result<Self, StoreError> {
        let name = files::unique_name();
        let path = tmp.join(&name);
        let file = match files::create_new(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                files::make_dir(tmp)?;
                files::create_new(&path)
            }
            made => made,
        };
        let file = BufWriter::with_capacity(64 << 10, file.at(&path)?);
        Ok(Self { path, name, file, bytes: 0, bare: 0, last: 0, finished: false })
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What was written so far, from its beginning.
    ///
    /// # Errors
    /// What the disk says.
    pub fn reader(&mut self) -> Result<File, StoreError> {
        self.file.flush().at(&self.path)?;
        File::open(&self.path).at(&self.path)
    }

    /// Puts everything on disk, and says under which name the message is to be known.
    pub(super) fn finish(&mut self, internal_date: Option<SystemTime>) -> Result<String, StoreError> {
        self.file.flush().at(&self.path)?;
        let file = self.file.get_ref();
        if let Some(date) = internal_date {
            // Dovecot too keeps INTERNALDATE in the file's time of change. A date the file system cannot hold is left out.
            let _ = file.set_modified(date);
        }
        file.sync_all().at(&self.path)?;
        Ok(format!("{},S={},W={}", self.name, self.bytes, self.bytes + self.bare))
    }

    /// Gives the message its place. The directory is not yet synced.
    pub(super) fn rename(&mut self, to: &Path) -> Result<(), StoreError> {
        fs::rename(&self.path, to).at(to)?;
        self.finished = true;
        Ok(())
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        for byte in bytes.iter().take(count) {
            if *byte == b'\n' && self.last != b'\r' {
                self.bare += 1;
            }
            self.last = *byte;
        }
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes what killed processes have left in a directory under names with this end, after the time that Maildir prescribes.
pub(super) fn sweep(dir: &Path, end: &str) -> Result<(), StoreError> {
    const FORGOTTEN: std::time::Duration = std::time::Duration::from_secs(36 * 3600);
    for name in files::list(dir)?.unwrap_or_default() {
        if !name.ends_with(end.as_bytes()) {
            continue;
        }
        let path = dir.join(files::os(&name));
        let age =
            fs::metadata(&path).and_then(|found| found.modified()).ok().and_then(|then| then.elapsed().ok());
        if age.is_some_and(|age| age > FORGOTTEN) {
            let _ = fs::remove_file(path);
        }
    }
    Ok(())
}

/// The message with CRLF line ends.
pub(super) fn with_crlf(content: Vec<u8>) -> Vec<u8> {
    let mut last = 0;
    let bare = memchr::memchr_iter(b'\n', &content)
        .filter(|at| at.checked_sub(1).and_then(|before| content.get(before)) != Some(&b'\r'))
        .count();
    if bare == 0 {
        return content;
    }
    let mut out = Vec::with_capacity(content.len() + bare);
    for byte in content {
        if byte == b'\n' && last != b'\r' {
            out.push(b'\r');
        }
        out.push(byte);
        last = byte;
    }
    out
}
