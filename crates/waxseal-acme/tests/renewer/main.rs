//! Certificates renewed for months, with a CA and a clock that are not real.

mod fake;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fake::{Breaking, CA, DAY, FakeCa, T, clock, pass, refused, settings, start, wanted};
use waxseal_acme::{
    Bundle, Clock, Fault, IssueError, KeyType, Outcome, Progress, RenewalWindow, Settings, Stage, Target,
    Urgency,
};
use waxseal_storage::{FileStorage, Guard, Key, MemoryStorage, Storage};

fn memory() -> Arc<dyn Storage> {
    Arc::new(MemoryStorage::new())
}

async fn bundle(storage: &dyn Storage, target: &Target) -> Option<Bundle> {
    let stored = storage.get(&target.certificate).await.expect("readable")?;
    Some(Bundle::read(&stored.value).expect("a bundle"))
}

/// An order of a certificate for `names`, with nothing special about it.
fn request(names: Vec<waxseal_acme::Name>) -> waxseal_acme::OrderRequest {
    waxseal_acme::OrderRequest {
        names,
        key_type: KeyType::EcdsaP256,
        reuse_key: None,
        profile: None,
        replaces: None,
    }
}

/// `storage`, which takes no certificates for now.
fn refusing_certificates(storage: &Arc<dyn Storage>) -> Arc<Breaking> {
    let breaking = Breaking::new(Arc::clone(storage), usize::MAX);
    *breaking.refused_below.lock().expect("whole") = Some(Key::new("certificates").expect("a key"));
    breaking.refuses.store(true, Ordering::Relaxed);
    breaking
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_ordered_at_once_and_renewed_for_a_year() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    let targets = wanted(vec![settings("le", &["mail.example.org"])]);
    let renewer = start(&storage, &targets, &ca, &clock).await;
    pass(10).await;
    let first = bundle(&*storage, &targets[0]).await.expect("a certificate");
    pass(365 * DAY).await;
    assert_eq!(ca.count(), 7);
    let now = bundle(&*storage, &targets[0]).await.expect("a certificate");
    assert!(now.serial != first.serial && now.key != first.key);
    assert!(now.not_after > clock.now() + 30 * DAY as i64);
    let orders = ca.orders.lock().expect("whole");
    assert!(orders[0].0.replaces.is_none() && orders[1].0.replaces.is_some());
    let status = renewer.status();
    assert_eq!(status[0].held.as_ref().map(|held| &held.serial), Some(&now.serial));
    assert_eq!((status[0].failure.as_ref(), status[0].stage), (None, None));
}

#[tokio::test(start_paused = true)]
async fn one_name_that_fails_stops_none_of_the_others_and_says_why() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    let names: Vec<String> = (0..20).map(|n| format!("mail{n}.example.org")).collect();
    let all = names.iter().enumerate().map(|(n, name)| settings(&format!("a{n}"), &[name])).collect();
    let targets = wanted(all);
    ca.answer(|want| {
        if want.name_texts() == ["mail7.example.org"] { Err(refused("mail7.example.org")) } else { Ok(()) }
    });
    let renewer = start(&storage, &targets, &ca, &clock).await;
    pass(60).await;
    for round in 0..3 {
        let status = renewer.status();
        let failing: Vec<_> = status.iter().filter(|status| status.failure.is_some()).collect();
        assert_eq!(failing.len(), 1, "round {round}");
        assert_eq!(failing[0].names, ["mail7.example.org"]);
        let failure = failing[0].failure.as_ref().expect("one");
        assert_eq!(failure.stage, Stage::Validation);
        assert_eq!(failure.failures[0].name.as_deref(), Some("mail7.example.org"));
        assert_eq!(failure.failures[0].problem, "the CA could not connect");
        assert!(failing[0].next > clock.now());
        let held = status.iter().filter_map(|status| status.held.as_ref());
        assert_eq!(held.filter(|held| held.not_after > clock.now()).count(), 19, "round {round}");
        pass(100 * DAY).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_order_that_hangs_stops_none_of_the_others() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    *ca.takes.lock().expect("whole") = Duration::from_secs(365 * DAY);
    let slow = wanted(vec![settings("slow", &["slow.example.org"])]);
    let _slow = start(&storage, &slow, &ca, &clock).await;
    pass(5).await;
    let quick = FakeCa::new(&clock, 90);
    let targets = wanted(vec![settings("slow", &["slow.example.org"]), settings("b", &["b.example.org"])]);
    let renewer = start(&storage, &targets, &quick, &clock).await;
    pass(5).await;
    assert!(bundle(&*storage, &targets[1]).await.is_some());
    assert!(bundle(&*storage, &targets[0]).await.is_none(), "the lease is held");
    // The order that hangs is given up after half an hour, and told.
    pass(31 * 60).await;
    assert_eq!(renewer.status()[0].failure.as_ref().map(|failure| failure.fault), Some(Fault::Ca));
}

