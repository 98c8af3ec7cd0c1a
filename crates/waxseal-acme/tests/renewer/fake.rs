//! A CA without a wire, a clock without days, and a storage that can be broken.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::CertificateDer;
use tokio::time::Instant;
use waxseal_acme::{
    ChallengeKind, Clock, Failure, Fault, IssueError, Issued, Issuer, KeyType, Name, OrderRequest, Progress,
    RenewalWindow, Renewer, Settings, Stage, Target, targets,
};
use waxseal_storage::{
    BoxFuture, Durability, Guard, Key, Lease, Revision, Storage, StorageError, Stored, Watch,
};

pub(crate) const T: i64 = 1_800_000_000;
pub(crate) const DAY: u64 = 86_400;
pub(crate) const CA: &str = "https://ca.example/dir";

/// A clock that follows tokio's, which tests can let run ahead.
pub(crate) fn clock() -> Clock {
    let begun = Instant::now();
    Clock::of(move || T + i64::try_from(begun.elapsed().as_secs()).expect("soon"))
}

pub(crate) fn settings(id: &str, names: &[&str]) -> Settings {
    Settings {
        id: id.into(),
        directory: CA.into(),
        ca: None,
        contact: vec!["mailto:postmaster@example.org".into()],
        eab: None,
        challenge: ChallengeKind::TlsAlpn01,
        names: names.iter().map(|name| Name::parse(name).expect("a name")).collect(),
        key_types: vec![KeyType::EcdsaP256],
        reuse_key: false,
        renew_before: None,
        profile: None,
        default: false,
        fallback: None,
        preflight: true,
        public_ip: Vec::new(),
        dns: None,
    }
}

pub(crate) fn wanted(settings: Vec<Settings>) -> Vec<Target> {
    let settings: Vec<_> = settings.into_iter().map(Arc::new).collect();
    targets(&settings, &[]).expect("targets")
}

/// How a CA behaves.
type Answer = Box<dyn Fn(&OrderRequest) -> Result<(), IssueError> + Send + Sync>;

/// A CA that certifies whatever it is asked to, unless told otherwise.
pub(crate) struct FakeCa {
    clock: Clock,
    pub life: i64,
    pub orders: Mutex<Vec<(OrderRequest, i64)>>,
    answer: Mutex<Answer>,
    pub failures: Mutex<Vec<Failure>>,
    pub window: Mutex<Option<RenewalWindow>>,
    /// How long an order takes.
    pub takes: Mutex<Duration>,
}

impl std::fmt::Debug for FakeCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FakeCa")
    }
}

impl FakeCa {
    pub(crate) fn new(clock: &Clock, days: i64) -> Arc<Self> {
        Arc::new(Self {
            clock: clock.clone(),
            life: days * 86_400,
            orders: Mutex::default(),
            answer: Mutex::new(Box::new(|_| Ok(()))),
            failures: Mutex::default(),
            window: Mutex::default(),
            takes: Mutex::new(Duration::from_secs(2)),
        })
    }

    pub(crate) fn answer(
        &self,
        answer: impl Fn(&OrderRequest) -> Result<(), IssueError> + Send + Sync + 'static,
    ) {
        *self.answer.lock().expect("whole") = Box::new(answer);
    }

    pub(crate) fn fails(&self, error: IssueError) {
        self.answer(move |_| Err(error.clone()));
    }

    pub(crate) fn count(&self) -> usize {
        self.orders.lock().expect("whole").len()
    }

    pub(crate) fn certify(&self, want: &OrderRequest) -> Issued {
        let key = match &want.reuse_key {
            Some(pem) => KeyPair::from_pem(pem).expect("a key"),
            None => KeyPair::generate().expect("a key"),
        };
        let mut params = CertificateParams::new(want.name_texts()).expect("names");
        let now = self.clock.now();
        let at = |unix: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(unix.unsigned_abs());
        (params.not_before, params.not_after) = (at(now - 3600), at(now - 3600 + self.life));
        let certificate = params.self_signed(&key).expect("signed");
        Issued { chain: certificate.pem(), key: key.serialize_pem().into() }
    }
}

impl Issuer for FakeCa {
    fn issue<'a>(
        &'a self,
        want: &'a OrderRequest,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<Issued, IssueError>> {
        Box::pin(async move {
            self.orders.lock().expect("whole").push((want.clone(), self.clock.now()));
            for stage in [Stage::Order, Stage::Challenge, Stage::Validation, Stage::Finalize, Stage::Download]
            {
                progress.step(stage, stage.as_str()).await;
            }
            let takes = *self.takes.lock().expect("whole");
            tokio::time::sleep(takes).await;
            (self.answer.lock().expect("whole"))(want)?;
            *self.window.lock().expect("whole") = None; // it was about the certificate before
            Ok(self.certify(want))
        })
    }

    fn renewal_info<'a>(
        &'a self,
        _: &'a CertificateDer<'a>,
    ) -> BoxFuture<'a, Result<Option<RenewalWindow>, IssueError>> {
        let window = self.window.lock().expect("whole").clone();
        Box::pin(async move { Ok(window) })
    }

    fn preflight<'a>(&'a self, _: &'a OrderRequest) -> BoxFuture<'a, Result<(), IssueError>> {
        let failures = self.failures.lock().expect("whole").clone();
        Box::pin(async move {
            if failures.is_empty() {
                return Ok(());
            }
            Err(IssueError { failures, ..IssueError::new(Stage::Preflight, Fault::Setup, "") })
        })
    }
}

