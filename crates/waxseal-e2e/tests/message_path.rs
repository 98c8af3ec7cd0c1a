//! A message on its whole way: submitted through the door, delivered, read back through the door; and what the
//! mail servers behind know of its sender and reader.

use std::net::{IpAddr, Ipv4Addr};

use waxseal_e2e::{
    CERTIFICATE, Door, Dovecot, Ground, Pki, Postfix, SClient, Wire, eventually, mail_certificate, python,
    run,
};

/// Addresses of this machine's that are not the door's own.
const SENDER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 5));
const READER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6));
/// base64 of \0alice@example.test\0secret
const ALICE: &str = "AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQ=";

const DOOR: &str = r#"
[server.listener.smtp]
protocol = "smtp"
bind = ["<smtp>", "[::1]:<smtp:port>"]
upstream = "postfix"

[server.listener.submission]
protocol = "submission"
bind = ["<submission>", "[::1]:<submission:port>"]
upstream = "postfix-submission"

[server.listener.submissions]
protocol = "submission"
bind = "<submissions>"
upstream = "postfix-submission"
tls.implicit = true

[server.listener.lmtp]
protocol = "lmtp"
bind = "<lmtp>"
upstream = "dovecot-lmtp"

[server.listener.imap]
protocol = "imap"
bind = ["<imap>", "[::1]:<imap:port>"]
upstream = "dovecot-imap"

[server.listener.imaps]
protocol = "imap"
bind = ["<imaps>", "[::1]:<imaps:port>"]
upstream = "dovecot-imap"
tls.implicit = true

[server.listener.pop3]
protocol = "pop3"
bind = "<pop3>"
upstream = "dovecot-pop3"

[server.listener.pop3s]
protocol = "pop3"
bind = "<pop3s>"
upstream = "dovecot-pop3"
tls.implicit = true

[server.listener.sieve]
protocol = "managesieve"
bind = "<sieve>"
upstream = "dovecot-sieve"

[upstream.postfix]
address = "<postfix-proxy>"
forwarding = "proxy-v2"

[upstream.postfix-submission]
address = "<postfix-submission>"
forwarding = "proxy-v2"

[upstream.dovecot-lmtp]
address = "<dovecot-lmtp>"

[upstream.dovecot-imap]
address = "<dovecot-imap-proxy>"
forwarding = "proxy-v2"

[upstream.dovecot-pop3]
address = "<dovecot-pop3-proxy>"
forwarding = "proxy-v2"

[upstream.dovecot-sieve]
address = "<dovecot-sieve-proxy>"
forwarding = "proxy-v2"
"#;

/// A mail server as an operator has it, with the door before it.
struct House {
    door: Door,
    postfix: Postfix,
    dovecot: Dovecot,
    pki: Pki,
    ground: Ground,
}

impl House {
    fn new() -> Self {
        Self::with(DOOR)
    }

    fn with(door: &str) -> Self {
        let ground = Ground::new();
        let pki = mail_certificate(&ground);
        let dovecot = Dovecot::start(&ground, &pki);
        let postfix = Postfix::start(&ground, &pki);
        let door = Door::start(&ground, &format!("{CERTIFICATE}{door}"));
        Self { door, postfix, dovecot, pki, ground }
    }

    /// Runs a Python script with `context` (TLS that trusts the test's CA), `message` and ports at hand.
    fn python(&self, script: &str) -> String {
        let mut preamble = format!(
            "import imaplib, poplib, smtplib, ssl, sys\n\
             context = ssl.create_default_context(cafile={ca:?})\n\
             message = open({message:?}, 'rb').read()\n",
            ca = self.pki.ca_path(),
            message = self.ground.path("message.eml"),
        );
        for name in ["smtp", "submission", "submissions", "imap", "imaps", "pop3", "pop3s"] {
            preamble.push_str(&format!("{name} = {}\n", self.ground.port(name)));
        }
        python(&(preamble + script))
    }

    /// Submits the message as alice to bob, over STARTTLS, from [`SENDER`].
    fn submit(&self, message: &[u8]) {
        std::fs::write(self.ground.path("message.eml"), message).expect("message");
        let _ = self.python(&format!(
            "with smtplib.SMTP('127.0.0.1', submission, source_address=('{SENDER}', 0)) as smtp:\n\
             \x20 assert not smtp.ehlo()[1].count(b'AUTH')\n\
             \x20 smtp.starttls(context=context)\n\
             \x20 smtp.login('alice@example.test', 'secret')\n\
             \x20 smtp.sendmail('alice@example.test', ['bob@example.test'], message)\n"
        ));
        self.delivered(1);
    }

