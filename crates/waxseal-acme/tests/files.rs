//! Certificates from other programs, and files for them.

#[path = "renewer/fake.rs"]
#[expect(dead_code, reason = "the renewer's tests use the rest")]
mod fake;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fake::{FakeCa, T, settings, wanted};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, date_time_ymd};
use waxseal_acme::{
    Bundle, Clock, Export, ExportError, Exporter, Import, OrderRequest, Origin, Target, Verdict, exports,
    import, pairs, remove_exports,
};
use waxseal_storage::{Guard, MemoryStorage, Storage};

const DAY: i64 = 86_400;

fn memory() -> Arc<dyn Storage> {
    Arc::new(MemoryStorage::new())
}

/// Chain and key for `names`, valid from the day before [`T`] until `days` after.
fn pair(names: &[&str], key: &KeyPair, days: i64) -> (String, String) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    let at = |unix: i64| date_time_ymd(1970, 1, 1) + Duration::from_secs(unix.unsigned_abs());
    (params.not_before, params.not_after) = (at(T - 400 * DAY), at(T + days * DAY));
    (params.self_signed(key).expect("signed").pem(), key.serialize_pem())
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn write(dir: &Path, place: &str, files: [&str; 2], (chain, key): &(String, String)) {
    let place = dir.join(place);
    fs::create_dir_all(&place).expect("a directory");
    fs::write(place.join(files[0]), chain).expect("written");
    fs::write(place.join(files[1]), key).expect("written");
}

async fn take(
    origin: Origin,
    dir: &Path,
    storage: &Arc<dyn Storage>,
    targets: &[Target],
    dry: bool,
) -> Vec<Import> {
    let wanted: Vec<_> = targets.iter().map(|target| (Arc::clone(storage), target.clone())).collect();
    import(&pairs(origin, dir).expect("read"), &wanted, T, dry).await
}

async fn stored(storage: &Arc<dyn Storage>, target: &Target) -> Option<Bundle> {
    let stored = storage.get(&target.certificate).await.expect("read")?;
    Some(Bundle::read(&stored.value).expect("a bundle"))
}

#[tokio::test]
async fn each_program_is_read_where_it_keeps_them() {
    let names = ["mail.example.org", "imap.example.org"];
    let targets = wanted(vec![settings("le", &names)]);
    let layouts = [
        (Origin::Certbot, "live/mail.example.org", ["fullchain.pem", "privkey.pem"]),
        (Origin::AcmeSh, "mail.example.org_ecc", ["fullchain.cer", "mail.example.org.key"]),
        (Origin::AcmeSh, "mail.example.org", ["fullchain.cer", "mail.example.org.key"]),
        (
            Origin::Caddy,
            "certificates/acme-v02.api.letsencrypt.org-directory/mail.example.org",
            ["mail.example.org.crt", "mail.example.org.key"],
        ),
    ];
    for (origin, place, files) in layouts {
        let (dir, storage) = (tempfile::tempdir().expect("a directory"), memory());
        // What else lies about there.
        fs::create_dir_all(dir.path().join("certificates/other")).expect("a directory");
        fs::create_dir_all(dir.path().join("live/empty")).expect("a directory");
        let made = pair(&names, &key(), 60);
        write(dir.path(), place, files, &made);

        let dry = take(origin, dir.path(), &storage, &targets, true).await;
        assert!(matches!(dry[..], [Import { verdict: Verdict::Taken(..), .. }]), "{dry:?}");
        assert!(stored(&storage, &targets[0]).await.is_none(), "{place}: nothing is written when dry");

        take(origin, dir.path(), &storage, &targets, false).await;
        let bundle = stored(&storage, &targets[0]).await.expect("taken");
        assert_eq!((bundle.chain, bundle.key.to_string()), made, "{place}");
        assert_eq!(bundle.directory, targets[0].settings.directory, "as if it had been obtained there");

        let again = take(origin, dir.path(), &storage, &targets, false).await;
        assert!(matches!(again[..], [Import { verdict: Verdict::Kept(..), .. }]), "{again:?}");
    }
}

#[tokio::test]
async fn each_that_is_not_taken_says_why_and_the_longest_life_wins() {
    let (dir, storage) = (tempfile::tempdir().expect("a directory"), memory());
    let targets = wanted(vec![settings("le", &["mail.example.org"]), settings("two", &["two.example.org"])]);
    let put = |place: &str, pair: &(String, String)| {
        write(dir.path(), &format!("live/{place}"), ["fullchain.pem", "privkey.pem"], pair);
    };
    put("a-short", &pair(&["mail.example.org"], &key(), 10));
    put("b-long", &pair(&["*.example.org", "example.org"], &key(), 50));
    put("c-ended", &pair(&["mail.example.org"], &key(), -1));
    let (chain, _) = pair(&["mail.example.org"], &key(), 60);
    put("d-mixed", &(chain, key().serialize_pem()));
    put("e-other", &pair(&["elsewhere.example"], &key(), 60));
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key");
    put("f-kind", &pair(&["mail.example.org"], &p384, 60));

    let said = take(Origin::Certbot, dir.path(), &storage, &targets, false).await;
    let of = |place: &str| -> Vec<&Verdict> {
        let here = said.iter().filter(|one| one.from.starts_with(dir.path().join("live").join(place)));
        here.map(|one| &one.verdict).collect()
    };
    assert!(matches!(of("a-short")[..], [Verdict::Outlived(_)]), "{said:?}");
    assert!(matches!(of("b-long")[..], [Verdict::Taken(..), Verdict::Taken(..)]), "{said:?}");
    assert!(matches!(of("c-ended")[..], [Verdict::NotValid(..)]), "{said:?}");
    assert!(matches!(of("d-mixed")[..], [Verdict::Broken(_)]), "{said:?}");
    assert!(matches!(of("e-other")[..], [Verdict::Unwanted]), "{said:?}");
    assert!(matches!(of("f-kind")[..], [Verdict::KeyKind(..)]), "{said:?}");
    assert_eq!(stored(&storage, &targets[0]).await.expect("taken").not_after, T + 50 * DAY);
    assert!(pairs(Origin::Certbot, &dir.path().join("missing")).is_err());
}

