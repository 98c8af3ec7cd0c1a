//! One connection, from its first byte to its log line: dialogue, handshake, service, splice.

mod dialogue;
mod end;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};
use waxseal_proto::proxy::{self, ProxyHead};
use waxseal_proto::{
    Auth, CleartextStart, ClientLeg, Cut, Farewell, Guard, Outputs, Protocol, StartTls, Taken, farewell,
};
use waxseal_tls::{Acceptor, Begin, HandshakeError, PlainStream};

use crate::challenge::{self, Heard, HttpChallenges};
use crate::drain::{Drain, Phase};
use crate::leg::{Leg, Socket};
use crate::limits::{Full, Place};
use crate::server::Shared;
use crate::service::{Caller, Opened};
use crate::settings::{Listener, Security};
use crate::splice::Splice;
use dialogue::Talked;
use end::{Early, idle_limit, own_words};

/// How long a farewell may take to be written.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a client may wait for leave to begin its handshake.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);
/// Why a client was not let into a handshake.
const HANDSHAKES_BUSY: &str = "waiting for a handshake to begin, as too many are in progress";

/// One connection.
pub(crate) struct Session {
    listener: Arc<Listener>,
    shared: Arc<Shared>,
    source: SocketAddr,
    destination: SocketAddr,
    accepted: Instant,
    id: SessionId,
}

/// The name of a session in logs, and to services that log such a thing.
#[derive(Clone, Copy)]
struct SessionId(u64);

impl SessionId {
    /// Names are unique in the life of a process; the high half tells processes apart.
    fn next(shared: &Shared) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(u64::from(shared.born) << 32 | (LAST.fetch_add(1, Ordering::Relaxed) & 0xffff_ffff))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// How the service's greeting reaches the client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Greeting {
    /// It is the first thing the client hears.
    Passed,
    /// The door has greeted already.
    Swallowed,
}

impl Session {
    pub(crate) fn new(
        listener: Arc<Listener>,
        shared: Arc<Shared>,
        source: SocketAddr,
        destination: SocketAddr,
        accepted: Instant,
    ) -> Self {
        let id = SessionId::next(&shared);
        Self { listener, shared, source, destination, accepted, id }
    }

    /// Tells a client for which there is no place so, in the words of its protocol where it can hear them.
    pub(crate) async fn turn_away(self, mut stream: TcpStream, full: Full) {
        self.shared.tally.turned_away.add();
        let limit = match full {
            Full::Listener => "max-connections",
            Full::Address => "max-connections-per-address",
        };
        tracing::warn!(
            listener = &*self.listener.name,
            client = %self.source,
            "connection turned away: {limit} of this listener is reached"
        );
        if !matches!(self.listener.security, Security::Implicit(_)) {
            let words = self.farewell(Farewell::TooManyConnections);
            let _ = timeout(FAREWELL_TIMEOUT, stream.write_all(&words)).await;
        }
    }

    /// Serves the connection to its end.
    pub(crate) async fn serve(self, stream: TcpStream, place: Place) {
        let mut drain = self.shared.drainer.drain();
        // The way to the service is boxed, as an idle session's task is to hold no more than the splice needs.
        match Box::pin(self.establish(stream, &mut drain)).await {
            Ok(mut splice) => {
                self.shared.tally.sessions.add();
                let idle = idle_limit(self.listener.protocol);
                let report = splice.run(idle, &mut drain, |end| self.last_words(end)).await;
                self.log_end(splice.client(), &report);
            }
            Err(early) => self.log_early(&early),
        }
        drop(place);
    }

