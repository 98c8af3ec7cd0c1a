//! Certificates from a CA where the surroundings are not as in a textbook: a web server on the port, a disk that is
//! full, a CA that is away or wants to know us, a name server of one's own.

use std::fs;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use waxseal_e2e::{
    Daemon, Door, Fake, Ground, KeyKind, Knot, NAME, Pebble, Pki, SClient, Wishes, cert, own_ip, run,
    waxseal, within,
};

const ISSUED: Duration = Duration::from_secs(30);
/// Name and key of an external account.
const EAB: (&str, &str) = ("kid-7", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W");

/// The usual table.
fn mine(more: &str) -> String {
    format!("[acme.mine]\nCA\ndomains = [\"{NAME}\"]\n{more}")
}

fn implicit(pebble: &Pebble) -> (String, bool) {
    pebble.shown(NAME, SClient::new(pebble.at(443)))
}

fn explicit(ground: &Ground, pebble: &Pebble) -> (String, bool) {
    pebble.shown(NAME, SClient::new(ground.addr("imap")).starttls("imap"))
}

fn issued(pebble: &Pebble) -> String {
    within(ISSUED, "a certificate from the CA", || {
        let (certificate, verified) = implicit(pebble);
        verified.then_some(certificate)
    })
}

/// nginx on port 80 of the test's own address, with that in its `server`.
fn nginx(ground: &Ground, pebble: &Pebble, server: &str) -> Daemon {
    let text = format!(
        "daemon off;\nmaster_process off;\npid <dir>/nginx.pid;\nerror_log stderr;\nevents {{ }}\n\
         http {{ access_log off; client_body_temp_path <dir>/t1; proxy_temp_path <dir>/t2; fastcgi_temp_path <dir>/t3;\n\
         uwsgi_temp_path <dir>/t4; scgi_temp_path <dir>/t5;\n\
         server {{ listen {}; {server} }} }}\n",
        pebble.at(80)
    );
    let file = ground.write("nginx.conf", &text);
    let file = file.to_str().expect("utf-8");
    let mut nginx = Daemon::start("nginx", "nginx", &["-c", file, "-e", "stderr"], &[]);
    nginx.wait_listening(&[80]);
    within(ISSUED, "nginx", || TcpStream::connect(pebble.at(80)).ok());
    nginx
}

const WEB: &str = "[server.listener.web]\nprotocol = \"http\"\nbind = \"<web>\"\ntls.enable = false\n";

#[test]
fn behind_a_web_server_that_passes_the_questions_on_http_01_works_and_renews() {
    let ground = Ground::new();
    let pebble = Pebble::with(&ground, Wishes::default());
    let pass = ground.expand("location /.well-known/acme-challenge/ { proxy_pass http://<web>; }");
    let _nginx = nginx(&ground, &pebble, &pass);
    let _behind = Fake::imap(&ground, "behind", |_| ());
    let text = pebble.door(&format!("{}{WEB}", mine("challenge = \"http-01\"\n")));
    let _door = Door::start(&ground, &text);
    let first = issued(&pebble);
    let renewed = cert(&ground, &["renew", NAME]).ok();
    assert!(renewed.out.contains("new certificate, serial"), "{}", renewed.all());
    let second = within(Duration::from_secs(1), "the new one", || {
        let (certificate, verified) = implicit(&pebble);
        (verified && certificate != first).then_some(certificate)
    });
    assert_eq!(explicit(&ground, &pebble).0, second);
}

#[test]
fn a_web_server_that_passes_nothing_on_is_named_with_the_ways_out_and_the_ca_is_not_asked() {
    let ground = Ground::new();
    let pebble = Pebble::with(&ground, Wishes::default());
    let nginx = nginx(&ground, &pebble, "return 404;");
    let _behind = Fake::imap(&ground, "behind", |_| ());
    let text = pebble.door(&format!("{}{WEB}", mine("challenge = \"http-01\"\n")));
    let door = Door::start(&ground, &text);
    // setpriv(1) becomes the program that it starts.
    let named = format!("Port 80 is held by nginx (pid {})", nginx.pid());
    let said = door.wait_log(&named);
    let way_out = ground.expand("let it pass /.well-known/acme-challenge/ on to <web>");
    assert!(said.contains(&way_out) && said.contains("Nothing was asked of the CA"), "{said}");
    let listed = cert(&ground, &["list"]).ok();
    assert!(listed.out.contains("failing") && listed.out.contains(&named), "{}", listed.out);
    assert_eq!(pebble.counts(), (0, 0));
}

#[test]
fn a_web_server_that_passes_nothing_on_for_one_of_two_names_is_told_with_that_name() {
    let ground = Ground::new();
    let pebble = Pebble::with(&ground, Wishes::default());
    let pass = ground.expand("location /.well-known/acme-challenge/ { proxy_pass http://<web>; }");
    let other = format!("listen {}; server_name other.example.test; return 404;", pebble.at(80));
    let _nginx = nginx(&ground, &pebble, &format!("{pass} }} server {{ {other}"));
    let _behind = Fake::imap(&ground, "behind", |_| ());
    let table =
        format!("[acme.mine]\nCA\ndomains = [\"{NAME}\", \"other.example.test\"]\nchallenge = \"http-01\"\n");
    let door = Door::start(&ground, &pebble.door(&format!("{table}{WEB}")));
    let said = door.wait_log("other.example.test: Port 80 is held by nginx");
    assert!(!door.log().contains(&format!("{NAME}: Port 80")), "{said}");
    assert_eq!(pebble.counts(), (0, 0));
}

#[test]
fn an_external_account_is_bound_and_its_key_shown_nowhere() {
    let ground = Ground::new();
    let pebble = Pebble::with(&ground, Wishes { eab: Some(EAB), ..Wishes::default() });
    let _behind = Fake::imap(&ground, "behind", |_| ());
    let without = pebble.door(&mine(""));
    let mut door = Door::start(&ground, &without);
    let said = door.wait_log("takes only accounts that it knows already");
    assert!(said.contains("set eab.kid and eab.hmac-key"), "{said}");
    door.stop();
    let config = ground.path("waxseal.toml");
    let config = config.to_str().expect("utf-8");
    let checked = waxseal(&["check", "--config", config]);
    assert!(
        !checked.status.success() && checked.err.contains("set eab.kid and eab.hmac-key"),
        "{}",
        checked.err
    );

    let (kid, key) = EAB;
    fs::remove_dir_all(ground.path("cache")).expect("removed");
    let with = pebble.door(&mine(&format!("eab.kid = \"{kid}\"\neab.hmac-key = \"{key}\"\n")));
    let door = Door::start(&ground, &with);
    issued(&pebble);
    let shown = waxseal(&["show", "--config", config]).ok();
    assert!(shown.out.contains(kid) && !shown.all().contains(key), "{}", shown.all());
    assert!(!door.log().contains(key), "{}", door.log());
}

/// A file system of a megabyte or so at the place of the cache, gone with the test.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(ground: &Ground) -> Self {
        let path = ground.path("cache");
        fs::create_dir(&path).expect("a directory");
        let disk = Self(path);
        disk.run("mount", &["-t", "tmpfs", "-o", "size=1m,mode=0700", "none"]);
        disk
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let path = self.0.to_str().expect("utf-8");
        let _ = run(program, &[arguments, &[path]].concat()).ok();
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut chunk = vec![0_u8; 1 << 16];
        let mut file = fs::File::create(self.0.join("ballast")).expect("a file");
        while !chunk.is_empty() {
            match std::io::Write::write(&mut file, &chunk) {
                Ok(0) | Err(_) => chunk.truncate(chunk.len() / 2),
                Ok(_) => {}
            }
        }
    }

    /// Makes it read-only, as seen by whoever goes there from now on. The kernel would not let it become so while files are
    /// open for writing, unless the disk breaks.
    fn cover(&self) {
        let path = self.0.to_str().expect("utf-8");
        self.run("mount", &["--bind", path]);
        self.run("mount", &["-o", "remount,bind,ro"]);
    }

    fn uncover(&self) {
        self.run("umount", &[]);
    }

    fn make_room(&self) {
        fs::remove_file(self.0.join("ballast")).expect("removed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Twice where it is covered.
        while std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .output()
            .is_ok_and(|it| it.status.success())
        {}
    }
}

