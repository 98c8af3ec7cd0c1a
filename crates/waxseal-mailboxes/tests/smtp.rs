//! SMTP, LMTP and submission, line by line.

mod support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use support::{Client, House, Leg, PASSWORD, Speak};
use waxseal_mailboxes::smtp::Kind;

const SMTP: Speak = Speak::Mail(Kind::Smtp);
const LMTP: Speak = Speak::Mail(Kind::Lmtp);
const SUBMISSION: Speak = Speak::Mail(Kind::Submission);

fn begin(house: &House, speak: Speak, leg: Leg) -> Client {
    let mut client = house.connect(speak, leg);
    client.expect(if matches!(speak, Speak::Mail(Kind::Lmtp)) { "LHLO there" } else { "EHLO there" }, "250");
    client
}

fn plain(name: &str, password: &str) -> String {
    format!("AUTH PLAIN {}", STANDARD.encode(format!("\0{name}\0{password}")))
}

#[test]
fn a_message_is_kept_byte_for_byte_below_what_is_added() {
    let house = House::new();
    let mut client = begin(&house, SMTP, Leg::Tls);
    client.expect("MAIL FROM:<carol@elsewhere.example> SIZE=100 BODY=8BITMIME", "250");
    client.expect("RCPT TO:<Info+list@Waxseal.TEST>", "250");
    client.expect("DATA", "354");
    client.expect("From: carol@elsewhere.example\r\n\r\n..dot\r\n\u{fc}ml\r\n.", "250 2.0.0");
    let [message] = &house.inbox("alice")[..] else { panic!() };
    let text = String::from_utf8(message.clone()).unwrap();
    assert!(text.starts_with("Return-Path: <carol@elsewhere.example>\r\nDelivered-To: alice@waxseal.test\r\nReceived: from there ([127.0.0.1])\r\n\tby mail.waxseal.test with ESMTPS tls TLS_AES_256_GCM_SHA384\r\n\t(TLS1.3) id "), "{text}");
    assert!(text.contains("\tfor <Info+list@Waxseal.TEST>; "));
    assert!(text.ends_with("\r\nFrom: carol@elsewhere.example\r\n\r\n.dot\r\n\u{fc}ml\r\n"));
}

#[test]
fn pipelined_commands_are_answered_in_order() {
    let house = House::new();
    let mut client = house.connect(SMTP, Leg::Clear);
    client.send("EHLO there\r\nMAIL FROM:<>\r\nRCPT TO:<alice@waxseal.test>\r\nRCPT TO:<nobody@waxseal.test>\r\nDATA\r\n");
    assert!(client.reply().contains("250-PIPELINING\n"));
    assert!(client.reply().starts_with("250 2.1.0"));
    assert!(client.reply().starts_with("250 2.1.5"));
    assert!(client.reply().starts_with("550 5.1.1"));
    assert!(client.reply().starts_with("354"));
    client.send("a\r\n.\r\nQUIT\r\n");
    assert!(client.reply().starts_with("250"));
    assert!(client.rest().starts_with("221"));
    assert!(String::from_utf8_lossy(&house.inbox("alice")[0]).contains(" with ESMTP id "));
}

#[test]
fn mail_for_elsewhere_is_refused_in_words_that_say_so() {
    let house = House::new();
    let mut client = begin(&house, SUBMISSION, Leg::Tls);
    client.expect(&plain("alice@waxseal.test", PASSWORD), "235");
    client.expect("MAIL FROM:<alice@waxseal.test>", "250");
    for there in [
        "x@elsewhere.example",
        "x%waxseal.test@elsewhere.example",
        "alice@waxseal.test.example",
        "a@[127.0.0.1]",
    ] {
        let refusal = client.expect(&format!("RCPT TO:<{there}>"), "550 5.7.1");
        assert!(refusal.contains("sends nothing to other servers"));
    }
    client.expect("RCPT TO:<@waxseal.test:x@elsewhere.example>", "550 5.7.1");
    client.expect("RCPT TO:<\"x@elsewhere.example\"@waxseal.test>", "550 5.1.1");
    client.expect("RCPT TO:<\"../bob\"@waxseal.test>", "550 5.1.1");
    client.expect("DATA", "503");
    client.expect("RCPT TO:<Postmaster>", "250");
}

#[test]
fn nothing_but_crlf_dot_crlf_ends_a_message() {
    let house = House::new();
    for end in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r.\r\n", "\r\n.\r", "\r\r\n.\r\r\n", "\n\n.\r\n"] {
        let mut client = begin(&house, SMTP, Leg::Clear);
        client.expect("MAIL FROM:<a@b.example>", "250");
        client.expect("RCPT TO:<alice@waxseal.test>", "250");
        client.expect("DATA", "354");
        client.send(format!(
            "Subject: one\r\n\r\nbody{end}MAIL FROM:<root@waxseal.test>\r\nRCPT TO:<alice@waxseal.test>\r\nDATA\r\nSubject: two\r\n\r\n.\r\nQUIT\r\n"
        ));
        let rest = client.rest();
        assert!(rest.starts_with("550 5.5.2") && rest.lines().count() == 1, "{end:?}: {rest}");
    }
    assert!(house.inbox("alice").is_empty());
}

