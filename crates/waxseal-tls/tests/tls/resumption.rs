//! Sessions taken up again, and when they are not.

use std::sync::Arc;

use rustls::ClientConfig;
use tokio::io::AsyncWriteExt;
use waxseal_tls::{Acceptor, CertificateSet, Facts, Suite, TicketKeys, Version};

use crate::support::*;

/// One session, at the end of which the client has its tickets.
async fn visit(acceptor: &Arc<Acceptor>, config: &Arc<ClientConfig>) -> Facts {
    let met = meet(acceptor, config, "mail.example.org").await;
    let (mut client, mut server) = (met.client.unwrap(), met.server.unwrap());
    server.write_all(b"!").await.unwrap();
    server.flush().await.unwrap();
    tokio::task::spawn_blocking(move || read_one(&mut client).unwrap()).await.unwrap();
    server.facts().clone()
}

#[tokio::test]
async fn a_session_is_resumed_in_both_versions() {
    for version in Version::ALL {
        let acceptor = Door::new(Kind::Ecdsa).acceptor();
        let config = Arc::new(Offer::version(version).config());
        let first = visit(&acceptor, &config).await;
        assert!(!first.resumed);
        for _ in 0..3 {
            let again = visit(&acceptor, &config).await;
            assert!(again.resumed, "{version}");
            assert_eq!(again.suite, first.suite);
            assert_eq!(again.sni, first.sni);
            assert_eq!(again.group.is_some(), version == Version::Tls13, "TLS 1.2 exchanges no keys again");
        }
    }
}

/// Whether a session begun at one door is resumed at another, which has its ticket keys.
async fn carries_over(version: Version, change: impl FnOnce(&mut Door)) -> bool {
    let first = Door::new(Kind::Ecdsa);
    let config = Arc::new(Offer::version(version).config());
    assert!(!visit(&first.acceptor(), &config).await.resumed);
    let mut second = Door::with_entries(first.store.current().entries().to_vec());
    second.tickets = Arc::clone(&first.tickets);
    change(&mut second);
    let facts = visit(&second.acceptor(), &config).await;
    // Whatever became of the ticket, the client has been served, and the next visit is a resumption.
    facts.resumed
}

#[tokio::test]
async fn a_ticket_is_void_when_anything_that_counts_has_changed() {
    for version in Version::ALL {
        assert!(carries_over(version, |_| ()).await, "{version}: the same door after a reload");
        assert!(!carries_over(version, |door| door.listener = "pop3s").await, "another listener");
        assert!(!carries_over(version, |door| door.tickets = TicketKeys::new()).await, "other keys");
        assert!(!carries_over(version, |door| door.settings.ignore_client_order = false).await, "policy");
        assert!(!carries_over(version, |door| door.settings.groups.truncate(3)).await, "policy");
        assert!(
            !carries_over(version, |door| door.settings.suites.retain(|s| *s != Suite::ALL[8])).await,
            "policy"
        );
        assert!(!carries_over(version, |door| door.settings.tickets = false).await, "no tickets");
    }
}

#[tokio::test]
async fn a_ticket_lives_through_renewal_and_dies_with_the_name() {
    for version in Version::ALL {
        let door = Door::new(Kind::Ecdsa);
        let acceptor = door.acceptor();
        let config = Arc::new(Offer::version(version).config());
        let publish = |names: &[&str]| {
            let entries = vec![entry("one", identity(Kind::Ecdsa, names))];
            door.store.publish(CertificateSet::new(entries, "").0);
        };
        visit(&acceptor, &config).await;
        publish(&["mail.example.org"]);
        assert!(visit(&acceptor, &config).await.resumed, "{version}: renewed, with another key even");
        publish(&["mx.example.org", "mail.example.org"]);
        assert!(!visit(&acceptor, &config).await.resumed, "{version}: another certificate");
        assert!(visit(&acceptor, &config).await.resumed, "{version}: which has tickets of its own");
    }
}

#[tokio::test]
async fn without_tickets_nothing_is_resumed() {
    for version in Version::ALL {
        let mut door = Door::new(Kind::Ecdsa);
        door.settings.tickets = false;
        let acceptor = door.acceptor();
        let config = Arc::new(Offer::version(version).config());
        for _ in 0..2 {
            assert!(!visit(&acceptor, &config).await.resumed, "{version}");
        }
    }
}
