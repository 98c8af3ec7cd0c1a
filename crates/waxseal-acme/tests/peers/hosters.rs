//! dns-01 through the API of a real DNS server, as of any hoster.

use std::time::Duration;

use waxseal_acme::{ChallengeKind, DnsProvider, Fault, Settings, Stage, hosters};

use crate::support::pebble::{Pebble, Wishes};
use crate::support::powerdns::{API_KEY, PowerDns, ZONE};
use crate::support::{Ground, Party, dns_settings, settings};

fn by_api(pebble: &Pebble, endpoint: &str, key: &str) -> Settings {
    let hoster = hosters().find(|hoster| hoster.name == "pdns").expect("a hoster");
    let credentials = [("endpoint", endpoint.to_owned()), ("secret", key.to_owned())];
    let provider = DnsProvider::Hoster {
        hoster,
        credentials: credentials.into_iter().collect(),
        timeout: Duration::from_secs(5),
    };
    provider.check().expect("enough");
    let mut settings = settings(&pebble.directory, Some(&pebble.ca), ChallengeKind::Dns01);
    settings.dns = Some(dns_settings(provider));
    settings
}

#[tokio::test]
async fn a_name_and_its_wildcard_are_proved_through_powerdns_and_its_records_are_removed() {
    let ground = Ground::new();
    let power = PowerDns::start(&ground);
    let pebble = Pebble::start(&ground, &Wishes { dns: Some(power.at), ..Wishes::default() });
    let party = Party::new(by_api(&pebble, &power.endpoint, API_KEY), power.at).await;
    let mail = format!("mail.{ZONE}");
    party.issue(&[&mail, &format!("*.{mail}")]).await.expect("a certificate");
    let left = party.dns.texts(&format!("_acme-challenge.{mail}")).await.expect("an answer");
    assert!(left.is_empty(), "{left:?}");
    let log = power.server.log();
    assert!(log.contains("PATCH") && !log.contains(API_KEY), "{log}");
}

#[tokio::test]
async fn a_wrong_key_and_a_foreign_zone_and_a_dead_api_are_told_in_words_without_the_key() {
    let ground = Ground::new();
    let power = PowerDns::start(&ground);
    let pebble = Pebble::start(&ground, &Wishes { dns: Some(power.at), ..Wishes::default() });
    let nobody = format!("http://{}", ground.at(15358));
    let mail = format!("mail.{ZONE}");
    let cases = [
        (&*power.endpoint, "not-the-key", ZONE, "does not accept what it was told; `secret`, `endpoint`"),
        (&*power.endpoint, API_KEY, "test", "PowerDNS Authoritative does not know the zone test"),
        (&*nobody, API_KEY, ZONE, "PowerDNS Authoritative did not add the record"),
    ];
    for (endpoint, key, origin, words) in cases {
        let mut settings = by_api(&pebble, endpoint, key);
        if let Some(dns) = &mut settings.dns {
            dns.origin = Some(origin.to_owned());
        }
        let party = Party::new(settings, power.at).await;
        let error = party.issue(&[&mail]).await.expect_err(words);
        assert_eq!((error.stage, error.fault), (Stage::Challenge, Fault::Setup), "{error}");
        let said = error.to_string();
        assert!(said.contains(words) && !said.contains(key), "{said}");
    }
    assert!(!pebble.server.log().contains("Pulled a task"), "the CA was not asked to look");
}
