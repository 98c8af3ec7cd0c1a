//! Bytes sent in clear that are meant to be taken for bytes sent inside TLS, on both legs, and what a client may
//! not say inside TLS.

mod behind;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use behind::{Behind, Mischief};
use waxseal_e2e::{CERTIFICATE, Door, Fake, Ground, Pki, Wire, mail_certificate};

/// What a protocol says around STARTTLS.
struct Speech {
    protocol: &'static str,
    /// How the service's greeting ends.
    greeting: &'static str,
    /// Said before STARTTLS, and how the answer to it ends.
    hello: Option<(&'static str, &'static str)>,
    starttls: &'static str,
    go_ahead: &'static str,
    /// A command whose execution would be seen, and the start of its answer.
    injected: &'static str,
    answer: &'static str,
}

const SPEECHES: [Speech; 6] = [
    Speech {
        protocol: "smtp",
        greeting: "220 ",
        hello: Some(("EHLO me.test", "250 ")),
        starttls: "STARTTLS",
        go_ahead: "220",
        injected: "NOOP injected",
        answer: "250",
    },
    Speech {
        protocol: "submission",
        greeting: "220 ",
        hello: Some(("EHLO me.test", "250 ")),
        starttls: "STARTTLS",
        go_ahead: "220",
        injected: "RSET",
        answer: "250",
    },
    Speech {
        protocol: "lmtp",
        greeting: "220 ",
        hello: Some(("LHLO me.test", "250 ")),
        starttls: "STARTTLS",
        go_ahead: "220",
        injected: "NOOP",
        answer: "250",
    },
    Speech {
        protocol: "imap",
        greeting: "* OK",
        hello: None,
        starttls: "a STARTTLS",
        go_ahead: "a OK",
        injected: "b NOOP",
        answer: "b OK",
    },
    Speech {
        protocol: "pop3",
        greeting: "+OK",
        hello: None,
        starttls: "STLS",
        go_ahead: "+OK",
        injected: "CAPA",
        answer: "+OK",
    },
    Speech {
        protocol: "managesieve",
        greeting: "OK",
        hello: None,
        starttls: "STARTTLS",
        go_ahead: "OK",
        injected: "NOOP \"injected\"",
        answer: "OK (TAG",
    },
];

impl Speech {
    fn greeted(&self, ground: &Ground) -> Wire {
        let mut wire = Wire::connect(ground.addr(self.protocol));
        self.greet(&mut wire);
        wire
    }

    fn greet(&self, wire: &mut Wire) {
        wire.until(self.greeting);
        if let Some((hello, answer)) = self.hello {
            wire.say(hello).until(answer);
        }
    }
}

struct House {
    door: Door,
    pki: Pki,
    ground: Ground,
    behind: Vec<(Arc<Behind>, Fake)>,
}

/// A door with a STARTTLS listener for each protocol; `leg` stands in each upstream's `tls`.
fn house(leg: &str) -> House {
    let ground = Ground::new();
    let pki = mail_certificate(&ground);
    let mut text = CERTIFICATE.to_owned();
    let mut behind = Vec::new();
    for speech in &SPEECHES {
        let name = speech.protocol;
        text.push_str(&format!(
            "[server.listener.{name}]\nprotocol = \"{name}\"\nbind = \"<{name}>\"\nupstream = \"{name}\"\n\
             [upstream.{name}]\naddress = \"<{name}-behind>\"\n[upstream.{name}.tls]\n{leg}\n"
        ));
        let service = Arc::new(Behind::default());
        let fake = service.start(&ground, &format!("{name}-behind"), name, &pki);
        behind.push((service, fake));
    }
    let door = Door::start(&ground, &text);
    House { door, pki, ground, behind }
}

const STARTTLS_LEG: &str =
    "mode = \"starttls\"\nca = \"%{file:<dir>/ca.pem}%\"\nserver-name = \"behind.test\"";

/// The session has ended, and nothing in its last words answers the injected command.
fn ended_unanswered(speech: &Speech, mut wire: Wire, case: &str) {
    let rest = String::from_utf8_lossy(&wire.ended()).into_owned();
    let mut lines: Vec<&str> = rest.lines().collect();
    if lines.first().is_some_and(|line| line.starts_with(speech.go_ahead)) {
        lines.remove(0);
    }
    let answered = lines.iter().any(|line| line.starts_with(speech.answer));
    assert!(!answered, "{} {case}: {rest}", speech.protocol);
}

