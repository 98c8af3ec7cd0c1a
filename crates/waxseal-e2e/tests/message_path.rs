//! A message on its whole way: submitted through the door, delivered, read back through the door; and what the
//! mail servers behind know of its sender and reader.

use waxseal_e2e::{ALICE, House, SENDER, Wire, run};

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
