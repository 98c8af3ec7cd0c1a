//! A mail server behind the door, reached over the network.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::timeout;
use waxseal_proto::proxy::{self, TlsFacts};
use waxseal_proto::{
    Capabilities, Client, Goal, Opening, OpeningError, OpeningPlan, OpeningStep, Protocol, Ready,
};
use waxseal_tls::{Begin, Connector, ConnectorError, Pool};

use super::dial::{Dialled, Resolver, dial};
use super::health::{Health, Known};
use super::{Caller, Opened, Promise, Service, ServiceError, Unreachable, diagnose};
use crate::leg::Leg;
use crate::settings::{Address, Forwarding, LegSecurity, Upstream};

/// How long a service may take from the connection to its readiness for a client. Postfix may look up names meanwhile.
const OPENING_TIMEOUT: Duration = Duration::from_secs(30);
/// The same when it is only asked what it can do.
const LEARNING_TIMEOUT: Duration = Duration::from_secs(8);
/// Pauses between questions to a service that does not answer; the last one repeats.
const RETRY: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// Least time between two questions that failed sessions have caused.
const BREATHER: Duration = Duration::from_millis(250);

/// Our own address where there is none, as over a unix socket. Dovecot takes no port 0 in an introduction.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// What all relays share.
#[derive(Clone)]
pub struct RelayContext {
    /// Our own name, in EHLO.
    pub hostname: Arc<str>,
    /// Who is asked for addresses.
    pub resolver: Resolver,
    /// Where buffers come from.
    pub pool: Arc<Pool>,
}

/// One address of the service, and how TLS is spoken there.
pub(super) struct Way {
    pub(super) address: Address,
    connector: Option<Arc<Connector>>,
}

/// An upstream as the service of one protocol.
pub struct Relay {
    context: RelayContext,
    pub(super) upstream: Upstream,
    pub(super) protocol: Protocol,
    pub(super) ways: Vec<Way>,
    /// The first address that answered when last asked.
    preferred: AtomicUsize,
    known: Known,
    ask: Arc<Notify>,
}

/// How one session on the leg behind is opened.
pub(super) struct Manner {
    /// Which header stands before everything else.
    pub(super) forwarding: Forwarding,
    /// Whether the client's own leg is encrypted.
    pub(super) encrypted: bool,
}

impl Relay {
    /// The relay to `upstream`, and a task that learns what it can do for as long as the relay lives.
    ///
    /// # Errors
    /// When an address's TLS cannot be set up: a CA file without certificates, an impossible server name.
    pub fn start(
        context: RelayContext,
        upstream: Upstream,
        protocol: Protocol,
    ) -> Result<Arc<Self>, ConnectorError> {
        let relay = Arc::new(Self::new(context, upstream, protocol)?);
        tokio::spawn(learn(Arc::downgrade(&relay), Arc::clone(&relay.ask)));
        Ok(relay)
    }

    /// The relay alone, which asks nothing by itself.
    pub(crate) fn new(
        context: RelayContext,
        upstream: Upstream,
        protocol: Protocol,
    ) -> Result<Self, ConnectorError> {
        let ways = upstream
            .addresses
            .iter()
            .map(|address| {
                let connector = if upstream.leg == LegSecurity::None {
                    None
                } else {
                    let name = upstream.server_name.clone().unwrap_or_else(|| match address {
                        Address::Tcp { host, .. } => host.clone(),
                        Address::Unix(_) => "localhost".to_owned(),
                    });
                    Some(Connector::new(&upstream.trust, &name, Arc::clone(&context.pool))?)
                };
                Ok(Way { address: address.clone(), connector })
            })
            .collect::<Result<_, ConnectorError>>()?;
        Ok(Self {
            context,
            upstream,
            protocol,
            ways,
            preferred: AtomicUsize::new(0),
            known: Known::new(),
            ask: Arc::new(Notify::new()),
        })
    }

