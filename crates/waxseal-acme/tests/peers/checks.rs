//! The checks before a CA is asked, with real ports and a real name server.

use std::sync::Arc;

use waxseal_acme::{AcmeIssuer, ChallengeKind, Issuer, KeyType, Listening};

use crate::support::knot::Knot;
use crate::support::pebble::{Pebble, Wishes};
use crate::support::{Ground, Party, respond, settings};

async fn told(party: &Party) -> Vec<String> {
    let issuer = AcmeIssuer::new(
        party.settings.clone(),
        Arc::clone(&party.storage),
        Arc::clone(&party.answers),
        Arc::clone(&party.dns),
        Listening::default(),
    );
    let want = party.want(&["mail.waxseal.test"], KeyType::EcdsaP256);
    match issuer.expect("an issuer").preflight(&want).await {
        Ok(()) => Vec::new(),
        Err(error) => error.failures.iter().map(ToString::to_string).collect(),
    }
}

#[tokio::test]
async fn our_own_answer_is_recognised_on_the_real_ports_and_its_lack_is_told() {
    let ground = Ground::new();
    let knot = Knot::start(&ground);
    let pebble = Pebble::start(&ground, &Wishes { dns: Some(knot.at), ..Wishes::default() });
    for (challenge, port) in [(ChallengeKind::Http01, 80), (ChallengeKind::TlsAlpn01, 443)] {
        let party = Party::new(settings(&pebble.directory, Some(&pebble.ca), challenge), knot.at).await;
        let said = told(&party).await;
        assert!(said[0].contains("add one with"), "{said:?}");
        let at = ground.at(port);
        let answers = Arc::clone(&party.answers);
        let _responder = match challenge {
            ChallengeKind::Http01 => respond::http_01(at, answers).await,
            _ => respond::tls_alpn_01(at, answers).await,
        };
        assert_eq!(told(&party).await, [""; 0], "{challenge}");
        assert_eq!(party.keys("challenges").await, [""; 0]);
    }
    assert!(!pebble.server.log().contains("POST"), "nothing was asked of the CA");
}

#[tokio::test]
async fn somebody_elses_server_on_the_port_is_found_out() {
    let ground = Ground::new();
    let knot = Knot::start(&ground);
    let pebble = Pebble::start(&ground, &Wishes { dns: Some(knot.at), ..Wishes::default() });
    for (challenge, port) in [(ChallengeKind::Http01, 80), (ChallengeKind::TlsAlpn01, 443)] {
        let party = Party::new(settings(&pebble.directory, Some(&pebble.ca), challenge), knot.at).await;
        // It answers, but from another storage.
        let stranger = Party::new(party.settings.clone(), knot.at).await;
        let at = ground.at(port);
        let _responder = match challenge {
            ChallengeKind::Http01 => respond::http_01(at, Arc::clone(&stranger.answers)).await,
            _ => respond::tls_alpn_01(at, Arc::clone(&stranger.answers)).await,
        };
        let said = told(&party).await;
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("does not give our own answer but"), "{said:?}");
    }
}
