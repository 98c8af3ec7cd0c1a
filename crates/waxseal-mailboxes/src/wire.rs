//! The line protocols' side of a connection: whole lines in, replies out when the client waits for them.

use std::io;
use std::time::Duration;

use memchr::memchr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// Bytes asked for at once of a client that says little, and of one that sends a message.
const READ: (usize, usize) = (512, 64 << 10);
/// Replies held back while the client has more commands under way (PIPELINING), in bytes.
const MAX_UNSENT: usize = 16 << 10;
/// How long a client may take to read what it is sent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(300);

/// A line without its end, or why there is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line that ended in CRLF.
    Text(Vec<u8>),
    /// A line that ended in LF alone, or had a CR or a NUL in it; it was skipped.
    Broken,
    /// A line that was too long; it was skipped.
    TooLong,
    /// The client closed the connection.
    End,
    /// The client was silent for too long.
    Silent,
}

/// A connection that is read by lines and by blocks.
#[derive(Debug)]
pub(crate) struct Wire<S> {
    stream: S,
    input: Vec<u8>,
    used: usize,
    /// Bytes to ask for next.
    room: usize,
    output: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, input: Vec::new(), used: 0, room: READ.0, output: Vec::new() }
    }

    /// What was received and not yet taken.
    pub(crate) fn unread(&self) -> &[u8] {
        self.input.get(self.used..).unwrap_or_default()
    }

    /// Takes bytes of [`unread`](Self::unread).
    pub(crate) fn take(&mut self, count: usize) {
        self.used = (self.used + count).min(self.input.len());
    }

    /// Sends what is held back, and waits for more of the client. `Ok(false)`: it closed the connection.
    ///
    /// # Errors
    /// When the connection breaks; `TimedOut` when the client is silent for longer than `limit`.
    pub(crate) async fn fill(&mut self, limit: Duration) -> io::Result<bool> {
        self.flush().await?;
        self.input.drain(..self.used);
        self.used = 0;
        if self.input.is_empty() {
            // An idle session holds next to nothing.
            self.input = Vec::new();
        }
        self.input.reserve_exact(self.room);
        let count = timeout(limit, self.stream.read_buf(&mut self.input)).await??;
        self.room = if count >= self.room { (self.room * 4).min(READ.1) } else { READ.0 };
        Ok(count > 0)
    }

    /// The next line, of at most `max` bytes, its end included.
    ///
    /// # Errors
    /// When the connection breaks.
    pub(crate) async fn line(&mut self, max: usize, limit: Duration) -> io::Result<Line> {
        let mut too_long = false;
        loop {
            if let Some(end) = memchr(b'\n', self.unread()) {
                let line = self.unread().get(..end).unwrap_or_default();
                let result = match line.split_last() {
                    _ if too_long || end >= max => Line::TooLong,
                    Some((b'\r', text)) if memchr::memchr2(b'\r', 0, text).is_none() => {
                        Line::Text(text.to_vec())
                    }
                    _ => Line::Broken,
                };
                self.take(end + 1);
                return Ok(result);
            }
            if self.unread().len() >= max {
                too_long = true;
                self.take(self.unread().len());
            }
            match self.fill(limit).await {
                Ok(true) => {}
                Ok(false) => return Ok(Line::End),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(Line::Silent),
                Err(error) => return Err(error),
            }
        }
    }

    /// Has `reply` sent, at the latest when the client is waited for.
    ///
    /// # Errors
    /// When the connection breaks.
    pub(crate) async fn send(&mut self, reply: &[u8]) -> io::Result<()> {
        self.output.extend_from_slice(reply);
        if self.output.len() > MAX_UNSENT { self.flush().await } else { Ok(()) }
    }

    /// Sends what is held back.
    ///
    /// # Errors
    /// When the connection breaks.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        if !self.output.is_empty() {
            let output = std::mem::take(&mut self.output);
            timeout(WRITE_TIMEOUT, async {
                self.stream.write_all(&output).await?;
                self.stream.flush().await
            })
            .await??;
        }
        Ok(())
    }

    /// Sends what is held back, and ends the connection.
    ///
    /// # Errors
    /// When the connection breaks.
    pub(crate) async fn close(mut self) -> io::Result<()> {
        self.flush().await?;
        self.stream.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn lines_end_in_crlf_and_nothing_else() {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(b"one\r\ntwo\nthr\ree\r\nfo\0ur\r\n\r\nmuch too long\r\nsix\r\nrest").await.unwrap();
        drop(client);
        let mut wire = Wire::new(server);
        let mut lines = Vec::new();
        loop {
            match wire.line(8, Duration::from_secs(5)).await.unwrap() {
                Line::End => break,
                line => lines.push(line),
            }
        }
        let text = |text: &str| Line::Text(text.as_bytes().to_vec());
        assert_eq!(
            lines,
            [text("one"), Line::Broken, Line::Broken, Line::Broken, text(""), Line::TooLong, text("six")]
        );
    }
}
