//! dns-01 (RFC 8555 section 8.4): a TXT record, set through a provider and waited for until the zone's own servers
//! show it.

#[cfg(feature = "dns-providers")]
mod cloudflare;
mod exec;
#[cfg(feature = "dns-providers")]
pub(crate) mod hosters;
#[cfg(feature = "dns-providers")]
mod update;

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use waxseal_storage::BoxFuture;

use crate::dns::{Dns, DnsError};
use crate::name::{Name, NameKind};
use crate::settings::{DnsProvider, DnsSettings};

/// A server that gives no answer this often is not waited for any longer.
const MAX_SILENCES: u32 = 2;
/// Waits begin this short and double up to the polling interval.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Why a record cannot be set or seen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Dns01Error {
    #[error(transparent)]
    Dns(#[from] DnsError),
    #[error("{0} is an address, which dns-01 cannot prove")]
    Address(String),
    #[error(
        "the TXT record {record} does not lie in the zone {zone}, which origin names: leave origin out, or name the zone that holds the record"
    )]
    Elsewhere { record: String, zone: String },
    #[error("the TXT record {record} cannot be set: {why}")]
    Set { record: String, why: String },
    #[cfg_attr(not(feature = "dns-providers"), expect(dead_code, reason = "needs providers"))]
    #[error("{0}")]
    Provider(String),
    #[error(
        "the TXT record {record} is set, but after {waited} s it is still not shown by {}; raise propagation-timeout, or see why these servers lag",
        list(.servers)
    )]
    NotSeen { record: String, waited: u64, servers: Vec<String> },
    #[error("this build of waxseal has no DNS providers; take provider = \"exec\"")]
    NoProviders,
}

/// One TXT record of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// The zone it lies in; `None` where that cannot be found out and the provider need not know.
    pub(crate) zone: Option<String>,
    /// Its whole name, aliases followed, without the last dot.
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) ttl: u32,
}

/// Sets and removes records. Both may be called again for the same record.
pub(crate) trait Provider: fmt::Debug + Send + Sync {
    /// Adds the record, beside others of its name: a name and its wildcard share one.
    fn add<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, Result<(), String>>;
    /// Removes this record and no other.
    fn remove<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, Result<(), String>>;
    /// Whether it must be told the zone.
    fn needs_zone(&self) -> bool;
}

fn provider(settings: &DnsProvider) -> Result<Box<dyn Provider>, Dns01Error> {
    match settings {
        DnsProvider::Exec { command, timeout } => Ok(Box::new(exec::Exec::new(command, *timeout))),
        #[cfg(feature = "dns-providers")]
        DnsProvider::Rfc2136Tsig { server, tcp, algorithm, key, secret } => {
            Ok(Box::new(update::Update::rfc2136((*server, *tcp), *algorithm, key, secret)?))
        }
        #[cfg(feature = "dns-providers")]
        DnsProvider::Hoster { hoster, credentials, timeout } => {
            Ok(Box::new(update::Update::hoster(hoster, credentials, *timeout)?))
        }
        #[cfg(not(feature = "dns-providers"))]
        _ => Err(Dns01Error::NoProviders),
    }
}

impl DnsProvider {
    /// Whether records could be set with these settings, as far as that is known without asking anybody.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn check(&self) -> Result<(), String> {
        if let Self::Exec { command, .. } = self
            && let Some(program) = command.first().filter(|program| !exec::is_there(program))
        {
            return Err(format!("there is no program {program} that could be run"));
        }
        provider(self).map(drop).map_err(|error| error.to_string())
    }
}

/// The way to prove names by DNS.
#[derive(Debug)]
pub(crate) struct Dns01 {
    provider: Box<dyn Provider>,
    settings: DnsSettings,
    dns: Arc<Dns>,
}

impl Dns01 {
    pub(crate) fn new(settings: &DnsSettings, dns: Arc<Dns>) -> Result<Self, Dns01Error> {
        Ok(Self { provider: provider(&settings.provider)?, settings: settings.clone(), dns })
    }

