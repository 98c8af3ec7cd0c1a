//! The leg behind: encrypted in each way the operator can ask for, and what is said of a service that is set up
//! differently than the configuration says.

use waxseal_e2e::{
    CERTIFICATE, Door, Dovecot, Fake, Ground, KeyKind, Postfix, Wire, eventually, mail_certificate, run,
    waxseal,
};

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

/// What the operator is told of a service that is set up differently than the configuration says: by
/// `check --upstreams`, and by the log of the running door.
fn told(protocol: &str, upstream: &str, words: &[&str]) {
    let ground = Ground::new();
    let pki = mail_certificate(&ground);
    let _peers = (Dovecot::start(&ground, &pki), Postfix::start(&ground, &pki));
    let text = format!(
        "{CERTIFICATE}[server.listener.door]\nprotocol = \"{protocol}\"\nbind = \"<door>\"\nupstream = \"behind\"\n\
         [upstream.behind]\n{upstream}\n"
    );
    let file = ground.write("waxseal.toml", &text);
    let checked = waxseal(&["check", "--upstreams", "--config", file.to_str().expect("utf-8")]);
    for word in words {
        assert!(checked.all().contains(word), "check without {word:?}: {}", checked.all());
    }
    let door = Door::start(&ground, &text);
    for word in words {
        eventually(&format!("the log has {word:?}: {}", door.log()), || {
            door.log().contains(word).then_some(())
        });
    }
}

#[test]
fn a_postfix_that_expects_a_proxy_header_and_gets_none_is_named() {
    told(
        "smtp",
        "address = \"<postfix-proxy>\"",
        &["the service expects a PROXY header and got none", "smtpd_upstream_proxy_protocol"],
    );
}

#[test]
fn a_postfix_that_does_not_expect_a_proxy_header_is_named() {
    told(
        "smtp",
        "address = \"<postfix-plain>\"\nforwarding = \"proxy-v2\"",
        &["does not expect", "smtpd_upstream_proxy_protocol"],
    );
}

#[test]
fn a_dovecot_that_expects_a_proxy_header_and_gets_none_is_named() {
    told(
        "imap",
        "address = \"<dovecot-imap-proxy>\"",
        &["the service expects a PROXY header and got none", "haproxy"],
    );
}

#[test]
fn a_dovecot_that_does_not_expect_a_proxy_header_is_named() {
    told("imap", "address = \"<dovecot-imap>\"\nforwarding = \"proxy-v2\"", &["does not expect", "haproxy"]);
}

#[test]
fn a_dovecot_that_hides_auth_on_the_leg_is_named() {
    told(
        "imap",
        "address = \"<dovecot-imap-proxy>\"\nforwarding = \"proxy-v1\"",
        &["hides AUTH", "proxy-v2"],
    );
}

#[test]
fn a_service_that_still_offers_starttls_inside_is_named() {
    told(
        "submission",
        "address = \"<postfix-mirror>\"\nforwarding = \"proxy-v2\"",
        &["still offers STARTTLS inside", "smtpd_tls_security_level"],
    );
}

#[test]
fn a_service_without_xclient_is_named() {
    told(
        "smtp",
        "address = \"<postfix-plain>\"\nforwarding = \"xclient\"",
        &["XCLIENT", "smtpd_authorized_xclient_hosts"],
    );
}

#[test]
fn a_wrong_pin_is_refused_and_the_right_one_shown() {
    let ground = Ground::new();
    let pki = mail_certificate(&ground);
    let leaf = pki.leaf(KeyKind::Ecdsa, &["behind.test"]).server();
    let _store = Fake::start(&ground, "behind", move |wire| {
        if let Ok(mut wire) = wire.try_tls_server(&leaf) {
            let _ = wire.try_send(b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready\r\n");
            while let Ok(Some(line)) = wire.try_line() {
                let tag = line.split(' ').next().unwrap_or_default();
                let answer = format!("* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n{tag} OK done\r\n");
                if wire.try_send(answer.as_bytes()).is_err() {
                    return;
                }
            }
        }
    });
    let with = |leg: &str| {
        format!(
            "{CERTIFICATE}[server.listener.imaps]\nprotocol = \"imap\"\nbind = \"<imaps>\"\nupstream = \"behind\"\n\
             tls.implicit = true\n[upstream.behind]\naddress = \"<behind>\"\n\
             [upstream.behind.tls]\nmode = \"implicit\"\n{leg}\n"
        )
    };
    let wrong = format!("pin = \"sha256:{}=\"", "A".repeat(43));
    let door = Door::start(&ground, &with(&wrong));
    let client = pki.client("mail.example.test");
    Wire::connect(ground.addr("imaps")).tls(&client).expect("* BYE [UNAVAILABLE]");
    let line = door.wait_line(&["sha256:"]);
    drop(door);
    let pins = line.split("sha256:").skip(1).map(|rest| rest[..44].to_owned());
    let seen = pins.into_iter().find(|pin| !pin.starts_with("AAAAAA")).expect("the pin seen");
    let door = Door::start(&ground, &with(&format!("pin = \"sha256:{seen}\"")));
    Wire::connect(ground.addr("imaps")).tls(&client).expect("* OK");
    drop(door);
    // A CA that the configuration does not name, and another name than the certificate's.
    for leg in ["", "ca = \"%{file:<dir>/ca.pem}%\"\nserver-name = \"other.test\""] {
        let door = Door::start(&ground, &with(leg));
        Wire::connect(ground.addr("imaps")).tls(&client).expect("* BYE [UNAVAILABLE]");
        door.wait_line(&["ERROR", "certificate"]);
    }
}
