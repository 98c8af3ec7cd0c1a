//! dns-01: who sets the records.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use waxseal_acme::{
    ChallengeKind, DnsProvider, DnsSettings, Hoster, Name, NameKind, TsigAlgorithm, Want, hosters,
};

use super::{One, texts};
use crate::config::nearest::Origin;
use crate::config::reader::Located;
use crate::config::resolve::choice::choose;
use crate::config::resolve::number::{lasting, within};
use crate::config::source::Span;
use crate::config::values::Word;

const POLLING_INTERVAL: Duration = Duration::from_secs(15);
const PROPAGATION_TIMEOUT: Duration = Duration::from_secs(60);
const TTL: Duration = Duration::from_secs(300);
const PROVIDER_TIMEOUT: Duration = Duration::from_secs(30);
const DNS_PORT: u16 = 53;
/// What times are good for: an order is given up after hours, and a record is not kept for longer.
const TIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// What other programs call them.
const PROVIDER_STRANGERS: [(&str, &str); 13] = [
    ("rfc2136", "`rfc2136-tsig`"),
    ("nsupdate", "`rfc2136-tsig`"),
    ("script", "`exec`, with `command`"),
    ("akamai", "`edgedns`"),
    ("aws", "`route53`"),
    ("azure", "`azuredns`"),
    ("gandi", "`gandiv5`"),
    ("gcloud", "`google-cloud-dns`"),
    ("googledomains", "`google-cloud-dns`"),
    ("he", "`hurricane`"),
    ("oci", "`oraclecloud`"),
    ("powerdns", "`pdns`"),
    ("dnspod", "`tencentcloud`"),
];
const TRANSPORTS: [(&str, bool); 2] = [("tcp", true), ("udp", false)];
/// What only one provider takes, beside what hosters want.
const TSIG: [&str; 6] = ["host", "port", "protocol", "tsig-algorithm", "key", "secret"];
const EXEC: [&str; 1] = ["command"];

#[derive(Clone, Copy)]
enum Provider {
    Rfc2136Tsig,
    Hoster(&'static Hoster),
    Exec,
}

impl Provider {
    fn all() -> Vec<(&'static str, Self)> {
        let mut all = vec![("rfc2136-tsig", Self::Rfc2136Tsig), ("exec", Self::Exec)];
        all.extend(hosters().map(|hoster| (hoster.name, Self::Hoster(hoster))));
        all
    }

    fn takes(self, key: &str) -> bool {
        match self {
            Self::Rfc2136Tsig => TSIG.contains(&key),
            Self::Exec => EXEC.contains(&key),
            Self::Hoster(hoster) => hoster.wants.iter().any(|want| want.key == key),
        }
    }
}

impl One<'_, '_> {
    /// How records are set; `None` where none are.
    pub(super) fn dns(
        &mut self,
        challenge: ChallengeKind,
        names: Option<&[Name]>,
    ) -> Result<Option<DnsSettings>, ()> {
        let table = self.table;
        let provider =
            choose(&table.provider, "provider", &Provider::all(), &PROVIDER_STRANGERS, self.problems);
        if challenge != ChallengeKind::Dns01 {
            self.unused(challenge);
            return Ok(None);
        }
        self.word("provider", &table.provider, None);
        let Some(provider) = provider else {
            if table.provider.is_none() {
                let help = "dns-01 wants one: rfc2136-tsig, exec, or a DNS hoster such as cloudflare";
                self.missing("provider", "provider", help);
            }
            return Err(());
        };
        let mut duration = |key, written, built_in| {
            lasting(written, key, TIMES, self.problems);
            self.ledger.only(key, (Origin::Acme, written), built_in)
        };
        let polling_interval = duration("polling-interval", &table.polling_interval, POLLING_INTERVAL);
        let propagation_timeout =
            duration("propagation-timeout", &table.propagation_timeout, PROPAGATION_TIMEOUT);
        let ttl = duration("ttl", &table.ttl, TTL);
        let timeout = duration("timeout", &table.timeout, PROVIDER_TIMEOUT);
        let origin = self.word("origin", &table.origin, None);
        let origin = self.origin(origin, names)?;
        self.strays(&provider);
        let decided = match provider.value {
            Provider::Rfc2136Tsig => self.rfc2136(),
            Provider::Hoster(hoster) => self.hoster(&provider.with(hoster), names, timeout),
            Provider::Exec => self.exec(timeout),
        };
        let decided = decided.ok_or(())?;
        if let Err(why) = decided.check() {
            let word = table.provider.as_ref().map_or("", |word| word.value.as_str());
            self.problems.error(provider.span, format!("provider `{word}` cannot be used: {why}"));
            return Err(());
        }
        Ok(Some(DnsSettings { provider: decided, polling_interval, propagation_timeout, ttl, origin }))
    }

