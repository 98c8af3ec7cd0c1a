//! A CA that does everything wrong, one thing at a time: each is told, nothing panics, loops or hangs.

use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;
use waxseal_acme::{ChallengeKind, Fault, IssueError, Issuer, KeyType, Progress, Replaces, Stage};

use crate::support::fake_ca::{FakeCa, Mood, Step};
use crate::support::{Party, settings};

const NAME: &str = "mail.waxseal.test";
/// More often than anybody asks.
const ALWAYS: u32 = u32::MAX;

async fn party(ca: &FakeCa) -> Party {
    let settings = settings(&ca.directory, None, ChallengeKind::Http01);
    // Nobody is asked: the fake has an address.
    Party::new(settings, "127.0.0.1:9".parse().expect("an address")).await
}

async fn fails(step: Step, mood: Mood) -> IssueError {
    let ca = FakeCa::start().await;
    let party = party(&ca).await;
    ca.mood(step, mood, ALWAYS);
    let issuer = party.issuer().with_patience(Duration::from_millis(300));
    let (want, progress) = (party.want(&[NAME], KeyType::EcdsaP256), Progress::unseen());
    let issued = tokio::time::timeout(Duration::from_secs(40), issuer.issue(&want, &progress)).await;
    let error = issued.expect("an end").expect_err("no certificate");
    assert_eq!(party.keys("challenges").await, [""; 0], "nothing stays behind");
    assert!(!error.failures.is_empty() && error.failures.iter().all(|it| !it.problem.is_empty()));
    error
}

#[tokio::test]
async fn a_ca_that_does_right_gives_a_certificate() {
    let ca = FakeCa::start().await;
    let party = party(&ca).await;
    party.issue(&[NAME]).await.expect("a certificate");
    assert_eq!(
        ca.asked(Step::Account),
        [json!({
            "termsOfServiceAgreed": true, "contact": ["mailto:admin@waxseal.test"]
        })]
    );
}

#[tokio::test]
async fn retry_after_is_passed_on_wherever_it_is_said() {
    let body = r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many certificates already issued"}"#;
    let limited = Mood::Answer(
        "429 Too Many Requests",
        "Retry-After: 3600\r\nLink: <https://ca/limits>;rel=\"help\"\r\n",
        body,
    );
    for step in [
        Step::Account,
        Step::NewOrder,
        Step::Authorization,
        Step::Challenge,
        Step::Finalize,
        Step::Certificate,
    ] {
        let error = fails(step, limited.clone()).await;
        assert_eq!(error.fault, Fault::RateLimit, "{step:?}: {error}");
        let wait = error.retry_after.expect("a wait").as_secs();
        assert!((3590..=3600).contains(&wait), "{step:?}: {wait}");
        assert!(
            error.to_string().contains("too many certificates already issued See https://ca/limits"),
            "{error}"
        );
    }
    let bare =
        fails(Step::NewOrder, Mood::Answer("429 Too Many Requests", "Retry-After: 60\r\n", "slow down"))
            .await;
    assert_eq!((bare.stage, bare.fault), (Stage::Order, Fault::RateLimit));
    assert!(bare.retry_after.is_some());
}

#[tokio::test]
async fn an_internal_error_and_garbage_are_told_with_the_stage() {
    let stages = [
        (Step::Directory, Stage::Directory),
        (Step::Account, Stage::Account),
        (Step::NewOrder, Stage::Order),
        (Step::Authorization, Stage::Order),
        (Step::Challenge, Stage::Validation),
        (Step::Order, Stage::Validation),
        (Step::Finalize, Stage::Finalize),
    ];
    for (step, stage) in stages {
        let error = fails(step, Mood::Answer("500 Internal Server Error", "", "<html>oops")).await;
        assert_eq!((error.stage, error.fault), (stage, Fault::Ca), "{step:?}: {error}");
        assert!(error.to_string().contains("500 Internal Server Error"), "{error}");
        if step == Step::Account {
            continue; // its answer's body says nothing that is needed
        }
        let error = fails(step, Mood::Answer("200 OK", "", "{\"cake\":")).await;
        assert_eq!(error.stage, stage, "{step:?}: {error}");
    }
    let error = fails(Step::Certificate, Mood::Answer("200 OK", "", "hello")).await;
    assert_eq!((error.stage, error.fault), (Stage::Storage, Fault::Ca), "{error}");
}

#[tokio::test]
async fn a_connection_that_hangs_ends_in_time() {
    for step in [Step::Directory, Step::Nonce, Step::NewOrder, Step::Challenge, Step::Certificate] {
        let error = fails(step, Mood::Hang).await;
        assert_eq!(error.fault, Fault::Ca);
        assert!(error.to_string().contains("gave no answer within"), "{step:?}: {error}");
    }
}