    /// Waits until bob's mailbox holds so many messages.
    fn delivered(&self, count: usize) {
        let new = self.ground.path("dovecot/mail/bob@example.test/Maildir");
        eventually(&format!("{count} messages in bob's mailbox"), || {
            let messages = ["new", "cur"].iter().filter_map(|dir| std::fs::read_dir(new.join(dir)).ok());
            (messages.flatten().count() == count).then_some(())
        });
    }

    /// Sends a message to bob at the `smtp` listener over `wire`, which has been greeted.
    fn send(&self, wire: &mut Wire, subject: &str) {
        wire.say("EHLO sender.test").reply("250");
        wire.say("MAIL FROM:<someone@elsewhere.test>").reply("250");
        wire.say("RCPT TO:<bob@example.test>").reply("250");
        wire.say("DATA").reply("354");
        wire.say(&format!("From: someone@elsewhere.test\r\nSubject: {subject}\r\n\r\nText.\r\n."))
            .reply("250");
        wire.say("QUIT").reply("221");
    }

    /// What the message with that subject looks like in bob's mailbox.
    fn stored(&self, subject: &str) -> String {
        let inbox = self.ground.path("dovecot/mail/bob@example.test/Maildir/new");
        eventually(&format!("{subject:?} in bob's mailbox"), || {
            let files = std::fs::read_dir(&inbox).ok()?.map_while(Result::ok);
            let texts = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
            texts.into_iter().find(|text| text.contains(&format!("Subject: {subject}\n")))
        })
    }
}

/// Everything that a careless relay would damage: dots, 8-bit bytes, long lines, a body of many buffers.
fn awkward_message() -> Vec<u8> {
    let mut message = b"From: alice@example.test\r\nTo: bob@example.test\r\nSubject: awkward\r\n\
        Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <awkward@example.test>\r\n\
        MIME-Version: 1.0\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n\
        \r\n.\r\n..\r\n.a line that begins with a dot\r\nSTARTTLS\r\nQUIT\r\n\xe9\xff\x80\r\n"
        .to_vec();
    for number in 0..4_000_u32 {
        message.extend(format!("{number} ").bytes());
        message
            .extend((0..number % 900).map(|at| b'!' + u8::try_from((at + number) % 90).expect("below 90")));
        message.extend(b"\r\n");
    }
    message
}

/// The message behind what Postfix and Dovecot put before it.
fn ends_with(read: &[u8], message: &[u8]) {
    assert!(read.len() > message.len(), "{} bytes read", read.len());
    let tail = &read[read.len() - message.len()..];
    let differs = tail.iter().zip(message).position(|(a, b)| a != b);
    assert_eq!(differs, None, "the messages differ at that byte");
}

#[test]
fn a_submitted_message_is_read_back_byte_for_byte_in_every_way() {
    let house = House::new();
    let message = awkward_message();
    house.submit(&message);
    let read = house.ground.path("read.eml");
    let ways = [
        "box = imaplib.IMAP4('127.0.0.1', imap); box.starttls(context)",
        "box = imaplib.IMAP4_SSL('127.0.0.1', imaps, ssl_context=context)",
        "box = poplib.POP3('127.0.0.1', pop3); box.stls(context)",
        "box = poplib.POP3_SSL('127.0.0.1', pop3s, context=context)",
    ];
    for way in ways {
        let _ = house.python(&format!(
            "{way}\n\
             if isinstance(box, poplib.POP3):\n\
             \x20 box.user('bob@example.test'); box.pass_('secret')\n\
             \x20 read = b'\\r\\n'.join(box.retr(1)[1]) + b'\\r\\n'\n\
             \x20 box.quit()\n\
             else:\n\
             \x20 box.login('bob@example.test', 'secret'); box.select(readonly=True)\n\
             \x20 read = box.fetch('1', '(BODY.PEEK[])')[1][0][1]\n\
             \x20 box.logout()\n\
             open({read:?}, 'wb').write(read)\n"
        ));
        ends_with(&std::fs::read(&read).expect("read back"), &message);
    }
    let address = house.ground.addr("imaps");
    let url = format!("imaps://{address}/INBOX;MAILINDEX=1");
    let output = read.to_str().expect("utf-8");
    let ca = house.pki.ca_path();
    let _ = run("curl", &["-sS", "--cacert", ca, "-u", "bob@example.test:secret", "-o", output, &url]).ok();
    ends_with(&std::fs::read(&read).expect("read back"), &message);
}

