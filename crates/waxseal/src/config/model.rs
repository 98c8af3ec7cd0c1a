//! The configuration as it is used: every value decided, nothing left that means "default".

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use nix::unistd::{Gid, Uid};
use waxseal_proto::Protocol;
use waxseal_server::{Address, Forwarding, LegSecurity, SocketOptions};
use waxseal_tls::{CertificateSpec, Policy};

use super::nearest::InForce;
use super::source::Span;

/// A whole configuration.
#[derive(Clone, Debug)]
pub struct Model {
    /// The name in greetings.
    pub hostname: Arc<str>,
    /// Whom to become after binding and reading keys; `None` stays who we are.
    pub run_as: Option<RunAs>,
    /// DNS servers to ask; empty asks the system's.
    pub resolver: Vec<SocketAddr>,
    /// Where clients knock, in the order of the file. Never empty.
    pub listeners: Vec<Listener>,
    /// The mail servers behind, in the order of the file.
    pub upstreams: Vec<Upstream>,
    /// The mailboxes of our own, if there are any.
    pub mailboxes: Option<Mailboxes>,
    /// Who we are, in the order of the file.
    pub certificates: Vec<CertificateSpec>,
    /// How certificates are come by, in the order of the file.
    pub acme: Vec<Acme>,
    /// What is logged, and how.
    pub log: Log,
    /// The settings outside of listeners, each with where it comes from: `server`, `upstream.ID`, ...
    pub settings: Vec<Section>,
}

impl Model {
    /// The upstream a listener hands its sessions to, if it is one.
    pub fn upstream(&self, behind: &Behind) -> Option<&Upstream> {
        match behind {
            Behind::Upstream(name) => self.upstreams.iter().find(|upstream| upstream.name == *name),
            Behind::Mailboxes | Behind::Nobody => None,
        }
    }
}

/// One CA and the names to be certified by it.
#[derive(Clone, Debug, PartialEq)]
pub struct Acme {
    /// What is wanted.
    pub settings: Arc<waxseal_acme::Settings>,
    /// Where account, keys and certificates are kept.
    pub cache: PathBuf,
    /// Its table's header.
    pub header: Span,
    /// Where its CA is written; none for the built-in one.
    pub directory: Option<Span>,
    /// Where the cache is written; none for the built-in one.
    pub kept: Option<Span>,
    /// Where its profile is written.
    pub profile: Option<Span>,
}

/// The settings of one table of the file, as `show` prints them.
#[derive(Clone, Debug)]
pub struct Section {
    /// The table's name, from the file's root.
    pub table: String,
    /// What is in force there.
    pub settings: Vec<InForce>,
}

/// Whom to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunAs {
    /// The user, unless only the group changes.
    pub user: Option<(String, Uid)>,
    /// The group: the one written, else the user's own.
    pub group: Gid,
}

/// The mailboxes of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailboxes {
    /// The directory they are kept in.
    pub path: PathBuf,
    /// Whose mail they take, in lower case. Never empty.
    pub domains: Vec<String>,
}

/// Who serves the sessions of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behind {
    /// The upstream of that name; [`Model::upstream`] has it.
    Upstream(Arc<str>),
    /// The mailboxes of our own.
    Mailboxes,
    /// Nobody: an `http` listener that is there to answer challenges alone.
    Nobody,
}

impl Behind {
    /// The word for it in a table.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Upstream(name) => name,
            Self::Mailboxes => "(mailboxes)",
            Self::Nobody => "-",
        }
    }
}

/// One listener.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The name the operator gave it.
    pub name: Arc<str>,
    /// What is spoken.
    pub protocol: Protocol,
    /// Where it listens. Never empty.
    pub bind: Vec<SocketAddr>,
    /// Options of its sockets.
    pub socket: SocketOptions,
    /// Simultaneous connections, all clients together.
    pub max_connections: usize,
    /// Simultaneous connections of one client.
    pub max_connections_per_address: usize,
    /// Peers whose PROXY header is believed.
    pub trusted_networks: Vec<IpNet>,
    /// How clients are encrypted.
    pub security: Security,
    /// How long a handshake may take, and on listeners that require TLS the time from greeting to STARTTLS.
    pub timeout: Duration,
    /// Who serves its sessions.
    pub behind: Behind,
    /// Every setting with where it comes from.
    pub settings: Vec<InForce>,
    /// Where it stands in the file, for messages that come up later.
    pub places: Places,
}

/// Where a listener stands in the file.
#[derive(Clone, Debug)]
pub struct Places {
    /// Its table's header.
    pub header: Span,
    /// Its addresses, as many as `bind` has.
    pub bind: Vec<Span>,
}

/// How the clients of a listener are encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Security {
    /// Not at all.
    Clear,
    /// From the first byte.
    Implicit(Policy),
    /// On STARTTLS.
    StartTls {
        /// What is allowed.
        policy: Policy,
        /// Whether anything but STARTTLS and small talk is answered before TLS.
        require: bool,
    },
}

impl Security {
    /// In words.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Clear => "cleartext",
            Self::Implicit(_) => "implicit TLS",
            Self::StartTls { require: true, .. } => "STARTTLS required",
            Self::StartTls { require: false, .. } => "STARTTLS offered",
        }
    }

    /// What is allowed, where there is TLS.
    pub fn policy(&self) -> Option<&Policy> {
        match self {
            Self::Clear => None,
            Self::Implicit(policy) | Self::StartTls { policy, .. } => Some(policy),
        }
    }
}

/// A mail server behind.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// The name the operator gave it.
    pub name: Arc<str>,
    /// Where it listens, tried in order. Never empty.
    pub addresses: Vec<Address>,
    /// How the client is introduced.
    pub forwarding: Forwarding,
    /// The leg behind.
    pub tls: UpstreamTls,
    /// Its table's header.
    pub header: Span,
}

/// TLS on the leg behind.
#[derive(Clone, Debug)]
pub struct UpstreamTls {
    /// Whether and when the leg is encrypted.
    pub mode: LegSecurity,
    /// The name its certificate must bear; the host that is dialled where none is written.
    pub server_name: Option<String>,
    /// Whom to trust.
    pub trust: Trust,
}

impl UpstreamTls {
    /// Every mode by its word.
    pub const MODES: [(&'static str, LegSecurity); 4] = [
        ("none", LegSecurity::None),
        ("starttls", LegSecurity::StartTls),
        ("implicit", LegSecurity::Implicit),
        ("mirror", LegSecurity::Mirror),
    ];

    /// The word for a mode.
    pub fn word(mode: LegSecurity) -> &'static str {
        Self::MODES.iter().find(|(_, known)| *known == mode).map_or("none", |(word, _)| word)
    }
}

/// Whom to trust on the leg behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The system's roots.
    System,
    /// The roots in a PEM text.
    Ca {
        /// The text.
        pem: String,
        /// As it is written in the file, or that it stands there itself.
        written: String,
    },
    /// A key, by the SHA-256 of its SubjectPublicKeyInfo.
    Pin([u8; 32]),
    /// Anyone.
    Any,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least that is logged.
    pub level: Level,
    /// In which form.
    pub format: Format,
}

/// The least that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// What someone must mend.
    Error,
    /// And what someone should look at.
    Warn,
    /// And a line a session.
    Info,
    /// And why things were decided.
    Debug,
    /// And every step.
    Trace,
}

impl Level {
    /// Every level by its word.
    pub const ALL: [(&'static str, Self); 5] = [
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For programs, one object a line.
    Json,
}

impl Format {
    /// Every form by its word.
    pub const ALL: [(&'static str, Self); 2] = [("text", Self::Text), ("json", Self::Json)];
}
