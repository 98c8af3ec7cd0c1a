//! Questions to DNS: the addresses of a name, who may issue for it, in which zone it lies, and what that zone's
//! own servers say.
//!
//! Nothing is cached: who waits for a record to appear must not be told an hour long that it was not there.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as NetDnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::{Resolver, TokioResolver};

/// How long one server may take for one answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// A chain of aliases longer than this is a loop.
const MAX_ALIASES: usize = 8;
/// Servers of one zone that are asked; more tell nothing new.
const MAX_SERVERS: usize = 16;
const DNS_PORT: u16 = 53;

/// Why DNS gave no answer. That a name or a record does not exist is an answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DnsError {
    /// `/etc/resolv.conf` cannot be read.
    #[error(
        "the system's DNS settings cannot be read ({0}); name servers to ask can be set with server.resolver"
    )]
    System(String),
    /// This cannot stand in DNS.
    #[error("{0:?} is no name that DNS could hold")]
    Name(String),
    /// No server gave an answer.
    #[error("DNS gives no answer about {name} ({question}): {why}")]
    NoAnswer {
        /// The name asked for.
        name: String,
        /// The type of record.
        question: &'static str,
        /// What came instead.
        why: String,
    },
    /// An alias that points to an alias, and so on, further than any real one.
    #[error("the aliases (CNAME) of {0} go round in circles")]
    Circle(String),
    /// Nobody is in charge of the name.
    #[error("no zone holds {0}: none of its parent domains has an SOA record")]
    NoZone(String),
}

/// One record of who may issue (RFC 8659).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caa {
    /// `issue`, `issuewild`, or something else, in lower case.
    pub tag: String,
    /// The issuer with its parameters, as it stands.
    pub value: String,
    /// Whether a CA that does not know the tag must refuse.
    pub critical: bool,
}

/// The records that count for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaaSet {
    /// Where they stand: the name itself or the nearest parent that has any.
    pub domain: String,
    /// At least one.
    pub records: Vec<Caa>,
}

/// What a server of a zone says of a TXT record.
pub(crate) type Texts = BTreeSet<String>;

/// The way to DNS.
#[derive(Clone, Debug)]
pub struct Dns {
    config: ResolverConfig,
    own: Vec<SocketAddr>,
}

impl Dns {
    /// Asks `servers`, or those of the system when there are none.
    ///
    /// # Errors
    ///
    /// [`DnsError::System`] when the system's settings are asked for and cannot be read.
    pub fn new(servers: &[SocketAddr]) -> Result<Self, DnsError> {
        let config = if servers.is_empty() {
            let (config, _) = hickory_resolver::system_conf::read_system_conf()
                .map_err(|e| DnsError::System(e.to_string()))?;
            ResolverConfig::from_name_servers(config.name_servers)
        } else {
            ResolverConfig::from_name_servers(servers.iter().map(|at| name_server(*at)).collect())
        };
        Ok(Self { config, own: servers.to_vec() })
    }

    /// Whether servers of our own choice are asked, and not the system's.
    #[must_use]
    pub fn is_our_own(&self) -> bool {
        !self.own.is_empty()
    }

