//! Orders at a real CA: Pebble.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use waxseal_acme::{
    Bundle, ChallengeKind, Fault, IssueError, Issued, Issuer, KeyType, Name, Progress, Stage,
};
use waxseal_storage::{Guard, keys};

use crate::support::pebble::{HTTP, Pebble, TLS, Wishes};
use crate::support::{Ground, Party, eventually, respond, settings};

async fn party(pebble: &Pebble, challenge: ChallengeKind) -> Party {
    Party::new(settings(&pebble.directory, Some(&pebble.ca), challenge), pebble.resolver).await
}

/// What a caller does with a certificate: it is checked and kept where orders look for it.
async fn keep(party: &Party, issued: &Issued, names: &[&str], key_type: KeyType) -> Bundle {
    let names: Vec<Name> = names.iter().map(|name| Name::parse(name).expect("a name")).collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    let now = i64::try_from(now.as_secs()).expect("a time");
    let bundle = Bundle::check(issued.clone(), &names, &party.settings.directory, now).expect("fit");
    let place = keys::certificate(&bundle.names, key_type.as_str()).expect("a key");
    let value = bundle.write().expect("a value");
    party.storage.put(&place, &value, Guard::Always).await.expect("kept");
    bundle
}

fn told(error: &IssueError) -> Vec<(Option<&str>, &str)> {
    error.failures.iter().map(|it| (it.name.as_deref(), it.problem.as_str())).collect()
}

#[tokio::test]
async fn http_01_proves_names_for_every_kind_of_key_although_nonces_are_refused() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, &Wishes { refused_nonces: 15, ..Wishes::default() });
    let party = party(&pebble, ChallengeKind::Http01).await;
    let _http = respond::http_01(ground.at(HTTP), Arc::clone(&party.answers)).await;
    for key_type in KeyType::ALL {
        let names = ["mail.waxseal.test", "imap.waxseal.test"];
        let issued = party.issuer().issue(&party.want(&names, key_type), &Progress::unseen()).await;
        let bundle = keep(&party, &issued.expect("a certificate"), &names, key_type).await;
        assert_eq!(bundle.names, names);
    }
    assert_eq!(party.keys("challenges").await, [""; 0], "nothing stays behind");
    assert_eq!(party.keys("accounts").await.len(), 1);
}

#[tokio::test]
async fn a_ca_that_takes_its_time_is_waited_for() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, &Wishes { refused_nonces: 15, slow: true, ..Wishes::default() });
    let party = party(&pebble, ChallengeKind::Http01).await;
    let _http = respond::http_01(ground.at(HTTP), Arc::clone(&party.answers)).await;
    party.issue(&["a.waxseal.test", "b.waxseal.test", "c.waxseal.test"]).await.expect("a certificate");
}

#[tokio::test]
async fn an_order_goes_through_although_two_of_five_nonces_are_refused() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, &Wishes { refused_nonces: 40, ..Wishes::default() });
    let party = party(&pebble, ChallengeKind::TlsAlpn01).await;
    let _tls = respond::tls_alpn_01(ground.at(TLS), Arc::clone(&party.answers)).await;
    for _ in 0..5 {
        party.issue(&["mail.waxseal.test"]).await.expect("a certificate");
        party.storage.delete(&order_key(&["mail.waxseal.test"]), Guard::Always).await.expect("deleted");
    }
}

fn order_key(names: &[&str]) -> waxseal_storage::Key {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    keys::order(&names, "ecdsa-p256").expect("a key")
}

#[tokio::test]
async fn tls_alpn_01_proves_names_and_addresses() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, &Wishes::default());
    let party = party(&pebble, ChallengeKind::TlsAlpn01).await;
    let _tls = respond::tls_alpn_01(ground.at(TLS), Arc::clone(&party.answers)).await;
    let ip = ground.ip.to_string();
    let names = ["mail.waxseal.test", ip.as_str()];
    let issued = party.issue(&names).await.expect("a certificate");
    assert_eq!(keep(&party, &issued, &names, KeyType::EcdsaP256).await.names, names);
}

#[tokio::test]
async fn an_address_is_proved_by_http_01() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, &Wishes::default());
    let party = party(&pebble, ChallengeKind::Http01).await;
    let _http = respond::http_01(ground.at(HTTP), Arc::clone(&party.answers)).await;
    let ip = ground.ip.to_string();
    let issued = party.issue(&[&ip]).await.expect("a certificate");
    assert_eq!(keep(&party, &issued, &[&ip], KeyType::EcdsaP256).await.names, [ip]);
}

#[tokio::test]
async fn another_process_answers_from_the_same_storage() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, &Wishes::default());
    let orders = party(&pebble, ChallengeKind::Http01).await;
    let settings = orders.settings.clone();
    let answers = Party::with_storage(settings, pebble.resolver, Arc::clone(&orders.storage)).await;
    let _http = respond::http_01(ground.at(HTTP), Arc::clone(&answers.answers)).await;
    orders.issue(&["mail.waxseal.test"]).await.expect("a certificate");
}

