//! Which certificate a client is shown.

use waxseal_e2e::{Door, Fake, Ground, KeyKind, Pki, SClient};

/// A door with a certificate for each of `names`: the first name is its common name, and `more` its other lines.
fn door_with_names(hostname: &str, certificates: &[(&str, &[&str], &str)]) -> (Door, Fake, Ground) {
    let ground = Ground::new();
    let pki = Pki::new(&ground);
    let mut text = format!("[server]\nhostname = \"{hostname}\"\n");
    for (id, names, more) in certificates {
        pki.leaf_in(ground.dir(), id, KeyKind::Ecdsa, names);
        text.push_str(&format!(
            "[certificate.{id}]\ncert = \"%{{file:<dir>/{id}.pem}}%\"\n\
             private-key = \"%{{file:<dir>/{id}.key}}%\"\n{more}\n"
        ));
    }
    text.push_str(
        "[upstream.behind]\naddress = \"<behind>\"\n\
         [server.listener.imaps]\nprotocol = \"imap\"\nbind = \"<imaps>\"\nupstream = \"behind\"\n\
         tls.implicit = true\n",
    );
    let behind = Fake::imap(&ground, "behind", |_| ());
    let door = Door::start(&ground, &text);
    (door, behind, ground)
}

fn shown(ground: &Ground, name: Option<&str>) -> String {
    let client = SClient::new(ground.addr("imaps"));
    let client = match name {
        Some(name) => client.args(&["-servername", name]),
        None => client.args(&["-noservername"]),
    };
    client.run().done().common_name.expect("common name")
}

#[test]
fn the_certificate_is_chosen_by_exact_name_then_wildcard_then_default() {
    let (_door, _behind, ground) = door_with_names(
        "unknown.test",
        &[
            ("wild", &["*.example.test"], ""),
            ("exact", &["mail.example.test"], ""),
            ("more", &["more.test"], "subjects = [\"named.test\", \"*.named.test\"]"),
            ("fallback", &["fallback.test"], "default = true"),
        ],
    );
    for (asked, expected) in [
        (Some("mail.example.test"), "mail.example.test"),
        (Some("MAIL.Example.TEST"), "mail.example.test"),
        (Some("mail.example.test."), "mail.example.test"),
        (Some("imap.example.test"), "*.example.test"),
        (Some("a.b.example.test"), "fallback.test"),
        (Some("example.test"), "fallback.test"),
        (Some("named.test"), "more.test"),
        (Some("a.named.test"), "more.test"),
        (Some("foreign.test"), "fallback.test"),
        (Some("127.0.0.1"), "fallback.test"),
        (Some("under_score.test"), "fallback.test"),
        (None, "fallback.test"),
    ] {
        assert_eq!(shown(&ground, asked), expected, "asked for {asked:?}");
    }
}

#[test]
fn without_a_default_the_hostnames_certificate_serves_and_then_the_first() {
    let (_door, _behind, ground) =
        door_with_names("b.test", &[("z", &["a.test"], ""), ("y", &["b.test"], ""), ("x", &["c.test"], "")]);
    assert_eq!(shown(&ground, None), "b.test");
    assert_eq!(shown(&ground, Some("foreign.test")), "b.test");
    let (door, _behind, ground) =
        door_with_names("none.test", &[("z", &["a.test"], ""), ("y", &["b.test"], "")]);
    assert_eq!(shown(&ground, None), "a.test", "the first by the configuration's order, not the alphabet's");
    door.wait_line(&["default = true", "first"]);
}