#[tokio::test]
async fn nonces_that_are_always_wrong_end_in_words() {
    let body =
        r#"{"type":"urn:ietf:params:acme:error:badNonce","detail":"JWS has an invalid anti-replay nonce"}"#;
    for step in [Step::Account, Step::NewOrder, Step::Finalize] {
        let error = fails(step, Mood::Answer("400 Bad Request", "", body)).await;
        assert!(error.to_string().contains("refuses its own nonces again and again"), "{step:?}: {error}");
    }
    let ca = FakeCa::start().await;
    let party = party(&ca).await;
    for step in [
        Step::Account,
        Step::NewOrder,
        Step::Authorization,
        Step::Challenge,
        Step::Finalize,
        Step::Certificate,
    ] {
        ca.mood(step, Mood::Answer("400 Bad Request", "", body), 7);
    }
    party.issue(&[NAME]).await.expect("a certificate after seven refusals of each step");
}

#[tokio::test]
async fn a_certificate_for_another_key_is_refused_and_its_order_given_up() {
    let ca = FakeCa::start().await;
    let party = party(&ca).await;
    ca.mood(Step::Finalize, Mood::OtherKey, 1);
    let error = party.issue(&[NAME]).await.expect_err("another key");
    assert_eq!((error.stage, error.fault), (Stage::Storage, Fault::Ca));
    assert!(error.to_string().contains("cannot be used"), "{error}");
    party.issue(&[NAME]).await.expect("a certificate");
    assert_eq!(ca.asked(Step::NewOrder).len(), 2);
}

#[tokio::test]
async fn an_order_that_expires_is_told_and_the_next_attempt_makes_another() {
    let ca = FakeCa::start().await;
    let party = party(&ca).await;
    ca.mood(Step::Order, Mood::With(json!({ "status": "invalid" })), 2);
    let error = party.issue(&[NAME]).await.expect_err("expired");
    assert_eq!((error.stage, error.fault), (Stage::Validation, Fault::Ca));
    assert!(error.to_string().contains("the order has expired"), "{error}");
    party.issue(&[NAME]).await.expect("a certificate");
    assert_eq!(ca.asked(Step::NewOrder).len(), 2);
}

#[tokio::test]
async fn an_order_that_the_ca_does_not_know_any_more_is_made_again() {
    let ca = FakeCa::start().await;
    let party = party(&ca).await;
    ca.mood(Step::Finalize, Mood::Answer("503 Service Unavailable", "", ""), 1);
    party.issue(&[NAME]).await.expect_err("not now");
    // Of an order that the CA cannot tell about now nothing is concluded.
    let ill = r#"{"type":"urn:ietf:params:acme:error:serverInternal","detail":"try later"}"#;
    ca.mood(Step::Order, Mood::Answer("500 Internal Server Error", "", ill), 1);
    party.issue(&[NAME]).await.expect_err("not now");
    assert_eq!(ca.asked(Step::NewOrder).len(), 1);
    let gone = r#"{"type":"urn:ietf:params:acme:error:malformed","detail":"no such order"}"#;
    ca.mood(Step::Order, Mood::Answer("404 Not Found", "", gone), 1);
    party.issue(&[NAME]).await.expect("a certificate");
    assert_eq!(ca.asked(Step::NewOrder).len(), 2);
}

#[tokio::test]
async fn an_order_cut_short_by_an_error_of_the_ca_is_gone_on_with() {
    let ca = FakeCa::start().await;
    let party = party(&ca).await;
    ca.mood(Step::Certificate, Mood::Answer("503 Service Unavailable", "Retry-After: 5\r\n", ""), 1);
    let error = party.issue(&[NAME]).await.expect_err("not now");
    assert_eq!((error.stage, error.fault), (Stage::Download, Fault::Ca));
    assert!(error.retry_after.is_some());
    party.issue(&[NAME]).await.expect("a certificate");
    assert_eq!(ca.asked(Step::NewOrder).len(), 1);
}

#[tokio::test]
async fn what_is_no_directory_is_told_as_such() {
    for (status, body) in [("200 OK", "<html>Welcome</html>"), ("200 OK", "{}"), ("200 OK", "[]")] {
        let error = fails(Step::Directory, Mood::Answer(status, "", body)).await;
        assert_eq!((error.stage, error.fault), (Stage::Directory, Fault::Configuration), "{error}");
        assert!(error.to_string().contains("is no ACME directory"), "{error}");
    }
    let error = fails(Step::Directory, Mood::Answer("404 Not Found", "", "")).await;
    assert!(error.to_string().contains("is this the address of the CA's directory?"), "{error}");
}

