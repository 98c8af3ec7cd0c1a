//! Each setting of `server.tls`, as a default and as an override, seen from outside.

use std::time::{Duration, Instant};

use rustls::crypto::aws_lc_rs::ALL_KX_GROUPS;
use rustls::version::{TLS12, TLS13};
use waxseal_e2e::{
    CERTIFICATE, Door, Fake, Ground, KeyKind, Pki, SClient, TlsClient, Wire, mail_certificate, provider,
    suite, waxseal,
};

/// Every suite: the IANA name of the configuration, OpenSSL's, and the other version.
const SUITES: [(&str, &str, &str); 9] = [
    ("TLS13_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384", "TLSv1.2"),
    ("TLS13_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256", "TLSv1.2"),
    ("TLS13_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256", "TLSv1.2"),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384", "TLSv1.3"),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256", "TLSv1.3"),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305", "TLSv1.3"),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384", "TLSv1.3"),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "TLSv1.3"),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305", "TLSv1.3"),
];

/// Every group: the configuration's name, OpenSSL 3.0's for the client and its report, where it has one.
const GROUPS: [(&str, &str, &str); 3] = [
    ("X25519", "X25519", "X25519"),
    ("SECP256R1", "P-256", "prime256v1"),
    ("SECP384R1", "P-384", "secp384r1"),
];

struct House {
    door: Door,
    pki: Pki,
    ground: Ground,
    _behind: Fake,
}

impl House {
    /// A door before an IMAP service; `server` stands in `server.tls`, and each listener is a name, a protocol
    /// and what stands in its own `tls`.
    fn new(server: &str, listeners: &[(&str, &str, &str)]) -> Self {
        let ground = Ground::new();
        let pki = mail_certificate(&ground);
        // Beside the ECDSA pair, so that every suite has a key.
        pki.leaf_in(ground.dir(), "rsa", KeyKind::Rsa, &["rsa.example.test", "mail.example.test"]);
        let behind = Fake::imap(&ground, "behind", |_| ());
        let door = Door::start(&ground, &configuration(server, listeners));
        Self { door, pki, ground, _behind: behind }
    }

    fn openssl(&self, listener: &str) -> SClient {
        SClient::new(self.ground.addr(listener)).verify(self.pki.ca_path(), "mail.example.test")
    }

    fn connect(&self, listener: &str) -> Wire {
        Wire::connect(self.ground.addr(listener))
    }
}

fn configuration(server: &str, listeners: &[(&str, &str, &str)]) -> String {
    let mut text = format!(
        "{CERTIFICATE}\n[certificate.rsa]\ncert = \"%{{file:<dir>/rsa.pem}}%\"\n\
         private-key = \"%{{file:<dir>/rsa.key}}%\"\n\
         [upstream.behind]\naddress = \"<behind>\"\n[server.tls]\n{server}\n"
    );
    for (name, protocol, own) in listeners {
        text.push_str(&format!(
            "[server.listener.{name}]\nprotocol = \"{protocol}\"\nbind = \"<{name}>\"\nupstream = \"behind\"\n\
             [server.listener.{name}.tls]\n{own}\n"
        ));
    }
    text
}

const IMPLICIT: &str = "implicit = true";

#[test]
fn implicit_stands_as_default_and_a_listener_overrides_it() {
    let house = House::new(IMPLICIT, &[("a", "imap", ""), ("b", "imap", "implicit = false")]);
    assert!(house.openssl("a").run().done().verified);
    assert!(house.openssl("b").starttls("imap").run().done().verified);
    house.connect("b").expect("* OK");
}

