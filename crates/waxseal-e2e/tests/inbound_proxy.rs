//! PROXY headers: from load balancers in front, believed from named networks only; and those the door writes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustls::version::TLS13;
use waxseal_e2e::{CERTIFICATE, Door, Fake, Ground, Pki, SOON, TlsClient, Wire, mail_certificate, provider};

const BALANCER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 7));
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 8));

/// The signature of version 2 of the PROXY protocol.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What a service was told of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    version: u8,
    source: SocketAddr,
    destination: SocketAddr,
    /// Type and value of each TLV, those inside PP2_TYPE_SSL behind it.
    tlvs: Vec<(u8, Vec<u8>)>,
}

impl Told {
    fn tlv(&self, kind: u8) -> Option<String> {
        let found = self.tlvs.iter().find(|(it, _)| *it == kind);
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }
}

/// Reads a header as the PROXY protocol's specification has it (2.1 and 2.2), independently of the door's code.
fn read_header(wire: &mut Wire) -> Told {
    let start = wire.read_exactly(12);
    if start != SIGNATURE {
        let line = String::from_utf8(start).expect("text") + &wire.line();
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[0], "PROXY", "{line}");
        let address =
            |ip: &str, port: &str| SocketAddr::new(ip.parse().expect("ip"), port.parse().expect("port"));
        let (source, destination) = (address(words[2], words[4]), address(words[3], words[5]));
        assert_eq!(words[1], if source.is_ipv4() { "TCP4" } else { "TCP6" }, "{line}");
        return Told { version: 1, source, destination, tlvs: Vec::new() };
    }
    let head = wire.read_exactly(4);
    assert_eq!(head[0], 0x21, "version 2, PROXY");
    let rest = wire.read_exactly(usize::from(u16::from_be_bytes([head[2], head[3]])));
    let (source, destination, tlvs) = match head[1] {
        0x11 => {
            let ip = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&rest[at..at + 4]).expect("4"));
            (ip(0), ip(4), 8)
        }
        0x21 => {
            let ip = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&rest[at..at + 16]).expect("16"));
            (ip(0), ip(16), 32)
        }
        family => panic!("family {family:#x}"),
    };
    let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    let mut found = Vec::new();
    read_tlvs(&rest[tlvs + 4..], &mut found);
    Told {
        version: 2,
        source: SocketAddr::new(source, port(tlvs)),
        destination: SocketAddr::new(destination, port(tlvs + 2)),
        tlvs: found,
    }
}

fn read_tlvs(mut bytes: &[u8], found: &mut Vec<(u8, Vec<u8>)>) {
    while let [kind, high, low, rest @ ..] = bytes {
        let (value, after) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        found.push((*kind, value.to_vec()));
        if *kind == 0x20 {
            // client (1 byte), verify (4 bytes), sub-TLVs
            read_tlvs(&value[5..], found);
        }
        bytes = after;
    }
    assert!(bytes.is_empty(), "a torn TLV");
}

/// An IMAP service that reads a header first and tells what it said.
fn telling_service(ground: &Ground) -> (Fake, Receiver<Told>) {
    let (sender, told) = channel();
    let sender = std::sync::Mutex::new(sender);
    let fake = Fake::start(ground, "behind", move |mut wire| {
        let said = read_header(&mut wire);
        if wire.try_send(b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready\r\n").is_err() {
            return;
        }
        while let Ok(Some(line)) = wire.try_line() {
            let mut words = line.split(' ');
            let (tag, verb) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            if verb == "LOGIN" {
                sender.lock().expect("lock").send(said.clone()).expect("the test listens");
            }
            let untagged = if verb == "CAPABILITY" { "* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n" } else { "" };
            if wire.try_send(format!("{untagged}{tag} OK done\r\n").as_bytes()).is_err() {
                return;
            }
        }
    });
    (fake, told)
}

struct House {
    door: Door,
    ground: Ground,
    client: TlsClient,
    told: Receiver<Told>,
    _behind: Fake,
    pki: Pki,
}

impl House {
    fn new(forwarding: &str) -> Self {
        let ground = Ground::new();
        let pki = mail_certificate(&ground);
        let (behind, told) = telling_service(&ground);
        let door = Door::start(
            &ground,
            &format!(
                r#"{CERTIFICATE}
[server.proxy]
trusted-networks = ["127.0.0.7/32"]
[upstream.behind]
address = "<behind>"
forwarding = "{forwarding}"
[server.listener.imap]
protocol = "imap"
bind = ["<imap>", "[::1]:<imap:port>"]
upstream = "behind"
[server.listener.imaps]
protocol = "imap"
bind = ["<imaps>", "[::1]:<imaps:port>"]
upstream = "behind"
tls.implicit = true
[server.listener.open]
protocol = "imap"
bind = "<open>"
upstream = "behind"
tls.implicit = true
proxy.trusted-networks = ["127.0.0.8/32", "::1/128"]
[server.listener.dual]
protocol = "imap"
bind = "[::]:<dual:port>"
upstream = "behind"
tls.implicit = true
"#
            ),
        );
        let client = pki.client("mail.example.test");
        Self { door, ground, client, told, _behind: behind, pki }
    }