#[tokio::test]
async fn a_renewal_orders_again_and_keeps_the_key_where_that_is_wanted() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, &Wishes { lifetime: Some(3600), ..Wishes::default() });
    let party = party(&pebble, ChallengeKind::Http01).await;
    let _http = respond::http_01(ground.at(HTTP), Arc::clone(&party.answers)).await;
    let names = ["mail.waxseal.test"];
    let first = party.issue(&names).await.expect("a certificate");
    let first = keep(&party, &first, &names, KeyType::EcdsaP256).await;
    assert!((3500..=3700).contains(&(first.not_after - first.not_before)));
    let mut want = party.want(&names, KeyType::EcdsaP256);
    want.reuse_key = Some(first.key.clone());
    let second = party.issuer().issue(&want, &Progress::unseen()).await.expect("a certificate");
    let second = keep(&party, &second, &names, KeyType::EcdsaP256).await;
    assert_eq!(second.key, first.key);
    assert_ne!(second.serial, first.serial, "the order of before has served");
    let third = party.issue(&names).await.expect("a certificate");
    assert_ne!(third.key, first.key);
}

#[tokio::test]
async fn each_name_that_fails_is_told_with_its_reason_and_nothing_stays_behind() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, &Wishes::default());
    let party = party(&pebble, ChallengeKind::Http01).await;
    // Nobody answers on the port.
    let error = party.issue(&["a.waxseal.test", "b.waxseal.test"]).await.expect_err("not proved");
    assert_eq!((error.stage, error.fault), (Stage::Validation, Fault::Setup));
    let mut names: Vec<_> = told(&error).iter().map(|(name, _)| name.expect("a name").to_owned()).collect();
    names.sort();
    assert_eq!(names, ["a.waxseal.test", "b.waxseal.test"]);
    let (_, problem) = told(&error)[0];
    assert!(problem.starts_with("the CA cannot connect to this machine"), "{problem}");
    assert!(problem.contains(". Open port 80 of this machine to the internet"), "{problem}");
    assert_eq!(party.keys("challenges").await, [""; 0]);
    // The order is spent: the next attempt makes another, which goes through.
    let _http = respond::http_01(ground.at(HTTP), Arc::clone(&party.answers)).await;
    party.issue(&["a.waxseal.test", "b.waxseal.test"]).await.expect("a certificate");
}

#[tokio::test]
async fn a_name_that_the_ca_does_not_take_is_named_with_its_words() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, &Wishes { blocked: &["blocked.test"], ..Wishes::default() });
    let party = party(&pebble, ChallengeKind::Http01).await;
    let error = party.issue(&["mail.blocked.test"]).await.expect_err("blocked");
    assert_eq!((error.stage, error.fault), (Stage::Order, Fault::Configuration));
    assert!(error.to_string().contains("the CA does not issue for this name"), "{error}");
    assert!(error.to_string().contains("mail.blocked.test"), "{error}");
}

#[tokio::test]
async fn a_private_ca_whose_root_is_not_set_is_told_with_the_setting() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, &Wishes::default());
    // Some other root, so that the machine needs none of its own.
    let other = rcgen::generate_simple_self_signed(vec!["other.test".to_owned()]).expect("a root").cert.pem();
    let settings = settings(&pebble.directory, Some(&other), ChallengeKind::Http01);
    let party = Party::new(settings, pebble.resolver).await;
    let error = party.issue(&["mail.waxseal.test"]).await.expect_err("not trusted");
    assert_eq!((error.stage, error.fault), (Stage::Directory, Fault::Configuration));
    assert!(
        error.to_string().contains("for a private CA set ca to the root certificate of its HTTPS"),
        "{error}"
    );
}

#[tokio::test]
async fn a_profile_that_the_ca_lacks_is_left_out() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, &Wishes::default());
    let party = party(&pebble, ChallengeKind::Http01).await;
    let _http = respond::http_01(ground.at(HTTP), Arc::clone(&party.answers)).await;
    let mut want = party.want(&["mail.waxseal.test"], KeyType::EcdsaP256);
    want.profile = Some("shortlived".to_owned());
    party.issuer().issue(&want, &Progress::unseen()).await.expect("a certificate");
}

#[tokio::test]
async fn a_ca_without_renewal_information_gives_no_window_and_replaces_nothing() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, &Wishes::default());
    let party = party(&pebble, ChallengeKind::Http01).await;
    let _http = respond::http_01(ground.at(HTTP), Arc::clone(&party.answers)).await;
    let issued = party.issue(&["mail.waxseal.test"]).await.expect("a certificate");
    keep(&party, &issued, &["mail.waxseal.test"], KeyType::EcdsaP256).await;
    let leaf = CertificateDer::from_pem_slice(issued.chain.as_bytes()).expect("a leaf");
    assert_eq!(party.issuer().renewal_info(&leaf).await.expect("an answer"), None);
    let mut want = party.want(&["mail.waxseal.test"], KeyType::EcdsaP256);
    want.replaces = Some(waxseal_acme::Replaces(leaf));
    party.issuer().issue(&want, &Progress::unseen()).await.expect("a certificate");
}

