//! Certificates by hand: the forms they come in, what is wrong with some, and how new ones are noticed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use waxseal_e2e::{
    CERTIFICATE, Door, Fake, Ground, KeyKind, Leaf, Pki, TlsClient, Wire, mail_certificate, run, waxseal,
    within,
};

/// "Within seconds": as long as an operator looks at the screen.
const NOTICED: Duration = Duration::from_secs(10);

const LISTENERS: &str = r#"
[upstream.behind]
address = "<behind>"
[server.listener.imaps]
protocol = "imap"
bind = "<imaps>"
upstream = "behind"
tls.implicit = true
[server.listener.imap]
protocol = "imap"
bind = "<imap>"
upstream = "behind"
"#;

struct House {
    door: Door,
    pki: Pki,
    client: TlsClient,
    ground: Ground,
    _behind: Fake,
}

impl House {
    /// A door whose pair is what `cert` and `key` name, laid by `lay`.
    fn new(cert: &str, key: &str, lay: impl FnOnce(&Ground, &Leaf)) -> (Self, Leaf) {
        let ground = Ground::new();
        let pki = Pki::new(&ground);
        let first = new_leaf(&pki);
        lay(&ground, &first);
        let behind = Fake::imap(&ground, "behind", |_| ());
        let door = Door::start(
            &ground,
            &format!(
                "[server]\nhostname = \"mail.example.test\"\n[certificate.mail]\n\
                 cert = \"%{{file:<dir>/{cert}}}%\"\nprivate-key = \"%{{file:<dir>/{key}}}%\"\n{LISTENERS}"
            ),
        );
        let client = pki.client("mail.example.test");
        (Self { door, pki, client, ground, _behind: behind }, first)
    }

    /// The pair in two plain files.
    fn plain() -> (Self, Leaf) {
        Self::new("cert.pem", "key.pem", |ground, leaf| {
            fs::write(ground.path("cert.pem"), &leaf.chain).expect("certificate");
            leaf.write_key(&ground.path("key.pem"));
        })
    }

    fn session(&self) -> Wire {
        let mut wire = Wire::connect(self.ground.addr("imaps")).tls(&self.client);
        wire.expect("* OK");
        wire
    }

    fn explicit_session(&self) -> Wire {
        let mut wire = Wire::connect(self.ground.addr("imap"));
        wire.expect("* OK");
        wire.say("s STARTTLS").expect("s OK");
        wire.tls(&self.client)
    }

    /// Every listener shows `leaf` before long, and until then what it showed before.
    fn noticed(&self, old: &Leaf, new: &Leaf, how: &str) {
        for session in [Self::session, Self::explicit_session] {
            within(NOTICED, &format!("{how}: the new certificate is shown"), || {
                let shown = session(self).certificate();
                assert!(shown == old.der || shown == new.der, "{how}: a third certificate");
                (shown == new.der).then_some(())
            });
        }
    }
}

fn new_leaf(pki: &Pki) -> Leaf {
    pki.leaf(KeyKind::Ecdsa, &["mail.example.test"])
}

/// Puts `content` in the place of `path` as careful programs do.
fn rename_over(path: &Path, content: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, content).expect("file");
    run_mode(&beside);
    fs::rename(&beside, path).expect("rename");
}

fn run_mode(path: &Path) {
    let _ = run("chmod", &["600", path.to_str().expect("utf-8")]).ok();
}

/// Points the link `path` to `target` without a moment in which there is none.
fn switch_link(path: &Path, target: &str) {
    let beside = path.with_file_name("switching");
    symlink(target, &beside).expect("symlink");
    fs::rename(&beside, path).expect("rename");
}

#[test]
fn files_renamed_into_place_are_noticed_and_sessions_live_on() {
    let (house, first) = House::plain();
    let mut held: Vec<Wire> = (0..20).map(|_| house.session()).collect();
    held.extend((0..20).map(|_| house.explicit_session()));
    let second = new_leaf(&house.pki);
    rename_over(&house.ground.path("cert.pem"), &second.chain);
    rename_over(&house.ground.path("key.pem"), &second.key);
    house.noticed(&first, &second, "rename");
    for wire in &mut held {
        wire.say("a NOOP").expect("a OK");
    }
}

#[test]
fn files_written_in_place_are_noticed() {
    let (house, first) = House::plain();
    let second = new_leaf(&house.pki);
    fs::write(house.ground.path("cert.pem"), &second.chain).expect("certificate");
    fs::write(house.ground.path("key.pem"), &second.key).expect("key");
    house.noticed(&first, &second, "in place");
    let third = new_leaf(&house.pki);
    fs::write(house.ground.path("key.pem"), &third.key).expect("key");
    fs::write(house.ground.path("cert.pem"), &third.chain).expect("certificate");
    house.noticed(&second, &third, "in place, the key first");
}

