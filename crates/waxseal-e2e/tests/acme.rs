//! Certificates from a CA, from the first start to the renewal, with nobody's help.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use waxseal_e2e::{Door, Fake, Ground, NAME, Pebble, SClient, Wire, Wishes, cert, waxseal, within};

/// A month: nothing is renewed during a test.
const LONG: u64 = 30 * 86_400;
/// From the start of a door to its first certificate.
const ISSUED: Duration = Duration::from_secs(30);

/// A door that gets its certificate by `challenge`, its listeners for that on the CA's ports.
fn configuration(pebble: &Pebble, challenge: &str) -> String {
    pebble.door(&format!(
        "[server.listener.http]\nprotocol = \"http\"\nbind = \"{}\"\ntls.enable = false\n\
         [acme.test]\nCA\ndomains = [\"{NAME}\"]\nchallenge = \"{challenge}\"\n",
        pebble.at(80)
    ))
}

fn shown(client: SClient, pebble: &Pebble) -> (String, bool) {
    pebble.shown(NAME, client)
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
    // Between the CA's look, which needs somebody to answer, and the stored certificate.
    within(ISSUED, "a proof", || (pebble.said(&["set VALID"]) == 1).then_some(()));
    door.signal(Signal::SIGKILL);
    door.wait_exit();
    let _door = Door::start(&ground, &text);
    first_certificate(&pebble);
    assert_eq!(pebble.counts(), (1, 1));
}

#[test]
fn a_reload_in_the_middle_of_an_order_lets_it_come_to_its_end() {
    for challenge in ["tls-alpn-01", "http-01"] {
        let ground = Ground::new();
        let pebble = Pebble::with(&ground, Wishes { pause: Some(3), ..Wishes::default() });
        let _behind = Fake::imap(&ground, "behind", |_| ());
        let text = configuration(&pebble, challenge);
        let door = Door::start(&ground, &text);
        within(ISSUED, "a look", || (pebble.said(&["Pulled a task"]) == 1).then_some(()));
        door.reload(&ground, &text);
        door.wait_log("the new configuration is in force");
        first_certificate(&pebble);
        assert_eq!(pebble.counts(), (1, 1), "{challenge}: {}", door.log());
    }
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
    let listed = cert(&ground, &["list"]).ok().out;
    for part in
        ["acme.other is failing since 20", "at the stage: checks", "192.0.2.77: leads to", "next attempt: 20"]
    {
        assert!(listed.contains(part), "{part}: {listed}");
    }
}

#[test]
fn a_renewal_by_command_is_on_every_listener_within_a_second_while_a_thousand_sessions_lose_nothing() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("limit");
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, LONG);
    let _behind = Fake::imap(&ground, "behind", |_| ());
    let _door = Door::start(&ground, &configuration(&pebble, "http-01"));
    first_certificate(&pebble);
    let client = pebble.client(NAME);
    let session = |number: usize| {
        let source = IpAddr::V4(Ipv4Addr::new(127, 0, 1, u8::try_from(number % 10 + 1).expect("small")));
        let mut wire = if number.is_multiple_of(2) {
            Wire::connect_from(source, pebble.at(443)).tls(&client)
        } else {
            let mut wire = Wire::connect_from(source, ground.addr("imap"));
            wire.expect("* OK");
            wire.say("s STARTTLS").expect("s OK");
            wire.tls(&client)
        };
        if number.is_multiple_of(2) {
            wire.expect("* OK");
        }
        wire.say("a LOGIN alice secret").expect("a OK");
        wire
    };
    let mut held: Vec<Wire> = (0..1000).map(session).collect();
    let before = held[0].certificate();
    let said = cert(&ground, &["renew", NAME]).ok();
    let since = Instant::now();
    for number in [1000, 1001] {
        within(Duration::from_secs(1), "the new certificate", || {
            (session(number).certificate() != before).then_some(())
        });
    }
    assert!(since.elapsed() < Duration::from_secs(2), "{}", said.all());
    for wire in &mut held {
        wire.say("b NOOP").expect("b OK");
    }
    assert_eq!(pebble.counts(), (1, 2));
}

#[test]
fn of_twenty_certificates_one_cannot_be_proved_and_nineteen_are_served_and_renewed() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, LONG);
    let _behind = Fake::imap(&ground, "behind", |_| ());
    let mut text = configuration(&pebble, "tls-alpn-01");
    let table = |id: &str, name: &str| {
        format!(
            "[acme.{id}]\ndirectory = \"https://<pebble>/dir\"\nca = \"%{{file:<dir>/pebble-ca.pem}}%\"\n\
             contact = [\"admin@example.test\"]\ndomains = [\"{name}\"]\ncache = \"<dir>/cache\"\npreflight = false\n"
        )
    };
    for number in 0..18 {
        text += &table(&format!("n{number}"), &format!("mail{number}.example.test"));
    }
    // Nobody listens there: the CA says so.
    text += &table("wrong", "127.98.7.6");
    let door = Door::start(&ground, &text);
    first_certificate(&pebble);
    let names: Vec<String> =
        (0..18).map(|number| format!("mail{number}.example.test")).chain([NAME.to_owned()]).collect();
    let shown = |name: &String| pebble.shown(name, SClient::new(pebble.at(443)));
    let first: Vec<String> = names
        .iter()
        .map(|name| within(ISSUED, name, || Some(shown(name)).filter(|(_, verified)| *verified)).0)
        .collect();
    let said = door.wait_log("127.98.7.6: the CA did not get our answer");
    assert!(
        said.contains("validation") && said.contains("or somebody else: let the name lead to this machine"),
        "{said}"
    );
    let listed = cert(&ground, &["list"]).ok();
    assert!(listed.out.contains("mail17.example.test"), "{}", listed.out);
    assert!(listed.all().contains("the CA did not get our answer"), "{}", listed.all());
    assert_eq!(pebble.counts(), (1, 20));
    for (name, first) in names.iter().zip(&first) {
        let _ = cert(&ground, &["renew", name]).ok();
        within(Duration::from_secs(1), name, || {
            let (certificate, verified) = shown(name);
            (verified && certificate != *first).then_some(())
        });
    }
}

