//! dns-01 with a real name server, a real CA, and commands.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use waxseal_acme::{
    ChallengeKind, Dns, DnsProvider, Fault, Issuer, KeyType, Progress, Settings, Stage, TsigAlgorithm,
};
use zeroize::Zeroizing;

use crate::support::knot::{KEY, Knot, SECRET};
use crate::support::pebble::{Pebble, Wishes};
use crate::support::{Ground, Party, dns_settings, eventually, settings};

fn tsig(server: SocketAddr, secret: &[u8]) -> DnsProvider {
    DnsProvider::Rfc2136Tsig {
        server,
        tcp: true,
        algorithm: TsigAlgorithm::HmacSha256,
        key: KEY.to_owned(),
        secret: Zeroizing::new(secret.to_vec()),
    }
}

fn by_dns(pebble: &Pebble, provider: DnsProvider) -> Settings {
    let mut settings = settings(&pebble.directory, Some(&pebble.ca), ChallengeKind::Dns01);
    settings.dns = Some(dns_settings(provider));
    settings
}

async fn texts(at: SocketAddr, name: &str) -> BTreeSet<String> {
    Dns::new(&[at]).expect("a resolver").texts(name).await.expect("an answer")
}

#[tokio::test]
async fn a_wildcard_and_its_base_and_an_alias_are_proved_once_the_slowest_server_shows_the_records() {
    let ground = Ground::new();
    let knot = Knot::start(&ground);
    // The CA asks the server that lags behind: without waiting for it nothing would be proved.
    let pebble = Pebble::start(&ground, &Wishes { dns: Some(knot.laggard), ..Wishes::default() });
    let party = Party::new(by_dns(&pebble, tsig(knot.at, SECRET)), knot.at).await;
    let names = ["mail.waxseal.test", "*.mail.waxseal.test", "alias.waxseal.test"];
    party.issue(&names).await.expect("a certificate");
    for name in ["_acme-challenge.mail.waxseal.test", "alias.acme.waxseal.test"] {
        assert_eq!(texts(knot.at, name).await, BTreeSet::new(), "{name} is cleaned up");
    }
}

#[tokio::test]
async fn records_stand_where_aliases_lead_and_are_removed_when_the_order_is_given_up_half_way() {
    let ground = Ground::new();
    let knot = Knot::start(&ground);
    let pebble = Pebble::start(&ground, &Wishes { dns: Some(knot.at), ..Wishes::default() });
    let party = Party::new(by_dns(&pebble, tsig(knot.at, SECRET)), knot.at).await;
    let want = party.want(&["mail.waxseal.test", "far.waxseal.test"], KeyType::EcdsaP256);
    let records = ["_acme-challenge.mail.waxseal.test", "far.delegated.test"];
    let issuer = party.issuer();
    let (progress, brake) = Progress::unseen().stopping_at(Stage::Validation);
    // The order is given up when its future is dropped, which must not be before the records were looked at.
    let mut order = Box::pin(issuer.issue(&want, &progress));
    tokio::select! {
        done = &mut order => panic!("went on: {done:?}"),
        () = brake.reached() => {}
    }
    for record in records {
        assert_eq!(texts(knot.at, record).await.len(), 1, "{record}");
    }
    drop(order);
    for record in records {
        eventually("cleaning up", async || texts(knot.at, record).await.is_empty()).await;
    }
}

#[tokio::test]
async fn where_a_record_would_stand_is_found_out_before_the_ca_is_asked() {
    let ground = Ground::new();
    let knot = Knot::start(&ground);
    let pebble = Pebble::start(&ground, &Wishes::default());
    let party = Party::new(by_dns(&pebble, tsig(knot.at, SECRET)), knot.at).await;
    let want = party.want(&["mail.waxseal.test", "mail.elsewhere.test"], KeyType::EcdsaP256);
    let error = party.issuer().preflight(&want).await.expect_err("no zone of ours");
    let failures = error.failures;
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert_eq!(failures[0].name.as_deref(), Some("mail.elsewhere.test"));
}

