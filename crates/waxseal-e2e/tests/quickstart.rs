//! `waxseal quickstart`: out of nothing, a mail server that the printed commands send and read with.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::Value;
use waxseal_e2e::{Daemon, Finished, Ground, program, run, waxseal};

/// A quickstart in `directory`, with what it prints first awaited.
struct Quickstart {
    daemon: Daemon,
    first: String,
}

impl Quickstart {
    fn start(directory: &Path, more: &[&str], awaited: &str) -> Self {
        let arguments = [&["quickstart", "--dir", directory.to_str().expect("utf-8")], more].concat();
        let daemon = Daemon::start("quickstart", &program(), &arguments, &[]);
        let first = daemon.wait_line(&[awaited]);
        Self { daemon, first }
    }

    fn json(directory: &Path) -> (Self, Value) {
        let started = Self::start(directory, &["--json"], "{\"directory\":");
        let record = serde_json::from_str(&started.first).expect("JSON");
        (started, record)
    }

    /// The whole screen.
    fn screen(directory: &Path) -> (Self, String) {
        let started = Self::start(directory, &[], "User name");
        let screen = started.daemon.log();
        (started, screen)
    }

    fn stop(mut self, signal: Signal) {
        self.daemon.signal(signal);
        let status = self.daemon.wait_exit();
        assert!(status.success(), "{status}\n{}", self.daemon.log());
    }
}

/// The commands on the screen that begin with `program`, as they would be pasted.
fn commands<'a>(screen: &'a str, program: &str) -> Vec<&'a str> {
    let begin = format!("  {program} ");
    screen.lines().filter(|line| line.starts_with(&begin)).map(str::trim).collect()
}

fn paste(command: &str) -> Finished {
    run("sh", &["-c", command]).ok()
}

/// The commands that send, read by IMAP, and read by POP3.
fn curls(screen: &str) -> [&str; 3] {
    commands(screen, "curl").try_into().expect("three commands with curl")
}

/// The word behind `--user`.
fn login(command: &str) -> &str {
    command.split_once("--user ").and_then(|(_, rest)| rest.split(' ').next()).expect("a login")
}

#[test]
fn the_printed_commands_send_and_read_a_message_byte_for_byte() {
    let ground = Ground::new();
    // A path that a shell takes apart unless it is quoted.
    let directory = ground.path("it's a quickstart");
    let (quickstart, screen) = Quickstart::screen(&directory);
    let [send, imap, pop3] = curls(&screen);
    assert!(
        send.contains("--ssl-reqd") && imap.contains("imaps://") && pop3.contains("pop3s://"),
        "{screen}"
    );

    paste(send);
    let sent = fs::read_to_string(directory.join("hello.eml")).expect("hello.eml");
    assert_eq!(sent.matches('\n').count(), sent.matches("\r\n").count(), "every line ends in CRLF");
    for read in [imap, pop3] {
        let read = paste(read).out;
        let added = read.strip_suffix(&sent).unwrap_or_else(|| panic!("{read:?} does not end with {sent:?}"));
        assert!(added.starts_with("Return-Path: <alice@waxseal.test>\r\n"), "{added}");
        assert!(added.contains("ESMTPSA") && added.contains("TLS1.3"), "{added}");
        assert_eq!(added.matches('\n').count(), added.matches("\r\n").count(), "{added:?}");
    }

    let swaks = commands(&screen, "swaks");
    assert_eq!(swaks.len(), 1);
    assert!(paste(swaks[0]).out.contains("250 2.0.0"), "taken");
    assert!(paste(imap).out.contains("Subject: Hello from swaks\r\n"), "the newest is read");

    let add = commands(&screen, &program());
    assert_eq!(add.len(), 1, "{screen}");
    paste(&format!("echo secret-of-carol | {}", add[0]));
    let list = pop3.strip_suffix('1').expect("the first message");
    let carols = list.replace(login(list), "carol@waxseal.test:secret-of-carol");
    assert_eq!(paste(&carols).out.trim(), "", "no mail yet");
    assert_eq!(
        run("sh", &["-c", &carols.replace("secret", "other")]).status.code(),
        Some(67),
        "login denied"
    );

    let openssl = commands(&screen, "openssl");
    assert_eq!(openssl.len(), 2);
    for command in openssl {
        assert!(paste(command).all().contains("Verification: OK"), "{command}");
    }
    quickstart.stop(Signal::SIGINT);
}

