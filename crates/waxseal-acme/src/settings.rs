//! What is wanted, resolved: nothing here means "default".

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::hoster::{Credentials, Hoster};
use crate::name::Name;

/// One `acme.ID`: a CA, how to prove names to it, and the names of one certificate.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Its name in the configuration.
    pub id: Arc<str>,
    /// The CA's directory, an `https` address.
    pub directory: String,
    /// Roots to trust for the CA's own HTTPS, PEM; `None`: the system's.
    pub ca: Option<Vec<u8>>,
    /// Contacts, as `mailto:` addresses.
    pub contact: Vec<String>,
    /// External account binding.
    pub eab: Option<Eab>,
    /// How names are proved.
    pub challenge: ChallengeKind,
    /// The names, the first one first.
    pub names: Vec<Name>,
    /// One certificate for each.
    pub key_types: Vec<KeyType>,
    /// Whether a renewal keeps the key.
    pub reuse_key: bool,
    /// How long before its end a certificate is renewed, where the operator says so.
    pub renew_before: Option<Duration>,
    /// Certificate profile.
    pub profile: Option<String>,
    /// Whether its certificate is for clients that name no host, or one that no certificate has.
    pub default: bool,
    /// Whom to turn to when this one keeps failing; by `id`.
    pub fallback: Option<Arc<str>>,
    /// Whether to check before the CA is asked.
    pub preflight: bool,
    /// Addresses that count as this machine's; empty: those of its interfaces.
    pub public_ip: Vec<IpAddr>,
    /// For dns-01.
    pub dns: Option<DnsSettings>,
}

impl Settings {
    /// The names as texts, for keys of storage.
    pub fn name_texts(&self) -> Vec<String> {
        self.names.iter().map(Name::to_string).collect()
    }
}

/// External account binding (RFC 8555 section 7.3.4).
#[derive(Clone, PartialEq, Eq)]
pub struct Eab {
    /// The key's name, as the CA gave it.
    pub kid: String,
    /// The key itself, decoded.
    pub hmac_key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Eab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Eab").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// How a name is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChallengeKind {
    /// A certificate shown in a handshake on port 443 (RFC 8737).
    TlsAlpn01,
    /// A file fetched over port 80 (RFC 8555 section 8.3).
    Http01,
    /// A TXT record (RFC 8555 section 8.4).
    Dns01,
}

impl ChallengeKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::TlsAlpn01, Self::Http01, Self::Dns01];

    /// Its registered name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Http01 => "http-01",
            Self::Dns01 => "dns-01",
        }
    }
}

impl fmt::Display for ChallengeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What kind of key a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyType {
    /// ECDSA on P-256.
    EcdsaP256,
    /// ECDSA on P-384.
    EcdsaP384,
    /// RSA with 2048 bits.
    Rsa2048,
    /// RSA with 4096 bits.
    Rsa4096,
}

impl KeyType {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::EcdsaP256, Self::EcdsaP384, Self::Rsa2048, Self::Rsa4096];

    /// Its name in configurations and storage.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "ecdsa-p256",
            Self::EcdsaP384 => "ecdsa-p384",
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa4096 => "rsa-4096",
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How TXT records are set.
#[derive(Clone, Debug, PartialEq)]
pub struct DnsSettings {
    /// By whom.
    pub provider: DnsProvider,
    /// How often the servers are asked whether they show the record.
    pub polling_interval: Duration,
    /// How long they may take to.
    pub propagation_timeout: Duration,
    /// Time to live of the record.
    pub ttl: Duration,
    /// The zone that records are set in; `None`: found by its SOA.
    pub origin: Option<String>,
}

/// Who sets records.
#[derive(Clone, PartialEq, Eq)]
pub enum DnsProvider {
    /// A server that takes updates (RFC 2136) signed with a shared key (RFC 8945).
    Rfc2136Tsig {
        /// Where it listens.
        server: std::net::SocketAddr,
        /// Whether to ask over TCP.
        tcp: bool,
        /// The MAC.
        algorithm: TsigAlgorithm,
        /// The key's name.
        key: String,
        /// The key, decoded.
        secret: Zeroizing<Vec<u8>>,
    },
    /// The API of a hoster.
    Hoster {
        /// Whose.
        hoster: &'static Hoster,
        /// What it wants to be told.
        credentials: Credentials,
        /// For each request.
        timeout: Duration,
    },
    /// A command, called with `present` or `cleanup`, the record's name and its content.
    Exec {
        /// The program and its first arguments.
        command: Vec<String>,
        /// How long it may take.
        timeout: Duration,
    },
}

impl fmt::Debug for DnsProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rfc2136Tsig { server, key, .. } => write!(f, "rfc2136-tsig {server} {key}"),
            Self::Hoster { hoster, .. } => f.write_str(hoster.name),
            Self::Exec { command, .. } => write!(f, "exec {command:?}"),
        }
    }
}

/// MACs for TSIG (RFC 8945 section 6) that are still fit for use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TsigAlgorithm {
    /// HMAC with SHA-256.
    HmacSha256,
    /// HMAC with SHA-384.
    HmacSha384,
    /// HMAC with SHA-512.
    HmacSha512,
}

impl TsigAlgorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::HmacSha256, Self::HmacSha384, Self::HmacSha512];

    /// Its name in the DNS.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha384 => "hmac-sha384",
            Self::HmacSha512 => "hmac-sha512",
        }
    }
}