#[test]
fn a_full_disk_and_one_that_cannot_be_written_serve_the_old_certificate_and_say_what_to_do() {
    let ground = Ground::new();
    let pebble = Pebble::with(&ground, Wishes::default());
    let _behind = Fake::imap(&ground, "behind", |_| ());
    let disk = SmallDisk::mount(&ground);
    let door = Door::start(&ground, &pebble.door(&mine("")));
    let first = issued(&pebble);
    let said = door.wait_log("is on tmpfs");
    assert!(said.contains("Keep acme.ID.cache on a disk or a volume"), "{said}");

    disk.fill();
    let full = cert(&ground, &["renew", NAME, "--force"]);
    assert!(!full.status.success(), "{}", full.all());
    assert!(full.err.contains("Make room there"), "{}", full.err);
    disk.make_room();
    disk.cover();
    let read_only = cert(&ground, &["renew", NAME, "--force"]);
    assert!(!read_only.status.success(), "{}", read_only.all());
    assert!(read_only.err.contains("Mount it writable"), "{}", read_only.err);
    assert!(door.count(&["ERROR", "acme.mine"]) >= 2, "{}", door.log());
    assert_eq!(implicit(&pebble), (first.clone(), true), "{}", door.log());
    assert_eq!(explicit(&ground, &pebble), (first.clone(), true));
    assert_eq!(pebble.counts(), (1, 1), "nothing was asked of the CA");

    disk.uncover();
    let renewed = cert(&ground, &["renew", NAME, "--force"]).ok();
    assert!(renewed.out.contains("new certificate"), "{}", renewed.all());
    within(Duration::from_secs(1), "the new one", || {
        let (certificate, verified) = implicit(&pebble);
        (verified && certificate != first).then_some(())
    });
}