    /// The record that proves `name`, where it has to stand.
    pub(crate) async fn record(&self, name: &Name, value: &str) -> Result<Record, Dns01Error> {
        let base = match name.kind() {
            NameKind::Dns(base) | NameKind::Wildcard(base) => base,
            NameKind::Ip(_) => return Err(Dns01Error::Address(name.to_string())),
        };
        let asked = format!("_acme-challenge.{base}");
        let lenient = !self.provider.needs_zone();
        let name = match self.dns.canonical(&asked).await {
            Ok(name) => name,
            // A command may well reach a DNS that we cannot ask.
            Err(error) if lenient => {
                tracing::warn!(%error, "whether {asked} is an alias cannot be found out");
                asked
            }
            Err(error) => return Err(error.into()),
        };
        let zone = match &self.settings.origin {
            Some(origin) => Some(origin.trim_end_matches('.').to_ascii_lowercase()),
            None => match self.dns.zone(&name).await {
                Ok(zone) => Some(zone),
                Err(_) if lenient => None,
                Err(error) => return Err(error.into()),
            },
        };
        // The library takes it for granted.
        if let Some(zone) = zone.as_ref().filter(|zone| !holds(zone, &name)) {
            return Err(Dns01Error::Elsewhere { record: name, zone: zone.clone() });
        }
        let ttl = u32::try_from(self.settings.ttl.as_secs()).unwrap_or(u32::MAX);
        Ok(Record { zone, name, value: value.to_owned(), ttl })
    }

    pub(crate) async fn set(&self, record: &Record) -> Result<(), Dns01Error> {
        let set = self.provider.add(record).await;
        set.map_err(|why| Dns01Error::Set { record: record.name.clone(), why })
    }

    /// A record that stays behind does no harm but in the zone's listing.
    pub(crate) async fn remove(&self, record: &Record) -> Result<(), String> {
        self.provider.remove(record).await
    }

    /// Waits until each of the zone's servers that answers at all shows the record.
    pub(crate) async fn wait_until_seen(&self, record: &Record) -> Result<(), Dns01Error> {
        let servers = match &record.zone {
            Some(zone) => self.dns.servers(zone).await.unwrap_or_default(),
            None => Vec::new(),
        };
        let mut waiting: Vec<Source> = servers.into_iter().map(Source::Server).collect();
        let mut seen = self.poll(record, &mut waiting).await?;
        if !seen {
            // None of them can be asked from here. What everybody else asks must do.
            waiting = vec![Source::Resolver];
            seen = self.poll(record, &mut waiting).await?;
        }
        if !seen {
            tracing::warn!(
                record = record.name,
                "whether the record can be seen cannot be found out, for no name server answers here; the CA is asked anyway"
            );
        }
        Ok(())
    }

    /// Whether at least one source showed the record and none lacked it; sources that stay silent do not count.
    async fn poll(&self, record: &Record, waiting: &mut Vec<Source>) -> Result<bool, Dns01Error> {
        let start = Instant::now();
        let mut silences: HashMap<Source, u32> = HashMap::new();
        let mut seen = false;
        let mut pause = FIRST_PAUSE;
        loop {
            let mut still = Vec::new();
            for source in waiting.drain(..) {
                match self.ask(source, &record.name).await {
                    Ok(texts) if texts.contains(&record.value) => seen = true,
                    Ok(_) => {
                        silences.remove(&source);
                        still.push(source);
                    }
                    Err(error) => {
                        let silences = silences.entry(source).or_default();
                        *silences += 1;
                        if *silences < MAX_SILENCES {
                            still.push(source);
                        } else {
                            tracing::warn!(%error, "{source} is not waited for");
                        }
                    }
                }
            }
            *waiting = still;
            if waiting.is_empty() {
                return Ok(seen);
            }
            if start.elapsed() >= self.settings.propagation_timeout {
                let servers = waiting.iter().map(Source::to_string).collect();
                let waited = start.elapsed().as_secs();
                return Err(Dns01Error::NotSeen { record: record.name.clone(), waited, servers });
            }
            tokio::time::sleep(pause.min(self.settings.polling_interval)).await;
            pause = pause.saturating_mul(2).min(self.settings.polling_interval);
        }
    }

    async fn ask(&self, source: Source, name: &str) -> Result<crate::dns::Texts, DnsError> {
        match source {
            Source::Server(at) => self.dns.texts_at(at, name).await,
            Source::Resolver => self.dns.texts(name).await,
        }
    }
}

/// Whether `name` is `zone` or lies below it.
fn holds(zone: &str, name: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Who is asked whether the record can be seen.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    Server(SocketAddr),
    Resolver,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(at) => write!(f, "{at}"),
            Self::Resolver => f.write_str("the resolver"),
        }
    }
}

fn list(texts: &[String]) -> String {
    texts.join(", ")
}
