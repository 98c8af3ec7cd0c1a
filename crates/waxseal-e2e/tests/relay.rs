//! Bytes in both directions, many sessions at once, services that come, go and are set up differently than told.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use waxseal_e2e::{
    CERTIFICATE, Door, Dovecot, Fake, Ground, Pki, TlsClient, Wire, eventually, mail_certificate, waxseal,
    within,
};

const MIB: usize = 1 << 20;
const LARGE: usize = 50 * MIB;

/// Bytes in which every misplaced, doubled or lost piece shows: no stretch of them comes twice.
fn pattern(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend((word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

fn same(got: &[u8], expected: &[u8], what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    assert_eq!(got.iter().zip(expected).position(|(a, b)| a != b), None, "{what} differs at that byte");
}

/// Writes 50 MiB and reads 50 MiB at once; whether what it read was right stands in `right`.
fn both_ways(wire: &Wire, right: &AtomicBool) {
    let mut writing = wire.socket().try_clone().expect("socket");
    let mut reading = wire.socket().try_clone().expect("socket");
    let writer = std::thread::spawn(move || writing.write_all(&pattern(2, LARGE)));
    let mut got = vec![0; LARGE];
    let read = reading.read_exact(&mut got);
    let wrote = writer.join().expect("writer");
    right.store(read.is_ok() && wrote.is_ok() && got == pattern(1, LARGE), Ordering::SeqCst);
}

struct House {
    door: Door,
    ground: Ground,
    pki: Pki,
    client: TlsClient,
}

impl House {
    fn new(ground: Ground, configuration: &str) -> Self {
        let pki = mail_certificate(&ground);
        let door = Door::start(&ground, &format!("{CERTIFICATE}{configuration}"));
        let client = pki.client("mail.example.test");
        Self { door, ground, pki, client }
    }

    fn connect(&self, name: &str) -> Wire {
        Wire::connect(self.ground.addr(name))
    }

    fn tls(&self, name: &str) -> Wire {
        self.connect(name).tls(&self.client)
    }
}

/// An IMAP listener in implicit TLS, named `name`, before a service of the same address name with `-behind`.
fn imaps(name: &str) -> String {
    format!(
        "[server.listener.{name}]\nprotocol = \"imap\"\nbind = \"<{name}>\"\nupstream = \"{name}\"\n\
         tls.implicit = true\n[upstream.{name}]\naddress = \"<{name}-behind>\"\n"
    )
}

const HTTP: &str = r#"
[server.listener.https]
protocol = "http"
bind = "<https>"
upstream = "web"
tls.implicit = true
[upstream.web]
address = "<web>"
"#;

#[test]
fn fifty_mebibytes_go_both_ways_at_once_byte_for_byte() {
    let ground = Ground::new();
    static RIGHT: AtomicBool = AtomicBool::new(false);
    let _web = Fake::start(&ground, "web", |wire| both_ways(&wire, &RIGHT));
    let house = House::new(ground, HTTP);
    let mut wire = house.tls("https");
    let got = wire.exchange(&pattern(1, LARGE), LARGE);
    same(&got, &pattern(2, LARGE), "from the service");
    eventually("the service has judged", || RIGHT.load(Ordering::SeqCst).then_some(()));
}

#[test]
fn fifty_mebibytes_go_both_ways_through_starttls_after_a_login() {
    let ground = Ground::new();
    static RIGHT: AtomicBool = AtomicBool::new(false);
    let _store = Fake::start(&ground, "imap-behind", |mut wire| {
        wire.say("* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready");
        while let Ok(Some(line)) = wire.try_line() {
            let tag = line.split(' ').next().unwrap_or_default().to_owned();
            let untagged =
                if line.contains("CAPABILITY") { "* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n" } else { "" };
            wire.send(format!("{untagged}{tag} OK done\r\n"));
            if line.contains("LOGIN") {
                return both_ways(&wire, &RIGHT);
            }
        }
    });
    let house = House::new(ground, &imaps("imap").replace("tls.implicit = true\n", ""));
    let mut wire = house.connect("imap");
    wire.expect("* OK");
    wire.say("a STARTTLS").expect("a OK");
    let mut wire = wire.tls(&house.client);
    wire.say("b LOGIN alice secret").expect("b OK");
    let got = wire.exchange(&pattern(1, LARGE), LARGE);
    same(&got, &pattern(2, LARGE), "from the service");
    eventually("the service has judged", || RIGHT.load(Ordering::SeqCst).then_some(()));
}

#[test]
fn the_end_of_one_direction_is_passed_on_and_the_other_goes_on() {
    let ground = Ground::new();
    let _web = Fake::start(&ground, "web", |mut wire| {
        // Reads to the end first, and only then speaks.
        let asked = wire.ended();
        let answer = [format!("{} bytes\r\n", asked.len()).as_bytes(), &pattern(3, MIB)].concat();
        if wire.try_send(&answer).is_ok() {
            wire.finish();
        }
    });
    let house = House::new(ground, HTTP);
    let mut wire = house.tls("https");
    wire.send(pattern(4, MIB));
    wire.finish();
    wire.expect(&format!("{MIB} bytes"));
    same(&wire.read_exactly(MIB), &pattern(3, MIB), "after the half-close");
    assert!(wire.ended().is_empty());
    assert!(wire.closed_orderly(), "close_notify");
}

#[test]
fn a_service_that_has_said_its_last_word_still_hears_the_client() {
    let ground = Ground::new();
    static HEARD: AtomicUsize = AtomicUsize::new(0);
    let _web = Fake::start(&ground, "web", |mut wire| {
        if wire.try_send(b"last word\r\n").is_err() {
            return;
        }
        wire.finish();
        HEARD.store(wire.ended().len(), Ordering::SeqCst);
    });
    let house = House::new(ground, HTTP);
    let mut wire = house.tls("https");
    wire.expect("last word");
    assert!(wire.ended().is_empty());
    assert!(wire.closed_orderly(), "close_notify");
    wire.send(pattern(5, MIB));
    wire.finish();
    eventually("all was heard", || (HEARD.load(Ordering::SeqCst) == MIB).then_some(()));
}

#[test]
fn a_client_cut_off_is_told_from_one_that_took_its_leave() {
    let ground = Ground::new();
    let _store = Fake::imap(&ground, "imap-behind", |_| ());
    let house = House::new(ground, &imaps("imap"));
    let end = |wire: Wire, leave: &dyn Fn(Wire)| {
        let port = wire.local().port().to_string();
        leave(wire);
        let line = house.door.wait_line(&["session ended", &port]);
        line.split("end=").nth(1).expect("how it ended").to_owned()
    };
    let session = || {
        let mut wire = house.tls("imap");
        wire.expect("* OK");
        wire
    };
    let orderly = end(session(), &|mut wire| {
        wire.finish();
        wire.ended();
    });
    let truncated = end(session(), &|wire| {
        wire.socket().shutdown(std::net::Shutdown::Write).expect("shutdown");
        std::thread::sleep(Duration::from_millis(100));
    });
    let reset = end(session(), &Wire::reset);
    assert_ne!(orderly, truncated);
    assert_ne!(orderly, reset);
    assert_ne!(truncated, reset);
}

#[test]
fn a_service_stopped_and_started_under_load_hurts_no_session_but_its_own() {
    let ground = Ground::new();
    let pki = mail_certificate(&ground);
    let mut dovecot = Some(Dovecot::start(&ground, &pki));
    let _other = Fake::imap(&ground, "other-behind", |_| ());
    let text = imaps("other") + &imaps("dovecot").replace("<dovecot-behind>", "<dovecot-imap>");
    let door = Door::start(&ground, &format!("{CERTIFICATE}{text}"));
    let client = pki.client("mail.example.test");
    // Whether a session got what it came for; a panic is a broken session.
    let session = |name: &str| -> bool {
        let Ok(mut wire) = Wire::connect(ground.addr(name)).try_tls(&client) else { return false };
        let greeting = wire.try_line();
        if !matches!(&greeting, Ok(Some(line)) if line.starts_with("* OK")) {
            let polite = matches!(&greeting, Ok(Some(line)) if line.starts_with("* BYE"));
            assert!(polite || matches!(greeting, Ok(None)), "{greeting:?}");
            return false;
        }
        wire.try_send(b"a NOOP\r\n").is_ok()
            && matches!(wire.try_line(), Ok(Some(line)) if line.starts_with("a OK"))
    };
    let mut held = Wire::connect(ground.addr("other")).tls(&client);
    held.expect("* OK");
    let stop = AtomicBool::new(false);
    let counts = Mutex::new(BTreeMap::<(&str, bool), usize>::new());
    std::thread::scope(|scope| {
        for name in ["other", "other", "dovecot", "dovecot"] {
            let (stop, counts, session) = (&stop, &counts, &session);
            scope.spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    let served = session(name);
                    *counts.lock().expect("lock").entry((name, served)).or_default() += 1;
                }
            });
        }
        std::thread::sleep(Duration::from_secs(2));
        drop(dovecot.take());
        std::thread::sleep(Duration::from_secs(3));
        dovecot = Some(Dovecot::start(&ground, &pki));
        within(Duration::from_secs(15), "Dovecot's sessions are served again", || {
            session("dovecot").then_some(())
        });
        std::thread::sleep(Duration::from_secs(1));
        stop.store(true, Ordering::SeqCst);
    });
    held.say("a NOOP").expect("a OK");
    let counts = counts.into_inner().expect("lock");
    println!("sessions served or not: {counts:?}");
    assert_eq!(counts.get(&("other", false)), None, "{counts:?}");
    assert!(counts[&("other", true)] > 50, "{counts:?}");
    assert!(counts[&("dovecot", true)] > 10 && counts[&("dovecot", false)] > 0, "{counts:?}");
    assert!(!door.log().contains("panicked"));
}