#[test]
fn a_start_on_a_disk_that_cannot_be_written_serves_what_is_there_and_says_so() {
    let ground = Ground::new();
    let pebble = Pebble::with(&ground, Wishes::default());
    let _behind = Fake::imap(&ground, "behind", |_| ());
    let disk = SmallDisk::mount(&ground);
    let text = pebble.door(&mine(""));
    let mut door = Door::start(&ground, &text);
    let certificate = issued(&pebble);
    door.stop();
    disk.cover();
    let mut door = Door::start(&ground, &text);
    assert_eq!(implicit(&pebble), (certificate.clone(), true), "{}", door.log());
    let said = door.wait_log("Read-only file system");
    assert!(said.contains("What is there is served; nothing new can be kept"), "{said}");
    door.stop();
    disk.uncover();
    disk.fill();
    let _door = Door::start(&ground, &text);
    assert_eq!(implicit(&pebble), (certificate, true));
}

#[test]
fn a_directory_with_other_things_in_it_is_not_taken_for_a_cache() {
    let ground = Ground::new();
    fs::create_dir_all(ground.path("cache/spool")).expect("a directory");
    let text = format!(
        "[server]\nhostname = \"{NAME}\"\n[server.run-as]\nuser = \"daemon\"\n[server.listener.https]\nprotocol = \"http\"\n\
         bind = \"<https>\"\ntls.implicit = true\n[acme.mine]\ncontact = [\"admin@example.test\"]\n\
         domains = [\"{NAME}\"]\ncache = \"<dir>/cache\"\n"
    );
    let file = ground.write("waxseal.toml", &text);
    for command in ["check", "serve"] {
        let refused = waxseal(&[command, "--config", file.to_str().expect("utf-8")]);
        assert!(!refused.status.success(), "{command}: {}", refused.all());
        assert!(refused.err.contains("what is not waxseal's"), "{command}: {}", refused.err);
    }
    let owner =
        std::os::unix::fs::MetadataExt::uid(&fs::metadata(ground.path("cache/spool")).expect("there"));
    assert_eq!(owner, 0, "nothing was given away");
}

