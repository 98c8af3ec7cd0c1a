//! What the tests with real peers share: a piece of the loopback network of their own, processes that end with the
//! test, a CA, and small servers that give our answers.

pub(crate) mod fake_ca;
pub(crate) mod knot;
pub(crate) mod pebble;
pub(crate) mod powerdns;
pub(crate) mod respond;

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use waxseal_acme::{
    AcmeIssuer, Answers, ChallengeKind, Dns, DnsSettings, IssueError, Issued, Issuer, KeyType, Listening,
    Name, OrderRequest, Progress, Settings,
};
use waxseal_storage::{MemoryStorage, Storage};

/// How long a peer may take to start, on a machine that is busy.
const START: Duration = Duration::from_secs(20);

/// A directory and an address of the loopback network that no other test has.
pub(crate) struct Ground {
    dir: tempfile::TempDir,
    pub(crate) ip: Ipv4Addr,
}

impl Ground {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let count = NEXT.fetch_add(1, Ordering::Relaxed);
        let [_, high, mid, low] = (std::process::id().wrapping_mul(8) + count % 8).to_be_bytes();
        let ip = Ipv4Addr::new(127, 64 | (high & 0x3f), mid, low);
        let dir = tempfile::Builder::new().prefix("wxa-").tempdir().expect("a directory");
        Self { dir, ip }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.ip), port)
    }
}

/// A program that ends with the test.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    pub(crate) fn start(ground: &Ground, name: &str, mut command: Command) -> Self {
        let log = ground.path(&format!("{name}.log"));
        let out = File::create(&log).expect("a log");
        let err = out.try_clone().expect("a log");
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = command.spawn().unwrap_or_else(|e| panic!("{name}: {e}; ./test installs it"));
        Self { child, log }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it listens.
    pub(crate) fn wait_for(&mut self, at: SocketAddr) {
        let start = Instant::now();
        while TcpStream::connect(at).is_err() {
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none(), "ended with {ended:?}: {}", self.log());
            assert!(start.elapsed() < START, "nothing listens on {at}: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One waxseal as far as it is of interest here: storage, answers, an issuer.
pub(crate) struct Party {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) answers: Arc<Answers>,
    pub(crate) settings: Settings,
    pub(crate) dns: Arc<Dns>,
}

impl Party {
    pub(crate) async fn new(settings: Settings, resolver: SocketAddr) -> Self {
        Self::with_storage(settings, resolver, Arc::new(MemoryStorage::new())).await
    }

    pub(crate) async fn with_storage(
        settings: Settings,
        resolver: SocketAddr,
        storage: Arc<dyn Storage>,
    ) -> Self {
        let answers = Answers::open(Arc::clone(&storage)).await.expect("answers");
        let dns = Arc::new(Dns::new(&[resolver]).expect("a resolver"));
        Self { storage, answers, settings, dns }
    }

    pub(crate) fn issuer(&self) -> AcmeIssuer {
        let made = AcmeIssuer::new(
            self.settings.clone(),
            Arc::clone(&self.storage),
            Arc::clone(&self.answers),
            Arc::clone(&self.dns),
            Listening::default(),
        );
        made.expect("an issuer").with_patience(Duration::from_secs(5))
    }

    pub(crate) fn want(&self, names: &[&str], key_type: KeyType) -> OrderRequest {
        let names = names.iter().map(|name| Name::parse(name).expect("a name")).collect();
        OrderRequest { names, key_type, reuse_key: None, profile: None, replaces: None }
    }

    pub(crate) async fn issue(&self, names: &[&str]) -> Result<Issued, IssueError> {
        self.issuer().issue(&self.want(names, KeyType::EcdsaP256), &Progress::unseen()).await
    }

    /// The keys of storage below `prefix`.
    pub(crate) async fn keys(&self, prefix: &str) -> Vec<String> {
        let prefix = waxseal_storage::Key::new(prefix).expect("a key");
        let keys = self.storage.list(&prefix).await.expect("a list");
        keys.into_iter().map(|key| key.to_string()).collect()
    }
}

pub(crate) fn settings(directory: &str, ca: Option<&str>, challenge: ChallengeKind) -> Settings {
    Settings {
        id: "test".into(),
        directory: directory.to_owned(),
        ca: ca.map(|pem| pem.as_bytes().to_vec()),
        contact: vec!["mailto:admin@waxseal.test".to_owned()],
        eab: None,
        challenge,
        names: Vec::new(),
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

pub(crate) fn dns_settings(provider: waxseal_acme::DnsProvider) -> DnsSettings {
    DnsSettings {
        provider,
        polling_interval: Duration::from_millis(200),
        propagation_timeout: Duration::from_secs(10),
        ttl: Duration::from_secs(60),
        origin: None,
    }
}

/// Asks again and again.
pub(crate) async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..500 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what} never happens");
}
