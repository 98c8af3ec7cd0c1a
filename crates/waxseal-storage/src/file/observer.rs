//! Sees what other processes change: told by the system, and looking for itself now and then, as not every file
//! system tells.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use super::directory::Directory;
use super::mount;
use crate::key::Key;
use crate::storage::StorageError;
use crate::watch::Watchers;

/// How often files are looked at where the system tells of changes.
const POLL: Duration = Duration::from_secs(30);
/// How often where it does not.
const POLL_UNTOLD: Duration = Duration::from_secs(2);

/// A thread that ends soon after this is dropped.
#[derive(Debug)]
pub(super) struct Observer {
    // Dropped first: no more news come, the channel closes, the thread ends.
    _system: Option<RecommendedWatcher>,
    _news: Sender<News>,
}

#[derive(Debug)]
enum News {
    Paths(Vec<PathBuf>),
    /// Something was missed.
    Anything,
}

impl Observer {
    pub(super) fn start(directory: &Directory, watchers: Arc<Watchers>) -> Self {
        let (sender, receiver) = channel();
        let system = match system(directory.root(), sender.clone()) {
            Ok(system) => Some(system),
            Err(error) => {
                tracing::warn!("{}: changes are seen by looking only: {error}", directory.root().display());
                None
            }
        };
        let told = system.is_some() && !mount::is_shared(directory.root());
        let poll = if told { POLL } else { POLL_UNTOLD };
        match Sight::new(directory.root(), watchers) {
            Ok(sight) => {
                let looking = std::thread::Builder::new().name("storage".to_owned());
                if let Err(error) = looking.spawn(move || sight.look_on(&receiver, poll)) {
                    tracing::error!("changes by other processes are not seen: {error}");
                }
            }
            Err(error) => tracing::error!("changes by other processes are not seen: {error}"),
        }
        Self { _system: system, _news: sender }
    }
}

fn system(root: &Path, news: Sender<News>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let told = match event {
            Ok(event) if event.need_rescan() => News::Anything,
            Ok(event) if event.kind.is_access() => return,
            Ok(event) => News::Paths(event.paths),
            Err(_) => News::Anything,
        };
        // Nobody listens any more when we are being dropped.
        let _ = news.send(told);
    })?;
    watcher.watch(root, RecursiveMode::Recursive)?;
    Ok(watcher)
}

/// What was seen of the files when they were last looked at.
struct Sight {
    directory: Directory,
    seen: BTreeMap<Key, Mark>,
    watchers: Arc<Watchers>,
}

/// Another file, or the same one written again or made readable: each replacement is a new inode, and each change of
/// its permissions another time of change.
type Mark = (u64, [i64; 4], u64);

fn mark(found: &Metadata) -> Mark {
    let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
    (found.ino(), times, found.len())
}

impl Sight {
    fn new(root: &Path, watchers: Arc<Watchers>) -> Result<Self, StorageError> {
        let mut sight = Self { directory: Directory::view(root), seen: BTreeMap::new(), watchers };
        sight.seen = sight.marks(root)?;
        Ok(sight)
    }

    fn look_on(mut self, news: &Receiver<News>, poll: Duration) {
        let root = self.directory.root().to_owned();
        let mut next = Instant::now() + poll;
        loop {
            match news.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(News::Paths(paths)) => paths.iter().for_each(|path| self.look_at(path)),
                Ok(News::Anything) | Err(RecvTimeoutError::Timeout) => {
                    self.look_at(&root);
                    next = Instant::now() + poll;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Compares what is at and below `path` with what was, and tells.
    fn look_at(&mut self, path: &Path) {
        let root = path == self.directory.root();
        let key = self.directory.key_of(path);
        if !root && key.is_none() {
            return; // one of our own files beside the values
        }
        let now = match self.marks(path) {
            Ok(now) => now,
            Err(error) => {
                tracing::debug!("{error}");
                return;
            }
        };
        let concerned = |it: &Key| key.as_ref().is_none_or(|key| it == key || it.is_below(key));
        let before: Vec<Key> = self.seen.keys().filter(|it| concerned(it)).cloned().collect();
        let all: BTreeSet<Key> = before.into_iter().chain(now.keys().cloned()).collect();
        for key in all {
            if now.get(&key) != self.seen.get(&key) {
                match now.get(&key) {
                    Some(mark) => self.seen.insert(key.clone(), *mark),
                    None => self.seen.remove(&key),
                };
                self.watchers.tell(&key);
            }
        }
    }

    fn marks(&self, path: &Path) -> Result<BTreeMap<Key, Mark>, StorageError> {
        let mut marks = BTreeMap::new();
        if let (Some(key), Ok(found)) = (self.directory.key_of(path), std::fs::symlink_metadata(path))
            && found.is_file()
        {
            marks.insert(key, mark(&found));
            return Ok(marks);
        }
        self.directory.walk(path, &mut |key, found| {
            marks.insert(key, mark(found));
        })?;
        Ok(marks)
    }
}