    /// The zone that records are set in.
    fn origin(&mut self, origin: Option<String>, names: Option<&[Name]>) -> Result<Option<String>, ()> {
        let Some(origin) = origin else { return Ok(None) };
        let span = self.table.origin.as_ref().map(|word| word.span.clone());
        let Some(zone) = as_zone(&origin) else {
            self.problems
                .error(span, format!("`{origin}` is no zone"))
                .help("leave it out, and the zone is found by its SOA record; or write it as in example.org");
            return Err(());
        };
        let strays = names.unwrap_or_default().iter().find(|name| {
            let record = format!("_acme-challenge.{}", name.to_string().trim_start_matches("*."));
            record != zone && !record.strip_suffix(&zone).is_some_and(|rest| rest.ends_with('.'))
        });
        if let Some(stray) = strays {
            let title = format!("{stray} does not lie in the zone {zone}");
            self.problems.warning(span, title).help(
                "nothing is wrong if its _acme-challenge is an alias (CNAME) that leads there; else leave `origin` out",
            );
        }
        Ok(Some(zone))
    }

    /// Warns of all that is for dns-01 alone.
    fn unused(&mut self, challenge: ChallengeKind) {
        let table = self.table;
        let duration = |key, written: &Option<Located<Duration>>| Some((key, written.as_ref()?.key.clone()));
        let word = |key, written: &Option<Located<Word>>| Some((key, written.as_ref()?.key.clone()));
        let own = [
            word("provider", &table.provider),
            word("origin", &table.origin),
            duration("polling-interval", &table.polling_interval),
            duration("propagation-timeout", &table.propagation_timeout),
            duration("ttl", &table.ttl),
            duration("timeout", &table.timeout),
        ];
        let written = own.into_iter().flatten().chain(self.of_providers());
        for (key, span) in written.collect::<Vec<_>>() {
            let help = match key {
                "server" => "the address of the CA is `directory`; for dns-01 set challenge = \"dns-01\"",
                "email" => "the address for the CA is `contact`; for dns-01 set challenge = \"dns-01\"",
                _ => "remove it, or set challenge = \"dns-01\"",
            };
            self.problems
                .warning(
                    span,
                    format!("this has no effect: `challenge` is {challenge}, and `{key}` is for dns-01"),
                )
                .help(help);
        }
    }

    /// Warns of what some providers take, but not this one.
    fn strays(&mut self, provider: &Located<Provider>) {
        let name = self.table.provider.as_ref().map_or("", |word| word.value.as_str());
        for (key, span) in self.of_providers() {
            if !provider.value.takes(key) {
                let title = format!("this has no effect: provider {name} takes no `{key}`");
                self.problems.warning(span, title).help("remove it, or see whether another key was meant");
            }
        }
    }

