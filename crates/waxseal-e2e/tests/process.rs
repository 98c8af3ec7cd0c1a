//! The life of the process: reload, end, privileges, limits, and whatever the network throws at its ports.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use waxseal_e2e::{CERTIFICATE, Door, Fake, Ground, Pki, SClient, Wire, mail_certificate, waxseal};

/// A door before fakes of SMTP and IMAP; `more` stands at the end of its configuration.
struct House {
    door: Door,
    ground: Ground,
    pki: Pki,
    _behind: [Fake; 2],
}

const LISTENERS: &str = r#"
[upstream.mta]
address = "<mta>"
[upstream.store]
address = "<store>"
[server.listener.smtp]
protocol = "smtp"
bind = "<smtp>"
upstream = "mta"
[server.listener.submission]
protocol = "submission"
bind = "<submission>"
upstream = "mta"
[server.listener.lmtp]
protocol = "lmtp"
bind = "<lmtp>"
upstream = "mta"
[server.listener.imap]
protocol = "imap"
bind = "<imap>"
upstream = "store"
[server.listener.imaps]
protocol = "imap"
bind = "<imaps>"
upstream = "store"
tls.implicit = true
[server.listener.submissions]
protocol = "submission"
bind = "<submissions>"
upstream = "mta"
tls.implicit = true
"#;

impl House {
    fn new(more: &str) -> Self {
        let ground = Ground::new();
        let pki = mail_certificate(&ground);
        let behind = [smtp_with_data(&ground), Fake::imap(&ground, "store", |_| ())];
        let door = Door::start(&ground, &configuration(more));
        Self { door, ground, pki, _behind: behind }
    }

    fn imaps(&self) -> Wire {
        let wire = Wire::connect(self.ground.addr("imaps"));
        let mut wire = wire.tls(&self.pki.client("mail.example.test"));
        wire.expect("* OK");
        wire
    }

    fn submissions(&self) -> Wire {
        let wire = Wire::connect(self.ground.addr("submissions"));
        let mut wire = wire.tls(&self.pki.client("mail.example.test"));
        wire.reply("220");
        wire.say("EHLO me.test").reply("250");
        wire
    }

    fn serves(&self) {
        self.imaps().say("a NOOP").expect("a OK");
        self.submissions().say("NOOP").expect("250");
    }
}

fn configuration(more: &str) -> String {
    format!("{CERTIFICATE}{LISTENERS}{more}\n")
}

/// An SMTP service that takes messages.
fn smtp_with_data(ground: &Ground) -> Fake {
    Fake::start(ground, "mta", |mut wire| {
        wire.say("220 behind.test ESMTP");
        let mut in_data = false;
        while let Ok(Some(line)) = wire.try_line() {
            let verb = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
            let answer = match verb.as_str() {
                "." => {
                    in_data = false;
                    "250 2.0.0 Taken"
                }
                _ if in_data => continue,
                "EHLO" | "LHLO" => "250-behind.test\r\n250-PIPELINING\r\n250 AUTH PLAIN",
                "DATA" => {
                    in_data = true;
                    "354 Go on"
                }
                "QUIT" => "221 2.0.0 Bye",
                _ => "250 2.0.0 Ok",
            };
            if wire.try_send(format!("{answer}\r\n").as_bytes()).is_err() || verb == "QUIT" {
                return;
            }
        }
    })
}

const EXTRA: &str = r#"
[server.listener.extra]
protocol = "imap"
bind = "<extra>"
upstream = "store"
tls.implicit = true
"#;