#[test]
fn two_hundred_connections_reset_in_mid_handshake_leave_nothing_behind() {
    let ground = Ground::new();
    let _store = Fake::imap(&ground, "imap-behind", |_| ());
    let text = imaps("imap")
        + &imaps("starttls")
            .replace("tls.implicit = true\n", "")
            .replace("<starttls-behind>", "<imap-behind>");
    let mut house = House::new(ground, &text);
    let mut held = house.tls("imap");
    held.expect("* OK");
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", house.door.pid())).expect("fd").count();
    let before = descriptors();
    let hello = house.client.hello();
    let resets: Vec<Wire> = (0..200)
        .map(|number: usize| {
            let mut wire = if number.is_multiple_of(2) {
                house.connect("imap")
            } else {
                let mut wire = house.connect("starttls");
                wire.expect("* OK");
                wire.say("a STARTTLS").expect("a OK");
                wire
            };
            // Nothing, a part, or the whole of the client's first flight.
            wire.send(&hello[..hello.len() * (number % 5) / 4]);
            wire
        })
        .collect();
    resets.into_iter().for_each(Wire::reset);
    eventually("their descriptors are closed", || (descriptors() <= before).then_some(()));
    held.say("a NOOP").expect("a OK");
    house.tls("imap").expect("* OK");
    assert!(house.door.lives());
    assert_eq!(house.door.count(&["panicked"]), 0);
}

