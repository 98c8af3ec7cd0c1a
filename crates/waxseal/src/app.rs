//! `waxseal serve`: the life of the process, from a loaded configuration to the last session's end.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use waxseal_acme::ports::{self, Holder, Program};
use waxseal_server::{BindError, Server};
use waxseal_tls::{CertificateSet, CertificateStore, Entry, Watcher};

use crate::config::{self, Format, Loaded, Machine};
use crate::control::{self, Control, InForce, Reach};
use crate::logs::Logs;
use crate::obtained::{self, ObtainError, Obtained, Opened};
use crate::privileges::{self, PrivilegeError};
use crate::records;
use crate::wiring::{Rooms, Wired, WiringError};

/// How long sessions may go on once the process is told to stop.
const GRACE: Duration = Duration::from_secs(30);

/// Why serving did not begin.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Addresses that cannot be listened on, a line each.
    #[error("{}", .0.join("\n"))]
    Bind(Vec<String>),
    /// Services that cannot be set up.
    #[error(transparent)]
    Wiring(#[from] WiringError),
    /// `server.run-as` that cannot be followed.
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    /// Certificates that can neither be obtained nor served.
    #[error(transparent)]
    Obtain(#[from] ObtainError),
    /// What the system refused otherwise.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
}

/// Serves `loaded`, which was read from `path`, until SIGTERM or SIGINT. `opened` is called once every port is open.
///
/// # Errors
/// What keeps it from beginning. Once it serves, nothing does.
pub fn serve(loaded: Loaded, path: PathBuf, logs: Logs, opened: impl FnOnce()) -> Result<(), ServeError> {
    if loaded.model.log.format == Format::Json {
        // A log that programs read holds nothing else, not even warnings about the configuration.
        for line in loaded.report.lines() {
            tracing::warn!("{line}");
        }
    }
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let signals = Signals::new()?;
        let app = App::start(loaded, path, logs).await?;
        opened();
        app.run(signals).await;
        Ok(())
    });
    waxseal_acme::end_programs();
    // A look-up in the system's resolver may still block a thread; nobody waits for its answer.
    runtime.shutdown_background();
    served
}

/// A running waxseal.
struct App {
    path: PathBuf,
    logs: Logs,
    rooms: Rooms,
    server: Server,
    watcher: Watcher,
    obtained: Obtained,
    reach: Reach,
    _control: Option<Control>,
    in_force: config::Model,
}

/// What the process is told from outside.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    report: Signal,
    child: Signal,
}

/// One thing it is told.
enum Told {
    Stop(&'static str),
    Reload,
    Report,
    ChildEnded,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            report: signal(SignalKind::user_defined1())?,
            child: signal(SignalKind::child())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Told::Stop("SIGINT"),
            _ = self.hangup.recv() => Told::Reload,
            _ = self.report.recv() => Told::Report,
            _ = self.child.recv() => Told::ChildEnded,
        }
    }
}

