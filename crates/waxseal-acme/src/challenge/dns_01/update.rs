//! Records set through RFC 2136 or a DNS hoster's API, by way of the `dns-update` crate.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use dns_update::providers::rfc2136::DnsAddress;
use dns_update::{DnsRecord, DnsRecordType, DnsUpdater, Error};
use tokio::net::TcpStream;
use waxseal_storage::BoxFuture;

use super::cloudflare::GlobalKey;
use super::{Dns01Error, Provider, Record, hosters};
use crate::hoster::{Credentials, Hoster};
use crate::settings::TsigAlgorithm;

/// How long a name server may take to accept a connection, and then an update.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests that a change takes at a hoster: one to find the zone, one to list what is there, one to change it, and
/// one to log in.
const REQUESTS: u32 = 4;

/// A provider of the library.
pub(super) struct Update {
    way: Way,
    /// For words: who it is.
    who: String,
    /// For words: what to look at when it refuses.
    hint: String,
    patience: Duration,
}

/// How changes are made.
enum Way {
    /// Over RFC 2136; with where TCP can be tried first.
    Updates(DnsUpdater, Option<SocketAddr>),
    /// Over a hoster's API.
    Api(DnsUpdater, &'static Hoster, Credentials),
    /// Over Cloudflare's, with the old kind of key.
    GlobalKey(GlobalKey),
}

impl fmt::Debug for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Update").field("who", &self.who).finish_non_exhaustive()
    }
}

impl Update {
    /// A name server, over TCP or UDP.
    pub(super) fn rfc2136(
        (server, tcp): (SocketAddr, bool),
        algorithm: TsigAlgorithm,
        key: &str,
        secret: &[u8],
    ) -> Result<Self, Dns01Error> {
        let address = if tcp { DnsAddress::Tcp(server) } else { DnsAddress::Udp(server) };
        let algorithm = match algorithm {
            TsigAlgorithm::HmacSha256 => dns_update::TsigAlgorithm::HmacSha256,
            TsigAlgorithm::HmacSha384 => dns_update::TsigAlgorithm::HmacSha384,
            TsigAlgorithm::HmacSha512 => dns_update::TsigAlgorithm::HmacSha512,
        };
        let updater = DnsUpdater::new_rfc2136_tsig(address, key, secret.to_vec(), algorithm);
        let updater = updater.map_err(|error| Dns01Error::Provider(error.to_string()))?;
        Ok(Self {
            way: Way::Updates(updater, tcp.then_some(server)),
            who: format!("the name server {server}"),
            hint: "key, secret and tsig-algorithm must be those of the server, which must let this key update the zone"
                .to_owned(),
            patience: PATIENCE,
        })
    }

    /// A hoster, each of whose answers may take `timeout`.
    pub(super) fn hoster(
        hoster: &'static Hoster,
        credentials: &Credentials,
        timeout: Duration,
    ) -> Result<Self, Dns01Error> {
        let missing = hoster.wants.iter().find(|want| !want.optional && credentials.may(want.key).is_none());
        if let Some(want) = missing {
            return Err(Dns01Error::Provider(format!("`{}` is missing", want.key)));
        }
        let way = match (hoster.name, credentials.may("email")) {
            ("cloudflare", Some(email)) => {
                Way::GlobalKey(GlobalKey::new(email, credentials.get("secret"), timeout))
            }
            _ => {
                let row = hosters::ROWS.iter().find(|row| row.hoster == *hoster);
                let row = row.ok_or(Dns01Error::NoProviders)?;
                let updater = (row.make)(credentials, timeout).map_err(|error| {
                    Dns01Error::Provider(hoster.redacted(credentials, &error.to_string()))
                })?;
                Way::Api(updater, hoster, credentials.clone())
            }
        };
        let keys: Vec<_> = hoster.wants.iter().filter(|want| credentials.may(want.key).is_some()).collect();
        let keys = keys.iter().map(|want| format!("`{}`", want.key)).collect::<Vec<_>>().join(", ");
        Ok(Self {
            way,
            who: hoster.title.to_owned(),
            hint: format!("{keys} must be right, and may edit the DNS of this zone"),
            patience: timeout.saturating_mul(REQUESTS),
        })
    }

