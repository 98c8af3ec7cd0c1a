//! Chains and keys as operators have them in files, with everything that is wrong with them.

use rcgen::{CertificateParams, CustomExtension, DnType, KeyPair, SanType};
use waxseal_tls::{
    CertificateSpec, Identity, IdentityError, IdentityWarning, KeyKind, PemPart, PemSource, load,
};

use crate::support::*;

const DAY: i64 = 24 * 60 * 60;

fn read(chain: &str, key: &str) -> Result<(Identity, Vec<IdentityWarning>), IdentityError> {
    Identity::from_pem(chain.as_bytes(), key.as_bytes(), &[])
}

fn words(chain: &[u8], key: &[u8]) -> String {
    Identity::from_pem(chain, key, &[]).unwrap_err().to_string()
}

/// An intermediate CA, as PEM, and what it issues.
fn intermediate() -> rcgen::CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "Intermediate X1");
    params.use_authority_key_identifier_extension = true;
    rcgen::CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &ca().issuer).unwrap()
}

fn issued_by(issuer: &rcgen::CertifiedIssuer<'static, KeyPair>) -> (String, String) {
    let mut params = CertificateParams::new(vec!["mail.example.org".to_owned()]).unwrap();
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
}

#[test]
fn names_come_from_the_alternatives_and_the_subjects() {
    let (chain, key) =
        leaf_with(Kind::Ecdsa, &["Mail.Example.ORG", "*.example.org", "192.0.2.1"], |params| {
            params.distinguished_name.push(DnType::CommonName, "never.example.org");
            params.subject_alt_names.push(SanType::IpAddress("2001:db8::1".parse().unwrap()));
        });
    let subjects = ["Extra.example.org.".to_owned(), "mail.example.org".to_owned()];
    let (identity, warnings) = Identity::from_pem(chain.as_bytes(), key.as_bytes(), &subjects).unwrap();
    let expected = ["mail.example.org", "*.example.org", "192.0.2.1", "2001:db8::1", "extra.example.org"];
    assert_eq!(identity.names(), expected);
    assert_eq!(&**identity.primary_name(), "mail.example.org");
    assert_eq!(identity.key_kind(), &KeyKind::Ecdsa("P-256"));
    assert_eq!(identity.issuer(), "Test CA");
    assert_eq!(warnings, []);
}

#[test]
fn the_common_name_counts_only_without_alternatives() {
    let (chain, key) = leaf_with(Kind::Ecdsa, &[], |params| {
        params.distinguished_name.push(DnType::CommonName, "Old.example.org");
    });
    assert_eq!(read(&chain, &key).unwrap().0.names(), ["old.example.org"]);

    let (chain, key) =
        leaf_with(Kind::Ecdsa, &[], |params| params.distinguished_name = rcgen::DistinguishedName::new());
    let (identity, warnings) = read(&chain, &key).unwrap();
    assert_eq!((identity.names().len(), warnings), (0, vec![IdentityWarning::NoNames]));
}

#[test]
fn the_chain_is_mended_whatever_its_order() {
    let middle = intermediate();
    let (leaf, key) = issued_by(&middle);
    let stray = issued_by(&intermediate()).0;
    let (middle, root) = (middle.pem(), ca().pem());
    let served = |parts: &[&str]| {
        let (identity, warnings) = read(&parts.concat(), &key).unwrap();
        (identity.chain().map(<[u8]>::to_vec).collect::<Vec<_>>(), warnings)
    };
    let (right, warnings) = served(&[&leaf, &middle]);
    assert_eq!((right.len(), warnings), (2, vec![]));
    assert_eq!(served(&[&leaf, &middle, &root]), (right.clone(), vec![]), "the root is not served");
    assert_eq!(served(&[&middle, &leaf]), (right.clone(), vec![IdentityWarning::Reordered]));
    assert_eq!(served(&[&root, &middle, &leaf]), (right.clone(), vec![IdentityWarning::Reordered]));
    assert_eq!(served(&[&leaf, &leaf, &middle]).0, right);
    let unrelated = IdentityWarning::Unrelated("rcgen self signed cert".into());
    assert_eq!(served(&[&leaf, &middle, &stray]), (right, vec![unrelated]));
}

#[test]
fn a_missing_issuer_is_named_with_its_address() {
    // AuthorityInfoAccess with one caIssuers entry, RFC 5280 section 4.2.2.1.
    let url = "http://ca.example/x1.der";
    let mut entry = vec![0x06, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 2, 0x86, url.len() as u8];
    entry.extend(url.as_bytes());
    let mut access = vec![0x30, entry.len() as u8 + 2, 0x30, entry.len() as u8];
    access.extend(entry);

    let middle = intermediate();
    let mut params = CertificateParams::new(vec!["mail.example.org".to_owned()]).unwrap();
    params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], access)];
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &middle).unwrap().pem();
    let (_, warnings) = read(&leaf, &key.serialize_pem()).unwrap();
    let missing = IdentityWarning::MissingIssuer { issuer: "Intermediate X1".into(), url: Some(url.into()) };
    assert_eq!(warnings, std::slice::from_ref(&missing));
    assert!(missing.to_string().contains("\"Intermediate X1\" is missing"), "{missing}");
    assert!(missing.to_string().ends_with(url), "{missing}");
}