#[test]
fn a_reload_adds_removes_and_changes_listeners_and_sessions_keep_what_they_began_with() {
    let house = House::new("");
    let mut held = house.imaps();
    let mut removed = Wire::connect(house.ground.addr("imap"));
    removed.expect("* OK");
    let without_imap = configuration(EXTRA).replace(
        "[server.listener.imap]\nprotocol = \"imap\"\nbind = \"<imap>\"\nupstream = \"store\"\n",
        "",
    );
    let changed = without_imap.replace(
        "bind = \"<imaps>\"\nupstream = \"store\"\n",
        "bind = \"<imaps>\"\nupstream = \"store\"\ntls.disable-protocols = [\"TLSv1.3\"]\n",
    );
    assert_ne!(without_imap, changed);
    house.door.reload(&house.ground, &changed);
    house.door.wait_log("in force");
    let mut wire = Wire::connect(house.ground.addr("extra")).tls(&house.pki.client("mail.example.test"));
    wire.expect("* OK");
    let seen = SClient::new(house.ground.addr("imaps")).run().done();
    assert_eq!(seen.version.as_deref(), Some("TLSv1.2"));
    waxseal_e2e::eventually("the removed listener is gone", || {
        std::net::TcpStream::connect(house.ground.addr("imap")).is_err().then_some(())
    });
    held.say("a NOOP").expect("a OK");
    removed.say("a CAPABILITY").until("a OK");
    house.serves();
}

#[test]
fn a_wrong_configuration_is_refused_whole_on_reload() {
    let mut house = House::new("");
    let mut held = house.imaps();
    for (wrong, word) in [
        (format!("{}\n[server.tls]\ndisable-ciphers = [\"NONSENSE\"]\n", configuration(EXTRA)), "NONSENSE"),
        (configuration(EXTRA).replace("upstream = \"mta\"", "upstream = \"absent\""), "absent"),
        ("this is no TOML".to_owned(), "waxseal.toml"),
    ] {
        let before = house.door.count(&["stays as it was"]);
        house.door.reload(&house.ground, &wrong);
        waxseal_e2e::eventually("the refusal", || {
            (house.door.count(&["stays as it was"]) > before).then_some(())
        });
        assert!(house.door.log().contains(word), "{}", house.door.log());
        assert!(
            std::net::TcpStream::connect(house.ground.addr("extra")).is_err(),
            "nothing of it is in force"
        );
        held.say("a NOOP").expect("a OK");
        house.serves();
    }
    assert!(house.door.lives());
}

#[test]
fn a_reload_that_asks_for_a_port_in_use_changes_nothing() {
    let house = House::new("");
    let taken = TcpListener::bind(house.ground.addr("extra")).expect("bind");
    let text = format!("{}\n[server.tls]\ndisable-protocols = [\"TLSv1.3\"]\n", configuration(EXTRA));
    house.door.reload(&house.ground, &text);
    house.door.wait_log("stays as it was");
    let seen = SClient::new(house.ground.addr("imaps")).run().done();
    assert_eq!(seen.version.as_deref(), Some("TLSv1.3"));
    drop(taken);
    house.door.reload(&house.ground, &text);
    house.door.wait_log("in force");
    let seen = SClient::new(house.ground.addr("extra")).run().done();
    assert_eq!(seen.version.as_deref(), Some("TLSv1.2"));
}

#[test]
fn told_to_stop_it_says_goodbye_in_each_protocol_and_ends_well() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut house = House::new("");
        let (mut imap, mut smtp) = (house.imaps(), house.submissions());
        let mut clear = Wire::connect(house.ground.addr("imap"));
        clear.expect("* OK");
        house.door.signal(signal);
        let said = |wire: &mut Wire| String::from_utf8_lossy(&wire.ended()).into_owned();
        assert!(said(&mut imap).starts_with("* BYE"), "IMAP in TLS");
        assert!(said(&mut smtp).starts_with("421"), "SMTP in TLS");
        assert!(said(&mut clear).starts_with("* BYE"), "IMAP before TLS");
        let status = house.door.wait_exit();
        assert!(status.success(), "{status}");
    }
}

#[test]
fn a_message_on_its_way_may_end_before_the_door_closes() {
    let mut house = House::new("");
    let mut wire = house.submissions();
    wire.say("MAIL FROM:<a@b.test>").reply("250");
    wire.say("RCPT TO:<b@b.test>").reply("250");
    wire.say("DATA").reply("354");
    wire.say("Subject: on its way").say("").say("Text.");
    house.door.signal(Signal::SIGTERM);
    waxseal_e2e::eventually("no new connections", || {
        std::net::TcpStream::connect(house.ground.addr("submissions")).is_err().then_some(())
    });
    std::thread::sleep(Duration::from_secs(1));
    wire.say("More text.").say(".").reply("250");
    let rest = String::from_utf8_lossy(&wire.ended()).into_owned();
    assert!(rest.is_empty() || rest.starts_with("421"), "{rest}");
    assert!(house.door.wait_exit().success());
}