#[test]
fn a_command_in_the_segment_of_starttls_ends_the_session_and_is_counted() {
    let house = house("");
    for speech in &SPEECHES {
        let mut wire = speech.greeted(&house.ground);
        wire.send(format!("{}\r\n{}\r\n", speech.starttls, speech.injected));
        let rest = String::from_utf8_lossy(&wire.ended()).into_owned();
        assert!(!rest.starts_with(speech.go_ahead), "no go-ahead for injected bytes: {rest}");
        assert!(!rest.contains(speech.answer) || speech.answer == speech.go_ahead, "{rest}");
        house.door.wait_line(&[speech.protocol, "injection"]);
    }
    for (behind, _) in &house.behind {
        assert!(!behind.heard().iter().any(|line| line.contains("njected")), "{:?}", behind.heard());
    }
}

#[test]
fn a_client_hello_in_the_segment_of_starttls_is_an_injection_too() {
    let house = house("");
    let hello = house.pki.client("mail.example.test").hello();
    for speech in &SPEECHES {
        let mut wire = speech.greeted(&house.ground);
        wire.send([format!("{}\r\n", speech.starttls).as_bytes(), &hello].concat());
        let rest = String::from_utf8_lossy(&wire.ended()).into_owned();
        assert!(!rest.starts_with(speech.go_ahead), "{}: {rest}", speech.protocol);
    }
}

#[test]
fn a_command_right_behind_starttls_is_never_executed() {
    let house = house("");
    for speech in &SPEECHES {
        for pause in [0, 1, 5] {
            let mut wire = speech.greeted(&house.ground);
            wire.say(speech.starttls);
            std::thread::sleep(Duration::from_millis(pause));
            let _ = wire.try_send(format!("{}\r\n", speech.injected).as_bytes());
            ended_unanswered(speech, wire, "right behind");
        }
    }
}

#[test]
fn a_command_behind_starttls_is_never_executed_however_the_bytes_are_split() {
    let house = house("");
    let tls = house.pki.client("mail.example.test");
    for speech in &SPEECHES {
        let bytes = format!("{}\r\n{}\r\n", speech.starttls, speech.injected);
        for split in 1..bytes.len() {
            let mut wire = speech.greeted(&house.ground);
            wire.send(&bytes[..split]);
            std::thread::sleep(Duration::from_millis(3));
            let _ = wire.try_send(&bytes.as_bytes()[split..]);
            ended_unanswered(speech, wire, &format!("split at {split}"));
        }
        // And without anything injected, STARTTLS in single bytes is STARTTLS.
        let mut wire = speech.greeted(&house.ground);
        for byte in format!("{}\r\n", speech.starttls).bytes() {
            wire.send([byte]);
        }
        wire.expect(speech.go_ahead);
        let _ = wire.tls(&tls);
    }
}

#[test]
fn starttls_ended_by_a_bare_lf_is_not_starttls() {
    let house = house("");
    for speech in &SPEECHES {
        // What the door says when it does go ahead.
        let go_ahead = speech.greeted(&house.ground).say(speech.starttls).expect(speech.go_ahead);
        for bytes in [
            format!("{}\n", speech.starttls),
            format!("{}\n{}\r\n", speech.starttls, speech.injected),
            format!("{}\r{}\r\n", speech.starttls, speech.injected),
            format!("{}\r\n{}\n", speech.starttls, speech.injected),
        ] {
            let mut wire = speech.greeted(&house.ground);
            wire.send(&bytes);
            wire.finish();
            let rest = String::from_utf8_lossy(&wire.ended()).into_owned();
            assert!(!rest.lines().any(|line| line == go_ahead), "{} {bytes:?}: {rest}", speech.protocol);
            // An answer there is, unless it is an injection: silence would leave an honest client puzzled.
            let injection = bytes.contains("\r\n") && bytes.starts_with(&format!("{}\r\n", speech.starttls));
            assert!(injection || !rest.is_empty(), "{} {bytes:?}", speech.protocol);
        }
    }
}

#[test]
fn legitimate_small_talk_in_one_segment_with_starttls_before_it_is_served() {
    let house = house("");
    let tls = house.pki.client("mail.example.test");
    for (protocol, bytes, answers) in [
        ("smtp", "NOOP\r\nSTARTTLS\r\n", &["250", "220"][..]),
        ("imap", "a NOOP\r\nb starttls\r\n", &["a OK", "b OK"]),
        ("pop3", "CAPA\r\nSTLS\r\n", &["+OK", "+OK"]),
        ("managesieve", "NOOP\r\nSTARTTLS\r\n", &["OK", "OK"]),
    ] {
        let speech = SPEECHES.iter().find(|speech| speech.protocol == protocol).expect("protocol");
        let mut wire = speech.greeted(&house.ground);
        wire.send(bytes);
        wire.expect(answers[0]);
        if protocol == "pop3" {
            wire.until(".");
        }
        wire.expect(answers[1]);
        let _ = wire.tls(&tls);
    }
}

