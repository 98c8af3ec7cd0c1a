//! Certificates for configurations in tests.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_RSA_SHA256, SignatureAlgorithm,
};

/// Writes `ca.pem`; `mail.pem` and `mail.key` (ECDSA, for mail.example.org); `rsa.pem` and `rsa.key` (the same in RSA);
/// `other.pem` and `other.key` (for other.example.org); `leaf.pem` (`mail.pem` without its issuer).
pub(crate) fn write(directory: &Path) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "Test root");
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.distinguished_name.push(DnType::CommonName, "Test intermediate");
    let issuer = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &root).unwrap();

    let leaf = |name: &str, algorithm: &'static SignatureAlgorithm| {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let leaf = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        (leaf.pem(), key.serialize_pem())
    };
    let file = |name: &str, text: &str| {
        let path = directory.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    file("ca.pem", &root.pem());
    for (id, name, algorithm) in [
        ("mail", "mail.example.org", &PKCS_ECDSA_P256_SHA256),
        ("rsa", "mail.example.org", &PKCS_RSA_SHA256),
        ("other", "other.example.org", &PKCS_ECDSA_P256_SHA256),
    ] {
        let (leaf, key) = leaf(name, algorithm);
        file(&format!("{id}.pem"), &format!("{leaf}{}", issuer.pem()));
        file(&format!("{id}.key"), &key);
        if id == "mail" {
            file("leaf.pem", &leaf);
        }
    }
}