/// What an idle relayed session may cost the door in resident memory.
const IDLE_SESSION_KIB: f64 = 10.0;
const IDLE_SESSIONS: usize = 5_000;

#[test]
fn five_thousand_idle_sessions_are_held_and_cost_little() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("limit");
    let ground = Ground::new();
    let _store = Fake::imap(&ground, "imap-behind", |_| ());
    let text = imaps("imap")
        + &imaps("starttls")
            .replace("tls.implicit = true\n", "")
            .replace("<starttls-behind>", "<imap-behind>");
    let mut house = House::new(ground, &text);
    let session = |number: usize| {
        // Several clients, for no kernel and no limit is made for so many from one address.
        let source = IpAddr::V4(Ipv4Addr::new(127, 0, 1, u8::try_from(number % 10 + 1).expect("small")));
        let mut wire = if number.is_multiple_of(2) {
            let mut wire = Wire::connect_from(source, house.ground.addr("imap")).tls(&house.client);
            wire.expect("* OK");
            wire
        } else {
            let mut wire = Wire::connect_from(source, house.ground.addr("starttls"));
            wire.expect("* OK");
            wire.say("s STARTTLS").expect("s OK");
            wire.tls(&house.client)
        };
        wire.say("a LOGIN alice secret").expect("a OK");
        wire
    };
    // What the first sessions cost is not a session's price.
    let mut held: Vec<Wire> = (0..100).map(session).collect();
    let before = house.door.resident_kib();
    let start = Instant::now();
    held.extend((0..IDLE_SESSIONS).map(session));
    println!("{IDLE_SESSIONS} sessions opened in {:.1} s", start.elapsed().as_secs_f64());
    std::thread::sleep(Duration::from_secs(2));
    let after = house.door.resident_kib();
    let each = (after - before) as f64 / IDLE_SESSIONS as f64;
    println!("{each:.2} KiB of resident memory for each of {IDLE_SESSIONS} idle sessions");
    assert!(each <= IDLE_SESSION_KIB, "{each:.2} KiB for an idle session");
    for wire in &mut held {
        wire.say("b NOOP").expect("b OK");
    }
    drop(held);
    let door = &mut house.door;
    assert!(door.lives());
    within(Duration::from_secs(30), "the descriptors are closed", || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", door.pid())).expect("fd").count();
        (open < 200).then_some(())
    });
}

