//! What kind of key a certificate has.

use std::fmt;

use x509_parser::prelude::SubjectPublicKeyInfo;

/// The kind and size of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA with a modulus of that many bits.
    Rsa(usize),
    /// ECDSA on a NIST curve: `P-256`, `P-384` or `P-521`.
    Ecdsa(&'static str),
    /// Ed25519.
    Ed25519,
    /// Something else, by its object identifier.
    Other(String),
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA {bits}"),
            Self::Ecdsa(curve) => write!(f, "ECDSA {curve}"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Other(oid) => write!(f, "a key of type {oid}"),
        }
    }
}

impl KeyKind {
    pub(crate) fn of(key: &SubjectPublicKeyInfo<'_>) -> Self {
        let oid = key.algorithm.algorithm.to_id_string();
        match oid.as_str() {
            "1.2.840.113549.1.1.1" => Self::Rsa(key.parsed().map(|key| key.key_size()).unwrap_or_default()),
            "1.3.101.112" => Self::Ed25519,
            "1.2.840.10045.2.1" => {
                let curve = key.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
                match curve.map(|curve| curve.to_id_string()).as_deref() {
                    Some("1.2.840.10045.3.1.7") => Self::Ecdsa("P-256"),
                    Some("1.3.132.0.34") => Self::Ecdsa("P-384"),
                    Some("1.3.132.0.35") => Self::Ecdsa("P-521"),
                    other => Self::Other(other.unwrap_or(&oid).to_owned()),
                }
            }
            _ => Self::Other(oid),
        }
    }
}