#[test]
fn curl_and_swaks_submit_over_starttls_and_implicit_tls() {
    let house = House::new();
    let message =
        house.ground.write("message.eml", "From: alice@example.test\r\nSubject: by curl\r\n\r\nText.\r\n");
    let (message, ca) = (message.to_str().expect("utf-8"), house.pki.ca_path());
    let envelope = ["--mail-from", "alice@example.test", "--mail-rcpt", "bob@example.test"];
    for url in [
        format!("smtp://{}", house.ground.addr("submission")),
        format!("smtp://{}", house.ground.addr6("submission")),
        format!("smtps://{}", house.ground.addr("submissions")),
    ] {
        let rest =
            ["-sS", "--ssl-reqd", "--cacert", ca, "-u", "alice@example.test:secret", "-T", message, &url];
        let _ = run("curl", &[&envelope[..], &rest].concat()).ok();
    }
    let port = house.ground.port("submission").to_string();
    let sent = run(
        "swaks",
        &[
            "--server",
            "127.0.0.1",
            "--port",
            &port,
            "--tls",
            "--tls-verify",
            "--tls-ca-path",
            ca,
            "--tls-sni",
            "mail.example.test",
            "--auth",
            "PLAIN",
            "--auth-user",
            "alice@example.test",
            "--auth-password",
            "secret",
            "--from",
            "alice@example.test",
            "--to",
            "bob@example.test",
        ],
    );
    let sent = sent.ok();
    assert!(sent.out.contains("TLS started"), "{}", sent.out);
    house.delivered(4);
    house.postfix.wait_line(&["sasl_method=PLAIN", "sasl_username=alice@example.test"]);
}

#[test]
fn postfix_knows_the_client_and_dovecot_that_its_session_is_secured() {
    let house = House::new();
    house.submit(b"From: alice@example.test\r\nSubject: who\r\n\r\nText.\r\n");
    house.postfix.wait_line(&["client=unknown[127.0.0.5]", "sasl_username=alice@example.test"]);

    let tls = house.pki.client("mail.example.test");
    for (listener, implicit) in [("imap", false), ("imaps", true)] {
        let mut wire = Wire::connect_from(READER, house.ground.addr(listener));
        let port = wire.local().port();
        if !implicit {
            wire.expect("* OK");
            wire.say("s STARTTLS").expect("s OK");
        }
        let mut wire = wire.tls(&tls);
        if implicit {
            wire.expect("* OK");
        }
        wire.say("a LOGIN bob@example.test secret").until("a OK");
        wire.say("b LOGOUT").until("b OK");
        let logged = house.dovecot.wait_line(&["Login: user=<bob@", &format!("rport={port}")]);
        assert!(logged.contains("rip=127.0.0.6"), "{logged}");
        assert!(logged.contains(", secured"), "{logged}");
    }
    let mut wire = Wire::connect_from(READER, house.ground.addr("pop3"));
    wire.expect("+OK");
    wire.say("STLS").expect("+OK");
    let mut wire = wire.tls(&tls);
    wire.say("USER bob@example.test").expect("+OK");
    wire.say("PASS secret").expect("+OK");
    wire.say("QUIT").expect("+OK");
    let logged = house.dovecot.wait_line(&["pop3-login", "Login: user=<bob@", "rip=127.0.0.6"]);
    assert!(logged.contains(", secured"), "{logged}");
}

#[test]
fn clients_on_ipv6_are_known_by_their_address() {
    let house = House::new();
    let tls = house.pki.client("mail.example.test");
    let mut wire = Wire::connect(house.ground.addr6("imap"));
    wire.expect("* OK");
    wire.say("s STARTTLS").expect("s OK");
    let mut wire = wire.tls(&tls);
    wire.say("a LOGIN bob@example.test secret").until("a OK");
    house.dovecot.wait_line(&["Login: user=<bob@", "rip=::1", "lip=::1", ", secured"]);
    let mut wire = Wire::connect(house.ground.addr6("smtp"));
    wire.reply("220");
    house.send(&mut wire, "on six");
    house.postfix.wait_line(&["postfix/proxy", "client=unknown[::1]"]);
    assert!(house.stored("on six").contains("[IPv6:::1]"));
}