#[tokio::test]
async fn a_ca_that_nobody_runs_is_told_with_the_cause() {
    let settings = settings("http://127.0.0.1:9/dir", None, ChallengeKind::Http01);
    let party = Party::new(settings, "127.0.0.1:9".parse().expect("an address")).await;
    let error = party.issue(&[NAME]).await.expect_err("nobody");
    assert_eq!((error.stage, error.fault), (Stage::Directory, Fault::Ca));
    assert!(error.to_string().contains("Connection refused"), "{error}");
}

#[tokio::test]
async fn a_subproblem_for_each_name_is_told_name_by_name() {
    let body = r#"{"type":"urn:ietf:params:acme:error:malformed","detail":"some are wrong","subproblems":[
        {"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"high risk","identifier":{"type":"dns","value":"a.test"}},
        {"type":"urn:ietf:params:acme:error:caa","detail":"forbidden","identifier":{"type":"dns","value":"b.test"}}]}"#;
    let error = fails(Step::NewOrder, Mood::Answer("400 Bad Request", "", body)).await;
    assert_eq!(
        error.to_string(),
        "order: a.test: the CA does not issue for this name: high risk; b.test: a CAA record in DNS forbids this CA to issue: forbidden"
    );
}

#[tokio::test]
async fn a_profile_is_asked_for_and_the_certificate_replaced_is_named() {
    let ca = FakeCa::start().await;
    let party = party(&ca).await;
    let issued = party.issue(&[NAME]).await.expect("a certificate");
    forget_order(&party).await;
    let leaf = CertificateDer::from_pem_slice(issued.chain.as_bytes()).expect("a leaf");
    let window = party.issuer().renewal_info(&leaf).await.expect("an answer").expect("a window");
    assert_eq!((window.end - window.start, window.retry_after / 60), (2 * 86_400 + 10 * 3600, 359));
    assert_eq!(window.explanation.as_deref(), Some("https://ca.example/why"));

    let mut want = party.want(&[NAME], KeyType::EcdsaP256);
    want.profile = Some("shortlived".to_owned());
    want.replaces = Some(Replaces(leaf));
    party.issuer().issue(&want, &Progress::unseen()).await.expect("a certificate");
    let asked = ca.asked(Step::NewOrder).pop().expect("an order");
    assert_eq!(asked["profile"], "shortlived");
    assert_eq!(asked["replaces"].as_str().expect("a name").matches('.').count(), 1);
    forget_order(&party).await;

    // A CA that does not repeat what is replaced has made the order all the same: it is used.
    ca.mood(Step::NewOrder, Mood::With(json!({ "replaces": null })), 1);
    party.issuer().issue(&want, &Progress::unseen()).await.expect("a certificate");
    assert_eq!(ca.asked(Step::NewOrder).len(), 3);
    forget_order(&party).await;

    // One that refuses to replace makes an order that replaces nothing.
    let refusal = r#"{"type":"urn:ietf:params:acme:error:alreadyReplaced","detail":"replaced"}"#;
    ca.mood(Step::NewOrder, Mood::Answer("409 Conflict", "", refusal), 1);
    party.issuer().issue(&want, &Progress::unseen()).await.expect("a certificate");
    assert_eq!(ca.asked(Step::NewOrder).pop().expect("an order")["replaces"], json!(null));
}

#[tokio::test]
async fn addresses_get_the_profile_that_is_for_them_unless_another_is_wanted() {
    let ca = FakeCa::start().await;
    let party = party(&ca).await;
    let asked = |profile: Option<&str>, name: &str| {
        let mut want = party.want(&[name], KeyType::EcdsaP256);
        want.profile = profile.map(str::to_owned);
        want
    };
    for (wanted, name, profile) in [
        (None, "192.0.2.1", json!("shortlived")),
        (None, NAME, json!(null)),
        (Some("classic"), "192.0.2.2", json!(null)),
    ] {
        party.issuer().issue(&asked(wanted, name), &Progress::unseen()).await.expect("a certificate");
        assert_eq!(ca.asked(Step::NewOrder).pop().expect("an order")["profile"], profile, "{name}");
    }
}

async fn forget_order(party: &Party) {
    let key = waxseal_storage::keys::order(&[NAME.to_owned()], "ecdsa-p256").expect("a key");
    party.storage.delete(&key, waxseal_storage::Guard::Always).await.expect("deleted");
}