#[test]
fn a_chunked_message_is_kept_and_one_with_a_bare_line_feed_is_not() {
    let house = House::new();
    let mut client = begin(&house, SMTP, Leg::Clear);
    for (chunks, kept) in
        [(["A: b\r\n\r\n.\r\n", "..\r\n", "end"], true), (["A: b\r\n\r\n", "x\n", ".\r\n"], false)]
    {
        client.expect("MAIL FROM:<a@b.example>", "250");
        client.expect("RCPT TO:<alice@waxseal.test>", "250");
        let [one, two, three] = chunks;
        client.send(format!(
            "BDAT {}\r\n{one}BDAT {}\r\n{two}BDAT {} LAST\r\n{three}",
            one.len(),
            two.len(),
            three.len()
        ));
        let replies = [client.reply(), client.reply(), client.reply()];
        if kept {
            assert!(replies.iter().all(|reply| reply.starts_with("250")), "{replies:?}");
        } else {
            assert!(replies[1].starts_with("550") && replies[2].starts_with("503"), "{replies:?}");
        }
    }
    let [message] = &house.inbox("alice")[..] else { panic!() };
    assert!(message.ends_with(b"\r\nA: b\r\n\r\n.\r\n..\r\nend\r\n"));
}

#[test]
fn lmtp_answers_for_each_recipient() {
    let house = House::new();
    let mut client = begin(&house, LMTP, Leg::Clear);
    client.expect("EHLO there", "500");
    client.expect("MAIL FROM:<a@b.example>", "250");
    for (to, reply) in [("bob", "250"), ("nobody", "550"), ("alice", "250"), ("info", "250")] {
        client.expect(&format!("RCPT TO:<{to}@waxseal.test>"), reply);
    }
    client.expect("DATA", "354");
    // More than Bob may keep.
    client.send(format!("A: b\r\n\r\n{}.\r\nNOOP\r\n", "0123456789\r\n".repeat(2000)));
    let replies: Vec<String> = (0..4).map(|_| client.reply()).collect();
    let codes: Vec<&str> = replies.iter().map(|reply| &reply[..9]).collect();
    assert_eq!(codes, ["452 4.2.2", "250 2.0.0", "250 2.0.0", "250 2.0.0"]);
    assert_eq!((house.inbox("bob").len(), house.inbox("alice").len()), (0, 1));
    client.expect("MAIL FROM:<a@b.example> SIZE=30000", "250");
    client.expect("RCPT TO:<bob@waxseal.test>", "452 4.2.2");
}

#[test]
fn what_is_too_much_is_refused_and_the_session_lives_on() {
    let house = House::new();
    let mut client = begin(&house, SMTP, Leg::Clear);
    client.expect(&format!("MAIL FROM:<a@b.example> SIZE={}", house.site.max_message + 1), "552 5.3.4");
    client.expect(&format!("NOOP {}", "x".repeat(10_000)), "500 5.5.2");
    client.expect("MAIL FROM:<a@b.example>", "250");
    client.expect("MAIL FROM:<a@b.example>", "503");
    client.expect("RCPT TO:<alice@waxseal.test>", "250");
    client.expect("DATA", "354");
    client.send("Received: x\r\n".repeat(101));
    client.expect("\r\nbody\r\n.", "554 5.4.6");
    client.expect("MAIL FROM:<\u{fc}@b.example>", "550 5.6.7");
    client.expect("MAIL FROM:<\u{fc}@b.example> SMTPUTF8", "250");
    client.expect("RSET", "250");
    assert!(house.inbox("alice").is_empty());
}

#[test]
fn a_large_message_is_kept_whole_and_one_larger_than_allowed_is_not() {
    let house = House::new();
    let mut client = begin(&house, SMTP, Leg::Clear);
    let line = format!("{}\r\n", "x".repeat(998));
    for (megabytes, reply) in [(3, "250"), (53, "552 5.3.4")] {
        client.expect("MAIL FROM:<a@b.example>", "250");
        client.expect("RCPT TO:<alice@waxseal.test>", "250");
        client.expect("DATA", "354");
        client.send("Subject: large\r\n\r\n");
        for _ in 0..megabytes {
            client.send(line.repeat(1 << 10));
        }
        client.expect("end\r\n.", reply);
    }
    client.expect("NOOP", "250");
    let [message] = &house.inbox("alice")[..] else { panic!() };
    let body = format!("Subject: large\r\n\r\n{}end\r\n", line.repeat(3 << 10));
    assert!(message.ends_with(body.as_bytes()));
    assert_eq!(std::fs::read_dir(house.dir.path().join("mail/.spool")).unwrap().count(), 0);
}

#[test]
fn recipients_are_limited() {
    let house = House::new();
    let mut client = begin(&house, SMTP, Leg::Clear);
    client.expect("MAIL FROM:<a@b.example>", "250");
    for n in 0..1000 {
        client.expect(&format!("RCPT TO:<alice+{n}@waxseal.test>"), "250");
    }
    client.expect("RCPT TO:<alice@waxseal.test>", "452 4.5.3");
    client.expect("DATA", "354");
    client.expect("x\r\n.", "250");
    assert_eq!(house.inbox("alice").len(), 1);
}