#[test]
fn enable_false_is_a_cleartext_listener_and_offers_no_starttls() {
    let house = House::new("enable = false", &[("a", "imap", ""), ("b", "imap", "enable = true")]);
    let mut clear = house.connect("a");
    let greeting = clear.expect("* OK");
    assert!(!greeting.contains("STARTTLS") && !greeting.contains("LOGINDISABLED"), "{greeting}");
    clear.say("a CAPABILITY");
    assert!(!clear.until("a OK").concat().contains("STARTTLS"));
    clear.say("b STARTTLS").expect("b BAD");
    clear.say("c LOGIN alice secret").expect("c OK");
    assert!(house.openssl("b").starttls("imap").run().done().verified);
}

#[test]
fn a_version_can_be_disabled_for_all_or_for_one_listener() {
    let house = House::new(
        "implicit = true\ndisable-protocols = [\"TLSv1.2\"]",
        &[
            ("a", "imap", ""),
            ("b", "imap", "disable-protocols = [\"TLSv1.3\"]"),
            ("c", "imap", "disable-protocols = []"),
        ],
    );
    assert_eq!(house.openssl("a").run().done().version.as_deref(), Some("TLSv1.3"));
    let _ = house.openssl("a").args(&["-tls1_2"]).run().refused();
    assert_eq!(house.openssl("b").run().done().version.as_deref(), Some("TLSv1.2"));
    let _ = house.openssl("b").args(&["-tls1_3"]).run().refused();
    let _ = house.openssl("c").args(&["-tls1_2"]).run().done();
    let _ = house.openssl("c").args(&["-tls1_3"]).run().done();
}

#[test]
fn versions_before_1_2_are_refused() {
    let house = House::new("", &[("a", "imap", IMPLICIT), ("b", "imap", "")]);
    for version in ["-tls1", "-tls1_1"] {
        let old = |client: SClient| client.args(&[version, "-cipher", "ALL:@SECLEVEL=0"]).run().refused();
        let seen = old(house.openssl("a"));
        assert!(seen.text.contains("alert"), "the server says so: {}", seen.text);
        let _ = old(house.openssl("b").starttls("imap"));
    }
}

#[test]
fn each_suite_is_served_to_a_client_that_has_only_that_one() {
    let house = House::new("", &[("a", "imap", IMPLICIT)]);
    for (_, openssl, other) in SUITES {
        let client = only(house.openssl("a"), openssl, other);
        assert_eq!(client.run().done().cipher.as_deref(), Some(openssl));
    }
    let _ = only(house.openssl("a"), "ECDHE-RSA-AES256-SHA384", "TLSv1.3").run().refused();
    let _ = only(house.openssl("a"), "AES256-GCM-SHA384", "TLSv1.3").run().refused();
    let _ = only(house.openssl("a"), "DHE-RSA-AES256-GCM-SHA384", "TLSv1.3").run().refused();
}

/// With no other suite than this, `other` being the version it does not belong to.
fn only(client: SClient, suite: &str, other: &str) -> SClient {
    match other {
        "TLSv1.2" => client.args(&["-tls1_3", "-ciphersuites", suite]),
        _ => client.args(&["-tls1_2", "-cipher", suite]),
    }
}

#[test]
fn a_listener_given_one_suite_serves_that_and_no_other() {
    let owns = SUITES.map(|(name, _, other)| {
        format!("implicit = true\nciphers = [\"{name}\"]\ndisable-protocols = [\"{other}\"]")
    });
    let names: Vec<String> = (0..SUITES.len()).map(|number| format!("s{number}")).collect();
    let listeners: Vec<_> = names.iter().zip(&owns).map(|(name, own)| (&**name, "imap", &**own)).collect();
    let house = House::new("", &listeners);
    for (name, (_, openssl, _)) in names.iter().zip(SUITES) {
        assert_eq!(house.openssl(name).run().done().cipher.as_deref(), Some(openssl));
        for (_, foreign, other) in SUITES.into_iter().filter(|(_, foreign, _)| *foreign != openssl) {
            let _ = only(house.openssl(name), foreign, other).run().refused();
        }
    }
}