    async fn change(&self, action: Action, record: &Record) -> Result<(), String> {
        let zone = record.zone.as_deref().ok_or("its zone is not known; set origin")?;
        if let Way::Updates(_, Some(at)) = &self.way {
            match tokio::time::timeout(self.patience, TcpStream::connect(at)).await {
                Ok(Ok(_)) => {}
                Ok(Err(e)) => return Err(format!("{} cannot be reached: {e}", self.who)),
                Err(_) => return Err(format!("{} cannot be reached: no answer", self.who)),
            }
        }
        match tokio::time::timeout(self.patience, self.try_to(action, record, zone)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.told(action, &error, record)),
            Err(_) => Err(format!("{} gives no answer within {} s", self.who, self.patience.as_secs())),
        }
    }

    async fn try_to(&self, action: Action, record: &Record, zone: &str) -> Result<(), Error> {
        const TXT: DnsRecordType = DnsRecordType::TXT;
        let (name, ttl) = (record.name.as_str(), record.ttl);
        let texts = vec![DnsRecord::TXT(record.value.clone())];
        match (&self.way, action) {
            (Way::Api(updater, Hoster { one_record: true, .. }, _), Action::Add) => {
                updater.set_rrset(name, TXT, ttl, texts, zone).await
            }
            (Way::Api(updater, Hoster { one_record: true, .. }, _), Action::Remove) => {
                updater.set_rrset(name, TXT, ttl, Vec::new(), zone).await
            }
            (Way::Updates(updater, _) | Way::Api(updater, ..), Action::Add) => {
                updater.add_to_rrset(name, TXT, ttl, texts, zone).await
            }
            (Way::Updates(updater, _) | Way::Api(updater, ..), Action::Remove) => {
                updater.remove_from_rrset(name, TXT, texts, zone).await
            }
            (Way::GlobalKey(account), Action::Add) => account.add(record, zone).await,
            (Way::GlobalKey(account), Action::Remove) => account.remove(record, zone).await,
        }
    }

    fn told(&self, action: Action, error: &Error, record: &Record) -> String {
        let Self { who, hint, .. } = self;
        let zone = record.zone.as_deref().unwrap_or_default();
        let refuses =
            |why: &str| format!("{who} refuses to {action} the record in the zone {zone}{why}; {hint}");
        // It may be the way there as well.
        let failed = |why: &str| format!("{who} did not {action} the record ({}); {hint}", printable(why));
        match (error, &self.way) {
            // The library's words for a failed signature mislead, so that only codes of the server are repeated.
            (Error::Response(code) | Error::Api(code), Way::Updates(..)) => refuses(&format!(" ({code})")),
            (_, Way::Updates(..)) => refuses(""),
            (Error::Unauthorized, _) => format!("{who} does not accept what it was told; {hint}"),
            (Error::NotFound, _) => {
                format!("{who} does not know the zone {zone}, or not for us; {hint}, or set origin")
            }
            (_, Way::Api(_, hoster, credentials)) => {
                failed(&hoster.redacted(credentials, &error.to_string()))
            }
            // It stands in headers alone, which no error repeats.
            (_, Way::GlobalKey(_)) => failed(&error.to_string()),
        }
    }
}

/// What is done to a record.
#[derive(Clone, Copy)]
enum Action {
    Add,
    Remove,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "add",
            Self::Remove => "remove",
        })
    }
}

/// A hoster's text for a log line: one line.
fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

impl Provider for Update {
    fn add<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(self.change(Action::Add, record))
    }

    fn remove<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(self.change(Action::Remove, record))
    }

    fn needs_zone(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hoster::hosters;

    fn update(name: &str, credentials: &[(&'static str, &str)]) -> Result<Update, Dns01Error> {
        let hoster = hosters().find(|hoster| hoster.name == name).expect("a hoster");
        let credentials: Credentials =
            credentials.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        Update::hoster(hoster, &credentials, Duration::from_secs(1))
    }

    #[test]
    fn names_are_sorted_and_each_wants_something_secret() {
        let names: Vec<_> = hosters().map(|hoster| hoster.name).collect();
        assert!(names.is_sorted_by(|one, next| one < next), "{names:?}");
        for hoster in hosters() {
            assert!(hoster.wants.iter().any(|want| want.is_secret()), "{hoster:?}");
        }
    }

    #[test]
    fn what_is_missing_or_makes_no_sense_is_told_before_anybody_is_asked() {
        let told = |name, credentials: &[_]| update(name, credentials).expect_err("wrong").to_string();
        assert!(told("ovh", &[("key", "k"), ("secret", "s")]).contains("`consumer-key` is missing"));
        let ovh = [("key", "k"), ("secret", "s"), ("consumer-key", "c"), ("endpoint", "ovh-moon")];
        assert!(told("ovh", &ovh).contains("ovh-moon"));
        assert!(told("cloudns", &[("secret", "s")]).contains("auth"));
        assert!(told("autodns", &[("user", "u"), ("secret", "s"), ("account", "four")]).contains("a number"));
    }

    #[tokio::test]
    async fn a_record_in_no_known_zone_is_not_set() {
        let update = update("cloudflare", &[("secret", "token")]).expect("a provider");
        let record = Record { zone: None, name: "x".into(), value: "y".into(), ttl: 60 };
        assert!(update.add(&record).await.expect_err("no zone").contains("set origin"));
    }

    #[test]
    fn a_hoster_that_takes_its_key_in_the_address_does_not_bring_it_into_a_log() {
        let update = update("namesilo", &[("secret", "s3cr&t")]).expect("a provider");
        let record = Record { zone: Some("x.example".into()), name: "a".into(), value: "y".into(), ttl: 60 };
        let error = Error::Api("Failed to send request to https://h/api?key=s3cr%26t: s3cr&t\n".into());
        let said = update.told(Action::Add, &error, &record);
        assert!(said.contains("key=(secret): (secret) ") && !said.contains("s3cr"), "{said}");
    }
}