    /// The IPv4 and IPv6 addresses of `name`; none when it has none or does not exist.
    ///
    /// # Errors
    ///
    /// [`DnsError`].
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, DnsError> {
        let name = absolute(name)?;
        let (v4, v6) = tokio::join!(self.ask(&name, RecordType::A), self.ask(&name, RecordType::AAAA));
        let (mut found, mut failed) = (Vec::new(), None);
        for lookup in [v4, v6] {
            match lookup {
                Ok(lookup) => found.extend(lookup.iter().flat_map(|it| it.answers()).filter_map(address)),
                Err(error) => failed = Some(error),
            }
        }
        // A server that knows nothing of one kind of address may refuse to speak of it; the other kind is an answer.
        match failed {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }

    /// The CAA records that count for `name`: its own, else the nearest parent's (RFC 8659 section 3).
    ///
    /// # Errors
    ///
    /// [`DnsError`]. A CA takes a failure to look up as a refusal.
    pub async fn caa(&self, name: &str) -> Result<Option<CaaSet>, DnsError> {
        let mut at = absolute(name)?;
        while !at.is_root() {
            let lookup = match self.ask(&at, RecordType::CAA).await {
                // A top level domain has no say here; a server in charge of our zone alone refuses to speak of it.
                Err(_) if at.num_labels() == 1 => None,
                lookup => lookup?,
            };
            let records: Vec<Caa> = lookup
                .iter()
                .flat_map(|it| it.answers())
                .filter_map(|record| match &record.data {
                    RData::CAA(caa) => Some(Caa {
                        tag: caa.tag.to_ascii_lowercase(),
                        value: String::from_utf8_lossy(&caa.value).into_owned(),
                        critical: caa.issuer_critical,
                    }),
                    _ => None,
                })
                .collect();
            if !records.is_empty() {
                return Ok(Some(CaaSet { domain: text(&at), records }));
            }
            at = at.base_name();
        }
        Ok(None)
    }

    /// Where `name` points to in the end when it is an alias (CNAME), else itself. An alias that a wildcard makes of
    /// every name (RFC 4592) is none: a record of the name's own takes its place.
    ///
    /// # Errors
    ///
    /// [`DnsError`].
    pub async fn canonical(&self, name: &str) -> Result<String, DnsError> {
        let mut at = absolute(name)?;
        for _ in 0..MAX_ALIASES {
            let Some(target) = self.alias(&at).await? else { return Ok(text(&at)) };
            // No name that anybody would have given.
            let beside = at.base_name().prepend_label("waxseal-looks-for-a-wildcard");
            if let Ok(beside) = beside
                && self.alias(&beside).await? == Some(target.clone())
            {
                return Ok(text(&at));
            }
            at = target;
            at.set_fqdn(true);
        }
        Err(DnsError::Circle(name.to_owned()))
    }

    /// What `name` is an alias for.
    async fn alias(&self, name: &Name) -> Result<Option<Name>, DnsError> {
        let lookup = self.ask(name, RecordType::CNAME).await?;
        Ok(lookup.iter().flat_map(|it| it.answers()).find_map(|record| match &record.data {
            RData::CNAME(target) if record.name == *name => Some(target.0.clone()),
            _ => None,
        }))
    }

    /// The zone that holds `name`: the nearest parent with an SOA record of its own.
    ///
    /// # Errors
    ///
    /// [`DnsError`].
    pub async fn zone(&self, name: &str) -> Result<String, DnsError> {
        let mut at = absolute(name)?;
        while !at.is_root() {
            let lookup = self.ask(&at, RecordType::SOA).await?;
            let own = |lookup: &Lookup| {
                lookup.answers().iter().any(|it| it.record_type() == RecordType::SOA && it.name == at)
            };
            if lookup.as_ref().is_some_and(own) {
                return Ok(text(&at));
            }
            at = at.base_name();
        }
        Err(DnsError::NoZone(name.to_owned()))
    }

    /// The servers of `zone`, by its NS records; and of the servers set with `server.resolver` those that are in
    /// charge of it themselves (a hidden primary, a server on a port of its own).
    ///
    /// # Errors
    ///
    /// [`DnsError`].
    pub(crate) async fn servers(&self, zone: &str) -> Result<Vec<SocketAddr>, DnsError> {
        let zone = absolute(zone)?;
        let mut servers = BTreeSet::new();
        let lookup = self.ask(&zone, RecordType::NS).await?;
        for record in lookup.iter().flat_map(|it| it.answers()) {
            if let RData::NS(name) = &record.data {
                // A server whose own name does not resolve is the zone's fault, and no reason to stop.
                let addresses = self.addresses(&text(&name.0)).await.unwrap_or_default();
                servers.extend(addresses.into_iter().map(|ip| SocketAddr::new(ip, DNS_PORT)));
            }
        }
        for own in &self.own {
            let soa = lookup_at(*own, &zone, RecordType::SOA).await;
            if soa.ok().flatten().is_some_and(|it| it.message().metadata.authoritative) {
                servers.insert(*own);
            }
        }
        Ok(servers.into_iter().take(MAX_SERVERS).collect())
    }

    /// The TXT records of `name`, as the servers that are always asked see them.
    ///
    /// # Errors
    ///
    /// [`DnsError`].
    pub async fn texts(&self, name: &str) -> Result<BTreeSet<String>, DnsError> {
        let lookup = self.ask(&absolute(name)?, RecordType::TXT).await?;
        Ok(texts(lookup.as_ref()))
    }

    /// The TXT records of `name`, as the server at `server` sees them.
    pub(crate) async fn texts_at(&self, server: SocketAddr, name: &str) -> Result<Texts, DnsError> {
        let lookup = lookup_at(server, &absolute(name)?, RecordType::TXT).await?;
        Ok(texts(lookup.as_ref()))
    }

    async fn ask(&self, name: &Name, kind: RecordType) -> Result<Option<Lookup>, DnsError> {
        let asked = ask(&resolver(self.config.clone(), true), name, kind).await;
        asked.map_err(|error| match error {
            DnsError::NoAnswer { name, question, why } => {
                let servers: Vec<String> =
                    self.config.name_servers().iter().map(|it| it.ip.to_string()).collect();
                let set = if self.is_our_own() { "server.resolver" } else { "/etc/resolv.conf" };
                let why = format!("{why}. Asked: {}, as {set} says", servers.join(", "));
                DnsError::NoAnswer { name, question, why }
            }
            other => other,
        })
    }
}

async fn lookup_at(server: SocketAddr, name: &Name, kind: RecordType) -> Result<Option<Lookup>, DnsError> {
    let config = ResolverConfig::from_name_servers(vec![name_server(server)]);
    ask(&resolver(config, false), name, kind).await
}

/// `None`: the name does not exist, or has no such record.
async fn ask(
    resolver: &Result<TokioResolver, NetError>,
    name: &Name,
    kind: RecordType,
) -> Result<Option<Lookup>, DnsError> {
    let failed = |why: String| DnsError::NoAnswer { name: text(name), question: <&str>::from(kind), why };
    let resolver = resolver.as_ref().map_err(|e| failed(e.to_string()))?;
    match resolver.lookup(name.clone(), kind).await {
        Ok(lookup) => Ok(Some(lookup)),
        // A server that fails has no records either; only these two codes say that there are none.
        Err(NetError::Dns(NetDnsError::NoRecordsFound(none)))
            if matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError) =>
        {
            Ok(None)
        }
        Err(NetError::Dns(NetDnsError::NoRecordsFound(none))) => Err(failed(none.response_code.to_string())),
        Err(e) => Err(failed(e.to_string())),
    }
}