#[test]
fn in_mirror_mode_the_received_header_tells_whether_the_client_used_tls() {
    let house = House::with(
        r#"
[server.listener.smtp]
protocol = "smtp"
bind = "<smtp>"
upstream = "postfix"
[upstream.postfix]
address = "<postfix-mirror>"
forwarding = "proxy-v2"
[upstream.postfix.tls]
mode = "mirror"
ca = "%{file:<dir>/ca.pem}%"
server-name = "mx.example.test"
"#,
    );
    let mut wire = Wire::connect_from(SENDER, house.ground.addr("smtp"));
    wire.reply("220");
    wire.say("EHLO sender.test");
    assert!(wire.reply("250").iter().any(|line| line.ends_with("STARTTLS")));
    wire.say("STARTTLS").reply("220");
    let mut wire = wire.tls(&house.pki.client("mail.example.test"));
    house.send(&mut wire, "sealed");
    let mut wire = Wire::connect_from(SENDER, house.ground.addr("smtp"));
    wire.reply("220");
    house.send(&mut wire, "clear");

    let sealed = house.stored("sealed");
    assert!(sealed.contains("with ESMTPS id"), "{sealed}");
    assert!(sealed.contains("[127.0.0.5]"), "{sealed}");
    let clear = house.stored("clear");
    assert!(clear.contains("with ESMTP id"), "{clear}");
    assert!(clear.contains("[127.0.0.5]"), "{clear}");
}

#[test]
fn a_sender_without_tls_is_delivered_at_port_25_and_may_not_authenticate() {
    let house = House::new();
    let mut wire = Wire::connect_from(SENDER, house.ground.addr("smtp"));
    wire.reply("220");
    wire.say("EHLO sender.test");
    let offered = wire.reply("250");
    assert_eq!(offered.iter().filter(|line| line.ends_with("STARTTLS")).count(), 1, "{offered:?}");
    assert!(!offered.iter().any(|line| line.contains("AUTH") || line.contains("XCLIENT")), "{offered:?}");
    assert!(offered.iter().any(|line| line.contains("PIPELINING")), "{offered:?}");
    wire.say(&format!("AUTH PLAIN {ALICE}")).reply("538");
    house.send(&mut wire, "plain");
    house.postfix.wait_line(&["postfix/proxy", "client=unknown[127.0.0.5]"]);
    let stored = house.stored("plain");
    assert!(stored.contains("from sender.test (unknown [127.0.0.5]"), "{stored}");
}

#[test]
fn a_sieve_script_is_stored_after_the_capabilities_were_said_again() {
    let house = House::new();
    let mut wire = Wire::connect_from(READER, house.ground.addr("sieve"));
    let before = wire.until("OK");
    assert!(before.contains(&"\"SASL\" \"\"".to_owned()), "{before:?}");
    assert!(before.contains(&"\"STARTTLS\"".to_owned()), "{before:?}");
    wire.say("STARTTLS").expect("OK");
    let mut wire = wire.tls(&house.pki.client("mail.example.test"));
    let after = wire.until("OK");
    assert!(after.iter().any(|line| line.starts_with("\"SASL\"") && line.contains("PLAIN")), "{after:?}");
    assert!(!after.iter().any(|line| line.contains("STARTTLS")), "{after:?}");
    wire.say(&format!("AUTHENTICATE \"PLAIN\" \"{ALICE}\"")).until("OK");
    wire.say("PUTSCRIPT \"vacation\" {7+}\r\nkeep;\r\n").until("OK");
    wire.say("LISTSCRIPTS").expect("\"vacation\"");
    wire.until("OK");
    wire.say("LOGOUT").until("OK");
    house.dovecot.wait_line(&["managesieve-login", "Login: user=<alice@", "rip=127.0.0.6", ", secured"]);
}

