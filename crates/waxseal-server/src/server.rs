//! The whole of what listens, and how it changes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use waxseal_tls::Pool;

use crate::accept::accept;
use crate::challenge::HttpChallenges;
use crate::drain::Drainer;
use crate::limits::Gate;
use crate::listen::{self, BindError};
use crate::settings::Listener;
use crate::tally::Tally;

/// Handshakes in progress at once. Each costs a millisecond of a core and some 30 KiB while it lasts; the rest wait,
/// within their own deadlines.
const MAX_HANDSHAKES: usize = 2048;

/// What all sessions of a server share.
pub(crate) struct Shared {
    pub(crate) pool: Arc<Pool>,
    pub(crate) drainer: Drainer,
    pub(crate) handshakes: Semaphore,
    pub(crate) tally: Arc<Tally>,
    /// The second this server was made in, to tell its sessions' names from those of the one before.
    pub(crate) born: u32,
    /// Who knows the answers to http-01, where anyone does.
    pub(crate) challenges: ArcSwapOption<Box<dyn HttpChallenges>>,
    gates: Mutex<HashMap<Arc<str>, Arc<Gate>>>,
}

impl Shared {
    /// The count of a listener's connections, which goes on over reloads.
    pub(crate) fn gate(&self, listener: &Arc<str>) -> Arc<Gate> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(gates.entry(Arc::clone(listener)).or_default())
    }
}

/// The listeners, the sessions they have begun, and the way from one set of settings to the next.
pub struct Server {
    shared: Arc<Shared>,
    running: HashMap<SocketAddr, Running>,
}

/// What is counted of a server.
#[derive(Clone)]
pub struct Counts(Arc<Shared>);

impl Counts {
    /// Sessions that live.
    pub fn live_sessions(&self) -> usize {
        self.0.drainer.live()
    }

    /// The counters.
    pub fn tally(&self) -> &Tally {
        &self.0.tally
    }
}

/// One listening socket and its accept loop.
struct Running {
    sockets: Arc<TcpListener>,
    settings: Arc<ArcSwap<Listener>>,
    accepting: JoinHandle<()>,
}

impl Running {
    /// Goes on under other settings.
    fn change(&self, address: SocketAddr, listener: &Arc<Listener>) {
        let before = self.settings.swap(Arc::clone(listener));
        if before.socket == listener.socket {
            return;
        }
        if let Err(error) = listen::change(&self.sockets, address, &listener.socket) {
            tracing::warn!(
                listener = &*listener.name,
                "the socket options of {address} cannot be changed while it is open: {error}; restart waxseal to change them"
            );
        } else if !listener.socket.can_follow(&before.socket) {
            tracing::warn!(
                listener = &*listener.name,
                "reuse-addr, reuse-port and options that were removed keep their old values on {address} until waxseal is \
                 restarted"
            );
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Settings whose sockets are all bound, and that change nothing until they are applied.
pub struct Prepared {
    listeners: Vec<Arc<Listener>>,
    bound: HashMap<SocketAddr, TcpListener>,
}

impl Server {
    /// A server that listens nowhere yet.
    pub fn new(pool: Arc<Pool>) -> Self {
        let born = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self {
            shared: Arc::new(Shared {
                pool,
                drainer: Drainer::new(),
                handshakes: Semaphore::new(MAX_HANDSHAKES),
                tally: Arc::default(),
                born: u32::try_from(born & u64::from(u32::MAX)).unwrap_or_default(),
                challenges: ArcSwapOption::empty(),
                gates: Mutex::default(),
            }),
            running: HashMap::new(),
        }
    }

    /// Has `challenges` answered on cleartext `http` listeners; `None`: everything goes to the service.
    pub fn answer(&self, challenges: Option<Box<dyn HttpChallenges>>) {
        self.shared.challenges.store(challenges.map(Arc::new));
    }

    /// Binds what `listeners` need beyond what is bound already. Nothing else changes, whatever happens.
    ///
    /// # Errors
    /// Every address that cannot be bound.
    pub fn prepare(&self, listeners: Vec<Listener>) -> Result<Prepared, Vec<BindError>> {
        let mut bound = HashMap::new();
        let mut errors = Vec::new();
        for listener in &listeners {
            for address in &listener.bind {
                if self.running.contains_key(address) {
                    continue;
                }
                match listen::bind(*address, &listener.socket) {
                    Ok(socket) => {
                        bound.insert(*address, socket);
                    }
                    Err(source) => errors.push(BindError {
                        listener: listener.name.to_string(),
                        address: *address,
                        source,
                    }),
                }
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Prepared { listeners: listeners.into_iter().map(Arc::new).collect(), bound })
    }

    /// Puts prepared settings in force: new sockets accept, those no longer wanted close, the others go on under their
    /// new settings. Sessions keep what they began with.
    pub fn apply(&mut self, prepared: Prepared) {
        let Prepared { listeners, mut bound } = prepared;
        let mut before = std::mem::take(&mut self.running);
        for listener in listeners {
            for address in &listener.bind {
                let running = match (bound.remove(address), before.remove(address)) {
                    (Some(sockets), _) => self.run(sockets, &listener),
                    (None, Some(running)) => {
                        running.change(*address, &listener);
                        running
                    }
                    // Bound twice in one set of settings, which whoever made them has to prevent.
                    (None, None) => continue,
                };
                self.running.insert(*address, running);
            }
        }
    }

    fn run(&self, sockets: TcpListener, listener: &Arc<Listener>) -> Running {
        let sockets = Arc::new(sockets);
        let settings = Arc::new(ArcSwap::new(Arc::clone(listener)));
        let accepting =
            tokio::spawn(accept(Arc::clone(&sockets), Arc::clone(&settings), Arc::clone(&self.shared)));
        Running { sockets, settings, accepting }
    }

    /// The addresses in use; with port 0 in the settings, these are still the ones asked for.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.running.keys().copied()
    }

    /// What has happened so far.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.shared.tally
    }

    /// Counts, for whoever does not hold the server.
    pub fn counts(&self) -> Counts {
        Counts(Arc::clone(&self.shared))
    }

    /// Sessions that live.
    pub fn live_sessions(&self) -> usize {
        self.shared.drainer.live()
    }

    /// Accepts nothing more, tells every session in the words of its protocol at a moment when it can hear them, and
    /// waits for the last one, at most `grace`. Returns how many had to be cut.
    pub async fn drain(mut self, grace: Duration) -> usize {
        self.running.clear();
        self.shared.drainer.run(grace).await
    }
}