#[test]
fn a_disabled_suite_is_refused_and_no_other_goes_with_it() {
    for (disabled, openssl, other) in [SUITES[0], SUITES[4], SUITES[6]] {
        let own = format!("implicit = true\ndisable-ciphers = [\"{disabled}\"]");
        let house = House::new(&own, &[("a", "imap", ""), ("b", "imap", "disable-ciphers = []")]);
        let _ = only(house.openssl("a"), openssl, other).run().refused();
        let _ = only(house.openssl("b"), openssl, other).run().done();
        for (name, openssl, other) in SUITES {
            if name != disabled {
                let _ = only(house.openssl("a"), openssl, other).run().done();
            }
        }
    }
}

#[test]
fn the_servers_order_of_suites_counts_unless_the_clients_is_to() {
    let house = House::new(
        IMPLICIT,
        &[
            ("server", "imap", ""),
            ("client", "imap", "ignore-client-order = false"),
            (
                "own",
                "imap",
                "ciphers = [\"TLS13_CHACHA20_POLY1305_SHA256\", \"TLS13_AES_256_GCM_SHA384\", \
                 \"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256\", \"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\"]",
            ),
        ],
    );
    let seen = |listener, arguments: &[&str]| house.openssl(listener).args(arguments).run().done().cipher;
    let new = ["-ciphersuites", "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"];
    assert_eq!(seen("server", &new).as_deref(), Some("TLS_AES_256_GCM_SHA384"));
    assert_eq!(seen("client", &new).as_deref(), Some("TLS_AES_128_GCM_SHA256"));
    assert_eq!(seen("own", &new).as_deref(), Some("TLS_CHACHA20_POLY1305_SHA256"));
    let chosen = "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256";
    let old = ["-tls1_2", "-cipher", chosen];
    assert_eq!(seen("server", &old).as_deref(), Some("ECDHE-ECDSA-AES256-GCM-SHA384"));
    assert_eq!(seen("client", &old).as_deref(), Some("ECDHE-ECDSA-CHACHA20-POLY1305"));
    assert_eq!(seen("own", &old).as_deref(), Some("ECDHE-ECDSA-AES128-GCM-SHA256"));
}

#[test]
fn ignore_client_order_stands_as_default_too() {
    let house = House::new(
        "implicit = true\nignore-client-order = false",
        &[("client", "imap", ""), ("server", "imap", "ignore-client-order = true")],
    );
    let order = ["-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"];
    let seen = |listener| house.openssl(listener).args(&order).run().done().cipher;
    assert_eq!(seen("client").as_deref(), Some("TLS_CHACHA20_POLY1305_SHA256"));
    assert_eq!(seen("server").as_deref(), Some("TLS_AES_256_GCM_SHA384"));
}

#[test]
fn each_group_is_served_alone_and_by_default_and_others_are_refused() {
    let owns = GROUPS.map(|(name, ..)| format!("groups = [\"{name}\"]"));
    let listeners: Vec<_> =
        GROUPS.iter().zip(&owns).map(|((_, _, name), own)| (*name, "imap", own.as_str())).collect();
    let lower: Vec<String> = listeners.iter().map(|(name, ..)| name.to_lowercase()).collect();
    let mut listeners: Vec<_> =
        listeners.iter().zip(&lower).map(|((_, protocol, own), name)| (&**name, *protocol, *own)).collect();
    listeners.push(("all", "imap", ""));
    let house = House::new(IMPLICIT, &listeners);
    // A client of TLS 1.2 wants the key of an ECDSA certificate on one of its groups too (RFC 8422 section 5.1.1).
    let rsa = ["-sigalgs", "rsa_pss_rsae_sha256:rsa_pkcs1_sha256"];
    for version in ["-tls1_2", "-tls1_3"] {
        let openssl = |listener: &str, groups: &str| {
            house.openssl(listener).args(&rsa).args(&[version, "-groups", groups]).run()
        };
        for (own, (_, offered, reported)) in lower.iter().zip(GROUPS) {
            assert_eq!(openssl("all", offered).done().group.as_deref(), Some(reported));
            assert_eq!(openssl(own, "X25519:P-256:P-384").done().group.as_deref(), Some(reported));
            for (_, foreign, _) in GROUPS.into_iter().filter(|(_, foreign, _)| *foreign != offered) {
                let _ = openssl(own, foreign).refused();
            }
        }
        for foreign in ["X448", "P-521", "ffdhe2048"] {
            if (version, foreign) != ("-tls1_2", "ffdhe2048") {
                let _ = openssl("all", foreign).refused();
            }
        }
    }
}

