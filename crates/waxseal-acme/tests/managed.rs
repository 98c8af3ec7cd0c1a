//! From a bundle in storage to the certificate that a client gets.

#[path = "renewer/fake.rs"]
#[expect(dead_code, reason = "the renewer's tests use the rest")]
mod fake;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fake::{Breaking, DAY, FakeCa, T, clock, pass, settings, start, wanted};
use waxseal_acme::{Bundle, Clock, Managed, OrderRequest, Target, targets};
use waxseal_storage::{Guard, MemoryStorage, Storage};
use waxseal_tls::{CertificateSet, CertificateStore, Entry};

const BOOTSTRAP: &str = "waxseal bootstrap certificate";

fn memory() -> Arc<dyn Storage> {
    Arc::new(MemoryStorage::new())
}

async fn open(storage: &Arc<dyn Storage>, targets: &[Target], clock: &Clock) -> Managed {
    Managed::open(Arc::clone(storage), targets.to_vec(), clock.clone()).await.expect("opened")
}

/// Stores a certificate for `target`, as a renewer would.
async fn store(storage: &dyn Storage, target: &Target, ca: &FakeCa, now: i64) -> Bundle {
    let issued = ca.certify(&OrderRequest {
        names: target.names.clone(),
        key_type: target.key_type,
        reuse_key: None,
        profile: None,
        replaces: None,
    });
    let bundle = Bundle::check(issued, &target.names, &target.settings.directory, now).expect("fits");
    let text = bundle.write().expect("written");
    storage.put(&target.certificate, &text, Guard::Always).await.expect("stored");
    bundle
}

fn set(managed: &Managed) -> CertificateSet {
    CertificateSet::new(managed.entries(), "mail.example.org").0
}

