//! Connections to a service's addresses, in order.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::leg::Socket;
use crate::listen::keep_alive;
use crate::settings::Address;

/// How long one address may take to answer a connection.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Who is asked for the addresses of names.
#[derive(Clone)]
pub enum Resolver {
    /// The system (`getaddrinfo`).
    System,
    /// The DNS servers of `server.resolver`.
    Servers(Arc<TokioResolver>),
}

impl Resolver {
    /// Asks these DNS servers, and no others; the system if there are none.
    ///
    /// # Errors
    /// When the resolver cannot be set up, in its own words.
    pub fn new(servers: &[SocketAddr]) -> io::Result<Self> {
        if servers.is_empty() {
            return Ok(Self::System);
        }
        let servers = servers
            .iter()
            .map(|server| {
                let mut name_server = NameServerConfig::udp_and_tcp(server.ip());
                for connection in &mut name_server.connections {
                    connection.port = server.port();
                }
                name_server
            })
            .collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .build()
            .map_err(io::Error::other)?;
        Ok(Self::Servers(Arc::new(resolver)))
    }

    async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        match self {
            Self::System => Ok(tokio::net::lookup_host((host, port)).await?.collect()),
            Self::Servers(resolver) => {
                let found = resolver.lookup_ip(host).await.map_err(io::Error::other)?;
                Ok(found.iter().map(|address| SocketAddr::new(address, port)).collect())
            }
        }
    }
}

/// A connection, and the two ends of it for a PROXY header (`None` over a unix socket).
pub(crate) struct Dialled {
    pub(crate) socket: Socket,
    pub(crate) ends: Option<(SocketAddr, SocketAddr)>,
}

/// Connects to one address.
pub(crate) async fn dial(address: &Address, resolver: &Resolver) -> io::Result<Dialled> {
    let slow = |_| {
        io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))
    };
    match address {
        Address::Unix(path) => {
            let socket = timeout(CONNECT_TIMEOUT, UnixStream::connect(path)).await.map_err(slow)??;
            Ok(Dialled { socket: Socket::Unix(socket), ends: None })
        }
        Address::Tcp { host, port } => {
            let candidates =
                timeout(CONNECT_TIMEOUT, resolver.lookup(host, *port)).await.map_err(|_| {
                    io::Error::new(io::ErrorKind::TimedOut, format!("looking up {host} took too long"))
                })??;
            let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
            for candidate in candidates {
                let attempt = timeout(CONNECT_TIMEOUT, TcpStream::connect(candidate)).await;
                match attempt.map_err(slow).and_then(|connected| connected) {
                    Ok(stream) => {
                        let _ = stream.set_nodelay(true);
                        keep_alive(&stream);
                        let ends = Some((stream.local_addr()?, stream.peer_addr()?));
                        return Ok(Dialled { socket: Socket::Tcp(stream), ends });
                    }
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
    }
}