#[test]
fn a_service_down_at_the_start_is_unreachable_in_each_protocols_words_and_served_when_it_is_back() {
    let ground = Ground::new();
    let pki = mail_certificate(&ground);
    let mut text = CERTIFICATE.to_owned();
    let protocols = [
        ("smtp", "421 4.3.2"),
        ("submission", "421 4.3.2"),
        ("lmtp", "421 4.3.2"),
        ("imap", "* BYE [UNAVAILABLE]"),
        ("pop3", "-ERR [SYS/TEMP]"),
        ("managesieve", "BYE (TRYLATER)"),
    ];
    for (name, _) in protocols {
        text.push_str(&format!(
            "[server.listener.{name}]\nprotocol = \"{name}\"\nbind = \"<{name}>\"\nupstream = \"{name}\"\n\
             [server.listener.{name}-tls]\nprotocol = \"{name}\"\nbind = \"<{name}-tls>\"\nupstream = \"{name}\"\n\
             tls.implicit = true\n[upstream.{name}]\naddress = \"<{name}-behind>\"\n"
        ));
    }
    let door = Door::start(&ground, &text);
    let client = pki.client("mail.example.test");
    for (name, words) in protocols {
        let mut wire = Wire::connect(ground.addr(name));
        wire.expect(words);
        assert!(wire.ended().is_empty(), "{name}");
        let mut wire = Wire::connect(ground.addr(&format!("{name}-tls"))).tls(&client);
        wire.expect(words);
        door.wait_line(&["ERROR", &ground.addr(&format!("{name}-behind")).to_string()]);
    }
    let _store = Fake::imap(&ground, "imap-behind", |_| ());
    let _mta = Fake::smtp(&ground, "smtp-behind", |_| ());
    for (name, greeting) in [("imap", "* OK"), ("smtp", "220")] {
        within(Duration::from_secs(15), "the service that is back is found", || {
            Wire::connect(ground.addr(name)).line().starts_with(greeting).then_some(())
        });
        let mut wire = Wire::connect(ground.addr(&format!("{name}-tls"))).tls(&client);
        wire.expect(greeting);
    }
}

#[test]
fn a_service_that_fails_is_not_dialled_by_every_client() {
    let ground = Ground::new();
    let store = Fake::start(&ground, "imap-behind", drop);
    let house = House::new(ground, &imaps("imap"));
    let start = Instant::now();
    let clients = 100;
    for _ in 0..clients {
        house.tls("imap").expect("* BYE [UNAVAILABLE]");
    }
    let dialled = store.connections();
    let per_second = dialled as f64 / start.elapsed().as_secs_f64().max(1.0);
    println!("{clients} clients, {dialled} connections to the service");
    assert!(dialled < clients / 2 && per_second < 10.0, "{dialled} connections for {clients} clients");
}

#[test]
fn one_banned_client_does_not_make_the_service_unreachable_for_others() {
    let ground = Ground::new();
    let _mta = Fake::start(&ground, "mta", |mut wire| {
        let Ok(Some(header)) = wire.try_line() else { return };
        if header.contains(" 127.0.0.9 ") {
            let _ = wire.try_send(b"554 5.7.1 You are banned\r\n");
            return;
        }
        wire.say("220 behind.test ESMTP");
        while let Ok(Some(line)) = wire.try_line() {
            let answer =
                if line.starts_with("EHLO") { "250-behind.test\r\n250 PIPELINING" } else { "250 Ok" };
            if wire.try_send(format!("{answer}\r\n").as_bytes()).is_err() {
                return;
            }
        }
    });
    let house = House::new(
        ground,
        "[server.listener.mx]\nprotocol = \"smtp\"\nbind = \"<mx>\"\nupstream = \"mta\"\ntls.implicit = true\n\
         [upstream.mta]\naddress = \"<mta>\"\nforwarding = \"proxy-v1\"\n",
    );
    let banned = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
    for _ in 0..20 {
        let mut wire = Wire::connect_from(banned, house.ground.addr("mx")).tls(&house.client);
        // In the service's own words: they say why.
        assert!(wire.expect("5").contains("banned"));
        house.tls("mx").expect("220");
    }
}

#[test]
fn several_addresses_are_tried_in_order() {
    let ground = Ground::new();
    let first = Fake::imap(&ground, "first", |_| ());
    let second = Fake::imap(&ground, "second", |_| ());
    let text = imaps("imap").replace("\"<imap-behind>\"", "[\"<absent>\", \"<first>\", \"<second>\"]");
    let house = House::new(ground, &text);
    for _ in 0..5 {
        house.tls("imap").expect("* OK");
    }
    assert!(first.connections() >= 5);
    // Learning may ask every address; sessions go to the first that answers.
    let learnt = second.connections();
    assert!(learnt <= 1, "{learnt}");
    drop(first);
    within(Duration::from_secs(10), "the second address is used", || {
        let mut wire = house.tls("imap");
        wire.try_line().ok().flatten().filter(|line| line.starts_with("* OK"))
    });
    assert!(second.connections() > learnt);
}

