//! Files that change under a running server, in every way that tools change them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use waxseal_tls::{
    CertificateSet, CertificateSpec, CertificateStore, IdentityWarning, PemPart, PemSource, Report, Watcher,
    load,
};

use crate::support::*;

/// In which a change must have been noticed.
const SOON: Duration = Duration::from_secs(2);

/// After which nothing more is to be expected of a change.
const SETTLED: Duration = Duration::from_millis(1200);

struct Watched {
    directory: TempDir,
    store: Arc<CertificateStore>,
    told: Arc<Mutex<Vec<Report>>>,
    watcher: Watcher,
}

fn spec(id: &str, chain: &Path, key: &Path) -> CertificateSpec {
    let source = |path: &Path| PemSource { parts: vec![PemPart::File(path.to_owned())] };
    CertificateSpec {
        id: id.into(),
        chain: source(chain),
        key: source(key),
        subjects: Vec::new(),
        default: false,
    }
}

impl Watched {
    /// Files as `lay` lays them, of which the paths of chain and key are watched.
    async fn new(lay: impl FnOnce(&Path) -> (PathBuf, PathBuf)) -> Self {
        // Closed to others: keys in it need no warning.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        let directory = tempfile::Builder::new().permissions(mode).tempdir().unwrap();
        let (chain, key) = lay(directory.path());
        let specs = vec![spec("one", &chain, &key)];
        let entry = load(&specs[0]).unwrap().0;
        let store = CertificateStore::new(CertificateSet::new(vec![entry], "").0);
        let told = Arc::new(Mutex::new(Vec::new()));
        let ear = Arc::clone(&told);
        let tell = move |report: &Report| ear.lock().unwrap().push(report.clone());
        let watcher = Watcher::start_with(specs, "", Arc::clone(&store), tell).unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(told.lock().unwrap().as_slice(), [], "nothing has changed yet");
        Self { directory, store, told, watcher }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn serial(&self) -> String {
        self.store.current().entries()[0].identity.serial().to_owned()
    }

    /// Waits for a new certificate to be served.
    async fn served_soon(&self, serial: &str) {
        let begin = Instant::now();
        while self.serial() != serial {
            assert!(begin.elapsed() < SOON, "not noticed; told: {:?}", self.told());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn told(&self) -> Vec<Report> {
        self.told.lock().unwrap().clone()
    }

    fn complaints(&self) -> Vec<String> {
        let told = self.told();
        told.iter().filter(|r| matches!(r, Report::Broken { .. })).map(ToString::to_string).collect()
    }
}

/// A new pair: chain, key and serial number.
fn pair() -> (String, String, String) {
    let (chain, key) = leaf(Kind::Ecdsa, &["mail.example.org"]);
    let serial = serial_of(&chain, &key);
    (chain, key, serial)
}

fn serial_of(chain: &str, key: &str) -> String {
    waxseal_tls::Identity::from_pem(chain.as_bytes(), key.as_bytes(), &[]).unwrap().0.serial().to_owned()
}

fn plain_files(directory: &Path) -> (PathBuf, PathBuf) {
    let (chain, key, _) = pair();
    let paths = (directory.join("chain.pem"), directory.join("key.pem"));
    fs::write(&paths.0, chain).unwrap();
    fs::write(&paths.1, key).unwrap();
    paths
}

#[tokio::test]
async fn files_replaced_by_renaming_are_noticed() {
    let watched = Watched::new(plain_files).await;
    for _ in 0..2 {
        let (chain, key, serial) = pair();
        for (name, content) in [("chain.pem", chain), ("key.pem", key)] {
            fs::write(watched.path("new"), content).unwrap();
            fs::rename(watched.path("new"), watched.path(name)).unwrap();
        }
        watched.served_soon(&serial).await;
    }
    assert_eq!(watched.complaints(), [""; 0]);
    let told = watched.told();
    assert!(matches!(&told[..], [Report::Replaced { .. }, Report::Replaced { .. }]), "{told:?}");
}

#[tokio::test]
async fn files_written_in_place_are_noticed() {
    let watched = Watched::new(plain_files).await;
    for _ in 0..2 {
        let (chain, key, serial) = pair();
        fs::write(watched.path("chain.pem"), chain).unwrap();
        fs::write(watched.path("key.pem"), key).unwrap();
        watched.served_soon(&serial).await;
    }
}

#[tokio::test]
async fn links_switched_as_certbot_does_are_noticed() {
    fn lay(directory: &Path, number: usize) -> String {
        let (chain, key, serial) = pair();
        for (name, content) in [("chain", chain), ("key", key)] {
            fs::write(directory.join(format!("archive/{name}{number}.pem")), content).unwrap();
            let link = directory.join(format!("live/{name}.pem"));
            let _ = fs::remove_file(&link);
            symlink(format!("../archive/{name}{number}.pem"), link).unwrap();
        }
        serial
    }
    let watched = Watched::new(|directory| {
        fs::create_dir(directory.join("archive")).unwrap();
        fs::create_dir(directory.join("live")).unwrap();
        lay(directory, 1);
        (directory.join("live/chain.pem"), directory.join("live/key.pem"))
    })
    .await;
    for number in 2..4 {
        let serial = lay(watched.directory.path(), number);
        watched.served_soon(&serial).await;
    }
    // What a link leads to, written in place.
    let (chain, key, serial) = pair();
    fs::write(watched.path("archive/chain3.pem"), chain).unwrap();
    fs::write(watched.path("archive/key3.pem"), key).unwrap();
    watched.served_soon(&serial).await;
}

#[tokio::test]
async fn a_directory_switched_as_kubernetes_does_is_noticed() {
    fn lay(directory: &Path, version: &str) -> String {
        let (chain, key, serial) = pair();
        let hidden = directory.join(version);
        fs::create_dir(&hidden).unwrap();
        fs::write(hidden.join("tls.crt"), chain).unwrap();
        fs::write(hidden.join("tls.key"), key).unwrap();
        symlink(version, directory.join("..data_tmp")).unwrap();
        fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
        serial
    }
    let watched = Watched::new(|directory| {
        lay(directory, "..2026_01");
        for name in ["tls.crt", "tls.key"] {
            symlink(format!("..data/{name}"), directory.join(name)).unwrap();
        }
        (directory.join("tls.crt"), directory.join("tls.key"))
    })
    .await;
    for (old, new) in [("..2026_01", "..2026_02"), ("..2026_02", "..2026_03")] {
        let serial = lay(watched.directory.path(), new);
        fs::remove_dir_all(watched.path(old)).unwrap();
        watched.served_soon(&serial).await;
    }
    assert_eq!(watched.complaints(), [""; 0]);
}

#[tokio::test]
async fn chain_and_key_that_come_apart_never_meet_in_a_handshake() {
    let watched = Watched::new(plain_files).await;
    let former = watched.serial();
    let (chain, key, serial) = pair();
    fs::write(watched.path("chain.pem"), chain).unwrap();
    tokio::time::sleep(SETTLED).await;
    assert_eq!(watched.serial(), former, "half of a pair is not served");
    let complaints = watched.complaints();
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(complaints[0].contains("the key is not the key of the certificate"), "{complaints:?}");
    assert!(complaints[0].contains("The former one stays in use; it is valid until "), "{complaints:?}");
    fs::write(watched.path("key.pem"), key).unwrap();
    watched.served_soon(&serial).await;
    assert_eq!(watched.complaints().len(), 1);
}

#[tokio::test]
async fn a_broken_replacement_is_said_once_and_changes_nothing() {
    let watched = Watched::new(plain_files).await;
    let former = watched.serial();
    let good = fs::read(watched.path("chain.pem")).unwrap();
    for _ in 0..3 {
        fs::write(watched.path("chain.pem"), "").unwrap();
        watched.watcher.reload();
        tokio::time::sleep(SETTLED / 2).await;
    }
    assert_eq!(watched.serial(), former);
    let complaints = watched.complaints();
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(complaints[0].contains("certificate: it is empty"), "{complaints:?}");

    fs::remove_file(watched.path("chain.pem")).unwrap();
    tokio::time::sleep(SETTLED).await;
    let complaints = watched.complaints();
    assert_eq!(complaints.len(), 2, "another reason: {complaints:?}");
    assert!(complaints[1].contains("it does not exist"), "{complaints:?}");

    fs::write(watched.path("chain.pem"), good).unwrap();
    tokio::time::sleep(SETTLED).await;
    assert_eq!(watched.told().len(), 2, "the same as before is nothing new: {:?}", watched.told());
    fs::write(watched.path("chain.pem"), "").unwrap();
    tokio::time::sleep(SETTLED).await;
    assert_eq!(watched.complaints().len(), 3, "broken anew");
    assert_eq!(watched.serial(), former);
}

#[tokio::test]
async fn a_new_certificate_is_told_with_its_warnings() {
    let watched = Watched::new(plain_files).await;
    let (chain, key) = leaf_with(Kind::Ecdsa, &["mail.example.org"], |params| {
        params.not_after = rcgen::date_time_ymd(2001, 2, 3);
    });
    fs::write(watched.path("key.pem"), &key).unwrap();
    fs::write(watched.path("chain.pem"), &chain).unwrap();
    watched.served_soon(&serial_of(&chain, &key)).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let told = watched.told();
    let [Report::Replaced { name, .. }, Report::Warning { warning, .. }] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(name, "mail.example.org");
    assert!(matches!(warning, IdentityWarning::Expired(_)), "{warning}");
}

#[tokio::test]
async fn entries_of_others_are_left_alone() {
    let watched = Watched::new(plain_files).await;
    let other = entry("other", identity(Kind::Ecdsa, &["other.example"]));
    let added = watched
        .store
        .updater()
        .update(|set| CertificateSet::new([set.entries(), std::slice::from_ref(&other)].concat(), "").0);
    assert!(added);
    let (chain, key, serial) = pair();
    fs::write(watched.path("chain.pem"), chain).unwrap();
    fs::write(watched.path("key.pem"), key).unwrap();
    watched.served_soon(&serial).await;
    let set = watched.store.current();
    assert_eq!(set.entries().len(), 2);
    assert!(Arc::ptr_eq(&set.entries()[1].identity, &other.identity));
}

#[tokio::test]
async fn a_dropped_watcher_publishes_nothing() {
    let Watched { directory, store, watcher, .. } = Watched::new(plain_files).await;
    drop(watcher);
    let before = store.current();
    let (chain, key, _) = pair();
    fs::write(directory.path().join("chain.pem"), chain).unwrap();
    fs::write(directory.path().join("key.pem"), key).unwrap();
    tokio::time::sleep(SETTLED).await;
    assert!(Arc::ptr_eq(&before, &store.current()));
}

#[tokio::test]
async fn a_watcher_of_a_set_that_was_replaced_whole_brings_nothing_back() {
    let watched = Watched::new(plain_files).await;
    watched.store.publish(CertificateSet::new(Vec::new(), "").0);
    let (chain, key, _) = pair();
    fs::write(watched.path("chain.pem"), chain).unwrap();
    fs::write(watched.path("key.pem"), key).unwrap();
    tokio::time::sleep(SETTLED).await;
    assert!(watched.store.current().entries().is_empty());
    assert!(watched.told().is_empty(), "and says nothing of it");
}