#[test]
fn mail_given_to_the_lmtp_listener_reaches_the_mailbox() {
    let house = House::new();
    let mut wire = Wire::connect_from(SENDER, house.ground.addr("lmtp"));
    wire.reply("220");
    wire.say("LHLO sender.test");
    let offered = wire.reply("250");
    assert_eq!(offered.iter().filter(|line| line.ends_with("STARTTLS")).count(), 1, "{offered:?}");
    wire.say("STARTTLS").reply("220");
    let mut wire = wire.tls(&house.pki.client("mail.example.test"));
    wire.say("LHLO sender.test");
    assert!(!wire.reply("250").iter().any(|line| line.ends_with("STARTTLS")));
    wire.say("MAIL FROM:<>").reply("250");
    wire.say("RCPT TO:<bob@example.test>").reply("250");
    wire.say("RCPT TO:<alice@example.test>").reply("250");
    wire.say("DATA").reply("354");
    wire.say("Subject: lmtp\r\n\r\n..\r\n.");
    // One reply for each recipient (RFC 2033 section 4.2).
    wire.reply("250");
    wire.reply("250");
    wire.say("QUIT").reply("221");
    assert!(house.stored("lmtp").ends_with("\n\n.\n"));
}

const INTRODUCED: &str = r#"
[server.listener.smtp]
protocol = "smtp"
bind = ["<smtp>", "[::1]:<smtp:port>"]
upstream = "postfix"
[server.listener.imap]
protocol = "imap"
bind = "<imap>"
upstream = "dovecot-imap"
[server.listener.pop3]
protocol = "pop3"
bind = "<pop3>"
upstream = "dovecot-pop3"
[server.listener.sieve]
protocol = "managesieve"
bind = "<sieve>"
upstream = "dovecot-sieve"
[server.listener.lmtp]
protocol = "lmtp"
bind = "<lmtp>"
upstream = "dovecot-lmtp"
[upstream.postfix]
address = "<postfix-xclient>"
forwarding = "xclient"
[upstream.dovecot-imap]
address = "<dovecot-imap>"
forwarding = "xclient"
tls = { mode = "starttls", ca = "%{file:<dir>/ca.pem}%", server-name = "dovecot.example.test" }
[upstream.dovecot-pop3]
address = "<dovecot-pop3>"
forwarding = "xclient"
tls = { mode = "starttls", ca = "%{file:<dir>/ca.pem}%", server-name = "dovecot.example.test" }
[upstream.dovecot-sieve]
address = "<dovecot-sieve>"
forwarding = "xclient"
tls = { mode = "starttls", ca = "%{file:<dir>/ca.pem}%", server-name = "dovecot.example.test" }
[upstream.dovecot-lmtp]
address = "<dovecot-lmtp>"
forwarding = "xclient"
"#;

#[test]
fn xclient_introduces_the_client_to_postfix() {
    let house = House::with(INTRODUCED);
    let mut wire = Wire::connect_from(SENDER, house.ground.addr("smtp"));
    wire.reply("220");
    wire.say("EHLO sender.test").reply("250");
    wire.say("STARTTLS").reply("220");
    let mut wire = wire.tls(&house.pki.client("mail.example.test"));
    wire.say("EHLO sender.test");
    assert!(!wire.reply("250").iter().any(|line| line.contains("XCLIENT")));
    // Who the client is, the client does not say.
    wire.say("XCLIENT ADDR=192.0.2.66").expect("5");
    house.send(&mut wire, "introduced");
    house.postfix.wait_line(&["postfix/xclient", "client=unknown[127.0.0.5]"]);
    assert!(!house.postfix.log().contains("192.0.2.66"));
    let mut wire = Wire::connect(house.ground.addr6("smtp"));
    wire.reply("220");
    house.send(&mut wire, "introduced on six");
    house.postfix.wait_line(&["postfix/xclient", "client=unknown[::1]"]);
}

