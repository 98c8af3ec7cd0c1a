//! A name server that takes updates, from Debian.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use super::{Ground, Process};

/// Where it is asked; on port 53 too, where everybody else would.
const PORT: u16 = 15354;
pub(crate) const KEY: &str = "waxseal-key";
pub(crate) const SECRET: &[u8; 32] = b"0123456789abcdef0123456789abcdef";
const SECRET_BASE64: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
/// How many seconds the second server lags behind.
const LAG: u32 = 2;

pub(crate) struct Knot {
    pub(crate) at: SocketAddr,
    /// A server of the same zones that lags behind.
    pub(crate) laggard: SocketAddr,
    _servers: [Process; 2],
}

impl Knot {
    /// Serves `waxseal.test` and `delegated.test`. The challenges of `alias.waxseal.test` are looked for at another name
    /// of its zone, those of `far.waxseal.test` in the other zone.
    pub(crate) fn start(ground: &Ground) -> Self {
        let second = second(ground.ip);
        let zone = |name: &str, more: &str| {
            format!(
                "$ORIGIN {name}.\n$TTL 60\n@ SOA ns1.{name}. hostmaster.{name}. 1 3600 600 86400 60\n@ NS ns1\n@ NS ns2\nns1 A {}\nns2 A {second}\nmail A {}\n{more}",
                ground.ip, ground.ip
            )
        };
        let caa = "caa CAA 0 issue \"other.test\"\ncaa A 192.0.2.1\n";
        let alias = "_acme-challenge.alias CNAME alias.acme\n_acme-challenge.far CNAME far.delegated.test.\n*.wild CNAME mail\n";
        ground.write("waxseal.test.zone", &zone("waxseal.test", &format!("{alias}{caa}")));
        ground.write("delegated.test.zone", &zone("delegated.test", ""));
        let dir = ground.dir().display();
        let zones = ["waxseal.test", "delegated.test"];
        let primary = zones.map(|zone| {
            format!("  - domain: {zone}\n    storage: {dir}\n    file: {zone}.zone\n    acl: [update, transfer]\n    zonefile-sync: -1\n")
        });
        let secondary = zones.map(|zone| {
            format!("  - domain: {zone}\n    storage: {dir}/second\n    master: primary\n    zonefile-sync: -1\n    refresh-max-interval: {LAG}\n    retry-max-interval: {LAG}\n")
        });
        let keys = format!("key:\n  - id: {KEY}\n    algorithm: hmac-sha256\n    secret: {SECRET_BASE64}\n");
        let acl = format!(
            "acl:\n  - id: update\n    key: {KEY}\n    action: update\n  - id: transfer\n    address: 127.0.0.0/8\n    action: transfer\n"
        );
        let remote = format!("remote:\n  - id: primary\n    address: {}@{PORT}\n", ground.ip);
        let first = start(ground, "first", ground.ip, &format!("{keys}{acl}zone:\n{}", primary.concat()));
        let other = start(ground, "second", second, &format!("{remote}zone:\n{}", secondary.concat()));
        let knot = Self {
            at: ground.at(PORT),
            laggard: SocketAddr::new(IpAddr::V4(second), PORT),
            _servers: [first, other],
        };
        // The second server has the zones once it has fetched them.
        std::thread::sleep(std::time::Duration::from_millis(500));
        knot
    }
}

fn start(ground: &Ground, name: &str, ip: Ipv4Addr, rest: &str) -> Process {
    let dir = ground.path(name);
    std::fs::create_dir_all(&dir).expect("a directory");
    let text = format!(
        "server:\n    rundir: {0}\n    listen: [{ip}@{PORT}, {ip}@53]\n    tcp-workers: 1\n    udp-workers: 1\n    background-workers: 1\ndatabase:\n    storage: {0}\nlog:\n  - target: stderr\n    any: info\n{rest}",
        dir.display()
    );
    let config = ground.write(&format!("{name}.conf"), &text);
    let mut command = Command::new("/usr/sbin/knotd");
    command.arg("-c").arg(config);
    let mut server = Process::start(ground, &format!("knot-{name}"), command);
    server.wait_for(SocketAddr::new(IpAddr::V4(ip), PORT));
    server
}

/// Another address that no other test has.
fn second(ip: Ipv4Addr) -> Ipv4Addr {
    let [a, b, c, d] = ip.octets();
    Ipv4Addr::new(a, (b & 0x1f) | 0x20, c, d)
}