    async fn establish(&self, stream: TcpStream, drain: &mut Drain) -> Result<Box<Splice>, Early> {
        match &self.listener.security {
            Security::Clear => {
                let socket = Socket::Tcp(stream);
                let client = match (self.listener.protocol, self.shared.challenges.load_full()) {
                    (Protocol::Http, Some(challenges)) => {
                        self.challenge(socket, &**challenges, drain).await?
                    }
                    _ => PlainStream::new(socket, Arc::clone(&self.shared.pool)),
                };
                let leg = ClientLeg::Clear { auth: Auth::Pass };
                self.open(Leg::Plain(client), leg, None, Greeting::Passed, drain).await
            }
            Security::Implicit(acceptor) => {
                let deadline = self.accepted + self.listener.timeout;
                let socket = self.first_byte(stream, deadline, drain).await?;
                let leave = (deadline, self.handshake_permit().await?);
                let client = self.handshake(acceptor, socket, Begin::FirstByte, leave, drain).await?;
                self.open(client, ClientLeg::Tls, None, Greeting::Passed, drain).await
            }
            Security::StartTls { acceptor, require } => {
                let starttls = if *require { StartTls::Required } else { StartTls::Optional };
                let mut client = PlainStream::new(Socket::Tcp(stream), Arc::clone(&self.shared.pool));
                let talked = self.talk(&mut client, starttls, drain).await?;
                let (socket, unread) = client.into_parts();
                match talked {
                    Talked::StartTls(..) if !unread.is_empty() => Err(self.injection(unread.len())),
                    Talked::StartTls(drained, permit) => {
                        let leave = (Instant::now() + self.listener.timeout, permit);
                        let client =
                            self.handshake(acceptor, socket, Begin::After(drained), leave, drain).await?;
                        // RFC 5804 section 2.2: the capabilities again, unasked; elsewhere the client asks anew.
                        let greeting = match self.listener.protocol {
                            Protocol::ManageSieve => Greeting::Passed,
                            _ => Greeting::Swallowed,
                        };
                        self.open(client, ClientLeg::Tls, None, greeting, drain).await
                    }
                    Talked::Open(CleartextStart { hello, unread: mut said }) => {
                        said.extend(unread);
                        let pool = Arc::clone(&self.shared.pool);
                        let client = Leg::Plain(PlainStream::with_unread(socket, pool, said));
                        let leg = ClientLeg::Clear { auth: Auth::Refuse };
                        self.open(client, leg, hello, Greeting::Swallowed, drain).await
                    }
                }
            }
        }
    }

    /// Answers a CA that asks for a token of ours; whoever asks for anything else goes on to the service.
    async fn challenge(
        &self,
        socket: Socket,
        challenges: &dyn HttpChallenges,
        drain: &mut Drain,
    ) -> Result<PlainStream<Socket>, Early> {
        let mut client = PlainStream::new(socket, Arc::clone(&self.shared.pool));
        let heard = tokio::select! {
            heard = timeout(self.listener.timeout, challenge::hear(&mut client, challenges)) => heard,
            () = drain.begun() => return Err(Early::ShutDown),
        };
        match heard {
            Ok(Ok(Heard::Challenge(answer))) => {
                self.say(&mut client, answer).await;
                Err(Early::Challenge("http-01"))
            }
            Ok(Ok(Heard::Other(heard))) if heard.is_empty() => Err(Early::ClientLeft),
            Ok(Ok(Heard::Other(heard))) => {
                let (socket, _) = client.into_parts();
                Ok(PlainStream::with_unread(socket, Arc::clone(&self.shared.pool), heard))
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Early::TimedOut("before a request")),
        }
    }

    /// Waits for the client to begin: one that only keeps a connection open is no handshake in progress.
    async fn first_byte(
        &self,
        socket: TcpStream,
        deadline: Instant,
        drain: &mut Drain,
    ) -> Result<Socket, Early> {
        let mut byte = [0];
        tokio::select! {
            biased;
            () = drain.begun() => Err(Early::ShutDown),
            heard = timeout_at(deadline, socket.peek(&mut byte)) => match heard {
                Ok(Ok(0)) => Err(Early::ClientLeft),
                Ok(Ok(_)) => Ok(Socket::Tcp(socket)),
                Ok(Err(error)) => Err(error.into()),
                Err(_) => {
                    self.shared.tally.handshake_failures.add();
                    Err(self.cleartext_on_tls(Socket::Tcp(socket), None).await)
                }
            },
        }
    }

