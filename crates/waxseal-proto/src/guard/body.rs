//! The end of a message, and what another server may take for it.

use memchr::memchr;

/// Follows a message up to CRLF.CRLF (RFC 5321 section 4.1.1.4).
///
/// Servers that also end lines at a bare CR or LF see the end elsewhere, and what follows there as commands:
/// SMTP smuggling (CVE-2023-51764 and its kin). A dot alone on a line that is not properly ended on both
/// sides is therefore found as a look-alike. A bare CR or LF anywhere else is the services' affair.
#[derive(Debug)]
pub(super) struct Body {
    /// The last two bytes; at the start as if behind a line.
    last: [u8; 2],
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Text,
    /// Behind a dot that begins a line.
    Dot(LineStart),
    /// Behind CRLF, a dot and a CR, which is held back.
    DotCr,
}

/// What the line begins behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineStart {
    Crlf,
    Bare,
}

/// What the next bytes of the message are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// So many bytes of text.
    Text(usize),
    /// So many bytes that may be the end.
    Held(usize),
    /// So many bytes that complete the end. With those held they are CRLF.
    End(usize),
    LookAlike,
}

impl Body {
    pub(super) fn new() -> Self {
        Self { last: *b"\r\n", place: Place::Text }
    }

    /// What the bytes at the start of `input`, which is not empty, are.
    pub(super) fn scan(&mut self, input: &[u8]) -> Found {
        match (self.place, input.first()) {
            (Place::Dot(LineStart::Crlf), Some(b'\r')) => {
                self.place = Place::DotCr;
                Found::Held(1)
            }
            (Place::DotCr, Some(b'\n')) => Found::End(1),
            (Place::Dot(_), Some(b'\r' | b'\n')) | (Place::DotCr, _) => Found::LookAlike,
            _ => {
                self.place = Place::Text;
                Found::Text(self.text(input))
            }
        }
    }

    /// How much of `input` is text: all of it, or up to a dot that alone on its line may end the message.
    fn text(&mut self, input: &[u8]) -> usize {
        let mut from = 0;
        while let Some(dot) = input.get(from..).and_then(|rest| memchr(b'.', rest)).map(|at| from + at) {
            let start = match self.before(input, dot) {
                [b'\r', b'\n'] => Some(LineStart::Crlf),
                [_, b'\r' | b'\n'] => Some(LineStart::Bare),
                _ => None,
            };
            from = dot + 1;
            let alone = matches!(input.get(from), None | Some(b'\r' | b'\n'));
            if let (Some(start), true) = (start, alone) {
                self.place = Place::Dot(start);
                break;
            }
            if from == input.len() {
                break;
            }
        }
        let end = if matches!(self.place, Place::Dot(_)) { from } else { input.len() };
        self.last = self.before(input, end);
        end
    }

    /// The two bytes before `input[at]`.
    fn before(&self, input: &[u8], at: usize) -> [u8; 2] {
        let [older, old] = self.last;
        match input.get(..at) {
            Some([.., a, b]) => [*a, *b],
            Some([b]) => [old, *b],
            _ => [older, old],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How a whole message is taken: how much is let through, and what it came to.
    fn take(message: &[u8], step: usize) -> (usize, Option<Found>) {
        let (mut body, mut at, mut passed) = (Body::new(), 0, 0);
        while at < message.len() {
            let end = message.len().min(at + step);
            match body.scan(&message[at..end]) {
                Found::Text(count) => {
                    assert!(count > 0);
                    passed += count;
                    at += count;
                }
                Found::Held(count) => at += count,
                found => return (passed, Some(found)),
            }
        }
        (passed, None)
    }

    fn assert_taken(message: &[u8], passed: usize, found: Option<Found>) {
        for step in 1..=message.len() {
            assert_eq!(
                take(message, step),
                (passed, found),
                "{step} of {:?}",
                String::from_utf8_lossy(message)
            );
        }
    }

    #[test]
    fn a_message_ends_at_a_dot_between_crlfs() {
        assert_taken(b"a\r\n.\r\nQUIT\r\n", 4, Some(Found::End(1)));
        assert_taken(b".\r\n", 1, Some(Found::End(1)));
        assert_taken(b"a\r\n..\r\n.x\r\n.\r\n", 12, Some(Found::End(1)));
        assert_taken(b"a.\r\nb.\r\n.\r\n", 9, Some(Found::End(1)));
    }

    #[test]
    fn look_alikes_of_the_end_are_found_before_their_last_byte_is_let_through() {
        for (message, passed) in [
            (&b"a\n.\n"[..], 3),
            (b"a\n.\r\n", 3),
            (b"a\r\n.\n", 4),
            (b"a\r.\r", 3),
            (b"a\r.\r\n", 3),
            (b"a\r\n.\r\r\n", 4),
            (b"a\r\n.\rx", 4),
            (b"a\r\r\n.\n", 5),
            (b"\n.\r\n", 2),
            (b".\n", 1),
        ] {
            assert_taken(message, passed, Some(Found::LookAlike));
        }
    }

    #[test]
    fn bare_line_ends_elsewhere_are_text() {
        for message in [&b"a\nb\rc\n.d\n..\r\n..\n\r.e."[..], b"a\n.b\r.c", b"\n\n\n"] {
            assert_taken(message, message.len(), None);
        }
    }
}
