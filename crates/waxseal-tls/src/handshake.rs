//! A handshake under way, either side's.

use waxseal_proto::Drained;

use crate::error::HandshakeError;
use crate::facts::Facts;
use crate::stream::TlsStream;
use crate::transport::Transport;

/// Where in the connection TLS begins.
#[derive(Debug)]
pub enum Begin {
    /// With the first byte: nothing was said before.
    FirstByte,
    /// After a dialogue, of which nothing is left unread (RFC 3207 section 4.2; CVE-2011-0411).
    After(Drained),
}

/// A handshake that has not yet succeeded. It has no timer: bound [`run`](Self::run) with the caller's own; the
/// transport is not lost when `run` is cancelled.
#[derive(Debug)]
pub struct Handshake<T> {
    io: T,
}

/// That a handshake succeeded. Only [`Handshake::run`] makes it.
#[derive(Debug)]
pub struct Established(());

impl<T: Transport> Handshake<T> {
    /// Runs until the session stands. May be cancelled and called again.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`]; where TLS demands an alert it has been sent.
    pub async fn run(&mut self) -> Result<Established, HandshakeError> {
        todo!()
    }

    /// The session.
    pub fn finish(self, established: Established) -> TlsStream<T> {
        let _ = established;
        todo!()
    }

    /// The transport, and how many bytes were received.
    pub fn into_io(self) -> (T, usize) {
        (self.io, 0)
    }
}

impl Established {
    /// What the handshake agreed on.
    pub fn facts(&self) -> &Facts {
        todo!()
    }
}