    /// The upstream this relay leads to.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Asks every address in order what the service can do, until one answers.
    async fn ask_all(&self) -> Result<Capabilities, ServiceError> {
        let mut last = None;
        for (index, way) in self.ways.iter().enumerate() {
            match self.ask(way, self.upstream.forwarding).await {
                Ok(capabilities) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(capabilities);
                }
                Err(error) => last = Some(diagnose::explain(self, way, error).await),
            }
        }
        Err(last.unwrap_or_else(|| self.down("it has no address")))
    }

    /// Asks one address what the service can do for a client that uses TLS.
    pub(super) async fn ask(&self, way: &Way, forwarding: Forwarding) -> Result<Capabilities, ServiceError> {
        let manner = Manner { forwarding, encrypted: true };
        let introduce = (forwarding == Forwarding::Xclient).then(|| Client {
            source: NOWHERE,
            destination: NOWHERE,
            helo: None,
            session: "waxseal-asks".to_owned(),
        });
        let plan = self.plan(&manner, Goal::Learn, introduce, None);
        let (_, ready) = self.open_way(way, &manner, None, plan, LEARNING_TIMEOUT).await?;
        Ok(ready.capabilities.unwrap_or_else(|| Capabilities::new(self.protocol, Vec::new())))
    }

    fn plan(
        &self,
        manner: &Manner,
        goal: Goal,
        introduce: Option<Client>,
        hello: Option<Vec<u8>>,
    ) -> OpeningPlan {
        OpeningPlan {
            hostname: self.context.hostname.to_string(),
            starttls: self.upstream.leg.starttls(manner.encrypted),
            introduce,
            hello,
            goal,
        }
    }

    /// Opens one session at one address, everything within `limit`.
    async fn open_way(
        &self,
        way: &Way,
        manner: &Manner,
        caller: Option<&Caller<'_>>,
        plan: OpeningPlan,
        limit: Duration,
    ) -> Result<(Leg, Ready), ServiceError> {
        let dialled =
            dial(&way.address, &self.context.resolver).await.map_err(|source| ServiceError::Connect {
                service: Arc::clone(&self.upstream.name),
                address: way.address.to_string(),
                source,
            })?;
        let mut awaited = "greet";
        let opened = timeout(limit, self.converse(way, manner, caller, plan, dialled, &mut awaited)).await;
        opened.unwrap_or_else(|_| {
            Err(ServiceError::Silent {
                service: Arc::clone(&self.upstream.name),
                address: way.address.to_string(),
                awaited,
                seconds: limit.as_secs(),
            })
        })
    }

    /// Header, TLS, and the words until the service is ready.
    async fn converse(
        &self,
        way: &Way,
        manner: &Manner,
        caller: Option<&Caller<'_>>,
        plan: OpeningPlan,
        dialled: Dialled,
        awaited: &mut &'static str,
    ) -> Result<(Leg, Ready), ServiceError> {
        let broken = |source| self.broken(way, source);
        let mut out = Vec::new();
        header(manner.forwarding, caller, dialled.ends, self.protocol, &mut out);
        let mut leg = Leg::plain(dialled.socket, &self.context.pool);
        write(&mut leg, &mut out).await.map_err(broken)?;
        if self.upstream.leg == LegSecurity::Implicit {
            *awaited = "finish the TLS handshake";
            leg = self.encrypt(way, leg, Begin::FirstByte).await?;
            *awaited = "greet";
        }
        let Some(mut opening) = Opening::new(self.protocol, plan) else {
            let nothing = Ready { greeting: Vec::new(), capabilities: None, unread: Vec::new() };
            return Ok((leg, nothing));
        };
        loop {
            let data = leg.fill_buf().await.map_err(broken)?;
            if data.is_empty() {
                return Err(broken(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection")));
            }
            let count = data.len();
            let step = opening.receive(data, &mut out);
            leg.consume(count);
            let written = write(&mut leg, &mut out).await;
            match step.map_err(|source| self.opening(way, source))? {
                OpeningStep::More => *awaited = "answer our greeting",
                OpeningStep::StartTls(drained) => {
                    *awaited = "finish the TLS handshake";
                    leg = self.encrypt(way, leg, Begin::After(drained)).await?;
                    opening.secured(&mut out);
                    write(&mut leg, &mut out).await.map_err(broken)?;
                    *awaited = "answer inside TLS";
                }
                OpeningStep::Ready(ready) => return Ok((leg, ready)),
            }
            written.map_err(broken)?;
        }
    }

    async fn encrypt(&self, way: &Way, leg: Leg, begin: Begin) -> Result<Leg, ServiceError> {
        let failed = |why: String| ServiceError::Tls {
            service: Arc::clone(&self.upstream.name),
            address: way.address.to_string(),
            why,
        };
        let (Leg::Plain(stream), Some(connector)) = (leg, &way.connector) else {
            return Err(failed("it is encrypted already".to_owned()));
        };
        let (socket, unread) = stream.into_parts();
        if !unread.is_empty() {
            return Err(self.opening(way, OpeningError::Injected { bytes: unread.len() }));
        }
        let mut handshake = connector.begin(socket, begin);
        let established = handshake.run().await.map_err(|error| failed(error.to_string()))?;
        Ok(Leg::Tls(Box::new(handshake.finish(established))))
    }

    async fn open_any(&self, caller: Caller<'_>) -> Result<Opened, ServiceError> {
        self.known.settled().await.map_err(|Unreachable(why)| self.down_because(why))?;
        let manner = Manner { forwarding: self.upstream.forwarding, encrypted: caller.tls.is_some() };
        let preferred = self.preferred.load(Ordering::Relaxed);
        let (before, from) = self.ways.split_at(preferred.min(self.ways.len()));
        let mut last = None;
        for way in from.iter().chain(before) {
            let introduce = (manner.forwarding == Forwarding::Xclient).then(|| introduction(&caller));
            let plan = self.plan(&manner, Goal::Serve, introduce, caller.hello.clone());
            match self.open_way(way, &manner, Some(&caller), plan, OPENING_TIMEOUT).await {
                Ok((leg, ready)) => {
                    let Ready { greeting, capabilities, unread } = ready;
                    return Ok(Opened { leg, greeting, capabilities, unread });
                }
                // Another address would refuse this client just the same.
                Err(error) if error.is_about_the_client() => return Err(error),
                Err(error) => {
                    // Though another address may serve, not every client is to try this one first.
                    self.ask.notify_one();
                    last = Some(error);
                }
            }
        }
        self.known.doubt();
        self.ask.notify_one();
        Err(last.unwrap_or_else(|| self.down("it has no address")))
    }

    fn broken(&self, way: &Way, source: io::Error) -> ServiceError {
        ServiceError::Broken {
            service: Arc::clone(&self.upstream.name),
            address: way.address.to_string(),
            source,
        }
    }

    fn opening(&self, way: &Way, source: OpeningError) -> ServiceError {
        ServiceError::Opening {
            service: Arc::clone(&self.upstream.name),
            address: way.address.to_string(),
            source,
        }
    }

    fn down(&self, why: &str) -> ServiceError {
        self.down_because(Arc::from(why))
    }

    fn down_because(&self, why: Arc<str>) -> ServiceError {
        ServiceError::Down { service: Arc::clone(&self.upstream.name), why }
    }

    /// Keeps an answer, tells the operator when something has changed, and says when to ask again by ourselves.
    fn note(&self, answer: Result<Capabilities, ServiceError>, failures: usize) -> Option<Duration> {
        let service = &*self.upstream.name;
        let protocol = self.protocol.as_str();
        match answer {
            Ok(capabilities) => {
                let surprises = diagnose::surprises(&self.upstream, self.protocol, &capabilities);
                match self.known.learn(Ok(capabilities)) {
                    Health::Down { .. } => tracing::info!(service, protocol, "service answers again"),
                    Health::Unknown => tracing::debug!(service, protocol, "service answers"),
                    Health::Up { .. } | Health::Doubtful => return None,
                }
                for surprise in surprises {
                    tracing::warn!(service, protocol, "{surprise}");
                }
                None
            }
            Err(error) => {
                let why: Arc<str> = Arc::from(error.to_string());
                let repeated = matches!(
                    self.known.learn(Err(Arc::clone(&why))),
                    Health::Down { why: before } if before == why
                );
                if !repeated {
                    tracing::error!(
                        service,
                        protocol,
                        "{why}; listeners in front of it answer as unreachable until it is back"
                    );
                }
                Some(RETRY[failures.min(RETRY.len() - 1)])
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // The learning task holds no relay while it waits; this lets it see that there is none any more.
        self.ask.notify_one();
    }
}

impl Service for Relay {
    fn name(&self) -> &str {
        &self.upstream.name
    }

    fn capabilities(&self) -> Promise<'_, Result<Arc<Capabilities>, Unreachable>> {
        Box::pin(async {
            let capabilities = self.known.settled().await?;
            if self.known.is_due() {
                self.ask.notify_one();
            }
            Ok(capabilities)
        })
    }

    fn open<'a>(&'a self, caller: Caller<'a>) -> Promise<'a, Result<Opened, ServiceError>> {
        Box::pin(self.open_any(caller))
    }
}

/// Asks a service what it can do: at start, when asked to, and while it does not answer, again and again.
async fn learn(relay: Weak<Relay>, ask: Arc<Notify>) {
    let mut failures = 0;
    loop {
        let Some(asking) = relay.upgrade() else { return };
        let answer = asking.ask_all().await;
        let answers = answer.is_ok();
        let again = asking.note(answer, failures);
        failures = if answers { 0 } else { failures + 1 };
        drop(asking);
        match again {
            Some(pause) => tokio::time::sleep(pause).await,
            None => {
                tokio::time::sleep(BREATHER).await;
                ask.notified().await;
            }
        }
    }
}

async fn write(leg: &mut Leg, out: &mut Vec<u8>) -> io::Result<()> {
    if !out.is_empty() {
        leg.write_all(out).await?;
        leg.flush().await?;
        out.clear();
    }
    Ok(())
}

fn introduction(caller: &Caller<'_>) -> Client {
    Client {
        source: caller.source,
        destination: caller.destination,
        helo: caller.hello.as_deref().and_then(hello_name),
        session: caller.session.to_owned(),
    }
}

/// The name in `EHLO name CRLF`.
fn hello_name(line: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(line).ok()?;
    line.split_ascii_whitespace().nth(1).map(str::to_owned)
}

/// Who asks and whom, when it is ourselves. Where clients log in it is somebody far away (RFC 5737, RFC 3849): Dovecot holds
/// a client on its own machine for secured, and offers it what no other client gets.
fn asking(ends: Option<(SocketAddr, SocketAddr)>, protocol: Protocol) -> (SocketAddr, SocketAddr) {
    let (source, destination) = ends.unwrap_or((NOWHERE, NOWHERE));
    let far = match destination {
        SocketAddr::V4(_) => IpAddr::from([192, 0, 2, 1]),
        SocketAddr::V6(_) => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]),
    };
    match protocol {
        Protocol::Smtp | Protocol::Lmtp | Protocol::Http => (source, destination),
        Protocol::Submission | Protocol::Imap | Protocol::Pop3 | Protocol::ManageSieve => {
            (SocketAddr::new(far, source.port()), destination)
        }
    }
}

