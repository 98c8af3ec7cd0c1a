use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustls_pki_types::CertificateDer;
use waxseal_storage::{FileStorage, MemoryStorage};

use super::reach::Seen;
use super::*;
use crate::challenge::Answers;
use crate::dns::Caa;
use crate::issuer::{Fault, Stage};
use crate::ports::Program;
use crate::settings::KeyType;

/// The world as a test wants it.
#[derive(Default)]
struct World {
    addresses: HashMap<&'static str, Vec<IpAddr>>,
    caa: HashMap<&'static str, Vec<Caa>>,
    local: Vec<IpAddr>,
    holder: Option<Program>,
    seen: HashMap<IpAddr, Seen>,
    dialled: Mutex<Vec<SocketAddr>>,
}

impl Names for World {
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, DnsError>> {
        Box::pin(async move { Ok(self.addresses.get(name).cloned().unwrap_or_default()) })
    }

    fn caa<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<CaaSet>, DnsError>> {
        let found = self.caa.get(name).cloned();
        let found = found.map(|records| CaaSet { domain: name.to_owned(), records });
        Box::pin(async move { Ok(found) })
    }
}

impl Machine for World {
    fn addresses(&self) -> std::io::Result<Vec<IpAddr>> {
        if self.local.is_empty() {
            return Err(std::io::ErrorKind::Unsupported.into());
        }
        Ok(self.local.clone())
    }

    fn holder(&self, _: SocketAddr) -> BoxFuture<'_, Option<Program>> {
        Box::pin(async { self.holder.clone() })
    }
}

impl World {
    fn dial(&self, at: SocketAddr) -> BoxFuture<'_, Seen> {
        self.dialled.lock().expect("dialled").push(at);
        let seen = self.seen.get(&at.ip()).cloned().unwrap_or(Seen::Ours);
        Box::pin(async move { seen })
    }
}

impl Dial for World {
    fn http<'a>(&'a self, at: SocketAddr, _: &'a str, _: &'a str, _: &'a str) -> BoxFuture<'a, Seen> {
        self.dial(at)
    }

