//! The client's side: whom it believes, and what it says of the others.

use std::sync::Arc;

use rcgen::CertificateParams;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use waxseal_tls::{
    Begin, Connector, ConnectorError, Facts, HandshakeError, Identity, Pool, Trust, Version, pin_text,
};

use crate::support::*;

/// Connects to a door of ours; both sides' facts, or the client's error.
async fn connect_to(door: &Door, connector: &Arc<Connector>) -> Result<Facts, HandshakeError> {
    let (client, server) = UnixStream::pair().unwrap();
    let acceptor = door.acceptor();
    let server = tokio::spawn(async move {
        let mut session = accept(&acceptor, server).await?;
        // For the tickets to be read.
        let _ = session.write_all(b"!").await;
        let _ = session.flush().await;
        Ok::<_, HandshakeError>(session)
    });
    let mut handshake = connector.begin(client, Begin::FirstByte);
    let established = handshake.run().await;
    if established.is_err() {
        drop(handshake);
        assert_eq!(server.await.unwrap().unwrap_err().label(), "alert", "the server hears of it");
        return established.map(|_| unreachable!());
    }
    let mut session = handshake.finish(established?);
    tokio::io::AsyncReadExt::read_u8(&mut session).await.unwrap();
    assert!(server.await.unwrap().is_ok());
    Ok(session.facts().clone())
}

fn connector(trust: &Trust, name: &str) -> Arc<Connector> {
    Connector::new(trust, name, Pool::new(4)).unwrap()
}

fn our_root() -> Trust {
    Trust::Roots(ca().pem().into_bytes())
}

fn door_of(chain: &str, key: &str) -> Door {
    let identity = Identity::from_pem(chain.as_bytes(), key.as_bytes(), &[]).unwrap().0;
    Door::with_entries(vec![entry("one", Arc::new(identity))])
}

/// A door with a certificate that nobody vouches for, and its pin.
fn self_signed() -> (Door, [u8; 32]) {
    let made = rcgen::generate_simple_self_signed(vec!["mail.example.org".to_owned()]).unwrap();
    let key = rcgen::PublicKeyData::subject_public_key_info(&made.signing_key);
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &key);
    let door = door_of(&made.cert.pem(), &made.signing_key.serialize_pem());
    (door, hash.as_ref().try_into().unwrap())
}

async fn refusal(door: &Door, trust: &Trust, name: &str) -> String {
    let error = connect_to(door, &connector(trust, name)).await.unwrap_err();
    assert_eq!(error.label(), "untrusted");
    error.to_string()
}

#[tokio::test]
async fn a_service_is_believed_for_its_name_and_issuer() {
    let (chain, key) = leaf(Kind::Ecdsa, &["mail.example.org", "192.0.2.1", "2001:db8::1"]);
    let door = door_of(&chain, &key);
    for name in ["mail.example.org", "mail.example.org.", "192.0.2.1", "2001:db8::1"] {
        let facts = connect_to(&door, &connector(&our_root(), name)).await.unwrap();
        assert_eq!((facts.version, facts.certificate, facts.matched), (Version::Tls13, None, None));
    }
}

#[tokio::test]
async fn the_connection_behind_speaks_both_versions() {
    for version in Version::ALL {
        let mut door = Door::new(Kind::Rsa);
        door.settings.versions = vec![version];
        let facts = connect_to(&door, &connector(&our_root(), "mail.example.org")).await.unwrap();
        assert_eq!(facts.version, version);
    }
}

#[tokio::test]
async fn the_second_connection_is_a_resumption() {
    let door = Door::new(Kind::Ecdsa);
    let connector = connector(&our_root(), "mail.example.org");
    assert!(!connect_to(&door, &connector).await.unwrap().resumed);
    assert!(connect_to(&door, &connector).await.unwrap().resumed);
}

#[tokio::test]
async fn another_name_is_refused_and_the_right_ones_are_told() {
    let told = refusal(&Door::new(Kind::Ecdsa), &our_root(), "imap.example.org").await;
    assert!(
        told.starts_with("its certificate is for mail.example.org, not for \"imap.example.org\""),
        "{told}"
    );
    let told = refusal(&Door::new(Kind::Ecdsa), &our_root(), "192.0.2.1").await;
    assert!(told.contains("not for \"192.0.2.1\""), "{told}");
}

