//! Buffers that belong to nobody while nothing is in flight.
//!
//! An idle connection holds none: a stream takes a buffer when its socket is readable, and gives it back as soon as
//! it is empty. Thousands of idle sessions thus share the few buffers of those that talk.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The longest TLS record: header, 2^14 bytes, and the expansion that RFC 5246 section 6.2.3 (2,048) and RFC 8446
/// section 5.2 (256) permit, of which no suite here uses more than 256.
pub(crate) const MAX_RECORD: usize = 5 + MAX_FRAGMENT + 256;

/// The most plaintext in one record.
pub(crate) const MAX_FRAGMENT: usize = 16 * 1024;

/// Records that fit into one buffer.
pub(crate) const RECORDS_PER_BUFFER: usize = 2;

/// The size of a [`Buffer`], in bytes.
pub const BUFFER_BYTES: usize = RECORDS_PER_BUFFER * MAX_RECORD;

/// A stock of equal buffers.
pub struct Pool {
    free: Mutex<Vec<Box<[u8]>>>,
    limit: usize,
    in_use: AtomicUsize,
}

impl Pool {
    /// A pool that keeps at most `limit` unused buffers; more than that are given back to the allocator.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { free: Mutex::new(Vec::new()), limit, in_use: AtomicUsize::new(0) })
    }

    /// An unused buffer, or a new one where none is left. What it holds is left over from former use.
    pub fn take(self: &Arc<Self>) -> Buffer {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = free.unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice());
        self.in_use.fetch_add(1, Ordering::Relaxed);
        Buffer { bytes, pool: Arc::clone(self) }
    }

    /// How many buffers are in somebody's hands.
    pub fn in_use(&self) -> usize {
        self.in_use.load(Ordering::Relaxed)
    }

    /// How many unused buffers are kept.
    pub fn unused(&self) -> usize {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// [`BUFFER_BYTES`] bytes that go back to their [`Pool`] when dropped.
pub struct Buffer {
    bytes: Box<[u8]>,
    pool: Arc<Pool>,
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.in_use.fetch_sub(1, Ordering::Relaxed);
        let mut free = self.pool.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < self.pool.limit {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

impl fmt::Debug for Buffer {
    /// Never the content: passwords pass through here.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").finish_non_exhaustive()
    }
}

/// A buffer of which a part is filled: `start..end` is still to be read, everything from `end` on is free.
#[derive(Debug)]
pub(crate) struct Window {
    buffer: Buffer,
    start: usize,
    end: usize,
}

impl Window {
    pub(crate) fn new(pool: &Arc<Pool>) -> Self {
        Self { buffer: pool.take(), start: 0, end: 0 }
    }

    pub(crate) fn filled(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    pub(crate) fn filled_mut(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.start..self.end).unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The free part; `fill` says how much of it was written.
    pub(crate) fn spare(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    pub(crate) fn fill(&mut self, bytes: usize) {
        self.end = self.buffer.len().min(self.end.saturating_add(bytes));
    }

    /// Forgets the first `bytes` of the filled part.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.start = self.end.min(self.start.saturating_add(bytes));
        if self.is_empty() {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Moves the filled part to the front, so that all free space is behind it.
    pub(crate) fn compact(&mut self) {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }

    /// Appends as much of `bytes` as there is room for.
    pub(crate) fn extend(&mut self, bytes: &[u8]) -> usize {
        let spare = self.spare();
        let taken = bytes.len().min(spare.len());
        for (to, from) in spare.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.fill(taken);
        taken
    }

    /// Reads once into the free part. Zero is the end of the stream, or that there is no room.
    pub(crate) fn poll_read_from<R: AsyncRead + Unpin>(
        &mut self,
        io: &mut R,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut free = ReadBuf::new(self.spare());
        ready!(Pin::new(io).poll_read(cx, &mut free))?;
        let read = free.filled().len();
        self.fill(read);
        Poll::Ready(Ok(read))
    }

    /// Writes until the filled part is empty.
    pub(crate) fn poll_write_to<W: AsyncWrite + Unpin>(
        &mut self,
        io: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let written = ready!(Pin::new(&mut *io).poll_write(cx, self.filled()))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.consume(written);
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_up_to_the_limit() {
        let pool = Pool::new(2);
        let taken: Vec<_> = (0..3).map(|_| pool.take()).collect();
        assert!(taken.iter().all(|buffer| buffer.len() == BUFFER_BYTES));
        assert_eq!((pool.unused(), pool.in_use()), (0, 3));
        drop(taken);
        assert_eq!((pool.unused(), pool.in_use()), (2, 0));
        drop(pool.take());
        assert_eq!(pool.unused(), 2);
    }

    #[test]
    fn window_gives_out_what_was_put_in() {
        let pool = Pool::new(1);
        let mut window = Window::new(&pool);
        assert_eq!(window.extend(b"hello world"), 11);
        window.consume(6);
        assert_eq!(window.filled(), b"world");
        window.compact();
        assert_eq!(window.filled(), b"world");
        assert_eq!(window.spare().len(), BUFFER_BYTES - 5);
        assert_eq!(window.extend(&vec![1; BUFFER_BYTES]), BUFFER_BYTES - 5, "no more than there is room for");
        window.consume(usize::MAX);
        assert!(window.is_empty());
        assert_eq!(window.spare().len(), BUFFER_BYTES);
    }
}
