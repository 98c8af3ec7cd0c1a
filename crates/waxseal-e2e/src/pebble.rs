//! Pebble, Let's Encrypt's test CA, with a name server that has one address for every name.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;

use crate::{Daemon, Ground, SClient, TlsClient, eventually, provider, run};

/// A running Pebble.
///
/// Its ports, by their names on the ground: `pebble`, `pebble-management`, `pebble-dns`, `pebble-dns-management`.
/// What a configuration needs to trust its HTTPS stands in `pebble-ca.pem`.
#[derive(Debug)]
pub struct Pebble {
    server: Daemon,
    _dns: Daemon,
    ip: Ipv4Addr,
    records: SocketAddr,
    roots: String,
}

/// How one differs from the others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes<'a> {
    /// Seconds that certificates live; a month unless said.
    pub lifetime: Option<u64>,
    /// Name and key (base64url) of the external account that it wants.
    pub eab: Option<(&'a str, &'a str)>,
    /// The name server that it asks in place of its own.
    pub dns: Option<SocketAddr>,
    /// Seconds that it waits before it looks at an answer.
    pub pause: Option<u32>,
}

/// The name that a door of [`Pebble::door`] has.
pub const NAME: &str = "mail.example.test";

/// A month: nothing is renewed during a test.
const LONG: u64 = 30 * 86_400;

/// The address that a test has for itself: challenges are asked for on their real ports.
#[must_use]
pub fn own_ip(ground: &Ground) -> Ipv4Addr {
    let [high, low] = ground.port("pebble").to_be_bytes();
    Ipv4Addr::new(127, 99, high, low.max(1))
}

