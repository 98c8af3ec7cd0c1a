//! Commands as they come, whole and bounded.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use super::syntax::{AppendHead, SyntaxError, append_head, tag_of};
use super::wire::{Line, Literal, Wire};

/// The longest command before login, literals included.
pub(super) const MAX_COMMAND_BEFORE_LOGIN: usize = 8 << 10;
/// The longest command, literals included but for the message of APPEND.
pub(super) const MAX_COMMAND: usize = 128 << 10;

/// What a client said.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A command without its tag, literals in place.
    Command { tag: String, text: Zeroizing<Vec<u8>> },
    /// APPEND up to its message, which is still to be read (or to be asked for).
    Append { tag: String, head: Result<AppendHead, SyntaxError>, message: Literal },
    /// What is no command; all of it was read.
    Bad { tag: Option<String>, why: &'static str },
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Reads a command of at most `limit` bytes. What is longer or malformed is read to its end, so that the next is a command again.
    pub(super) async fn command(&mut self, limit: usize) -> io::Result<Incoming> {
        let mut text = Zeroizing::new(Vec::new());
        loop {
            let line = match self.line(limit.saturating_sub(text.len())).await? {
                Line::Whole(line) => Zeroizing::new(line),
                Line::TooLong { start, end } => {
                    self.skip_after(Literal::at_end_of(&end)).await?;
                    let text = if text.is_empty() { &start } else { &*text };
                    return Ok(bad(text, "The command is too long"));
                }
                Line::BareLineFeed => return Ok(bad(&text, "Lines end in CRLF")),
            };
            let start = text.len();
            text.extend_from_slice(&line);
            let Some(literal) = Literal::at_end_of(&line) else { return Ok(whole(text)) };
            let Some((tag, command)) = tag_of(&text) else {
                self.skip_after(Some(literal)).await?;
                return Ok(bad(&text, "The tag is missing or malformed"));
            };
            let before = command.len() - (text.len() - start - literal.at);
            if let Some(head) = append_head(command.get(..before).unwrap_or_default()) {
                return Ok(Incoming::Append { tag: tag.to_owned(), head, message: literal });
            }
            let room = limit.saturating_sub(text.len()) as u64;
            if literal.length > room {
                self.skip_after(Some(literal)).await?;
                return Ok(bad(&text, "The literal is too long"));
            }
            if literal.synchronizing {
                self.out().extend_from_slice(b"+ Go on\r\n");
            }
            text.extend_from_slice(b"\r\n");
            let end = text.len() + usize::try_from(literal.length).unwrap_or(0);
            while text.len() < end {
                let bytes = Zeroizing::new(self.bytes(end - text.len()).await?);
                text.extend_from_slice(&bytes);
            }
        }
    }

    /// Reads what is left of a command that is refused, `literal` being the last thing of a line of it.
    pub(super) async fn skip_after(&mut self, mut literal: Option<Literal>) -> io::Result<()> {
        // A client that is not asked for its literal has ended its command (RFC 9051 section 4.3).
        while let Some(Literal { length, synchronizing: false, .. }) = literal {
            self.skip(length).await?;
            literal = match self.line(MAX_COMMAND).await? {
                Line::Whole(end) | Line::TooLong { end, .. } => Literal::at_end_of(&end),
                Line::BareLineFeed => None,
            };
        }
        Ok(())
    }
}

fn whole(text: Zeroizing<Vec<u8>>) -> Incoming {
    match tag_of(&text) {
        Some((tag, command)) if !command.is_empty() => {
            Incoming::Command { tag: tag.to_owned(), text: Zeroizing::new(command.to_vec()) }
        }
        _ => bad(&text, "The tag or the command is missing"),
    }
}

fn bad(text: &[u8], why: &'static str) -> Incoming {
    Incoming::Bad { tag: tag_of(text).map(|(tag, _)| tag.to_owned()), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(text: &str, limit: usize) -> Vec<String> {
        let stream = tokio::io::join(io::Cursor::new(text.as_bytes().to_vec()), tokio::io::sink());
        let mut wire = Wire::new(stream);
        let mut seen = Vec::new();
        while let Ok(incoming) = wire.command(limit).await {
            seen.push(match incoming {
                Incoming::Command { tag, text } => format!("{tag}: {}", String::from_utf8_lossy(&text)),
                Incoming::Append { tag, message, .. } => {
                    wire.skip_after(Some(message)).await.unwrap();
                    format!("{tag} appends {}", message.length)
                }
                Incoming::Bad { tag, why } => format!("{} bad: {why}", tag.unwrap_or_default()),
            });
        }
        seen
    }

    #[tokio::test]
    async fn literals_are_put_in_place() {
        let text = "a LOGIN {2}\r\nxy {3+}\r\n\r\n1\r\nb NOOP\r\n";
        assert_eq!(read(text, 100).await, ["a: LOGIN {2}\r\nxy {3+}\r\n\r\n1", "b: NOOP"]);
    }

    #[tokio::test]
    async fn the_message_of_append_is_left_to_be_read() {
        let text = "a APPEND x (\\Seen) {3+}\r\nabc\r\nb APPEND {1+}\r\nx {4+}\r\nabcd\r\nc NOOP\r\n";
        assert_eq!(read(text, 100).await, ["a appends 3", "b appends 4", "c: NOOP"]);
    }

    #[tokio::test]
    async fn after_what_is_too_long_the_next_command_is_read() {
        let text = format!(
            "a {}\r\nb LOGIN {{200+}}\r\n{} {{3+}}\r\nabc\r\nc LOGIN {{200}}\r\nd {}{{9+}}\r\ne NOOP\r\n.\r\nf NOOP\r\n",
            "x".repeat(200),
            "y".repeat(200),
            "z".repeat(5000),
        );
        let seen = read(&text, 100).await;
        assert_eq!(
            seen,
            [
                "a bad: The command is too long",
                "b bad: The literal is too long",
                "c bad: The literal is too long",
                "d bad: The command is too long",
                "f: NOOP"
            ]
        );
    }
}
