//! Listening sockets with the operator's options.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::settings::SocketOptions;

/// Silence after which the kernel asks whether the other end still lives; mobile clients vanish without a word.
const KEEPALIVE_TIME: Duration = Duration::from_secs(120);
/// Time between two such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// Unanswered questions after which the connection is gone.
const KEEPALIVE_RETRIES: u32 = 4;

/// An address that could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("listener {listener:?} cannot listen on {address}: {source}")]
pub struct BindError {
    /// The listener that asked for it.
    pub listener: String,
    /// The address.
    pub address: SocketAddr,
    /// What the system said; `AddrInUse` and `PermissionDenied` are the common ones.
    pub source: io::Error,
}

/// Binds `address` and listens.
pub(crate) fn bind(address: SocketAddr, options: &SocketOptions) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // [::] takes IPv4 too, whatever net.ipv6.bindv6only says.
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(options.reuse_addr)?;
    socket.set_reuse_port(options.reuse_port)?;
    if let Some(ttl) = options.ttl {
        match address {
            SocketAddr::V4(_) => socket.set_ttl_v4(ttl)?,
            SocketAddr::V6(_) => socket.set_unicast_hops_v6(ttl)?,
        }
    }
    if let Some(tos) = options.tos {
        match address {
            SocketAddr::V4(_) => socket.set_tos_v4(tos)?,
            SocketAddr::V6(_) => socket.set_tclass_v6(tos)?,
        }
    }
    // Buffer sizes are inherited by accepted sockets and decide the window scale, so they come before listen().
    if let Some(size) = options.send_buffer_size {
        socket.set_send_buffer_size(size)?;
    }
    if let Some(size) = options.recv_buffer_size {
        socket.set_recv_buffer_size(size)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(StdListener::from(socket))
}

/// Sets the options of an accepted connection. A client that has gone meanwhile is no error worth a word.
pub(crate) fn tune(stream: &TcpStream, options: &SocketOptions) {
    let _ = stream.set_nodelay(options.nodelay);
    let socket = SockRef::from(stream);
    if options.linger.is_some() {
        let _ = socket.set_linger(options.linger);
    }
    keep_alive(stream);
}

/// Switches TCP keepalive on, so that a session whose peer has vanished is found before its idle limit.
pub(crate) fn keep_alive(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_TIME)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}
