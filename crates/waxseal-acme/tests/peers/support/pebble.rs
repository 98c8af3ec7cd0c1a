//! Let's Encrypt's test CA, from Debian.

use std::net::SocketAddr;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;

use super::{Ground, Process};

const ACME: u16 = 14000;
const MANAGEMENT: u16 = 15000;
const DNS: u16 = 15353;
const DNS_MANAGEMENT: u16 = 18055;
/// Where pebble asks for http-01 and tls-alpn-01.
pub(crate) const HTTP: u16 = 15002;
pub(crate) const TLS: u16 = 15001;

/// How a pebble differs from the others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes<'a> {
    /// Percent of nonces that are refused.
    pub(crate) refused_nonces: u32,
    /// Key name and key (base64url) of external accounts; required then.
    pub(crate) eab: Option<(&'a str, &'a str)>,
    pub(crate) blocked: &'a [&'a str],
    /// Seconds that certificates live.
    pub(crate) lifetime: Option<u64>,
    /// The name server that the CA asks, instead of one that has this ground's address for every name.
    pub(crate) dns: Option<SocketAddr>,
    /// Whether it waits some seconds before it looks.
    pub(crate) slow: bool,
}

pub(crate) struct Pebble {
    pub(crate) directory: String,
    pub(crate) ca: String,
    /// The name server that knows every name.
    pub(crate) resolver: SocketAddr,
    pub(crate) dns_management: SocketAddr,
    pub(crate) server: Process,
    _dns: Process,
}

impl Pebble {
    pub(crate) fn start(ground: &Ground, wishes: &Wishes<'_>) -> Self {
        let ca = certificates(ground);
        let (kids, required) = match wishes.eab {
            Some((kid, key)) => (json!({ kid: key }), true),
            None => (json!({}), false),
        };
        let mut config = json!({
            "listenAddress": ground.at(ACME).to_string(),
            "managementListenAddress": ground.at(MANAGEMENT).to_string(),
            "certificate": ground.path("pebble.pem"),
            "privateKey": ground.path("pebble.key"),
            "httpPort": HTTP,
            "tlsPort": TLS,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": required,
            "externalAccountMACKeys": kids,
            "domainBlocklist": wishes.blocked,
        });
        if let Some(lifetime) = wishes.lifetime {
            config["certificateValidityPeriod"] = json!(lifetime);
        }
        let config = ground.write("pebble.json", &json!({ "pebble": config }).to_string());
        let mut dns = Command::new("pebble-challtestsrv");
        dns.args([
            "-dns01",
            &ground.at(DNS).to_string(),
            "-management",
            &ground.at(DNS_MANAGEMENT).to_string(),
        ])
        .args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""])
        .args(["-defaultIPv4", &ground.ip.to_string()]);
        let mut dns = Process::start(ground, "challtestsrv", dns);
        dns.wait_for(ground.at(DNS_MANAGEMENT));
        let asked = wishes.dns.unwrap_or_else(|| ground.at(DNS));
        let mut pebble = Command::new("pebble");
        pebble
            .args(["-config", &config.display().to_string(), "-dnsserver", &asked.to_string()])
            .env("PEBBLE_AUTHZREUSE", "0")
            .env("PEBBLE_WFE_NONCEREJECT", wishes.refused_nonces.to_string());
        if wishes.slow {
            pebble.env("PEBBLE_VA_SLEEPTIME", "4");
        } else {
            pebble.env("PEBBLE_VA_NOSLEEP", "1");
        }
        let mut server = Process::start(ground, "pebble", pebble);
        server.wait_for(ground.at(ACME));
        Self {
            directory: format!("https://{}/dir", ground.at(ACME)),
            ca,
            resolver: ground.at(DNS),
            dns_management: ground.at(DNS_MANAGEMENT),
            server,
            _dns: dns,
        }
    }
}

/// Certificate and key of the CA's own HTTPS; the root is returned.
fn certificates(ground: &Ground) -> String {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let root = params.self_signed(&key).expect("a root").pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(vec![ground.ip.to_string()]).expect("an address");
    let leaf = leaf.signed_by(&key, &issuer).expect("a certificate");
    ground.write("pebble.pem", &leaf.pem());
    ground.write("pebble.key", &key.serialize_pem());
    root
}
