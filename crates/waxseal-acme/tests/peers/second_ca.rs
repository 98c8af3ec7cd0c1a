//! An ACME server that is not Pebble: Caddy's (Smallstep's underneath). It validates while it is told to look.

use std::process::Command;
use std::sync::Arc;

use waxseal_acme::{ChallengeKind, Fault, Stage};

use crate::support::{Ground, Party, Process, eventually, respond, settings};

const PORT: u16 = 14443;

struct Caddy {
    directory: String,
    ca: String,
    _server: Process,
}

impl Caddy {
    async fn start(ground: &Ground) -> Self {
        let at = ground.at(PORT);
        // Caddy chooses its certificate by the address that it was asked at, for addresses have no SNI.
        let text = format!(
            "{{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n\tdefault_sni {0}\n}}\nhttps://{1} {{\n\tbind {0}\n\ttls internal\n\tacme_server\n}}\n",
            ground.ip, at
        );
        let config = ground.write("Caddyfile", &text);
        let mut command = Command::new("caddy");
        command
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(config)
            .env("XDG_DATA_HOME", ground.path("data"))
            .env("XDG_CONFIG_HOME", ground.path("config"))
            .env("HOME", ground.dir());
        let mut server = Process::start(ground, "caddy", command);
        server.wait_for(at);
        let root = ground.path("data/caddy/pki/authorities/local/root.crt");
        eventually("the root", async || root.exists()).await;
        let ca = std::fs::read_to_string(root).expect("the root");
        // It listens before it has a certificate for itself.
        let leaf = ground.path(&format!("data/caddy/certificates/local/{0}/{0}.crt", ground.ip));
        eventually("its own certificate", async || leaf.exists()).await;
        Self { directory: format!("https://{at}/acme/local/directory"), ca, _server: server }
    }
}

#[tokio::test]
async fn an_address_is_proved_to_it_by_tls_alpn_01() {
    let ground = Ground::new();
    let caddy = Caddy::start(&ground).await;
    let settings = settings(&caddy.directory, Some(&caddy.ca), ChallengeKind::TlsAlpn01);
    let party = Party::new(settings, ground.at(53)).await;
    let name = ground.ip.to_string();

    // It refuses in the answer to the request that tells it to look.
    let error = party.issue(&[&name]).await.expect_err("nobody answers");
    assert_eq!((error.stage, error.fault), (Stage::Validation, Fault::Setup), "{error}");
    assert_eq!(error.failures[0].name.as_deref(), Some(name.as_str()));
    assert_eq!(party.keys("challenges").await, [""; 0]);

    let _tls = respond::tls_alpn_01(ground.at(443), Arc::clone(&party.answers)).await;
    party.issue(&[&name]).await.expect("a certificate");
    assert_eq!(party.keys("challenges").await, [""; 0]);
}
