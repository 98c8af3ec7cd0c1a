//! Commands that ask the running server.

use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use waxseal_e2e::{CERTIFICATE, Door, Fake, Finished, Ground, eventually, mail_certificate, waxseal};

/// A CA that nobody is behind: the certificate stays away.
const AWAY: &str = r#"
[acme.away]
directory = "https://127.0.0.1:1/dir"
contact = "admin@example.test"
domains = ["away.example.test"]
cache = "<dir>/cache"
"#;

struct House {
    ground: Ground,
    door: Door,
    _behind: Fake,
}

fn configuration(more: &str) -> String {
    format!(
        "{CERTIFICATE}[upstream.behind]\naddress = \"<behind>\"\n\
         [server.listener.imaps]\nprotocol = \"imap\"\nbind = \"<imaps>\"\nupstream = \"behind\"\ntls.implicit = true\n{more}"
    )
}

impl House {
    fn new() -> Self {
        let ground = Ground::new();
        let _pki = mail_certificate(&ground);
        let behind = Fake::imap(&ground, "behind", |_| ());
        let door = Door::start(&ground, &configuration(AWAY));
        let house = Self { ground, door, _behind: behind };
        house.door.wait_log("serving");
        house
    }

    fn path(&self) -> String {
        self.ground.path("waxseal.toml").to_str().expect("utf-8").to_owned()
    }

    fn ask(&self, words: &[&str]) -> Finished {
        let path = self.path();
        waxseal(&[words, &["--config", &path]].concat())
    }
}

#[test]
fn status_and_list_show_what_is_served_and_what_is_missing() {
    let house = House::new();
    let said = eventually("the first attempt has failed", || {
        let said = house.ask(&["status"]).ok();
        said.out.contains("failing").then_some(said)
    });
    for words in ["imaps", "implicit TLS", "behind", "reachable", "certificate.mail", "valid", "acme.away"] {
        assert!(said.out.contains(words), "{words}: {}", said.out);
    }
    let listed = house.ask(&["cert", "list"]).ok();
    assert!(listed.out.contains("https://127.0.0.1:1/dir cannot be reached"), "{}", listed.out);
    assert!(listed.out.contains("next attempt: 20"), "{}", listed.out);
    let shown = house.ask(&["cert", "show", "mail.example.test", "--json"]).ok();
    let record: serde_json::Value = serde_json::from_str(&shown.out).expect("one object");
    assert_eq!(record["id"], "certificate.mail");
    assert_eq!(record["state"], "valid");
    assert!(!shown.out.contains("PRIVATE KEY") && !listed.out.contains("PRIVATE KEY"));
}

#[test]
fn what_cannot_be_renewed_is_said_with_the_reason() {
    let house = House::new();
    for (name, words) in [
        ("mail.example.test", "is a certificate by hand"),
        ("nobody.example.test", "no certificate is called"),
        ("away.example.test", "cannot be reached"),
    ] {
        let said = eventually("no other attempt is in flight", || {
            let said = house.ask(&["cert", "renew", name]);
            (!said.all().contains("in flight")).then_some(said)
        });
        assert_eq!(said.status.code(), Some(1), "{name}: {}", said.all());
        assert!(said.all().contains(words), "{name}: {}", said.all());
        assert_eq!(said.out, "", "talk is no data");
    }
    assert!(house.ask(&["cert", "show", "nobody.example.test"]).all().contains("waxseal cert list"));
}

#[test]
fn a_reload_is_seen_and_an_end_too() {
    let mut house = House::new();
    house.door.reload(&house.ground, &configuration(""));
    eventually("the reload", || {
        let said = house.ask(&["cert", "list"]).ok().out;
        (!said.contains("acme.away")).then_some(())
    });
    house.door.signal(Signal::SIGTERM);
    house.door.wait_exit();
    let said = house.ask(&["status"]);
    assert_eq!(said.status.code(), Some(1));
    assert!(said.all().contains("no server runs with"), "{}", said.all());
}

/// The sockets of all servers that run on this machine now, ours among them.
fn sockets() -> Vec<PathBuf> {
    let places = std::fs::read_dir("/run/waxseal").expect("tests run as root");
    let paths = places.map(|entry| entry.expect("readable").path());
    paths.filter(|path| path.metadata().is_ok_and(|found| found.file_type().is_socket())).collect()
}

#[test]
fn the_socket_is_its_owners_alone_and_garbage_is_answered_and_forgotten() {
    let house = House::new();
    for path in sockets() {
        let mode = path.metadata().map(|found| found.permissions().mode() & 0o777);
        assert!(mode.is_err() || mode.is_ok_and(|mode| mode == 0o600), "{}", path.display());
    }
    for garbage in [&b"\n"[..], b"{}\n", b"{\"do\": \"cert-renew\"}\n", &[0xff; 10_000]] {
        for mut stream in sockets().into_iter().filter_map(|path| UnixStream::connect(path).ok()) {
            // A server may hang up before it has read all of it.
            let _ = stream.write_all(garbage);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            assert!(answer.is_empty() || answer.starts_with(b"{\"refused\""), "{answer:?}");
        }
    }
    let _ = house.ask(&["status"]).ok();
}

#[test]
fn who_the_server_becomes_owns_its_certificates_and_is_asked_all_the_same() {
    let ground = Ground::new();
    let _pki = mail_certificate(&ground);
    let _behind = Fake::imap(&ground, "behind", |_| ());
    std::fs::create_dir(ground.path("cache")).expect("made by an earlier start as root");
    std::fs::write(ground.path("cache/.lock"), "").expect("left by it");
    let text = configuration(AWAY)
        .replace("[upstream.behind]", "[server.run-as]\nuser = \"daemon\"\n[upstream.behind]");
    let door = Door::start(&ground, &text);
    door.wait_log("serving");
    let path = ground.path("waxseal.toml");
    let path = path.to_str().expect("utf-8");
    eventually("a history", || {
        let owned = waxseal_e2e::run(
            "find",
            &[ground.path("cache").to_str().expect("utf-8"), "!", "-user", "daemon"],
        )
        .ok();
        assert_eq!(owned.out, "");
        ground.path("cache/attempts").exists().then_some(())
    });
    assert!(waxseal(&["cert", "list", "--config", path]).ok().out.contains("acme.away"));
}