#[test]
fn a_self_signed_certificate_misses_no_issuer() {
    let made = rcgen::generate_simple_self_signed(vec!["mail.example.org".to_owned()]).unwrap();
    let (identity, warnings) = read(&made.cert.pem(), &made.signing_key.serialize_pem()).unwrap();
    assert_eq!((identity.chain().len(), warnings), (1, vec![]));
}

#[test]
fn a_key_of_another_certificate_is_told_with_both_kinds() {
    let (chain, _) = leaf(Kind::Rsa, &["mail.example.org"]);
    let (_, key) = leaf(Kind::Ecdsa, &["mail.example.org"]);
    assert_eq!(
        words(chain.as_bytes(), key.as_bytes()),
        "the key is not the key of the certificate (certificate: RSA 2048; key: ECDSA P-256)"
    );
    let (chain, _) = leaf(Kind::Ecdsa, &["mail.example.org"]);
    assert!(matches!(read(&chain, &key), Err(IdentityError::Mismatch { .. })), "same kind, another key");
}

#[test]
fn every_usual_encoding_of_keys_is_read() {
    // openssl ecparam -genkey, openssl genrsa -traditional, with the comments that tools put around them.
    for (name, pem, kind) in [
        ("SEC1 behind EC PARAMETERS", include_str!("keys/sec1.pem"), "ECDSA P-256"),
        ("PKCS#1", include_str!("keys/pkcs1.pem"), "RSA 2048"),
        ("PKCS#8 P-384", include_str!("keys/p384.pem"), "ECDSA P-384"),
        ("PKCS#8 P-521", include_str!("keys/p521.pem"), "ECDSA P-521"),
        ("Ed25519", include_str!("keys/ed25519.pem"), "Ed25519"),
    ] {
        let (chain, _) = leaf(Kind::Ecdsa, &["mail.example.org"]);
        for pem in [pem.to_owned(), pem.replace('\n', "\r\n"), format!("Bag Attributes\n  x: y\n{pem}")] {
            let told = words(chain.as_bytes(), pem.as_bytes());
            assert!(
                told.ends_with(&format!("key: {kind})")),
                "{name}: read, but not the certificate's: {told}"
            );
        }
    }
}

