//! Whom a client believes, and in plain words why not.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};

use crate::chain::{display_name, is_self_issued};
use crate::connector::ConnectorError;
use crate::identity::{certificate_names, date, leaf_of, sha256};
use crate::pem_text;

/// Whom to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The roots of the system.
    System,
    /// These roots, in PEM.
    Roots(Vec<u8>),
    /// The certificate whose public key (SubjectPublicKeyInfo) has this SHA-256, and no other. Neither its names nor
    /// its dates are looked at.
    Pin([u8; 32]),
    /// Anybody: encryption without authentication.
    Any,
}

impl Trust {
    /// Reads a pin: `sha256:` and the base64 of the hash.
    pub fn from_pin(text: &str) -> Option<Self> {
        let hash = BASE64.decode(text.strip_prefix("sha256:")?).ok()?;
        hash.try_into().ok().map(Self::Pin)
    }
}

/// A pin as it is written: `sha256:` and the base64 of the hash.
pub fn pin_text(hash: &[u8; 32]) -> String {
    format!("sha256:{}", BASE64.encode(hash))
}

/// Checks the certificate of a service.
#[derive(Debug)]
pub(crate) struct Checker {
    rule: Rule,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Rule {
    Roots(Arc<WebPkiServerVerifier>),
    Pin([u8; 32]),
    Any,
}

impl Checker {
    pub(crate) fn new(trust: &Trust, provider: &Arc<CryptoProvider>) -> Result<Self, ConnectorError> {
        let rule = match trust {
            Trust::System => Rule::Roots(verifier(system_roots()?, provider)?),
            Trust::Roots(pem) => Rule::Roots(verifier(roots_from_pem(pem)?, provider)?),
            Trust::Pin(pin) => Rule::Pin(*pin),
            Trust::Any => Rule::Any,
        };
        Ok(Self { rule, provider: Arc::clone(provider) })
    }
}

fn verifier(
    roots: RootCertStore,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, ConnectorError> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| ConnectorError::Roots(error.to_string()))
}

fn system_roots() -> Result<RootCertStore, ConnectorError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let reason = found.errors.first().map_or_else(
            || "there are none; install the package ca-certificates, or set `ca` or `pin`".to_owned(),
            ToString::to_string,
        );
        return Err(ConnectorError::SystemRoots(reason));
    }
    Ok(roots)
}

fn roots_from_pem(pem: &[u8]) -> Result<RootCertStore, ConnectorError> {
    let unusable = |error: &dyn fmt::Display| ConnectorError::Roots(error.to_string());
    let mut roots = RootCertStore::empty();
    for certificate in pem_text::certificates(pem).map_err(|error| unusable(&error))? {
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    Ok(roots)
}

impl ServerCertVerifier for Checker {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.rule {
            Rule::Any => Ok(ServerCertVerified::assertion()),
            Rule::Pin(pin) => match pin_of(leaf) {
                Some(seen) if verify_slices_are_equal(&seen, pin).is_ok() => {
                    Ok(ServerCertVerified::assertion())
                }
                seen => Err(Untrusted::error(wrong_pin(pin, seen))),
            },
            Rule::Roots(verifier) => verifier
                .verify_server_cert(leaf, intermediates, server_name, ocsp, now)
                .map_err(|error| Untrusted::error(explain(&error, leaf, server_name))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Which check failed, carried through the library as the cause of its error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Untrusted(String);

impl Untrusted {
    fn error(explanation: String) -> Error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Self(explanation)))))
    }

    pub(crate) fn explanation_in(error: &Error) -> Option<String> {
        match error {
            Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) => {
                cause.downcast_ref::<Self>().map(|untrusted| untrusted.0.clone())
            }
            _ => None,
        }
    }
}

fn pin_of(leaf: &CertificateDer<'_>) -> Option<[u8; 32]> {
    leaf_of(leaf).map(|certificate| sha256(certificate.public_key().raw))
}

fn wrong_pin(expected: &[u8; 32], seen: Option<[u8; 32]>) -> String {
    match seen {
        Some(seen) => format!(
            "its key is not the pinned one: seen {}, pinned {}; if the key was changed on purpose, set pin = \"{}\"",
            pin_text(&seen),
            pin_text(expected),
            pin_text(&seen)
        ),
        None => "its certificate cannot be read".into(),
    }
}

fn explain(error: &Error, leaf: &CertificateDer<'_>, server_name: &ServerName<'_>) -> String {
    use CertificateError as C;
    let (Error::InvalidCertificate(reason), Some(certificate)) = (error, leaf_of(leaf)) else {
        return format!("its certificate cannot be verified: {error}");
    };
    let pin = pin_text(&sha256(certificate.public_key().raw));
    let issuer = display_name(certificate.issuer());
    let validity = certificate.validity();
    match reason {
        C::UnknownIssuer | C::BadSignature if is_self_issued(&certificate) => {
            format!("its certificate is self-signed; pin it: pin = \"{pin}\"")
        }
        C::UnknownIssuer => format!(
            "its certificate is issued by \"{issuer}\", whom nobody here trusts; set `ca` to that issuer's root \
             certificate, or pin = \"{pin}\" (an incomplete chain over there has the same effect)"
        ),
        C::Expired | C::ExpiredContext { .. } => {
            format!("its certificate expired on {}", date(validity.not_after.timestamp()))
        }
        C::NotValidYet | C::NotValidYetContext { .. } => {
            format!("its certificate is not valid before {}", date(validity.not_before.timestamp()))
        }
        C::NotValidForName | C::NotValidForNameContext { .. } => format!(
            "its certificate is for {}, not for \"{}\"; set `server-name` to a name it has, or pin = \"{pin}\"",
            certificate_names(&certificate).join(", "),
            server_name.to_str()
        ),
        C::Other(_) if is_self_issued(&certificate) => {
            format!("its certificate is a self-signed one of a CA; pin it: pin = \"{pin}\"")
        }
        reason => format!(
            "its certificate cannot be verified ({reason}); to trust it all the same: pin = \"{pin}\""
        ),
    }
}
