//! The connection: what was received and not yet read, what is to be sent.

use std::io;
use std::time::Duration;

use memchr::memchr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// How much is read at once.
const READ: usize = 4 << 10;
/// How much is read at once of a message.
const READ_LARGE: usize = 64 << 10;
/// How much may wait to be sent.
pub(super) const SEND_AT: usize = 64 << 10;
/// How long the client may take to take what is sent.
const SEND_TIME: Duration = Duration::from_secs(300);
/// How much of what is refused is read and thrown away, per command, before the connection is given up.
const MAX_SKIPPED: u64 = 256 << 20;
/// How much of a line that is too long is kept: enough to see its tag, and that it ends in a literal.
const HEAD: usize = 160;
const TAIL: usize = 32;

#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    received: Vec<u8>,
    /// Where in `received` the unread begins.
    read: usize,
    out: Vec<u8>,
}

/// A line without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Whole(Vec<u8>),
    /// The line was longer than allowed; these are its beginning, with the tag, and its end.
    TooLong {
        start: Vec<u8>,
        end: Vec<u8>,
    },
    /// The line ended in LF alone.
    BareLineFeed,
}

/// The last thing of a line that promises a literal (RFC 9051 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Literal {
    pub(super) length: u64,
    /// Whether the client waits to be asked for it; if not, it is on its way (RFC 7888).
    pub(super) synchronizing: bool,
    /// Where in the line its `{` is.
    pub(super) at: usize,
}

