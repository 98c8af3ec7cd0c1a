//! A certificate in storage: chain, key, and what must be known without parsing them.

use std::fmt;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use waxseal_tls::{Identity, IdentityError};
use zeroize::Zeroizing;

use crate::issuer::Issued;
use crate::name::Name;
use crate::plan::Held;

/// What is stored under [`waxseal_storage::keys::certificate`]: one value, so that key and chain are never of different
/// certificates.
#[derive(Clone, Serialize, Deserialize)]
pub struct Bundle {
    /// The names asked for, the first one first.
    pub names: Vec<String>,
    /// The directory of the CA that it is from.
    pub directory: String,
    /// When it came, in unix seconds.
    pub obtained: i64,
    /// Begin of its life, in unix seconds.
    pub not_before: i64,
    /// End of its life, in unix seconds.
    pub not_after: i64,
    /// In hexadecimal.
    pub serial: String,
    /// Who signed it.
    pub issuer: String,
    /// Leaf first, PEM.
    pub chain: String,
    /// PEM (PKCS #8).
    pub key: Zeroizing<String>,
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {:?} by {}", self.serial, self.names, self.issuer)
    }
}

/// Why what a CA gave is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// Chain and key are no identity.
    #[error("the certificate that came cannot be used: {0}")]
    Identity(#[from] IdentityError),
    /// A name is missing.
    #[error("the certificate that came is not for {0}")]
    Name(Name),
}

impl Bundle {
    /// Checks that what came is what was asked for.
    ///
    /// # Errors
    ///
    /// [`Unfit`] where it is not.
    pub fn check(issued: Issued, names: &[Name], directory: &str, now: i64) -> Result<Self, Unfit> {
        let (identity, _) = Identity::from_pem_at(issued.chain.as_bytes(), issued.key.as_bytes(), &[], now)?;
        let has = |name: &&Name| !identity.names().contains(&name.to_string());
        if let Some(missing) = names.iter().find(has) {
            return Err(Unfit::Name(missing.clone()));
        }
        Ok(Self::of(&identity, issued, names, directory, now))
    }

    /// What is stored of `issued`, which is `identity`, for `names`.
    pub(crate) fn of(identity: &Identity, issued: Issued, names: &[Name], directory: &str, now: i64) -> Self {
        Self {
            names: names.iter().map(Name::to_string).collect(),
            directory: directory.to_owned(),
            obtained: now,
            not_before: identity.not_before(),
            not_after: identity.not_after(),
            serial: identity.serial().to_owned(),
            issuer: identity.issuer().to_owned(),
            chain: issued.chain,
            key: issued.key,
        }
    }

    /// Reads what [`Bundle::write`] wrote.
    ///
    /// # Errors
    ///
    /// What is wrong with the text.
    pub fn read(stored: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(stored)
    }

    /// The value to store.
    ///
    /// # Errors
    ///
    /// None that this type can cause.
    pub fn write(&self) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
        serde_json::to_vec_pretty(self).map(Zeroizing::new)
    }

    /// The first certificate of the chain.
    pub(crate) fn leaf(&self) -> Option<CertificateDer<'static>> {
        CertificateDer::from_pem_slice(self.chain.as_bytes()).ok()
    }

    /// What counts for the plan; `directories` are those that it may be from.
    pub(crate) fn held(&self, directories: &[&str]) -> Held {
        Held {
            not_before: self.not_before,
            not_after: self.not_after,
            obtained: self.obtained,
            foreign: !directories.contains(&self.directory.as_str()),
        }
    }
}
