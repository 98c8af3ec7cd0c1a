//! Accounts at a real CA, and what a CA demands of them.

use std::sync::Arc;

use waxseal_acme::{ChallengeKind, Eab, Fault, Stage};
use waxseal_storage::{Guard, Storage};
use zeroize::Zeroizing;

use crate::support::pebble::{HTTP, Pebble, Wishes};
use crate::support::{Ground, Party, respond, settings};

const KID: &str = "kid-1";
/// 48 bytes, as the CA writes them.
const KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

fn eab(kid: &str, key: &[u8]) -> Option<Eab> {
    Some(Eab { kid: kid.to_owned(), hmac_key: Zeroizing::new(key.to_vec()) })
}

fn key() -> Vec<u8> {
    use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
    BASE64_URL_SAFE_NO_PAD.decode(KEY).expect("base64url")
}

#[tokio::test]
async fn an_account_is_bound_to_an_external_one_and_what_is_wrong_with_that_is_told() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, &Wishes { eab: Some((KID, KEY)), ..Wishes::default() });
    let mut settings = settings(&pebble.directory, Some(&pebble.ca), ChallengeKind::Http01);
    let without = Party::new(settings.clone(), pebble.resolver).await;
    let error = without.issue(&["mail.waxseal.test"]).await.expect_err("no external account");
    assert_eq!((error.stage, error.fault), (Stage::Account, Fault::Configuration));
    assert!(error.to_string().contains("set eab.kid and eab.hmac-key"), "{error}");

    for (kid, secret) in [("kid-2", key()), (KID, b"another key of ours".to_vec())] {
        settings.eab = eab(kid, &secret);
        let wrong = Party::new(settings.clone(), pebble.resolver).await;
        let error = wrong.issue(&["mail.waxseal.test"]).await.expect_err("another key");
        assert_eq!((error.stage, error.fault), (Stage::Account, Fault::Configuration), "{error}");
        assert!(error.to_string().contains("eab.hmac-key"), "{error}");
    }

    settings.eab = eab(KID, &key());
    let right = Party::new(settings, pebble.resolver).await;
    let _http = respond::http_01(ground.at(HTTP), Arc::clone(&right.answers)).await;
    right.issue(&["mail.waxseal.test"]).await.expect("a certificate");
}

#[tokio::test]
async fn many_who_start_at_once_make_one_account() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, &Wishes::default());
    let settings = settings(&pebble.directory, Some(&pebble.ca), ChallengeKind::Http01);
    let first = Party::new(settings.clone(), pebble.resolver).await;
    let _http = respond::http_01(ground.at(HTTP), Arc::clone(&first.answers)).await;
    let orders = (0..8).map(|index| {
        let (settings, storage) = (settings.clone(), Arc::clone(&first.storage));
        let resolver = pebble.resolver;
        tokio::spawn(async move {
            let party = Party::with_storage(settings, resolver, storage).await;
            party.issue(&[&format!("mail{index}.waxseal.test")]).await.map(drop)
        })
    });
    let orders: Vec<_> = orders.collect();
    for order in orders {
        order.await.expect("no panic").expect("a certificate");
    }
    assert_eq!(first.keys("accounts").await.len(), 1);
    assert_eq!(pebble.server.log().matches("accounts in memory").count(), 1);
}

#[tokio::test]
async fn a_ca_that_has_forgotten_the_account_gets_a_new_one() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, &Wishes::default());
    let party =
        Party::new(settings(&pebble.directory, Some(&pebble.ca), ChallengeKind::Http01), pebble.resolver)
            .await;
    let _http = respond::http_01(ground.at(HTTP), Arc::clone(&party.answers)).await;
    party.issue(&["mail.waxseal.test"]).await.expect("a certificate");
    let before = account(&*party.storage).await;
    drop(pebble);
    let pebble = Pebble::start(&ground, &Wishes::default());
    let settings = settings(&pebble.directory, Some(&pebble.ca), ChallengeKind::Http01);
    let again = Party::with_storage(settings, pebble.resolver, Arc::clone(&party.storage)).await;
    again.issue(&["mail.waxseal.test"]).await.expect("a certificate");
    assert_ne!(before, account(&*party.storage).await);
}

async fn account(storage: &dyn Storage) -> Vec<u8> {
    let below = waxseal_storage::Key::new("accounts").expect("a key");
    let keys = storage.list(&below).await.expect("a list");
    storage.get(&keys[0]).await.expect("read").expect("there").value.to_vec()
}

#[tokio::test]
async fn an_account_whose_key_is_kept_but_whose_address_was_lost_is_the_same_account() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, &Wishes::default());
    let party =
        Party::new(settings(&pebble.directory, Some(&pebble.ca), ChallengeKind::Http01), pebble.resolver)
            .await;
    let _http = respond::http_01(ground.at(HTTP), Arc::clone(&party.answers)).await;
    party.issue(&["a.waxseal.test"]).await.expect("a certificate");
    // As a crash between the CA's answer and the note of it leaves things.
    let below = waxseal_storage::Key::new("accounts").expect("a key");
    let place = party.storage.list(&below).await.expect("a list").remove(0);
    let mut kept: serde_json::Value = serde_json::from_slice(&account(&*party.storage).await).expect("JSON");
    let address = kept["id"].take();
    let value = serde_json::to_vec(&kept).expect("JSON");
    party.storage.put(&place, &value, Guard::Always).await.expect("written");
    party.issue(&["b.waxseal.test"]).await.expect("a certificate");
    let kept: serde_json::Value = serde_json::from_slice(&account(&*party.storage).await).expect("JSON");
    assert_eq!(kept["id"], address);
    assert_eq!(pebble.server.log().matches("accounts in memory").count(), 1);
}
