//! Records set through RFC 2136 or a DNS hoster's API, by way of the `dns-update` crate.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use dns_update::providers::rfc2136::DnsAddress;
use dns_update::{DnsRecord, DnsRecordType, DnsUpdater, Error};
use tokio::net::TcpStream;
use waxseal_storage::BoxFuture;

use super::{Dns01Error, Provider, Record};
use crate::settings::{DnsProvider, TsigAlgorithm};

/// How long a name server may take to accept a connection, and then an update.
const PATIENCE: Duration = Duration::from_secs(10);

/// A provider of the library.
pub(super) struct Update {
    updater: DnsUpdater,
    /// For words: who it is, and where it listens if that can be tried.
    who: String,
    tcp: Option<SocketAddr>,
    is_api: bool,
    hint: &'static str,
    patience: Duration,
}

impl fmt::Debug for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Update").field("who", &self.who).finish_non_exhaustive()
    }
}

impl Update {
    pub(super) fn new(provider: &DnsProvider) -> Result<Self, Dns01Error> {
        let wrong = |e: Error| Dns01Error::Set { record: "of any name".to_owned(), why: e.to_string() };
        match provider {
            DnsProvider::Rfc2136Tsig { server, tcp, algorithm, key, secret } => {
                let address = if *tcp { DnsAddress::Tcp(*server) } else { DnsAddress::Udp(*server) };
                let algorithm = match algorithm {
                    TsigAlgorithm::HmacSha256 => dns_update::TsigAlgorithm::HmacSha256,
                    TsigAlgorithm::HmacSha384 => dns_update::TsigAlgorithm::HmacSha384,
                    TsigAlgorithm::HmacSha512 => dns_update::TsigAlgorithm::HmacSha512,
                };
                let updater = DnsUpdater::new_rfc2136_tsig(address, key, secret.to_vec(), algorithm);
                Ok(Self {
                    updater: updater.map_err(wrong)?,
                    who: format!("the name server {server}"),
                    tcp: tcp.then_some(*server),
                    is_api: false,
                    hint: "key, secret and tsig-algorithm must be those of the server, which must let this key update the zone",
                    patience: PATIENCE,
                })
            }
            DnsProvider::Cloudflare { secret, email, timeout } => {
                if email.is_some() {
                    let why = "Cloudflare's global keys are not supported; make an API token with Zone.DNS edit rights, set it as secret, and remove email";
                    return Err(Dns01Error::Set { record: "of any name".to_owned(), why: why.to_owned() });
                }
                Ok(Self {
                    updater: DnsUpdater::new_cloudflare(secret.as_str(), Some(*timeout)).map_err(wrong)?,
                    who: "Cloudflare".to_owned(),
                    tcp: None,
                    is_api: true,
                    hint: "secret must be an API token that may edit the DNS of this zone",
                    patience: timeout.saturating_mul(3),
                })
            }
            DnsProvider::Exec { .. } => {
                let why = "a command is no provider of the library".to_owned();
                Err(Dns01Error::Set { record: "of any name".to_owned(), why })
            }
        }
    }

    /// The library's words for a failed signature mislead, so that only codes of the server are repeated.
    async fn told(&self, action: &str, done: impl Future<Output = Result<(), Error>>) -> Result<(), String> {
        if let Some(at) = self.tcp {
            match tokio::time::timeout(self.patience, TcpStream::connect(at)).await {
                Ok(Ok(_)) => {}
                Ok(Err(e)) => return Err(format!("{} cannot be reached: {e}", self.who)),
                Err(_) => return Err(format!("{} cannot be reached: no answer", self.who)),
            }
        }
        let refused = |why: &str| format!("{} refuses to {action} the record{why}; {}", self.who, self.hint);
        match tokio::time::timeout(self.patience, done).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Error::Response(code) | Error::Api(code))) => Err(refused(&format!(" ({code})"))),
            Ok(Err(Error::Client(why))) if self.is_api => Err(format!("{} cannot be asked: {why}", self.who)),
            Ok(Err(_)) => Err(refused("")),
            Err(_) => Err(format!("{} gives no answer within {} s", self.who, self.patience.as_secs())),
        }
    }
}

impl Provider for Update {
    fn add<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let zone = record.zone.as_deref().ok_or("its zone is not known; set origin")?;
            let texts = vec![DnsRecord::TXT(record.value.clone())];
            let name = record.name.as_str();
            let done = self.updater.add_to_rrset(name, DnsRecordType::TXT, record.ttl, texts, zone);
            self.told("add", done).await
        })
    }

    fn remove<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let zone = record.zone.as_deref().ok_or("its zone is not known; set origin")?;
            let texts = vec![DnsRecord::TXT(record.value.clone())];
            let done = self.updater.remove_from_rrset(record.name.as_str(), DnsRecordType::TXT, texts, zone);
            self.told("remove", done).await
        })
    }

    fn needs_zone(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    fn cloudflare(email: Option<&str>) -> DnsProvider {
        DnsProvider::Cloudflare {
            secret: Zeroizing::new("token".to_owned()),
            email: email.map(str::to_owned),
            timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn cloudflare_takes_a_token_and_the_old_kind_of_key_is_told() {
        assert!(Update::new(&cloudflare(None)).is_ok());
        let said = Update::new(&cloudflare(Some("a@example.org"))).expect_err("an old key").to_string();
        assert!(said.contains("make an API token"), "{said}");
    }

    #[tokio::test]
    async fn a_record_in_no_known_zone_is_not_set() {
        let update = Update::new(&cloudflare(None)).expect("a provider");
        let record = Record { zone: None, name: "x".into(), value: "y".into(), ttl: 60 };
        assert!(update.add(&record).await.expect_err("no zone").contains("set origin"));
    }
}
