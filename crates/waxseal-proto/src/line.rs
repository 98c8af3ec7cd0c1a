//! Lines of a bounded length that end in CRLF and nothing else, and the proof that nothing is left unread.

use std::mem;

use memchr::{memchr, memrchr};

use crate::syntax::literal;

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

/// The longest line taken from a service, its end included.
pub const MAX_REPLY_LINE: usize = 8192;

/// The longest line of a service together with the literals in it.
pub const MAX_RESPONSE: usize = 65536;

/// Whether a literal announced by a line is a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Literals {
    Apart,
    Within,
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
    literals: Literals,
    /// Where in `held` the line proper goes on, behind the literals in it.
    start: usize,
    /// How much of a literal is still to come.
    literal: usize,
    /// The line has outgrown the limit; what comes is dropped up to its LF.
    overlong: bool,
}

/// A whole line, its end included, or why it was not taken.
pub(crate) type Line = Result<Vec<u8>, LineError>;

impl Assembler {
    /// For the lines of a client: strict ends, literals are its user's affair.
    pub(crate) fn of_client(limit: usize) -> Self {
        Self::new(limit, LineEnds::Strict, Literals::Apart)
    }

    /// For the lines of a service.
    pub(crate) fn of_service(literals: Literals) -> Self {
        Self::new(MAX_REPLY_LINE, LineEnds::Lenient, literals)
    }

    fn new(limit: usize, ends: LineEnds, literals: Literals) -> Self {
        Self { held: Vec::new(), limit, ends, literals, start: 0, literal: 0, overlong: false }
    }

    /// Takes from `input` what belongs to one line. Gives how many bytes were taken (all of them while no
    /// line ends) and the line that this completed.
    pub(crate) fn feed(&mut self, input: &[u8]) -> (usize, Option<Line>) {
        let mut taken = 0;
        loop {
            let rest = input.get(taken..).unwrap_or_default();
            let of_literal = rest.len().min(self.literal);
            self.literal -= of_literal;
            let rest = self.take(rest, of_literal);
            taken += of_literal;
            if rest.is_empty() {
                return (taken, None);
            }
            let end = memchr(b'\n', rest).map(|lf| lf + 1);
            let length = end.unwrap_or(rest.len());
            if self.held.len() - self.start + length > self.limit {
                self.overlong = true;
                self.forget();
            }
            if !self.overlong {
                self.take(rest, length);
            }
            taken += length;
            if end.is_some() && !self.goes_on_after_literal() {
                return (taken, Some(self.finish()));
            }
        }
    }

    fn take<'a>(&mut self, input: &'a [u8], length: usize) -> &'a [u8] {
        let (piece, rest) = input.split_at_checked(length).unwrap_or((input, &[]));
        self.held.extend_from_slice(piece);
        rest
    }

    fn forget(&mut self) -> Vec<u8> {
        self.start = 0;
        mem::take(&mut self.held)
    }

    /// Whether the line just ended announces a literal, which then belongs to it.
    fn goes_on_after_literal(&mut self) -> bool {
        let line = self.held.get(self.start..).unwrap_or_default();
        let Some(literal) = literal(line).filter(|_| self.literals == Literals::Within) else { return false };
        let end = usize::try_from(literal.bytes).unwrap_or(usize::MAX).saturating_add(self.held.len());
        if end > MAX_RESPONSE {
            self.overlong = true;
            self.forget();
            return false;
        }
        self.literal = end - self.held.len();
        self.start = end;
        true
    }

    fn finish(&mut self) -> Line {
        let line = self.forget();
        if mem::take(&mut self.overlong) {
            return Err(LineError::TooLong);
        }
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

    /// How many bytes of an unfinished line are being held.
    pub(crate) fn held(&self) -> usize {
        // An overlong line counts as one byte at least: something is unread.
        self.held.len().max(usize::from(self.overlong))
    }

    /// Whether the start of an overlong line was dropped and its end is still to come.
    pub(crate) fn is_overlong(&self) -> bool {
        self.overlong
    }

    /// What is being held; an overlong line is gone.
    pub(crate) fn into_held(self) -> Vec<u8> {
        self.held
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
        Self::over(Assembler::of_client(limit))
    }

    pub(crate) fn over(assembler: Assembler) -> Self {
        Self { assembler, unread: Vec::new(), read: 0 }
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

    /// How many bytes were received and did not come out as part of a line.
    pub fn unread(&self) -> usize {
        self.assembler.held() + self.unread.len() - self.read
    }

    /// What was received and did not come out as part of a line.
    pub fn into_unread(self) -> Vec<u8> {
        let mut bytes = self.assembler.into_held();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8]) -> (Vec<Line>, LineBuffer) {
        let mut buffer = LineBuffer::new(16);
        buffer.push(input);
        let lines = std::iter::from_fn(|| buffer.next()).collect();
        (lines, buffer)
    }

    #[test]
    fn a_line_ends_in_crlf_and_nothing_else() {
        assert_eq!(lines(b"a\r\nb\r\n").0, [Ok(b"a\r\n".to_vec()), Ok(b"b\r\n".to_vec())]);
        assert_eq!(lines(b"a\nb\r\n").0, [Err(LineError::BareLf), Ok(b"b\r\n".to_vec())]);
        assert_eq!(lines(b"a\rb\r\n").0, [Err(LineError::BareCr)]);
        assert_eq!(lines(b"a\r\r\n").0, [Err(LineError::BareCr)]);
        assert_eq!(lines(b"a\0\r\n").0, [Err(LineError::Nul)]);
        assert_eq!(lines(b"\xff\xfe\r\n").0, [Ok(b"\xff\xfe\r\n".to_vec())]);
    }

    #[test]
    fn an_overlong_line_is_skipped_to_its_end() {
        let exact = b"0123456789abcd\r\n";
        assert_eq!(lines(exact).0, [Ok(exact.to_vec())]);
        let over = b"0123456789abcde\r\nnext\r\n";
        assert_eq!(lines(over).0, [Err(LineError::TooLong), Ok(b"next\r\n".to_vec())]);
    }

    #[test]
    fn an_endless_line_is_not_kept() {
        let mut buffer = LineBuffer::new(16);
        for _ in 0..1000 {
            buffer.push(&[b'x'; 100]);
            assert_eq!(buffer.next(), None);
        }
        assert_eq!(buffer.unread(), 1);
        assert_eq!(buffer.drained(), Err(Unread { bytes: 1 }));
    }

    #[test]
    fn only_an_empty_buffer_is_drained() {
        assert!(lines(b"a\r\n").1.drained().is_ok());
        assert_eq!(lines(b"a\r\nEHLO").1.drained(), Err(Unread { bytes: 4 }));
        let (_, buffer) = lines(b"a\r\nEHLO");
        assert_eq!(buffer.into_unread(), b"EHLO");
        let mut unasked = LineBuffer::default();
        unasked.push(b"a\r\nb\r\n");
        unasked.next();
        assert_eq!(unasked.drained(), Err(Unread { bytes: 3 }));
    }

    #[test]
    fn literals_of_a_service_belong_to_its_line() {
        let mut lines = LineBuffer::over(Assembler::of_service(Literals::Within));
        let response = b"* ID (\"name\" {7}\r\nw1 OK\r\n {0}\r\n)\r\n";
        lines.push(response);
        lines.push(b"w1 OK done\n");
        assert_eq!(lines.next(), Some(Ok(response.to_vec())));
        assert_eq!(lines.next(), Some(Ok(b"w1 OK done\n".to_vec())));
        lines.push(b"* X {65536}\r\n");
        assert_eq!(lines.next(), Some(Err(LineError::TooLong)));
    }
}
