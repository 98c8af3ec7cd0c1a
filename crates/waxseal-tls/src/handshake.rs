//! A handshake under way, either side's.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::HandshakeKind;
use waxseal_proto::Drained;

use crate::acceptor::{Acceptor, Served};
use crate::connector::Connector;
use crate::error::HandshakeError;
use crate::facts::Facts;
use crate::hello::{Hello, HelloReader, Reading};
use crate::policy::{Group, Suite, Version};
use crate::pool::{Pool, Window};
use crate::session::{Session, Step, Wish};
use crate::stream::{Remains, TlsStream};
use crate::transport::Transport;

/// Where in the connection TLS begins.
#[derive(Debug)]
pub enum Begin {
    /// With the first byte: nothing was said before.
    FirstByte,
    /// After a dialogue, of which nothing is left unread (RFC 3207 section 4.2; CVE-2011-0411).
    After(Drained),
}

/// A handshake that has not yet succeeded.
///
/// It has no timer: bound [`run`](Self::run) with the caller's own. The transport is not lost when `run` is cancelled.
#[derive(Debug)]
pub struct Handshake<T> {
    io: T,
    pool: Arc<Pool>,
    state: State,
    /// Received and not yet used up. It grows with a long ClientHello or chain, and is freed with the handshake.
    incoming: Vec<u8>,
    /// To be sent; the first `sent` bytes are.
    outgoing: Vec<u8>,
    sent: usize,
    received: usize,
}

#[derive(Debug)]
enum State {
    /// A server that has not read the ClientHello.
    Hello {
        acceptor: Arc<Acceptor>,
        reader: HelloReader,
    },
    /// A client that has not said anything.
    Connect(Arc<Connector>),
    Running {
        session: Session,
        side: Side,
    },
    /// Succeeded or failed: there is nothing left to run.
    Over,
}

/// What is known beside the session itself.
#[derive(Debug)]
enum Side {
    Server { acceptor: Arc<Acceptor>, hello: Option<Box<Hello>>, served: Served },
    Client(Arc<Connector>),
}

/// That a handshake succeeded. Only [`Handshake::run`] makes it.
#[derive(Debug)]
pub struct Established {
    session: Session,
    facts: Box<Facts>,
    remains: Remains,
}

impl Established {
    /// What the handshake agreed on.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }
}

impl<T: Transport> Handshake<T> {
    pub(crate) fn server(acceptor: Arc<Acceptor>, io: T, begin: Begin) -> Self {
        let pool = Arc::clone(acceptor.pool());
        Self::new(io, begin, pool, State::Hello { acceptor, reader: HelloReader::default() })
    }

    pub(crate) fn client(connector: Arc<Connector>, io: T, begin: Begin) -> Self {
        let pool = Arc::clone(connector.pool());
        Self::new(io, begin, pool, State::Connect(connector))
    }

    /// `begin` is evidence and nothing else: whoever holds it has proved that no cleartext is left unread.
    fn new(io: T, _begin: Begin, pool: Arc<Pool>, state: State) -> Self {
        Self { io, pool, state, incoming: Vec::new(), outgoing: Vec::new(), sent: 0, received: 0 }
    }

    /// Runs until the session stands. May be cancelled and called again, until it has given a result.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`]; where TLS demands an alert, it has been sent.
    pub async fn run(&mut self) -> Result<Established, HandshakeError> {
        let result = self.run_to_the_end().await;
        self.state = State::Over;
        result
    }

    async fn run_to_the_end(&mut self) -> Result<Established, HandshakeError> {
        self.start().await?;
        let mut plain = None;
        loop {
            let stands = match self.step(&mut plain) {
                Ok(stands) => stands,
                Err(error) => return Err(self.refuse(error).await),
            };
            self.flush().await?;
            if let Some(standing) = stands {
                return self.establish(standing, plain);
            }
            self.receive().await?;
        }
    }

    /// Gets as far as a session that can be run.
    async fn start(&mut self) -> Result<(), HandshakeError> {
        if let State::Connect(connector) = &self.state {
            let connector = Arc::clone(connector);
            let session = connector.session().map_err(HandshakeError::refused_by_library)?;
            self.state = State::Running { session, side: Side::Client(connector) };
        }
        while let State::Hello { acceptor, reader } = &mut self.state {
            let acceptor = Arc::clone(acceptor);
            let hello = match reader.read(&self.incoming) {
                Reading::More => {
                    self.receive().await?;
                    continue;
                }
                Reading::Cleartext => {
                    return Err(HandshakeError::Cleartext { first: std::mem::take(&mut self.incoming) });
                }
                Reading::TooLong => {
                    self.alert(alert::DECODE_ERROR).await;
                    return Err(HandshakeError::too_long());
                }
                Reading::Garbled => None,
                Reading::Whole(hello) => Some(hello),
            };
            match acceptor.serve(hello.as_deref()) {
                Ok((session, served)) => {
                    self.state = State::Running { session, side: Side::Server { acceptor, hello, served } };
                }
                Err(refusal) => {
                    self.alert(refusal.alert).await;
                    return Err(refusal.explain(&acceptor, hello));
                }
            }
        }
        Ok(())
    }

