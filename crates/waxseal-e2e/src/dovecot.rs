//! Dovecot, with a configuration and mail of the test's own.

use std::fs;

use crate::{Daemon, Ground, KeyKind, Pki, eventually};

/// A running Dovecot.
///
/// Its listeners, by their names on the ground:
/// - in clear: `dovecot-imap`, `dovecot-pop3`, `dovecot-lmtp`, `dovecot-sieve`; IMAP, POP3 and
///   ManageSieve offer STARTTLS there; clients on 127/8 may introduce others (ID, XCLIENT);
/// - expecting a PROXY header: `dovecot-imap-proxy`, `dovecot-pop3-proxy`, `dovecot-sieve-proxy`;
/// - in TLS from the first byte: `dovecot-imaps`, `dovecot-pop3s`;
/// - for Postfix: `dovecot-auth`.
///
/// Accounts: `alice@example.test` and `bob@example.test`, both with the password `secret`.
#[derive(Debug)]
pub struct Dovecot {
    _daemon: Daemon,
    log: std::path::PathBuf,
}

const CONFIGURATION: &str = r#"
base_dir = <dir>/dovecot/run
state_dir = <dir>/dovecot/state
log_path = <dir>/dovecot/log
auth_verbose = yes
protocols = imap pop3 lmtp sieve
first_valid_uid = 100
mail_location = maildir:~/Maildir
mail_uid = nobody
mail_gid = nogroup
default_internal_user = dovecot
default_login_user = dovenull
ssl = yes
ssl_cert = <<dir>/dovecot.pem
ssl_key = <<dir>/dovecot.key
disable_plaintext_auth = yes
auth_mechanisms = plain login
haproxy_trusted_networks = 127.0.0.0/8 ::1/128
haproxy_timeout = 3 secs
login_trusted_networks = 127.0.0.0/8 ::1/128
# Whatever is said in IDLE is news.
imap_idle_notify_interval = 0
login_log_format_elements = user=<%u> method=%m rip=%r rport=%b lip=%l lport=%a session=<%{session}> %c %k
lmtp_save_to_detail_mailbox = no
passdb {
  driver = passwd-file
  args = <dir>/dovecot/users
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=<dir>/dovecot/mail/%u
}
plugin {
  sieve = file:~/sieve;active=~/.dovecot.sieve
}
service imap-login {
  client_limit = 2000
  service_count = 0
  inet_listener imap {
    address = 127.0.0.1
    port = <dovecot-imap:port>
  }
  inet_listener imap_proxy {
    address = 127.0.0.1
    port = <dovecot-imap-proxy:port>
    haproxy = yes
  }
  inet_listener imaps {
    address = 127.0.0.1
    port = <dovecot-imaps:port>
    ssl = yes
  }
}
service pop3-login {
  inet_listener pop3 {
    address = 127.0.0.1
    port = <dovecot-pop3:port>
  }
  inet_listener pop3_proxy {
    address = 127.0.0.1
    port = <dovecot-pop3-proxy:port>
    haproxy = yes
  }
  inet_listener pop3s {
    address = 127.0.0.1
    port = <dovecot-pop3s:port>
    ssl = yes
  }
}
service managesieve-login {
  inet_listener sieve {
    address = 127.0.0.1
    port = <dovecot-sieve:port>
  }
  inet_listener sieve_proxy {
    address = 127.0.0.1
    port = <dovecot-sieve-proxy:port>
    haproxy = yes
  }
}
service lmtp {
  unix_listener lmtp {
    mode = 0600
  }
  inet_listener lmtp {
    address = 127.0.0.1
    port = <dovecot-lmtp:port>
  }
}
service auth {
  inet_listener {
    address = 127.0.0.1
    port = <dovecot-auth:port>
  }
}
service stats {
  unix_listener stats-writer {
    mode = 0666
  }
}
protocol lmtp {
  mail_plugins = $mail_plugins sieve
  postmaster_address = postmaster@example.test
}
"#;

impl Dovecot {
    /// Starts it and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start(ground: &Ground, pki: &Pki) -> Self {
        let home = ground.path("dovecot");
        let mail = home.join("mail");
        fs::create_dir_all(&mail).expect("directories");
        run_chown("nobody:nogroup", &mail);
        pki.leaf_in(ground.dir(), "dovecot", KeyKind::Ecdsa, &["dovecot.example.test"]);
        let users = "alice@example.test:{PLAIN}secret\nbob@example.test:{PLAIN}secret\n";
        ground.write("dovecot/users", users);
        let file = ground.write("dovecot/dovecot.conf", CONFIGURATION);
        let file = file.to_str().expect("utf-8");
        let mut daemon = Daemon::start("dovecot", "dovecot", &["-F", "-c", file], &[]);
        let listeners = [
            "dovecot-imap",
            "dovecot-imap-proxy",
            "dovecot-imaps",
            "dovecot-pop3",
            "dovecot-pop3-proxy",
            "dovecot-pop3s",
            "dovecot-sieve",
            "dovecot-sieve-proxy",
            "dovecot-lmtp",
            "dovecot-auth",
        ];
        daemon.wait_listening(&listeners.map(|name| ground.port(name)));
        Self { _daemon: daemon, log: home.join("log") }
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The first line of its log that holds all of `words`, waited for.
    ///
    /// # Panics
    /// When none comes.
    pub fn wait_line(&self, words: &[&str]) -> String {
        wait_line("Dovecot", || self.log(), words)
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- Dovecot's log:\n{}\n----", self.log());
        }
    }
}

/// The first line of a log that holds all of `words`, waited for.
pub(crate) fn wait_line(who: &str, log: impl Fn() -> String, words: &[&str]) -> String {
    eventually(&format!("{who} logs {words:?}"), || {
        let log = log();
        log.lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned)
    })
}

/// Gives a directory to another user.
pub(crate) fn run_chown(owner: &str, path: &std::path::Path) {
    let _ = crate::run("chown", &[owner, path.to_str().expect("utf-8")]).ok();
}