/// The PROXY header, which stands before everything else, TLS included. Without a caller it is ourselves who ask, in the
/// way of a client that uses TLS, as Dovecot offers AUTH on this leg to no other.
fn header(
    forwarding: Forwarding,
    caller: Option<&Caller<'_>>,
    ends: Option<(SocketAddr, SocketAddr)>,
    protocol: Protocol,
    out: &mut Vec<u8>,
) {
    let (source, destination) = match caller {
        Some(caller) => (caller.source, caller.destination),
        None => asking(ends, protocol),
    };
    match forwarding {
        Forwarding::None | Forwarding::Xclient => {}
        Forwarding::ProxyV1 => proxy::write_v1(source, destination, out),
        Forwarding::ProxyV2 => {
            let tls = match caller {
                None => Some(TlsFacts {
                    version: "TLSv1.3",
                    cipher: "TLS_AES_256_GCM_SHA384",
                    sni: None,
                    alpn: None,
                }),
                Some(caller) => caller.tls.map(|facts| TlsFacts {
                    version: facts.version.name(),
                    cipher: facts.suite.openssl_name(),
                    sni: facts.sni.as_deref(),
                    alpn: facts.alpn.as_deref(),
                }),
            };
            proxy::write_v2(source, destination, tls, out);
        }
    }
}
