//! `waxseal account`: what it changes holds at once in a server that runs, as somebody else than root.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use serde_json::{Value, json};
use waxseal_e2e::{
    CERTIFICATE, Door, Finished, Ground, Pki, Wire, mail_certificate, program, python, run_with_input,
    waxseal,
};

const MAILBOXES: &str = r#"
[server.run-as]
user = "nobody"
group = "nogroup"
[mailboxes]
path = "<dir>/mail"
domains = ["waxseal.test", "other.test"]
[server.listener.pop3s]
protocol = "pop3"
bind = "<pop3s>"
tls.implicit = true
[server.listener.smtp]
protocol = "smtp"
bind = "<smtp>"
"#;

struct House {
    ground: Ground,
    pki: Pki,
    configuration: String,
}

impl House {
    fn new() -> Self {
        let ground = Ground::new();
        let pki = mail_certificate(&ground);
        let configuration = format!("{CERTIFICATE}{MAILBOXES}");
        ground.write("waxseal.toml", &configuration);
        Self { ground, pki, configuration }
    }

    fn door(&self) -> Door {
        Door::start(&self.ground, &self.configuration)
    }

    fn file(&self) -> String {
        self.ground.path("waxseal.toml").to_str().expect("utf-8").to_owned()
    }

    fn account(&self, arguments: &[&str], input: &str) -> Finished {
        let file = self.file();
        let arguments = [&["account"], arguments, &["--config", &file]].concat();
        run_with_input(&program(), &arguments, input.as_bytes())
    }

    fn refused(&self, arguments: &[&str], input: &str, words: &[&str]) {
        let finished = self.account(arguments, input);
        assert_eq!(finished.status.code(), Some(1), "{}", finished.all());
        assert_eq!(finished.out, "");
        for word in words {
            assert!(finished.err.contains(word), "{word} in {}", finished.err);
        }
    }

    fn list(&self) -> Value {
        serde_json::from_str(&self.account(&["list", "--json"], "").ok().out).expect("JSON")
    }

    fn logs_in(&self, name: &str, password: &str) -> bool {
        let mut wire = Wire::connect(self.ground.addr("pop3s")).tls(&self.pki.client("mail.example.test"));
        wire.expect("+OK");
        wire.say(&format!("USER {name}")).expect("+OK");
        wire.say(&format!("PASS {password}")).line().starts_with("+OK")
    }

    fn takes_mail_for(&self, address: &str) -> bool {
        let mut wire = Wire::connect(self.ground.addr("smtp"));
        wire.reply("220");
        wire.say("EHLO me.test").reply("250");
        wire.say("MAIL FROM:<a@elsewhere.test>").reply("250");
        wire.say(&format!("RCPT TO:<{address}>")).line().starts_with("250")
    }
}

#[test]
fn a_running_server_takes_every_change_at_once() {
    let house = House::new();
    let door = house.door();
    assert!(!house.logs_in("carol@waxseal.test", "first-secret"));
    assert!(!house.takes_mail_for("carol@waxseal.test"));

    let add = ["add", "Carol@waxseal.test", "--alias", "sales@other.test", "--alias", "c@waxseal.test"];
    let added = house.account(&[&add[..], &["--quota", "1GiB"]].concat(), "first-secret\n").ok();
    assert_eq!(added.out, "");
    assert!(house.logs_in("carol@waxseal.test", "first-secret"));
    assert!(house.logs_in("sales@other.test", "first-secret"), "an alias is a name to log in with");
    assert!(!house.logs_in("carol@waxseal.test", "first-secret "));
    for address in ["carol@waxseal.test", "c@waxseal.test", "sales@other.test"] {
        assert!(house.takes_mail_for(address), "{address}");
    }
    let expected = json!([{
        "address": "carol@waxseal.test", "aliases": ["sales@other.test", "c@waxseal.test"], "quota": 1_u64 << 30
    }]);
    assert_eq!(house.list(), expected);
    let table = house.account(&["list"], "").ok().out;
    for cell in ["carol@waxseal.test", "sales@other.test, c@waxseal.test", "1GiB"] {
        assert!(table.contains(cell), "{table}");
    }

    let changed = house.account(&["password", "carol@waxseal.test"], "second-secret\r\n").ok();
    assert!(house.logs_in("carol@waxseal.test", "second-secret"));
    assert!(!house.logs_in("carol@waxseal.test", "first-secret"));

    let removed = house.account(&["remove", "carol@waxseal.test"], "").ok();
    let mail = house.ground.path("mail/mail/waxseal.test/carol");
    assert!(removed.err.contains(mail.to_str().expect("utf-8")), "{}", removed.err);
    assert!(mail.is_dir(), "the mail stays");
    assert!(!house.logs_in("carol@waxseal.test", "second-secret"));
    assert!(!house.takes_mail_for("carol@waxseal.test"));
    assert_eq!(house.list(), json!([]));

    let accounts = fs::read_to_string(house.ground.path("mail/accounts.toml")).expect("accounts");
    for said in [added.all(), changed.all(), removed.all(), table, accounts, door.log()] {
        assert!(!said.contains("-secret"), "{said}");
    }
    assert_eq!(door.count(&["accounts stay as they were"]), 0, "{}", door.log());
}

