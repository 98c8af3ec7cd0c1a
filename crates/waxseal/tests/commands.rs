//! The commands as they are typed: exit status, what goes to standard output, what to standard error.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

mod pki;

const GOOD: &str = r#"
[server]
hostname = "mail.example.org"
tls.timeout = "2m"

[server.listener.imap]
protocol = "imap"
bind = "127.0.0.1:0"
upstream = "dovecot"
tls.groups = ["X25519"]

[upstream.dovecot]
address = "127.0.0.1:10143"
forwarding = "proxy-v2"

[certificate.mail]
cert = "%{file:mail.pem}%"
private-key = "%{file:mail.key}%"
"#;

/// A directory with certificates and `waxseal.toml`.
fn directory(configuration: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    pki::write(directory.path());
    fs::write(directory.path().join("waxseal.toml"), configuration).unwrap();
    directory
}

fn waxseal(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_waxseal"))
        .args(arguments)
        .current_dir(directory)
        .env("WAXSEAL_CONFIG", directory.join("waxseal.toml"))
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn check_of_a_good_configuration_prints_what_it_comes_to() {
    let directory = directory(GOOD);
    let output = waxseal(directory.path(), &["check"]);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    let row = stdout.lines().find(|line| line.contains("127.0.0.1:0")).unwrap();
    for cell in ["imap", "STARTTLS required", "dovecot", "proxy-v2", "none"] {
        assert!(row.contains(cell), "{row}");
    }
    let row = stdout.lines().find(|line| line.contains("TLSv1.3")).unwrap();
    for cell in ["imap", "TLSv1.2", "all 9", "X25519", "2m"] {
        assert!(row.contains(cell), "{row}");
    }
    assert!(stdout.contains("mail.example.org"), "{stdout}");
    assert!(stderr.contains("nothing is wrong") && stderr.lines().count() == 1, "{stderr}");
}

#[test]
fn check_of_a_bad_configuration_says_everything_and_ends_with_1() {
    let directory = directory(&GOOD.replace("imap\"", "imapp\"").replace("\"2m\"", "2"));
    let output = waxseal(directory.path(), &["check"]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "");
    assert!(stderr.contains("waxseal.toml:4:15"), "{stderr}");
    assert!(stderr.contains("waxseal.toml:7:12"), "{stderr}");
    assert!(stderr.contains("did you mean `imap`?"), "{stderr}");
    assert!(stderr.contains("2 errors"), "{stderr}");
}

#[test]
fn check_answers_programs_in_json() {
    let good = directory(GOOD);
    let output = waxseal(good.path(), &["check", "--json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["ok"], true);
    assert_eq!(answer["listeners"][0]["listener"], "imap");
    assert_eq!(answer["tls"][0]["groups"][0], "X25519");
    assert_eq!(answer["certificates"][0]["names"][0], "mail.example.org");
    assert!(answer["certificates"][0]["days-left"].as_i64().unwrap() > 1000);

    let bad = directory(&GOOD.replace("upstream = \"dovecot\"", "upstream = \"dovcot\""));
    let output = waxseal(bad.path(), &["check", "--json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(answer["ok"], false);
    let problem = &answer["problems"][0];
    assert_eq!((problem["line"].as_u64(), problem["column"].as_u64()), (Some(9), Some(12)));
    assert_eq!(problem["severity"], "error");
    assert_eq!(problem["text"], "\"dovcot\"");
    assert_eq!(problem["help"][0], "did you mean `dovecot`?");
}

#[test]
fn check_names_who_holds_a_port() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    let directory = directory(&GOOD.replace("127.0.0.1:0", &address.to_string()));
    let output = waxseal(directory.path(), &["check"]);
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains(&format!("warning: {address} is held by ")), "{stderr}");
    assert!(stderr.contains(&format!("(pid {})", std::process::id())), "{stderr}");
}

#[test]
fn show_tells_where_each_setting_comes_from() {
    let directory = directory(GOOD);
    let shown = text(&waxseal(directory.path(), &["show"]).stdout);
    let origin = |setting: &str| {
        let line = shown.lines().find(|line| line.starts_with(setting)).unwrap();
        line.split_once('#').unwrap().1.trim().to_owned()
    };
    assert_eq!(origin("tls.groups = [\"X25519\"]"), "listener, line 10");
    assert_eq!(origin("tls.timeout = \"2m\""), "server, line 4");
    assert_eq!(origin("tls.require = true"), "built-in");

    let output = waxseal(directory.path(), &["show", "--json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let timeout = &answer["server.listener.imap"]["tls.timeout"];
    assert_eq!(timeout["value"], "2m");
    assert_eq!(timeout["origin"], "server");
    assert_eq!(timeout["line"], 4);
    assert!(!text(&output.stdout).contains("PRIVATE KEY"));
}

#[test]
fn what_show_prints_is_a_configuration_with_the_same_meaning() {
    let directory = directory(GOOD);
    let shown = waxseal(directory.path(), &["show"]).stdout;
    fs::write(directory.path().join("shown.toml"), &shown).unwrap();
    let output = waxseal(directory.path(), &["show", "--config", "shown.toml"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let settings = |text: String| -> Vec<String> {
        let setting = |line: &str| line.split("  #").next().unwrap_or(line).trim().to_owned();
        text.lines().map(setting).filter(|line| !line.starts_with('#')).collect()
    };
    assert_eq!(settings(text(&output.stdout)), settings(text(&shown)));
}

#[test]
fn serve_starts_nothing_from_a_bad_configuration() {
    let directory = directory(&GOOD.replace("[certificate.mail]", "[certificates.mail]"));
    let output = waxseal(directory.path(), &["serve"]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("did you mean `certificate`?"), "{stderr}");
}

#[test]
fn a_missing_configuration_is_named_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let output = waxseal(directory.path(), &["check", "--config", "etc/missing.toml"]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    for words in ["etc/missing.toml", "the directory etc does not exist", "--config FILE", "WAXSEAL_CONFIG"] {
        assert!(stderr.contains(words), "{stderr}");
    }
}

#[test]
fn completions_and_manual_pages_name_every_command() {
    let directory = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&waxseal(directory.path(), &["completions", shell]).stdout);
        assert!(script.contains("completions") && script.contains("check"), "{shell}: {script}");
    }
    let page = text(&waxseal(directory.path(), &["man"]).stdout);
    assert!(page.contains(".TH waxseal 1"), "{page}");
    let output = waxseal(directory.path(), &["man", "--dir", "pages/man1"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for command in
        ["waxseal", "waxseal-serve", "waxseal-check", "waxseal-show", "waxseal-completions", "waxseal-man"]
    {
        assert!(directory.path().join(format!("pages/man1/{command}.1")).exists(), "{command}");
    }
}