    /// What is written of that which providers take, and where.
    fn of_providers(&self) -> Vec<(&'static str, Span)> {
        let table = self.table;
        let wanted = hosters().flat_map(|hoster| hoster.wants).map(|want| want.key);
        let keys: BTreeSet<&'static str> = wanted.chain(TSIG).chain(EXEC).collect();
        let word = |word: &Option<Located<Word>>| word.as_ref().map(|word| word.key.clone());
        let span = |key| match key {
            "host" => word(&table.host),
            "protocol" => word(&table.protocol),
            "tsig-algorithm" => word(&table.tsig_algorithm),
            "port" => table.port.as_ref().map(|port| port.key.clone()),
            "command" => table.command.as_ref().map(|command| command.key.clone()),
            _ => word(table.credential(key)),
        };
        keys.into_iter().filter_map(|key| Some((key, span(key)?))).collect()
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

    fn hoster(
        &mut self,
        hoster: &Located<&'static Hoster>,
        names: Option<&[Name]>,
        timeout: Duration,
    ) -> Option<DnsProvider> {
        let table = self.table;
        let span = hoster.span.clone();
        let hoster = hoster.value;
        let mut credentials = Some(Vec::new());
        for want in hoster.wants {
            let written = table.credential(want.key);
            if want.is_secret() {
                self.secret(want.key, written);
            } else {
                self.word(want.key, written, None);
            }
            match written.as_ref().map(|word| word.value.as_str().trim()) {
                Some("") => {
                    let span = written.as_ref().map(|word| word.span.clone());
                    self.problems.error(span, format!("`{}` is empty", want.key)).help(wanted(hoster));
                    credentials = None;
                }
                Some(_)
                    if want.is_secret()
                        && written.as_ref().is_some_and(|word| self.is_a_path(word, want.key)) =>
                {
                    credentials = None;
                }
                Some(value) => {
                    if let Some(credentials) = &mut credentials {
                        credentials.push((want.key, value.to_owned()));
                    }
                }
                None if want.optional => {}
                None => {
                    self.missing(want.key, &want.key.replace('-', "_"), &wanted(hoster));
                    credentials = None;
                }
            }
        }
        let both = names.filter(|_| hoster.one_record).and_then(with_its_wildcard);
        if let Some(name) = both {
            let title = format!("{} keeps one TXT record for a name, and {name} wants two", hoster.title);
            self.problems.error(span, title).help(format!(
                "{name} and *.{name} are proved by the same record: leave one of them to another [acme.NAME]"
            ));
            return None;
        }
        Some(DnsProvider::Hoster { hoster, credentials: credentials?.into_iter().collect(), timeout })
    }

    fn exec(&mut self, timeout: Duration) -> Option<DnsProvider> {
        let shown = self.table.command.as_ref().map(|list| list.with(texts(&list.value.0)));
        self.ledger.only("command", (Origin::Acme, &shown), Vec::new());
        let Some(list) = self.table.command.as_ref().filter(|list| !list.value.0.is_empty()) else {
            self.missing("command", "command", "provider exec wants command = [\"/path/to/program\"]");
            return None;
        };
        Some(DnsProvider::Exec { command: texts(&list.value.0), timeout })
    }
}

/// All that a hoster wants, in words.
fn wanted(hoster: &Hoster) -> String {
    let each = |want: &Want| {
        let may = if want.optional { ", if wanted" } else { "" };
        format!("`{}` ({}{may})", want.key, want.what)
    };
    let all: Vec<_> = hoster.wants.iter().map(each).collect();
    format!("provider {} wants {}", hoster.name, all.join(", "))
}

/// A name of which the wildcard below it is wanted too.
fn with_its_wildcard(names: &[Name]) -> Option<&str> {
    names.iter().filter(|name| name.is_wildcard()).find_map(|wildcard| {
        let NameKind::Wildcard(base) = wildcard.kind() else { return None };
        names.iter().any(|name| name.kind() == NameKind::Dns(base)).then_some(base)
    })
}

/// A zone as names are compared: in A-labels. Zones may begin where challenges stand, with an underscore.
fn as_zone(text: &str) -> Option<String> {
    let (marked, host) = match text.split_once('.') {
        Some((label, host)) if label.starts_with('_') => (Some(label), host),
        _ => (None, text),
    };
    let plain =
        |label: &&str| label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let host = Name::parse(host).ok().filter(|host| matches!(host.kind(), NameKind::Dns(_)))?;
    match marked {
        Some(label) => {
            Some(label).filter(plain).map(|label| format!("{}.{host}", label.to_ascii_lowercase()))
        }
        None => Some(host.to_string()),
    }
}
