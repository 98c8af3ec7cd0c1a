//! IMAP4rev1 (RFC 3501) and IMAP4rev2 (RFC 9051).
//!
//! A session reads a command (`input` on `wire`), understands it (`syntax`), and does it: what concerns an open folder on a
//! thread for file work. What is told of a message is in `message`. A command is answered before the next is read, so that answers
//! come in order and the numbers a client uses are those it was told last.

mod append;
mod change;
mod fetch;
mod folders;
mod give;
mod idle;
mod input;
mod login;
mod message;
mod pattern;
mod reply;
mod search;
mod selected;
mod session;
mod syntax;
mod wire;
mod words;

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::session::{Peer, Site};

/// What the service says it can do before login.
pub fn capabilities(secured: bool) -> Vec<String> {
    login::capability_words(secured).into_iter().map(str::to_owned).collect()
}

/// The greeting, CRLF included.
pub fn greeting(site: &Site, peer: &Peer) -> Vec<u8> {
    let capabilities = login::capability_words(peer.secured()).join(" ");
    format!("* OK [CAPABILITY {capabilities}] {} ready\r\n", site.hostname).into_bytes()
}

/// Speaks one session, greeting said, to its end.
///
/// # Errors
/// When the connection breaks.
pub async fn serve<S>(stream: S, site: Arc<Site>, peer: Peer) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    session::Session::new(stream, site, peer).run().await
}

/// Reads `input` as a command in every way there is.
pub(crate) fn fuzz_command(input: &[u8]) {
    let command = syntax::tag_of(input).map_or(input, |(_, command)| command);
    let _ = syntax::parse(command);
    let _ = syntax::append_head(command);
    let _ = wire::Literal::at_end_of(input);
    let _ = pattern::Pattern::new(b"", input).matches("INBOX.a.b");
}

/// Says of `input` all that FETCH and SEARCH can.
pub(crate) fn fuzz_message(input: &[u8]) {
    message::describe(input);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_session_is_small() {
        // Commands are boxed while they run, IDLE among them; this is what a session takes that waits for one.
        fn size<F: Future>(_: impl FnOnce(tokio::io::DuplexStream, Arc<Site>, Peer) -> F) -> usize {
            size_of::<F>()
        }
        let size = size(serve::<tokio::io::DuplexStream>);
        assert!(size < 2048, "{size}");
    }
}