#[test]
fn before_tls_no_byte_of_a_client_reaches_the_service() {
    let house = house("");
    // What was said to learn what the services offer.
    std::thread::sleep(Duration::from_millis(300));
    let learnt: Vec<_> =
        house.behind.iter().map(|(behind, fake)| (behind.heard(), fake.connections())).collect();
    for speech in &SPEECHES {
        let mut wire = speech.greeted(&house.ground);
        wire.say(speech.injected).expect(speech.answer.split(' ').next().expect("a word"));
        wire.say(speech.starttls);
        let _ = wire.ended_or_silent(Duration::from_millis(100));
    }
    for ((behind, fake), (heard, connections)) in house.behind.iter().zip(learnt) {
        assert_eq!((behind.heard(), fake.connections()), (heard, connections));
    }
}

#[test]
fn inside_tls_starttls_is_not_offered_and_refused_by_the_door() {
    let house = house("");
    let tls = house.pki.client("mail.example.test");
    for speech in &SPEECHES {
        let mut wire = speech.greeted(&house.ground);
        wire.say(speech.starttls).expect(speech.go_ahead);
        let mut wire = wire.tls(&tls);
        let offered = match speech.protocol {
            "imap" => wire.say("c CAPABILITY").until("c OK"),
            "pop3" => wire.say("CAPA").until("."),
            "managesieve" => wire.until("OK"),
            _ => wire.say(speech.hello.expect("hello").0).until("250 "),
        };
        let offered = offered.join("\n");
        assert!(!offered.contains("STARTTLS") && !offered.contains("STLS"), "{}: {offered}", speech.protocol);
        let refusal = match speech.protocol {
            "imap" => "a BAD",
            "pop3" => "-ERR",
            "managesieve" => "NO",
            _ => "503",
        };
        wire.say(speech.starttls).expect(refusal);
        // And the session goes on.
        wire.say(speech.injected).expect(speech.answer.split(' ').next().expect("a word"));
    }
    for (behind, _) in &house.behind {
        let starttls = behind.heard().iter().any(|line| line.contains("STARTTLS") || line.contains("STLS"));
        assert!(!starttls, "{:?}", behind.heard());
    }
}

#[test]
fn inside_tls_a_client_may_not_introduce_itself_as_another() {
    let house = house("");
    let tls = house.pki.client("mail.example.test");
    for speech in &SPEECHES {
        let mut wire = speech.greeted(&house.ground);
        wire.say(speech.starttls).expect(speech.go_ahead);
        let mut wire = wire.tls(&tls);
        let refused = match speech.protocol {
            "imap" => ("x ID (\"x-originating-ip\" \"192.0.2.66\")", "x BAD"),
            "pop3" => ("XCLIENT ADDR=192.0.2.66", "-ERR"),
            "managesieve" => ("XCLIENT ADDR=192.0.2.66", "NO"),
            _ => ("XCLIENT ADDR=192.0.2.66", "5"),
        };
        if speech.protocol == "managesieve" {
            wire.until("OK");
        }
        wire.say(refused.0).expect(refused.1);
        if ["smtp", "submission", "lmtp"].contains(&speech.protocol) {
            wire.say("xforward ADDR=192.0.2.66").expect("5");
        }
    }
    for (behind, _) in &house.behind {
        assert!(!behind.heard().iter().any(|line| line.contains("192.0.2.66")), "{:?}", behind.heard());
    }
}

/// Implicit TLS at the door is not needed for this: the client's leg is good, the one behind is not.
fn refused_behind(house: &House, speech: &Speech, case: &str) {
    let mut wire = Wire::connect(house.ground.addr(speech.protocol));
    // The door may already know, or find out after the handshake: both are good, going on is not.
    let first = wire.line();
    let unreachable = ["421", "* BYE", "-ERR", "BYE"];
    if unreachable.iter().any(|word| first.starts_with(word)) {
        return;
    }
    if !first.starts_with(speech.greeting) {
        wire.until(speech.greeting);
    }
    if let Some((hello, answer)) = speech.hello {
        wire.say(hello).until(answer);
    }
    wire.say(speech.starttls).expect(speech.go_ahead);
    let mut wire = wire.tls(&house.pki.client("mail.example.test"));
    let _ = wire.try_send(b"FROMCLIENT FROMCLIENT\r\n");
    let rest = String::from_utf8_lossy(&wire.ended()).into_owned();
    assert!(!rest.contains("attacker"), "{} {case}: {rest}", speech.protocol);
    assert!(unreachable.iter().any(|word| rest.contains(word)), "{} {case}: {rest}", speech.protocol);
}

