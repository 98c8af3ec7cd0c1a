//! What the other suites take for granted of the mail servers behind, without the door.

use waxseal_e2e::{Dovecot, Ground, KeyKind, Pki, Postfix, SClient, Wire, python};

#[test]
fn dovecot_hides_login_from_a_plain_leg_with_a_proxy_header() {
    let ground = Ground::new();
    let pki = Pki::new(&ground);
    let dovecot = Dovecot::start(&ground, &pki);
    let mut wire = Wire::connect(ground.addr("dovecot-imap-proxy"));
    wire.say("PROXY TCP4 192.0.2.7 192.0.2.1 4711 143");
    assert!(wire.expect("* OK").contains("LOGINDISABLED"));
    wire.say("a LOGOUT");
    dovecot.wait_line(&["rip=192.0.2.7", "rport=4711"]);
}

#[test]
fn dovecot_lets_in_over_each_of_its_own_ways_of_tls() {
    let ground = Ground::new();
    let pki = Pki::new(&ground);
    let dovecot = Dovecot::start(&ground, &pki);
    let tls = pki.client("dovecot.example.test");
    let mut wire = Wire::connect(ground.addr("dovecot-imaps")).tls(&tls);
    wire.expect("* OK");
    wire.say("a LOGIN alice@example.test secret").expect("a OK");
    for (starttls, listener) in
        [("imap", "dovecot-imap"), ("pop3", "dovecot-pop3"), ("sieve", "dovecot-sieve")]
    {
        let client = SClient::new(ground.addr(listener)).starttls(starttls);
        let seen = client.verify(pki.ca_path(), "dovecot.example.test").run().done();
        assert!(seen.verified, "{}", seen.text);
    }
    dovecot.wait_line(&["Login: user=<alice@example.test>", "TLS"]);
}

#[test]
fn postfix_takes_mail_by_submission_and_dovecot_stores_it() {
    let ground = Ground::new();
    let pki = Pki::new(&ground);
    let dovecot = Dovecot::start(&ground, &pki);
    let postfix = Postfix::start(&ground, &pki);
    let mut wire = Wire::connect(ground.addr("postfix-submission"));
    wire.say("PROXY TCP4 192.0.2.7 192.0.2.1 4711 587");
    wire.reply("220");
    wire.say("EHLO client.test");
    assert!(wire.reply("250").iter().any(|line| line.contains("AUTH PLAIN")));
    // \0alice@example.test\0secret
    wire.say("AUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQ=").reply("235");
    wire.say("MAIL FROM:<alice@example.test>").reply("250");
    wire.say("RCPT TO:<bob@example.test>").reply("250");
    wire.say("DATA").reply("354");
    wire.say("From: alice@example.test\r\nSubject: here\r\n\r\nThe text.\r\n.").reply("250");
    wire.say("QUIT").reply("221");
    postfix.wait_line(&["client=unknown[192.0.2.7]", "sasl_username=alice@example.test"]);
    postfix.wait_line(&["to=<bob@example.test>", "status=sent"]);
    dovecot.wait_line(&["saved mail to INBOX"]);
    let tls = pki.client("dovecot.example.test");
    let mut wire = Wire::connect(ground.addr("dovecot-pop3s")).tls(&tls);
    wire.expect("+OK");
    wire.say("USER bob@example.test").expect("+OK");
    wire.say("PASS secret").expect("+OK");
    wire.say("RETR 1").expect("+OK");
    assert!(wire.until(".").contains(&"The text.".to_owned()));
}

#[test]
fn postfix_believes_xclient_and_tells_the_cause_when_a_header_is_missing() {
    let ground = Ground::new();
    let pki = Pki::new(&ground);
    let postfix = Postfix::start(&ground, &pki);
    let mut wire = Wire::connect(ground.addr("postfix-xclient"));
    wire.reply("220");
    wire.say("EHLO door.test");
    assert!(wire.reply("250").iter().any(|line| line.contains("XCLIENT")));
    wire.say("XCLIENT ADDR=192.0.2.9 PORT=4712").reply("220");
    wire.say("QUIT").reply("221");
    postfix.wait_line(&["disconnect from unknown[192.0.2.9]"]);
    let mut wire = Wire::connect(ground.addr("postfix-proxy"));
    wire.reply("421");
    postfix.wait_line(&["postfix/proxy", "haproxy"]);
}

#[test]
fn lmtp_and_managesieve_are_served_and_python_speaks_tls() {
    let ground = Ground::new();
    let pki = Pki::new(&ground);
    let _dovecot = Dovecot::start(&ground, &pki);
    let mut wire = Wire::connect(ground.addr("dovecot-lmtp"));
    wire.reply("220");
    wire.say("LHLO door.test").reply("250");
    wire.say("MAIL FROM:<>").reply("250");
    wire.say("RCPT TO:<alice@example.test>").reply("250");
    wire.say("DATA").reply("354");
    wire.say("Subject: by lmtp\r\n\r\nText.\r\n.").reply("250");
    let printed = python(&format!(
        r#"
import imaplib, ssl
context = ssl.create_default_context(cafile={ca:?})
context.check_hostname = False
imap = imaplib.IMAP4_SSL("127.0.0.1", {port}, ssl_context=context)
imap.login("alice@example.test", "secret")
print(imap.select()[1][0].decode())
"#,
        ca = pki.ca_path(),
        port = ground.port("dovecot-imaps"),
    ));
    assert_eq!(printed.trim(), "1");
    let mut wire = Wire::connect(ground.addr("dovecot-sieve"));
    assert!(wire.until("OK").iter().any(|line| line.contains("STARTTLS")));
}

#[test]
fn openssl_says_what_it_saw() {
    let ground = Ground::new();
    let pki = Pki::new(&ground);
    let leaf = pki.leaf(KeyKind::Rsa, &["mail.example.test"]);
    let server = leaf.server();
    let _fake = waxseal_e2e::Fake::start(&ground, "tls", move |wire| {
        if let Ok(mut wire) = wire.try_tls_server(&server) {
            while matches!(wire.try_line(), Ok(Some(_))) {}
        }
    });
    let client = SClient::new(ground.addr("tls")).verify(pki.ca_path(), "mail.example.test");
    let seen = client.clone().args(&["-groups", "P-384"]).run().done();
    assert_eq!(seen.version.as_deref(), Some("TLSv1.3"));
    assert_eq!(seen.group.as_deref(), Some("secp384r1"));
    assert_eq!(seen.common_name.as_deref(), Some("mail.example.test"));
    assert!(seen.verified && !seen.resumed);
    let seen = client.clone().args(&["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"]).run().done();
    assert_eq!(seen.cipher.as_deref(), Some("ECDHE-RSA-AES128-GCM-SHA256"));
    let _ = client.args(&["-tls1_1", "-cipher", "ALL@SECLEVEL=0"]).run().refused();
}
