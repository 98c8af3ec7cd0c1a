//! The socket through which commands reach the running server: one request, a line of JSON; answers, a line each.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use waxseal_acme::{Outcome, Progress, Renewer, Step, Urgency};
use waxseal_proto::Protocol;
use waxseal_server::Counts;
use waxseal_server::service::{Relay, Service as _};
use waxseal_tls::CertificateStore;

use crate::config::RunAs;
use crate::obtained;
use crate::records::{ListenerRecord, Record, ServiceRecord, Status, records};

/// Where a server that root starts has its socket.
const RUN: &str = "/run/waxseal";
/// Commands served at a time.
const MAX_COMMANDS: usize = 16;
/// Longest request.
const MAX_REQUEST: u64 = 4096;
/// How long a request may take to arrive, and an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a command asks for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do", deny_unknown_fields)]
pub enum Request {
    /// How the server is doing.
    Status,
    /// Every certificate.
    CertList,
    /// A new certificate for a name, now.
    CertRenew {
        /// One of its names, or what it is called.
        name: String,
        /// Whether limits that keep clear of the CA's are passed.
        force: bool,
    },
}

/// A line of the answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// How the server is doing.
    Status(Box<Status>),
    /// Every certificate.
    Certificates(Vec<Record>),
    /// A step of what was asked for.
    Step(Step),
    /// What came of it, certificate by certificate.
    Renewed(Vec<Renewal>),
    /// Nothing came of it.
    Refused(String),
}

/// What came of renewing one certificate.
#[derive(Debug, Serialize, Deserialize)]
pub struct Renewal {
    /// What it is called.
    pub id: String,
    /// The new serial, in hexadecimal; `None` where there is none.
    pub serial: Option<String>,
    /// The end of the new certificate's life, in unix seconds.
    pub not_after: Option<i64>,
    /// Why there is none.
    pub reason: Option<String>,
    /// What failed, name by name, where the attempt was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<String>,
}

/// The places where the socket of a server with this configuration may be, the likeliest first.
pub fn sockets(configuration: &Path) -> Vec<PathBuf> {
    let runtime = std::env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from);
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("waxseal"));
    let directories = runtime.into_iter().chain([PathBuf::from(RUN)]).chain(own);
    let name = file_name(configuration);
    directories.map(|directory| directory.join(&name)).collect()
}

/// Servers with different configurations have different sockets.
fn file_name(configuration: &Path) -> String {
    let path = configuration.canonicalize().unwrap_or_else(|_| configuration.to_owned());
    let bytes = path.as_os_str().as_encoded_bytes();
    // FNV-1a: the same in every version of the program.
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("control-{hash:016x}.sock")
}

/// Binds the socket, for its owner alone; to be called while we may still make directories.
///
/// # Errors
/// No place for it, or one that another server has.
pub fn bind(configuration: &Path, run_as: Option<&RunAs>) -> io::Result<StdUnixListener> {
    let mine = |path: &&PathBuf| geteuid().is_root() || !path.starts_with(RUN);
    let all = sockets(configuration);
    let path = all.iter().find(mine).ok_or_else(|| {
        io::Error::other("there is no runtime directory: RUNTIME_DIRECTORY and XDG_RUNTIME_DIR are not set")
    })?;
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::other(format!(
            "another server with this configuration listens on {}",
            path.display()
        )));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = StdUnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    if let Some(run_as) = run_as {
        let user = run_as.user.as_ref().map(|(_, uid)| uid.as_raw());
        std::os::unix::fs::chown(path, user, Some(run_as.group.as_raw()))?;
    }
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// What commands may see and ask for. Follows reloads.
#[derive(Clone)]
pub struct Reach {
    store: Arc<CertificateStore>,
    counts: Counts,
    since: Instant,
    /// `None` while a reload puts another in its place.
    in_force: Arc<watch::Sender<Option<InForce>>>,
}

/// What a reload changes.
#[derive(Clone)]
pub struct InForce {
    /// Who renews certificates.
    pub renewers: Vec<Arc<Renewer>>,
    /// Where clients knock.
    pub listeners: Vec<ListenerRecord>,
    /// Who is behind.
    pub services: Vec<(Protocol, Arc<Relay>)>,
}

impl Reach {
    /// The certificates of `store`, and what is counted.
    pub fn new(store: Arc<CertificateStore>, counts: Counts) -> Self {
        Self { store, counts, since: Instant::now(), in_force: Arc::default() }
    }

    /// Shows `in_force` from now on. Commands wait while there is none.
    pub fn show(&self, in_force: Option<InForce>) {
        self.in_force.send_replace(in_force);
    }

    async fn in_force(&self) -> Result<InForce, String> {
        let mut shown = self.in_force.subscribe();
        let shown = timeout(PATIENCE, shown.wait_for(Option::is_some)).await;
        let in_force = shown.ok().and_then(|shown| shown.ok()?.clone());
        in_force.ok_or_else(|| "the configuration is being read again; ask again in a moment".to_owned())
    }