fn group_of(wire: &Wire) -> String {
    let group = wire.session().negotiated_key_exchange_group().expect("group");
    group.name().as_str().expect("name").to_owned()
}

#[test]
fn the_servers_order_of_groups_counts() {
    let house = House::new(
        "implicit = true\ngroups = [\"SECP384R1\", \"X25519\", \"X25519MLKEM768\"]",
        &[("a", "imap", ""), ("b", "imap", "groups = [\"SECP256R1\", \"X25519MLKEM768\", \"X25519\"]")],
    );
    let offer = ["-tls1_2", "-groups", "X25519:P-256:P-384"];
    assert_eq!(house.openssl("a").args(&offer).run().done().group.as_deref(), Some("secp384r1"));
    assert_eq!(house.openssl("b").args(&offer).run().done().group.as_deref(), Some("prime256v1"));
    // In TLS 1.3, among those that cost no further round trip: rustls sends shares of both of these.
    let mut provider = provider();
    provider.kx_groups.retain(|it| it.name().as_str().is_some_and(|name| name.starts_with("X25519")));
    let client = house.pki.client_with("mail.example.test", provider, &[&TLS13], &[]);
    assert_eq!(group_of(&house.connect("a").tls(&client)), "X25519");
    assert_eq!(group_of(&house.connect("b").tls(&client)), "X25519MLKEM768");
}

fn client_of_group(pki: &Pki, group: &str) -> TlsClient {
    let mut provider = provider();
    provider.kx_groups = ALL_KX_GROUPS.to_vec();
    provider.kx_groups.retain(|it| it.name().as_str().is_some_and(|name| name.eq_ignore_ascii_case(group)));
    assert_eq!(provider.kx_groups.len(), 1);
    pki.client_with("mail.example.test", provider, &[&TLS13], &[])
}

#[test]
fn the_post_quantum_group_is_first_and_can_be_the_only_one() {
    let house = House::new(
        IMPLICIT,
        &[
            ("all", "imap", ""),
            ("hybrid", "imap", "groups = [\"X25519MLKEM768\"]\ndisable-protocols = [\"TLSv1.2\"]"),
            ("classic", "imap", "groups = [\"X25519\"]"),
        ],
    );
    let hybrid = client_of_group(&house.pki, "X25519MLKEM768");
    for listener in ["all", "hybrid"] {
        let mut wire = house.connect(listener).tls(&hybrid);
        wire.expect("* OK");
        assert_eq!(group_of(&wire), "X25519MLKEM768");
    }
    let any = house.pki.client("mail.example.test");
    assert_eq!(group_of(&house.connect("all").tls(&any)), "X25519MLKEM768");
    assert!(house.connect("classic").try_tls(&hybrid).is_err());
    assert!(house.connect("hybrid").try_tls(&client_of_group(&house.pki, "X25519")).is_err());
    for foreign in ["MLKEM768", "secp256r1MLKEM768"] {
        assert!(house.connect("all").try_tls(&client_of_group(&house.pki, foreign)).is_err(), "{foreign}");
    }
}

/// How long until the other side has closed.
fn time_to_end(wire: &mut Wire) -> (Duration, String) {
    let start = Instant::now();
    let rest = wire.ended();
    (start.elapsed(), String::from_utf8_lossy(&rest).into_owned())
}