#[test]
fn what_is_told_to_programs_is_one_line_and_everything_else_is_kept_private() {
    let ground = Ground::new();
    let directory = ground.path("new/quickstart");
    let (quickstart, record) = Quickstart::json(&directory);
    assert_eq!(quickstart.daemon.log().lines().count(), 1, "{}", quickstart.daemon.log());
    let known = directory.canonicalize().expect("path");
    assert_eq!(record["directory"].as_str(), known.to_str());
    assert_eq!(record["ca"].as_str(), known.join("ca.pem").to_str());
    let mode = |name: &str| directory.join(name).metadata().expect(name).permissions().mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    for secret in ["ca.key", "key.pem", "passwords.json", "mail/accounts.toml"] {
        assert_eq!(mode(secret), 0o600, "{secret}");
    }
    let accounts = fs::read_to_string(directory.join("mail/accounts.toml")).expect("accounts");
    for account in record["accounts"].as_array().expect("accounts") {
        let password = account["password"].as_str().expect("a password");
        assert!(password.len() == 20 && password.bytes().all(|b| b.is_ascii_alphanumeric()), "{password}");
        assert!(accounts.contains(account["address"].as_str().expect("an address")));
        assert!(!accounts.contains(password), "hashes only");
    }
    // What was written is a configuration as any other.
    let file = directory.join("waxseal.toml");
    let checked = waxseal(&["check", "--json", "--config", file.to_str().expect("utf-8")]).ok();
    let checked: Value = serde_json::from_str(&checked.out).expect("JSON");
    assert_eq!(checked["listeners"].as_array().expect("listeners").len(), 8);
    quickstart.stop(Signal::SIGTERM);
}

#[test]
fn the_next_start_has_the_same_authority_accounts_and_mail() {
    let ground = Ground::new();
    let directory = ground.path("quickstart");
    let (quickstart, screen) = Quickstart::screen(&directory);
    paste(curls(&screen)[0]);
    quickstart.stop(Signal::SIGTERM);
    let files = || {
        ["ca.pem", "ca.key", "cert.pem", "key.pem", "passwords.json", "hello.eml"]
            .map(|name| fs::read_to_string(directory.join(name)).expect(name))
    };
    let before = files();

    // Whatever becomes of the two accounts, the commands hold.
    let file = directory.join("waxseal.toml");
    let arguments = ["account", "remove", "bob@waxseal.test", "--config", file.to_str().expect("utf-8")];
    let _ = waxseal(&arguments).ok();

    let (quickstart, screen) = Quickstart::screen(&directory);
    assert!(files() == before, "kept");
    let [send, imap, pop3] = curls(&screen);
    let sent = fs::read_to_string(directory.join("hello.eml")).expect("hello.eml");
    assert!(paste(pop3).out.ends_with(&sent), "the message of the first start");
    paste(send);
    assert!(paste(imap).out.ends_with(&sent));
    quickstart.stop(Signal::SIGTERM);
}

#[test]
fn a_directory_serves_one_quickstart_at_a_time() {
    let ground = Ground::new();
    let directory = ground.path("quickstart");
    let (quickstart, screen) = Quickstart::screen(&directory);
    let configuration = fs::read(directory.join("waxseal.toml")).expect("configuration");
    refused(&directory, &["runs in", "--dir"]);
    assert!(fs::read(directory.join("waxseal.toml")).expect("configuration") == configuration, "untouched");
    paste(curls(&screen)[0]);
    quickstart.stop(Signal::SIGTERM);
}

#[test]
fn those_that_start_at_once_all_find_ports() {
    let ground = Ground::new();
    let names = ["a", "b", "c", "d"];
    let starting = names.map(|name| {
        let directory = ground.path(name);
        let arguments = ["quickstart", "--json", "--dir", directory.to_str().expect("utf-8")];
        Daemon::start(name, &program(), &arguments, &[])
    });
    let mut ports: Vec<u64> = starting
        .iter()
        .flat_map(|daemon| {
            let record: Value = serde_json::from_str(&daemon.wait_line(&["{"])).expect("JSON");
            let ports = record["ports"].as_object().expect("ports").values();
            ports.map(|port| port.as_u64().expect("a port")).collect::<Vec<_>>()
        })
        .collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), names.len() * 8);
}

fn refused(directory: &Path, words: &[&str]) {
    let finished = waxseal(&["quickstart", "--dir", directory.to_str().expect("utf-8")]);
    assert_eq!(finished.status.code(), Some(1), "{}", finished.all());
    assert_eq!(finished.out, "");
    assert_eq!(finished.err.lines().count(), 1, "{}", finished.err);
    for word in words {
        assert!(finished.err.contains(word), "{word} in {}", finished.err);
    }
}

