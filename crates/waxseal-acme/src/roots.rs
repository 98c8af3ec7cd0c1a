//! Whom to believe that it is the CA.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Whose signature under a CA's own server certificate is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Roots {
    /// The system's roots.
    #[default]
    System,
    /// These, in PEM, and no others: a private CA's.
    Pem(Vec<u8>),
}

/// Why no connection to any CA can be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootsError {
    /// Nothing in the text is a certificate.
    #[error("the CA's root file holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")]
    Empty,
    /// There are none on this machine.
    #[error("this system has no root certificates; install them (Debian: apt-get install ca-certificates)")]
    NoSystemRoots,
    /// The library refused.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

impl Roots {
    /// The roots themselves.
    pub(crate) fn read(&self) -> Result<RootCertStore, RootsError> {
        let mut store = RootCertStore::empty();
        match self {
            Self::System => {
                let (added, _) =
                    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if added == 0 { Err(RootsError::NoSystemRoots) } else { Ok(store) }
            }
            Self::Pem(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    store.add(certificate.map_err(|_| RootsError::Empty)?)?;
                }
                if store.is_empty() { Err(RootsError::Empty) } else { Ok(store) }
            }
        }
    }
}
