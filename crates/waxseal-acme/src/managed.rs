//! The source that serves what was obtained: bundles in storage become identities in the set of the moment.
//!
//! Every process that shares the storage has one, whoever obtains the certificates. A changed bundle is read for itself;
//! one that cannot be used changes nothing but an error line.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use waxseal_storage::{Key, Storage, StorageError, Watch, keys};
use waxseal_tls::{CertificateSet, CertificateStore, Entry, Identity};

use crate::bootstrap::{Bootstrap, BootstrapError};
use crate::bundle::Bundle;
use crate::clock::Clock;
use crate::name::Name;
use crate::target::{Target, is_covered};

/// Most bundles of other name sets that are looked at for one to stand in.
const MAX_STAND_INS: usize = 1000;

/// How often what could not be read is read again.
const READ_AGAIN: Duration = Duration::from_secs(5);

/// Certificates in storage, as they are served.
#[derive(Debug)]
pub struct Managed {
    storage: Arc<dyn Storage>,
    clock: Clock,
    bootstrap: Bootstrap,
    /// What is wanted, and what is served for it.
    served: Vec<(Target, Vec<Entry>)>,
    places: HashMap<Key, usize>,
    /// What could not be read when it changed, and is read again.
    unread: BTreeSet<usize>,
    /// When, whatever else changes meanwhile.
    read_again: Instant,
    watch: Watch,
}

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum ManagedError {
    /// Storage that cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// No certificate for names that have none.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
}

impl Managed {
    /// Reads what storage holds for `targets`.
    ///
    /// A name without a certificate gets what an earlier certificate for other names has for it, else a bootstrap
    /// certificate.
    ///
    /// # Errors
    ///
    /// [`ManagedError`]. A bundle that cannot be used is none.
    pub async fn open(
        storage: Arc<dyn Storage>,
        targets: Vec<Target>,
        clock: Clock,
    ) -> Result<Self, ManagedError> {
        // Watched first: what changes while it is read is read again.
        let watch = storage.watch(&Key::new(keys::CERTIFICATES).map_err(StorageError::from)?);
        let places =
            targets.iter().enumerate().map(|(at, target)| (target.certificate.clone(), at)).collect();
        let served = targets.into_iter().map(|target| (target, Vec::new())).collect();
        let mut managed = Self {
            storage,
            clock,
            bootstrap: Bootstrap::new()?,
            served,
            places,
            unread: BTreeSet::new(),
            read_again: Instant::now(),
            watch,
        };
        for at in 0..managed.served.len() {
            if let Err(error) = managed.read(at).await {
                // One that cannot be read stops no other.
                tracing::error!("{error}");
                managed.unread.insert(at);
            }
        }
        managed.stand_in().await?;
        Ok(managed)
    }

    /// What is served, in the order of the targets.
    pub fn entries(&self) -> Vec<Entry> {
        self.served.iter().flat_map(|(_, entries)| entries).cloned().collect()
    }

    /// Waits until something else is to be served.
    pub async fn changed(&mut self) {
        loop {
            let mut anything = false;
            let concerned: BTreeSet<usize> = tokio::select! {
                keys = self.watch.changed() => keys.iter().filter_map(|key| self.places.get(key)).copied().collect(),
                () = sleep_until(self.read_again), if !self.unread.is_empty() => {
                    self.read_again = Instant::now() + READ_AGAIN;
                    self.unread.clone()
                }
            };
            for at in concerned {
                match self.read(at).await {
                    Ok(changed) => {
                        anything |= changed;
                        self.unread.remove(&at);
                    }
                    Err(error) if self.unread.insert(at) => {
                        tracing::error!(
                            "{error}. What is served stays in use; it is read again every {} s",
                            READ_AGAIN.as_secs()
                        );
                    }
                    Err(error) => tracing::debug!("{error}"),
                }
            }
            if anything {
                return;
            }
        }
    }

    /// Keeps the set that `store` holds now up to date for the server `hostname`, until the handle is dropped or another
    /// set is published whole. Entries that are not ours stay, and all keep their order.
    pub fn publish_to(mut self, store: &Arc<CertificateStore>, hostname: &str) -> Publisher {
        let (updater, hostname) = (store.updater(), hostname.to_owned());
        Publisher(tokio::spawn(async move {
            loop {
                self.changed().await;
                updater.update(|set| self.renewed(set, &hostname));
            }
        }))
    }