#[tokio::test]
async fn a_record_that_does_not_lie_in_the_zone_that_is_named_is_told_and_not_tried() {
    let ground = Ground::new();
    let knot = Knot::start(&ground);
    let pebble = Pebble::start(&ground, &Wishes { dns: Some(knot.at), ..Wishes::default() });
    // The alias of one name leads into another zone; that of the other lies beside the zone.
    for (origin, name) in [("waxseal.test", "far.waxseal.test"), ("mail.waxseal.test", "other.waxseal.test")]
    {
        let mut settings = by_dns(&pebble, tsig(knot.at, SECRET));
        if let Some(dns) = &mut settings.dns {
            dns.origin = Some(origin.to_owned());
        }
        let party = Party::new(settings, knot.at).await;
        let error = party.issue(&[name]).await.expect_err("another zone");
        assert_eq!((error.stage, error.fault), (Stage::Challenge, Fault::Setup), "{error}");
        assert!(error.to_string().contains("leave origin out"), "{error}");
    }
}

#[tokio::test]
async fn updates_go_over_udp_too() {
    let ground = Ground::new();
    let knot = Knot::start(&ground);
    let pebble = Pebble::start(&ground, &Wishes { dns: Some(knot.at), ..Wishes::default() });
    let mut provider = tsig(knot.at, SECRET);
    if let DnsProvider::Rfc2136Tsig { tcp, .. } = &mut provider {
        *tcp = false;
    }
    let party = Party::new(by_dns(&pebble, provider), knot.at).await;
    party.issue(&["mail.waxseal.test"]).await.expect("a certificate");
}

#[tokio::test]
async fn a_wrong_key_and_a_foreign_zone_and_a_dead_server_are_told_and_the_ca_is_not_asked_to_look() {
    let ground = Ground::new();
    let knot = Knot::start(&ground);
    let pebble = Pebble::start(&ground, &Wishes { dns: Some(knot.at), ..Wishes::default() });
    let nobody = SocketAddr::new(knot.at.ip(), 15355);
    let cases = [
        (tsig(knot.at, b"another key"), "mail.waxseal.test", "refuses to add the record"),
        (tsig(knot.at, SECRET), "mail.elsewhere.test", "elsewhere.test"),
        (tsig(nobody, SECRET), "mail.waxseal.test", "cannot be reached"),
    ];
    for (provider, name, words) in cases {
        let party = Party::new(by_dns(&pebble, provider), knot.at).await;
        let error = party.issue(&[name]).await.expect_err(words);
        assert_eq!((error.stage, error.fault), (Stage::Challenge, Fault::Setup), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(error.failures[0].name.as_deref(), Some(name));
    }
    assert!(!pebble.server.log().contains("Pulled a task"));
}

#[tokio::test]
async fn a_record_that_some_server_never_shows_is_told_with_the_server() {
    let ground = Ground::new();
    let knot = Knot::start(&ground);
    let pebble = Pebble::start(&ground, &Wishes { dns: Some(knot.at), ..Wishes::default() });
    // A command that says yes and does nothing.
    let provider =
        DnsProvider::Exec { command: vec!["/bin/true".to_owned()], timeout: Duration::from_secs(5) };
    let mut settings = by_dns(&pebble, provider);
    if let Some(dns) = &mut settings.dns {
        dns.propagation_timeout = Duration::from_secs(1);
    }
    let party = Party::new(settings, knot.at).await;
    let names = ["mail.waxseal.test", "ns1.waxseal.test"];
    let error = party.issue(&names).await.expect_err("never shown");
    assert_eq!((error.stage, error.fault), (Stage::Challenge, Fault::Setup));
    let told: Vec<_> = error.failures.iter().map(|failure| failure.name.as_deref()).collect();
    assert_eq!(told, names.map(Some), "{error}");
    assert!(error.to_string().contains("is still not shown by"), "{error}");
    assert!(error.to_string().contains(&format!("{}:53", ground.ip)), "{error}");
    assert!(!pebble.server.log().contains("Pulled a task"));
}

/// A command that sets records in the CA's own name server, and where it writes down what it was called for.
fn hook(ground: &Ground, pebble: &Pebble) -> (DnsProvider, std::path::PathBuf) {
    let log = ground.path("hook.log");
    let hook = format!(
        "#!/bin/sh\nprintf '%s %s\\n' \"$1\" \"$2\" >>{}\nverb=set; [ \"$1\" = cleanup ] && verb=clear\ncurl -sf http://{}/$verb-txt -d \"{{\\\"host\\\":\\\"$2.\\\",\\\"value\\\":\\\"$3\\\"}}\"\n",
        log.display(),
        pebble.dns_management
    );
    let hook = ground.write("hook", &hook);
    let command = vec!["/bin/sh".to_owned(), hook.display().to_string()];
    (DnsProvider::Exec { command, timeout: Duration::from_secs(5) }, log)
}

#[tokio::test]
async fn what_the_killed_may_have_left_behind_of_an_order_is_removed_by_whoever_goes_on_with_it() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, &Wishes::default());
    let (provider, log) = hook(&ground, &pebble);
    let party = Party::new(by_dns(&pebble, provider), pebble.resolver).await;
    let names = ["mail.waxseal.test"];
    let want = party.want(&names, KeyType::EcdsaP256);
    let calls = || {
        std::fs::read_to_string(&log)
            .expect("the hook's log")
            .replace("_acme-challenge.mail.waxseal.test", "it")
    };
    for (stage, expected) in [
        (Stage::Validation, "present it\n"),
        // Set again: nobody knows how far the first had come.
        (Stage::Finalize, "present it\npresent it\ncleanup it\n"),
    ] {
        let issuer = party.issuer();
        let (progress, brake) = Progress::unseen().stopping_at(stage);
        let mut order = Box::pin(issuer.issue(&want, &progress));
        tokio::select! {
            done = &mut order => panic!("went on: {done:?}"),
            () = brake.reached() => {}
        }
        // The killed clean up after nothing.
        std::mem::forget(order);
        assert_eq!(calls(), expected);
    }
    party.issue(&names).await.expect("a certificate");
    assert_eq!(calls(), "present it\npresent it\ncleanup it\ncleanup it\n", "all names were proved already");
}

