//! What of an account's quota is used: `maildirsize`, as Maildir++ prescribes.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use super::error::{At, StoreError};
use super::files;

const NAME: &str = "maildirsize";
/// A longer file is counted anew (the figure of Maildir++).
const MAX_FILE: usize = 5120;

/// Bytes used according to the file; counted anew when it is missing, made for another limit, or long.
pub(super) fn used(root: &Path, limit: u64) -> Result<u64, StoreError> {
    let content = files::read_if_there(&root.join(NAME))?.unwrap_or_default();
    let sum = if content.len() > MAX_FILE { None } else { parse(&String::from_utf8_lossy(&content), limit) };
    sum.map_or_else(|| recount(root, Some(limit)), Ok)
}

fn parse(content: &str, limit: u64) -> Option<u64> {
    let mut lines = content.lines();
    (lines.next()? == header(limit)).then_some(())?;
    let mut sum = 0_i64;
    for line in lines {
        sum = sum.checked_add(line.split_ascii_whitespace().next()?.parse().ok()?)?;
    }
    u64::try_from(sum).ok()
}

fn header(limit: u64) -> String {
    format!("{limit}S")
}

/// Bytes used according to the files themselves; noted in the file if there is a limit.
pub(super) fn recount(root: &Path, limit: Option<u64>) -> Result<u64, StoreError> {
    let (mut bytes, mut messages) = (0_u64, 0_u64);
    let mut count = |dir: &Path| -> Result<(), StoreError> {
        for kind in ["new", "cur"] {
            let dir = dir.join(kind);
            for name in files::list(&dir)?.unwrap_or_default() {
                // A file may go while we count.
                let size = files::size_in_name(&name, b'S')
                    .or_else(|| std::fs::metadata(dir.join(files::os(&name))).ok().map(|found| found.len()));
                bytes = bytes.saturating_add(size.unwrap_or_default());
                messages += 1;
            }
        }
        Ok(())
    };
    count(root)?;
    for dir in folder_dirs(root)? {
        count(&root.join(dir))?;
    }
    if let Some(limit) = limit {
        files::replace(
            &root.join(NAME),
            format!("{}\n{bytes:12} {messages:12}\n", header(limit)).as_bytes(),
        )?;
    }
    Ok(bytes)
}

/// Notes that bytes and messages came (or went, if negative).
pub(super) fn note(root: &Path, bytes: i64, messages: i64) -> Result<(), StoreError> {
    let path = root.join(NAME);
    if !path.exists() {
        // Counted when next asked.
        return Ok(());
    }
    let mut line = String::new();
    let _ = writeln!(line, "{bytes:12} {messages:12}");
    files::open_to_append(&path)?.write_all(line.as_bytes()).at(&path)
}

/// The directories of the folders below INBOX.
pub(super) fn folder_dirs(root: &Path) -> Result<Vec<String>, StoreError> {
    let mut dirs = Vec::new();
    for entry in std::fs::read_dir(root).at(root)? {
        let entry = entry.at(root)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        // ".." in front is how Dovecot, and we, set aside what is being removed.
        if name.starts_with('.') && !name.starts_with("..") && entry.path().is_dir() {
            dirs.push(name);
        }
    }
    Ok(dirs)
}
