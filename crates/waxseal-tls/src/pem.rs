//! Identities from PEM text and files.

use std::path::PathBuf;

use crate::identity::{IdentityError, IdentityWarning};
use crate::set::Entry;

/// A piece of PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PemPart {
    /// Written out.
    Text(String),
    /// The content of a file.
    File(PathBuf),
}

/// PEM from pieces, one behind the other.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PemSource {
    /// The pieces.
    pub parts: Vec<PemPart>,
}

/// Where an identity comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSpec {
    /// Its name in the configuration.
    pub id: String,
    /// The certificate chain.
    pub chain: PemSource,
    /// The private key.
    pub key: PemSource,
    /// Names beyond those in the certificate.
    pub subjects: Vec<String>,
    /// Whether it is for clients that name no host, or one that no certificate has.
    pub default: bool,
}

/// Why an identity cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file cannot be read: its path, owner, mode, the user we run as, and the command that repairs it.
    #[error("{0}")]
    Unreadable(String),
    /// What was read is no identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Reads an identity.
///
/// # Errors
///
/// [`LoadError`].
pub fn load(spec: &CertificateSpec) -> Result<(Entry, Vec<IdentityWarning>), LoadError> {
    let _ = spec;
    todo!()
}
