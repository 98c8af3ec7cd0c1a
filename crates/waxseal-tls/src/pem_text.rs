//! Reading PEM, and saying what else was given in its place.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::identity::IdentityError;

/// All certificates of a PEM text, at least one.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(IdentityError::Chain(instead_of_certificate(pem))),
        Err(error) => Err(IdentityError::Chain(format!("the PEM is damaged: {error}"))),
    }
}

/// The first private key of a PEM text.
pub(crate) fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, IdentityError> {
    // Both forms of encryption hide behind errors that say something else.
    if contains(pem, "ENCRYPTED") {
        return Err(IdentityError::Key(
            "it is encrypted, and there is nobody to ask for its password; decrypt it: \
             openssl pkey -in KEY -out KEY.decrypted"
                .into(),
        ));
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        IdentityError::Key(match error {
            rustls::pki_types::pem::Error::NoItemsFound => instead_of_key(pem),
            error => format!("the PEM is damaged: {error}"),
        })
    })
}

fn instead_of_certificate(pem: &[u8]) -> String {
    match anything_but_pem(pem, "openssl x509 -inform der -in FILE -out FILE.pem") {
        Some(words) => words,
        None if contains(pem, "BEGIN CERTIFICATE REQUEST") || contains(pem, "BEGIN NEW CERTIFICATE REQ") => {
            "it is a certificate request, not the certificate that the CA made from it".into()
        }
        None if contains(pem, "BEGIN PKCS7") => {
            "it is PKCS#7; take the certificates out: openssl pkcs7 -print_certs -in FILE -out FILE.pem"
                .into()
        }
        None if contains(pem, "PRIVATE KEY-----") => "it holds a private key and no certificate".into(),
        None => "it holds no certificate (no line \"-----BEGIN CERTIFICATE-----\")".into(),
    }
}

fn instead_of_key(pem: &[u8]) -> String {
    match anything_but_pem(pem, "openssl pkey -inform der -in KEY -out KEY.pem") {
        Some(words) => words,
        None if contains(pem, "BEGIN EC PARAMETERS") => {
            "it holds the parameters of a curve (EC PARAMETERS) and no key".into()
        }
        None if contains(pem, "BEGIN OPENSSH PRIVATE KEY") => "it is a key of OpenSSH, not of TLS".into(),
        None if contains(pem, "BEGIN CERTIFICATE") => "it holds a certificate and no private key".into(),
        None if contains(pem, "BEGIN PUBLIC KEY") => "it holds a public key and no private one".into(),
        None => "it holds no private key (no line \"-----BEGIN PRIVATE KEY-----\")".into(),
    }
}

/// An empty file, or a binary one.
fn anything_but_pem(bytes: &[u8], convert: &str) -> Option<String> {
    const DER_SEQUENCE: u8 = 0x30;
    if bytes.trim_ascii().is_empty() {
        Some("it is empty".into())
    } else if bytes.first() == Some(&DER_SEQUENCE) && !bytes.is_ascii() {
        Some(format!("it is DER (or PKCS#12), not PEM; convert it: {convert}"))
    } else {
        None
    }
}

fn contains(text: &[u8], words: &str) -> bool {
    text.windows(words.len()).any(|window| window == words.as_bytes())
}