#[test]
fn links_switched_to_other_files_are_noticed() {
    // The layout of certbot.
    let lay = |ground: &Ground, number: usize, leaf: &Leaf| {
        fs::write(ground.path(&format!("archive/cert{number}.pem")), &leaf.chain).expect("certificate");
        leaf.write_key(&ground.path(&format!("archive/key{number}.pem")));
    };
    let (house, first) = House::new("live/cert.pem", "live/key.pem", |ground, leaf| {
        fs::create_dir(ground.path("archive")).expect("directory");
        fs::create_dir(ground.path("live")).expect("directory");
        lay(ground, 1, leaf);
        symlink("../archive/cert1.pem", ground.path("live/cert.pem")).expect("symlink");
        symlink("../archive/key1.pem", ground.path("live/key.pem")).expect("symlink");
    });
    let second = new_leaf(&house.pki);
    lay(&house.ground, 2, &second);
    switch_link(&house.ground.path("live/cert.pem"), "../archive/cert2.pem");
    switch_link(&house.ground.path("live/key.pem"), "../archive/key2.pem");
    house.noticed(&first, &second, "links switched");
    // What a link points to, written in place.
    let third = new_leaf(&house.pki);
    lay(&house.ground, 2, &third);
    house.noticed(&second, &third, "behind the links");
}

#[test]
fn a_kubernetes_secret_swapped_by_its_data_link_is_noticed() {
    let lay = |ground: &Ground, version: &str, leaf: &Leaf| {
        fs::create_dir_all(ground.path(&format!("secret/{version}"))).expect("directory");
        fs::write(ground.path(&format!("secret/{version}/tls.crt")), &leaf.chain).expect("certificate");
        leaf.write_key(&ground.path(&format!("secret/{version}/tls.key")));
    };
    let (house, first) = House::new("secret/tls.crt", "secret/tls.key", |ground, leaf| {
        lay(ground, "..2026_1", leaf);
        symlink("..2026_1", ground.path("secret/..data")).expect("symlink");
        symlink("..data/tls.crt", ground.path("secret/tls.crt")).expect("symlink");
        symlink("..data/tls.key", ground.path("secret/tls.key")).expect("symlink");
    });
    let mut old = first;
    for version in ["..2026_2", "..2026_3"] {
        let new = new_leaf(&house.pki);
        lay(&house.ground, version, &new);
        switch_link(&house.ground.path("secret/..data"), version);
        house.noticed(&old, &new, version);
        old = new;
    }
}

#[test]
fn certificate_and_key_that_arrive_one_after_the_other_never_fail_a_handshake() {
    for key_first in [false, true] {
        let (house, first) = House::plain();
        let second = new_leaf(&house.pki);
        let write = |key: bool| {
            let (name, content) = if key { ("key.pem", &second.key) } else { ("cert.pem", &second.chain) };
            rename_over(&house.ground.path(name), content);
        };
        let done = AtomicBool::new(false);
        let shakes = std::thread::scope(|scope| {
            let shaking = scope.spawn(|| {
                let mut count = 0;
                while !done.load(Ordering::SeqCst) {
                    // Panics when a handshake fails.
                    let _ = house.session();
                    count += 1;
                }
                count
            });
            write(key_first);
            std::thread::sleep(Duration::from_secs(3));
            assert_eq!(house.session().certificate(), first.der, "the old pair until the new is whole");
            write(!key_first);
            house.noticed(&first, &second, "one after the other");
            done.store(true, Ordering::SeqCst);
            shaking.join().expect("no handshake failed")
        });
        assert!(shakes > 10, "{shakes} handshakes");
    }
}

#[test]
fn a_broken_replacement_leaves_the_old_pair_serving_and_says_so_once() {
    let (house, first) = House::plain();
    let cert = house.ground.path("cert.pem");
    let stranger = new_leaf(&house.pki);
    let half = &first.chain[..first.chain.len() / 2];
    for (what, content) in [
        ("garbage", "no certificate"),
        ("half a file", half),
        ("a stranger's", &stranger.chain),
        ("empty", ""),
    ] {
        let said = house.door.count(&["ERROR", "certificate mail"]);
        rename_over(&cert, content);
        within(NOTICED, what, || (house.door.count(&["ERROR", "certificate mail"]) > said).then_some(()));
        // Time for a second line, which must not come.
        std::thread::sleep(Duration::from_millis(1_500));
        assert_eq!(
            house.door.count(&["ERROR", "certificate mail"]),
            said + 1,
            "{what}: {}",
            house.door.log()
        );
        assert_eq!(house.session().certificate(), first.der, "{what}");
    }
    fs::remove_file(&cert).expect("remove");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(house.session().certificate(), first.der, "removed");
    let second = new_leaf(&house.pki);
    rename_over(&cert, &second.chain);
    rename_over(&house.ground.path("key.pem"), &second.key);
    house.noticed(&first, &second, "mended");
    assert!(house.door.count(&["ERROR", "cert.pem"]) > 0, "the file is named: {}", house.door.log());
}

