//! Which certificate a client gets.

use std::sync::Arc;

use waxseal_tls::{CertificateSet, Entry, Identity, Matched, SetWarning};

use crate::support::*;

/// Within the validity of the certificates below, unless they have expired.
const NOW: i64 = 1_770_000_000;

fn made(id: &str, kind: Kind, names: &[&str], until: i32) -> Entry {
    let (chain, key) = leaf_with(kind, names, |params| params.not_after = rcgen::date_time_ymd(until, 1, 1));
    let identity = Identity::from_pem(chain.as_bytes(), key.as_bytes(), &[]).unwrap().0;
    Entry { id: id.into(), identity: Arc::new(identity), default: false }
}

fn good(id: &str, names: &[&str]) -> Entry {
    made(id, Kind::Ecdsa, names, 2040)
}

fn default(entry: Entry) -> Entry {
    Entry { default: true, ..entry }
}

fn chosen<'a>(set: &'a CertificateSet, sni: Option<&str>) -> (&'a str, Matched) {
    let choice = set.choose(sni, NOW, |_| true).unwrap();
    assert_eq!(set.entries()[choice.index].id, choice.entry.id);
    (&choice.entry.id, choice.matched)
}

#[test]
fn exact_comes_before_wildcard_before_default() {
    let (set, warnings) = CertificateSet::new(
        vec![
            good("wild", &["*.example.org"]),
            good("exact", &["imap.example.org"]),
            good("own", &["mx.example.net"]),
        ],
        "MX.example.net.",
    );
    assert_eq!(warnings, []);
    assert_eq!(chosen(&set, Some("imap.example.org")), ("exact", Matched::Exact));
    assert_eq!(chosen(&set, Some("pop.example.org")), ("wild", Matched::Wildcard));
    for foreign in
        ["example.org", "a.b.example.org", ".example.org", "imap.example.net", "", "x", "*.example.com"]
    {
        assert_eq!(chosen(&set, Some(foreign)), ("own", Matched::Foreign), "{foreign}");
    }
    assert_eq!(chosen(&set, None), ("own", Matched::Unnamed));
}

#[test]
fn the_default_is_marked_or_names_the_server_or_comes_first() {
    let entries = || {
        vec![good("first", &["a.example"]), good("second", &["b.example"]), good("third", &["*.c.example"])]
    };
    let (set, warnings) = CertificateSet::new(entries(), "nowhere.example");
    assert_eq!(chosen(&set, None), ("first", Matched::Unnamed));
    let [SetWarning::FirstIsDefault { hostname, id }] = &warnings[..] else { panic!("{warnings:?}") };
    assert_eq!((hostname.as_str(), id.as_str()), ("nowhere.example", "first"));

    let (set, warnings) = CertificateSet::new(entries(), "mx.c.example");
    assert_eq!((chosen(&set, None).0, warnings), ("third", vec![]));

    let mut marked = entries();
    marked[1].default = true;
    let (set, warnings) = CertificateSet::new(marked, "mx.c.example");
    assert_eq!((chosen(&set, None).0, warnings), ("second", vec![]));
}

#[test]
fn two_defaults_of_one_kind_are_warned_of() {
    let (set, warnings) =
        CertificateSet::new(vec![default(good("a", &["a.example"])), default(good("b", &["b.example"]))], "");
    assert_eq!(chosen(&set, None).0, "a");
    assert_eq!(warnings, [SetWarning::SeveralDefaults(vec!["a".into(), "b".into()])]);

    let rsa = default(made("rsa", Kind::Rsa, &["a.example"], 2040));
    let (set, warnings) = CertificateSet::new(vec![rsa, default(good("ecdsa", &["a.example"]))], "");
    assert_eq!((chosen(&set, None).0, warnings), ("ecdsa", vec![]), "one of each kind is as it should be");
}

#[test]
fn the_client_decides_between_kinds_and_is_never_left_without() {
    let entries = vec![
        default(good("default", &["mx.example"])),
        made("rsa sibling", Kind::Rsa, &["mx.example", "other.example"], 2040),
        made("rsa", Kind::Rsa, &["imap.example"], 2040),
        good("ecdsa", &["imap.example"]),
        good("ecdsa only", &["pop.example"]),
    ];
    let (set, _) = CertificateSet::new(entries, "");
    let for_rsa =
        |sni| set.choose(sni, NOW, |identity| identity.key_kind().to_string() == "RSA 2048").unwrap();
    assert_eq!(chosen(&set, Some("imap.example")).0, "ecdsa", "ECDSA first");
    assert_eq!(for_rsa(Some("imap.example")).entry.id, "rsa");
    assert_eq!(for_rsa(None).entry.id, "rsa sibling", "as good as the default: it shares a name");
    let fallback = for_rsa(Some("pop.example"));
    assert_eq!((fallback.entry.id.as_str(), fallback.matched), ("rsa sibling", Matched::Foreign));
    let none_fits = set.choose(Some("pop.example"), NOW, |_| false).unwrap();
    assert_eq!(none_fits.entry.id, "ecdsa only", "the handshake will say what is missing");
}

#[test]
fn what_has_expired_is_served_only_before_nothing() {
    let expired = |id: &str, names: &[&str]| made(id, Kind::Ecdsa, names, 2001);
    let (set, _) = CertificateSet::new(
        vec![
            expired("old", &["imap.example.org"]),
            good("new", &["imap.example.org"]),
            expired("old exact", &["pop.example.org"]),
            good("wild", &["*.example.org"]),
            expired("only", &["alone.example"]),
            default(expired("old default", &["mx.example"])),
        ],
        "",
    );
    assert_eq!(chosen(&set, Some("imap.example.org")), ("new", Matched::Exact));
    assert_eq!(chosen(&set, Some("pop.example.org")), ("wild", Matched::Wildcard));
    assert_eq!(chosen(&set, Some("alone.example")), ("only", Matched::Exact));
    assert_eq!(chosen(&set, None).0, "new", "anything valid before the expired default");
    let (set, _) = CertificateSet::new(vec![expired("all there is", &["a.example"])], "");
    assert_eq!(chosen(&set, None).0, "all there is");
}

#[test]
fn an_empty_set_serves_nobody() {
    let (set, warnings) = CertificateSet::new(Vec::new(), "mx.example");
    assert!(set.choose(None, NOW, |_| true).is_none());
    assert_eq!(warnings, []);
}