fn resolver(config: ResolverConfig, recursive: bool) -> Result<TokioResolver, NetError> {
    let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options: &mut ResolverOpts = builder.options_mut();
    options.timeout = PATIENCE;
    options.attempts = 2;
    options.cache_size = 0;
    options.recursion_desired = recursive;
    // What the CA sees is asked for, and it does not read our /etc/hosts.
    options.use_hosts_file = ResolveHosts::Never;
    builder.build()
}

fn name_server(at: SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(at.ip());
    for connection in &mut server.connections {
        connection.port = at.port();
    }
    server
}

fn address(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    }
}

fn texts(lookup: Option<&Lookup>) -> Texts {
    let records = lookup.into_iter().flat_map(|it| it.answers());
    let texts = records.filter_map(|record| match &record.data {
        RData::TXT(txt) => Some(txt.txt_data.iter().map(|part| String::from_utf8_lossy(part)).collect()),
        _ => None,
    });
    texts.collect()
}

fn absolute(name: &str) -> Result<Name, DnsError> {
    let mut name = Name::from_ascii(name).map_err(|_| DnsError::Name(name.to_owned()))?;
    name.set_fqdn(true);
    Ok(name)
}

/// Without the dot at the end, in lower case.
fn text(name: &Name) -> String {
    let text = name.to_ascii();
    text.strip_suffix('.').unwrap_or(&text).to_ascii_lowercase()
}
