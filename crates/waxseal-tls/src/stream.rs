//! A TLS session as a stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use crate::facts::Facts;
use crate::plain::copy_buffered;
use crate::transport::Transport;

/// How the peer's side of a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// In order, with a close_notify alert (RFC 8446 section 6.1).
    CloseNotify,
    /// The transport ended without one. Many mail clients do that; an attacker could too.
    Truncated,
}

/// A TLS session over `T`, either side's. It holds no buffer while idle.
///
/// One task drives both directions: reading may have to write (an answer to a KeyUpdate), and then registers for
/// writing in the reader's name.
#[derive(Debug)]
pub struct TlsStream<T> {
    io: T,
}

impl<T: Transport> TlsStream<T> {
    /// What the handshake agreed on.
    pub fn facts(&self) -> &Facts {
        todo!()
    }

    /// The transport.
    pub fn get_ref(&self) -> &T {
        &self.io
    }

    /// How the peer's side ended, once a read has come back empty.
    pub fn ended(&self) -> Option<End> {
        todo!()
    }
}

impl<T: Transport> AsyncBufRead for TlsStream<T> {
    fn poll_fill_buf(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        todo!()
    }

    fn consume(self: Pin<&mut Self>, _amount: usize) {
        todo!()
    }
}

impl<T: Transport> AsyncRead for TlsStream<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        copy_buffered(self, cx, buf)
    }
}

impl<T: Transport> AsyncWrite for TlsStream<T> {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, _bytes: &[u8]) -> Poll<io::Result<usize>> {
        todo!()
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        todo!()
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        todo!()
    }
}