#[test]
fn a_disk_that_fills_up_during_an_order_costs_no_second_one() {
    let ground = Ground::new();
    let pebble = Pebble::with(&ground, Wishes::default());
    let _behind = Fake::imap(&ground, "behind", |_| ());
    let disk = SmallDisk::mount(&ground);
    // Until there is an order: the account, its note and the order's fit, and nothing more after that.
    let door = Door::start(&ground, &pebble.door(&mine("")));
    within(ISSUED, "an order", || (pebble.counts().1 == 1).then_some(()));
    disk.fill();
    std::thread::sleep(Duration::from_secs(2));
    disk.make_room();
    if !implicit(&pebble).1 {
        let _ = cert(&ground, &["renew", NAME]);
    }
    issued(&pebble);
    assert_eq!(pebble.counts(), (1, 1), "{}", door.log());
}

#[test]
fn an_update_of_ones_own_name_server_proves_wildcards_and_aliases_and_leaves_nothing() {
    let ground = Ground::new();
    let knot = Knot::start(&ground);
    let pebble = Pebble::with(&ground, Wishes { dns: Some(knot.at()), ..Wishes::default() });
    let _behind = Fake::imap(&ground, "behind", |_| ());
    let table = format!(
        "[acme.mine]\nCA\ndomains = [\"{NAME}\", \"*.{NAME}\", \"far.example.test\"]\nchallenge = \"dns-01\"\n\
         provider = \"rfc2136-tsig\"\nhost = \"{}\"\nkey = \"{}\"\ntsig-algorithm = \"hmac-sha256\"\n\
         secret = \"{}\"\npolling-interval = \"1s\"\n",
        knot.at().ip(),
        Knot::KEY,
        Knot::SECRET
    );
    let text = pebble.door(&table).replace("<pebble-dns>", &knot.at().to_string());
    let wrong = text.replace(Knot::SECRET, "bm90IHRoZSBzZWNyZXQgdGhhdCBpdCBrbm93cyBhdCBhbGw=");
    let mut door = Door::start(&ground, &wrong);
    let said = door.wait_log("refuses to add the record");
    assert!(said.contains("key, secret and tsig-algorithm must be those of the server"), "{said}");
    door.stop();

    let door = Door::start(&ground, &text);
    let _ = cert(&ground, &["renew", NAME]).ok();
    let first = issued(&pebble);
    let _ = cert(&ground, &["renew", NAME]).ok();
    let second = within(Duration::from_secs(1), "the new one", || {
        let (certificate, verified) = implicit(&pebble);
        (verified && certificate != first).then_some(certificate)
    });
    assert_eq!(explicit(&ground, &pebble), (second, true));
    for name in ["imap.mail.example.test", "far.example.test"] {
        assert!(pebble.shown(name, SClient::new(pebble.at(443))).1, "{name}: {}", door.log());
    }
    for record in ["_acme-challenge.mail.example.test", "far.acme.example.test"] {
        assert_eq!(knot.texts(record), [""; 0], "{record}");
    }
}

#[test]
fn a_program_that_sets_records_does_not_outlive_the_server() {
    let ground = Ground::new();
    let pebble = Pebble::with(&ground, Wishes::default());
    let _behind = Fake::imap(&ground, "behind", |_| ());
    ground
        .write("hook", "#!/bin/sh\nsleep 300 &\necho $! ><dir>/pid.new\nmv <dir>/pid.new <dir>/pid\nwait\n");
    let table = mine(
        "challenge = \"dns-01\"\nprovider = \"exec\"\ncommand = [\"/bin/sh\", \"<dir>/hook\"]\npreflight = false\n",
    );
    let mut door = Door::start(&ground, &pebble.door(&table));
    let pid = within(ISSUED, "the program", || fs::read_to_string(ground.path("pid")).ok());
    let process = PathBuf::from(format!("/proc/{}/stat", pid.trim()));
    assert!(process.exists());
    door.stop();
    // Dead, though nobody may have buried it yet.
    within(ISSUED, "its end", || {
        fs::read_to_string(&process).map_or(true, |stat| stat.contains(") Z ")).then_some(())
    });
}

