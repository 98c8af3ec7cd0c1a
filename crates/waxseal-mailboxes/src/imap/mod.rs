//! IMAP4rev1 and IMAP4rev2.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::session::{Peer, Site};

/// What the service says it can do before login.
pub fn capabilities(secured: bool) -> Vec<String> {
    let _ = secured;
    todo!()
}

/// The greeting, CRLF included.
pub fn greeting(site: &Site, peer: &Peer) -> Vec<u8> {
    let _ = (site, peer);
    todo!()
}

/// Speaks one session, greeting said, to its end.
///
/// # Errors
/// When the connection breaks.
pub async fn serve<S>(stream: S, site: Arc<Site>, peer: Peer) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let _ = (stream, site, peer);
    todo!()
}
