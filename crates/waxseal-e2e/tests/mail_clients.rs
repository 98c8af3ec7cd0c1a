//! Further clients that people have, through TLS, against the mailboxes of a quickstart: msmtp sends, fetchmail fetches.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;
use waxseal_e2e::{Daemon, Ground, eventually, program, run, run_with_input};

const MESSAGE: &str = "From: alice@waxseal.test\r\nTo: bob@waxseal.test\r\nSubject: sent by msmtp\r\n\
    Date: Tue, 24 Nov 2026 03:00:00 +0000\r\nMessage-ID: <msmtp@waxseal.test>\r\n\r\nA line.\r\n.A dot.\r\n";

struct House {
    _door: Daemon,
    ground: Ground,
    record: Value,
}

impl House {
    fn new() -> Self {
        let ground = Ground::new();
        let directory = ground.path("quickstart");
        let arguments = ["quickstart", "--json", "--dir", directory.to_str().expect("utf-8")];
        let door = Daemon::start("quickstart", &program(), &arguments, &[]);
        let record = serde_json::from_str(&door.wait_line(&["{\"directory\":"])).expect("JSON");
        Self { _door: door, ground, record }
    }

    fn ca(&self) -> &str {
        self.record["ca"].as_str().expect("a path")
    }

    fn port(&self, name: &str) -> String {
        self.record["ports"][name].to_string()
    }

    fn password(&self, address: &str) -> &str {
        let accounts = self.record["accounts"].as_array().expect("accounts");
        let account = accounts.iter().find(|account| account["address"] == address).expect("the account");
        account["password"].as_str().expect("a password")
    }

    fn msmtp(&self) {
        let password = format!("--passwordeval=echo {}", self.password("alice@waxseal.test"));
        let sent = run_with_input(
            "msmtp",
            &[
                "--host=localhost",
                &format!("--port={}", self.port("submission")),
                "--auth=plain",
                "--user=alice@waxseal.test",
                &password,
                "--tls=on",
                "--tls-starttls=on",
                &format!("--tls-trust-file={}", self.ca()),
                "--from=alice@waxseal.test",
                "bob@waxseal.test",
            ],
            MESSAGE.replace("\r\n", "\n").as_bytes(),
        );
        let _ = sent.ok();
    }

    /// Fetches by `protocol` at `port` and gives what fetchmail handed on.
    fn fetchmail(&self, protocol: &str, port: &str, more: &str) -> String {
        let inbox = self.ground.path("fetched");
        let _ = fs::remove_file(&inbox);
        let text = format!(
            "set no bouncemail\npoll localhost protocol {protocol} port {} {more}\n\
             user \"bob@waxseal.test\" password \"{}\" ssl sslcertck sslcertfile {} mda \"cat >>{}\"\n",
            self.port(port),
            self.password("bob@waxseal.test"),
            self.ca(),
            inbox.display()
        );
        let rc = self.ground.write("fetchmailrc", &text);
        fs::set_permissions(&rc, fs::Permissions::from_mode(0o600)).expect("mode");
        let path = |path: &Path| path.to_str().expect("utf-8").to_owned();
        let (rc, pid) = (path(&rc), path(&self.ground.path("fetchmail.pid")));
        let _ = run("fetchmail", &["-f", &rc, "--pidfile", &pid, "--nosyslog", "-v"]).ok();
        fs::read_to_string(inbox).expect("what was fetched")
    }
}

#[test]
fn msmtp_sends_and_fetchmail_fetches_by_pop3_and_by_imap() {
    let house = House::new();
    for (protocol, port, more) in [("pop3", "pop3s", "uidl"), ("imap", "imaps", "")] {
        house.msmtp();
        let fetched = eventually("fetchmail hands the message on", || {
            let fetched = house.fetchmail(protocol, port, more);
            fetched.contains("sent by msmtp").then_some(fetched)
        });
        // fetchmail adds its own Received line and gives lines the end of its machine.
        assert!(fetched.ends_with("\nA line.\n.A dot.\n"), "{protocol}: {fetched}");
        assert!(fetched.contains("with ESMTPSA"), "{protocol}: the trace tells of TLS and login: {fetched}");
    }
}