#[test]
fn a_directory_that_cannot_be_used_is_said_plainly() {
    let ground = Ground::new();
    refused(Path::new("/proc/quickstart"), &["/proc/quickstart", "--dir"]);
    let file = ground.write("file", "");
    refused(&file.join("quickstart"), &["--dir"]);
    refused(&file, &["--dir"]);
    refused(ground.dir(), &["not empty", "--dir"]);
    assert_eq!(fs::read_dir(ground.dir()).expect("directory").count(), 1, "nothing was put there");
    assert_eq!(ground.dir().metadata().expect("directory").permissions().mode() & 0o777, 0o755);
    let theirs = ground.path("theirs");
    fs::create_dir(&theirs).expect("directory");
    chown(&theirs, Some(65_534), None).expect("chown");
    refused(&theirs, &["another user", "--dir"]);
}

/// The program where nobody may run it: where it was built, they may not look.
fn copy(ground: &Ground) -> PathBuf {
    let copy = ground.path("waxseal");
    fs::copy(program(), &copy).expect("copy");
    copy
}

/// A quickstart as nobody, in a network of its own that has the loopback interface alone.
fn alone(ground: &Ground, directory: &str) -> Daemon {
    let home = ground.path("home");
    fs::create_dir(&home).expect("directory");
    chown(&home, Some(65_534), Some(65_534)).expect("chown");
    let command = format!(
        "ip link set lo up && exec setpriv --reuid 65534 --regid 65534 --clear-groups {} quickstart --json --dir {}",
        copy(ground).display(),
        home.join(directory).display()
    );
    Daemon::start("quickstart", "unshare", &["--net", "sh", "-c", &command], &[])
}

/// Arguments of `nsenter` for a command in the network of `daemon`.
fn beside<'a>(target: &'a str, command: &[&'a str]) -> Vec<&'a str> {
    [&["--net", "--target", target], command].concat()
}

#[test]
fn neither_root_nor_a_network_is_needed_and_the_ports_are_the_promised_ones() {
    let ground = Ground::new();
    let daemon = alone(&ground, "quickstart");
    let line = daemon.wait_line(&["{\"directory\":"]);
    let promised = "\"ports\":{\"smtp\":2525,\"submission\":5587,\"submissions\":4465,\"lmtp\":2424,\"imap\":1143,\
                    \"imaps\":9993,\"pop3\":1110,\"pop3s\":9995},\"accounts\":[{\"address\":\"alice@waxseal.test\",";
    assert!(line.contains(promised), "{line}");
    let record: Value = serde_json::from_str(&line).expect("JSON");
    let directory = Path::new(record["directory"].as_str().expect("directory"));
    assert_eq!(directory.join("mail").metadata().expect("mail").uid(), 65_534);
    let bob = &record["accounts"][1];
    let (address, password) =
        (bob["address"].as_str().expect("address"), bob["password"].as_str().expect("password"));
    let login = format!("{address}:{password}");
    let ca = record["ca"].as_str().expect("ca");
    for (url, listed) in [("pop3s://localhost:9995/", ""), ("imaps://127.0.0.1:9993/", "INBOX")] {
        let curl = ["curl", "--silent", "--show-error", "--cacert", ca, "--user", &login, url];
        let finished = run("nsenter", &beside(&daemon.pid().to_string(), &curl)).ok();
        assert!(finished.out.contains(listed), "{}", finished.out);
    }
}

#[test]
fn a_busy_port_is_passed_over_and_its_holder_named() {
    let ground = Ground::new();
    let daemon = alone(&ground, "first");
    daemon.wait_line(&["{\"directory\":"]);
    let pid = daemon.pid().to_string();
    let (program, second) = (program(), ground.path("second"));
    let arguments = [program.as_str(), "quickstart", "--dir", second.to_str().expect("utf-8")];
    let beside_it = Daemon::start("second", "nsenter", &beside(&pid, &arguments), &[]);
    beside_it.wait_line(&["User name"]);
    let screen = beside_it.log();
    for (name, busy) in [("smtp", 2525), ("imaps", 9993), ("pop3s", 9995)] {
        let words = format!("because {busy} is held by waxseal (pid {pid})");
        let line = screen.lines().find(|line| line.contains(&words)).expect("a line that says so");
        let port: u16 = line.split_whitespace().nth(3).and_then(|port| port.parse().ok()).expect("a port");
        assert!(port > busy && line.trim().starts_with(&format!("{name} is on")), "{line}");
        assert!(screen.contains(&format!("{name} {port}")), "{screen}");
    }
    let _ = run("nsenter", &beside(&pid, &["sh", "-c", curls(&screen)[0]])).ok();
}
