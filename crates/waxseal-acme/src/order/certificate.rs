//! Keys, what is asked for them, and whether what came back is that.

use std::sync::Arc;

use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_RSA_SHA256, RsaKeySize,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use crate::name::{Name, NameKind};
use crate::settings::KeyType;

/// A new key, PEM (PKCS #8).
pub(super) async fn make_key(kind: KeyType) -> Result<Zeroizing<String>, String> {
    // RSA takes up to seconds, which no thread of the runtime has.
    let made = tokio::task::spawn_blocking(move || match kind {
        KeyType::EcdsaP256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
        KeyType::EcdsaP384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
        KeyType::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
        KeyType::Rsa4096 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096),
    });
    let made = made.await.map_err(|e| e.to_string())?;
    made.map(|key| Zeroizing::new(key.serialize_pem())).map_err(|e| e.to_string())
}

/// The request for `names` with `key`, DER. Names stand in the alternative names only: a subject says nothing that
/// a CA would keep.
pub(super) fn request(names: &[Name], key: &str) -> Result<Vec<u8>, String> {
    let names: Vec<String> = names.iter().map(Name::to_string).collect();
    let made = || {
        let key = KeyPair::from_pem(key)?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = DistinguishedName::new();
        params.serialize_request(&key)
    };
    made().map(|request| request.der().to_vec()).map_err(|e: rcgen::Error| e.to_string())
}

/// Whether `chain` is a certificate for `key` and each of `names`; if not, why.
pub(super) fn check(chain: &str, key: &str, names: &[Name]) -> Result<(), String> {
    let certificates = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|_| "the CA sent something that is no PEM".to_owned())?;
    let Some(leaf) = certificates.first().cloned() else {
        return Err("the CA sent no certificate".to_owned());
    };
    let key =
        PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| "our key is unreadable".to_owned())?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    match CertifiedKey::from_der(certificates, key, &provider) {
        Ok(_) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            return Err("the certificate that the CA sent is not for our key; it is not used".to_owned());
        }
        Err(e) => return Err(format!("the certificate that the CA sent cannot be used: {e}")),
    }
    let leaf =
        ParsedCertificate::try_from(&leaf).map_err(|e| format!("the certificate cannot be read: {e}"))?;
    for name in names {
        let asked = match name.kind() {
            NameKind::Dns(name) => name.to_owned(),
            // Any one label.
            NameKind::Wildcard(base) => format!("any.{base}"),
            NameKind::Ip(ip) => ip.to_string(),
        };
        let covered = ServerName::try_from(asked)
            .is_ok_and(|asked| rustls::client::verify_server_name(&leaf, &asked).is_ok());
        if !covered {
            return Err(format!("the certificate that the CA sent is not for {name}; it is not used"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<Name> {
        names.iter().map(|name| Name::parse(name).expect("a name")).collect()
    }

    fn issue(request: &[&str], key: &str) -> String {
        let params = CertificateParams::new(request.iter().map(|&it| it.to_owned()).collect::<Vec<_>>());
        let key = KeyPair::from_pem(key).expect("a key");
        params.expect("names").self_signed(&key).expect("a certificate").pem()
    }

    #[tokio::test]
    async fn every_kind_of_key_makes_a_request_and_fits_its_certificate() {
        for kind in [KeyType::EcdsaP256, KeyType::EcdsaP384, KeyType::Rsa2048] {
            let key = make_key(kind).await.expect("a key");
            let wanted = names(&["a.example", "*.a.example", "192.0.2.1", "2001:db8::1"]);
            assert!(!request(&wanted, &key).expect("a request").is_empty());
            let chain = issue(&["a.example", "*.a.example", "192.0.2.1", "2001:db8::1"], &key);
            assert_eq!(check(&chain, &key, &wanted), Ok(()), "{kind}");
        }
    }

    #[tokio::test]
    async fn a_certificate_for_another_key_or_without_a_name_is_refused() {
        let key = make_key(KeyType::EcdsaP256).await.expect("a key");
        let other = make_key(KeyType::EcdsaP256).await.expect("a key");
        let wanted = names(&["a.example", "b.example"]);
        let said = check(&issue(&["a.example", "b.example"], &other), &key, &wanted).expect_err("other key");
        assert!(said.contains("not for our key"), "{said}");
        let said = check(&issue(&["a.example"], &key), &key, &wanted).expect_err("a name lacks");
        assert!(said.contains("not for b.example"), "{said}");
        for junk in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(check(junk, &key, &wanted).is_err(), "{junk:?}");
        }
    }
}
