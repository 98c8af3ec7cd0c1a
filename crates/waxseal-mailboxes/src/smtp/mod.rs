//! SMTP, LMTP and submission: how mail comes in (RFC 5321, 2033, 6409).
//!
//! Mail is taken for the site's own accounts only; nothing is ever sent to another server. 250 to a message is said once
//! its bytes are on disk.

mod body;
mod command;
mod deliver;
mod incoming;
mod path;
mod session;
mod trace;

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::session::{Peer, Site};

/// Recipients of one message.
pub const MAX_RECIPIENTS: usize = 1000;
/// Received lines of a message that is not taken for a loop (RFC 5321 section 6.3).
pub const MAX_RECEIVED: usize = 100;

/// Which of the three is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// From other servers, without a password.
    Smtp,
    /// From the site's own accounts, with a password.
    Submission,
    /// From a mail server in front; one reply per recipient.
    Lmtp,
}

/// What is announced to EHLO or LHLO.
pub fn capabilities(site: &Site, kind: Kind, secured: bool) -> Vec<String> {
    let mut lines = vec![
        "PIPELINING".to_owned(),
        format!("SIZE {}", site.max_message),
        "8BITMIME".to_owned(),
        "SMTPUTF8".to_owned(),
        "ENHANCEDSTATUSCODES".to_owned(),
        "CHUNKING".to_owned(),
    ];
    if kind == Kind::Submission && secured {
        lines.push("AUTH PLAIN LOGIN".to_owned());
    }
    lines
}

/// The greeting, CRLF included.
pub fn greeting(site: &Site, kind: Kind) -> Vec<u8> {
    let protocol = if kind == Kind::Lmtp { "LMTP" } else { "ESMTP" };
    format!("220 {} {protocol} waxseal\r\n", site.hostname).into_bytes()
}

/// Speaks one session, greeting said, to its end. `hello`: the EHLO, HELO or LHLO line the client has said to the door
/// already, and had its answer to.
///
/// # Errors
/// When the connection breaks.
pub async fn serve<S>(
    stream: S,
    site: Arc<Site>,
    kind: Kind,
    peer: Peer,
    hello: Option<Vec<u8>>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    session::Session::new(stream, site, kind, peer, hello).run().await
}

pub(crate) mod fuzzing {
    use super::body::{ChunkReader, DataReader};
    use super::{command, incoming};

    pub(crate) fn command(input: &[u8]) {
        let _ = command::parse(input);
    }

    pub(crate) fn header(input: &[u8]) {
        incoming::facts(input);
    }

    pub(crate) fn data(input: &[u8]) {
        let Some((cut, input)) = input.split_first() else { return };
        let (head, tail) = input.split_at(usize::from(*cut).min(input.len()));
        let read = |parts: &[&[u8]]| {
            let (mut reader, mut out) = (DataReader::default(), Vec::new());
            let read = parts.iter().try_for_each(|part| reader.read(part, &mut out).map(|_| ()));
            (read.is_ok(), reader.is_done(), if read.is_ok() { out } else { Vec::new() })
        };
        assert_eq!(read(&[input]), read(&[head, tail]));
        let mut chunks = ChunkReader::default();
        let _ = chunks.read(head).and_then(|()| chunks.read(tail)).and_then(|()| chunks.end());
    }
}