    /// Lets the session take what was received. `Some` once it stands.
    fn step(&mut self, plain: &mut Option<Window>) -> Result<Option<Standing>, rustls::Error> {
        let State::Running { session, .. } = &mut self.state else {
            return Err(rustls::Error::HandshakeNotComplete);
        };
        loop {
            let keep = |bytes: &[u8]| {
                plain.get_or_insert_with(|| Window::new(&self.pool)).extend(bytes);
            };
            let (used, step) = session.step(&mut self.incoming, keep, &mut self.outgoing, Wish::Nothing);
            self.incoming.drain(..used.min(self.incoming.len()));
            match step? {
                Step::Control => {}
                Step::Blocked => return Ok(None),
                Step::Traffic(_) => return Ok(Some(Standing { more: false, closed: false })),
                // The peer's first words may come with its last handshake message.
                Step::Record => return Ok(Some(Standing { more: true, closed: false })),
                Step::PeerClosed | Step::Closed => return Ok(Some(Standing { more: false, closed: true })),
            }
        }
    }

    fn establish(
        &mut self,
        standing: Standing,
        plain: Option<Window>,
    ) -> Result<Established, HandshakeError> {
        let State::Running { session, side } = std::mem::replace(&mut self.state, State::Over) else {
            return Err(over());
        };
        let facts = facts(&session, side).ok_or_else(over)?;
        let mut incoming = None;
        if !self.incoming.is_empty() {
            // No more than the last read brought, which is what fits into one buffer: what was received before it
            // was part of an unfinished record or message, and is used up by now.
            let window: &mut Window = incoming.insert(Window::new(&self.pool));
            if window.extend(&self.incoming) < self.incoming.len() {
                return Err(io::Error::from(io::ErrorKind::OutOfMemory).into());
            }
        }
        let remains = Remains { incoming, plain, more: standing.more, closed: standing.closed };
        Ok(Established { session, facts: Box::new(facts), remains })
    }

    /// Sends the alert that belongs to `error`, and puts the error into words.
    async fn refuse(&mut self, error: rustls::Error) -> HandshakeError {
        if let State::Running { session, .. } = &mut self.state {
            session.collect_alert(&mut self.outgoing);
        }
        let is_garbled = matches!(&self.state, State::Running { side: Side::Server { hello: None, .. }, .. });
        if is_garbled && self.outgoing.is_empty() {
            // The library has none for what does not even look like a handshake.
            self.alert(alert::DECODE_ERROR).await;
        }
        // The peer may be gone already; that it violated the protocol says more than that.
        let _ = self.flush().await;
        match std::mem::replace(&mut self.state, State::Over) {
            State::Running { side: Side::Server { acceptor, hello, .. }, .. } => {
                acceptor.explain(error, hello)
            }
            State::Running { side: Side::Client(connector), .. } => connector.explain(error),
            _ => HandshakeError::refused_by_library(error),
        }
    }

    /// Sends a fatal alert in the clear (RFC 8446 section 6).
    async fn alert(&mut self, description: u8) {
        self.outgoing.extend_from_slice(&[21, 3, 3, 0, 2, 2, description]);
        let _ = self.flush().await;
    }

    async fn receive(&mut self) -> Result<(), HandshakeError> {
        let read = poll_fn(|cx| self.poll_receive(cx)).await?;
        if read == 0 { Err(HandshakeError::Closed { received: self.received }) } else { Ok(()) }
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        ready!(self.io.poll_read_ready(cx))?;
        let mut window = Window::new(&self.pool);
        let read = ready!(window.poll_read_from(&mut self.io, cx))?;
        self.incoming.extend_from_slice(window.filled());
        self.received = self.received.saturating_add(read);
        Poll::Ready(Ok(read))
    }

    async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(left @ [_, ..]) = self.outgoing.get(self.sent..) {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, left))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        if self.sent > 0 {
            self.outgoing.clear();
            self.sent = 0;
            return Pin::new(&mut self.io).poll_flush(cx);
        }
        Poll::Ready(Ok(()))
    }

    /// The session that `run` established.
    pub fn finish(self, established: Established) -> TlsStream<T> {
        let Established { session, facts, remains } = established;
        TlsStream::new(self.io, self.pool, session, facts, remains)
    }

    /// The transport, and how many bytes were received.
    pub fn into_io(self) -> (T, usize) {
        (self.io, self.received)
    }
}

/// In which state the session stands.
struct Standing {
    /// Whether whole records may be left in what was received.
    more: bool,
    /// Whether the peer has ended its side already.
    closed: bool,
}

/// Alert numbers of RFC 8446 section 6, where no session exists that could make them.
pub(crate) mod alert {
    pub(crate) const DECODE_ERROR: u8 = 50;
    pub(crate) const INTERNAL_ERROR: u8 = 80;
    pub(crate) const NO_APPLICATION_PROTOCOL: u8 = 120;
}

fn over() -> HandshakeError {
    io::Error::new(io::ErrorKind::NotConnected, "the handshake is over").into()
}

fn facts(session: &Session, side: Side) -> Option<Facts> {
    let state = session.state();
    let (sni, certificate, matched) = match side {
        Side::Server { served, .. } => (served.sni, Some(served.name), Some(served.matched)),
        Side::Client(_) => (None, None, None),
    };
    Some(Facts {
        version: state.protocol_version().and_then(Version::from_wire)?,
        suite: state.negotiated_cipher_suite().and_then(|suite| Suite::by_id(suite.suite()))?,
        group: state.negotiated_key_exchange_group().and_then(|group| Group::by_id(group.name())),
        sni,
        alpn: state.alpn_protocol().map(Into::into),
        resumed: state.handshake_kind() == Some(HandshakeKind::Resumed),
        certificate,
        matched,
    })
}
