//! Proof of a name over HTTP: http-01 (RFC 8555 section 8.3), answered on cleartext `http` listeners.
//!
//! A CA fetches one path. Of a connection whose first request is for another, nothing is held back for longer than it
//! takes to see that, and nothing is changed.

use std::fmt;
use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// What a request for an answer begins with.
const REQUEST: &[u8] = b"GET /.well-known/acme-challenge/";
/// Longest head of such a request. Browsers send more; CAs, and proxies in between, less.
const MAX_HEAD: usize = 8192;

/// Who knows the answers to challenges.
pub trait HttpChallenges: Send + Sync + fmt::Debug {
    /// The body to answer with where `token` is one of ours. It may be any text that a client sends.
    fn answer(&self, token: &str) -> Option<String>;
}

/// What the client's first words were.
pub(crate) enum Heard {
    /// A request for a token of ours: the response.
    Challenge(Vec<u8>),
    /// Something else: all that was read.
    Other(Vec<u8>),
}

/// Reads until it is known which of the two it is.
pub(crate) async fn hear(
    client: &mut (impl AsyncBufRead + Unpin),
    challenges: &dyn HttpChallenges,
) -> io::Result<Heard> {
    let mut heard = Vec::new();
    loop {
        let read = client.fill_buf().await?;
        let count = read.len();
        heard.extend_from_slice(read);
        client.consume(count);
        let compared = heard.len().min(REQUEST.len());
        let differs = heard.get(..compared) != REQUEST.get(..compared);
        if count == 0 || differs || heard.len() > MAX_HEAD {
            return Ok(Heard::Other(heard));
        }
        // The head is read whole: a response to half a request, and the connection is reset before it is read.
        if heard.windows(4).any(|four| four == b"\r\n\r\n") {
            let body = token(&heard).and_then(|token| challenges.answer(token));
            return Ok(match body {
                Some(body) => Heard::Challenge(response(&body)),
                None => Heard::Other(heard),
            });
        }
    }
}

/// What stands between the path's last slash and the next blank (or query).
fn token(head: &[u8]) -> Option<&str> {
    let rest = head.strip_prefix(REQUEST)?;
    let end = rest.iter().position(|byte| b" ?\r\n".contains(byte))?;
    std::str::from_utf8(rest.get(..end)?).ok()
}

fn response(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct One;

    impl HttpChallenges for One {
        fn answer(&self, token: &str) -> Option<String> {
            (token == "abc").then(|| "abc.thumbprint".to_owned())
        }
    }

    /// What comes of `said`, in pieces of `size` bytes.
    async fn heard(said: &[u8], size: usize) -> Heard {
        let pieces: Vec<Vec<u8>> = said.chunks(size).map(<[u8]>::to_vec).collect();
        let mut builder = Pieces(pieces.into(), Vec::new());
        hear(&mut builder, &One).await.expect("heard")
    }

    struct Pieces(std::collections::VecDeque<Vec<u8>>, Vec<u8>);

    impl tokio::io::AsyncRead for Pieces {
        fn poll_read(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            _: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            std::task::Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
        }
    }

    impl AsyncBufRead for Pieces {
        fn poll_fill_buf(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<io::Result<&[u8]>> {
            let own = self.get_mut();
            if own.1.is_empty() {
                own.1 = own.0.pop_front().unwrap_or_default();
            }
            std::task::Poll::Ready(Ok(&own.1))
        }

        fn consume(self: std::pin::Pin<&mut Self>, count: usize) {
            self.get_mut().1.drain(..count);
        }
    }

    #[tokio::test]
    async fn a_request_for_a_token_of_ours_is_answered_in_any_pieces() {
        for request in [
            "GET /.well-known/acme-challenge/abc HTTP/1.1\r\nHost: mail.example.org\r\n\r\n",
            "GET /.well-known/acme-challenge/abc?x=1 HTTP/1.0\r\n\r\n",
        ] {
            for size in 1..request.len() {
                let Heard::Challenge(answer) = heard(request.as_bytes(), size).await else {
                    panic!("{request:?} in pieces of {size}");
                };
                let answer = String::from_utf8(answer).expect("text");
                assert!(
                    answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nabc.thumbprint")
                );
                assert!(answer.contains("Content-Length: 14\r\n"), "{answer}");
            }
        }
    }

    #[tokio::test]
    async fn everything_else_goes_on_unchanged() {
        let long = format!("GET /.well-known/acme-challenge/{}", "x".repeat(20_000));
        for said in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET /.well-known/acme-challenge/other HTTP/1.1\r\n\r\n",
            "GET /.well-known/acme-challenge/../abc HTTP/1.1\r\n\r\n",
            "POST /.well-known/acme-challenge/abc HTTP/1.1\r\n\r\n",
            "GET /.well-kn",
            "",
            "\u{16}\u{3}\u{1}",
            &long,
        ] {
            for size in [1, 7, 4000] {
                let Heard::Other(heard) = heard(said.as_bytes(), size).await else { panic!("{said:?}") };
                assert!(said.as_bytes().starts_with(&heard), "{said:?}");
                assert!(heard.len() == said.len() || heard.len() <= MAX_HEAD + 4000);
            }
        }
    }
}