#[test]
fn words_injected_behind_the_services_answer_to_starttls_are_refused() {
    for mischief in [Mischief::SameSegment, Mischief::NextSegment] {
        let house = house(STARTTLS_LEG);
        for (speech, (behind, _)) in SPEECHES.iter().zip(&house.behind) {
            // While the service behaves, so does the door.
            let mut wire = speech.greeted(&house.ground);
            wire.say(speech.starttls).expect(speech.go_ahead);
            let mut wire = wire.tls(&house.pki.client("mail.example.test"));
            if speech.protocol == "managesieve" {
                wire.until("OK");
            }
            wire.say(speech.injected).expect(speech.answer.split(' ').next().expect("a word"));
            drop(wire);
            *behind.mischief.lock().expect("lock") = Some(mischief);
            refused_behind(&house, speech, &format!("{mischief:?}"));
            *behind.mischief.lock().expect("lock") = None;
        }
    }
}

#[test]
fn a_service_that_will_not_encrypt_is_never_spoken_to_in_clear() {
    for hides in [true, false] {
        let house = house(STARTTLS_LEG);
        for (speech, (behind, _)) in SPEECHES.iter().zip(&house.behind) {
            drop(speech.greeted(&house.ground));
            behind.hides_starttls.store(hides, Ordering::SeqCst);
            *behind.mischief.lock().expect("lock") = (!hides).then_some(Mischief::Refuses);
            refused_behind(&house, speech, if hides { "does not offer" } else { "refuses" });
            let mut clear = behind.heard();
            clear.retain(|line| line.contains("FROMCLIENT"));
            assert!(clear.is_empty(), "{}: {clear:?}", speech.protocol);
        }
    }
}

#[test]
fn a_service_down_from_the_start_for_its_starttls_makes_its_listener_unreachable() {
    let ground = Ground::new();
    let pki = mail_certificate(&ground);
    let service = Arc::new(Behind::default());
    service.hides_starttls.store(true, Ordering::SeqCst);
    let _fake = service.start(&ground, "behind", "imap", &pki);
    let door = Door::start(
        &ground,
        &format!(
            "{CERTIFICATE}[server.listener.imap]\nprotocol = \"imap\"\nbind = \"<imap>\"\nupstream = \"behind\"\n\
             [upstream.behind]\naddress = \"<behind>\"\n[upstream.behind.tls]\n{STARTTLS_LEG}\n"
        ),
    );
    Wire::connect(ground.addr("imap")).expect("* BYE [UNAVAILABLE]");
    door.wait_line(&["behind", "STARTTLS"]);
}

#[test]
fn what_only_looks_like_the_end_of_a_message_is_not_passed_on() {
    let ground = Ground::new();
    let pki = mail_certificate(&ground);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let inside = Arc::clone(&heard);
    let _mta = Fake::start(&ground, "mta", move |mut wire| {
        wire.say("220 behind.test ESMTP");
        while let Ok(Some(line)) = wire.try_line() {
            let answer = match line.split(' ').next() {
                Some("EHLO") => "250-behind.test\r\n250 PIPELINING",
                Some("DATA") => "354 Go on",
                _ => "250 2.0.0 Ok",
            };
            if wire.try_send(format!("{answer}\r\n").as_bytes()).is_err() {
                return;
            }
            if line == "DATA" {
                while let Ok(some) = wire.read_some() {
                    if some.is_empty() {
                        return;
                    }
                    inside.lock().expect("lock").extend(some);
                    if inside.lock().expect("lock").ends_with(b"\r\n.\r\n") {
                        let _ = wire.try_send(b"250 2.0.0 Taken\r\n");
                        break;
                    }
                }
            }
        }
    });
    let _door = Door::start(
        &ground,
        &format!(
            "{CERTIFICATE}[server.listener.mx]\nprotocol = \"smtp\"\nbind = \"<mx>\"\nupstream = \"mta\"\n\
             [upstream.mta]\naddress = \"<mta>\"\n"
        ),
    );
    for look_alike in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r"] {
        heard.lock().expect("lock").clear();
        let mut wire = Wire::connect(ground.addr("mx"));
        wire.reply("220");
        wire.say("EHLO me.test").reply("250");
        wire.say("STARTTLS").reply("220");
        let mut wire = wire.tls(&pki.client("mail.example.test"));
        wire.say("EHLO me.test").reply("250");
        wire.say("MAIL FROM:<a@a.test>").reply("250");
        wire.say("RCPT TO:<b@b.test>").reply("250");
        wire.say("DATA").reply("354");
        wire.send(format!("Subject: x\r\n\r\nText.{look_alike}MAIL FROM:<smuggled@a.test>\r\n.\r\n"));
        let answer = String::from_utf8_lossy(&wire.ended_or_silent(Duration::from_millis(500))).into_owned();
        let heard = String::from_utf8_lossy(&heard.lock().expect("lock")).into_owned();
        assert!(!heard.contains("smuggled"), "{look_alike:?}: {heard:?}, answered {answer:?}");
        assert!(answer.starts_with('5'), "{look_alike:?}: {answer:?}");
    }
}