/// Who signed what a client that says `sni` gets, and its serial.
fn served(set: &CertificateSet, sni: &str, now: i64) -> (String, String) {
    let choice = set.choose(Some(sni), now, |_| true).expect("a certificate");
    (choice.entry.identity.issuer().to_owned(), choice.entry.identity.serial().to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_name_without_a_certificate_gets_one_that_says_so_until_the_real_one_is_there() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    let targets = wanted(vec![settings("le", &["mail.example.org", "*.example.net"])]);
    let managed = open(&storage, &targets, &clock).await;
    assert_eq!(served(&set(&managed), "mail.example.org", T).0, BOOTSTRAP);
    assert_eq!(served(&set(&managed), "x.example.net", T).0, BOOTSTRAP);

    let certificates = CertificateStore::new(set(&managed));
    let _publisher = managed.publish_to(&certificates, "mail.example.org");
    let _renewer = start(&storage, &targets, &ca, &clock).await;
    pass(3).await;
    assert_ne!(served(&certificates.current(), "mail.example.org", T).0, BOOTSTRAP);
    assert_eq!(certificates.current().entries().len(), 1, "the bootstrap certificate is gone");
}

#[tokio::test(start_paused = true)]
async fn each_renewal_is_published_by_every_process_and_what_is_not_ours_stays() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    let targets = wanted(vec![settings("le", &["mail.example.org"])]);
    let by_hand = ca.certify(&OrderRequest {
        names: wanted(vec![settings("x", &["hand.example.org"])])[0].names.clone(),
        key_type: targets[0].key_type,
        reuse_key: None,
        profile: None,
        replaces: None,
    });
    let (identity, _) =
        waxseal_tls::Identity::from_pem(by_hand.chain.as_bytes(), by_hand.key.as_bytes(), &[])
            .expect("an identity");
    let hand = Entry { id: "hand".into(), identity: Arc::new(identity), default: false };
    let stores: Vec<_> = (0..2)
        .map(|_| CertificateStore::new(CertificateSet::new(vec![hand.clone()], "mail.example.org").0))
        .collect();
    let mut publishers = Vec::new();
    for certificates in &stores {
        let managed = open(&storage, &targets, &clock).await;
        let all = certificates.current().entries().iter().cloned().chain(managed.entries()).collect();
        certificates.publish(CertificateSet::new(all, "mail.example.org").0);
        publishers.push(managed.publish_to(certificates, "mail.example.org"));
    }
    let _renewer = start(&storage, &targets, &ca, &clock).await;
    let mut serials = Vec::new();
    for _ in 0..3 {
        pass(60 * DAY).await;
        let now = clock.now();
        let [one, two] =
            [&stores[0], &stores[1]].map(|store| served(&store.current(), "mail.example.org", now).1);
        assert_eq!(one, two);
        assert!(!serials.contains(&one));
        serials.push(one);
        assert_eq!(stores[0].current().entries()[0].id, "hand", "first, as before");
        assert_eq!(stores[0].current().entries().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_when_it_changes_is_read_again_until_it_can() {
    let clock = clock();
    let breaking = Breaking::new(memory(), usize::MAX);
    let storage: Arc<dyn Storage> = Arc::clone(&breaking) as _;
    let ca = FakeCa::new(&clock, 90);
    let targets = wanted(vec![settings("le", &["mail.example.org"])]);
    let managed = open(&storage, &targets, &clock).await;
    let certificates = CertificateStore::new(set(&managed));
    let _publisher = managed.publish_to(&certificates, "mail.example.org");
    pass(1).await;
    breaking.hides.store(true, Ordering::Relaxed);
    let bundle = store(&*storage, &targets[0], &ca, clock.now()).await;
    pass(60).await;
    assert_eq!(served(&certificates.current(), "mail.example.org", T).0, BOOTSTRAP);
    breaking.hides.store(false, Ordering::Relaxed);
    pass(10).await;
    assert_eq!(served(&certificates.current(), "mail.example.org", T).1, bundle.serial);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_takes_the_place_of_its_predecessor_so_that_the_first_stays_the_first() {
    let clock = clock();
    let ca = FakeCa::new(&clock, 90);
    let (first, second) = (memory(), memory());
    let one = wanted(vec![settings("one", &["one.example.org"])]);
    let two = wanted(vec![settings("two", &["two.example.org"])]);
    store(&*first, &one[0], &ca, clock.now()).await;
    store(&*second, &two[0], &ca, clock.now()).await;
    let caches = [open(&first, &one, &clock).await, open(&second, &two, &clock).await];
    let all = caches.iter().flat_map(Managed::entries).collect();
    let certificates = CertificateStore::new(CertificateSet::new(all, "mail.example.org").0);
    let _publishers = caches.map(|managed| managed.publish_to(&certificates, "mail.example.org"));
    pass(1).await;
    let renewed = store(&*first, &one[0], &ca, clock.now()).await;
    pass(1).await;
    let set = certificates.current();
    assert_eq!(set.entries()[0].identity.serial(), renewed.serial);
    assert_eq!(set.entries().iter().map(|entry| &*entry.id).collect::<Vec<_>>(), ["acme.one", "acme.two"]);
}

#[tokio::test(start_paused = true)]
async fn only_what_has_changed_is_made_anew() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    let targets =
        wanted((0..5).map(|n| settings(&format!("a{n}"), &[&format!("mail{n}.example.org")])).collect());
    for target in &targets {
        store(&*storage, target, &ca, T).await;
    }
    let mut managed = open(&storage, &targets, &clock).await;
    let before = managed.entries();
    store(&*storage, &targets[3], &ca, T).await;
    managed.changed().await;
    let after = managed.entries();
    let same: Vec<bool> =
        before.iter().zip(&after).map(|(a, b)| Arc::ptr_eq(&a.identity, &b.identity)).collect();
    assert_eq!(same, [true, true, true, false, true]);
}

#[tokio::test(start_paused = true)]
async fn a_broken_bundle_leaves_the_old_one_serving() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    let targets = wanted(vec![settings("le", &["mail.example.org"])]);
    let good = store(&*storage, &targets[0], &ca, T).await;
    let mut managed = open(&storage, &targets, &clock).await;
    let other = store(&*storage, &targets[0], &ca, T).await;
    let swapped = Bundle { key: good.key.clone(), ..other };
    for broken in [b"garbage".to_vec(), swapped.write().expect("written").to_vec(), Vec::new()] {
        storage.put(&targets[0].certificate, &broken, Guard::Always).await.expect("stored");
        let changed = tokio::time::timeout(Duration::from_secs(60), managed.changed()).await;
        assert!(changed.is_err(), "nothing is published");
        assert_eq!(served(&set(&managed), "mail.example.org", T).1, good.serial);
    }
    storage.delete(&targets[0].certificate, Guard::Always).await.expect("removed");
    assert!(tokio::time::timeout(Duration::from_secs(60), managed.changed()).await.is_err());
    assert_eq!(served(&set(&managed), "mail.example.org", T).1, good.serial);
}

#[tokio::test(start_paused = true)]
async fn a_name_added_to_a_certificate_leaves_the_others_theirs() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    let before = wanted(vec![settings("le", &["a.example.org", "b.example.org"])]);
    let old = store(&*storage, &before[0], &ca, T).await;
    let after = wanted(vec![settings("le", &["a.example.org", "b.example.org", "c.example.org"])]);
    let managed = open(&storage, &after, &clock).await;
    assert_eq!(served(&set(&managed), "a.example.org", T).1, old.serial);
    assert_eq!(served(&set(&managed), "b.example.org", T).1, old.serial);
    assert_eq!(served(&set(&managed), "c.example.org", T).0, BOOTSTRAP);
}

#[tokio::test(start_paused = true)]
async fn what_a_staging_ca_gave_or_what_has_ended_stands_in_for_nothing() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    let mut staging = settings("le", &["a.example.org", "b.example.org"]);
    staging.directory = "https://staging.example/dir".into();
    store(&*storage, &wanted(vec![staging])[0], &ca, T).await;
    let ended = FakeCa::new(&clock, 0);
    store(&*storage, &wanted(vec![settings("le", &["a.example.org", "d.example.org"])])[0], &ended, T).await;
    let managed = open(&storage, &wanted(vec![settings("le", &["a.example.org"])]), &clock).await;
    assert_eq!(served(&set(&managed), "a.example.org", T).0, BOOTSTRAP);
}

#[tokio::test(start_paused = true)]
async fn an_expired_certificate_is_served_before_none() {
    let (clock, storage) = (clock(), memory());
    let ca = FakeCa::new(&clock, 90);
    let targets = wanted(vec![settings("le", &["a.example.org"])]);
    let old = store(&*storage, &targets[0], &ca, T).await;
    pass(200 * DAY).await;
    let managed = open(&storage, &targets, &clock).await;
    assert_eq!(served(&set(&managed), "a.example.org", clock.now()).1, old.serial);
}

#[test]
fn names_with_a_certificate_by_hand_are_not_ordered() {
    let names = ["a.example.org", "b.example.org", "x.hand.example", "deep.x.hand.example", "192.0.2.1"];
    let settings = vec![Arc::new(settings("le", &names))];
    let by_hand = ["b.example.org", "*.hand.example"].map(str::to_owned);
    let targets = targets(&settings, &by_hand).expect("targets");
    let left: Vec<String> = targets[0].names.iter().map(ToString::to_string).collect();
    assert_eq!(left, ["a.example.org", "deep.x.hand.example", "192.0.2.1"]);
    let all = names.map(str::to_owned);
    assert_eq!(waxseal_acme::targets(&settings, &all).expect("targets"), []);
}