    /// Sends `header` from `peer` to an implicit listener and logs in; what the service was told.
    fn login(&self, mut wire: Wire, header: &[u8]) -> Told {
        wire.send(header);
        let mut wire = wire.tls(&self.client);
        wire.expect("* OK");
        wire.say("a LOGIN alice secret").expect("a OK");
        self.told.recv_timeout(SOON).expect("the service was told")
    }
}

fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let length = u16::try_from(addresses.len()).expect("short").to_be_bytes();
    [SIGNATURE, &[command, family], &length, addresses].concat()
}

/// 192.0.2.7:4711 to 192.0.2.1:143, with a TLV that means nothing to anybody.
fn v2_inet() -> Vec<u8> {
    v2(0x21, 0x11, &[192, 0, 2, 7, 192, 0, 2, 1, 0x12, 0x67, 0, 143, 0xe0, 0, 1, 7])
}

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 143\r\n";

#[test]
fn a_header_from_a_trusted_network_is_believed_in_both_versions() {
    let house = House::new("proxy-v2");
    let balancer = || Wire::connect_from(BALANCER, house.ground.addr("imaps"));
    for header in [V1.to_vec(), v2_inet()] {
        let told = house.login(balancer(), &header);
        assert_eq!(told.source, "192.0.2.7:4711".parse().expect("address"));
        assert_eq!(told.destination, "192.0.2.1:143".parse().expect("address"));
    }
    let told = house.login(balancer(), b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 143\r\n");
    assert_eq!(told.source, "[2001:db8::7]:4711".parse().expect("address"));
    // The log knows the client too.
    house.door.wait_line(&["192.0.2.7"]);

    let mut wire = Wire::connect_from(BALANCER, house.ground.addr("imap"));
    wire.send(V1).expect("* OK");
    wire.say("s STARTTLS").expect("s OK");
    let mut wire = wire.tls(&house.client);
    wire.say("a LOGIN alice secret").expect("a OK");
    assert_eq!(
        house.told.recv_timeout(SOON).expect("told").source,
        "192.0.2.7:4711".parse().expect("address")
    );
}

#[test]
fn local_and_unknown_headers_leave_the_connections_own_addresses() {
    let house = House::new("proxy-v2");
    for header in [v2(0x20, 0x00, &[]), b"PROXY UNKNOWN\r\n".to_vec()] {
        let wire = Wire::connect_from(BALANCER, house.ground.addr("imaps"));
        let local = wire.local();
        assert_eq!(house.login(wire, &header).source, local);
    }
}

#[test]
fn a_trusted_peer_need_not_send_a_header() {
    let house = House::new("proxy-v2");
    let wire = Wire::connect_from(BALANCER, house.ground.addr("imaps"));
    let local = wire.local();
    assert_eq!(house.login(wire, b"").source, local);
}

#[test]
fn a_header_in_pieces_is_read_and_one_that_does_not_end_has_its_own_deadline() {
    let house = House::new("proxy-v2");
    for header in [V1.to_vec(), v2_inet()] {
        let mut wire = Wire::connect_from(BALANCER, house.ground.addr("imaps"));
        for byte in &header {
            wire.send([*byte]);
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(house.login(wire, b"").source, "192.0.2.7:4711".parse().expect("address"));
        let mut wire = Wire::connect_from(BALANCER, house.ground.addr("imaps"));
        wire.send(&header[..header.len() - 1]);
        let start = Instant::now();
        wire.ended();
        assert!(start.elapsed() < Duration::from_secs(12), "well before the handshake's minute");
    }
}

#[test]
fn a_header_from_any_other_peer_is_not_believed() {
    let house = House::new("proxy-v2");
    for header in [V1.to_vec(), v2_inet()] {
        // Where TLS is expected it is no TLS.
        let mut wire = Wire::connect_from(STRANGER, house.ground.addr("imaps"));
        wire.send(&header);
        assert!(wire.try_tls(&house.client).is_err());
        // Where a dialogue is, it is no command.
        let mut wire = Wire::connect_from(STRANGER, house.ground.addr("imap"));
        wire.expect("* OK");
        let _ = wire.try_send(&header);
        let answer = String::from_utf8_lossy(&wire.ended_or_silent(Duration::from_millis(500))).into_owned();
        assert!(!answer.contains(" OK"), "{answer}");
    }
    house.door.wait_line(&["trusted-networks"]);
    let wire = Wire::connect_from(STRANGER, house.ground.addr("imaps"));
    let local = wire.local();
    assert_eq!(house.login(wire, b"").source, local, "without a header it is a client like any other");
    assert!(!house.door.log().contains("client=192.0.2.7"), "{}", house.door.log());
}

#[test]
fn a_listeners_own_trusted_networks_stand_in_place_of_the_servers() {
    let house = House::new("proxy-v2");
    let told = house.login(Wire::connect_from(STRANGER, house.ground.addr("open")), V1);
    assert_eq!(told.source, "192.0.2.7:4711".parse().expect("address"));
    let mut wire = Wire::connect_from(BALANCER, house.ground.addr("open"));
    wire.send(V1);
    assert!(wire.try_tls(&house.client).is_err(), "lists replace, they never merge");
}

#[test]
fn a_broken_header_from_a_trusted_peer_ends_the_connection() {
    let house = House::new("proxy-v2");
    let long = format!("PROXY TCP4 {}\r\n", "1".repeat(200));
    for header in [
        b"PROXY TCP4 192.0.2.7 192.0.2.1 4711\r\n".to_vec(),
        b"PROXY TCP4 2001:db8::7 192.0.2.1 4711 143\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 143\n".to_vec(),
        long.into_bytes(),
        v2(0x31, 0x11, &[0; 12]),
        v2(0x21, 0x11, &[0; 4]),
        [SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat(),
    ] {
        let mut wire = Wire::connect_from(BALANCER, house.ground.addr("imaps"));
        wire.send(&header);
        let start = Instant::now();
        assert!(wire.try_tls(&house.client).is_err(), "{header:?}");
        assert!(start.elapsed() < Duration::from_secs(12), "{header:?}");
    }
    // The door is well.
    let told = house.login(Wire::connect_from(BALANCER, house.ground.addr("imaps")), V1);
    assert_eq!(told.source.ip().to_string(), "192.0.2.7");
}

#[test]
fn the_header_written_in_version_2_carries_the_facts_of_the_clients_tls() {
    const ALPN: u8 = 0x01;
    const AUTHORITY: u8 = 0x02;
    const SSL: u8 = 0x20;
    const SSL_VERSION: u8 = 0x21;
    const SSL_CIPHER: u8 = 0x23;
    const CLIENT_SSL: u8 = 0x01;
    let mut house = House::new("proxy-v2");
    house.client = house.pki.client_with("mail.example.test", provider(), &[&TLS13], &["imap"]);
    let wire = Wire::connect_from(STRANGER, house.ground.addr("imaps"));
    let local = wire.local();
    let told = house.login(wire, b"");
    assert_eq!((told.version, told.source, told.destination), (2, local, house.ground.addr("imaps")));
    assert_eq!(told.tlv(AUTHORITY).as_deref(), Some("mail.example.test"));
    assert_eq!(told.tlv(ALPN).as_deref(), Some("imap"));
    assert_eq!(told.tlv(SSL_VERSION).as_deref(), Some("TLSv1.3"));
    // Dovecot logs it as it stands; OpenSSL's spelling is what HAProxy sends and everybody reads.
    let cipher = told.tlv(SSL_CIPHER).expect("cipher");
    assert!(cipher.contains("AES_256_GCM_SHA384"), "{cipher}");
    let (_, ssl) = told.tlvs.iter().find(|(kind, _)| *kind == SSL).expect("SSL");
    assert_eq!(ssl[0] & CLIENT_SSL, CLIENT_SSL, "the client came over TLS");
    assert_ne!(ssl[1..5], [0; 4], "no certificate of the client's was verified");

    let wire = Wire::connect(house.ground.addr6("imaps"));
    let local = wire.local();
    assert_eq!(house.login(wire, b"").source, local, "IPv6 as it is");
    // A socket for both families sees ::ffff:127.0.0.1, and says 127.0.0.1.
    let wire = Wire::connect(house.ground.addr("dual"));
    let local = wire.local();
    assert_eq!(house.login(wire, b"").source, local, "IPv4 at a socket for both");
}

#[test]
fn the_header_written_in_version_1_names_the_client() {
    let house = House::new("proxy-v1");
    for wire in
        [Wire::connect_from(STRANGER, house.ground.addr("imaps")), Wire::connect(house.ground.addr6("imaps"))]
    {
        let local = wire.local();
        let told = house.login(wire, b"");
        assert_eq!((told.version, told.source), (1, local));
    }
}

#[test]
fn a_real_balancer_in_front_hands_the_clients_address_on() {
    let house = House::new("proxy-v2");
    // HAProxy comes from the address that the listener trusts.
    let file = house.ground.write(
        "haproxy.cfg",
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
         frontend one\n  bind <balancer-one>\n  default_backend one\n\
         backend one\n  source 127.0.0.7\n  server door <imaps> send-proxy\n\
         frontend two\n  bind <balancer-two>\n  default_backend two\n\
         backend two\n  source 127.0.0.7\n  server door <imaps> send-proxy-v2\n",
    );
    let file = file.to_str().expect("utf-8");
    let mut balancer = waxseal_e2e::Daemon::start("haproxy", "haproxy", &["-db", "-f", file], &[]);
    balancer.wait_listening(&[house.ground.port("balancer-one"), house.ground.port("balancer-two")]);
    for name in ["balancer-one", "balancer-two"] {
        let wire = Wire::connect_from(STRANGER, house.ground.addr(name));
        let local = wire.local();
        let told = house.login(wire, b"");
        assert_eq!((told.source, told.destination), (local, house.ground.addr(name)));
    }
}
