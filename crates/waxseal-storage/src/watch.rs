//! Word of changes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;

use crate::key::Key;

/// Keys that have changed, gathered until they are asked for: however slow the reader, each key waits once.
#[derive(Debug)]
pub struct Watch(Arc<Pending>);

#[derive(Debug)]
struct Pending {
    prefix: Key,
    changed: Mutex<BTreeSet<Key>>,
    news: Notify,
}

impl Pending {
    fn take(&self) -> Vec<Key> {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *changed).into_iter().collect()
    }
}

impl Watch {
    /// Waits until keys have changed and says which. A key may be named though its value is the same as before.
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn changed(&mut self) -> Vec<Key> {
        loop {
            let news = self.0.news.notified();
            let keys = self.0.take();
            if !keys.is_empty() {
                return keys;
            }
            news.await;
        }
    }
}

/// Those who watch a storage.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Mutex<Vec<Weak<Pending>>>);

impl Watchers {
    pub(crate) fn watch(&self, prefix: &Key) -> Watch {
        let pending =
            Arc::new(Pending { prefix: prefix.clone(), changed: Mutex::default(), news: Notify::new() });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&pending));
        Watch(pending)
    }

    /// Tells all whom it concerns, and forgets those who are gone.
    pub(crate) fn tell(&self, key: &Key) {
        let mut watchers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|watcher| {
            let Some(pending) = watcher.upgrade() else { return false };
            if key.is_below(&pending.prefix) {
                pending.changed.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
                pending.news.notify_one();
            }
            true
        });
    }
}