#[tokio::test]
async fn a_command_sets_records_and_is_called_to_clean_up() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, &Wishes::default());
    let (provider, log) = hook(&ground, &pebble);
    let party = Party::new(by_dns(&pebble, provider), pebble.resolver).await;
    party.issue(&["mail.waxseal.test", "*.mail.waxseal.test"]).await.expect("a certificate");
    let calls = std::fs::read_to_string(log).expect("the hook's log");
    let name = "_acme-challenge.mail.waxseal.test";
    assert_eq!(calls, format!("present {name}\npresent {name}\ncleanup {name}\ncleanup {name}\n"));
}

#[tokio::test]
async fn caa_records_and_addresses_and_zones_are_found() {
    let ground = Ground::new();
    let knot = Knot::start(&ground);
    let dns = Dns::new(&[knot.at]).expect("a resolver");
    let found = dns.caa("deep.below.caa.waxseal.test").await.expect("an answer").expect("records");
    assert_eq!((found.domain.as_str(), found.records[0].value.as_str()), ("caa.waxseal.test", "other.test"));
    assert_eq!(dns.caa("mail.waxseal.test").await.expect("an answer"), None);
    assert_eq!(dns.addresses("mail.waxseal.test").await.expect("an answer"), [ground.ip]);
    assert_eq!(dns.addresses("nobody.waxseal.test").await.expect("an answer"), [] as [std::net::IpAddr; 0]);
    assert_eq!(dns.zone("a.b.waxseal.test").await.expect("a zone"), "waxseal.test");
    assert_eq!(
        dns.canonical("_acme-challenge.far.waxseal.test").await.expect("a name"),
        "far.delegated.test"
    );
    // An alias that a wildcard makes of every name is none of this one's.
    let below = "_acme-challenge.mail.wild.waxseal.test";
    assert_eq!(dns.canonical(below).await.expect("a name"), below);
    // A server that refuses is no proof that there is nothing.
    assert!(dns.caa("mail.elsewhere.test").await.is_err());
}
