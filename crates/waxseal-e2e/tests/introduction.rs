//! What the mail servers behind know of the client and of its TLS.

use waxseal_e2e::{ALICE, House, READER, SENDER, Wire};

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
