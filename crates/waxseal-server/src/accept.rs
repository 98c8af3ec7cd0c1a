//! From the listening socket to a session: accept, the PROXY header of a trusted peer, the limits.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout_at};
use waxseal_proto::proxy::{self, MAX_PROXY_HEADER, ProxyHead};

use crate::listen::tune;
use crate::server::Shared;
use crate::session::Session;
use crate::settings::Listener;

/// How long a trusted peer may take to send its PROXY header.
const PROXY_HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause of the accept loop when accepting again at once would only spin, as with no descriptor or memory left.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(250);
/// `ENFILE`, `EMFILE`.
const TOO_MANY_FILES: [i32; 2] = [23, 24];

/// Accepts until the task is ended. `settings` may be replaced at any time; sessions keep what they began with.
pub(crate) async fn accept(sockets: Arc<TcpListener>, settings: Arc<ArcSwap<Listener>>, shared: Arc<Shared>) {
    let mut exhausted = false;
    loop {
        match sockets.accept().await {
            Ok((stream, peer)) => {
                exhausted = false;
                let listener = settings.load_full();
                shared.tally.connections.add();
                tokio::spawn(welcome(stream, peer, listener, Arc::clone(&shared)));
            }
            // The client has gone between the kernel's queue and us.
            Err(error) if is_about_one_client(&error) => tracing::debug!("accept: {error}"),
            Err(error) => {
                if !exhausted {
                    tracing::error!(
                        listener = &*settings.load().name,
                        "cannot accept connections: {error}. New clients wait in the kernel's queue{}",
                        remedy(&error)
                    );
                }
                exhausted = true;
                sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

/// Whether the next connection may be accepted at once.
fn is_about_one_client(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    // The last is what a firewall's refusal looks like (accept(2): EPERM).
    matches!(error.kind(), Kind::ConnectionAborted | Kind::ConnectionReset | Kind::PermissionDenied)
}

fn remedy(error: &io::Error) -> &'static str {
    if error.raw_os_error().is_some_and(|code| TOO_MANY_FILES.contains(&code)) {
        "; raise the limit of open files (LimitNOFILE= in the unit, or ulimit -n)"
    } else {
        ""
    }
}

async fn welcome(stream: TcpStream, peer: SocketAddr, listener: Arc<Listener>, shared: Arc<Shared>) {
    let accepted = Instant::now();
    tune(&stream, &listener.socket);
    let peer = canonical(peer);
    let Ok(local) = stream.local_addr().map(canonical) else { return };
    let trusted = listener.trusted_networks.iter().any(|network| network.contains(&peer.ip()));
    let mut stream = stream;
    let (source, destination) = if trusted {
        match Box::pin(proxied(&mut stream, accepted + PROXY_HEADER_TIMEOUT)).await {
            Ok(Some((source, destination))) => (canonical(source), canonical(destination)),
            Ok(None) => (peer, local),
            Err(error) => {
                tracing::warn!(
                    listener = &*listener.name,
                    peer = %peer,
                    "connection closed: the PROXY header of this trusted peer cannot be used: {error}"
                );
                return;
            }
        }
    } else {
        (peer, local)
    };
    let gate = shared.gate(&listener.name);
    let place = gate.enter(source.ip(), listener.max_connections, listener.max_connections_per_address);
    let session = Session::new(listener, shared, source, destination, accepted);
    match place {
        Ok(place) => session.serve(stream, place).await,
        Err(full) => session.turn_away(stream, full).await,
    }
}

/// The addresses a trusted peer speaks for; `None` if it speaks for itself.
///
/// Exactly the header is taken from the socket: what stands behind it is left for TLS or the dialogue.
async fn proxied(stream: &mut TcpStream, deadline: Instant) -> io::Result<Option<(SocketAddr, SocketAddr)>> {
    let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let mut head = Vec::new();
    loop {
        let taken = head.len();
        let mut peeked = [0; 512];
        let count = match timeout_at(deadline, stream.peek(&mut peeked)).await {
            Ok(count) => count?,
            // It may send a header; that it says nothing at all means that it waits for our greeting.
            Err(_) if taken == 0 => return Ok(None),
            Err(_) => return Err(invalid("only a part of it came in time".to_owned())),
        };
        if count == 0 {
            let end = "the connection ended in the middle of it".to_owned();
            return if taken == 0 { Ok(None) } else { Err(invalid(end)) };
        }
        head.extend_from_slice(&peeked[..count]);
        let (used, addresses) = match proxy::read(&head) {
            ProxyHead::None if taken == 0 => return Ok(None),
            ProxyHead::None => return Err(invalid("it begins like one and is none".to_owned())),
            ProxyHead::Invalid(why) => return Err(invalid(why)),
            ProxyHead::More => (head.len(), None),
            ProxyHead::Header { used, addresses } => (used, Some(addresses)),
        };
        let mut header = vec![0; used.saturating_sub(taken)];
        stream.read_exact(&mut header).await?;
        if let Some(addresses) = addresses {
            return Ok(addresses);
        }
        if head.len() > MAX_PROXY_HEADER {
            return Err(invalid(format!("it is longer than {MAX_PROXY_HEADER} bytes")));
        }
    }
}

/// `::ffff:192.0.2.1` is 192.0.2.1 that came in through a socket for both families.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::splice::Splice;

    /// The size of what `function` returns, without calling it.
    fn size_of_result<F: FnOnce(TcpStream, SocketAddr, Arc<Listener>, Arc<Shared>) -> R, R>(_: F) -> usize {
        size_of::<R>()
    }

    #[test]
    fn the_task_of_an_idle_session_is_small() {
        // Beside it there are two sockets in the kernel and the library's TLS session.
        let task = size_of_result(welcome) + size_of::<Splice>();
        assert!(task <= 2048, "{task} bytes");
    }
}
