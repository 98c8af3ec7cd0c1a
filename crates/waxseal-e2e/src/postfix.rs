//! Postfix, with a configuration and a queue of the test's own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::dovecot::{run_chown, wait_line};
use crate::{Daemon, Ground, KeyKind, Pki};

/// A running Postfix that delivers mail for `example.test` to Dovecot's LMTP.
///
/// Its smtpds, by their names on the ground:
/// - `postfix-plain`: nothing before SMTP, no TLS, introduced clients not believed;
/// - `postfix-proxy`: expects a PROXY header;
/// - `postfix-xclient`: believes XCLIENT from 127/8;
/// - `postfix-starttls`: offers STARTTLS, and demands it;
/// - `postfix-mirror`: expects a PROXY header and offers STARTTLS;
/// - `postfix-smtps`: in TLS from the first byte;
/// - `postfix-submission`: expects a PROXY header; SASL from Dovecot, only for who authenticates.
#[derive(Debug)]
pub struct Postfix {
    // Ends before the log is read for the last time.
    _daemon: Daemon,
    log: PathBuf,
}

const MAIN: &str = r#"
compatibility_level = 3.6
config_directory = <dir>/postfix
queue_directory = <dir>/postfix/queue
data_directory = <dir>/postfix/data
maillog_file = <dir>/postfix/log
maillog_file_prefixes = /tmp
myhostname = mx.example.test
mydomain = example.test
mydestination =
mynetworks =
inet_interfaces = all
inet_protocols = all
smtpd_peername_lookup = no
smtpd_client_port_logging = yes
disable_dns_lookups = yes
alias_maps =
alias_database =
local_recipient_maps =
biff = no
virtual_mailbox_domains = example.test
virtual_transport = lmtp:inet:<dovecot-lmtp>
smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination
smtpd_recipient_restrictions =
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:<dovecot-auth>
smtpd_tls_auth_only = no
smtpd_tls_chain_files = <dir>/postfix.key, <dir>/postfix.pem
smtpd_tls_received_header = yes
smtpd_tls_loglevel = 1
smtp_tls_security_level = none
lmtp_tls_security_level = none
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_upstream_proxy_timeout = 3s
import_environment = MAIL_CONFIG TZ
"#;

const MASTER: &str = r#"
<postfix-plain> inet n - n - 200 smtpd
  -o syslog_name=postfix/plain
<postfix-proxy> inet n - n - 200 smtpd
  -o syslog_name=postfix/proxy -o smtpd_upstream_proxy_protocol=haproxy
<postfix-xclient> inet n - n - 200 smtpd
  -o syslog_name=postfix/xclient -o smtpd_authorized_xclient_hosts=127.0.0.0/8,[::1]/128
<postfix-starttls> inet n - n - 200 smtpd
  -o syslog_name=postfix/starttls -o smtpd_tls_security_level=encrypt
<postfix-mirror> inet n - n - 200 smtpd
  -o syslog_name=postfix/mirror -o smtpd_upstream_proxy_protocol=haproxy -o smtpd_tls_security_level=may
<postfix-smtps> inet n - n - 200 smtpd
  -o syslog_name=postfix/smtps -o smtpd_tls_wrappermode=yes -o smtpd_tls_security_level=encrypt
<postfix-submission> inet n - n - 200 smtpd
  -o syslog_name=postfix/submission -o smtpd_upstream_proxy_protocol=haproxy
  -o smtpd_sasl_auth_enable=yes -o smtpd_client_restrictions=permit_sasl_authenticated,reject
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
smtp      unix  - - n - - smtp
relay     unix  - - n - - smtp
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
lmtp      unix  - - n - - lmtp
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
"#;

impl Postfix {
    /// Starts it and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start(ground: &Ground, pki: &Pki) -> Self {
        let home = ground.path("postfix");
        lay_queue(&home);
        pki.leaf_in(ground.dir(), "postfix", KeyKind::Ecdsa, &["mx.example.test"]);
        ground.write("postfix/main.cf", MAIN);
        ground.write("postfix/master.cf", MASTER);
        let home = home.to_str().expect("utf-8");
        // Not `postfix start-fg`, whose check of every installed file takes seconds. The variable is what it
        // sets so that the daemons find their log (postfix(1), maillog_client.h).
        let environment = [("POSTLOG_SERVICE", "postlog"), ("MAIL_CONFIG", home)];
        let mut daemon =
            Daemon::start("postfix", "/usr/lib/postfix/sbin/master", &["-c", home, "-d"], &environment);
        let listeners = [
            "postfix-plain",
            "postfix-proxy",
            "postfix-xclient",
            "postfix-starttls",
            "postfix-mirror",
            "postfix-smtps",
            "postfix-submission",
        ];
        daemon.wait_listening(&listeners.map(|name| ground.port(name)));
        Self { _daemon: daemon, log: ground.path("postfix/log") }
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
        wait_line("Postfix", || self.log(), words)
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- Postfix's log:\n{}\n----", self.log());
        }
    }
}

/// The directories that `postfix check` would make, with the owners it would give them.
fn lay_queue(home: &std::path::Path) {
    let queue = home.join("queue");
    let data = home.join("data");
    fs::create_dir_all(&data).expect("data directory");
    run_chown("postfix", &data);
    for name in [
        "active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved",
        "trace",
    ] {
        let path = queue.join(name);
        fs::create_dir_all(&path).expect("queue directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("permissions");
        run_chown("postfix", &path);
    }
    fs::create_dir_all(queue.join("pid")).expect("queue directory");
    for (name, mode) in [("maildrop", 0o730), ("public", 0o710)] {
        let path = queue.join(name);
        fs::create_dir_all(&path).expect("queue directory");
        run_chown("postfix:postdrop", &path);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("permissions");
    }
}