#[test]
fn rights_are_dropped_after_binding_and_reading_keys() {
    let house = House::new("[server.run-as]\nuser = \"nobody\"\ngroup = \"nogroup\"\n");
    // mail.key is for root only.
    house.serves();
    let status = house.door.proc_file("status");
    for line in ["Uid:\t65534\t65534\t65534\t65534", "Gid:\t65534\t65534\t65534\t65534"] {
        assert!(status.contains(line), "{status}");
    }
    let groups = status.lines().find(|line| line.starts_with("Groups:")).expect("groups");
    assert!(!groups.split_whitespace().any(|group| group == "0"), "{groups}");
    for task in std::fs::read_dir(format!("/proc/{}/task", house.door.pid())).expect("tasks").flatten() {
        let status = std::fs::read_to_string(task.path().join("status")).expect("status");
        assert!(status.contains("Uid:\t65534\t65534\t65534\t65534"), "every thread: {status}");
    }
}

#[test]
fn a_port_in_use_is_refused_with_the_name_of_who_holds_it() {
    let ground = Ground::new();
    let _pki = mail_certificate(&ground);
    let _taken = TcpListener::bind(ground.addr("imaps")).expect("bind");
    let file = ground.write("waxseal.toml", &configuration(""));
    let finished = waxseal(&["serve", "--config", file.to_str().expect("utf-8")]);
    assert_eq!(finished.status.code(), Some(1), "{}", finished.all());
    for word in [ground.addr("imaps").to_string(), std::process::id().to_string()] {
        assert!(finished.all().contains(&word), "{word} in {}", finished.all());
    }
}

/// Bytes that no test chose, the same at every run (xorshift).
struct Noise(u64);

impl Noise {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut next = || {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0.to_le_bytes()[0]
        };
        (0..count).map(|_| next()).collect()
    }
}

#[test]
fn garbage_on_every_port_hurts_nobody() {
    let mut house = House::new("[server.tls]\ntimeout = \"2s\"\n");
    let mut held = house.imaps();
    let mut noise = Noise(0x5eed);
    let hello = house.pki.client("mail.example.test").hello();
    let mut flipped = hello.clone();
    for (at, byte) in noise.bytes(40).into_iter().enumerate() {
        flipped[6 + at * 7 % (hello.len() - 6)] ^= byte;
    }
    let loads: Vec<Vec<u8>> = vec![
        noise.bytes(1),
        noise.bytes(700),
        noise.bytes(100_000),
        vec![0; 100_000],
        vec![b'\n'; 50_000],
        vec![b'a'; 200_000],
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        hello[..hello.len() / 2].to_vec(),
        flipped,
        [&[0x16, 0x03, 0x01, 0x40, 0x00][..], &noise.bytes(0x4000)].concat(),
        b"EHLO \xff\xfe\r\nNOOP\r\n\x00\r\n".to_vec(),
        b"a {99999999999}\r\nb LOGIN {3}\r\n".to_vec(),
    ];
    let before = house.door.resident_kib();
    for name in ["smtp", "submission", "lmtp", "imap", "imaps", "submissions"] {
        for load in &loads {
            let mut wire = Wire::connect(house.ground.addr(name));
            let _ = wire.try_send(load);
            let _ = wire.ended_or_silent(Duration::from_millis(20));
        }
        for load in &loads {
            let mut wire = Wire::connect(house.ground.addr(name));
            wire.reply_or_nothing();
            let starttls: &[u8] = if name.starts_with("imap") { b"a STARTTLS\r\n" } else { b"STARTTLS\r\n" };
            let _ = wire.try_send(starttls);
            std::thread::sleep(Duration::from_millis(10));
            let _ = wire.try_send(load);
            let _ = wire.ended_or_silent(Duration::from_millis(20));
        }
    }
    // Inside TLS too.
    for load in &loads {
        let mut wire = house.imaps();
        let _ = wire.try_send(load);
        let _ = wire.ended_or_silent(Duration::from_millis(20));
        let mut wire = house.submissions();
        let _ = wire.try_send(load);
        let _ = wire.ended_or_silent(Duration::from_millis(20));
    }
    assert!(house.door.lives(), "{}", house.door.log());
    assert_eq!(house.door.count(&["panicked"]), 0, "{}", house.door.log());
    held.say("a NOOP").expect("a OK");
    house.serves();
    let after = house.door.resident_kib();
    assert!(after < before + 20 * 1024, "{before} KiB became {after} KiB");
}

