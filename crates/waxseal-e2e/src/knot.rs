//! Knot DNS: a name server that takes updates signed with a key (RFC 2136, RFC 8945).

use std::net::{IpAddr, SocketAddr};

use crate::{Daemon, Ground, own_ip, run};

/// A running Knot with the zone `example.test`. Every name in it has the test's own address ([`own_ip`]), and
/// `_acme-challenge.far.example.test` is an alias of `far.acme.example.test`.
#[derive(Debug)]
pub struct Knot {
    at: SocketAddr,
    _server: Daemon,
}

impl Knot {
    /// The name of the key that updates are signed with; HMAC-SHA256.
    pub const KEY: &'static str = "update-key";
    /// Its secret, base64.
    pub const SECRET: &'static str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    /// Starts it on port 53 of the test's own address.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(ground: &Ground) -> Self {
        let ip = own_ip(ground);
        let zone = format!(
            "$ORIGIN example.test.\n$TTL 60\n@ SOA ns1 hostmaster 1 3600 600 86400 60\n@ NS ns1\nns1 A {ip}\n* A {ip}\n\
             _acme-challenge.far CNAME far.acme\n"
        );
        ground.write("example.test.zone", &zone);
        let (key, secret) = (Self::KEY, Self::SECRET);
        let text = format!(
            "server:\n    rundir: <dir>\n    listen: {ip}@53\n    tcp-workers: 1\n    udp-workers: 1\n    background-workers: 1\n\
             database:\n    storage: <dir>/knot\nlog:\n  - target: stderr\n    any: info\n\
             key:\n  - id: {key}\n    algorithm: hmac-sha256\n    secret: {secret}\n\
             acl:\n  - id: update\n    key: {key}\n    action: update\n\
             zone:\n  - domain: example.test\n    storage: <dir>\n    file: example.test.zone\n    acl: update\n    zonefile-sync: -1\n"
        );
        std::fs::create_dir_all(ground.path("knot")).expect("a directory");
        let config = ground.write("knot.conf", &text);
        let config = config.to_str().expect("utf-8");
        let server = Daemon::start("knot", "/usr/sbin/knotd", &["-c", config], &[]);
        server.wait_line(&["server started"]);
        Self { at: SocketAddr::new(IpAddr::V4(ip), 53), _server: server }
    }

    /// Where it is asked.
    #[must_use]
    pub fn at(&self) -> SocketAddr {
        self.at
    }

    /// The TXT records of a name.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn texts(&self, name: &str) -> Vec<String> {
        let server = format!("@{}", self.at.ip());
        let answer = run("kdig", &["+short", &server, name, "TXT"]).ok();
        answer.out.lines().map(str::to_owned).collect()
    }
}
