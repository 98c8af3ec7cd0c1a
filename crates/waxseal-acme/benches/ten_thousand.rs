//! Ten thousand certificates in storage: how long a start takes, a choice by SNI, and one renewal's way to the clients.
//!
//! `cargo bench -p waxseal-acme`. Ends with an error where a bound is missed.

#[path = "../tests/renewer/fake.rs"]
#[expect(dead_code, reason = "the renewer's tests use the rest")]
mod fake;

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fake::{FakeCa, settings, start, wanted};
use waxseal_acme::{Bundle, Clock, Managed, OrderRequest, Target};
use waxseal_storage::{FileStorage, Storage};
use waxseal_tls::{CertificateSet, CertificateStore};

const COUNT: usize = 10_000;
const MAX_START: Duration = Duration::from_secs(3);
const MAX_CHOICE: Duration = Duration::from_micros(20);
const MAX_REPUBLISH: Duration = Duration::from_secs(1);
const CHOICES: usize = 100_000;

fn bundle(ca: &FakeCa, target: &Target, now: i64) -> Vec<u8> {
    let issued = ca.certify(&OrderRequest {
        names: target.names.clone(),
        key_type: target.key_type,
        reuse_key: None,
        profile: None,
        replaces: None,
    });
    let bundle = Bundle::check(issued, &target.names, &target.settings.directory, now).expect("fits");
    bundle.write().expect("written").to_vec()
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if runtime.block_on(measure()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn measure() -> bool {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = Clock::system();
    let ca = FakeCa::new(&clock, 90);
    let all = (0..COUNT).map(|n| settings(&format!("a{n}"), &[&format!("mail{n}.example.org")])).collect();
    let targets = wanted(all);
    for target in &targets {
        // Straight to the files: ten thousand fsyncs are not what is measured.
        let path = directory.path().join(target.certificate.as_str());
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(&path, bundle(&ca, target, clock.now())).expect("written");
    }

    let begun = Instant::now();
    let storage: Arc<dyn Storage> = Arc::new(FileStorage::open(directory.path()).expect("opened"));
    let managed = Managed::open(Arc::clone(&storage), targets.clone(), clock.clone()).await.expect("opened");
    let store = CertificateStore::new(CertificateSet::new(managed.entries(), "mail.example.org").0);
    let started = begun.elapsed();
    let begun = Instant::now();
    let _renewer = start(&storage, &targets, &ca, &clock).await;
    let planned = begun.elapsed();

    let names: Vec<String> = targets.iter().map(|target| target.names[0].to_string()).collect();
    let (set, now) = (store.current(), clock.now());
    let begun = Instant::now();
    for name in names.iter().cycle().take(CHOICES) {
        assert!(black_box(set.choose(Some(name), now, |_| true)).is_some());
    }
    let choice = begun.elapsed() / u32::try_from(CHOICES).expect("small");
    let begun = Instant::now();
    for _ in 0..CHOICES {
        assert!(black_box(set.choose(Some("foreign.example.net"), now, |_| true)).is_some());
    }
    let foreign = begun.elapsed() / u32::try_from(CHOICES).expect("small");

    let _publisher = managed.publish_to(&store, "mail.example.org");
    let target = &targets[COUNT / 2];
    let new = bundle(&ca, target, clock.now());
    let serial = Bundle::read(&new).expect("read").serial;
    let begun = Instant::now();
    storage.put(&target.certificate, &new, waxseal_storage::Guard::Always).await.expect("stored");
    let is_served = || {
        let set = store.current();
        let choice = set.choose(Some(&names[COUNT / 2]), now, |_| true).expect("one");
        choice.entry.identity.serial() == serial
    };
    while !is_served() {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    let republished = begun.elapsed();

    let bounds = [
        ("start until all are served", started, MAX_START),
        ("choice by SNI", choice, MAX_CHOICE),
        ("choice for a foreign SNI", foreign, MAX_CHOICE),
        ("one renewed, until it is served", republished, MAX_REPUBLISH),
    ];
    println!("{COUNT} certificates; renewer planned after {planned:?}");
    for (what, took, bound) in bounds {
        println!("{what:32} {took:>12?}  (bound {bound:?})");
    }
    bounds.iter().all(|(_, took, bound)| took <= bound)
}
