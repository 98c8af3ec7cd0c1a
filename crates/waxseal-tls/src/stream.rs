//! A TLS session as a stream.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::Error;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use crate::facts::Facts;
use crate::plain::copy_buffered;
use crate::pool::{MAX_FRAGMENT, Pool, RECORDS_PER_BUFFER, Window};
use crate::session::{Session, Step, Wish};
use crate::transport::Transport;

/// The most plaintext that one write takes: what fills a buffer when encrypted.
const MAX_WRITE: usize = RECORDS_PER_BUFFER * MAX_FRAGMENT;

/// The most bytes of the protocol's own (answers to KeyUpdate, alerts) that may wait for a peer that does not read.
const MAX_CONTROL: usize = 16 * 1024;

/// How the peer's side of a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// In order, with a close_notify alert (RFC 8446 section 6.1).
    CloseNotify,
    /// The transport ended without one. Many mail clients do that; an attacker could too.
    Truncated,
}

/// What a handshake leaves behind beside the session.
#[derive(Debug)]
pub(crate) struct Remains {
    /// Received behind the handshake, still encrypted.
    pub(crate) incoming: Option<Window>,
    /// Received with the handshake's end, decrypted.
    pub(crate) plain: Option<Window>,
    /// Whether whole records may be left in `incoming`.
    pub(crate) more: bool,
    /// Whether the peer has ended its side.
    pub(crate) closed: bool,
}

/// A TLS session over `T`, either side's. It holds no buffer while idle.
///
/// One task drives both directions: reading may have to write (an answer to a KeyUpdate), and then waits for the
/// transport in the reader's name.
pub struct TlsStream<T> {
    io: T,
    session: Session,
    facts: Box<Facts>,
    pool: Arc<Pool>,
    /// Received, still encrypted.
    incoming: Option<Window>,
    /// Decrypted, not yet read.
    plain: Option<Window>,
    /// Encrypted, not yet written.
    pending: Option<Window>,
    /// Records of the protocol's own, to be written behind `pending`. Reading must not wait for them: two peers that
    /// both write more than the sockets hold would wait for each other.
    control: Vec<u8>,
    /// Whether whole records may be left in `incoming`, for want of room in `plain`.
    more: bool,
    end: Option<End>,
    state: State,
}

/// Whether the session can still be used.
#[derive(Clone, Debug)]
enum State {
    Open,
    /// Our close_notify is under way or sent.
    Closing,
    /// The peer broke the protocol.
    Failed(Error),
}

impl<T: Transport> TlsStream<T> {
    pub(crate) fn new(io: T, pool: Arc<Pool>, session: Session, facts: Box<Facts>, remains: Remains) -> Self {
        let Remains { incoming, plain, more, closed } = remains;
        let end = closed.then_some(End::CloseNotify);
        Self {
            io,
            session,
            facts,
            pool,
            incoming,
            plain,
            pending: None,
            control: Vec::new(),
            more,
            end,
            state: State::Open,
        }
    }

    /// What the handshake agreed on.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The transport.
    pub fn get_ref(&self) -> &T {
        &self.io
    }

    /// How the peer's side ended, once a read has come back empty.
    pub fn ended(&self) -> Option<End> {
        self.end
    }

    /// Decrypts as many whole records as there is room for.
    fn decrypt(&mut self) {
        self.more = false;
        let Self { session, incoming: Some(incoming), plain, pool, control, .. } = self else { return };
        let ended = loop {
            if plain.as_mut().is_some_and(|plain| plain.spare().len() < MAX_FRAGMENT) {
                self.more = true;
                return;
            }
            let keep = |bytes: &[u8]| {
                plain.get_or_insert_with(|| Window::new(pool)).extend(bytes);
            };
            let (used, step) = session.step(incoming.filled_mut(), keep, control, Wish::Nothing);
            incoming.consume(used);
            match step {
                Ok(Step::Control) if control.len() > MAX_CONTROL => {
                    self.state = State::Failed(Error::General("the peer demands answers unread".into()));
                    break true;
                }
                Ok(Step::Record | Step::Control) => {}
                Ok(Step::Traffic(_) | Step::Blocked) => break false,
                Ok(Step::PeerClosed | Step::Closed) => {
                    // RFC 8446 section 6.1: whatever comes after close_notify is to be ignored.
                    self.end = Some(End::CloseNotify);
                    break true;
                }
                Err(error) => {
                    session.collect_alert(control);
                    self.state = State::Failed(error);
                    break true;
                }
            }
        };
        if ended || incoming.is_empty() {
            self.incoming = None;
        }
    }

