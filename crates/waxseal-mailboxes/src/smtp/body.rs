//! The bytes of a message as they come in: where it ends, and what must not be in it.

use memchr::memchr2;

/// Why a message is refused while it still comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// A line feed without its carriage return. Servers differ in whether `LF . LF` ends a message: what is behind such an
    /// end would be another message to the next of them (smuggling).
    BareLf,
    /// A carriage return without its line feed.
    BareCr,
}

/// Reads the lines behind DATA: takes the dots away, and ends at CRLF . CRLF and nowhere else.
#[derive(Debug, Default)]
pub(crate) struct DataReader {
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// At a line's beginning; the beginning of the data counts as one (RFC 5321 section 4.1.1.4).
    #[default]
    Line,
    /// Behind a dot at a line's beginning.
    Dot,
    /// Behind the CR of what may be the end.
    DotCr,
    Text,
    Cr,
    Done,
}

impl DataReader {
    /// Reads on; adds the message's bytes to `out`. Says how many bytes of `input` were read; all, unless the end was there.
    pub(crate) fn read(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, Broken> {
        let mut at = 0;
        while let Some(rest) = input.get(at..).filter(|rest| !rest.is_empty()) {
            if self.state == State::Done {
                break;
            }
            if self.state == State::Text {
                let plain = memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
                out.extend_from_slice(rest.get(..plain).unwrap_or_default());
                at += plain;
                if plain == rest.len() {
                    break;
                }
            }
            let Some(byte) = input.get(at).copied() else { break };
            at += 1;
            self.byte(byte, out)?;
        }
        Ok(at)
    }

    fn byte(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<(), Broken> {
        self.state = match (self.state, byte) {
            (State::Done, _) => State::Done,
            (State::DotCr, b'\n') => State::Done,
            (State::Cr, b'\n') => {
                out.extend_from_slice(b"\r\n");
                State::Line
            }
            (State::Cr | State::DotCr, _) => return Err(Broken::BareCr),
            (_, b'\n') => return Err(Broken::BareLf),
            (State::Line, b'.') => State::Dot,
            (State::Dot, b'\r') => State::DotCr,
            (_, b'\r') => State::Cr,
            // RFC 5321 section 4.5.2: a dot in front of anything else is taken away.
            (State::Line | State::Dot | State::Text, _) => {
                out.push(byte);
                State::Text
            }
        };
        Ok(())
    }

    /// Whether the end was read.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }
}

/// Looks at chunks (BDAT), which have no end of their own, for what must not be in them.
#[derive(Debug, Default)]
pub(crate) struct ChunkReader {
    after_cr: bool,
}

impl ChunkReader {
    /// Looks at more bytes.
    pub(crate) fn read(&mut self, input: &[u8]) -> Result<(), Broken> {
        let mut rest = input;
        if self.after_cr && !rest.is_empty() {
            rest = rest.strip_prefix(b"\n").ok_or(Broken::BareCr)?;
            self.after_cr = false;
        }
        while let Some(at) = memchr2(b'\r', b'\n', rest) {
            let (end, after) = rest.split_at(at);
            let _ = end;
            rest = match after {
                [b'\r', b'\n', after @ ..] => after,
                [b'\r'] => {
                    self.after_cr = true;
                    &[]
                }
                [b'\r', ..] => return Err(Broken::BareCr),
                _ => return Err(Broken::BareLf),
            };
        }
        Ok(())
    }

    /// The message is at its end.
    pub(crate) fn end(&self) -> Result<(), Broken> {
        if self.after_cr { Err(Broken::BareCr) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(input: &[u8]) -> Result<(usize, Vec<u8>, bool), Broken> {
        let (mut reader, mut out) = (DataReader::default(), Vec::new());
        let used = reader.read(input, &mut out)?;
        Ok((used, out, reader.is_done()))
    }

    #[test]
    fn only_crlf_dot_crlf_ends_a_message() {
        assert_eq!(read(b"a\r\n.\r\nQUIT\r\n"), Ok((6, b"a\r\n".to_vec(), true)));
        assert_eq!(read(b".\r\nQUIT"), Ok((3, Vec::new(), true)));
        assert_eq!(read(b"..\r\n.a\r\n.\r"), Ok((10, b".\r\na\r\n".to_vec(), false)));
        for smuggled in [
            "a\n.\n",
            "a\n.\r\n",
            "a\r\n.\n",
            "a\r.\r",
            "a\r.\r\n",
            "a\r\n.\rx",
            "a\r\r\n.\r\n",
            "a\n\r\n.\r\n",
            "\n",
            ".\n",
            "\r\0\n.\r\n",
        ] {
            assert!(read(smuggled.as_bytes()).is_err(), "{smuggled:?}");
        }
    }

    fn piece() -> impl Strategy<Value = &'static [u8]> {
        prop_oneof![
            Just(&b"a"[..]),
            Just(&b"."[..]),
            Just(&b"\r\n"[..]),
            Just(&b"xyz."[..]),
            Just(&b"\r"[..]),
            Just(&b"\n"[..])
        ]
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(pieces in proptest::collection::vec(piece(), 0..30), cut in any::<usize>()) {
            let input = pieces.concat();
            let (head, tail) = input.split_at(cut % (input.len() + 1));
            let (mut reader, mut out) = (DataReader::default(), Vec::new());
            let split = reader.read(head, &mut out).and_then(|used| {
                if reader.is_done() { Ok(used) } else { reader.read(tail, &mut out).map(|more| used + more) }
            });
            let done = reader.is_done();
            prop_assert_eq!(split.map(|used| (used, out, done)), read(&input));
            let (mut whole, mut parts) = (ChunkReader::default(), ChunkReader::default());
            let parts = parts.read(head).and_then(|()| parts.read(tail)).and_then(|()| parts.end());
            prop_assert_eq!(whole.read(&input).and_then(|()| whole.end()), parts);
        }

        #[test]
        fn what_is_stuffed_comes_out_as_it_was(lines in proptest::collection::vec("[.a]{0,4}", 0..8)) {
            let message: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let stuffed: String = lines
                .iter()
                .map(|line| if line.starts_with('.') { format!(".{line}\r\n") } else { format!("{line}\r\n") })
                .collect();
            let sent = format!("{stuffed}.\r\nNOOP\r\n");
            prop_assert_eq!(read(sent.as_bytes()), Ok((stuffed.len() + 3, message.into_bytes(), true)));
        }
    }
}