    /// Leave to run a handshake, as only so many run at once.
    async fn handshake_permit(&self) -> Result<SemaphorePermit<'_>, Early> {
        match timeout(HANDSHAKE_PATIENCE, self.shared.handshakes.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Early::TimedOut(HANDSHAKES_BUSY)),
        }
    }

    async fn handshake(
        &self,
        acceptor: &Arc<Acceptor>,
        socket: Socket,
        begin: Begin,
        (deadline, _permit): (Instant, SemaphorePermit<'_>),
        drain: &mut Drain,
    ) -> Result<Leg, Early> {
        let implicit = matches!(begin, Begin::FirstByte);
        let mut handshake = acceptor.begin(socket, begin);
        let outcome = tokio::select! {
            outcome = timeout_at(deadline, handshake.run()) => outcome,
            () = drain.over() => return Err(Early::ShutDown),
        };
        match outcome {
            Ok(Ok(established)) => {
                let mut stream = handshake.finish(established);
                if stream.facts().is_challenge() {
                    let _ = timeout(FAREWELL_TIMEOUT, stream.shutdown()).await;
                    return Err(Early::Challenge("tls-alpn-01"));
                }
                self.shared.tally.handshakes.add();
                if stream.facts().resumed {
                    self.shared.tally.resumptions.add();
                }
                Ok(Leg::Tls(Box::new(stream)))
            }
            Ok(Err(HandshakeError::Cleartext { first })) if implicit => {
                let (socket, _) = handshake.into_io();
                Err(self.cleartext_on_tls(socket, Some(first)).await)
            }
            // Not TLS after the go-ahead: it was sent before it, or by someone who does not know of TLS.
            Ok(Err(HandshakeError::Cleartext { first })) => Err(self.injection(first.len())),
            Ok(Err(error)) => {
                self.shared.tally.handshake_failures.add();
                Err(Early::Handshake(error.to_string()))
            }
            Err(_) => {
                self.shared.tally.handshake_failures.add();
                Err(Early::TimedOut("in the TLS handshake"))
            }
        }
    }

    /// A client that speaks, or waits to be spoken to, in clear on an implicit listener is told so in its own language.
    async fn cleartext_on_tls(&self, socket: Socket, first: Option<Vec<u8>>) -> Early {
        let mut client = PlainStream::new(socket, Arc::clone(&self.shared.pool));
        self.say(&mut client, self.farewell(Farewell::CleartextOnTls)).await;
        Early::Cleartext(match first {
            Some(first) if !matches!(proxy::read(&first), ProxyHead::None) => format!(
                "the peer sent a PROXY header, which is believed from proxy.trusted-networks only; {} is not among them",
                self.source.ip()
            ),
            Some(_) => "client spoke cleartext on a port that is encrypted from the first byte; in the client choose \
                        \"SSL/TLS\" for this port, or use the STARTTLS port"
                .to_owned(),
            None => "timed out in the TLS handshake: the client said nothing. If it waits for a greeting in clear, \
                     choose \"SSL/TLS\" in it for this port, or use the STARTTLS port"
                .to_owned(),
        })
    }

    /// Opens the service and prepares what stands between it and the client.
    async fn open(
        &self,
        mut client: Leg,
        leg: ClientLeg,
        hello: Option<Vec<u8>>,
        greeting: Greeting,
        drain: &mut Drain,
    ) -> Result<Box<Splice>, Early> {
        if drain.phase() != Phase::Running {
            self.say(&mut client, self.farewell(Farewell::ShuttingDown)).await;
            return Err(Early::ShutDown);
        }
        let id = self.id.to_string();
        let caller = Caller {
            source: self.source,
            destination: self.destination,
            tls: client.facts(),
            hello,
            session: &id,
        };
        let opened = tokio::select! {
            opened = self.listener.service.open(caller) => opened,
            () = drain.over() => return Err(Early::ShutDown),
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.shared.tally.service_failures.add();
                let words = error
                    .refusal()
                    .and_then(|refusal| own_words(self.listener.protocol, refusal))
                    .unwrap_or_else(|| self.farewell(Farewell::Unreachable));
                self.say(&mut client, words).await;
                return Err(error.into());
            }
        };
        let Opened { leg: service, greeting: greeted, capabilities, unread } = opened;
        let mut guard = Guard::new(self.listener.protocol, leg, &self.listener.hostname);
        if let Some(capabilities) = &capabilities {
            guard.service_offers(capabilities);
        }
        let mut queues = Outputs::default();
        let shown: &[u8] = if greeting == Greeting::Passed { &greeted } else { &[] };
        if let Err(cut) =
            feed(&mut guard, shown, &mut queues).and_then(|()| feed(&mut guard, &unread, &mut queues))
        {
            self.say(&mut client, queues.to_client).await;
            return Err(Early::FirstWords(cut));
        }
        Ok(Box::new(Splice::new(client, service, guard, queues)))
    }

    fn injection(&self, bytes: usize) -> Early {
        Early::Injection { bytes, count: self.shared.tally.injections.add() }
    }

    fn farewell(&self, why: Farewell) -> Vec<u8> {
        farewell(self.listener.protocol, &self.listener.hostname, why)
    }

    /// Says something to a client that is about to be closed; whether it hears it is its own affair.
    async fn say(&self, client: &mut (impl AsyncWriteExt + Unpin), words: Vec<u8>) {
        let _ = timeout(FAREWELL_TIMEOUT, async {
            client.write_all(&words).await?;
            client.shutdown().await
        })
        .await;
    }
}

/// Gives the guard what the service has said already.
fn feed(guard: &mut Guard, mut said: &[u8], queues: &mut Outputs) -> Result<(), Cut> {
    while !said.is_empty() {
        let taken =
            if guard.is_transparent() { Taken::Pass(said.len()) } else { guard.from_service(said, queues) };
        match taken {
            Taken::Pass(count) => {
                let (passed, rest) = said.split_at(count.min(said.len()));
                queues.to_client.extend_from_slice(passed);
                said = rest;
            }
            Taken::Took(count) => said = said.get(count..).unwrap_or_default(),
            // Nothing of the client's is pending yet, so there is nothing to wait for.
            Taken::Wait => break,
            Taken::Close(cut) => return Err(cut),
        }
    }
    Ok(())
}
