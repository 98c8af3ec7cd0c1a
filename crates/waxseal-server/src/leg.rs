//! One side of a session: a socket, in clear or encrypted, with one face.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use waxseal_tls::{End, Facts, PlainStream, Pool, TlsStream, Transport};

/// A connected socket.
#[derive(Debug)]
pub enum Socket {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a unix domain socket; also how an in-process service is reached (`UnixStream::pair`).
    Unix(UnixStream),
}

macro_rules! each_socket {
    ($self:expr, $io:ident => $do:expr) => {
        match $self {
            Socket::Tcp($io) => $do,
            Socket::Unix($io) => $do,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each_socket!(self.get_mut(), io => Pin::new(io).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each_socket!(self.get_mut(), io => Pin::new(io).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_socket!(self.get_mut(), io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_socket!(self.get_mut(), io => Pin::new(io).poll_shutdown(cx))
    }
}

impl Transport for Socket {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_socket!(self, io => io.poll_read_ready(cx))
    }
}

/// One side of a session. Holds no buffer while nothing is in flight.
pub enum Leg {
    /// In clear.
    Plain(PlainStream<Socket>),
    /// Encrypted. Boxed, as most of a session's memory is here and both sides of a splice lie in one task.
    Tls(Box<TlsStream<Socket>>),
}

macro_rules! each_leg {
    ($self:expr, $io:ident => $do:expr) => {
        match $self {
            Leg::Plain($io) => $do,
            Leg::Tls($io) => $do,
        }
    };
}

impl Leg {
    /// A cleartext leg over `socket`.
    pub fn plain(socket: Socket, pool: &Arc<Pool>) -> Self {
        Self::Plain(PlainStream::new(socket, Arc::clone(pool)))
    }

    /// The facts of its TLS, if it has any.
    pub fn facts(&self) -> Option<&Facts> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => Some(stream.facts()),
        }
    }

    /// How reading ended: a TLS peer that closes TCP without close_notify may have been cut short.
    pub(crate) fn was_truncated(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.ended() == Some(End::Truncated),
        }
    }
}

impl AsyncRead for Leg {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each_leg!(self.get_mut(), io => Pin::new(io).poll_read(cx, buf))
    }
}

impl AsyncBufRead for Leg {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        each_leg!(self.get_mut(), io => Pin::new(io).poll_fill_buf(cx))
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        each_leg!(self.get_mut(), io => Pin::new(io).consume(amount));
    }
}

impl AsyncWrite for Leg {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each_leg!(self.get_mut(), io => Pin::new(io).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_leg!(self.get_mut(), io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_leg!(self.get_mut(), io => Pin::new(io).poll_shutdown(cx))
    }
}