#[test]
fn who_guesses_is_sent_away_and_an_old_mailing_list_is_not() {
    let house = House::new();
    let mut client = begin(&house, SMTP, Leg::Clear);
    client.expect("MAIL FROM:<a@b.example>", "250");
    for n in 0..199 {
        client.expect(&format!("RCPT TO:<guess{n}@waxseal.test>"), "550 5.1.1");
    }
    client.expect("RCPT TO:<alice@waxseal.test>", "250");
    client.expect("RCPT TO:<guess@waxseal.test>", "550 5.1.1");
    assert!(client.rest().starts_with("421 4.7.0"));
    let mut client = begin(&house, SMTP, Leg::Clear);
    (0..20).for_each(|_| drop(client.expect("NONSENSE", "500")));
    assert!(client.rest().starts_with("421 4.7.0"));
}

#[test]
fn submission_takes_own_senders_only_and_adds_what_is_missing() {
    let house = House::new();
    let mut client = begin(&house, SUBMISSION, Leg::Tls);
    client.expect("MAIL FROM:<alice@waxseal.test>", "530 5.7.0");
    client.expect(&plain("alice@waxseal.test", PASSWORD), "235");
    client.expect("MAIL FROM:<bob@waxseal.test>", "550 5.7.1");
    for (from, reply) in
        [("info@waxseal.test", "250"), ("bob@waxseal.test", "550 5.7.1"), ("not an address", "550 5.7.1")]
    {
        client.expect("MAIL FROM:<alice+x@waxseal.test>", "250");
        client.expect("RCPT TO:<bob@waxseal.test>", "250");
        client.expect("DATA", "354");
        client.expect(&format!("From: Alice <{from}>\r\n\r\nhi\r\n."), reply);
    }
    let [message] = &house.inbox("bob")[..] else { panic!() };
    let text = String::from_utf8(message.clone()).unwrap();
    assert!(text.contains(" with ESMTPSA tls TLS_AES_256_GCM_SHA384\r\n"));
    assert!(text.contains("\r\nDate: ") && text.contains("\r\nMessage-ID: <"));
}

#[test]
fn passwords_are_taken_in_either_manner_inside_tls_only() {
    let house = House::new();
    let mut clear = begin(&house, SUBMISSION, Leg::Clear);
    assert!(!clear.say("EHLO there").contains("AUTH"));
    clear.expect(&plain("alice@waxseal.test", PASSWORD), "538 5.7.11");
    let mut other = begin(&house, SMTP, Leg::Tls);
    other.expect(&plain("alice@waxseal.test", PASSWORD), "502");

    let mut client = begin(&house, SUBMISSION, Leg::Tls);
    assert!(client.say("EHLO there").contains("AUTH PLAIN LOGIN"));
    client.expect("AUTH LOGIN", "334 VXNlcm5hbWU6");
    client.expect("*", "501");
    client.expect(&plain("alice@waxseal.test", "wrong"), "535 5.7.8");
    client.expect(&plain("nobody@waxseal.test", PASSWORD), "535 5.7.8");
    client.expect("AUTH LOGIN", "334 VXNlcm5hbWU6");
    client.expect(&STANDARD.encode("info@waxseal.test"), "334 UGFzc3dvcmQ6");
    client.expect(&STANDARD.encode(PASSWORD), "235");
    client.expect("AUTH PLAIN", "503");
    let mut client = begin(&house, SUBMISSION, Leg::Tls);
    client.expect("AUTH PLAIN", "334");
    client.expect(&STANDARD.encode(format!("\0alice@waxseal.test\0{PASSWORD}")), "235");
}

/// The disk is a small one, and really full.
#[test]
fn a_full_disk_is_a_452_and_nothing_half_is_kept() {
    struct Disk(tempfile::TempDir);
    impl Drop for Disk {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount").arg(self.0.path()).status();
        }
    }
    let disk = Disk(tempfile::tempdir().unwrap());
    let mut mount = std::process::Command::new("mount");
    let mounted = mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(disk.0.path()).status().unwrap();
    assert!(mounted.success(), "this test needs the right to mount a file system");
    support::add_account(disk.0.path(), "alice", &[], None);
    let site = support::site(disk.0.path());
    let mut client = Client::new(support::listen(site, SMTP, Leg::Clear));
    client.expect("EHLO there", "250");
    for (lines, reply) in [(10, "250"), (100_000, "452 4.3.1"), (20, "250")] {
        client.expect("MAIL FROM:<a@b.example>", "250");
        client.expect("RCPT TO:<alice@waxseal.test>", "250");
        client.expect("DATA", "354");
        client.send("0123456789abcdef\r\n".repeat(lines));
        client.expect(".", reply);
    }
    let inbox = support::inbox(&disk.0.path().join("mail/waxseal.test/alice"));
    assert_eq!(inbox.len(), 2);
    assert!(inbox.iter().all(|message| message.ends_with(b"abcdef\r\n")));
}