impl App {
    async fn start(loaded: Loaded, path: PathBuf, logs: Logs) -> Result<Self, ServeError> {
        let Loaded { model, identities, .. } = loaded;
        let (set, _) = CertificateSet::new(identities.clone(), &model.hostname);
        let mut rooms = Rooms::new(CertificateStore::new(set));
        let mut server = Server::new(rooms.pool.clone());

        let Wired { listeners, behind } = rooms.wire(&model)?;
        let prepared = server.prepare(listeners).map_err(|errors| ServeError::Bind(bind_texts(&errors)))?;
        let socket = control::bind(&path, model.run_as.as_ref());
        if let Some(run_as) = &model.run_as {
            obtained::make_caches(&model, run_as)?;
            privileges::drop_to(run_as)?;
        }
        let opened = Opened::open(&model, &identities, &Obtained::default()).await?;
        publish(&rooms, &server, identities, &opened, &model.hostname);
        let watcher = Watcher::start(model.certificates.clone(), &model.hostname, rooms.store.clone())?;
        server.apply(prepared);
        rooms.keep(behind);
        let obtained = opened.start(&rooms.store, &model.hostname).await?;
        let reach = Reach::new(rooms.store.clone(), server.counts());
        reach.show(Some(in_force(&model, &rooms, &obtained)));
        let control = socket.and_then(|socket| Control::start(socket, reach.clone()));
        let control = control
            .inspect_err(|error| {
                tracing::warn!("`waxseal status` and `waxseal cert` will not reach this server: {error}");
            })
            .ok();
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            listeners = model.listeners.len(),
            certificates = model.certificates.len(),
            "serving"
        );
        Ok(Self { path, logs, rooms, server, watcher, obtained, reach, _control: control, in_force: model })
    }

    async fn run(mut self, mut signals: Signals) {
        let stop = loop {
            match signals.next().await {
                Told::Stop(signal) => break signal,
                Told::Reload => self.reload().await,
                Told::Report => self.report(),
                Told::ChildEnded => waxseal_acme::bury_orphans(),
            }
        };
        tracing::info!(
            sessions = self.server.live_sessions(),
            "{stop}: stopping, within {} s",
            GRACE.as_secs()
        );
        self.report();
        let second = async {
            loop {
                match signals.next().await {
                    Told::Stop(_) => break,
                    Told::ChildEnded => waxseal_acme::bury_orphans(),
                    Told::Reload | Told::Report => {}
                }
            }
        };
        tokio::select! {
            cut = self.server.drain(GRACE) => match cut {
                0 => tracing::info!("stopped"),
                cut => tracing::warn!("stopped; {cut} sessions were cut, as they did not end in {} s", GRACE.as_secs()),
            },
            () = second => tracing::warn!("stopped at once, as told twice"),
        }
    }

    /// Reads the configuration again and puts it into force whole, or not at all.
    async fn reload(&mut self) {
        tracing::info!("SIGHUP: reading {} again", self.path.display());
        let loaded = match config::load(&self.path, &Machine::this()) {
            Ok(loaded) => loaded,
            Err(report) => {
                tracing::error!("the configuration stays as it was, as the new one is wrong:\n{report}");
                return;
            }
        };
        if let Err(error) = self.change(loaded).await {
            tracing::error!("the configuration stays as it was: {error}");
        }
    }

    async fn change(&mut self, loaded: Loaded) -> Result<(), ServeError> {
        let Loaded { model, identities, report } = loaded;
        if !report.is_empty() {
            tracing::warn!("the new configuration:\n{report}");
        }
        let Wired { listeners, behind } = self.rooms.wire(&model)?;
        let prepared =
            self.server.prepare(listeners).map_err(|errors| ServeError::Bind(bind_texts(&errors)))?;
        let opened = Opened::open(&model, &identities, &self.obtained).await?;

        // Nothing fails from here on, but that storage may break between two looks at it.
        self.reach.show(None);
        self.obtained = Obtained::default();
        publish(&self.rooms, &self.server, identities, &opened, &model.hostname);
        self.watcher = Watcher::start(model.certificates.clone(), &model.hostname, self.rooms.store.clone())?;
        self.obtained = opened.start(&self.rooms.store, &model.hostname).await?;
        self.server.apply(prepared);
        self.rooms.keep(behind);
        self.reach.show(Some(in_force(&model, &self.rooms, &self.obtained)));
        self.logs.change(model.log);
        if model.run_as != self.in_force.run_as {
            tracing::warn!("server.run-as is followed at the start only; restart waxseal to change it");
        }
        self.in_force = model;
        tracing::info!(listeners = self.in_force.listeners.len(), "the new configuration is in force");
        Ok(())
    }

    /// The counters, in one line.
    fn report(&self) {
        let tally = self.server.tally();
        tracing::info!(
            live = self.server.live_sessions(),
            connections = tally.connections.get(),
            sessions = tally.sessions.get(),
            handshakes = tally.handshakes.get(),
            resumptions = tally.resumptions.get(),
            handshake_failures = tally.handshake_failures.get(),
            injections = tally.injections.get(),
            turned_away = tally.turned_away.get(),
            service_failures = tally.service_failures.get(),
            "counted since the start"
        );
    }
}

/// What commands are shown.
fn in_force(model: &config::Model, rooms: &Rooms, obtained: &Obtained) -> InForce {
    InForce {
        renewers: obtained.renewers(),
        listeners: records::listeners(model),
        services: rooms.services(),
    }
}

/// Puts certificates into force: those by hand, then those obtained; and who answers challenges.
fn publish(rooms: &Rooms, server: &Server, by_hand: Vec<Entry>, opened: &Opened, hostname: &str) {
    let all = by_hand.into_iter().chain(opened.entries()).collect();
    rooms.store.publish(CertificateSet::new(all, hostname).0);
    let answering = opened.answering();
    rooms.store.answer(answering.clone().map(|answering| Box::new(answering) as _));
    server.answer(answering.map(|answering| Box::new(answering) as _));
}

/// One line for each address that cannot be listened on: who holds it, or what is missing.
fn bind_texts(errors: &[BindError]) -> Vec<String> {
    errors
        .iter()
        .map(|error| {
            let remedy = match error.source.kind() {
                std::io::ErrorKind::AddrInUse => match ports::holder(error.address) {
                    // On a reload: addresses that overlap cannot be open both, not even for a moment.
                    Some(holder) if holder.program == Program::Us => format!(
                        "waxseal itself listens on {} as long as the old configuration is in force; restart it to change \
                         from the one to the other",
                        holder.address
                    ),
                    Some(Holder { program, .. }) => format!("it is held by {program}; stop that, or choose another address"),
                    None => "another program holds it; stop that, or choose another address".to_owned(),
                },
                std::io::ErrorKind::PermissionDenied => {
                    "ports below 1024 are root's: start waxseal as root and let it become somebody else (server.run-as; what \
                     a reload adds then takes a restart), or give it CAP_NET_BIND_SERVICE (AmbientCapabilities= in the \
                     unit)"
                        .to_owned()
                }
                std::io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
                _ => return error.to_string(),
            };
            format!("{error}: {remedy}")
        })
        .collect()
}

/// Each session takes two descriptors; the soft limit of 1024 that most systems start with is for select(2).
fn raise_open_files() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!("the limit of open files stays at {soft}: {error}");
    }
}
