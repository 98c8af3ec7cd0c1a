//! Certificate files watched for change.
//!
//! The system's notices make it quick, a comparison of contents every half minute makes it sure (network file systems
//! notify nobody). A new pair is published only if it can be read twice alike, parses, and belongs together; until then
//! the old one goes on serving.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::acceptor::unix_now;
use crate::date::date;
use crate::identity::{Identity, IdentityWarning};
use crate::notices::Notices;
use crate::pem::{CertificateSpec, LoadError, Material};
use crate::set::{CertificateSet, Entry};
use crate::store::{CertificateStore, Updater};

/// How long files are left alone after a notice: tools write the chain and the key one after the other.
const QUIET: Duration = Duration::from_millis(300);

/// Time between the two readings that must agree.
const SETTLE: Duration = Duration::from_millis(100);

/// How often contents are compared without any notice.
const POLL: Duration = Duration::from_secs(30);

/// What became of a watched certificate. [`Display`](fmt::Display) is for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Report {
    /// A new certificate is served from now on.
    Replaced {
        /// The certificate's name in the configuration.
        id: String,
        /// Its first host name.
        name: String,
        /// When it ceases to be valid, in seconds since 1970.
        not_after: i64,
    },
    /// What stands in the files now cannot be served. Said once for each different reason.
    Broken {
        /// The certificate's name in the configuration.
        id: String,
        /// Why.
        reason: String,
        /// When the certificate that stays in use ceases to be valid; `None` if there is none.
        former_not_after: Option<i64>,
    },
    /// Something to be said of a certificate in use. Said once for each different text: of the days left, daily.
    Warning {
        /// The certificate's name in the configuration.
        id: String,
        /// What.
        warning: IdentityWarning,
    },
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replaced { id, name, not_after } => {
                write!(
                    f,
                    "certificate {id}: a new one is served, for {name}, valid until {}",
                    date(*not_after)
                )
            }
            Self::Broken { id, reason, former_not_after: Some(until) } => {
                let until = date(*until);
                write!(
                    f,
                    "certificate {id}: {reason}. The former one stays in use; it is valid until {until}"
                )
            }
            Self::Broken { id, reason, former_not_after: None } => write!(f, "certificate {id}: {reason}"),
            Self::Warning { id, warning } => write!(f, "certificate {id}: {warning}"),
        }
    }
}

impl Report {
    fn log(&self) {
        match self {
            Self::Replaced { .. } => tracing::info!("{self}"),
            Self::Broken { .. } => tracing::error!("{self}"),
            Self::Warning { .. } => tracing::warn!("{self}"),
        }
    }
}