#[tokio::test(start_paused = true)]
async fn many_that_are_due_at_once_keep_clear_of_the_limit_of_an_account() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    let all = (0..350).map(|n| settings(&format!("a{n}"), &[&format!("mail{n}.example.org")])).collect();
    let _renewer = start(&storage, &wanted(all), &ca, &clock).await;
    pass(3600).await;
    assert!((155..=165).contains(&ca.count()), "a hundred, and one a minute: {}", ca.count());
    pass(4 * 3600).await;
    assert_eq!(ca.count(), 350);
    let times: Vec<i64> = ca.orders.lock().expect("whole").iter().map(|(_, at)| at - T).collect();
    let three_hours = |from: &i64| times.iter().filter(|at| (*from..*from + 10_800).contains(at)).count();
    assert!(times.iter().map(three_hours).max() < Some(300));
}

#[tokio::test(start_paused = true)]
async fn two_processes_on_one_storage_place_one_order() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    let targets = wanted(vec![settings("le", &["mail.example.org"])]);
    let one = start(&storage, &targets, &ca, &clock).await;
    let two = start(&storage, &targets, &ca, &clock).await;
    pass(120).await;
    assert_eq!(ca.count(), 1);
    for renewer in [&one, &two] {
        assert!(renewer.status()[0].held.is_some(), "both know of it");
    }
    pass(365 * DAY).await;
    assert_eq!(ca.count(), 7);
}

#[tokio::test(start_paused = true)]
async fn key_types_of_the_same_names_are_ordered_one_after_the_other_by_all_processes_together() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    *ca.takes.lock().expect("whole") = Duration::from_secs(20);
    let both = Settings {
        key_types: vec![KeyType::EcdsaP256, KeyType::Rsa2048],
        ..settings("le", &["mail.example.org"])
    };
    let targets = wanted(vec![both]);
    let _one = start(&storage, &targets, &ca, &clock).await;
    let _two = start(&storage, &targets, &ca, &clock).await;
    pass(300).await;
    let times: Vec<i64> = ca.orders.lock().expect("whole").iter().map(|(_, at)| *at).collect();
    assert_eq!(times.len(), 2);
    assert!(times[1] - times[0] >= 20, "the second begins when the first has ended: {times:?}");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_by_years_while_it_fails_keeps_nothing_waiting() {
    let begun = tokio::time::Instant::now();
    let ahead = Arc::new(std::sync::atomic::AtomicI64::new(5 * 365 * DAY as i64));
    let offset = Arc::clone(&ahead);
    let clock = Clock::of(move || {
        T + i64::try_from(begun.elapsed().as_secs()).expect("soon") + offset.load(Ordering::Relaxed)
    });
    let storage = memory();
    let ca = FakeCa::new(&clock, 90);
    ca.fails(refused("mail.example.org"));
    let targets = wanted(vec![settings("le", &["mail.example.org"])]);
    let renewer = start(&storage, &targets, &ca, &clock).await;
    pass(10).await;
    assert_eq!(ca.count(), 1);
    ahead.store(0, Ordering::Relaxed);
    ca.answer(|_| Ok(()));
    pass(3600).await;
    assert!(renewer.status()[0].held.is_some(), "{:?}", renewer.status());
}

