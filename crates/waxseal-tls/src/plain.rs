//! A leg without TLS, with the same face as [`TlsStream`](crate::TlsStream).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use crate::pool::{Pool, Window};
use crate::transport::Transport;

/// A cleartext stream that holds no buffer while idle.
#[derive(Debug)]
pub struct PlainStream<T> {
    io: T,
    pool: Arc<Pool>,
    held: Held,
}

/// Bytes received and not yet read.
#[derive(Debug)]
enum Held {
    Nothing,
    Window(Window),
    /// Read by an earlier phase of the session; `usize` bytes of it are used up.
    Unread(Vec<u8>, usize),
}

impl Held {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Nothing => &[],
            Self::Window(window) => window.filled(),
            Self::Unread(bytes, used) => bytes.get(*used..).unwrap_or_default(),
        }
    }

    fn consume(&mut self, amount: usize) {
        match self {
            Self::Nothing => {}
            Self::Window(window) => window.consume(amount),
            Self::Unread(_, used) => *used = used.saturating_add(amount),
        }
        if self.bytes().is_empty() {
            *self = Self::Nothing;
        }
    }
}

impl<T: Transport> PlainStream<T> {
    /// A stream over `io`.
    pub fn new(io: T, pool: Arc<Pool>) -> Self {
        Self { io, pool, held: Held::Nothing }
    }

    /// A stream that gives out `unread` before anything that `io` brings.
    pub fn with_unread(io: T, pool: Arc<Pool>, unread: Vec<u8>) -> Self {
        let held = if unread.is_empty() { Held::Nothing } else { Held::Unread(unread, 0) };
        Self { io, pool, held }
    }

    /// The transport.
    pub fn get_ref(&self) -> &T {
        &self.io
    }

    /// The transport, and the bytes received that nobody has read.
    pub fn into_parts(self) -> (T, Vec<u8>) {
        (self.io, self.held.bytes().to_vec())
    }
}

impl<T: Transport> AsyncBufRead for PlainStream<T> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        while this.held.bytes().is_empty() {
            ready!(this.io.poll_read_ready(cx))?;
            let mut window = Window::new(&this.pool);
            if ready!(window.poll_read_from(&mut this.io, cx))? == 0 {
                return Poll::Ready(Ok(&[]));
            }
            this.held = Held::Window(window);
        }
        Poll::Ready(Ok(this.held.bytes()))
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        self.get_mut().held.consume(amount);
    }
}

impl<T: Transport> AsyncRead for PlainStream<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        copy_buffered(self, cx, buf)
    }
}

/// `poll_read` of a stream that is read through its own buffer.
pub(crate) fn copy_buffered<S: AsyncBufRead + ?Sized>(
    mut stream: Pin<&mut S>,
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    if buf.remaining() == 0 {
        return Poll::Ready(Ok(()));
    }
    let filled = ready!(stream.as_mut().poll_fill_buf(cx))?;
    let taken = filled.len().min(buf.remaining());
    buf.put_slice(filled.get(..taken).unwrap_or_default());
    stream.consume(taken);
    Poll::Ready(Ok(()))
}

impl<T: Transport> AsyncWrite for PlainStream<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn what_was_left_unread_comes_first_and_nothing_is_held_while_idle() {
        let pool = Pool::new(4);
        let (io, mut peer) = UnixStream::pair().unwrap();
        let mut stream = PlainStream::with_unread(io, Arc::clone(&pool), b"left".to_vec());
        peer.write_all(b" and new").await.unwrap();
        assert_eq!(stream.fill_buf().await.unwrap(), b"left");
        stream.consume(1);
        assert_eq!(stream.fill_buf().await.unwrap(), b"eft");
        stream.consume(3);
        assert_eq!(pool.in_use(), 0);
        assert_eq!(stream.fill_buf().await.unwrap(), b" and new");
        assert_eq!(pool.in_use(), 1);
        stream.consume(8);
        assert_eq!(pool.in_use(), 0);
        let idle = tokio::time::timeout(Duration::from_millis(20), stream.fill_buf());
        assert!(idle.await.is_err());
        assert_eq!(pool.in_use(), 0);
        drop(peer);
        assert_eq!(stream.fill_buf().await.unwrap(), b"");
    }

    #[tokio::test]
    async fn taken_apart_it_gives_up_what_nobody_has_read() {
        let (io, mut peer) = UnixStream::pair().unwrap();
        peer.write_all(b"abcdef").await.unwrap();
        let mut stream = PlainStream::new(io, Pool::new(1));
        let mut two = [0; 2];
        stream.read_exact(&mut two).await.unwrap();
        let (mut io, unread) = stream.into_parts();
        assert_eq!((&two, unread.as_slice()), (b"ab", b"cdef".as_slice()));
        io.write_all(b"still open").await.unwrap();
    }
}