#[test]
fn files_belong_to_whom_the_mailboxes_belong_to_even_before_the_first_start() {
    let house = House::new();
    let _ = house.account(&["add", "carol@waxseal.test"], "secret\n").ok();
    let nobodys = || {
        for name in ["mail", "mail/accounts.toml"] {
            let found = house.ground.path(name).metadata().expect(name);
            assert_eq!(found.uid(), 65_534, "{name}");
            assert_eq!(found.permissions().mode() & 0o077, 0, "{name}");
        }
    };
    nobodys();
    let _door = house.door();
    assert!(house.logs_in("carol@waxseal.test", "secret"));
    let _ = house.account(&["add", "dave@waxseal.test"], "another\n").ok();
    nobodys();
    assert!(house.logs_in("dave@waxseal.test", "another"));
}

#[test]
fn what_cannot_be_an_account_is_refused_with_the_reason() {
    let house = House::new();
    house.refused(
        &["add", "carol@elsewhere.test"],
        "secret\n",
        &["carol@elsewhere.test", "waxseal.test, other.test", "mailboxes.domains"],
    );
    house.refused(
        &["add", "carol@waxseal.test", "--alias", "c@elsewhere.test"],
        "secret\n",
        &["c@elsewhere.test"],
    );
    house.refused(&["add", "carol@waxseal.test"], "", &["no password"]);
    house.refused(&["add", "carol@waxseal.test"], "\nsecret\n", &["no password"]);
    house.refused(&["add", "carol@waxseal.test"], &"x".repeat(5000), &["longer than"]);
    house.refused(&["add", "carol@waxseal.test"], "sec\tret\n", &["control character"]);
    house.refused(&["remove", "carol@waxseal.test"], "", &["no account carol@waxseal.test"]);
    house.refused(&["password", "carol@waxseal.test"], "secret\n", &["no account carol@waxseal.test"]);
    assert_eq!(house.list(), json!([]));
    let _ = house.account(&["add", "carol@waxseal.test", "--alias", "c@waxseal.test"], "secret\n").ok();
    house.refused(&["add", "c@waxseal.test"], "secret\n", &["belongs to an account already"]);
    for wrong in ["carol", "../carol@waxseal.test", "carol@"] {
        let finished = house.account(&["add", wrong], "secret\n");
        assert_eq!(finished.status.code(), Some(2), "{}", finished.all());
        assert!(finished.err.contains(wrong), "{}", finished.err);
    }
}

#[test]
fn a_configuration_without_mailboxes_says_what_to_write() {
    let ground = Ground::new();
    let _pki = mail_certificate(&ground);
    let listener = "[upstream.store]\naddress = \"<store>\"\n[server.listener.imap]\nprotocol = \"imap\"\n\
                    bind = \"<imap>\"\nupstream = \"store\"\n";
    let file = ground.write("waxseal.toml", &format!("{CERTIFICATE}{listener}"));
    let finished = waxseal(&["account", "list", "--config", file.to_str().expect("utf-8")]);
    assert_eq!(finished.status.code(), Some(1), "{}", finished.all());
    for word in ["[mailboxes]", "path = ", "domains = "] {
        assert!(finished.err.contains(word), "{}", finished.err);
    }
    let broken = ground.write("broken.toml", "[server]\nhostnam = \"x\"\n");
    let finished = waxseal(&["account", "list", "--config", broken.to_str().expect("utf-8")]);
    assert_eq!(finished.status.code(), Some(1));
    assert!(finished.err.contains("hostname"), "{}", finished.err);
}

/// Adds an account at a terminal, where `answers` are typed as they are asked for; gives what the terminal showed.
fn at_a_terminal(house: &House, answers: [&str; 2]) -> String {
    python(&format!(
        r#"
import os, pty, termios, time
pid, terminal = pty.fork()
if pid == 0:
    os.execv({program:?}, [{program:?}, "account", "add", "carol@waxseal.test", "--config", {file:?}])
shown = b""
def until(words):
    global shown
    while words not in shown:
        shown += os.read(terminal, 1024)
for prompt, answer in zip([b"Password of carol@waxseal.test: ", b"again: "], {answers:?}):
    until(prompt)
    # Nobody types as fast as this; what they type is not to be echoed.
    while termios.tcgetattr(terminal)[3] & termios.ECHO:
        time.sleep(0.005)
    os.write(terminal, answer.encode() + b"\n")
try:
    while piece := os.read(terminal, 1024):
        shown += piece
except OSError:
    pass
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode())
"#,
        program = program(),
        file = house.file(),
    ))
}

#[test]
fn at_a_terminal_a_password_is_asked_for_twice_and_not_shown() {
    let house = House::new();
    let shown = at_a_terminal(&house, ["typed-secret", "typo-secret"]);
    assert!(shown.starts_with("1 ") && shown.contains("differ"), "{shown}");
    assert!(!shown.contains("-secret"), "{shown}");
    assert_eq!(house.list(), json!([]));

    let shown = at_a_terminal(&house, ["typed-secret", "typed-secret"]);
    assert!(shown.starts_with("0 ") && !shown.contains("-secret"), "{shown}");
    let _door = house.door();
    assert!(house.logs_in("carol@waxseal.test", "typed-secret"));
}
