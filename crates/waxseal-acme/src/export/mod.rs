//! Certificates as files, for programs that need them so, kept up to date after each renewal.
//!
//! What is to be written where stands in storage, so that whichever process sees a new certificate does it. Twice does no
//! harm: files that are right are left alone, and the command is run once for each certificate where nothing goes wrong.

mod files;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use waxseal_storage::{Guard, Key, KeyError, Revision, Storage, StorageError, Watch, keys};

use crate::child;
use crate::clock::Clock;
use crate::managed;
use crate::target::Target;
use files::Content;

/// Exports that are looked at.
const MAX_EXPORTS: usize = 1000;
/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(60);
/// After how long one that failed is tried again.
const AGAIN: Duration = Duration::from_secs(3600);
/// Mode of the certificate's file: it is no secret.
const PUBLIC: u32 = 0o644;

/// A certificate that is kept in files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Export {
    /// One of its names, or what it is called.
    pub name: String,
    /// Where the chain goes.
    pub certificate: PathBuf,
    /// Where the key goes.
    pub key: PathBuf,
    /// Whose the files are: `USER`, `USER:GROUP` or `:GROUP`.
    pub owner: Option<String>,
    /// The mode of the key's file.
    pub mode: u32,
    /// What is run after they have changed, by a shell.
    pub run: Option<String>,
    /// The serial of the certificate that was written, and that the command was run for.
    pub done: Option<String>,
}

/// Why files are not what they should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// Nothing of that name is obtained.
    #[error("no certificate from a CA is called {0:?}; `waxseal cert list` shows all")]
    Unknown(String),
    /// More than one.
    #[error("{0:?} is more than one certificate; say which: {ids}", ids = .1.join(", "))]
    Several(String, Vec<String>),
    /// What is stored.
    #[error("what is stored cannot be used: {0}")]
    Unfit(String),
    /// A file.
    #[error("{path}: {source}{remedy}", path = path.display(), remedy = remedy(source))]
    File {
        /// Which.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The owner, or the command.
    #[error("{0}")]
    Told(String),
    /// Storage.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

fn remedy(error: &io::Error) -> String {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return String::new();
    }
    format!(
        ". Files are written as the user that the server runs as (server.run-as), here number {}: let that user write to \
         the directory; another owner can only be given by root, another group by one of its members",
        geteuid()
    )
}

impl From<KeyError> for ExportError {
    fn from(error: KeyError) -> Self {
        Self::Storage(error.into())
    }
}

impl Export {
    /// Which of `targets` it is of.
    ///
    /// # Errors
    ///
    /// None of them, or several.
    pub fn target<'a>(&self, targets: &'a [Target]) -> Result<&'a Target, ExportError> {
        if let Some(exact) = targets.iter().find(|target| *target.id == *self.name) {
            return Ok(exact);
        }
        let called: Vec<&Target> = targets.iter().filter(|target| target.is_called(&self.name)).collect();
        match called.as_slice() {
            [] => Err(ExportError::Unknown(self.name.clone())),
            [one] => Ok(one),
            several => {
                let ids = several.iter().map(|target| format!("{:?}", target.id)).collect();
                Err(ExportError::Several(self.name.clone(), ids))
            }
        }
    }

    /// Writes the files and runs the command where either is still to be done for the certificate in `storage`; the
    /// serial of that, unless there is none yet.
    ///
    /// # Errors
    ///
    /// [`ExportError`]. What was written stays.
    pub async fn bring(
        &mut self,
        storage: &dyn Storage,
        target: &Target,
        now: i64,
    ) -> Result<Option<String>, ExportError> {
        let Some(stored) = storage.get(&target.certificate).await? else { return Ok(None) };
        let (bundle, identity) = managed::identity(&stored.value, now).map_err(ExportError::Unfit)?;
        let this = self.clone();
        // Files, and a name service that may be slow.
        let written = tokio::task::spawn_blocking(move || {
            let owner = this.owner.as_deref().map_or(Ok((None, None)), files::owner);
            let owner = owner.map_err(ExportError::Told)?;
            let key = Content { path: &this.key, text: bundle.key.as_bytes(), mode: this.mode };
            let certificate =
                Content { path: &this.certificate, text: bundle.chain.as_bytes(), mode: PUBLIC };
            files::write(&[key, certificate], owner)
                .map_err(|(path, source)| ExportError::File { path, source })
        });
        let changed = written.await.map_err(|error| ExportError::Told(error.to_string()))??;
        let serial = identity.serial().to_owned();
        if (changed || self.done.as_deref() != Some(&serial))
            && let Some(run) = &self.run
        {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", run]);
            let ran = child::run(&mut command, &format!("`{run}`"), COMMAND).await;
            ran.map_err(|why| ExportError::Told(format!("the files are written, but {why}")))?;
        }
        self.done = Some(serial.clone());
        Ok(Some(serial))
    }

    /// Keeps it in `storage`, instead of one with the same name and certificate file.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub async fn keep(&self, storage: &dyn Storage) -> Result<(), StorageError> {
        let key = keys::export(&self.name, &self.certificate.to_string_lossy())?;
        self.put(storage, &key, Guard::Always).await
    }

    async fn put(&self, storage: &dyn Storage, key: &Key, guard: Guard<'_>) -> Result<(), StorageError> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| StorageError::Io {
            what: "write",
            place: storage.place(),
            source: io::Error::other(error),
        })?;
        storage.put(key, &text, guard).await.map(|_| ())
    }
}