impl Literal {
    pub(super) fn at_end_of(line: &[u8]) -> Option<Self> {
        let inner = line.strip_suffix(b"}")?;
        let at = memchr::memrchr(b'{', inner)?;
        let digits = inner.get(at + 1..)?;
        let (digits, synchronizing) = match digits.strip_suffix(b"+") {
            Some(digits) => (digits, false),
            None => (digits, true),
        };
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        // A number that is too large for us is too large for every limit, too.
        let length = std::str::from_utf8(digits).ok()?.parse().unwrap_or(u64::MAX);
        Some(Self { length, synchronizing, at })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, received: Vec::new(), read: 0, out: Vec::new() }
    }

    /// What is to be sent; to be sent by [`send`](Self::send), or when something is waited for.
    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    pub(super) async fn send(&mut self) -> io::Result<()> {
        if !self.out.is_empty() {
            let out = std::mem::take(&mut self.out);
            self.send_bytes(&out).await?;
        }
        within_send_time(self.stream.flush()).await
    }

    /// Sends what is waiting if it is much.
    pub(super) async fn send_if_much(&mut self) -> io::Result<()> {
        if self.out.len() < SEND_AT { Ok(()) } else { self.send().await }
    }

    /// Sends `bytes` behind what is waiting, without a copy if they are many.
    pub(super) async fn send_through(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.out.len() + bytes.len() < SEND_AT {
            self.out.extend_from_slice(bytes);
            return Ok(());
        }
        let out = std::mem::take(&mut self.out);
        self.send_bytes(&out).await?;
        self.send_bytes(bytes).await
    }

    async fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Each stretch has its own time, so that a slow reader of a large message is no dead one.
        for stretch in bytes.chunks(SEND_AT) {
            within_send_time(self.stream.write_all(stretch)).await?;
        }
        Ok(())
    }

    /// Ends the sending side.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        self.send().await?;
        within_send_time(self.stream.shutdown()).await
    }

    fn unread(&self) -> &[u8] {
        self.received.get(self.read..).unwrap_or_default()
    }

    /// Whether nothing of the client is waiting to be read.
    pub(super) fn is_drained(&self) -> bool {
        self.unread().is_empty()
    }

    /// Whether a whole line is there, or one that is too long already.
    pub(super) fn has_more_than(&self, limit: usize) -> bool {
        self.unread().len() > limit || memchr(b'\n', self.unread()).is_some()
    }

    fn consume(&mut self, length: usize) {
        self.read += length;
        if self.read >= self.received.len() {
            // An idle session holds no buffer.
            self.received = Vec::new();
            self.read = 0;
        }
    }

    /// Reads more; nothing may be waiting to be sent. Cancel-safe.
    pub(super) async fn fill(&mut self, most: usize) -> io::Result<()> {
        if self.read > 0 {
            self.received.drain(..self.read);
            self.read = 0;
        }
        self.received.reserve(most);
        let before = self.received.len();
        (&mut self.stream).take(most as u64).read_buf(&mut self.received).await?;
        if self.received.len() == before { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    async fn send_and_fill(&mut self, most: usize) -> io::Result<()> {
        self.send().await?;
        self.fill(most).await
    }

    /// Reads a line of at most `limit` bytes; of a longer one the end.
    pub(super) async fn line(&mut self, limit: usize) -> io::Result<Line> {
        let mut searched = 0;
        loop {
            let unread = self.unread();
            let new = unread.get(searched..).unwrap_or_default();
            if let Some(end) = memchr(b'\n', new).map(|end| searched + end) {
                let line = unread.get(..end).unwrap_or_default();
                let line = match line.strip_suffix(b"\r") {
                    Some(line) if line.len() > limit => Line::TooLong { start: head(line), end: tail(line) },
                    Some(line) => Line::Whole(line.to_vec()),
                    None => Line::BareLineFeed,
                };
                self.consume(end + 1);
                return Ok(line);
            }
            searched = unread.len();
            if searched > limit + 1 {
                let start = head(unread);
                return self.skip_line().await.map(|end| Line::TooLong { start, end });
            }
            self.send_and_fill(READ).await?;
        }
    }

    async fn skip_line(&mut self) -> io::Result<Vec<u8>> {
        let mut end = Vec::new();
        let mut skipped = 0;
        loop {
            let unread = self.unread();
            let line_end = memchr(b'\n', unread);
            let length = line_end.map_or(unread.len(), |end| end + 1);
            end.extend_from_slice(&tail(unread.get(..length).unwrap_or_default()));
            end = tail(&end);
            skipped += length as u64;
            self.consume(length);
            if line_end.is_some() {
                return Ok(end.trim_ascii_end().to_vec());
            }
            if skipped > MAX_SKIPPED {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.send_and_fill(READ).await?;
        }
    }

    /// At least one and at most `most` bytes, whatever they are.
    pub(super) async fn bytes(&mut self, most: usize) -> io::Result<Vec<u8>> {
        if self.is_drained() {
            self.send_and_fill(most.min(READ_LARGE)).await?;
        }
        let length = self.unread().len().min(most);
        let bytes = if self.read == 0 && length == self.received.len() {
            std::mem::take(&mut self.received)
        } else {
            let bytes = self.unread().get(..length).unwrap_or_default().to_vec();
            self.consume(length);
            bytes
        };
        Ok(bytes)
    }

    /// Throws `length` bytes away.
    pub(super) async fn skip(&mut self, length: u64) -> io::Result<()> {
        if length > MAX_SKIPPED {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut left = length;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            left = left.saturating_sub(self.bytes(most).await?.len() as u64);
        }
        Ok(())
    }
}

fn head(bytes: &[u8]) -> Vec<u8> {
    bytes.get(..bytes.len().min(HEAD)).unwrap_or_default().to_vec()
}

fn tail(bytes: &[u8]) -> Vec<u8> {
    bytes.get(bytes.len().saturating_sub(TAIL)..).unwrap_or_default().to_vec()
}

async fn within_send_time(sending: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    timeout(SEND_TIME, sending).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_is_seen_at_the_end_of_a_line() {
        let found =
            |line: &str| Literal::at_end_of(line.as_bytes()).map(|l| (l.length, l.synchronizing, l.at));
        assert_eq!(found("a LOGIN {5}"), Some((5, true, 8)));
        assert_eq!(found("{0+}"), Some((0, false, 0)));
        assert_eq!(found("a {99999999999999999999999}"), Some((u64::MAX, true, 2)));
        for none in ["", "{}", "{+}", "{5} ", "{5", "{-5}", "{5++}", "5}"] {
            assert_eq!(found(none), None, "{none}");
        }
    }

    #[tokio::test]
    async fn lines_are_bounded_and_end_in_crlf() {
        let text = [b"one\r\ntwo\nx".to_vec(), vec![b'y'; 9000], b"{7+}\r\nlast\r\n".to_vec()].concat();
        let mut wire = Wire::new(tokio_test_stream(&text));
        assert_eq!(wire.line(100).await.unwrap(), Line::Whole(b"one".to_vec()));
        assert_eq!(wire.line(100).await.unwrap(), Line::BareLineFeed);
        let Line::TooLong { start, end } = wire.line(100).await.unwrap() else { panic!() };
        assert!(start.starts_with(b"xyy") && end.ends_with(b"{7+}"));
        assert_eq!(wire.bytes(2).await.unwrap(), b"la");
        assert_eq!(wire.line(100).await.unwrap(), Line::Whole(b"st".to_vec()));
        assert!(wire.is_drained());
        assert_eq!(wire.line(100).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    fn tokio_test_stream(text: &[u8]) -> impl AsyncRead + AsyncWrite + Unpin + use<> {
        tokio::io::join(io::Cursor::new(text.to_vec()), tokio::io::sink())
    }
}