#[test]
fn id_and_xclient_introduce_the_client_to_dovecot() {
    let house = House::with(INTRODUCED);
    let tls = house.pki.client("mail.example.test");
    let mut wire = Wire::connect_from(READER, house.ground.addr("imap"));
    wire.expect("* OK");
    wire.say("s STARTTLS").expect("s OK");
    let mut wire = wire.tls(&tls);
    let port = wire.local().port();
    wire.say("i ID (\"x-originating-ip\" \"192.0.2.66\")").until("i BAD");
    wire.say("a LOGIN bob@example.test secret").until("a OK");
    wire.say("b LOGOUT").until("b OK");
    let logged = house.dovecot.wait_line(&["imap-login", "Login: user=<bob@"]);
    assert!(logged.contains("rip=127.0.0.6") && logged.contains(&format!("rport={port}")), "{logged}");

    let mut wire = Wire::connect_from(READER, house.ground.addr("pop3"));
    wire.expect("+OK");
    wire.say("STLS").expect("+OK");
    let mut wire = wire.tls(&tls);
    wire.say("USER bob@example.test").expect("+OK");
    wire.say("PASS secret").expect("+OK");
    house.dovecot.wait_line(&["pop3-login", "Login: user=<bob@", "rip=127.0.0.6"]);

    let mut wire = Wire::connect_from(READER, house.ground.addr("sieve"));
    wire.until("OK");
    wire.say("STARTTLS").expect("OK");
    let mut wire = wire.tls(&tls);
    wire.until("OK");
    wire.say(&format!("AUTHENTICATE \"PLAIN\" \"{ALICE}\"")).until("OK");
    house.dovecot.wait_line(&["managesieve-login", "Login: user=<alice@", "rip=127.0.0.6"]);

    let mut wire = Wire::connect_from(READER, house.ground.addr("lmtp"));
    wire.reply("220");
    wire.say("LHLO me.test").reply("250");
    wire.say("MAIL FROM:<>").reply("250");
    wire.say("RCPT TO:<bob@example.test>").reply("250");
    wire.say("DATA").reply("354");
    wire.say("Subject: introduced by lmtp\r\n\r\nText.\r\n.").reply("250");
    assert!(house.stored("introduced by lmtp").contains("127.0.0.6"));
}

#[test]
fn the_leg_behind_is_encrypted_in_each_way_the_operator_can_ask() {
    let pinned = |ground: &Ground| {
        let certificate = ground.path("dovecot.pem");
        let script = format!(
            "openssl x509 -in {} -noout -pubkey | openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary \
             | openssl base64",
            certificate.display()
        );
        format!("sha256:{}", run("sh", &["-c", &script]).ok().out.trim())
    };
    let ground = Ground::new();
    let pki = mail_certificate(&ground);
    let dovecot = Dovecot::start(&ground, &pki);
    let tls = pki.client("mail.example.test");
    let ways = [
        (
            "by-ca",
            "<dovecot-imap>",
            "mode = \"starttls\"\nca = \"%{file:<dir>/ca.pem}%\"\nserver-name = \"dovecot.example.test\""
                .to_owned(),
        ),
        ("by-pin", "<dovecot-imaps>", format!("mode = \"implicit\"\npin = \"{}\"", pinned(&ground))),
        ("unverified", "<dovecot-imaps>", "mode = \"implicit\"\nverify = false".to_owned()),
    ];
    let mut configuration = CERTIFICATE.to_owned();
    for (name, address, leg) in &ways {
        configuration.push_str(&format!(
            "[server.listener.{name}]\nprotocol = \"imap\"\nbind = \"<{name}>\"\nupstream = \"{name}\"\n\
             tls.implicit = true\n[upstream.{name}]\naddress = \"{address}\"\n[upstream.{name}.tls]\n{leg}\n"
        ));
    }
    let _door = Door::start(&ground, &configuration);
    for (count, (name, ..)) in ways.iter().enumerate() {
        let mut wire = Wire::connect(ground.addr(name)).tls(&tls);
        wire.expect("* OK");
        wire.say("a LOGIN bob@example.test secret").until("a OK");
        eventually("one more login over TLS", || {
            let log = dovecot.log();
            let logins =
                log.lines().filter(|line| line.contains("Login: user=<bob@") && line.contains(", TLS"));
            (logins.count() == count + 1).then_some(())
        });
    }
}