    /// Reads from the transport; zero is its end.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        ready!(self.io.poll_read_ready(cx))?;
        let incoming = self.incoming.get_or_insert_with(|| Window::new(&self.pool));
        incoming.compact();
        let read = incoming.poll_read_from(&mut self.io, cx);
        if incoming.is_empty() {
            self.incoming = None;
        }
        read
    }

    /// Writes whatever is encrypted already.
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if let Some(pending) = &mut self.pending {
                ready!(pending.poll_write_to(&mut self.io, cx))?;
                self.pending = None;
            }
            if self.control.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let mut window = Window::new(&self.pool);
            let taken = window.extend(&self.control);
            self.control.drain(..taken);
            self.control.shrink_to_fit();
            self.pending = Some(window);
        }
    }

    /// Encrypts `what` into a buffer that becomes `pending`. Everything encrypted before must have been written.
    ///
    /// `false` if something of the protocol's own has to be written first.
    fn seal(&mut self, what: Put<'_>) -> io::Result<bool> {
        // While whole records wait for room, the session must not be shown them, or it decrypts the next one: and
        // then no handshake message is unfinished. Else it must be shown everything, because it remembers how far it
        // has read a handshake message that is.
        let received = match &mut self.incoming {
            Some(incoming) if !self.more => incoming.filled_mut(),
            _ => &mut [],
        };
        let mut window = Window::new(&self.pool);
        let wish = match what {
            Put::Data(plain) => Wish::Encrypt { plain, out: window.spare() },
            Put::CloseNotify => Wish::CloseNotify { out: window.spare() },
        };
        match self.session.step(received, |_| (), &mut self.control, wish) {
            (_, Ok(Step::Traffic(written))) => {
                window.fill(written);
                self.pending = Some(window);
                Ok(true)
            }
            (_, Ok(Step::Control)) => Ok(false),
            (_, Ok(step)) => Err(io::Error::other(format!("the TLS session cannot write: {step:?}"))),
            (_, Err(error)) => Err(invalid(error)),
        }
    }

    /// Encrypts `what` behind everything that is to be written before it.
    fn poll_seal(&mut self, cx: &mut Context<'_>, what: Put<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_write_out(cx))?;
            if self.seal(what)? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Put<'a> {
    Data(&'a [u8]),
    CloseNotify,
}

fn invalid(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<T: Transport> AsyncBufRead for TlsStream<T> {
    /// Empty at the end of the peer's side: [`ended`](TlsStream::ended) says how it ended.
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        while this.plain.is_none() {
            if let State::Failed(error) = &this.state {
                return Poll::Ready(Err(invalid(error.clone())));
            }
            if this.end.is_some() {
                return Poll::Ready(Ok(&[]));
            }
            // Not waited for, and an error is the next write's to report.
            let _ = this.poll_write_out(cx);
            if !this.more && ready!(this.poll_receive(cx))? == 0 {
                this.incoming = None;
                this.end = Some(End::Truncated);
            }
            this.decrypt();
            if let State::Failed(_) = this.state {
                let _ = this.poll_write_out(cx);
            }
        }
        Poll::Ready(Ok(this.plain.as_ref().map(Window::filled).unwrap_or_default()))
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        let this = self.get_mut();
        if let Some(plain) = &mut this.plain {
            plain.consume(amount);
            if plain.is_empty() {
                this.plain = None;
            }
        }
    }
}

impl<T: Transport> AsyncRead for TlsStream<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        copy_buffered(self, cx, buf)
    }
}

impl<T: Transport> AsyncWrite for TlsStream<T> {
    /// Takes as much as fills a buffer. What the transport does not take at once stays pending until the next write
    /// or flush.
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match &this.state {
            State::Open => {}
            State::Closing => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            State::Failed(error) => return Poll::Ready(Err(invalid(error.clone()))),
        }
        let taken = bytes.get(..MAX_WRITE).unwrap_or(bytes);
        if !taken.is_empty() {
            ready!(this.poll_seal(cx, Put::Data(taken)))?;
            if let Poll::Ready(Err(error)) = this.poll_write_out(cx) {
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_write_out(cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    /// Sends close_notify, then ends the transport's sending side. Reading remains possible.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let State::Open = this.state {
            ready!(this.poll_seal(cx, Put::CloseNotify))?;
            this.state = State::Closing;
        }
        ready!(this.poll_write_out(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

impl<T: fmt::Debug> fmt::Debug for TlsStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("io", &self.io).field("facts", &self.facts).finish_non_exhaustive()
    }
}