impl Pebble {
    /// Starts one whose certificates live for `lifetime` seconds, and which refuses 15 of 100 nonces.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(ground: &Ground, lifetime: u64) -> Self {
        Self::with(ground, Wishes { lifetime: Some(lifetime), ..Wishes::default() })
    }

    /// Starts one as wished, which refuses 15 of 100 nonces.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn with(ground: &Ground, wishes: Wishes<'_>) -> Self {
        let ip = own_ip(ground);
        certificates(ground);
        let macs = wishes.eab.map_or_else(|| json!({}), |(kid, key)| json!({ kid: key }));
        let config = json!({ "pebble": {
            "listenAddress": ground.addr("pebble").to_string(),
            "managementListenAddress": ground.addr("pebble-management").to_string(),
            "certificate": ground.path("pebble.pem"),
            "privateKey": ground.path("pebble.key"),
            "httpPort": 80,
            "tlsPort": 443,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": wishes.eab.is_some(),
            "externalAccountMACKeys": macs,
            "certificateValidityPeriod": wishes.lifetime.unwrap_or(LONG),
        }});
        let config = ground.write("pebble.json", &config.to_string());
        let text = |name: &str| ground.addr(name).to_string();
        let (dns, management) = (text("pebble-dns"), text("pebble-dns-management"));
        let arguments = ["-dns01", &dns, "-management", &management, "-http01", "", "-https01", ""];
        let ip_text = ip.to_string();
        let more = ["-tlsalpn01", "", "-defaultIPv4", &ip_text, "-defaultIPv6", ""];
        let mut names =
            Daemon::start("challtestsrv", "pebble-challtestsrv", &[&arguments[..], &more].concat(), &[]);
        names.wait_listening(&[ground.port("pebble-dns-management")]);
        let config = config.to_str().expect("utf-8");
        let seconds = wishes.pause.map(|pause| pause.to_string());
        let pause = match &seconds {
            Some(seconds) => ("PEBBLE_VA_SLEEPTIME", seconds.as_str()),
            None => ("PEBBLE_VA_NOSLEEP", "1"),
        };
        let asked = wishes.dns.map_or(dns, |at| at.to_string());
        let mut server = Daemon::start(
            "pebble",
            "pebble",
            &["-config", config, "-dnsserver", &asked],
            &[("PEBBLE_AUTHZREUSE", "0"), ("PEBBLE_WFE_NONCEREJECT", "15"), pause],
        );
        server.wait_listening(&[ground.port("pebble"), ground.port("pebble-management")]);
        let ca = ground.path("pebble-ca.pem");
        let url = format!("https://{}/roots/0", ground.addr("pebble-management"));
        let root = run("curl", &["-sf", "--cacert", ca.to_str().expect("utf-8"), &url]).ok();
        let roots = ground.write("pebble-roots.pem", &root.out);
        let records = ground.addr("pebble-dns-management");
        Self { server, _dns: names, ip, records, roots: roots.to_str().expect("utf-8").to_owned() }
    }

    /// The address that every name has, at this port. It is asked at 80 and 443.
    #[must_use]
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.ip), port)
    }

    /// The file with the root of what it signs.
    #[must_use]
    pub fn roots(&self) -> &str {
        &self.roots
    }

    /// A client that trusts what it signs, and asks for `name`.
    ///
    /// # Panics
    /// When its root cannot be read.
    #[must_use]
    pub fn client(&self, name: &str) -> TlsClient {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.roots).expect("a root")).expect("a root");
        let config = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        TlsClient { config: Arc::new(config), name: name.to_owned() }
    }

    /// A door before the service `behind`, by IMAP on port 443 of the test's own address and, with STARTTLS, at `imap`.
    /// `more`: its other tables; a line `CA` in an `acme` table stands for what it needs to reach this CA.
    #[must_use]
    pub fn door(&self, more: &str) -> String {
        let ca = "directory = \"https://<pebble>/dir\"\nca = \"%{file:<dir>/pebble-ca.pem}%\"\n\
                  contact = [\"admin@example.test\"]\ncache = \"<dir>/cache\"\n";
        let more = more.replace("CA\n", ca);
        format!(
            r#"
[server]
hostname = "{NAME}"
resolver = ["<pebble-dns>"]
[upstream.behind]
address = "<behind>"
[server.listener.imaps]
protocol = "imap"
bind = "{tls}"
upstream = "behind"
tls.implicit = true
[server.listener.imap]
protocol = "imap"
bind = "<imap>"
upstream = "behind"
{more}
"#,
            tls = self.at(443),
        )
    }

    /// The certificate that a listener shows for `name`, and whether the CA's root stands behind it.
    ///
    /// # Panics
    /// When openssl cannot be run.
    #[must_use]
    pub fn shown(&self, name: &str, client: SClient) -> (String, bool) {
        let seen =
            client.args(&["-CAfile", self.roots(), "-servername", name, "-verify_hostname", name]).run();
        (seen.certificate.unwrap_or_default(), seen.verified)
    }

    /// Where its name server takes records from a test: `POST /set-txt`, `POST /clear-txt`.
    #[must_use]
    pub fn records(&self) -> SocketAddr {
        self.records
    }

    /// How many lines of its log hold all of `words`.
    #[must_use]
    pub fn said(&self, words: &[&str]) -> usize {
        self.server.count(words)
    }

    /// How many accounts and orders it has made.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.server.count(&["accounts in memory"]), self.server.count(&["Added order"]))
    }

    /// Waits until it has issued so many certificates.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait_issued(&self, count: usize) {
        eventually("issuance", || (self.server.count(&["Issued certificate serial"]) >= count).then_some(()));
    }
}

/// Certificate and key of its own HTTPS, and the root above.
fn certificates(ground: &Ground) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "Above Pebble");
    let key = KeyPair::generate().expect("a key");
    ground.write("pebble-ca.pem", &params.self_signed(&key).expect("a root").pem());
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
    let leaf = leaf.signed_by(&key, &issuer).expect("a certificate");
    ground.write("pebble.pem", &leaf.pem());
    ground.write("pebble.key", &key.serialize_pem());
}
