//! Keys, and what is asked for them.

use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_RSA_SHA256, RsaKeySize,
};
use zeroize::Zeroizing;

use crate::name::Name;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_kind_of_key_makes_a_request_for_names_and_addresses() {
        let names = ["a.example", "*.a.example", "192.0.2.1", "2001:db8::1"];
        let names: Vec<Name> = names.iter().map(|name| Name::parse(name).expect("a name")).collect();
        for kind in [KeyType::EcdsaP256, KeyType::EcdsaP384, KeyType::Rsa2048] {
            let key = make_key(kind).await.expect("a key");
            assert!(!request(&names, &key).expect("a request").is_empty(), "{kind}");
        }
    }

    #[test]
    fn a_key_that_is_none_makes_no_request() {
        assert!(request(&[Name::parse("a.example").expect("a name")], "junk").is_err());
    }
}
