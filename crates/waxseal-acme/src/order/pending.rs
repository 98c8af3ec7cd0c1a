//! The order in flight: its address at the CA and the key it is for, so that a process that dies does not waste it.
//! It is written down before the CA is asked, and again with the address once that is known.

use serde::{Deserialize, Serialize};
use waxseal_storage::{Guard, Key, Storage, keys};
use zeroize::Zeroizing;

use crate::issuer::{IssueError, OrderRequest, Stage};
use crate::settings::KeyType;
use crate::words;

/// What is kept of an order.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Pending {
    /// The CA.
    pub(super) directory: String,
    /// The order's address; `None` while the CA is asked for it.
    pub(super) url: Option<String>,
    /// The key that the certificate will be for, PEM.
    pub(super) key: Zeroizing<String>,
    /// The profile asked for.
    #[serde(default)]
    pub(super) profile: Option<String>,
}

/// Where it is kept.
pub(super) struct Place<'a> {
    storage: &'a dyn Storage,
    key: Key,
}

impl<'a> Place<'a> {
    pub(super) fn new(storage: &'a dyn Storage, want: &OrderRequest) -> Result<Self, IssueError> {
        let key = keys::order(&want.name_texts(), want.key_type.as_str());
        Ok(Self { storage, key: key.map_err(|e| words::storage(Stage::Order, &e.into()))? })
    }

    /// The order that an earlier process left, if it is one that would serve `want` at the CA of `directory`.
    pub(super) async fn read(
        &self,
        directory: &str,
        want: &OrderRequest,
    ) -> Result<Option<Pending>, IssueError> {
        let stored = self.storage.get(&self.key).await.map_err(|e| words::storage(Stage::Order, &e))?;
        let pending = stored.and_then(|it| serde_json::from_slice::<Pending>(&it.value).ok());
        Ok(pending.filter(|it| {
            it.directory == directory
                && it.profile == want.profile
                && want.reuse_key.as_ref().is_none_or(|key| *key == it.key)
        }))
    }

    /// The orders in flight for the same names with other kinds of keys, and where they are kept.
    pub(super) async fn siblings(&self, want: &OrderRequest) -> Result<Vec<(Key, Pending)>, IssueError> {
        let mut siblings = Vec::new();
        for kind in KeyType::ALL.into_iter().filter(|kind| *kind != want.key_type) {
            let key = keys::order(&want.name_texts(), kind.as_str());
            let key = key.map_err(|e| words::storage(Stage::Order, &e.into()))?;
            let stored = self.storage.get(&key).await.map_err(|e| words::storage(Stage::Order, &e))?;
            let pending = stored.and_then(|it| serde_json::from_slice::<Pending>(&it.value).ok());
            siblings.extend(pending.map(|pending| (key, pending)));
        }
        Ok(siblings)
    }

    /// Forgets that the order at `url` was in flight for another kind of key: a CA gives the one that is open for these
    /// names to whoever asks, and it serves one key.
    pub(super) async fn forget_siblings(&self, want: &OrderRequest, url: &str) -> Result<(), IssueError> {
        for (key, pending) in self.siblings(want).await? {
            if pending.url.as_deref() == Some(url) {
                let deleted = self.storage.delete(&key, Guard::Always).await;
                deleted.map_err(|e| words::storage(Stage::Challenge, &e))?;
            }
        }
        Ok(())
    }

    pub(super) async fn keep(&self, pending: &Pending) -> Result<(), IssueError> {
        let value = Zeroizing::new(serde_json::to_vec(pending).unwrap_or_default());
        let written = self.storage.put(&self.key, &value, Guard::Always).await;
        // From its address on the order stands at the CA.
        let stage = if pending.url.is_none() { Stage::Order } else { Stage::Challenge };
        written.map(drop).map_err(|e| words::storage(stage, &e))
    }

    /// The order is of no use any more. Where that cannot be written down, the next attempt finds out again.
    pub(super) async fn forget(&self) {
        if let Err(error) = self.storage.delete(&self.key, Guard::Always).await {
            tracing::warn!(key = %self.key, %error, "an order that has ended cannot be forgotten");
        }
    }
}