#[test]
fn a_client_hello_on_a_starttls_port_is_answered_by_an_alert_and_explained_in_the_log() {
    const ALERT: u8 = 21;
    let house = House::new("");
    let hello = house.pki.client("mail.example.test").hello();
    for name in ["imap", "submission", "smtp"] {
        let mut wire = Wire::connect(house.ground.addr(name));
        wire.line();
        wire.send(&hello);
        let answer = wire.ended();
        assert_eq!(answer.first(), Some(&ALERT), "{name}: {}", String::from_utf8_lossy(&answer));
        house.door.wait_line(&[name, "STARTTLS"]);
    }
}

#[test]
fn cleartext_on_an_implicit_port_is_answered_in_words_and_explained_in_the_log() {
    let house = House::new("[server.tls]\ntimeout = \"2s\"\n");
    for (name, line, words) in [
        ("imaps", "a LOGIN alice secret", &["* BYE"][..]),
        ("submissions", "EHLO me.test", &["421", "554", "5"]),
    ] {
        let mut wire = Wire::connect(house.ground.addr(name));
        wire.say(line);
        let answer = String::from_utf8_lossy(&wire.ended()).into_owned();
        assert!(words.iter().any(|word| answer.starts_with(word)), "{name}: {answer}");
        assert!(answer.contains("TLS"), "{name}: {answer}");
        // A client that waits for a greeting hears the same when its time is over.
        let mut wire = Wire::connect(house.ground.addr(name));
        let start = Instant::now();
        let answer = String::from_utf8_lossy(&wire.ended()).into_owned();
        assert!(start.elapsed() < Duration::from_secs(6), "{name}");
        assert!(answer.contains("TLS"), "{name} after silence: {answer:?}");
        house.door.wait_line(&[name, "TLS"]);
    }
    assert!(!house.door.log().contains("secret"), "{}", house.door.log());
}

#[test]
fn a_full_listener_says_so_in_its_protocols_words() {
    let house = House::new("");
    let full = configuration("")
        .replace("upstream = \"mta\"\n", "upstream = \"mta\"\nmax-connections = 2\n")
        .replace("upstream = \"store\"\n", "upstream = \"store\"\nmax-connections = 2\n");
    house.door.reload(&house.ground, &full);
    house.door.wait_log("in force");
    for (name, greeting, words) in [
        ("smtp", "220", "421"),
        ("submission", "220", "421"),
        ("lmtp", "220", "421"),
        ("imap", "* OK", "* BYE"),
    ] {
        let mut held: Vec<Wire> = (0..2).map(|_| Wire::connect(house.ground.addr(name))).collect();
        for wire in &mut held {
            wire.expect(greeting);
        }
        let mut third = Wire::connect(house.ground.addr(name));
        third.expect(words);
        third.ended();
        held.pop();
        waxseal_e2e::eventually("a place is free again", || {
            Wire::connect(house.ground.addr(name)).line().starts_with(greeting).then_some(())
        });
    }
    let _first = (house.imaps(), house.imaps());
    let mut third = Wire::connect(house.ground.addr("imaps"));
    let answer = third.ended();
    assert!(answer.len() < 200, "{answer:?}");
    house.door.wait_line(&["imaps", "max-connections"]);
}

