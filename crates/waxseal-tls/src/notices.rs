//! Notices of the file system: which directories to watch so that no way of replacing a file goes unseen.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// The most links that are followed on the way to one file, as in the kernel.
const MAX_LINKS: usize = 40;

/// Directories watched on behalf of files.
pub(crate) struct Notices {
    /// `None` where the system gives no notices (its limits are reached): then contents are only compared.
    watcher: Option<RecommendedWatcher>,
    directories: BTreeSet<PathBuf>,
}

impl Notices {
    /// Rings `changed` whenever something happens in a watched directory.
    pub(crate) fn new(changed: Arc<Notify>) -> Self {
        let ring = move |event: notify::Result<Event>| {
            if !event.is_ok_and(|event| is_a_reading(event.kind)) {
                changed.notify_one();
            }
        };
        let watcher = notify::recommended_watcher(ring)
            .inspect_err(|error| {
                tracing::warn!("certificate files cannot be watched, only compared: {error}");
            })
            .ok();
        Self { watcher, directories: BTreeSet::new() }
    }

    /// Watches whatever `files` depend on at this moment.
    pub(crate) fn watch<'f>(&mut self, files: impl Iterator<Item = &'f Path>) {
        let Some(watcher) = &mut self.watcher else { return };
        let mut wanted = BTreeSet::new();
        for file in files {
            directories_of(file, &mut wanted);
        }
        for gone in self.directories.difference(&wanted) {
            let _ = watcher.unwatch(gone);
        }
        // Those watched already too: a directory that was replaced has lost its watch. One that cannot be watched is
        // still compared.
        for directory in &wanted {
            let _ = watcher.watch(directory, RecursiveMode::NonRecursive);
        }
        self.directories = wanted;
    }
}

/// Our own reading must not set us off again.
fn is_a_reading(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

/// The parent of every link on the way to `file`, and of what they lead to.
///
/// A file replaced by renaming, a link switched (certbot), a linked directory switched (`..data` in Kubernetes) and a
/// file written in place each show in one of them, and in no other.
fn directories_of(file: &Path, directories: &mut BTreeSet<PathBuf>) {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let mut rest: Vec<PathBuf> = parts(&absolute);
    let mut reached = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = rest.pop() {
        if part == Path::new("..") {
            reached.pop();
            continue;
        }
        let next = reached.join(&part);
        match std::fs::read_link(&next) {
            Ok(target) if links < MAX_LINKS => {
                links += 1;
                directories.insert(reached.clone());
                if target.is_absolute() {
                    reached = PathBuf::from("/");
                }
                rest.extend(parts(&target));
            }
            _ if !next.is_dir() => {
                // The file itself, or whatever is missing on the way to it.
                directories.insert(reached);
                return;
            }
            _ => reached = next,
        }
    }
}

/// The names in a path, the last one first.
fn parts(path: &Path) -> Vec<PathBuf> {
    let named = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    named.map(|part| PathBuf::from(part.as_os_str())).rev().collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn of(file: &Path) -> Vec<PathBuf> {
        let mut directories = BTreeSet::new();
        directories_of(file, &mut directories);
        directories.into_iter().collect()
    }

    #[test]
    fn every_directory_in_which_a_switch_can_show_is_watched() {
        let root = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(root.path()).unwrap();
        for directory in ["plain", "live", "archive", "mount/..2026_01"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        for file in ["plain/cert.pem", "archive/cert1.pem", "mount/..2026_01/tls.crt"] {
            fs::write(root.join(file), "").unwrap();
        }
        symlink("../archive/cert1.pem", root.join("live/cert.pem")).unwrap();
        symlink("..2026_01", root.join("mount/..data")).unwrap();
        symlink("..data/tls.crt", root.join("mount/tls.crt")).unwrap();
        symlink(root.join("live"), root.join("elsewhere")).unwrap();

        assert_eq!(of(&root.join("plain/cert.pem")), [root.join("plain")]);
        assert_eq!(of(&root.join("plain/missing.pem")), [root.join("plain")]);
        assert_eq!(of(&root.join("nowhere/at/all.pem")), std::slice::from_ref(&root));
        assert_eq!(of(&root.join("live/cert.pem")), [root.join("archive"), root.join("live")]);
        assert_eq!(of(&root.join("mount/tls.crt")), [root.join("mount"), root.join("mount/..2026_01")]);
        assert_eq!(
            of(&root.join("elsewhere/cert.pem")),
            [root.clone(), root.join("archive"), root.join("live")]
        );
        symlink("loop", root.join("loop")).unwrap();
        assert_eq!(of(&root.join("loop")), [root]);
    }
}