    fn tls<'a>(&'a self, at: SocketAddr, _: &'a str, _: &'a CertificateDer<'a>) -> BoxFuture<'a, Seen> {
        self.dial(at)
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A host that has all it needs for `mail.example.org`.
fn good() -> World {
    World {
        addresses: HashMap::from([("mail.example.org", vec![ip("192.0.2.7")])]),
        local: vec![ip("127.0.0.1"), ip("192.0.2.7"), ip("10.0.0.5"), ip("fe80::1")],
        ..World::default()
    }
}

fn settings(challenge: ChallengeKind) -> Settings {
    Settings {
        id: "test".into(),
        directory: "https://ca.example/dir".into(),
        ca: None,
        contact: Vec::new(),
        eab: None,
        challenge,
        names: Vec::new(),
        key_types: vec![KeyType::EcdsaP256],
        reuse_key: false,
        renew_before: None,
        profile: None,
        default: false,
        fallback: None,
        preflight: true,
        public_ip: Vec::new(),
        dns: None,
    }
}

fn directory(date: SystemTime) -> Result<Directory, IssueError> {
    let meta = crate::directory::Meta {
        caa_identities: vec!["letsencrypt.org".into()],
        ..crate::directory::Meta::default()
    };
    Ok(Directory {
        url: "https://ca.example/dir".into(),
        meta,
        renewal_info: None,
        date: Some(date),
        new_nonce: String::new(),
        new_account: String::new(),
    })
}

async fn checked(
    world: &World,
    settings: &Settings,
    listening: &Listening,
    storage: Arc<dyn Storage>,
    directory: Result<Directory, IssueError>,
) -> Result<(), IssueError> {
    let answers = Answers::open(Arc::clone(&storage)).await.expect("answers");
    let preflight = Preflight {
        settings,
        listening,
        storage: &*storage,
        answers: &answers,
        dns_01: None,
        account: None,
        names: world,
        dial: world,
        machine: world,
    };
    let name = Name::parse("mail.example.org").expect("a name");
    preflight.check(&directory, &[name]).await
}

async fn told_by(
    world: &World,
    settings: &Settings,
    listening: &Listening,
    storage: Arc<dyn Storage>,
    directory: Result<Directory, IssueError>,
) -> Vec<String> {
    let checked = checked(world, settings, listening, storage, directory).await;
    checked.err().iter().flat_map(|error| &error.failures).map(Failure::to_string).collect()
}

async fn told(world: &World, settings: &Settings) -> Vec<String> {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let listening = Listening::default();
    told_by(world, settings, &listening, storage, directory(SystemTime::now())).await
}

#[tokio::test]
async fn a_host_where_all_is_right_has_no_failures_and_is_dialled_where_a_ca_would() {
    for (challenge, port) in [(ChallengeKind::Http01, 80), (ChallengeKind::TlsAlpn01, 443)] {
        let world = good();
        assert_eq!(told(&world, &settings(challenge)).await, [""; 0]);
        assert_eq!(*world.dialled.lock().expect("dialled"), [SocketAddr::new(ip("192.0.2.7"), port)]);
    }
    let world = World::default();
    assert_eq!(told(&world, &settings(ChallengeKind::Dns01)).await, [""; 0], "dns-01 needs no address");
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_is_told_with_both_addresses() {
    let mut world = good();
    world.addresses.insert("mail.example.org", vec![ip("198.51.100.9")]);
    let mut settings = settings(ChallengeKind::Http01);
    assert_eq!(
        told(&world, &settings).await,
        [
            "mail.example.org: leads to 198.51.100.9; this host has 192.0.2.7, 10.0.0.5. If a router forwards to you, set public-ip = [\"198.51.100.9\"], and it is no longer compared"
        ]
    );
    settings.public_ip = vec![ip("198.51.100.9")];
    assert_eq!(told(&world, &settings).await, [""; 0]);
}

#[tokio::test]
async fn an_aaaa_record_of_another_host_is_told_as_the_reason() {
    let mut world = good();
    world.addresses.insert("mail.example.org", vec![ip("192.0.2.7"), ip("2001:db8::1")]);
    let said = told(&world, &settings(ChallengeKind::Http01)).await;
    assert_eq!(
        said,
        [
            "mail.example.org: AAAA of mail.example.org is 2001:db8::1, which is not on this host. CAs try IPv6 first. Remove the AAAA record or give this host that address. IPv4 is fine"
        ]
    );
}

#[tokio::test]
async fn our_own_listener_in_clear_on_the_port_of_tls_alpn_01_is_told_as_such() {
    let mut world = World { holder: Some(Program::Us), ..good() };
    world.seen.insert(ip("192.0.2.7"), Seen::Silent("within 5 s".into()));
    let said = told(&world, &settings(ChallengeKind::TlsAlpn01)).await;
    assert!(said[0].contains("set tls.implicit = true for it"), "{said:?}");
}

#[tokio::test]
async fn where_this_machines_addresses_cannot_be_found_out_nothing_is_held_against_them() {
    let world = World { local: Vec::new(), ..good() };
    assert_eq!(told(&world, &settings(ChallengeKind::Http01)).await, [""; 0]);
    assert!(world.dialled.lock().expect("dialled").is_empty());
}

#[tokio::test]
async fn a_name_without_an_address_is_told() {
    let mut world = good();
    world.addresses.clear();
    let said = told(&world, &settings(ChallengeKind::TlsAlpn01)).await;
    assert!(said[0].starts_with("mail.example.org: has no address in DNS"), "{said:?}");
}

#[tokio::test]
async fn a_port_held_by_another_program_is_told_with_the_program_and_three_ways_out() {
    let mut world = good();
    world.seen.insert(ip("192.0.2.7"), Seen::Other("404 Not Found".into()));
    world.holder = Some(Program::Other { name: "nginx".into(), pid: 1 });
    let listening = Listening { http: vec!["127.0.0.1:8402".parse().expect("an address")], tls: Vec::new() };
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let now = directory(SystemTime::now());
    let said = told_by(&world, &settings(ChallengeKind::Http01), &listening, storage, now).await;
    assert_eq!(
        said,
        [
            "Port 80 is held by nginx (pid 1). Pick one: (1) let it pass /.well-known/acme-challenge/ on to 127.0.0.1:8402 (2) use tls-alpn-01 on 443 (3) use dns-01. Nothing was asked of the CA."
        ]
    );
    let said = told(&world, &settings(ChallengeKind::TlsAlpn01)).await;
    assert!(said[0].starts_with("Port 443 is held by nginx (pid 1)"), "{said:?}");
    world.holder = Some(Program::Hidden);
    let said = told(&world, &settings(ChallengeKind::TlsAlpn01)).await;
    assert!(said[0].starts_with("Port 443 is held by another program (`ss -ltnp`"), "{said:?}");
}

#[tokio::test]
async fn a_listener_on_another_port_and_no_listener_at_all_are_told() {
    let mut world = good();
    world.seen.insert(ip("192.0.2.7"), Seen::Refused);
    let listening = Listening { http: Vec::new(), tls: vec!["[::]:8443".parse().expect("an address")] };
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let tls = settings(ChallengeKind::TlsAlpn01);
    let said = told_by(&world, &tls, &listening, storage, directory(SystemTime::now())).await;
    assert_eq!(
        said,
        [
            "tls-alpn-01 is always asked on port 443. You listen on 8443: add a listener with protocol = \"http\", tls.implicit = true and bind = \"[::]:443\" (it needs no upstream), forward 443 to 8443 on TCP level, or choose another challenge. Nothing was asked of the CA."
        ]
    );
    let said = told(&world, &settings(ChallengeKind::Http01)).await;
    assert!(said[0].contains("add one with protocol = \"http\""), "{said:?}");
}

#[tokio::test]
async fn a_port_that_is_silent_on_one_family_is_told_with_the_address() {
    let mut world = good();
    world.local.push(ip("2001:db8::7"));
    world.addresses.insert("mail.example.org", vec![ip("192.0.2.7"), ip("2001:db8::7")]);
    world.seen.insert(ip("2001:db8::7"), Seen::Silent("within 5 s".into()));
    let said = told(&world, &settings(ChallengeKind::Http01)).await;
    assert_eq!(said.len(), 1);
    assert!(said[0].starts_with("port 80 of 2001:db8::7 does not answer"), "{said:?}");
}

#[tokio::test]
async fn caa_clock_and_storage_and_names_are_told_together() {
    let mut world = good();
    world.addresses.clear();
    let other = Caa { tag: "issue".into(), value: "sectigo.com".into(), critical: false };
    world.caa.insert("mail.example.org", vec![other]);
    let dir = tempfile::tempdir().expect("a directory");
    let storage: Arc<dyn Storage> = Arc::new(FileStorage::open(dir.path()).expect("storage"));
    std::fs::write(dir.path().join("preflight"), "in the way").expect("written");
    let date = SystemTime::now() + Duration::from_secs(3 * 3600 + 30);
    let settings = settings(ChallengeKind::Http01);
    let listening = Listening::default();
    let said = told_by(&world, &settings, &listening, storage, directory(date)).await;
    assert_eq!(said.len(), 4, "{said:?}");
    assert!(said[0].starts_with("this machine's clock is 180 minutes behind the CA's"), "{said:?}");
    assert!(said[1].contains("CAA at mail.example.org allows only \"sectigo.com\""), "{said:?}");
    assert!(said[2].contains("A certificate could not be kept"), "{said:?}");
    assert!(said[3].contains("has no address in DNS"), "{said:?}");
}

#[tokio::test]
async fn a_ca_that_cannot_be_reached_hides_none_of_the_other_failures() {
    let mut world = good();
    world.addresses.clear();
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let down = Err(IssueError::new(Stage::Directory, Fault::Ca, "no answer"));
    let settings = settings(ChallengeKind::Http01);
    let said = told_by(&world, &settings, &Listening::default(), storage, down).await;
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!(said[0], "no answer");
}

#[test]
fn a_clock_that_is_a_little_off_is_right() {
    let now = SystemTime::now();
    assert_eq!(clock(Some(now - Duration::from_secs(200)), now), None);
    assert_eq!(clock(None, now), None);
    assert!(clock(Some(now - Duration::from_secs(400)), now).expect("wrong").contains("6 minutes ahead"));
}

#[tokio::test]
async fn a_ca_that_cannot_be_asked_is_its_own_fault_and_its_wish_is_kept() {
    let world = good();
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let wait = Some(Duration::from_secs(7200));
    let busy = IssueError::new(Stage::Directory, Fault::RateLimit, "too much").after(wait);
    let checked =
        checked(&world, &settings(ChallengeKind::Http01), &Listening::default(), storage, Err(busy)).await;
    let error = checked.expect_err("nothing can be asked");
    assert_eq!((error.stage, error.fault, error.retry_after), (Stage::Preflight, Fault::RateLimit, wait));
}