#[test]
fn another_ca_is_turned_to_when_the_first_keeps_failing() {
    let ground = Ground::new();
    let pebble = Pebble::with(&ground, Wishes::default());
    let _behind = Fake::imap(&ground, "behind", |_| ());
    let table = "[acme.first]\ndirectory = \"https://<nobody>/dir\"\ncontact = [\"admin@example.test\"]\n\
                 cache = \"<dir>/cache\"\ndomains = [\"mail.example.test\"]\nfallback = \"second\"\n[acme.second]\nCA\n";
    let door = Door::start(&ground, &pebble.door(table));
    door.wait_log("cannot be reached");
    for _ in 0..2 {
        let refused = cert(&ground, &["renew", NAME]);
        assert!(!refused.status.success() && refused.err.contains("cannot be reached"), "{}", refused.all());
    }
    let _ = cert(&ground, &["renew", NAME]).ok();
    issued(&pebble);
    assert!(explicit(&ground, &pebble).1);
}

#[test]
fn an_address_is_certified_by_either_challenge_and_shown_to_those_who_name_no_host() {
    for challenge in ["tls-alpn-01", "http-01"] {
        let ground = Ground::new();
        let pebble = Pebble::with(&ground, Wishes::default());
        let _behind = Fake::imap(&ground, "behind", |_| ());
        let ip = own_ip(&ground).to_string();
        let web = WEB.replace("<web>", &pebble.at(80).to_string());
        let table = format!("[acme.mine]\nCA\ndomains = [\"{ip}\"]\nchallenge = \"{challenge}\"\n{web}");
        let door = Door::start(&ground, &pebble.door(&table));
        within(ISSUED, "a certificate for the address", || {
            let client = SClient::new(pebble.at(443)).args(&["-noservername", "-verify_ip", &ip]);
            client.args(&["-CAfile", pebble.roots()]).run().verified.then_some(())
        });
        assert_eq!(pebble.counts(), (1, 1), "{challenge}: {}", door.log());
    }
}

#[test]
fn two_kinds_of_keys_serve_old_clients_and_new_ones() {
    let ground = Ground::new();
    let pebble = Pebble::with(&ground, Wishes::default());
    let _behind = Fake::imap(&ground, "behind", |_| ());
    let table = mine("key-types = [\"ecdsa-p256\", \"rsa-2048\"]\n");
    let _door = Door::start(&ground, &pebble.door(&table));
    let kind = |algorithms: &str| {
        let client = SClient::new(pebble.at(443)).args(&["-CAfile", pebble.roots(), "-servername", NAME]);
        let seen = client.args(&["-tls1_2", "-sigalgs", algorithms]).run();
        seen.verified.then_some(seen.cipher).flatten()
    };
    let rsa = within(ISSUED, "RSA", || kind("RSA-PSS+SHA256:RSA+SHA256"));
    let both = within(ISSUED, "ECDSA", || kind("ECDSA+SHA256:RSA-PSS+SHA256"));
    assert!(rsa.contains("-RSA-") && both.contains("-ECDSA-"), "{rsa} {both}");
    assert_eq!(pebble.counts(), (1, 2));
}

/// Passes bytes both ways until either side ends.
fn relay(client: &TcpStream, to: SocketAddr) {
    let server = TcpStream::connect(to).expect("the other side");
    let ends = [client, &server].map(|end| end.try_clone().expect("an end"));
    let [mut client_read, mut server_read] = ends;
    let [mut client_write, mut server_write] = [client, &server];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = std::io::copy(&mut server_read, &mut client_write);
            let _ = client_write.shutdown(Shutdown::Both);
        });
        let _ = std::io::copy(&mut client_read, &mut server_write);
        let _ = server_write.shutdown(Shutdown::Both);
    });
}

