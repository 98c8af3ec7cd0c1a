//! Lines of a bounded length that end in CRLF and nothing else, and the proof that nothing is left unread.

use std::mem;

use memchr::{memchr, memrchr};

/// The longest line taken from a client before TLS, CRLF included.
pub const MAX_LINE: usize = 4096;

/// After this many malformed lines a session is closed.
pub const MAX_ERRORS: usize = 5;

/// Why a line was not taken. Its bytes are gone; they were neither executed nor forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// The line ended in LF without CR.
    #[error("bare LF received, lines end in CRLF")]
    BareLf,
    /// A CR stood within the line.
    #[error("bare CR received, lines end in CRLF")]
    BareCr,
    /// A NUL stood within the line.
    #[error("NUL received")]
    Nul,
    /// The line was longer than the limit.
    #[error("line too long")]
    TooLong,
}

/// What may end a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineEnds {
    /// CRLF only, and no CR or NUL within.
    Strict,
    /// LF, with or without CR: for services, which nobody but they themselves suffer from.
    Lenient,
}

/// Puts a line together from pieces, holding no more than the part of it that has come.
#[derive(Debug)]
pub(crate) struct Assembler {
    held: Vec<u8>,
    limit: usize,
    ends: LineEnds,
    /// The line has outgrown the limit; what comes is dropped up to its LF.
    overlong: bool,
}

/// A whole line, its end included, or why it was not taken.
pub(crate) type Line = Result<Vec<u8>, LineError>;

impl Assembler {
    pub(crate) fn new(limit: usize, ends: LineEnds) -> Self {
        Self { held: Vec::new(), limit, ends, overlong: false }
    }

    /// Takes from `input` up to and including the first LF. Gives how many bytes were taken (all of them
    /// while no line ends) and the line that this completed.
    pub(crate) fn feed(&mut self, input: &[u8]) -> (usize, Option<Line>) {
        let taken = memchr(b'\n', input).map(|lf| lf + 1);
        let piece = input.get(..taken.unwrap_or(input.len())).unwrap_or_default();
        if self.held.len() + piece.len() > self.limit {
            self.overlong = true;
            self.held = Vec::new();
        }
        if !self.overlong {
            self.held.extend_from_slice(piece);
        }
        let Some(taken) = taken else { return (input.len(), None) };
        let line = mem::take(&mut self.held);
        if mem::take(&mut self.overlong) {
            return (taken, Some(Err(LineError::TooLong)));
        }
        (taken, Some(self.check(line)))
    }

    fn check(&self, line: Vec<u8>) -> Line {
        if self.ends == LineEnds::Lenient {
            return Ok(line);
        }
        let Some(content) = line.strip_suffix(b"\r\n") else { return Err(LineError::BareLf) };
        if memchr(b'\r', content).is_some() {
            return Err(LineError::BareCr);
        }
        if memchr(0, content).is_some() {
            return Err(LineError::Nul);
        }
        Ok(line)
    }

    /// Whether no part of a line is being held.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty() && !self.overlong
    }

    /// How many bytes of an unfinished line are being held.
    fn held(&self) -> usize {
        // An overlong line counts as one byte at least: something is unread.
        self.held.len().max(usize::from(self.overlong))
    }
}

/// Bytes received and not yet answered, cut into lines.
///
/// A line ends in CRLF. One with a bare CR, a bare LF or a NUL, or longer than the limit, comes out as a
/// [`LineError`]: servers disagree on where such a line ends, which is what smuggling lives on.
#[derive(Debug)]
pub struct LineBuffer {
    assembler: Assembler,
    unread: Vec<u8>,
    /// How much of `unread` was cut off already.
    read: usize,
}

/// The proof that nothing was unread when it was made, which starting TLS demands (RFC 3207 section 6,
/// CVE-2011-0411). Only [`LineBuffer::drained`] makes one.
#[derive(Debug, PartialEq, Eq)]
pub struct Drained(());

/// Bytes stood where none may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes were unread")]
pub struct Unread {
    /// How many.
    pub bytes: usize,
}

impl Default for LineBuffer {
    fn default() -> Self {
        Self::new(MAX_LINE)
    }
}

impl LineBuffer {
    /// A buffer whose lines hold at most `limit` bytes, CRLF included.
    pub fn new(limit: usize) -> Self {
        Self::with_ends(limit, LineEnds::Strict)
    }

    pub(crate) fn with_ends(limit: usize, ends: LineEnds) -> Self {
        Self { assembler: Assembler::new(limit, ends), unread: Vec::new(), read: 0 }
    }

    /// Adds what was received. The buffer holds at most one line and the last input.
    pub fn push(&mut self, input: &[u8]) {
        self.unread.extend_from_slice(input);
    }

    /// The next whole line, CRLF included.
    #[expect(clippy::should_implement_trait, reason = "more lines may follow a None")]
    pub fn next(&mut self) -> Option<Result<Vec<u8>, LineError>> {
        let rest = self.unread.get(self.read..).unwrap_or_default();
        let (taken, line) = self.assembler.feed(rest);
        self.read += taken;
        if self.read >= self.unread.len() {
            self.unread = Vec::new();
            self.read = 0;
        }
        line
    }

    /// Drops up to `bytes` of what stands before the next line; gives how many there were.
    pub(crate) fn skip(&mut self, bytes: usize) -> Vec<u8> {
        let end = self.read.saturating_add(bytes).min(self.unread.len());
        let skipped = self.unread.get(self.read..end).unwrap_or_default().to_vec();
        self.read = end;
        skipped
    }

    /// How many bytes were received and did not come out as part of a line.
    pub fn unread(&self) -> usize {
        self.assembler.held() + self.unread.len() - self.read
    }

    /// What was received and did not come out as part of a line.
    pub fn into_unread(self) -> Vec<u8> {
        let mut bytes = self.assembler.held;
        bytes.extend_from_slice(self.unread.get(self.read..).unwrap_or_default());
        bytes
    }

    /// The proof that nothing is unread.
    ///
    /// # Errors
    /// [`Unread`] when anything is, be it part of a line or of an overlong one.
    pub fn drained(self) -> Result<Drained, Unread> {
        match self.unread() {
            0 => Ok(Drained(())),
            bytes => Err(Unread { bytes }),
        }
    }
}

/// The line without its end.
pub(crate) fn content(line: &[u8]) -> &[u8] {
    let end = memrchr(b'\n', line).unwrap_or(line.len());
    let line = line.get(..end).unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}