#[tokio::test]
async fn an_expired_certificate_is_refused_with_its_date() {
    let (chain, key) = leaf_with(Kind::Ecdsa, &["mail.example.org"], |params: &mut CertificateParams| {
        params.not_after = rcgen::date_time_ymd(2001, 2, 3);
    });
    let told = refusal(&door_of(&chain, &key), &our_root(), "mail.example.org").await;
    assert_eq!(told, "its certificate expired on 2001-02-03");
    let (chain, key) = leaf_with(Kind::Ecdsa, &["mail.example.org"], |params: &mut CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2101, 2, 3);
        params.not_after = rcgen::date_time_ymd(2102, 2, 3);
    });
    let told = refusal(&door_of(&chain, &key), &our_root(), "mail.example.org").await;
    assert_eq!(told, "its certificate is not valid before 2101-02-03");
}

#[tokio::test]
async fn a_self_signed_certificate_is_refused_with_the_pin_that_helps() {
    let (door, pin) = self_signed();
    let told = refusal(&door, &our_root(), "mail.example.org").await;
    let text = pin_text(&pin);
    assert_eq!(told, format!("its certificate is self-signed; pin it: pin = \"{text}\""));
    let trust = Trust::from_pin(&text).unwrap();
    assert_eq!(trust, Trust::Pin(pin));
    connect_to(&door, &connector(&trust, "any.name.at.all")).await.unwrap();
}

#[tokio::test]
async fn an_unknown_issuer_is_named() {
    let other = rcgen::generate_simple_self_signed(vec!["other".to_owned()]).unwrap();
    let trust = Trust::Roots(other.cert.pem().into_bytes());
    let told = refusal(&Door::new(Kind::Ecdsa), &trust, "mail.example.org").await;
    assert!(told.starts_with("its certificate is issued by \"Test CA\", whom nobody here trusts"), "{told}");
}

#[tokio::test]
async fn a_wrong_pin_is_refused_and_the_one_seen_is_told() {
    let (door, pin) = self_signed();
    let told = refusal(&door, &Trust::Pin([7; 32]), "mail.example.org").await;
    assert!(told.contains(&format!("seen {}, pinned sha256:BwcH", pin_text(&pin))), "{told}");
    // Not even somebody with a certificate for the name.
    let told = refusal(&Door::new(Kind::Ecdsa), &Trust::Pin(pin), "mail.example.org").await;
    assert!(told.starts_with("its key is not the pinned one"), "{told}");
}

#[tokio::test]
async fn anybody_is_believed_only_on_demand() {
    let (door, _) = self_signed();
    for version in Version::ALL {
        let mut door = Door::with_entries(door.store.current().entries().to_vec());
        door.settings.versions = vec![version];
        connect_to(&door, &connector(&Trust::Any, "mail.example.org")).await.unwrap();
    }
}

#[tokio::test]
async fn a_service_that_speaks_no_tls_is_told_of_as_such() {
    let (client, mut server) = UnixStream::pair().unwrap();
    server.write_all(b"* OK ready\r\n").await.unwrap();
    let mut handshake = connector(&Trust::Any, "mail.example.org").begin(client, Begin::FirstByte);
    let error = handshake.run().await.unwrap_err();
    assert_eq!(error.label(), "garbage");
    assert!(error.to_string().starts_with("the service sent something that is not TLS"), "{error}");
}

#[test]
fn unusable_settings_are_told_of_before_connecting() {
    let new = |trust: &Trust, name: &str| Connector::new(trust, name, Pool::new(1));
    assert!(matches!(new(&Trust::Any, "not a name"), Err(ConnectorError::ServerName(_))));
    assert!(matches!(new(&Trust::Roots(b"nothing".to_vec()), "a.example"), Err(ConnectorError::Roots(_))));
    match new(&Trust::System, "a.example") {
        Ok(_) | Err(ConnectorError::SystemRoots(_)) => {}
        Err(error) => panic!("{error}"),
    }
    let short = "sha256:AAAA";
    let good = pin_text(&[1; 32]);
    assert_eq!(Trust::from_pin(&good), Some(Trust::Pin([1; 32])));
    for pin in [short, "", "sha256:", &good[7..], &good.replace("sha256", "sha1"), "sha256:!!!!"] {
        assert_eq!(Trust::from_pin(pin), None, "{pin}");
    }
}