#[tokio::test(start_paused = true)]
async fn one_that_was_stopped_begins_nothing_more() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    let targets = wanted(vec![settings("le", &["mail.example.org"])]);
    let renewer = start(&storage, &targets, &ca, &clock).await;
    pass(10).await;
    renewer.stop();
    pass(365 * DAY).await;
    assert_eq!(ca.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn fifty_starts_place_one_order() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    let targets = wanted(vec![settings("le", &["mail.example.org"])]);
    for _ in 0..50 {
        let renewer = start(&storage, &targets, &ca, &clock).await;
        pass(3).await;
        drop(renewer);
    }
    assert_eq!(ca.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn fifty_starts_with_a_name_that_fails_climb_the_ladder() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    ca.fails(refused("mail.example.org"));
    let targets = wanted(vec![settings("le", &["mail.example.org"])]);
    for _ in 0..50 {
        let renewer = start(&storage, &targets, &ca, &clock).await;
        pass(10).await;
        drop(renewer);
    }
    // 500 seconds: the first attempt, and the one after five to six minutes.
    assert_eq!(ca.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_ca_that_wants_to_be_left_alone_is_left_alone_over_restarts() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    let limit = IssueError::new(Stage::Order, Fault::RateLimit, "too many certificates");
    ca.fails(limit.after(Some(Duration::from_secs(3 * DAY))));
    let targets = wanted(vec![settings("le", &["mail.example.org"])]);
    for _ in 0..6 {
        let renewer = start(&storage, &targets, &ca, &clock).await;
        pass(DAY / 2 - 60).await;
        let asked =
            renewer.renew("mail.example.org", Urgency::Now, &Progress::unseen()).await.expect("known");
        assert!(matches!(asked[0].1, Outcome::Barred(at, _) if at >= T + 3 * DAY as i64), "{asked:?}");
        drop(renewer);
    }
    assert_eq!(ca.count(), 1);
    ca.answer(|_| Ok(()));
    let renewer = start(&storage, &targets, &ca, &clock).await;
    pass(600).await;
    assert_eq!(ca.count(), 2);
    assert!(renewer.status()[0].failure.is_none());
}

#[tokio::test(start_paused = true)]
async fn only_force_passes_the_weekly_cap() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    let targets = wanted(vec![settings("le", &["mail.example.org"])]);
    let renewer = start(&storage, &targets, &ca, &clock).await;
    pass(10).await;
    let progress = Progress::unseen();
    for _ in 0..2 {
        let asked = renewer.renew("mail.example.org", Urgency::Now, &progress).await.expect("known");
        assert!(matches!(asked[0].1, Outcome::Renewed { .. }), "{asked:?}");
    }
    let asked = renewer.renew("le", Urgency::Now, &progress).await.expect("known by its id, too");
    assert!(matches!(asked[0].1, Outcome::Barred(..)), "{asked:?}");
    assert_eq!(ca.count(), 3);
    let asked = renewer.renew("mail.example.org", Urgency::Force, &progress).await.expect("known");
    assert!(matches!(asked[0].1, Outcome::Renewed { .. }), "{asked:?}");
    assert!(renewer.renew("other.example.org", Urgency::Force, &progress).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_here_is_told_together_and_nothing_is_asked_of_the_ca() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    let wrong = |name: &str| waxseal_acme::Failure {
        name: Some(name.to_owned()),
        problem: "resolves to 192.0.2.9, which is not this machine".to_owned(),
    };
    *ca.failures.lock().expect("whole") = vec![wrong("a.example.org"), wrong("b.example.org")];
    let mut unchecked = settings("unchecked", &["c.example.org"]);
    unchecked.preflight = false;
    let targets = wanted(vec![settings("le", &["a.example.org", "b.example.org"]), unchecked]);
    let renewer = start(&storage, &targets, &ca, &clock).await;
    pass(60).await;
    assert_eq!(ca.count(), 1, "of the one that is not checked");
    let failure = renewer.status()[0].failure.clone().expect("told");
    assert_eq!((failure.stage, failure.failures.len()), (Stage::Preflight, 2));
    ca.failures.lock().expect("whole").clear();
    pass(6 * 60).await;
    assert!(bundle(&*storage, &targets[0]).await.is_some(), "soon after it was repaired");
}

#[tokio::test(start_paused = true)]
async fn another_ca_is_turned_to_after_three_failures_and_kept() {
    let (clock, storage) = (clock(), memory());
    let (first, second) = (FakeCa::new(&clock, 90), FakeCa::new(&clock, 90));
    first.fails(IssueError::new(Stage::Directory, Fault::Ca, "no answer"));
    let mut wants = settings("first", &["mail.example.org"]);
    wants.fallback = Some("second".into());
    let mut other = settings("second", &["other.example.org"]);
    other.directory = "https://second.example/dir".into();
    let targets = wanted(vec![wants, other]);
    let issuers = [("first", &first), ("second", &second)]
        .map(|(id, ca)| (id.into(), Arc::clone(ca) as Arc<dyn waxseal_acme::Issuer>))
        .into();
    let _renewer =
        waxseal_acme::Renewer::start(Arc::clone(&storage), targets.clone(), issuers, clock.clone())
            .await
            .expect("started");
    pass(3600 * 2).await;
    assert_eq!(first.count(), 3);
    let got = bundle(&*storage, &targets[0]).await.expect("a certificate");
    assert_eq!(got.directory, "https://second.example/dir");
    assert_eq!(second.count(), 2, "its own, and this one");
    pass(30 * DAY).await;
    assert_eq!((first.count(), second.count()), (3, 2), "what the other CA gave is kept until it is due");
}

#[tokio::test(start_paused = true)]
async fn what_another_ca_gave_earlier_is_replaced() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    let mut staging = settings("le", &["mail.example.org"]);
    staging.directory = "https://staging.example/dir".into();
    drop({
        let renewer = start(&storage, &wanted(vec![staging]), &ca, &clock).await;
        pass(10).await;
        renewer
    });
    let targets = wanted(vec![settings("le", &["mail.example.org"])]);
    let _renewer = start(&storage, &targets, &ca, &clock).await;
    pass(10).await;
    assert_eq!(ca.count(), 2);
    assert_eq!(bundle(&*storage, &targets[0]).await.expect("there").directory, CA);
    assert!(
        ca.orders.lock().expect("whole")[1].0.replaces.is_none(),
        "the other CA's is not theirs to replace"
    );
}

#[tokio::test(start_paused = true)]
async fn each_key_type_has_its_certificate_and_a_key_is_kept_where_wanted() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    let both = Settings {
        key_types: vec![KeyType::EcdsaP256, KeyType::EcdsaP384],
        reuse_key: true,
        profile: Some("shortlived".into()),
        ..settings("le", &["mail.example.org"])
    };
    let targets = wanted(vec![both]);
    assert_eq!(&*targets[1].id, "acme.le (ecdsa-p384)");
    let _renewer = start(&storage, &targets, &ca, &clock).await;
    pass(10).await;
    let before = bundle(&*storage, &targets[1]).await.expect("there");
    pass(80 * DAY).await;
    let after = bundle(&*storage, &targets[1]).await.expect("there");
    assert!(before.obtained < after.obtained && before.key == after.key);
    assert!(
        ca.orders
            .lock()
            .expect("whole")
            .iter()
            .all(|(want, _)| want.profile.as_deref() == Some("shortlived"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_to_be_kept_is_kept_when_a_name_is_added() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    let of = |reuse_key, names: &[&str]| wanted(vec![Settings { reuse_key, ..settings("le", names) }]);
    let mut keys = Vec::new();
    for (reuse, names) in [
        (true, &["mail.example.org"][..]),
        (true, &["mail.example.org", "imap.example.org"]),
        (true, &["other.example.org"]),
        (false, &["mail.example.org", "pop3.example.org"]),
    ] {
        let targets = of(reuse, names);
        let _renewer = start(&storage, &targets, &ca, &clock).await;
        pass(10).await;
        keys.push(bundle(&*storage, &targets[0]).await.expect("there").key);
    }
    assert_eq!(keys[0], keys[1], "one name is the same");
    assert!(keys[2] != keys[0] && keys[3] != keys[0], "no name is the same, or a new key is wanted");
}

#[tokio::test(start_paused = true)]
async fn an_emergency_is_noticed_and_renewed_within_the_hour() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    let window = |start, end| {
        Some(RenewalWindow {
            start,
            end,
            explanation: Some("https://ca.example/why".into()),
            retry_after: 6 * 3600,
        })
    };
    *ca.window.lock().expect("whole") = window(T + 55 * DAY as i64, T + 58 * DAY as i64);
    let targets = wanted(vec![settings("le", &["mail.example.org"])]);
    let _renewer = start(&storage, &targets, &ca, &clock).await;
    pass(5 * DAY).await;
    assert_eq!(ca.count(), 1);
    *ca.window.lock().expect("whole") = window(T + 3600, T + 7200);
    pass(6 * 3600 + 600).await;
    assert_eq!(ca.count(), 2);
    *ca.window.lock().expect("whole") = window(T + 65 * DAY as i64, T + 66 * DAY as i64);
    pass(50 * DAY).await;
    assert_eq!(ca.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_storage_that_is_full_costs_no_order_and_is_told() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    let breaking = Breaking::new(Arc::clone(&storage), usize::MAX);
    breaking.refuses.store(true, Ordering::Relaxed);
    let shared: Arc<dyn Storage> = Arc::clone(&breaking) as _;
    let targets = wanted(vec![settings("le", &["mail.example.org"])]);
    let renewer = start(&shared, &targets, &ca, &clock).await;
    pass(3600).await;
    assert_eq!(ca.count(), 0);
    let failure = renewer.status()[0].failure.clone().expect("told");
    assert_eq!(failure.fault, Fault::Storage);
    assert!(failure.failures[0].problem.contains("no storage space. Make room there"), "{failure:?}");
    breaking.refuses.store(false, Ordering::Relaxed);
    pass(600).await;
    assert_eq!(ca.count(), 1);
    assert!(bundle(&*storage, &targets[0]).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_cannot_be_stored_is_kept_and_not_ordered_again() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    let breaking = refusing_certificates(&storage);
    let shared: Arc<dyn Storage> = Arc::clone(&breaking) as _;
    let targets = wanted(vec![settings("le", &["mail.example.org"])]);
    let renewer = start(&shared, &targets, &ca, &clock).await;
    pass(3600).await;
    assert_eq!(renewer.status()[0].failure.as_ref().map(|failure| failure.stage), Some(Stage::Storage));
    breaking.refuses.store(false, Ordering::Relaxed);
    pass(3600).await;
    assert!(bundle(&*storage, &targets[0]).await.is_some());
    assert_eq!(ca.count(), 1);
    assert_eq!(renewer.status()[0].failure, None);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_could_not_be_stored_gives_way_to_a_newer_one_of_another_process() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    let breaking = refusing_certificates(&storage);
    let shared: Arc<dyn Storage> = Arc::clone(&breaking) as _;
    let targets = wanted(vec![settings("le", &["mail.example.org"])]);
    let renewer = start(&shared, &targets, &ca, &clock).await;
    pass(60).await;
    assert_eq!(renewer.status()[0].failure.as_ref().map(|failure| failure.stage), Some(Stage::Storage));
    let issued = ca.certify(&request(targets[0].names.clone()));
    let newer = Bundle::check(issued, &targets[0].names, CA, clock.now()).expect("fits");
    let text = newer.write().expect("text");
    storage.put(&targets[0].certificate, &text, waxseal_storage::Guard::Always).await.expect("stored");
    breaking.refuses.store(false, Ordering::Relaxed);
    pass(3600).await;
    assert_eq!(bundle(&*storage, &targets[0]).await.map(|it| it.serial), Some(newer.serial));
}

#[tokio::test(start_paused = true)]
async fn a_certificate_for_other_names_is_not_taken() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    let targets = wanted(vec![settings("le", &["mail.example.org"])]);
    let other = ca.certify(&request(vec![waxseal_acme::Name::parse("evil.example.org").expect("a name")]));
    let strange = ca.certify(&request(targets[0].names.clone()));
    let check =
        |issued| Bundle::check(issued, &targets[0].names, CA, T).map(drop).map_err(|error| error.to_string());
    let text = check(other.clone()).expect_err("another name");
    assert!(text.contains("mail.example.org"), "{text}");
    assert!(
        check(waxseal_acme::Issued { chain: strange.chain.clone(), key: other.key }).is_err(),
        "another key"
    );
    assert!(check(waxseal_acme::Issued { chain: "garbage".into(), key: strange.key.clone() }).is_err());
    assert_eq!(check(strange), Ok(()));
    drop(storage);
}

#[tokio::test(start_paused = true)]
async fn stored_garbage_is_told_and_ordered_anew() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    let targets = wanted(vec![settings("le", &["mail.example.org"])]);
    for key in [&targets[0].certificate, &targets[0].attempts, &targets[0].renewal_info] {
        storage.put(key, b"{\"names\": 7", Guard::Always).await.expect("written");
    }
    let _renewer = start(&storage, &targets, &ca, &clock).await;
    pass(10).await;
    assert!(bundle(&*storage, &targets[0]).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_stored_certificate_with_another_key_is_taken_for_lost_and_ordered_anew() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    let targets = wanted(vec![settings("le", &["mail.example.org"])]);
    drop(start(&storage, &targets, &ca, &clock).await);
    let renewer = start(&storage, &targets, &ca, &clock).await;
    pass(10).await;
    drop(renewer);
    let stored = storage.get(&targets[0].certificate).await.expect("read").expect("there");
    let mut stored: serde_json::Value = serde_json::from_slice(&stored.value).expect("JSON");
    stored["key"] = rcgen::KeyPair::generate().expect("a key").serialize_pem().into();
    let text = stored.to_string();
    storage.put(&targets[0].certificate, text.as_bytes(), Guard::Always).await.expect("written");
    let _renewer = start(&storage, &targets, &ca, &clock).await;
    pass(10).await;
    assert_eq!(ca.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_cannot_be_taken_is_no_loop_and_harms_no_certificate_that_is_not_due() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    let breaking = Breaking::new(Arc::clone(&storage), usize::MAX);
    let shared: Arc<dyn Storage> = Arc::clone(&breaking) as _;
    let targets = wanted(vec![settings("le", &["mail.example.org"])]);
    let renewer = start(&shared, &targets, &ca, &clock).await;
    pass(10).await;
    breaking.refuses.store(true, Ordering::Relaxed);
    let before = breaking.acquired.load(Ordering::Relaxed);
    // Long enough for the question of the CA's window to be due.
    pass(DAY).await;
    let asked = breaking.acquired.load(Ordering::Relaxed) - before;
    assert!((1..400).contains(&asked), "{asked} times in a day");
    let status = &renewer.status()[0];
    assert!(!status.due && status.failure.is_some(), "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_the_ca_that_cannot_be_written_down_counts_all_the_same() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    let breaking = Breaking::new(Arc::clone(&storage), usize::MAX);
    *breaking.refused_below.lock().expect("whole") = Some(Key::new("renewal-info").expect("a key"));
    breaking.refuses.store(true, Ordering::Relaxed);
    let shared: Arc<dyn Storage> = Arc::clone(&breaking) as _;
    let targets = wanted(vec![settings("le", &["mail.example.org"])]);
    let _renewer = start(&shared, &targets, &ca, &clock).await;
    pass(DAY).await;
    let asked = breaking.acquired.load(Ordering::Relaxed);
    assert!(asked < 10, "{asked} turns in a day");
}

#[tokio::test(start_paused = true)]
async fn what_keeps_an_order_back_is_told() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    let targets = wanted(vec![settings("le", &["mail.example.org"])]);
    let renewer = start(&storage, &targets, &ca, &clock).await;
    pass(10).await;
    for _ in 0..2 {
        renewer.renew("mail.example.org", Urgency::Now, &Progress::unseen()).await.expect("known");
    }
    assert_eq!(renewer.status()[0].waits, None, "nothing is due");
    drop(renewer);
    storage.delete(&targets[0].certificate, Guard::Always).await.expect("deleted");
    let renewer = start(&storage, &targets, &ca, &clock).await;
    let waits = renewer.status()[0].waits.clone().expect("the week's orders are used up");
    assert!(waits.contains("--force"), "{waits}");
}

#[tokio::test(start_paused = true)]
async fn progress_is_told_step_by_step() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    let targets = wanted(vec![settings("le", &["mail.example.org"])]);
    let renewer = start(&storage, &targets, &ca, &clock).await;
    pass(10).await;
    let (progress, mut steps) = Progress::seen();
    renewer.renew("mail.example.org", Urgency::Now, &progress).await.expect("known");
    drop(progress);
    let mut stages = Vec::new();
    while let Some(step) = steps.recv().await {
        stages.push(step.stage);
    }
    assert_eq!(stages.first(), Some(&Stage::Preflight));
    assert_eq!(stages.last(), Some(&Stage::Storage));
    assert!(stages.is_sorted());
}

/// As if the process were killed at each of its writes, and at each stage of the order: what is left behind is gone on
/// with, and the CA is asked once more at most.
#[test]
fn killed_anywhere_it_goes_on_and_storage_is_consistent() {
    for kill_at in 0..6 {
        let directory = tempfile::tempdir().expect("a directory");
        let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let targets = wanted(vec![settings("le", &["mail.example.org"])]);
        let clock = waxseal_acme::Clock::system();
        let ca = FakeCa::new(&clock, 90);
        *ca.takes.lock().expect("whole") = Duration::from_millis(5);
        let first = runtime();
        first.block_on(async {
            let files: Arc<dyn Storage> = Arc::new(FileStorage::open(directory.path()).expect("opened"));
            let breaking: Arc<dyn Storage> = Breaking::new(files, kill_at);
            let _renewer = start(&breaking, &targets, &ca, &clock).await;
            tokio::time::sleep(Duration::from_millis(400)).await;
        });
        first.shutdown_timeout(Duration::from_secs(1));
        let asked = ca.count();
        runtime().block_on(async {
            let files: Arc<dyn Storage> = Arc::new(FileStorage::open(directory.path()).expect("opened"));
            let renewer = start(&files, &targets, &ca, &clock).await;
            let begun = std::time::Instant::now();
            while renewer.status()[0].held.is_none() && begun.elapsed() < Duration::from_secs(10) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert!(bundle(&*files, &targets[0]).await.is_some(), "killed at write {kill_at}");
            assert_eq!(renewer.status()[0].failure, None);
            let history = files.get(&targets[0].attempts).await.expect("readable").expect("there");
            let history: waxseal_acme::Attempts = serde_json::from_slice(&history.value).expect("a history");
            assert_eq!(history.orders.len(), 1, "killed at write {kill_at}");
        });
        assert!(asked <= 1 && ca.count() <= asked + 1, "killed at write {kill_at}");
        // From the second write on the certificate is stored: nothing is asked again.
        if kill_at >= 2 {
            assert_eq!(ca.count(), 1, "killed at write {kill_at}");
        }
    }
}