#[test]
fn what_the_service_offers_is_shown_in_its_order_less_what_is_the_doors_own() {
    let house = House::new();
    let mut direct = Wire::connect(house.ground.addr("postfix-submission"));
    direct.say("PROXY TCP4 192.0.2.7 192.0.2.1 4711 587").reply("220");
    direct.say("EHLO me.test");
    let keywords =
        |lines: Vec<String>| -> Vec<String> { lines[1..].iter().map(|line| line[4..].to_owned()).collect() };
    let behind = keywords(direct.reply("250"));
    let mut wire = Wire::connect(house.ground.addr("submission"));
    wire.reply("220");
    wire.say("EHLO me.test");
    let mut before = keywords(wire.reply("250"));
    before.retain(|keyword| keyword != "STARTTLS");
    let expected: Vec<String> =
        behind.iter().filter(|keyword| !keyword.starts_with("AUTH")).cloned().collect();
    assert_eq!(before, expected, "before TLS");
    wire.say("STARTTLS").reply("220");
    let mut wire = wire.tls(&house.pki.client("mail.example.test"));
    wire.say("EHLO me.test");
    assert_eq!(keywords(wire.reply("250")), behind, "after TLS");

    let seen = SClient::new(house.ground.addr("imap")).starttls("imap").say("a CAPABILITY").run().done();
    let line =
        seen.text.lines().find(|line| line.starts_with("* CAPABILITY")).expect("capabilities").to_owned();
    assert!(
        line.contains("AUTH=PLAIN") && !line.contains("STARTTLS") && !line.contains("LOGINDISABLED"),
        "{line}"
    );
    let mut wire = Wire::connect(house.ground.addr("imap"));
    let greeting = wire.expect("* OK [CAPABILITY ");
    assert!(greeting.contains(" STARTTLS") && greeting.contains(" LOGINDISABLED"), "{greeting}");
    assert!(!greeting.contains("AUTH=") && !greeting.contains("SASL-IR"), "{greeting}");
    wire.say("a LOGIN bob@example.test secret").expect("a NO [PRIVACYREQUIRED]");
    let _ = &house.door;
}

#[test]
fn the_ca_of_the_leg_behind_may_be_named_by_its_file() {
    let ground = Ground::new();
    let pki = mail_certificate(&ground);
    let _dovecot = Dovecot::start(&ground, &pki);
    let _door = Door::start(
        &ground,
        &format!(
            "{CERTIFICATE}[server.listener.imaps]\nprotocol = \"imap\"\nbind = \"<imaps>\"\nupstream = \"dovecot\"\n\
             tls.implicit = true\n[upstream.dovecot]\naddress = \"<dovecot-imaps>\"\n[upstream.dovecot.tls]\n\
             mode = \"implicit\"\nca = \"<dir>/ca.pem\"\nserver-name = \"dovecot.example.test\"\n"
        ),
    );
    Wire::connect(ground.addr("imaps")).tls(&pki.client("mail.example.test")).expect("* OK");
}

#[test]
fn pipelined_and_chunked_messages_pass_unchanged() {
    let house = House::new();
    let mut wire =
        Wire::connect(house.ground.addr("submissions")).tls(&house.pki.client("mail.example.test"));
    wire.reply("220");
    wire.say("EHLO me.test");
    let offered = wire.reply("250").join("\n");
    assert!(offered.contains("CHUNKING") && offered.contains("PIPELINING"), "{offered}");
    wire.say(&format!("AUTH PLAIN {ALICE}")).reply("235");
    // All of it at once (RFC 2920 section 3.1), the next transaction right behind the end of the message.
    wire.send("MAIL FROM:<alice@example.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n");
    wire.reply("250");
    wire.reply("250");
    wire.reply("354");
    wire.send(
        "Subject: pipelined\r\n\r\n..\r\nRCPT TO:<nobody@elsewhere.test>\r\n.\r\nMAIL FROM:<alice@example.test>\r\n\
         RCPT TO:<bob@example.test>\r\n",
    );
    wire.reply("250");
    wire.reply("250");
    wire.reply("250");
    // BDAT (RFC 3030): counted bytes, in which a line with a dot is a line with a dot.
    let first = "Subject: chunked\r\n\r\n.\r\nQUIT\r\n";
    let last = ".\r\nSTARTTLS\r\nlast line\r\n";
    wire.send(format!("BDAT {}\r\n{first}BDAT {} LAST\r\n{last}", first.len(), last.len()));
    wire.reply("250");
    wire.reply("250");
    wire.say("QUIT").reply("221");
    assert!(house.stored("pipelined").ends_with("\n\n.\nRCPT TO:<nobody@elsewhere.test>\n"));
    assert!(house.stored("chunked").ends_with("\n\n.\nQUIT\n.\nSTARTTLS\nlast line\n"));
}

