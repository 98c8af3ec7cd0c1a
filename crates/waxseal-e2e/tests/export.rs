//! Certificates from and for other programs.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::time::Duration;

use waxseal_e2e::{Door, Fake, Ground, KeyKind, NAME, Pebble, Pki, SClient, cert, eventually, within};

fn configuration(pebble: &Pebble) -> String {
    pebble.door(&format!("[acme.test]\nCA\ndomains = [\"{NAME}\"]\n"))
}

/// Number of the user `nobody` and of the group `nogroup` in Debian.
const NOBODY: u32 = 65_534;

/// A certificate for `name` where certbot has them.
fn certbot(ground: &Ground, pki: &Pki, name: &str) {
    let live = ground.path("letsencrypt/live").join(name);
    fs::create_dir_all(&live).expect("a directory");
    let leaf = pki.leaf(KeyKind::Ecdsa, &[name]);
    fs::write(live.join("fullchain.pem"), &leaf.chain).expect("written");
    leaf.write_key(&live.join("privkey.pem"));
}

#[test]
fn an_exported_certificate_is_in_its_files_at_once_and_again_after_a_renewal() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, 30 * 86_400);
    let _behind = Fake::imap(&ground, "behind", |_| ());
    let door = Door::start(&ground, &configuration(&pebble));
    within(Duration::from_secs(30), "a certificate", || {
        let client = SClient::new(pebble.at(443)).args(&["-CAfile", pebble.roots(), "-servername", NAME]);
        client.run().verified.then_some(())
    });
    let path = |name: &str| ground.path(name).to_str().expect("utf-8").to_owned();
    let (chain, key, ran) = (path("out.pem"), path("out.key"), path("ran"));
    let run = format!("echo reloaded >>{ran}");
    let files =
        ["export", NAME, "--cert", &chain, "--key", &key, "--owner", "nobody:nogroup", "--mode", "640"];
    let said = cert(&ground, &[&files[..], &["--run", &run]].concat()).ok();
    let first = fs::read_to_string(&chain).expect("written at once");
    assert!(said.all().contains("serial"), "{}", said.all());
    assert!(fs::read_to_string(&key).expect("written").contains("PRIVATE KEY"));
    assert_eq!(fs::read_to_string(&ran).expect("run"), "reloaded\n");
    let listed = cert(&ground, &["export", "--list"]).ok();
    assert!(listed.out.contains(&chain) && listed.out.contains("640"), "{}", listed.out);

    assert!(cert(&ground, &["renew", NAME]).status.success());
    let second = eventually("the renewed certificate in its file", || {
        fs::read_to_string(&chain).ok().filter(|text| *text != first)
    });
    eventually("the command again", || (fs::read_to_string(&ran).ok()?.lines().count() == 2).then_some(()));
    door.wait_log("exported to");
    for (file, mode) in [(&chain, 0o644), (&key, 0o640)] {
        let found = fs::metadata(file).expect("there");
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (NOBODY, NOBODY, mode), "{file}");
    }

    assert!(cert(&ground, &["export", NAME, "--remove"]).status.success());
    assert!(cert(&ground, &["renew", NAME]).status.success());
    assert!(!cert(&ground, &["export", NAME, "--remove"]).status.success(), "there is none any more");
    assert_eq!(fs::read_to_string(&chain).expect("there"), second, "the files stay as they were");
}

#[test]
fn what_another_program_obtained_is_served_from_the_first_start_and_nothing_is_ordered() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, 30 * 86_400);
    let _behind = Fake::imap(&ground, "behind", |_| ());
    let pki = Pki::new(&ground);
    certbot(&ground, &pki, NAME);
    certbot(&ground, &pki, "www.example.test");
    let text = configuration(&pebble);
    ground.write("waxseal.toml", &ground.expand(&text));
    let letsencrypt = ground.path("letsencrypt");
    let letsencrypt = letsencrypt.to_str().expect("utf-8");
    let dry = cert(&ground, &["import", "--from", "certbot", letsencrypt, "--dry-run"]).ok();
    assert!(dry.out.contains("would be the certificate of acme.test"), "{}", dry.all());
    assert!(!ground.path("cache").exists(), "nothing is written");
    let said = cert(&ground, &["import", "--from", "certbot", letsencrypt]).ok();
    assert!(said.out.contains("is the certificate of acme.test"), "{}", said.all());
    assert!(said.out.contains("domains = [\"www.example.test\"]"), "{}", said.all());

    let door = Door::start(&ground, &text);
    // Its address is the CA's choice and none of the ground's, so that nobody has waited for it yet.
    eventually("the imported certificate is shown", || {
        let client = SClient::new(pebble.at(443)).args(&["-CAfile", pki.ca_path(), "-servername", NAME]);
        client.run().verified.then_some(())
    });
    assert_eq!(pebble.counts(), (0, 0), "{}", door.log());
}

#[test]
fn an_export_is_refused_at_once_where_the_user_that_the_server_becomes_may_not_write() {
    const DAEMON: u32 = 1;
    let ground = Ground::new();
    certbot(&ground, &Pki::new(&ground), NAME);
    let text = format!(
        "[server]\nhostname = \"{NAME}\"\n[server.run-as]\nuser = \"daemon\"\n\
         [server.listener.https]\nprotocol = \"http\"\nbind = \"<https>\"\ntls.implicit = true\n\
         [acme.test]\ncontact = [\"admin@example.test\"]\ndomains = [\"{NAME}\"]\ncache = \"<dir>/cache\"\n"
    );
    ground.write("waxseal.toml", &ground.expand(&text));
    fs::set_permissions(ground.dir(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("passable");
    let path = |name: &str| ground.path(name).to_str().expect("utf-8").to_owned();
    let taken = cert(&ground, &["import", "--from", "certbot", &path("letsencrypt")]).ok();
    assert!(taken.out.contains("is the certificate of acme.test"), "{}", taken.all());
    assert_eq!(fs::metadata(ground.path("cache/certificates")).expect("there").uid(), DAEMON);

    for dir in ["roots", "daemons"] {
        fs::create_dir(ground.path(dir)).expect("a directory");
    }
    chown(ground.path("daemons"), Some(DAEMON), None).expect("given away");
    let export = |dir: &str| {
        let (chain, key) = (path(&format!("{dir}/cert.pem")), path(&format!("{dir}/key.pem")));
        cert(&ground, &["export", NAME, "--cert", &chain, "--key", &key])
    };
    let refused = export("roots");
    assert!(!refused.status.success() && refused.err.contains("server.run-as"), "{}", refused.all());
    assert_eq!(fs::read_dir(ground.path("roots")).expect("read").count(), 0);
    assert!(export("daemons").status.success());
    let key = fs::metadata(ground.path("daemons/key.pem")).expect("there");
    assert_eq!((key.uid(), key.mode() & 0o777), (DAEMON, 0o600));
}