#[test]
fn two_processes_on_one_storage_make_one_order_and_both_serve_it() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, LONG);
    let _behind = Fake::imap(&ground, "behind", |_| ());
    let text = configuration(&pebble, "tls-alpn-01");
    let first = Door::start(&ground, &text);
    // The other has no listener that the CA could ask: it is the first that answers.
    let other = text
        .replace(&format!("bind = \"{}\"", pebble.at(443)), "bind = \"<imaps-other>\"")
        .replace(&format!("bind = \"{}\"", pebble.at(80)), "bind = \"<http-other>\"")
        .replace("<imap>", "<imap-other>");
    let second = Door::start(&ground, &other);
    let certificate = first_certificate(&pebble);
    within(ISSUED, "the same on the other", || {
        let seen = shown(SClient::new(ground.addr("imaps-other")), &pebble);
        (seen == (certificate.clone(), true)).then_some(())
    });
    assert_eq!(pebble.counts(), (1, 1), "{}\n{}", first.log(), second.log());
}

#[test]
fn fifty_starts_cost_one_account_and_one_order() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, LONG);
    let _behind = Fake::imap(&ground, "behind", |_| ());
    let text = configuration(&pebble, "tls-alpn-01");
    for start in 0..50 {
        let mut door = Door::start(&ground, &text);
        // Each a little later than the one before, through all that a start does.
        std::thread::sleep(Duration::from_millis(start * 8));
        door.signal(Signal::SIGKILL);
        door.wait_exit();
    }
    let (accounts, orders) = pebble.counts();
    assert!(accounts <= 1 && orders <= 1, "{accounts} accounts, {orders} orders");
    let _door = Door::start(&ground, &text);
    if !implicit(&pebble).1 {
        // The loop has climbed the ladder, which an operator passes.
        let _ = cert(&ground, &["renew", NAME]).ok();
        first_certificate(&pebble);
    }
    // Another order only where the CA has given up the first, as it looked while nobody was there to answer.
    let given_up = pebble.said(&["order", "set INVALID"]);
    assert_eq!(pebble.counts(), (1, 1 + given_up));
}

#[test]
fn dns_01_by_a_command_brings_a_wildcard() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, LONG);
    let _behind = Fake::imap(&ground, "behind", |_| ());
    let hook = format!(
        "#!/bin/sh\nverb=set; [ \"$1\" = cleanup ] && verb=clear\nexec curl -sf http://{}/$verb-txt -d \"{{\\\"host\\\":\\\"$2.\\\",\\\"value\\\":\\\"$3\\\"}}\"\n",
        pebble.records()
    );
    std::fs::write(ground.path("hook"), hook).expect("written");
    let text = configuration(&pebble, "dns-01").replace(
        &format!("domains = [\"{NAME}\"]"),
        &format!("domains = [\"{NAME}\", \"*.{NAME}\"]\nprovider = \"exec\"\ncommand = [\"/bin/sh\", \"<dir>/hook\"]\npolling-interval = \"1s\""),
    );
    let _door = Door::start(&ground, &text);
    let certificate = first_certificate(&pebble);
    let other = format!("imap.{NAME}");
    assert_eq!(pebble.shown(&other, SClient::new(pebble.at(443))), (certificate, true));
}

#[test]
fn a_check_asks_the_ca_what_it_is_and_says_in_which_line_it_is_none() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, LONG);
    let right = configuration(&pebble, "tls-alpn-01");
    let check = |text: &str| {
        let file = ground.write("waxseal.toml", text);
        waxseal(&["check", "--config", file.to_str().expect("utf-8")])
    };
    let fine = check(&right).ok();
    assert!(!fine.all().contains("directory ="), "{}", fine.all());
    let line = right.lines().position(|line| line.starts_with("directory")).expect("there") + 1;
    for (address, words, help) in [
        ("https://<pebble>/nowhere", "answers 404", "write the address of the CA's directory"),
        (
            "https://<pebble-management>/roots/0",
            "is no ACME directory",
            "write the address of the CA's directory",
        ),
    ] {
        let wrong = check(&right.replace("https://<pebble>/dir", address));
        let place = format!("waxseal.toml:{line}:");
        assert!(!wrong.status.success(), "{}", wrong.all());
        assert!([words, help, &place].iter().all(|it| wrong.err.contains(it)), "{}", wrong.err);
    }
    let distrusted = check(&right.replace("ca = ", "# "));
    assert!(!distrusted.status.success() && distrusted.err.contains("write ca ="), "{}", distrusted.err);
    // One that cannot be reached may be tomorrow.
    let away = check(&right.replace("https://<pebble>/dir", "https://<nobody>/dir")).ok();
    assert!(away.err.contains("the CA was not asked what it demands"), "{}", away.err);
    assert_eq!(pebble.counts(), (0, 0));
}
