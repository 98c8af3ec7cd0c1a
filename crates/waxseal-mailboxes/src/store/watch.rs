//! Who is told when something happens in a directory.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use notify::event::ModifyKind;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::watch;

use super::core::Core;

/// How often the directories are looked at where the system tells nothing (its watches are used up, or a network file system).
const POLL: Duration = Duration::from_millis(500);
/// How often they are looked at although the system tells.
const POLL_ANYWAY: Duration = Duration::from_secs(20);

type Table = Arc<Mutex<HashMap<PathBuf, watch::Sender<()>>>>;

/// The system's watches, one per directory.
#[derive(Debug, Default)]
pub(super) struct Watches {
    table: Table,
    watcher: Mutex<Option<RecommendedWatcher>>,
}

impl Watches {
    /// Has `sender` told of what happens in `dir`; `false` if the system cannot.
    pub(super) fn add(&self, dir: &Path, sender: watch::Sender<()>) -> bool {
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        if watcher.is_none() {
            let table = Arc::clone(&self.table);
            *watcher = notify::recommended_watcher(move |event| tell(&table, event)).ok();
        }
        let Some(watcher) = watcher.as_mut() else { return false };
        if watcher.watch(dir, RecursiveMode::NonRecursive).is_err() {
            return false;
        }
        self.table.lock().unwrap_or_else(PoisonError::into_inner).insert(dir.to_owned(), sender);
        true
    }

    /// Ends what [`add`](Self::add) began, unless another is told of that directory by now.
    pub(super) fn remove(&self, dir: &Path, sender: &watch::Sender<()>) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = table.get(dir).is_some_and(|told| told.same_channel(sender));
        if ours {
            table.remove(dir);
        }
        drop(table);
        if ours {
            let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(watcher) = watcher.as_mut() {
                let _ = watcher.unwatch(dir);
            }
        }
    }
}

fn tell(table: &Mutex<HashMap<PathBuf, watch::Sender<()>>>, event: notify::Result<Event>) {
    let table = table.lock().unwrap_or_else(PoisonError::into_inner);
    let Ok(event) = event else {
        // Events were lost: anything may have happened.
        for sender in table.values() {
            sender.send_replace(());
        }
        return;
    };
    let matters = matches!(
        event.kind,
        EventKind::Create(_)
            | EventKind::Remove(_)
            | EventKind::Modify(ModifyKind::Name(_))
            | EventKind::Other
    );
    if !matters {
        return;
    }
    for path in &event.paths {
        let dirs = [Some(path.as_path()), path.parent()];
        for sender in dirs.into_iter().flatten().filter_map(|dir| table.get(dir)) {
            sender.send_replace(());
        }
    }
}

/// Says when a folder may have changed. The one asynchronous thing of the store.
#[derive(Debug)]
pub struct Watch {
    receiver: watch::Receiver<()>,
    core: Weak<Core>,
    told_by_system: bool,
    seen: Option<[super::files::Stamp; 2]>,
}

impl Watch {
    pub(super) fn new(core: &Arc<Core>, receiver: watch::Receiver<()>, told_by_system: bool) -> Self {
        Self { receiver, core: Arc::downgrade(core), told_by_system, seen: core.dir_stamps().ok() }
    }

    /// Returns once something in the folder may have changed since the last call (or since
    /// [`Folder::watch`](super::Folder::watch)), by whatever process, within a second. May say so for nothing. Cancel-safe.
    pub async fn changed(&mut self) {
        loop {
            let pause = if self.told_by_system { POLL_ANYWAY } else { POLL };
            tokio::select! {
                told = self.receiver.changed() => {
                    if told.is_err() {
                        // The folder is no longer open anywhere: there is nothing to be told of.
                        std::future::pending::<()>().await;
                    }
                    self.seen = None;
                    return;
                }
                () = tokio::time::sleep(pause) => {
                    let Some(core) = self.core.upgrade() else { continue };
                    let found = tokio::task::spawn_blocking(move || core.dir_stamps().ok()).await.ok().flatten();
                    let before = self.seen;
                    self.seen = found;
                    if before.is_some() && before != found {
                        return;
                    }
                }
            }
        }
    }
}