#[test]
fn chain_and_key_come_in_every_form_of_pem() {
    let ground = Ground::new();
    let pki = mail_certificate(&ground);
    let behind = Fake::imap(&ground, "behind", |_| ());
    for kind in [KeyKind::Rsa, KeyKind::Ecdsa] {
        let leaf = pki.leaf_in(ground.dir(), "mail", kind, &["mail.example.test"]);
        let key = ground.path("mail.key");
        let traditional = match kind {
            KeyKind::Rsa => run("openssl", &["rsa", "-traditional", "-in", key.to_str().expect("utf-8")]),
            KeyKind::Ecdsa => run("openssl", &["ec", "-in", key.to_str().expect("utf-8")]),
        };
        let traditional = traditional.ok().out;
        assert!(traditional.contains("RSA PRIVATE KEY") || traditional.contains("EC PRIVATE KEY"));
        let inline = format!(
            "[certificate.mail]\ncert = '''\n{}'''\nprivate-key = '''\n{traditional}'''\n",
            leaf.chain
        );
        let file = |name: &str, content: &str| {
            let path = ground.path(name);
            fs::write(&path, content).expect("file");
            run_mode(&path);
            format!("%{{file:{}}}%", path.display())
        };
        let both = file("both.pem", &format!("{}{}", leaf.key, leaf.chain));
        let dos = file(
            "dos.pem",
            &format!("Bag Attributes\r\n    friendlyName: x\r\n{}", leaf.chain.replace('\n', "\r\n")),
        );
        let old = file("old.key", &traditional);
        let combined = format!("[certificate.mail]\ncert = \"{both}\"\nprivate-key = \"{both}\"\n");
        let windows = format!("[certificate.mail]\ncert = \"{dos}\"\nprivate-key = \"{old}\"\n");
        for text in [inline, combined, windows] {
            let door = Door::start(
                &ground,
                &format!("[server]\nhostname = \"mail.example.test\"\n{text}{LISTENERS}"),
            );
            let wire = Wire::connect(ground.addr("imaps")).tls(&pki.client("mail.example.test"));
            assert_eq!(wire.certificate(), leaf.der, "{text}");
            drop(door);
        }
    }
    drop(behind);
}

#[test]
fn a_pair_that_cannot_serve_is_refused_at_the_start_with_the_reason() {
    let ground = Ground::new();
    let pki = mail_certificate(&ground);
    let leaf = pki.leaf_in(ground.dir(), "mail", KeyKind::Ecdsa, &["mail.example.test"]);
    let other = new_leaf(&pki);
    let key = ground.path("mail.key");
    let key = key.to_str().expect("utf-8");
    let encrypted = run("openssl", &["pkcs8", "-topk8", "-in", key, "-passout", "pass:x"]).ok().out;
    fs::create_dir(ground.path("directory")).expect("directory");
    fs::write(ground.path("empty"), "").expect("file");
    fs::write(ground.path("other.key"), &other.key).expect("file");
    fs::write(ground.path("encrypted.key"), encrypted).expect("file");
    fs::write(ground.path("leaf.der"), &leaf.der).expect("file");
    for (cert, key, words) in [
        ("mail.pem", "other.key", &["other.key", "not the key"][..]),
        ("mail.pem", "encrypted.key", &["encrypted.key", "encrypted"]),
        ("mail.pem", "empty", &["empty"]),
        ("empty", "mail.key", &["empty"]),
        ("directory", "mail.key", &["directory"]),
        ("leaf.der", "mail.key", &["leaf.der", "PEM"]),
        ("absent.pem", "mail.key", &["absent.pem"]),
        ("mail.key", "mail.key", &["mail.key", "certificate"]),
    ] {
        let text = CERTIFICATE.replace("mail.pem", cert).replace("mail.key", key);
        let file = ground.write("waxseal.toml", &format!("{text}{LISTENERS}"));
        let finished = waxseal(&["serve", "--config", file.to_str().expect("utf-8")]);
        assert_eq!(finished.status.code(), Some(1), "{cert} {key}: {}", finished.all());
        for word in words {
            assert!(finished.all().contains(word), "{cert} {key} without {word:?}: {}", finished.all());
        }
        assert!(finished.all().contains("waxseal.toml:"), "{}", finished.all());
        assert!(!finished.all().contains(&leaf.key[40..80]), "the key stands in a message");
    }
}

#[test]
fn a_key_that_others_can_read_is_a_warning_and_serves() {
    let (house, first) = House::plain();
    assert_eq!(house.door.count(&["WARN", "key.pem"]), 0);
    drop(house);
    let (house, first_open) = House::new("cert.pem", "key.pem", |ground, leaf| {
        fs::write(ground.path("cert.pem"), &leaf.chain).expect("certificate");
        fs::write(ground.path("key.pem"), &leaf.key).expect("key");
    });
    let log = house.door.log();
    assert!(log.contains("key.pem") && log.contains("chmod"), "{log}");
    assert_eq!(house.session().certificate(), first_open.der);
    drop(first);
}