pub(crate) fn refused(name: &str) -> IssueError {
    IssueError::new(Stage::Validation, Fault::Setup, "the CA could not connect")
        .about(&Name::parse(name).expect("a name"))
}

/// Starts a renewer where each settings' CA is `ca`.
pub(crate) async fn start(
    storage: &Arc<dyn Storage>,
    targets: &[Target],
    ca: &Arc<FakeCa>,
    clock: &Clock,
) -> Renewer {
    let issuers = targets.iter().flat_map(Target::authorities);
    let issuers: HashMap<_, Arc<dyn Issuer>> =
        issuers.map(|settings| (Arc::clone(&settings.id), Arc::clone(ca) as _)).collect();
    Renewer::start(Arc::clone(storage), targets.to_vec(), issuers, clock.clone()).await.expect("started")
}

/// Lets so many seconds pass.
pub(crate) async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// A storage that stops working: for good after a number of writes (as if the process had been killed there), or for a
/// while with an error of the system.
#[derive(Debug)]
pub(crate) struct Breaking {
    inner: Arc<dyn Storage>,
    writes_left: AtomicUsize,
    pub refuses: AtomicBool,
    /// Nothing can be read.
    pub hides: AtomicBool,
    /// Only keys below this are refused.
    pub refused_below: Mutex<Option<Key>>,
    /// How often a lease was asked for; refused where writing is.
    pub acquired: AtomicUsize,
}

impl Breaking {
    pub(crate) fn new(inner: Arc<dyn Storage>, writes: usize) -> Arc<Self> {
        Arc::new(Self {
            inner,
            writes_left: AtomicUsize::new(writes),
            refuses: AtomicBool::new(false),
            hides: AtomicBool::new(false),
            refused_below: Mutex::default(),
            acquired: AtomicUsize::new(0),
        })
    }

    async fn write(&self, key: &Key) -> Result<(), StorageError> {
        let taken = |left: usize| left.checked_sub(1);
        if self.writes_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_err() {
            std::future::pending::<()>().await;
        }
        let concerned =
            self.refused_below.lock().expect("whole").as_ref().is_none_or(|prefix| key.is_below(prefix));
        if self.refuses.load(Ordering::Relaxed) && concerned {
            let source = std::io::ErrorKind::StorageFull.into();
            return Err(StorageError::Io { what: "write", place: self.place(), source });
        }
        Ok(())
    }
}

impl Storage for Breaking {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Stored>, StorageError>> {
        if self.hides.load(Ordering::Relaxed) {
            let source = std::io::ErrorKind::PermissionDenied.into();
            let hidden = StorageError::Io { what: "read", place: self.place(), source };
            return Box::pin(async { Err(hidden) });
        }
        self.inner.get(key)
    }

    fn put<'a>(
        &'a self,
        key: &'a Key,
        value: &'a [u8],
        guard: Guard<'a>,
    ) -> BoxFuture<'a, Result<Revision, StorageError>> {
        Box::pin(async move {
            self.write(key).await?;
            self.inner.put(key, value, guard).await
        })
    }

    fn delete<'a>(&'a self, key: &'a Key, guard: Guard<'a>) -> BoxFuture<'a, Result<bool, StorageError>> {
        self.inner.delete(key, guard)
    }

    fn list<'a>(&'a self, prefix: &'a Key) -> BoxFuture<'a, Result<Vec<Key>, StorageError>> {
        self.inner.list(prefix)
    }

    fn acquire<'a>(
        &'a self,
        name: &'a Key,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Option<Lease>, StorageError>> {
        self.acquired.fetch_add(1, Ordering::Relaxed);
        if self.refuses.load(Ordering::Relaxed) && self.refused_below.lock().expect("whole").is_none() {
            let source = std::io::ErrorKind::StorageFull.into();
            let refused = StorageError::Io { what: "write", place: self.place(), source };
            return Box::pin(async { Err(refused) });
        }
        self.inner.acquire(name, ttl)
    }

    fn renew<'a>(&'a self, lease: &'a Lease, ttl: Duration) -> BoxFuture<'a, Result<(), StorageError>> {
        self.inner.renew(lease, ttl)
    }

    fn release(&self, lease: Lease) -> BoxFuture<'_, Result<(), StorageError>> {
        self.inner.release(lease)
    }

    fn watch(&self, prefix: &Key) -> Watch {
        self.inner.watch(prefix)
    }

    fn durability(&self) -> Durability {
        Durability::Lasting
    }

    fn place(&self) -> String {
        "/var/lib/waxseal/acme".to_owned()
    }
}
