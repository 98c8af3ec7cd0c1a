//! Sessions inside TLS with the real services: capabilities, logins, IDLE, scripts.

use std::time::Duration;

use waxseal_e2e::{ALICE, House, READER, SClient, SENDER, Wire};

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
    idle.silent_for(Duration::from_secs(2));
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