/// Watches files and publishes new certificates when they change. Dropping it stops it.
#[derive(Debug)]
pub struct Watcher {
    now: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Watcher {
    /// Begins to watch the files of `specs`, on behalf of the server `hostname`, and to change the set that `store` holds
    /// now, until another is published whole; what happens is logged. Entries with other ids are left alone.
    ///
    /// # Errors
    ///
    /// If it is not called within a tokio runtime.
    pub fn start(
        specs: Vec<CertificateSpec>,
        hostname: &str,
        store: Arc<CertificateStore>,
    ) -> io::Result<Self> {
        Self::start_with(specs, hostname, store, |report| report.log())
    }

    /// Like [`start`](Self::start), but tells `tell` what happens in place of logging it.
    ///
    /// # Errors
    ///
    /// Those of [`start`](Self::start).
    pub fn start_with(
        specs: Vec<CertificateSpec>,
        hostname: &str,
        store: Arc<CertificateStore>,
        tell: impl Fn(&Report) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        let changed = Arc::new(Notify::new());
        let now = Arc::new(Notify::new());
        let updater = store.updater();
        let current = updater.current();
        let watched = specs.into_iter().map(|spec| Watched::new(spec, &current)).collect();
        let watch = Watch {
            watched,
            hostname: hostname.to_owned(),
            updater,
            tell: Box::new(tell),
            notices: Notices::new(Arc::clone(&changed)),
        };
        let task = runtime.spawn(watch.run(changed, Arc::clone(&now)));
        Ok(Self { now, task })
    }

    /// Reads all files again now, as on SIGHUP.
    pub fn reload(&self) {
        self.now.notify_one();
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One certificate's files, and what is known of them.
struct Watched {
    spec: CertificateSpec,
    /// The content last looked at, good or bad.
    seen: Option<[u8; 32]>,
    /// What is served.
    entry: Option<Entry>,
    /// The last reason given.
    said: Option<String>,
    /// What was last said of its validity.
    warned: Option<IdentityWarning>,
}

impl Watched {
    fn new(spec: CertificateSpec, current: &CertificateSet) -> Self {
        let entry = current.entries().iter().find(|entry| entry.id == spec.id).cloned();
        // Whoever loaded it has said so already.
        let warned = entry.as_ref().and_then(|entry| entry.identity.validity_warning(unix_now()));
        Self { spec, seen: None, entry, said: None, warned }
    }

    /// Whether there is something new in the files. An error counts as something to look at.
    fn has_changed(&self) -> bool {
        Material::read(&self.spec).map_or(true, |material| Some(material.hash()) != self.seen)
    }

    /// Takes what stands in the files; `Some` if it is to be served from now on.
    fn take(&mut self) -> Result<Option<(Entry, Vec<IdentityWarning>)>, LoadError> {
        let material = Material::read(&self.spec)?;
        std::thread::sleep(SETTLE);
        let hash = material.hash();
        if Material::read(&self.spec)?.hash() != hash {
            // Somebody is writing: there will be another notice, or the next comparison.
            return Ok(None);
        }
        self.seen = Some(hash);
        let (entry, warnings) = material.load(&self.spec)?;
        self.said = None;
        if self.entry.as_ref().is_some_and(|old| serve_alike(&old.identity, &entry.identity)) {
            return Ok(None);
        }
        self.warned = entry.identity.validity_warning(unix_now());
        self.entry = Some(entry.clone());
        Ok(Some((entry, warnings)))
    }

    /// Something new to say of the validity of what is served.
    fn validity_warning(&mut self) -> Option<IdentityWarning> {
        let warning = self.entry.as_ref()?.identity.validity_warning(unix_now());
        if warning == self.warned {
            return None;
        }
        self.warned.clone_from(&warning);
        warning
    }

    /// The reason why what stands in the files is not served, unless it was said already.
    fn reason(&mut self, error: &LoadError) -> Option<Report> {
        let reason = error.to_string();
        if self.said.as_ref() == Some(&reason) {
            return None;
        }
        self.said = Some(reason.clone());
        let former_not_after = self.entry.as_ref().map(|entry| entry.identity.not_after());
        Some(Report::Broken { id: self.spec.id.clone(), reason, former_not_after })
    }
}

fn serve_alike(one: &Identity, other: &Identity) -> bool {
    one.chain().eq(other.chain()) && one.names() == other.names()
}

struct Watch {
    watched: Vec<Watched>,
    hostname: String,
    updater: Updater,
    tell: Box<dyn Fn(&Report) + Send + Sync>,
    notices: Notices,
}

impl Watch {
    async fn run(mut self, changed: Arc<Notify>, now: Arc<Notify>) {
        loop {
            // Reading may block for long on a network file system.
            let round = tokio::task::spawn_blocking(move || {
                // Watching before reading: what changes after the reading is noticed.
                self.notices.watch(self.watched.iter().flat_map(|one| one.spec.files()));
                self.look();
                self
            });
            self = match round.await {
                Ok(watch) => watch,
                Err(_) => return,
            };
            tokio::select! {
                () = changed.notified() => sleep(QUIET).await,
                () = now.notified() => {}
                () = sleep(POLL) => {}
            }
        }
    }

    fn look(&mut self) {
        let mut new = Vec::new();
        for one in self.watched.iter_mut().filter(|one| one.has_changed()) {
            match one.take() {
                Ok(taken) => new.extend(taken),
                Err(error) => one.reason(&error).iter().for_each(&self.tell),
            }
        }
        if !new.is_empty()
            && !self.updater.update(|set| CertificateSet::new(with_new(set, &new), &self.hostname).0)
        {
            return;
        }
        for (entry, warnings) in new {
            (self.tell)(&Report::Replaced {
                id: entry.id.clone(),
                name: entry.identity.primary_name().to_string(),
                not_after: entry.identity.not_after(),
            });
            for warning in warnings {
                (self.tell)(&Report::Warning { id: entry.id.clone(), warning });
            }
        }
        for one in &mut self.watched {
            if let Some(warning) = one.validity_warning() {
                (self.tell)(&Report::Warning { id: one.spec.id.clone(), warning });
            }
        }
    }
}

/// The set's entries with `new` in the places of those they replace.
fn with_new(set: &CertificateSet, new: &[(Entry, Vec<IdentityWarning>)]) -> Vec<Entry> {
    let mut entries = set.entries().to_vec();
    for (entry, _) in new {
        match entries.iter_mut().find(|old| old.id == entry.id) {
            Some(old) => *old = entry.clone(),
            None => entries.push(entry.clone()),
        }
    }
    entries
}