    /// `set` with our entries as they are now.
    fn renewed(&self, set: &CertificateSet, hostname: &str) -> CertificateSet {
        let ours: HashMap<&str, &[Entry]> =
            self.served.iter().map(|(target, entries)| (&*target.id, entries.as_slice())).collect();
        let mut met: HashSet<&str> = HashSet::new();
        // Each in the place of its predecessor: the first of them all may be the default.
        let entries = set.entries().iter().flat_map(|entry| match ours.get(entry.id.as_str()) {
            None => std::slice::from_ref(entry),
            Some(entries) if met.insert(&entry.id) => entries,
            Some(_) => &[],
        });
        CertificateSet::new(entries.cloned().collect(), hostname).0
    }

    /// Reads the bundle of one target; whether something else is served for it from now on.
    async fn read(&mut self, at: usize) -> Result<bool, StorageError> {
        let Some((target, entries)) = self.served.get_mut(at) else { return Ok(false) };
        let Some(stored) = self.storage.get(&target.certificate).await? else {
            // Taken away by hand; what is served goes on being served until the next start.
            return Ok(false);
        };
        let now = self.clock.now();
        let identity = match identity(&stored.value, now) {
            Ok((_, identity)) => identity,
            Err(reason) => {
                tracing::error!("{target}: what is stored cannot be served: {reason}");
                return Ok(false);
            }
        };
        let fingerprint = identity.fingerprint();
        if entries.iter().any(|entry| entry.identity.fingerprint() == fingerprint) {
            return Ok(false);
        }
        if let Some(warning) = identity.validity_warning(now) {
            tracing::warn!("{target}: {warning}");
        }
        tracing::info!(serial = identity.serial(), "{target}: served from now on");
        *entries = vec![entry(target, identity)];
        Ok(true)
    }

    /// Fills what is still empty: from bundles of other name sets, and with bootstrap certificates.
    async fn stand_in(&mut self) -> Result<(), ManagedError> {
        if self.served.iter().all(|(_, entries)| !entries.is_empty()) {
            return Ok(());
        }
        let now = self.clock.now();
        let mut others = Vec::new();
        let prefix = Key::new(keys::CERTIFICATES).map_err(StorageError::from)?;
        let all = self.storage.list(&prefix).await?;
        for key in all.into_iter().filter(|key| !self.places.contains_key(key)).take(MAX_STAND_INS) {
            let Ok(Some(stored)) = self.storage.get(&key).await else { continue };
            others
                .extend(identity(&stored.value, now).ok().filter(|(_, identity)| identity.is_valid_at(now)));
        }
        for (target, entries) in self.served.iter_mut().filter(|(_, entries)| entries.is_empty()) {
            let directories = target.directories();
            let covered = |identity: &Identity| -> BTreeSet<&Name> {
                target.names.iter().filter(|name| is_covered(name, identity.names())).collect()
            };
            let fit = others.iter().filter(|(bundle, _)| directories.contains(&bundle.directory.as_str()));
            let best = fit
                .map(|(_, identity)| (covered(identity), identity))
                .max_by_key(|(names, identity)| (names.len(), identity.not_after()))
                .filter(|(names, _)| !names.is_empty());
            if let Some((names, identity)) = &best {
                tracing::info!(
                    "{target}: until the new one is there, {} of its {} names are served from the certificate {}",
                    names.len(),
                    target.names.len(),
                    identity.serial()
                );
                entries.push(entry(target, Arc::clone(identity)));
            }
            let known = best.map(|(names, _)| names).unwrap_or_default();
            let bare: Vec<Name> = target.names.iter().filter(|name| !known.contains(name)).cloned().collect();
            if !bare.is_empty() {
                entries.push(entry(target, self.bootstrap.certify(&bare, now)?));
            }
        }
        Ok(())
    }
}

fn entry(target: &Target, identity: Arc<Identity>) -> Entry {
    Entry { id: target.id.to_string(), identity, default: target.settings.default }
}

/// What is stored, as it can be served; or why it cannot.
pub(crate) fn identity(stored: &[u8], now: i64) -> Result<(Bundle, Arc<Identity>), String> {
    let bundle = Bundle::read(stored).map_err(|error| error.to_string())?;
    let (identity, _) = Identity::from_pem_at(bundle.chain.as_bytes(), bundle.key.as_bytes(), &[], now)
        .map_err(|error| error.to_string())?;
    Ok((bundle, Arc::new(identity)))
}

/// Publishes until it is dropped.
#[derive(Debug)]
pub struct Publisher(JoinHandle<()>);

impl Drop for Publisher {
    fn drop(&mut self) {
        self.0.abort();
    }
}