#[test]
fn one_line_at_the_end_of_a_session_tells_its_facts_and_no_secret() {
    let house = House::new("[log]\nformat = \"json\"\n");
    let mut wire = house.imaps();
    wire.say("a LOGIN alice@example.test topsecret").expect("a OK");
    wire.say("b LOGOUT").until("b OK");
    wire.ended();
    drop(wire);
    let line = house.door.wait_line(&["session ended"]);
    let json: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let text = json.to_string();
    for fact in [
        "imaps",
        "127.0.0.1",
        "mail.example.test",
        "TLSv1.3",
        "TLS13_AES_256_GCM_SHA384",
        "X25519MLKEM768",
        "store",
    ] {
        assert!(text.contains(fact), "{fact} in {text}");
    }
    for line in house.door.log().lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
        assert!(!line.contains("topsecret"), "{line}");
    }
}

#[test]
fn every_mistake_of_a_configuration_is_said_at_once_and_nothing_starts() {
    let ground = Ground::new();
    let _pki = mail_certificate(&ground);
    let text = configuration("[server.tls]\ntimeuot = \"1m\"\n[server.socket]\nbacklog = \"many\"\n")
        .replace("protocol = \"lmtp\"", "protocol = \"lmpt\"")
        .replace(
            "[upstream.mta]\naddress = \"<mta>\"",
            "[upstream.mta]\naddress = \"<mta>\"\nforwarding = \"proxy\"",
        );
    let file = ground.write("waxseal.toml", &text);
    let line_of = |words: &str| text.lines().position(|line| line.contains(words)).expect("line") + 1;
    for command in ["check", "serve"] {
        let finished = waxseal(&[command, "--config", file.to_str().expect("utf-8")]);
        assert_eq!(finished.status.code(), Some(1));
        let said = finished.all();
        for (words, hint) in [
            ("timeuot", "timeout"),
            ("backlog = ", "number"),
            ("\"lmpt\"", "lmtp"),
            ("forwarding = \"proxy\"", "proxy-v2"),
        ] {
            assert!(said.contains(&format!("waxseal.toml:{}:", line_of(words))), "{words}: {said}");
            assert!(said.contains(hint), "{words}: {said}");
        }
    }
    assert!(std::net::TcpStream::connect(ground.addr("imaps")).is_err());
}

#[test]
fn check_says_yes_to_what_serve_serves_and_shows_the_listeners() {
    let house = House::new("");
    let file = house.ground.path("waxseal.toml");
    let file = file.to_str().expect("utf-8");
    let checked = waxseal(&["check", "--config", file]).ok();
    for name in ["smtp", "submission", "lmtp", "imap", "imaps", "submissions"] {
        assert!(checked.out.contains(name), "{}", checked.all());
    }
    let shown = waxseal(&["show", "--config", file]).ok();
    assert!(shown.out.contains("built-in") && shown.out.contains("listener"), "{}", shown.all());
}

#[test]
fn it_works_as_the_first_process_of_a_container() {
    let ground = Ground::new();
    let pki = mail_certificate(&ground);
    let _behind = [smtp_with_data(&ground), Fake::imap(&ground, "store", |_| ())];
    let mut first = Door::spawn_in_namespace(&ground, &configuration(""));
    let mut wire = Wire::connect(ground.addr("imaps")).tls(&pki.client("mail.example.test"));
    wire.expect("* OK");
    first.stop_inside();
    assert!(String::from_utf8_lossy(&wire.ended()).starts_with("* BYE"));
    assert!(first.wait_exit().success());
}

#[test]
fn reloads_under_load_refuse_nobody() {
    let house = House::new("");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let served = std::thread::scope(|scope| {
        let loads: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut count = 0;
                    while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                        house.imaps().say("a NOOP").expect("a OK");
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        for number in 1..=10 {
            house.door.reload(&house.ground, &configuration(if number % 2 == 0 { "" } else { EXTRA }));
            waxseal_e2e::eventually("the reload", || {
                (house.door.count(&["in force"]) == number).then_some(())
            });
        }
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        loads.into_iter().map(|load| load.join().expect("every session was served")).sum::<usize>()
    });
    assert!(served > 20, "{served}");
}
