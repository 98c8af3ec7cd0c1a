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
    // Buffer sizes are inherited by accepted sockets and decide the window scale, so they come before listen().
    set(SockRef::from(&socket), address, options)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog(options))?;
    TcpListener::from_std(StdListener::from(socket))
}

/// Gives an open socket other options, as its address cannot be bound a second time while it is open. What is no longer
/// wanted stays until a restart: the system has no way back to its own choice.
pub(crate) fn change(sockets: &TcpListener, address: SocketAddr, options: &SocketOptions) -> io::Result<()> {
    set(SockRef::from(sockets), address, options)?;
    SockRef::from(sockets).listen(backlog(options))
}

fn set(socket: SockRef<'_>, address: SocketAddr, options: &SocketOptions) -> io::Result<()> {
    // An IPv6 socket serves IPv4 clients too, whose packets take the options of IPv4.
    if let Some(ttl) = options.ttl {
        socket.set_ttl_v4(ttl)?;
        if address.is_ipv6() {
            socket.set_unicast_hops_v6(ttl)?;
        }
    }
    if let Some(tos) = options.tos {
        socket.set_tos_v4(tos)?;
        if address.is_ipv6() {
            socket.set_tclass_v6(tos)?;
        }
    }
    if let Some(size) = options.send_buffer_size {
        socket.set_send_buffer_size(size)?;
    }
    if let Some(size) = options.recv_buffer_size {
        socket.set_recv_buffer_size(size)?;
    }
    Ok(())
}

fn backlog(options: &SocketOptions) -> i32 {
    i32::try_from(options.backlog).unwrap_or(i32::MAX)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_open_socket_takes_other_options_for_both_families() {
        let any = SocketAddr::from(([0; 8], 0));
        let sockets = bind(any, &SocketOptions::default()).unwrap();
        let options = SocketOptions { ttl: Some(42), tos: Some(8), ..SocketOptions::default() };
        change(&sockets, any, &options).unwrap();
        let socket = SockRef::from(&sockets);
        assert_eq!((socket.ttl_v4().unwrap(), socket.unicast_hops_v6().unwrap()), (42, 42));
        assert_eq!((socket.tos_v4().unwrap(), socket.tclass_v6().unwrap()), (8, 8));
        assert!(options.can_follow(&SocketOptions::default()));
        assert!(!SocketOptions::default().can_follow(&options), "there is no way back to the system's own");
    }
}