#[test]
fn while_the_ca_looks_status_says_issuing_and_at_which_stage() {
    let ground = Ground::new();
    let pebble = Pebble::with(&ground, Wishes { pause: Some(5), ..Wishes::default() });
    let _behind = Fake::imap(&ground, "behind", |_| ());
    let _door = Door::start(&ground, &pebble.door(&mine("")));
    let config = ground.path("waxseal.toml");
    let certificate = || {
        let status = waxseal(&["status", "--json", "--config", config.to_str().expect("utf-8")]).ok();
        let status: serde_json::Value = serde_json::from_str(&status.out).expect("JSON");
        status["certificates"][0].clone()
    };
    within(ISSUED, "the CA's look", || (certificate()["stage"] == "validation").then_some(()));
    assert_eq!(certificate()["state"], "issuing");
    issued(&pebble);
    within(ISSUED, "the end of it", || (certificate()["stage"].is_null()).then_some(()));
    assert_eq!(certificate()["state"], "valid");
}

#[test]
fn until_the_first_certificate_a_bootstrap_one_says_so_and_the_first_takes_over_without_a_restart() {
    let ground = Ground::new();
    // Its name server and root are there, but the CA itself is not reached yet.
    let pebble = Pebble::with(&ground, Wishes::default());
    let _behind = Fake::imap(&ground, "behind", |_| ());
    let away: SocketAddr = ground.addr("relay");
    let text = pebble.door(&mine("")).replace("https://<pebble>", &format!("https://{away}"));
    let door = Door::start(&ground, &text);
    door.wait_log("cannot be reached");
    for client in [SClient::new(pebble.at(443)), SClient::new(ground.addr("imap")).starttls("imap")] {
        let seen = client.args(&["-servername", NAME]).run();
        assert_eq!(seen.common_name.as_deref(), Some("waxseal bootstrap certificate"), "{}", seen.text);
        assert!(seen.text.contains("not trusted: the real one is being issued"), "{}", seen.text);
    }
    let config = ground.path("waxseal.toml");
    let status = waxseal(&["status", "--json", "--config", config.to_str().expect("utf-8")]).ok();
    let status: serde_json::Value = serde_json::from_str(&status.out).expect("JSON");
    assert_eq!(status["certificates"][0]["state"], "failing", "{status}");

    // The way to the CA opens.
    let _relay = Fake::start(&ground, "relay", {
        let pebble = ground.addr("pebble");
        move |wire| relay(wire.socket(), pebble)
    });
    let _ = cert(&ground, &["renew", NAME]).ok();
    let shown = within(Duration::from_secs(1), "the real one", || {
        let (certificate, verified) = implicit(&pebble);
        verified.then_some(certificate)
    });
    assert_eq!(explicit(&ground, &pebble), (shown, true));
}

#[test]
fn a_certificate_by_hand_for_the_name_wins_and_none_is_ordered() {
    let ground = Ground::new();
    let pebble = Pebble::with(&ground, Wishes::default());
    let pki = Pki::new(&ground);
    pki.leaf_in(ground.dir(), "hand", KeyKind::Ecdsa, &[NAME]);
    let _behind = Fake::imap(&ground, "behind", |_| ());
    let by_hand =
        "[certificate.hand]\ncert = \"%{file:<dir>/hand.pem}%\"\nprivate-key = \"%{file:<dir>/hand.key}%\"\n";
    let other = "[acme.other]\nCA\ndomains = [\"other.example.test\"]\n";
    let text = pebble.door(&format!("{by_hand}{}{other}", mine("")));
    let door = Door::start(&ground, &text);
    within(ISSUED, "the other", || {
        pebble.shown("other.example.test", SClient::new(pebble.at(443))).1.then_some(())
    });
    let seen = SClient::new(pebble.at(443)).verify(pki.ca_path(), NAME).run();
    assert!(seen.verified, "{}", seen.text);
    assert_eq!(door.count(&["has a certificate by hand, which is served; none is ordered"]), 1);
    assert_eq!(pebble.counts(), (1, 1));
}