/// Stops an order at `stage`, as a crash would, and starts again with what storage holds.
async fn crash_at(stage: Stage) -> (usize, usize) {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, &Wishes::default());
    let first = party(&pebble, ChallengeKind::Http01).await;
    let _http = respond::http_01(ground.at(HTTP), Arc::clone(&first.answers)).await;
    let (issuer, want) = (first.issuer(), first.want(&["mail.waxseal.test"], KeyType::EcdsaP256));
    let (progress, brake) = Progress::unseen().stopping_at(stage);
    {
        let stopped = issuer.issue(&want, &progress);
        tokio::select! {
            done = stopped => panic!("went on: {done:?}"),
            () = brake.reached() => {}
        }
    }
    let settings = first.settings.clone();
    let second = Party::with_storage(settings, pebble.resolver, Arc::clone(&first.storage)).await;
    let issued = second.issue(&["mail.waxseal.test"]).await.expect("a certificate");
    keep(&second, &issued, &["mail.waxseal.test"], KeyType::EcdsaP256).await;
    eventually("cleaning up", async || second.keys("challenges").await.is_empty()).await;
    let log = pebble.server.log();
    let count = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    (count("accounts in memory"), count("Added order"))
}

#[tokio::test]
async fn a_crash_at_any_step_wastes_no_order_and_makes_no_second_account() {
    for stage in [
        Stage::Account,
        Stage::Challenge,
        Stage::Validation,
        Stage::Finalize,
        Stage::Download,
        Stage::Storage,
    ] {
        let (accounts, orders) = crash_at(stage).await;
        assert_eq!((accounts, orders), (1, 1), "at {stage}");
    }
}

/// Leaves an order as a crash does that falls between the CA's answer and the note of its address.
async fn order_unheard_of(party: &Party, names: &[&str]) {
    let issuer = party.issuer();
    let want = party.want(names, KeyType::EcdsaP256);
    let (progress, brake) = Progress::unseen().stopping_at(Stage::Challenge);
    tokio::select! {
        done = issuer.issue(&want, &progress) => panic!("went on: {done:?}"),
        () = brake.reached() => {}
    }
    let place = order_key(names);
    let kept = party.storage.get(&place).await.expect("read").expect("there");
    let mut kept: serde_json::Value = serde_json::from_slice(&kept.value).expect("JSON");
    assert!(kept["url"].take().is_string());
    let value = serde_json::to_vec(&kept).expect("JSON");
    party.storage.put(&place, &value, Guard::Always).await.expect("written");
}

#[tokio::test]
async fn an_order_whose_address_was_never_heard_of_is_found_in_the_accounts_list() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, &Wishes { refused_nonces: 15, ..Wishes::default() });
    let party = party(&pebble, ChallengeKind::Http01).await;
    let _http = respond::http_01(ground.at(HTTP), Arc::clone(&party.answers)).await;
    // Others in the list, before and after, one of them with the same names that has served.
    party.issue(&["other.waxseal.test"]).await.expect("a certificate");
    let names = ["mail.waxseal.test", "imap.waxseal.test"];
    party.issue(&names).await.expect("a certificate");
    party.storage.delete(&order_key(&names), Guard::Always).await.expect("deleted");
    order_unheard_of(&party, &names).await;
    party.issue(&["mail.waxseal.test"]).await.expect("a certificate");
    party.issue(&names).await.expect("a certificate");
    assert_eq!(pebble.server.log().matches("Added order").count(), 4);
}

#[tokio::test]
async fn the_order_of_another_kind_of_key_is_not_taken_for_a_lost_one() {
    let ground = Ground::new();
    let pebble = Pebble::start(&ground, &Wishes::default());
    let party = party(&pebble, ChallengeKind::Http01).await;
    let _http = respond::http_01(ground.at(HTTP), Arc::clone(&party.answers)).await;
    let names = ["mail.waxseal.test"];
    let (issuer, rsa) = (party.issuer(), party.want(&names, KeyType::Rsa2048));
    let (progress, brake) = Progress::unseen().stopping_at(Stage::Challenge);
    tokio::select! {
        done = issuer.issue(&rsa, &progress) => panic!("went on: {done:?}"),
        () = brake.reached() => {}
    }
    order_unheard_of(&party, &names).await;
    party.issue(&names).await.expect("a certificate");
    party.issuer().issue(&rsa, &Progress::unseen()).await.expect("a certificate");
    assert_eq!(pebble.server.log().matches("Added order").count(), 2, "one for each");
}
