//! Certificates from CAs, wired: storage, what is served from it, who answers challenges, who renews.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use waxseal_acme::{
    AcmeIssuer, Answers, Clock, Dns, DnsError, Exporter, Issuer, IssuerError, Listening, Managed,
    ManagedError, Outcome, Progress, Publisher, Renewer, Settings, Target, Urgency, targets,
};
use waxseal_proto::Protocol;
use waxseal_server::HttpChallenges;
use waxseal_storage::{FileStorage, KeyError, Storage, StorageError};
use waxseal_tls::{CertificateStore, ChallengeIdentity, Challenges, Entry};

use crate::config::{Model, RunAs, Security};

/// Why certificates cannot be obtained or served.
#[derive(Debug, thiserror::Error)]
pub enum ObtainError {
    /// The cache.
    #[error("acme.ID.cache: {0}")]
    Storage(#[from] StorageError),
    /// What is in the cache.
    #[error(transparent)]
    Managed(#[from] ManagedError),
    /// A name that storage has no place for.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A CA that cannot be talked to from here.
    #[error("acme.{id}: {source}")]
    Issuer {
        /// Which.
        id: Arc<str>,
        /// Why.
        source: IssuerError,
    },
    /// No DNS.
    #[error(transparent)]
    Dns(#[from] DnsError),
}

/// Everything about certificates from CAs, as far as it can be made without changing what is in force.
pub struct Opened {
    places: Vec<Place>,
    /// Where in the file the settings of each certificate stand.
    order: HashMap<Arc<str>, usize>,
}

/// One cache directory.
struct Place {
    cache: Cache,
    managed: Managed,
    targets: Vec<Target>,
    issuers: HashMap<Arc<str>, Arc<dyn Issuer>>,
}

/// What is kept of a cache over a reload, for an order in flight goes on and the CA wants its answers from whoever is in
/// force by then.
#[derive(Clone)]
struct Cache {
    path: PathBuf,
    storage: Arc<dyn Storage>,
    answers: Arc<Answers>,
}

/// Certificates being obtained and served. Dropped, it stops; an order in flight is brought to its end.
#[derive(Default)]
pub struct Obtained {
    caches: Vec<Cache>,
    renewers: Vec<Arc<Renewer>>,
    _publishers: Vec<Publisher>,
    _exporters: Vec<Exporter>,
}

impl Drop for Obtained {
    fn drop(&mut self) {
        // A command that still looks on holds a renewer; it must not go on beside the one that follows.
        self.renewers.iter().for_each(|renewer| renewer.stop());
    }
}

/// Makes the caches of `model` and gives them, with what an earlier start as another user left in them, to whom we are
/// about to become.
///
/// # Errors
/// A directory that cannot be made or given away, or that is somebody else's.
pub fn make_caches(model: &Model, run_as: &RunAs) -> std::io::Result<()> {
    let user = run_as.user.as_ref().map(|(_, uid)| uid.as_raw());
    for acme in &model.acme {
        let cache = &acme.cache;
        let about = |error: std::io::Error| {
            std::io::Error::new(
                error.kind(),
                format!("acme.{}.cache: {}: {error}", acme.settings.id, cache.display()),
            )
        };
        // Others may pass through what is above it.
        cache.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(about)?;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(cache).map_err(about)?;
        if !FileStorage::is_ours(cache).map_err(about)? {
            let others = "it holds what is not waxseal's; name a directory of waxseal's own";
            return Err(about(std::io::Error::other(others)));
        }
        match give(cache, user, run_as.group.as_raw()) {
            // What is there can be served all the same.
            Err(error) if error.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {
                tracing::error!("{}: {error}", cache.display());
            }
            Err(error) => return Err(about(error)),
            Ok(0) => {}
            Ok(given) => tracing::info!(
                "{}: {given} files are given to the user that waxseal becomes",
                cache.display()
            ),
        }
    }
    Ok(())
}

/// Gives a directory away, with all that is in it; how much was another's. Links are given, never followed, and a file
/// that has another name somewhere else is left alone.
fn give(path: &Path, user: Option<u32>, group: u32) -> std::io::Result<usize> {
    use std::os::unix::fs::MetadataExt as _;
    let found = path.symlink_metadata()?;
    let is_theirs = user.is_none_or(|user| user == found.uid()) && group == found.gid();
    let mut given = 0;
    if !is_theirs && (found.is_dir() || found.nlink() == 1) {
        std::os::unix::fs::lchown(path, user, Some(group))?;
        given += 1;
    }
    if found.is_dir() {
        for entry in std::fs::read_dir(path)? {
            given += give(&entry?.path(), user, group)?;
        }
    }
    Ok(given)
}

/// The certificates that are wanted from CAs, by the cache that they are kept in. `by_hand`: certificates by hand, which win.
///
/// # Errors
/// A name that storage has no place for.
pub fn wanted(model: &Model, by_hand: &[Entry]) -> Result<BTreeMap<PathBuf, Vec<Target>>, KeyError> {
    let names: Vec<String> = by_hand.iter().flat_map(|entry| entry.identity.names()).cloned().collect();
    let all: Vec<Arc<Settings>> = model.acme.iter().map(|acme| Arc::clone(&acme.settings)).collect();
    let cache_of = |target: &Target| {
        let acme = model.acme.iter().find(|acme| acme.settings.id == target.settings.id);
        acme.map(|acme| acme.cache.clone()).unwrap_or_default()
    };
    let mut by_cache: BTreeMap<PathBuf, Vec<Target>> = BTreeMap::new();
    for target in targets(&all, &names)? {
        by_cache.entry(cache_of(&target)).or_default().push(target);
    }
    Ok(by_cache)
}

impl Opened {
    /// Opens the caches that `former` has not open already, and reads what is served from them. `by_hand`: the names of
    /// certificates by hand, which win.
    ///
    /// # Errors
    /// [`ObtainError`]; nothing has been changed then.
    pub async fn open(model: &Model, by_hand: &[Entry], former: &Obtained) -> Result<Self, ObtainError> {
        let mut places = Vec::new();
        for (path, targets) in wanted(model, by_hand)? {
            let cache = match former.caches.iter().find(|cache| cache.path == path) {
                Some(cache) => cache.clone(),
                None => Cache::open(path).await?,
            };
            places.push(Place::open(cache, targets, model).await?);
        }
        let tables = model.acme.iter().enumerate().map(|(at, acme)| (&*acme.settings.id, at));
        let tables: HashMap<&str, usize> = tables.collect();
        let all = places.iter().flat_map(|place| &place.targets);
        let order = all
            .filter_map(|target| Some((Arc::clone(&target.id), *tables.get(&*target.settings.id)?)))
            .collect();
        Ok(Self { places, order })
    }

    /// What is served, in the order of the file.
    pub fn entries(&self) -> Vec<Entry> {
        let mut all: Vec<Entry> = self.places.iter().flat_map(|place| place.managed.entries()).collect();
        all.sort_by_key(|entry| self.order.get(entry.id.as_str()).copied());
        all
    }

    /// Who knows the answers to challenges; `None` where there are none.
    pub fn answering(&self) -> Option<Answering> {
        let all: Vec<_> = self.places.iter().map(|place| Arc::clone(&place.cache.answers)).collect();
        (!all.is_empty()).then_some(Answering(all))
    }

    /// Begins to publish to `store`, and to renew.
    ///
    /// # Errors
    /// Storage that cannot be read any more.
    pub async fn start(self, store: &Arc<CertificateStore>, hostname: &str) -> Result<Obtained, ObtainError> {
        let mut obtained = Obtained::default();
        for Place { cache, managed, targets, issuers } in self.places {
            let storage = Arc::clone(&cache.storage);
            obtained.caches.push(cache);
            obtained._publishers.push(managed.publish_to(store, hostname));
            obtained._exporters.push(Exporter::start(
                Arc::clone(&storage),
                targets.clone(),
                Clock::system(),
            )?);
            let renewer = Renewer::start(storage, targets, issuers, Clock::system()).await?;
            obtained.renewers.push(Arc::new(renewer));
        }
        Ok(obtained)
    }
}

impl Cache {
    async fn open(path: PathBuf) -> Result<Self, StorageError> {
        let storage: Arc<dyn Storage> = Arc::new(FileStorage::open(&path)?);
        let answers = Answers::open(Arc::clone(&storage)).await?;
        Ok(Self { path, storage, answers })
    }
}

impl Place {
    async fn open(cache: Cache, targets: Vec<Target>, model: &Model) -> Result<Self, ObtainError> {
        let Cache { storage, answers, .. } = &cache;
        let managed = Managed::open(Arc::clone(storage), targets.clone(), Clock::system()).await?;
        let dns = Arc::new(Dns::new(&model.resolver)?);
        let listening = listening(model);
        let mut issuers: HashMap<Arc<str>, Arc<dyn Issuer>> = HashMap::new();
        for settings in targets.iter().flat_map(Target::authorities) {
            if issuers.contains_key(&settings.id) {
                continue;
            }
            let issuer = AcmeIssuer::new(
                Settings::clone(settings),
                Arc::clone(storage),
                Arc::clone(answers),
                Arc::clone(&dns),
                listening.clone(),
            );
            let issuer =
                issuer.map_err(|source| ObtainError::Issuer { id: Arc::clone(&settings.id), source })?;
            issuers.insert(Arc::clone(&settings.id), Arc::new(issuer));
        }
        Ok(Self { cache, managed, targets, issuers })
    }
}

/// The listeners that answer challenges.
fn listening(model: &Model) -> Listening {
    let mut listening = Listening::default();
    for listener in &model.listeners {
        match &listener.security {
            Security::Implicit(_) => listening.tls.extend(&listener.bind),
            Security::Clear if listener.protocol == Protocol::Http => listening.http.extend(&listener.bind),
            _ => {}
        }
    }
    listening
}

impl Obtained {
    /// Those who renew, to be asked without holding on to us.
    pub fn renewers(&self) -> Vec<Arc<Renewer>> {
        self.renewers.clone()
    }
}

/// Renews what is called `name`; `None` where nothing is.
pub async fn renew(
    renewers: &[Arc<Renewer>],
    name: &str,
    urgency: Urgency,
    progress: &Progress,
) -> Option<Vec<(Arc<str>, Outcome)>> {
    let mut outcomes = Vec::new();
    for renewer in renewers {
        outcomes.extend(renewer.renew(name, urgency, progress).await.into_iter().flatten());
    }
    (!outcomes.is_empty()).then_some(outcomes)
}

/// The open answers, as the rooms that listen ask for them.
#[derive(Clone, Debug)]
pub struct Answering(Vec<Arc<Answers>>);

impl Challenges for Answering {
    fn answer(&self, sni: &str) -> Option<ChallengeIdentity> {
        let found = self.0.iter().find_map(|answers| answers.tls_alpn_01(sni))?;
        Some(ChallengeIdentity { certificate: found.certificate.to_vec(), key: found.key.to_vec() })
    }
}

impl HttpChallenges for Answering {
    fn answer(&self, token: &str) -> Option<String> {
        self.0.iter().find_map(|answers| answers.http_01(token)).map(|body| body.to_string())
    }
}