#[test]
fn every_way_of_logging_in_passes() {
    let house = House::new();
    let tls = house.pki.client("mail.example.test");
    let imap = || {
        let mut wire = Wire::connect(house.ground.addr("imaps")).tls(&tls);
        wire.expect("* OK");
        wire
    };
    imap().say("a LOGIN \"bob@example.test\" \"secret\"").until("a OK");
    imap().send("a LOGIN {16+}\r\nbob@example.test {6+}\r\nsecret\r\n").until("a OK");
    let mut wire = imap();
    wire.say("a LOGIN {16}").expect("+");
    wire.say("bob@example.test {6}").expect("+");
    wire.say("secret").until("a OK");
    let mut wire = imap();
    wire.say(&format!("a AUTHENTICATE PLAIN {ALICE}")).until("a OK");
    let mut wire = imap();
    wire.say("a AUTHENTICATE LOGIN").expect("+");
    wire.say("Ym9iQGV4YW1wbGUudGVzdA==").expect("+");
    wire.say("c2VjcmV0").until("a OK");
    let mut wire = imap();
    wire.say("a LOGIN bob@example.test wrong").until("a NO");
    wire.say("b AUTHENTICATE PLAIN").expect("+");
    wire.say("*").until("b BAD");
    wire.say("c LOGIN bob@example.test secret").until("c OK");

    let pop3 = || {
        let mut wire = Wire::connect(house.ground.addr("pop3s")).tls(&tls);
        wire.expect("+OK");
        wire
    };
    let mut wire = pop3();
    wire.say(&format!("AUTH PLAIN {ALICE}")).expect("+OK");
    let mut wire = pop3();
    wire.say("AUTH PLAIN").expect("+");
    wire.say(ALICE).expect("+OK");
    let mut wire = pop3();
    wire.say("USER bob@example.test").expect("+OK");
    wire.say("PASS wrong").expect("-ERR");
    wire.say("USER bob@example.test").expect("+OK");
    wire.say("PASS secret").expect("+OK");

    let submission = || {
        let mut wire = Wire::connect(house.ground.addr("submissions")).tls(&tls);
        wire.reply("220");
        wire.say("EHLO me.test").reply("250");
        wire
    };
    let mut wire = submission();
    wire.say("AUTH PLAIN").reply("334");
    wire.say(ALICE).reply("235");
    let mut wire = submission();
    wire.say("AUTH LOGIN").reply("334");
    wire.say("*").reply("501");
    wire.say("AUTH LOGIN").reply("334");
    wire.say("Ym9iQGV4YW1wbGUudGVzdA==").reply("334");
    wire.say("c2VjcmV0").reply("235");

    let mut wire = Wire::connect(house.ground.addr("sieve"));
    wire.until("OK");
    wire.say("STARTTLS").expect("OK");
    let mut wire = wire.tls(&tls);
    wire.until("OK");
    wire.say(&format!("AUTHENTICATE \"PLAIN\" {{{}+}}\r\n{ALICE}", ALICE.len())).until("OK");
}

#[test]
fn a_message_that_arrives_is_told_to_a_client_in_idle() {
    let house = House::new();
    let tls = house.pki.client("mail.example.test");
    let mut idle = Wire::connect(house.ground.addr("imaps")).tls(&tls);
    idle.expect("* OK");
    idle.say("a LOGIN bob@example.test secret").until("a OK");
    idle.say("b SELECT INBOX").until("b OK");
    idle.say("c IDLE").expect("+");
    idle.silent_for(std::time::Duration::from_secs(2));
    let mut wire = Wire::connect_from(SENDER, house.ground.addr("smtp"));
    wire.reply("220");
    house.send(&mut wire, "news");
    idle.until("* 1 EXISTS");
    idle.say("DONE").until("c OK");
    // A literal goes through as it is, after the login as before.
    let message = "Subject: appended\r\n\r\nd STARTTLS\r\n";
    idle.say(&format!("d APPEND INBOX {{{}}}", message.len())).expect("+");
    idle.say(message).until("d OK");
    idle.say("e FETCH 2 BODY.PEEK[TEXT]").expect("* 2 FETCH");
    idle.expect("d STARTTLS");
    idle.until("e OK");
}
