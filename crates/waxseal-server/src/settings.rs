//! What a listener and a service are, resolved: no value here means "default".

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use waxseal_proto::Protocol;
use waxseal_tls::Acceptor;

use crate::service::Service;

/// One listener: where clients knock, how they are encrypted and who serves them.
#[derive(Clone)]
pub struct Listener {
    /// The name the operator gave it; logs and counters carry it.
    pub name: Arc<str>,
    /// What is spoken here.
    pub protocol: Protocol,
    /// The addresses it listens on; `[::]:25` takes IPv4 too.
    pub bind: Vec<SocketAddr>,
    /// Options of its sockets.
    pub socket: SocketOptions,
    /// Simultaneous connections, all clients together.
    pub max_connections: usize,
    /// Simultaneous connections of one client (an IPv4 address, an IPv6 /64).
    pub max_connections_per_address: usize,
    /// Peers whose PROXY header is believed.
    pub trusted_networks: Vec<IpNet>,
    /// The name in greetings.
    pub hostname: Arc<str>,
    /// How clients are encrypted.
    pub security: Security,
    /// How long a handshake may take, and on listeners that require TLS the time from greeting to STARTTLS.
    pub timeout: Duration,
    /// Who serves the session behind.
    pub service: Arc<dyn Service>,
}

/// How the clients of a listener are encrypted.
#[derive(Clone)]
pub enum Security {
    /// Not at all: the operator asked for a cleartext listener.
    Clear,
    /// From the first byte (RFC 8314 section 3).
    Implicit(Arc<Acceptor>),
    /// On the client's STARTTLS.
    StartTls {
        /// Runs the handshakes.
        acceptor: Arc<Acceptor>,
        /// Whether anything but STARTTLS and small talk is answered before TLS.
        require: bool,
    },
}

/// Options of a listener's sockets (`server.socket.*`); `None` leaves the system's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// `SO_REUSEADDR`.
    pub reuse_addr: bool,
    /// `SO_REUSEPORT`.
    pub reuse_port: bool,
    /// Connections the kernel holds before they are accepted.
    pub backlog: u32,
    /// `IP_TTL`, hops.
    pub ttl: Option<u32>,
    /// `SO_SNDBUF`, bytes.
    pub send_buffer_size: Option<usize>,
    /// `SO_RCVBUF`, bytes.
    pub recv_buffer_size: Option<usize>,
    /// `SO_LINGER` of accepted connections.
    pub linger: Option<Duration>,
    /// `IP_TOS`.
    pub tos: Option<u32>,
    /// `TCP_NODELAY` of accepted connections.
    pub nodelay: bool,
}

impl SocketOptions {
    /// Whether an open socket with the options `before` can be given these.
    pub(crate) fn can_follow(&self, before: &Self) -> bool {
        fn kept<T>(before: Option<T>, now: Option<T>) -> bool {
            before.is_none() || now.is_some()
        }
        (self.reuse_addr, self.reuse_port) == (before.reuse_addr, before.reuse_port)
            && kept(before.ttl, self.ttl)
            && kept(before.tos, self.tos)
            && kept(before.send_buffer_size, self.send_buffer_size)
            && kept(before.recv_buffer_size, self.recv_buffer_size)
    }
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            reuse_addr: true,
            reuse_port: false,
            backlog: 1024,
            ttl: None,
            send_buffer_size: None,
            recv_buffer_size: None,
            linger: None,
            tos: None,
            nodelay: true,
        }
    }
}

/// A mail server behind the door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The name the operator gave it.
    pub name: Arc<str>,
    /// Where it listens, tried in order.
    pub addresses: Vec<Address>,
    /// How the client is introduced.
    pub forwarding: Forwarding,
    /// Whether and when the leg behind is encrypted.
    pub leg: LegSecurity,
    /// The name its certificate must bear; the host it is dialled by where unset.
    pub server_name: Option<String>,
    /// Whom to trust there.
    pub trust: waxseal_tls::Trust,
}

/// Where a service listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A host (name or literal address) and a port.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// A unix domain socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// How the client is introduced to the service (`upstream.ID.forwarding`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Forwarding {
    /// Not at all.
    None,
    /// PROXY protocol, text form.
    ProxyV1,
    /// PROXY protocol, binary form with the facts of the client's TLS.
    ProxyV2,
    /// XCLIENT, or ID in IMAP.
    Xclient,
}

impl Forwarding {
    /// The configuration's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ProxyV1 => "proxy-v1",
            Self::ProxyV2 => "proxy-v2",
            Self::Xclient => "xclient",
        }
    }
}

/// The leg behind (`upstream.ID.tls.mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LegSecurity {
    /// Cleartext.
    None,
    /// STARTTLS always; refused by the service means no session.
    StartTls,
    /// Encrypted from the first byte.
    Implicit,
    /// STARTTLS exactly when the client's leg is encrypted.
    Mirror,
}

impl LegSecurity {
    /// Whether this leg says STARTTLS for a client whose own leg is encrypted or not.
    pub(crate) fn starttls(self, client_encrypted: bool) -> bool {
        match self {
            Self::StartTls => true,
            Self::Mirror => client_encrypted,
            Self::None | Self::Implicit => false,
        }
    }
}