    async fn status(&self, InForce { renewers, listeners, services }: InForce) -> Status {
        let mut records = Vec::with_capacity(services.len());
        for (protocol, relay) in services {
            let known = timeout(PATIENCE, relay.capabilities()).await;
            let problem = match known {
                Ok(Ok(_)) => None,
                Ok(Err(unreachable)) => Some(unreachable.to_string()),
                Err(_) => Some("no answer yet".to_owned()),
            };
            records.push(ServiceRecord {
                name: relay.name().to_owned(),
                protocol: protocol.as_str().to_owned(),
                problem,
            });
        }
        let tally = self.counts.tally();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            seconds: self.since.elapsed().as_secs(),
            sessions: self.counts.live_sessions(),
            handshakes: tally.handshakes.get(),
            handshake_failures: tally.handshake_failures.get(),
            injections: tally.injections.get(),
            listeners,
            services: records,
            certificates: self.records(&renewers),
        }
    }
}

/// Answers commands until it is dropped.
pub struct Control {
    task: JoinHandle<()>,
    path: Option<PathBuf>,
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(path) = &self.path {
            // As another user than we began as we may not; the next start removes it then.
            let _ = fs::remove_file(path);
        }
    }
}

impl Control {
    /// Begins to answer on `listener`.
    ///
    /// # Errors
    /// If it is not called within a tokio runtime.
    pub fn start(listener: StdUnixListener, reach: Reach) -> io::Result<Self> {
        let path = listener.local_addr()?.as_pathname().map(Path::to_owned);
        let listener = UnixListener::from_std(listener)?;
        let task = tokio::spawn(async move {
            let places = Arc::new(Semaphore::new(MAX_COMMANDS));
            while let Ok(place) = Arc::clone(&places).acquire_owned().await {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let reach = reach.clone();
                        tokio::spawn(async move {
                            // A command that went away is nobody's loss.
                            let _ = serve(stream, &reach).await;
                            drop(place);
                        });
                    }
                    Err(error) => {
                        tracing::warn!("control socket: {error}");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            }
        });
        Ok(Self { task, path })
    }
}

async fn serve(stream: UnixStream, reach: &Reach) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    timeout(PATIENCE, BufReader::new(read.take(MAX_REQUEST)).read_line(&mut line)).await??;
    let request =
        serde_json::from_str(&line).map_err(|error| format!("the request cannot be understood: {error}"));
    let answer = match (request, reach.in_force().await) {
        (Err(refused), _) | (_, Err(refused)) => Answer::Refused(refused),
        (Ok(Request::Status), Ok(now)) => Answer::Status(Box::new(reach.status(now).await)),
        (Ok(Request::CertList), Ok(now)) => Answer::Certificates(reach.records(&now.renewers)),
        (Ok(Request::CertRenew { name, force }), Ok(now)) => {
            let urgency = if force { Urgency::Force } else { Urgency::Now };
            let (progress, mut steps) = Progress::seen();
            let renewing = tokio::spawn(async move {
                let outcomes = obtained::renew(&now.renewers, &name, urgency, &progress).await;
                (now.renewers, name, outcomes)
            });
            // The order goes on though the command be interrupted.
            while let Some(step) = steps.recv().await {
                say(&mut write, &Answer::Step(step)).await?;
            }
            match renewing.await.map_err(io::Error::other)? {
                (_, _, Some(outcomes)) => {
                    Answer::Renewed(outcomes.into_iter().map(|(id, outcome)| renewal(&id, outcome)).collect())
                }
                (renewers, name, None) => Answer::Refused(reach.not_renewed(&renewers, &name)),
            }
        }
    };
    say(&mut write, &answer).await
}

async fn say(write: &mut (impl AsyncWriteExt + Unpin), answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    timeout(PATIENCE, write.write_all(&line)).await?
}

impl Reach {
    fn records(&self, renewers: &[Arc<Renewer>]) -> Vec<Record> {
        let statuses = renewers.iter().flat_map(|renewer| renewer.status()).collect();
        records(&self.store.current(), statuses)
    }

    /// Why nothing called `name` is renewed.
    fn not_renewed(&self, renewers: &[Arc<Renewer>], name: &str) -> String {
        match self.records(renewers).iter().find(|record| record.is_called(name)) {
            Some(record) => {
                format!("{} is a certificate by hand: replace its files, which are watched", record.id)
            }
            None => format!("no certificate is called {name:?}; `waxseal cert list` shows all"),
        }
    }
}

fn renewal(id: &str, outcome: Outcome) -> Renewal {
    let mut renewal =
        Renewal { id: id.to_owned(), serial: None, not_after: None, reason: None, failures: Vec::new() };
    match outcome {
        Outcome::Renewed { serial, not_after } => {
            (renewal.serial, renewal.not_after) = (Some(serial), Some(not_after));
        }
        Outcome::NotDue(at) => {
            renewal.reason = Some(format!("nothing is due before {}", crate::records::date(at)));
        }
        Outcome::Barred(at, barrier) => {
            let at = crate::records::date(at);
            renewal.reason = Some(format!("not before {at}: {barrier}; --force passes that"));
        }
        Outcome::Busy => renewal.reason = Some("an order for it is in flight already".to_owned()),
        Outcome::Failed(error) => {
            renewal.reason = Some(format!("it failed at the stage: {}", error.stage));
            renewal.failures = error.failures.iter().map(ToString::to_string).collect();
        }
    }
    renewal
}
