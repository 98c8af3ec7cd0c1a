//! tls-alpn-01: what a CA sees, and what others see while it may look.

use std::sync::Arc;

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use waxseal_tls::{ChallengeIdentity, Challenges};

use crate::support::*;

const NAME: &str = "mail.example.org";

/// Knows the answer for one name.
#[derive(Debug)]
struct One(ChallengeIdentity);

impl Challenges for One {
    fn answer(&self, sni: &str) -> Option<ChallengeIdentity> {
        (sni == NAME).then(|| self.0.clone())
    }
}

/// As the standard wants it: self-signed, with a critical extension that no reader of certificates knows.
fn answer() -> ChallengeIdentity {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(&[7; 32])];
    let certificate = params.self_signed(&key).unwrap();
    ChallengeIdentity { certificate: certificate.der().to_vec(), key: key.serialize_der() }
}

/// A handshake with these protocols: what the server agreed on, and whether it was the challenge.
async fn visit(door: &Door, name: &str, alpn: &[&str]) -> Option<bool> {
    let offer =
        Offer { alpn: alpn.iter().map(|name| name.as_bytes().to_vec()).collect(), ..Offer::default() };
    let mut config = offer.config();
    config.dangerous().set_certificate_verifier(Arc::new(Anyone));
    let met = meet(&door.acceptor(), &Arc::new(config), name).await;
    met.server.ok().map(|server| server.facts().is_challenge())
}

#[derive(Debug)]
struct Anyone;

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        vec![rustls::SignatureScheme::ECDSA_NISTP256_SHA256, rustls::SignatureScheme::RSA_PSS_SHA256]
    }
}

#[tokio::test]
async fn a_ca_sees_the_answer_and_mail_clients_do_not() {
    for protocol in [waxseal_proto::Protocol::Imap, waxseal_proto::Protocol::Submission] {
        let door = Door { protocol, ..Door::new(Kind::Ecdsa) };
        assert_eq!(visit(&door, NAME, &["acme-tls/1"]).await, None, "nobody knows an answer yet");
        door.store.answer(Some(Box::new(One(answer()))));
        assert_eq!(visit(&door, NAME, &["acme-tls/1"]).await, Some(true));
        assert_eq!(visit(&door, NAME, &[]).await, Some(false));
        assert_eq!(
            visit(&door, "other.example.org", &["acme-tls/1"]).await,
            None,
            "not asked about that name"
        );
        door.store.answer(None);
        assert_eq!(visit(&door, NAME, &["acme-tls/1"]).await, None);
    }
}

#[tokio::test]
async fn who_offers_other_protocols_beside_it_gets_no_answer() {
    let door = Door::new(Kind::Ecdsa);
    door.store.answer(Some(Box::new(One(answer()))));
    assert_eq!(visit(&door, NAME, &["acme-tls/1", "imap"]).await, Some(false));
    assert_eq!(visit(&door, NAME, &["imap"]).await, Some(false));
}