#[test]
fn a_service_on_a_unix_socket_is_reached() {
    let ground = Ground::new();
    let pki = mail_certificate(&ground);
    let _dovecot = Dovecot::start(&ground, &pki);
    let _door = Door::start(
        &ground,
        &format!(
            "{CERTIFICATE}[server.listener.lmtp]\nprotocol = \"lmtp\"\nbind = \"<lmtp>\"\nupstream = \"dovecot\"\n\
             [upstream.dovecot]\naddress = \"unix:<dir>/dovecot/run/lmtp\"\n"
        ),
    );
    let mut wire = Wire::connect(ground.addr("lmtp"));
    wire.reply("220");
    wire.say("LHLO me.test").reply("250");
    wire.say("STARTTLS").reply("220");
    let mut wire = wire.tls(&pki.client("mail.example.test"));
    wire.say("LHLO me.test").reply("250");
    wire.say("MAIL FROM:<>").reply("250");
    wire.say("RCPT TO:<alice@example.test>").reply("250");
}

#[test]
fn addresses_of_both_families_and_names_are_dialled() {
    let ground = Ground::new();
    let _store = Fake::imap(&ground, "imap-behind", |_| ());
    let text = imaps("imap").replace("<imap-behind>", "localhost:<imap-behind:port>");
    let house = House::new(ground, &text);
    house.tls("imap").expect("* OK");
    let to: SocketAddr = house.ground.addr("imap");
    assert!(to.is_ipv4());
    let _ = &house.pki;
}

#[test]
fn a_client_that_does_not_read_costs_no_memory_and_an_idle_one_outlives_the_handshakes_timeout() {
    let ground = Ground::new();
    static SENT: AtomicUsize = AtomicUsize::new(0);
    let _web = Fake::start(&ground, "web", |wire| {
        let mut socket = wire.socket();
        while socket.write_all(&[b'x'; 65_536]).is_ok() {
            SENT.fetch_add(65_536, Ordering::SeqCst);
        }
    });
    let _store = Fake::imap(&ground, "imap-behind", |_| ());
    let house = House::new(ground, &format!("[server.tls]\ntimeout = \"1s\"\n{HTTP}{}", imaps("imap")));
    let mut idle = house.tls("imap");
    idle.expect("* OK");
    let before = house.door.resident_kib();
    let deaf: Vec<Wire> = (0..20).map(|_| house.tls("https")).collect();
    std::thread::sleep(Duration::from_secs(3));
    let sent = SENT.load(Ordering::SeqCst);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(SENT.load(Ordering::SeqCst), sent, "the service is held back");
    let grown = house.door.resident_kib().saturating_sub(before);
    println!("{grown} KiB for 20 clients that do not read, {} MiB under way in the kernel", sent / MIB);
    assert!(grown < 20 * 256, "{grown} KiB");
    idle.say("a NOOP").expect("a OK");
    drop(deaf);
}

#[test]
fn http_in_clear_is_handed_through_and_check_says_so() {
    let ground = Ground::new();
    let _web = Fake::start(&ground, "web", |mut wire| {
        let Ok(Some(asked)) = wire.try_line() else { return };
        wire.until("");
        wire.say("HTTP/1.1 200 OK")
            .say("Content-Length: 4")
            .say("Connection: close")
            .say("")
            .send(&asked[..4]);
        wire.finish();
    });
    let text = HTTP.to_owned()
        + "[server.listener.plain]\nprotocol = \"http\"\nbind = \"<plain>\"\nupstream = \"web\"\n";
    let house = House::new(ground, &text);
    let ca = house.pki.ca_path();
    for url in [
        format!("https://{}/x", house.ground.addr("https")),
        format!("http://{}/x", house.ground.addr("plain")),
    ] {
        let got = waxseal_e2e::run("curl", &["-sS", "--http1.1", "--cacert", ca, &url]).ok();
        assert_eq!(got.out, "GET ", "{url}");
    }
    let file = house.ground.path("waxseal.toml");
    let checked = waxseal(&["check", "--config", file.to_str().expect("utf-8")]).ok();
    let line = checked.out.lines().find(|line| line.contains("plain")).expect("the listener").to_owned();
    assert!(line.to_lowercase().contains("clear"), "{line}");
}