#[test]
fn every_trap_has_its_own_words() {
    let (chain, key) = leaf(Kind::Ecdsa, &["mail.example.org"]);
    let (chain, key) = (chain.as_bytes(), key.as_bytes());
    let der = rcgen::generate_simple_self_signed(vec!["x".into()]).unwrap();
    for (words, expected) in [
        (words(b"", key), "certificate: it is empty"),
        (words(b" \n", key), "certificate: it is empty"),
        (
            words(der.cert.der(), key),
            "certificate: it is DER (or PKCS#12), not PEM; convert it: openssl x509",
        ),
        (words(key, key), "certificate: it holds a private key and no certificate"),
        (words(b"hello", key), "certificate: it holds no certificate (no line"),
        (words(b"-----BEGIN CERTIFICATE-----\nAAAA", key), "certificate: the PEM is damaged"),
        (
            words(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", key),
            "certificate: certificate 1 of the PEM is damaged",
        ),
        (
            words(b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", key),
            "certificate: it is a certificate request",
        ),
        (words(b"-----BEGIN PKCS7-----\nAAAA\n-----END PKCS7-----\n", key), "certificate: it is PKCS#7"),
        (words(chain, b""), "private key: it is empty"),
        (
            words(chain, &der.signing_key.serialize_der()),
            "private key: it is DER (or PKCS#12), not PEM; convert it: openssl pkey",
        ),
        (words(chain, chain), "private key: it holds a certificate and no private key"),
        (words(chain, include_bytes!("keys/encrypted.pem")), "private key: it is encrypted"),
        (words(chain, include_bytes!("keys/encrypted-traditional.pem")), "private key: it is encrypted"),
        (
            words(chain, include_bytes!("keys/parameters.pem")),
            "private key: it holds the parameters of a curve",
        ),
        (
            words(chain, include_bytes!("keys/rsa1024.pem")),
            "private key: it cannot be used (the certificate's key is ECDSA P-256); RSA keys must have 2048",
        ),
        (words(chain, include_bytes!("keys/secp256k1.pem")), "private key: it cannot be used"),
        (
            words(chain, b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"),
            "private key: it holds a public",
        ),
        (words(chain, b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"), "private key: "),
    ] {
        assert!(words.starts_with(expected), "expected {expected:?}, told {words:?}");
    }
}

#[test]
fn validity_is_spoken_of_in_time() {
    let (chain, key) = leaf_with(Kind::Ecdsa, &["mail.example.org"], |params| {
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 4, 1);
    });
    let at = |now| Identity::from_pem_at(chain.as_bytes(), key.as_bytes(), &[], now).unwrap();
    let (identity, _) = at(0);
    let (begin, end) = (identity.not_before(), identity.not_after());
    assert_eq!((begin, end), (1_767_225_600, 1_775_001_600));
    for (now, expected, words) in [
        (begin - 1, Some(IdentityWarning::NotYetValid(begin)), "not valid before 2026-01-01"),
        (begin, None, ""),
        (end - 14 * DAY, None, ""),
        (
            end - 14 * DAY + 1,
            Some(IdentityWarning::ExpiresSoon { days: 13, at: end }),
            "in 13 days, on 2026-04-01",
        ),
        (end, Some(IdentityWarning::ExpiresSoon { days: 0, at: end }), "in 0 days"),
        (end + 1, Some(IdentityWarning::Expired(end)), "expired on 2026-04-01"),
    ] {
        let (identity, warnings) = at(now);
        assert_eq!(warnings, Vec::from_iter(expected.clone()), "{now}");
        assert_eq!(identity.validity_warning(now), expected);
        assert_eq!(identity.is_valid_at(now), (begin..=end).contains(&now));
        assert!(warnings.iter().all(|warning| warning.to_string().contains(words)), "{warnings:?}");
    }
}

#[test]
fn nobody_is_bothered_for_weeks_about_a_certificate_of_six_days() {
    let (chain, key) = leaf_with(Kind::Ecdsa, &["mail.example.org"], |params| {
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 1, 7);
    });
    let (identity, _) = read(&chain, &key).unwrap();
    assert_eq!(identity.validity_warning(identity.not_before()), None);
    assert_eq!(identity.validity_warning(identity.not_before() + 4 * DAY), None);
    assert!(identity.validity_warning(identity.not_before() + 5 * DAY).is_some());
}

#[test]
fn no_debug_output_shows_a_key() {
    let (chain, key) = leaf(Kind::Ecdsa, &["mail.example.org"]);
    let secret = key.lines().nth(1).unwrap();
    let spec = spec(PemPart::Text(chain), PemPart::Text(key.clone()));
    let (entry, _) = load(&spec).unwrap();
    for shown in [format!("{spec:?}"), format!("{entry:?}")] {
        assert!(!shown.contains(secret) && !shown.contains("PRIVATE"), "{shown}");
    }
}

fn spec(chain: PemPart, key: PemPart) -> CertificateSpec {
    CertificateSpec {
        id: "one".into(),
        chain: PemSource { parts: vec![chain] },
        key: PemSource { parts: vec![key] },
        subjects: Vec::new(),
        default: false,
    }
}

#[test]
fn files_that_cannot_be_read_are_told_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let directory = std::fs::canonicalize(directory.path()).unwrap();
    let (chain, key) = leaf(Kind::Ecdsa, &["mail.example.org"]);
    let told = |file: &str| {
        let spec = spec(PemPart::File(directory.join(file)), PemPart::Text(key.clone()));
        load(&spec).unwrap_err().to_string()
    };
    std::fs::create_dir(directory.join("directory")).unwrap();
    std::os::unix::fs::symlink("gone.pem", directory.join("dangling.pem")).unwrap();
    std::fs::write(directory.join("long.pem"), chain.repeat(2000)).unwrap();
    let at = |file: &str| format!("cannot read {}", directory.join(file).display());
    assert_eq!(told("missing.pem"), format!("{}: it does not exist", at("missing.pem")));
    assert!(
        told("no/such.pem").contains(&format!("only {} does", directory.display())),
        "{}",
        told("no/such.pem")
    );
    assert!(told("dangling.pem").contains("a symbolic link to gone.pem, which does not exist"));
    assert!(told("directory").contains("it is a directory"));
    assert!(told("long.pem").contains("it is longer than 1048576 bytes"));
}

#[test]
fn a_key_that_everybody_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o755)).tempdir().unwrap();
    let file = directory.path().join("key.pem");
    let (chain, key) = leaf(Kind::Ecdsa, &["mail.example.org"]);
    std::fs::write(&file, key).unwrap();
    let spec = spec(PemPart::Text(chain), PemPart::File(file.clone()));
    for (directory_mode, mode, expected) in
        [(0o755, 0o644, true), (0o755, 0o640, false), (0o700, 0o644, false)]
    {
        std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(directory_mode)).unwrap();
        let (_, warnings) = load(&spec).unwrap();
        let warned = warnings.iter().any(|w| matches!(w, IdentityWarning::KeyReadableByOthers { .. }));
        assert_eq!(warned, expected, "{directory_mode:o} {mode:o}: {warnings:?}");
    }
}
