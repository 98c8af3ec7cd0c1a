//! Who we are: one certificate chain with its key.

/// A certificate chain and the key that belongs to it, checked.
#[derive(Debug)]
pub struct Identity(());

/// What is odd about an identity that can be served all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("todo")]
#[non_exhaustive]
pub enum IdentityWarning {}

/// Why a chain and key are no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("todo")]
#[non_exhaustive]
pub enum IdentityError {}

impl Identity {
    /// Reads a chain and its key from PEM.
    ///
    /// # Errors
    ///
    /// [`IdentityError`].
    pub fn from_pem(
        chain: &[u8],
        key: &[u8],
        subjects: &[String],
    ) -> Result<(Self, Vec<IdentityWarning>), IdentityError> {
        let _ = (chain, key, subjects);
        todo!()
    }

    /// The names, the first one first.
    pub fn names(&self) -> &[String] {
        todo!()
    }
}
