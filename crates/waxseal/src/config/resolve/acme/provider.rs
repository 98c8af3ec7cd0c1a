//! dns-01: who sets the records.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use waxseal_acme::{ChallengeKind, DnsProvider, DnsSettings, TsigAlgorithm};

use super::{One, texts};
use crate::config::nearest::Origin;
use crate::config::resolve::choice::choose;
use crate::config::resolve::number::within;

const POLLING_INTERVAL: Duration = Duration::from_secs(15);
const PROPAGATION_TIMEOUT: Duration = Duration::from_secs(60);
const TTL: Duration = Duration::from_secs(300);
const PROVIDER_TIMEOUT: Duration = Duration::from_secs(30);
const DNS_PORT: u16 = 53;

const PROVIDERS: [(&str, Provider); 3] =
    [("rfc2136-tsig", Provider::Rfc2136Tsig), ("cloudflare", Provider::Cloudflare), ("exec", Provider::Exec)];
const PROVIDER_STRANGERS: [(&str, &str); 3] =
    [("rfc2136", "`rfc2136-tsig`"), ("nsupdate", "`rfc2136-tsig`"), ("script", "`exec`, with `command`")];
const TRANSPORTS: [(&str, bool); 2] = [("tcp", true), ("udp", false)];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Provider {
    Rfc2136Tsig,
    Cloudflare,
    Exec,
}

impl One<'_, '_> {
    /// How records are set; `None` where none are.
    pub(super) fn dns(&mut self, challenge: ChallengeKind) -> Result<Option<DnsSettings>, ()> {
        let table = self.table;
        let provider = choose(&table.provider, "provider", &PROVIDERS, &PROVIDER_STRANGERS, self.problems);
        if challenge != ChallengeKind::Dns01 {
            if let Some(word) = &table.provider {
                self.problems
                    .warning(word.key.clone(), format!("this has no effect: `challenge` is {challenge}"))
                    .help("set challenge = \"dns-01\"");
            }
            return Ok(None);
        }
        self.word("provider", &table.provider, None);
        let Some(provider) = provider else {
            if table.provider.is_none() {
                self.missing("provider", "provider", "dns-01 wants one: rfc2136-tsig, cloudflare or exec");
            }
            return Err(());
        };
        let mut duration = |key, written, built_in| self.ledger.only(key, (Origin::Acme, written), built_in);
        let polling_interval = duration("polling-interval", &table.polling_interval, POLLING_INTERVAL);
        let propagation_timeout =
            duration("propagation-timeout", &table.propagation_timeout, PROPAGATION_TIMEOUT);
        let ttl = duration("ttl", &table.ttl, TTL);
        let timeout = duration("timeout", &table.timeout, PROVIDER_TIMEOUT);
        let origin = self.word("origin", &table.origin, None);
        let provider = match provider.value {
            Provider::Rfc2136Tsig => self.rfc2136(),
            Provider::Cloudflare => self.cloudflare(timeout),
            Provider::Exec => self.exec(timeout),
        };
        let polling_interval = polling_interval.max(Duration::from_secs(1));
        Ok(Some(DnsSettings {
            provider: provider.ok_or(())?,
            polling_interval,
            propagation_timeout,
            ttl,
            origin,
        }))
    }

    fn rfc2136(&mut self) -> Option<DnsProvider> {
        let table = self.table;
        self.word("host", &table.host, None);
        self.word("protocol", &table.protocol, Some("tcp"));
        self.word("tsig-algorithm", &table.tsig_algorithm, Some(TsigAlgorithm::HmacSha512.as_str()));
        self.word("key", &table.key, None);
        self.secret("secret", &table.secret);
        let port = within::<u16>(&table.port, "port", 1..=65_535, self.problems);
        let port = self.ledger.only(
            "port",
            (Origin::Acme, &port.map(|port| port.with(u32::from(port.value)))),
            u32::from(DNS_PORT),
        );
        let tcp = choose(&table.protocol, "protocol", &TRANSPORTS, &[], self.problems);
        let algorithms = TsigAlgorithm::ALL.map(|algorithm| (algorithm.as_str(), algorithm));
        let algorithm = choose(&table.tsig_algorithm, "tsig-algorithm", &algorithms, &[], self.problems);
        let wants = [
            ("host", table.host.is_none()),
            ("key", table.key.is_none()),
            ("secret", table.secret.is_none()),
        ];
        for (key, _) in wants.into_iter().filter(|(_, missing)| *missing) {
            self.missing(key, key, "provider rfc2136-tsig wants `host`, `key` and `secret`");
        }
        let host = table.host.as_ref()?;
        let address: Option<IpAddr> = host.value.as_str().trim_matches(['[', ']']).parse().ok();
        if address.is_none() {
            self.problems
                .error(host.span.clone(), format!("`{}` is no IP address", host.value))
                .help("write the address of the primary name server, as in 192.0.2.53");
        }
        let secret = self.decoded(table.secret.as_ref()?, "secret");
        Some(DnsProvider::Rfc2136Tsig {
            server: SocketAddr::new(address?, u16::try_from(port).ok()?),
            tcp: tcp.is_none_or(|tcp| tcp.value),
            algorithm: algorithm.map_or(TsigAlgorithm::HmacSha512, |algorithm| algorithm.value),
            key: table.key.as_ref()?.value.as_str().to_owned(),
            secret: secret?.into(),
        })
    }

    fn cloudflare(&mut self, timeout: Duration) -> Option<DnsProvider> {
        let table = self.table;
        self.secret("secret", &table.secret);
        let email = self.word("email", &table.email, None);
        let Some(secret) = &table.secret else {
            self.missing(
                "secret",
                "secret",
                "provider cloudflare wants an API token with the right to edit DNS",
            );
            return None;
        };
        Some(DnsProvider::Cloudflare { secret: secret.value.as_str().to_owned().into(), email, timeout })
    }

    fn exec(&mut self, timeout: Duration) -> Option<DnsProvider> {
        let shown = self.table.command.as_ref().map(|list| list.with(texts(list)));
        self.ledger.only("command", (Origin::Acme, &shown), Vec::new());
        let Some(list) = self.table.command.as_ref().filter(|list| !list.value.is_empty()) else {
            self.missing("command", "command", "provider exec wants command = [\"/path/to/program\"]");
            return None;
        };
        Some(DnsProvider::Exec { command: texts(list), timeout })
    }
}
