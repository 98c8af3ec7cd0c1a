//! Certificates from a CA, from the first start to the renewal, with nobody's help.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use waxseal_e2e::{Door, Fake, Ground, Pebble, SClient, Wire, within};

const NAME: &str = "mail.example.test";
/// A month: nothing is renewed during a test.
const LONG: u64 = 30 * 86_400;
/// From the start of a door to its first certificate.
const ISSUED: Duration = Duration::from_secs(30);

/// A door that gets its certificate by `challenge`, its listeners for that on the CA's ports.
fn configuration(pebble: &Pebble, challenge: &str) -> String {
    format!(
        r#"
[server]
hostname = "{NAME}"
resolver = ["<pebble-dns>"]
[upstream.behind]
address = "<behind>"
[server.listener.imaps]
protocol = "imap"
bind = "{tls}"
upstream = "behind"
tls.implicit = true
[server.listener.imap]
protocol = "imap"
bind = "<imap>"
upstream = "behind"
[server.listener.http]
protocol = "http"
bind = "{http}"
tls.enable = false
[acme.test]
directory = "https://<pebble>/dir"
ca = "%{{file:<dir>/pebble-ca.pem}}%"
contact = ["admin@example.test"]
domains = ["{NAME}"]
challenge = "{challenge}"
cache = "<dir>/cache"
"#,
        tls = pebble.at(443),
        http = pebble.at(80),
    )
}

/// The certificate on a listener, and whether the CA's root stands behind it.
fn shown(client: SClient, pebble: &Pebble) -> (String, bool) {
    let seen = client.args(&["-CAfile", pebble.roots(), "-servername", NAME, "-verify_hostname", NAME]).run();
    let from = seen.text.find("-----BEGIN CERTIFICATE").unwrap_or_default();
    let to = seen.text.find("-----END CERTIFICATE").unwrap_or_default();
    (seen.text.get(from..to).unwrap_or_default().to_owned(), seen.verified)
}

fn implicit(pebble: &Pebble) -> (String, bool) {
    shown(SClient::new(pebble.at(443)), pebble)
}

fn explicit(ground: &Ground, pebble: &Pebble) -> (String, bool) {
    shown(SClient::new(ground.addr("imap")).starttls("imap"), pebble)
}

fn first_certificate(pebble: &Pebble) -> String {
    within(ISSUED, "a certificate from the CA", || {
        let (certificate, verified) = implicit(pebble);
        verified.then_some(certificate)
    })
}

#[test]
fn each_challenge_on_our_own_listeners_brings_a_certificate_to_every_listener() {
    for challenge in ["tls-alpn-01", "http-01"] {
        let ground = Ground::new();
        let pebble = Pebble::start(&ground, LONG);
        let _behind = Fake::imap(&ground, "behind", |_| ());
        let door = Door::start(&ground, &configuration(&pebble, challenge));
        let certificate = first_certificate(&pebble);
        assert_eq!(explicit(&ground, &pebble), (certificate, true), "{challenge}: {}", door.log());
        assert_eq!(pebble.counts(), (1, 1), "{challenge}");
    }
}

#[test]
fn a_short_lived_certificate_is_renewed_on_every_listener_while_sessions_go_on() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, 60);
    let behind = Fake::imap(&ground, "behind", |_| ());
    let door = Door::start(&ground, &configuration(&pebble, "tls-alpn-01"));
    let first = first_certificate(&pebble);
    let mut held: Vec<Wire> = Vec::new();
    for _ in 0..20 {
        let mut session = Wire::connect(ground.addr("imap"));
        session.expect("* OK");
        held.push(session);
    }
    pebble.wait_issued(1);
    let second = within(Duration::from_secs(60), "the renewed certificate", || {
        let (certificate, verified) = implicit(&pebble);
        (verified && certificate != first).then_some(certificate)
    });
    let since = Instant::now();
    assert_eq!(explicit(&ground, &pebble).0, second, "on the other listener at once");
    assert!(since.elapsed() < Duration::from_secs(2));
    for session in &mut held {
        session.say("a NOOP").expect("a OK");
    }
    drop((door, behind));
}

#[test]
fn a_restart_and_a_crash_serve_what_was_there_and_order_nothing() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, LONG);
    let _behind = Fake::imap(&ground, "behind", |_| ());
    let text = configuration(&pebble, "tls-alpn-01");
    let mut door = Door::start(&ground, &text);
    let certificate = first_certificate(&pebble);
    for signal in [Signal::SIGTERM, Signal::SIGKILL, Signal::SIGKILL] {
        door.signal(signal);
        door.wait_exit();
        door = Door::start(&ground, &text);
        assert_eq!(implicit(&pebble), (certificate.clone(), true), "after {signal}");
    }
    assert_eq!(pebble.counts(), (1, 1));
}

#[test]
fn a_crash_in_the_middle_of_an_order_costs_neither_account_nor_order() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, LONG);
    let _behind = Fake::imap(&ground, "behind", |_| ());
    let text = configuration(&pebble, "tls-alpn-01");
    let mut door = Door::start(&ground, &text);
    within(ISSUED, "an order", || (pebble.counts().1 == 1).then_some(()));
    // Somewhere between the order and the stored certificate, wherever that falls.
    std::thread::sleep(Duration::from_millis(150));
    door.signal(Signal::SIGKILL);
    door.wait_exit();
    let _door = Door::start(&ground, &text);
    first_certificate(&pebble);
    assert_eq!(pebble.counts(), (1, 1));
}

#[test]
fn a_name_that_cannot_be_proved_is_told_with_its_remedy_and_does_not_stop_the_other() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, LONG);
    let _behind = Fake::imap(&ground, "behind", |_| ());
    let other = r#"
[acme.other]
directory = "https://<pebble>/dir"
ca = "%{file:<dir>/pebble-ca.pem}%"
contact = ["admin@example.test"]
domains = ["192.0.2.77"]
cache = "<dir>/cache"
"#;
    let door = Door::start(&ground, &format!("{}{other}", configuration(&pebble, "tls-alpn-01")));
    first_certificate(&pebble);
    let said = door.wait_log("192.0.2.77: leads to 192.0.2.77");
    assert!(said.contains("public-ip"), "{said}");
    assert_eq!(pebble.counts(), (1, 1), "nothing was asked of the CA for the other");
}