/// Stores a new certificate for `target`, as a renewal does.
async fn renew(storage: &dyn Storage, target: &Target, ca: &FakeCa) -> Bundle {
    let issued = ca.certify(&OrderRequest {
        names: target.names.clone(),
        key_type: target.key_type,
        reuse_key: None,
        profile: None,
        replaces: None,
    });
    let bundle = Bundle::check(issued, &target.names, &target.settings.directory, T).expect("fits");
    storage.put(&target.certificate, &bundle.write().expect("text"), Guard::Always).await.expect("stored");
    bundle
}

fn export(dir: &Path, run: &str) -> Export {
    Export {
        name: "mail.example.org".into(),
        certificate: dir.join("cert.pem"),
        key: dir.join("key.pem"),
        owner: None,
        mode: 0o640,
        run: Some(run.into()),
        done: None,
    }
}

async fn until(what: &str, mut probe: impl FnMut() -> bool) {
    for _ in 0..400 {
        if probe() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{what} did not come");
}

#[tokio::test]
async fn files_follow_each_renewal_and_the_command_runs_once_for_each() {
    let (dir, storage) = (tempfile::tempdir().expect("a directory"), memory());
    let clock = Clock::of(|| T);
    let ca = FakeCa::new(&clock, 90);
    let targets = wanted(vec![settings("le", &["mail.example.org"])]);
    let first = renew(&*storage, &targets[0], &ca).await;
    let ran = dir.path().join("ran");
    let run = format!("cat {}/cert.pem >>{}", dir.path().display(), ran.display());
    let mut spec = export(dir.path(), &run);
    assert_eq!(spec.bring(&*storage, &targets[0], T).await.expect("written"), Some(first.serial.clone()));
    spec.keep(&*storage).await.expect("kept");
    // In two processes at once.
    let exporters = [(); 2]
        .map(|()| Exporter::start(Arc::clone(&storage), targets.clone(), clock.clone()).expect("started"));
    let second = renew(&*storage, &targets[0], &ca).await;
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    until("the command", || read("ran").ends_with(&second.chain)).await;
    assert_eq!((read("cert.pem"), read("key.pem")), (second.chain.clone(), second.key.to_string()));
    assert_eq!(read("ran").matches(&first.chain).count(), 1, "the first was done already");
    let mode = |name: &str| fs::metadata(dir.path().join(name)).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode("key.pem"), mode("cert.pem")), (0o640, 0o644));

    let removed = remove_exports(&*storage, "mail.example.org").await.expect("removed");
    assert_eq!(removed.len(), 1);
    drop(exporters);
    assert_eq!(exports(&*storage).await.expect("read").len(), 0);
}

#[tokio::test]
async fn a_command_that_fails_is_told_with_its_words_and_is_still_to_be_done() {
    let (dir, storage) = (tempfile::tempdir().expect("a directory"), memory());
    let clock = Clock::of(|| T);
    let ca = FakeCa::new(&clock, 90);
    let targets = wanted(vec![settings("le", &["mail.example.org"])]);
    let bundle = renew(&*storage, &targets[0], &ca).await;
    let mut spec = export(dir.path(), "echo no such unit >&2; exit 5");
    let said = spec.bring(&*storage, &targets[0], T).await.expect_err("status 5").to_string();
    assert!(said.contains("exit status: 5): no such unit"), "{said}");
    assert_eq!(spec.done, None);
    let ran = dir.path().join("ran");
    spec.run = Some(format!("touch {}", ran.display()));
    spec.bring(&*storage, &targets[0], T).await.expect("done");
    assert!(ran.exists(), "though the files were right already");
    assert_eq!(spec.done, Some(bundle.serial));
}

#[tokio::test]
async fn a_name_of_two_certificates_or_of_none_is_not_guessed() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut both = settings("le", &["mail.example.org"]);
    both.key_types = vec![waxseal_acme::KeyType::EcdsaP256, waxseal_acme::KeyType::Rsa2048];
    let targets = wanted(vec![both]);
    let mut spec = export(dir.path(), "true");
    let said = spec.target(&targets).expect_err("two").to_string();
    assert!(said.contains("\"acme.le (rsa-2048)\""), "{said}");
    spec.name = "acme.le (rsa-2048)".into();
    assert_eq!(spec.target(&targets).expect("one").key_type, waxseal_acme::KeyType::Rsa2048);
    spec.name = "le (rsa-2048)".into();
    assert_eq!(spec.target(&targets).expect("one").key_type, waxseal_acme::KeyType::Rsa2048);
    spec.name = "other.example.org".into();
    assert!(matches!(spec.target(&targets), Err(ExportError::Unknown(_))));
}