fn about(time: Duration, seconds: f64) {
    let took = time.as_secs_f64();
    assert!(took > seconds - 0.5 && took < seconds + 2.0, "{took} s instead of {seconds} s");
}

#[test]
fn a_handshake_that_does_not_come_ends_after_the_timeout() {
    let house = House::new(
        "timeout = \"2s\"",
        &[("a", "imap", IMPLICIT), ("b", "imap", "timeout = \"4s\"\nimplicit = true")],
    );
    let (mut a, mut b) = (house.connect("a"), house.connect("b"));
    about(time_to_end(&mut a).0, 2.0);
    about(time_to_end(&mut b).0, 2.0);
}

#[test]
fn dripped_bytes_do_not_prolong_a_handshake() {
    let house = House::new("timeout = \"2s\"", &[("implicit", "imap", IMPLICIT), ("explicit", "imap", "")]);
    let client = house.pki.client("mail.example.test");
    let drip = |wire: &mut Wire| {
        let start = Instant::now();
        for byte in client.hello() {
            if wire.try_send(&[byte]).is_err() {
                break;
            }
            wire.socket().set_read_timeout(Some(Duration::from_millis(50))).expect("timeout");
            match wire.read_some() {
                Ok(end) if end.is_empty() => break,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
            assert!(start.elapsed() < Duration::from_secs(10), "still open");
        }
        start.elapsed()
    };
    about(drip(&mut house.connect("implicit")), 2.0);
    // From the go-ahead, not from the greeting.
    let mut wire = house.connect("explicit");
    wire.expect("* OK");
    std::thread::sleep(Duration::from_millis(1_200));
    wire.say("a STARTTLS").expect("a OK");
    about(drip(&mut wire), 2.0);
}

#[test]
fn where_tls_is_required_small_talk_ends_after_the_timeout_politely() {
    let house =
        House::new("timeout = \"2s\"", &[("required", "imap", ""), ("optional", "imap", "require = false")]);
    let mut wire = house.connect("required");
    wire.expect("* OK");
    let start = Instant::now();
    let last = loop {
        std::thread::sleep(Duration::from_millis(300));
        if wire.try_send(b"a NOOP\r\n").is_err() {
            break wire.try_line();
        }
        match wire.try_line() {
            Ok(Some(line)) if line.starts_with("a OK") => {}
            other => break other,
        }
        assert!(start.elapsed() < Duration::from_secs(10), "still open");
    };
    about(start.elapsed(), 2.0);
    assert!(matches!(&last, Ok(Some(line)) if line.starts_with("* BYE")), "{last:?}");

    let mut wire = house.connect("optional");
    wire.expect("* OK");
    std::thread::sleep(Duration::from_secs(4));
    wire.say("a NOOP").expect("a OK");
}

#[test]
fn require_decides_what_is_answered_before_tls() {
    let house =
        House::new("require = false", &[("optional", "imap", ""), ("required", "imap", "require = true")]);
    let mut wire = house.connect("optional");
    wire.expect("* OK");
    wire.say("a SELECT INBOX").until("a OK");
    let mut wire = house.connect("optional");
    wire.expect("* OK");
    wire.say("a LOGIN alice secret").expect("a NO [PRIVACYREQUIRED]");
    let mut wire = house.connect("required");
    wire.expect("* OK");
    wire.say("a SELECT INBOX").expect("a BAD");
    wire.say("b LOGIN alice secret").expect("b NO [PRIVACYREQUIRED]");
}

#[test]
fn a_client_hello_in_twenty_segments_or_of_sixteen_kilobytes_is_read() {
    let house = House::new("", &[("implicit", "imap", IMPLICIT), ("explicit", "imap", "")]);
    let mut protocols = vec!["imap".to_owned()];
    protocols.extend((0..61).map(|number| format!("{number:0>250}")));
    let protocols: Vec<&str> = protocols.iter().map(String::as_str).collect();
    let large = house.pki.client_with("mail.example.test", provider(), &[&TLS13, &TLS12], &protocols);
    assert!(large.hello().len() > 16 * 1024);
    for (client, segments) in [(&large, 1), (&large, 20), (&house.pki.client("mail.example.test"), 20)] {
        let mut wire = house.connect("implicit").try_tls_in(client, segments).expect("handshake");
        wire.expect("* OK");
        let mut wire = house.connect("explicit");
        wire.expect("* OK");
        wire.say("a STARTTLS").expect("a OK");
        let mut wire = wire.try_tls_in(client, segments).expect("handshake");
        wire.say("b NOOP").expect("b OK");
    }
}

#[test]
fn rsa_and_ecdsa_stand_side_by_side_and_the_client_decides() {
    let house = House::new("", &[("a", "imap", IMPLICIT)]);
    let shown = |arguments: &[&str]| house.openssl("a").args(arguments).run().done().common_name;
    assert_eq!(shown(&[]).as_deref(), Some("mail.example.test"), "ECDSA first");
    let rsa = ["-sigalgs", "rsa_pss_rsae_sha256:rsa_pkcs1_sha256"];
    assert_eq!(shown(&rsa).as_deref(), Some("rsa.example.test"));
    assert_eq!(shown(&[&rsa[..], &["-tls1_2"]].concat()).as_deref(), Some("rsa.example.test"));
    let ecdsa = ["-tls1_2", "-sigalgs", "ecdsa_secp256r1_sha256"];
    assert_eq!(shown(&ecdsa).as_deref(), Some("mail.example.test"));
    let suite = ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"];
    assert_eq!(shown(&suite).as_deref(), Some("rsa.example.test"));
}

#[test]
fn alpn_agrees_on_the_protocols_own_name_and_refuses_others() {
    let house = House::new(
        IMPLICIT,
        &[
            ("imap", "imap", ""),
            ("pop3", "pop3", ""),
            ("managesieve", "managesieve", ""),
            ("smtp", "smtp", ""),
            ("submission", "submission", ""),
            ("explicit", "imap", "implicit = false"),
        ],
    );
    let alpn = |listener: &str, offer: &str| house.openssl(listener).args(&["-alpn", offer]);
    for name in ["imap", "pop3", "managesieve"] {
        assert_eq!(alpn(name, name).run().done().alpn.as_deref(), Some(name));
        assert_eq!(alpn(name, &format!("http/1.1,{name}")).run().done().alpn.as_deref(), Some(name));
        let refused = alpn(name, "h2,http/1.1").run().refused();
        assert!(refused.text.contains("no application protocol"), "{}", refused.text);
        assert_eq!(house.openssl(name).run().done().alpn, None, "none offered");
    }
    for name in ["smtp", "submission"] {
        let _ = alpn(name, "h2,http/1.1").run().refused();
        assert_eq!(house.openssl(name).run().done().alpn, None, "none offered");
    }
    assert_eq!(alpn("explicit", "imap").starttls("imap").run().done().alpn.as_deref(), Some("imap"));
    let _ = alpn("explicit", "pop3").starttls("imap").run().refused();
}

#[test]
fn sessions_resume_in_both_versions_but_not_at_port_25() {
    let house =
        House::new(IMPLICIT, &[("imap", "imap", ""), ("submission", "submission", ""), ("smtp", "smtp", "")]);
    let file = house.ground.path("session.pem");
    let file = file.to_str().expect("utf-8");
    for version in ["-tls1_2", "-tls1_3"] {
        for (listener, resumes) in [("imap", true), ("submission", true), ("smtp", false)] {
            let _ = std::fs::remove_file(file);
            let first = house.openssl(listener).args(&[version]).keep_session(file).run().done();
            assert!(!first.resumed);
            if !std::path::Path::new(file).exists() {
                assert!(!resumes, "no session to resume at {listener} {version}: {}", first.text);
                continue;
            }
            let again = house.openssl(listener).args(&[version, "-sess_in", file]).run().done();
            assert_eq!(again.resumed, resumes, "{listener} {version}: {}", again.text);
            assert!(!again.text.contains("Max Early Data: 1"), "{}", again.text);
        }
    }
    house.door.wait_line(&["imap", "resumed"]);
}

#[test]
fn a_ticket_is_void_at_another_listener_of_another_policy() {
    let house = House::new(
        IMPLICIT,
        &[("a", "imap", ""), ("b", "imap", "disable-ciphers = [\"TLS13_CHACHA20_POLY1305_SHA256\"]")],
    );
    let file = house.ground.path("session.pem");
    let file = file.to_str().expect("utf-8");
    for version in ["-tls1_2", "-tls1_3"] {
        let _ = house.openssl("a").args(&[version]).keep_session(file).run().done();
        assert!(!house.openssl("b").args(&[version, "-sess_in", file]).run().done().resumed, "{version}");
        assert!(house.openssl("a").args(&[version, "-sess_in", file]).run().done().resumed, "{version}");
    }
}

#[test]
fn renegotiation_is_refused() {
    let house = House::new("", &[("a", "imap", IMPLICIT)]);
    // A line of "R" makes s_client ask for it.
    let seen = house.openssl("a").args(&["-tls1_2"]).after("* OK").say("R").run().done();
    assert!(seen.text.contains("RENEGOTIATING"), "{}", seen.text);
    assert!(seen.text.contains("no renegotiation"), "{}", seen.text);
}

#[test]
fn one_suite_of_rustls_reaches_the_service() {
    // The same as with openssl, from the other library: no peculiarity of one is taken for the rule.
    let house = House::new("", &[("a", "imap", IMPLICIT)]);
    for (name, _, other) in SUITES {
        let mut provider = provider();
        provider.cipher_suites = vec![suite(name)];
        let version = if other == "TLSv1.2" { &TLS13 } else { &TLS12 };
        let client = house.pki.client_with("mail.example.test", provider, &[version], &["imap"]);
        let mut wire = house.connect("a").tls(&client);
        wire.expect("* OK");
        wire.say("a NOOP").expect("a OK");
        assert_eq!(wire.session().alpn_protocol(), Some(&b"imap"[..]));
    }
}

#[test]
fn contradictions_of_tls_settings_are_errors_at_start() {
    for (own, word) in [
        ("disable-protocols = [\"TLSv1.2\", \"TLSv1.3\"]", "disable-protocols"),
        ("ciphers = [\"TLS13_AES_256_GCM_SHA384\"]", "TLSv1.2"),
        ("groups = []", "groups"),
        ("disable-protocols = [\"TLSv1.1\"]", "TLSv1.1"),
        ("disable-ciphers = [\"ECDHE-RSA-AES256-GCM-SHA384\"]", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
        ("groups = [\"X25519MLKEM786\"]", "X25519MLKEM768"),
    ] {
        let ground = Ground::new();
        let pki = mail_certificate(&ground);
        pki.leaf_in(ground.dir(), "rsa", KeyKind::Rsa, &["mail.example.test"]);
        for text in [configuration(own, &[("a", "imap", "")]), configuration("", &[("a", "imap", own)])] {
            let file = ground.write("waxseal.toml", &text);
            for command in ["serve", "check"] {
                let finished = waxseal(&[command, "--config", file.to_str().expect("utf-8")]);
                assert_eq!(finished.status.code(), Some(1), "{own}: {}", finished.all());
                assert!(finished.all().contains(word), "{own}: {}", finished.all());
                assert!(finished.all().contains("waxseal.toml:"), "{own}: {}", finished.all());
            }
        }
    }
}