/// The exports in `storage`. What is none is told and left out.
///
/// # Errors
///
/// Storage that cannot be read.
pub async fn exports(storage: &dyn Storage) -> Result<Vec<(Key, Export)>, StorageError> {
    let kept = kept(storage).await?;
    Ok(kept.into_iter().map(|(key, _, export)| (key, export)).collect())
}

/// The exports, and as which revision each was read.
async fn kept(storage: &dyn Storage) -> Result<Vec<(Key, Revision, Export)>, StorageError> {
    let mut exports = Vec::new();
    let all = storage.list(&Key::new(keys::EXPORTS)?).await?;
    for key in all.into_iter().take(MAX_EXPORTS) {
        let stored = match storage.get(&key).await {
            Ok(Some(stored)) => stored,
            Ok(None) => continue,
            Err(error) => {
                tracing::error!("{error}");
                continue;
            }
        };
        match serde_json::from_slice(&stored.value) {
            Ok(export) => exports.push((key, stored.revision, export)),
            Err(error) => tracing::error!("{key} in {}: {error}", storage.place()),
        }
    }
    Ok(exports)
}

/// Ends the exports of `name`; which they were. The files stay.
///
/// # Errors
///
/// [`StorageError`].
pub async fn remove_exports(storage: &dyn Storage, name: &str) -> Result<Vec<Export>, StorageError> {
    let mut removed = Vec::new();
    for (key, export) in exports(storage).await? {
        if export.name == name && storage.delete(&key, Guard::Always).await? {
            removed.push(export);
        }
    }
    Ok(removed)
}

/// Keeps files up to date until it is dropped.
#[derive(Debug)]
pub struct Exporter(JoinHandle<()>);

impl Drop for Exporter {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Exporter {
    /// Brings the files of the exports in `storage` up to date, now and whenever one of `targets` is renewed.
    ///
    /// # Errors
    ///
    /// None that names of ours can cause.
    pub fn start(
        storage: Arc<dyn Storage>,
        targets: Vec<Target>,
        clock: Clock,
    ) -> Result<Self, StorageError> {
        // Watched first: what changes while it is read is read again.
        let certificates = storage.watch(&Key::new(keys::CERTIFICATES)?);
        let specs = storage.watch(&Key::new(keys::EXPORTS)?);
        let follower = Follower { storage, targets, clock, failed: HashMap::new() };
        Ok(Self(tokio::spawn(follower.follow(certificates, specs))))
    }
}

struct Follower {
    storage: Arc<dyn Storage>,
    targets: Vec<Target>,
    clock: Clock,
    /// What failed, with the certificate's revision: not tried again, nor told, at every turn.
    failed: HashMap<Key, Option<Revision>>,
}

impl Follower {
    async fn follow(mut self, mut certificates: Watch, mut specs: Watch) {
        // Whatever else changes meanwhile.
        let mut again = Instant::now() + AGAIN;
        loop {
            if let Err(error) = self.turn().await {
                tracing::error!("certificates are not exported: {error}");
            }
            tokio::select! {
                _ = certificates.changed() => {}
                changed = specs.changed() => self.failed.retain(|key, _| !changed.contains(key)),
                () = sleep_until(again) => {
                    again = Instant::now() + AGAIN;
                    self.failed.clear();
                }
            }
        }
    }

    async fn turn(&mut self) -> Result<(), StorageError> {
        for (key, held, mut export) in kept(&*self.storage).await? {
            let target = match export.target(&self.targets) {
                Ok(target) => target,
                Err(error) => {
                    if self.failed.insert(key, None).is_none() {
                        tracing::warn!("export to {}: {error}", export.certificate.display());
                    }
                    continue;
                }
            };
            let revision = self.storage.get(&target.certificate).await?.map(|stored| stored.revision);
            if self.failed.get(&key) == Some(&revision) {
                continue;
            }
            let before = export.done.clone();
            match export.bring(&*self.storage, target, self.clock.now()).await {
                Ok(serial) => {
                    self.failed.remove(&key);
                    if let Some(serial) = serial
                        && before.as_ref() != Some(&serial)
                    {
                        tracing::info!(serial, "{target}: exported to {}", export.certificate.display());
                        match export.put(&*self.storage, &key, Guard::Unchanged(held)).await {
                            // Another process has done it, or it was taken away meanwhile.
                            Ok(()) | Err(StorageError::Conflict(_)) => {}
                            Err(error) => tracing::warn!("{target}: {error}"),
                        }
                    }
                }
                Err(error) => {
                    tracing::error!(
                        "{target}: export to {}: {error}. It is tried again within the hour",
                        export.certificate.display()
                    );
                    self.failed.insert(key, revision);
                }
            }
        }
        Ok(())
    }
}
