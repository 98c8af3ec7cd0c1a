//! All identities of the moment, and which of them a client gets.

use std::sync::Arc;

use crate::identity::Identity;

/// One identity of a set.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name in the configuration.
    pub id: String,
    /// The chain and key.
    pub identity: Arc<Identity>,
    /// Whether it is for clients that name no host, or one that no certificate has.
    pub default: bool,
}

/// What is odd about a set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("todo")]
#[non_exhaustive]
pub enum SetWarning {}

/// All identities of the moment.
#[derive(Debug)]
pub struct CertificateSet {
    entries: Vec<Entry>,
}

impl CertificateSet {
    /// A set of `entries`, in configuration order.
    pub fn new(entries: Vec<Entry>, hostname: &str) -> (Self, Vec<SetWarning>) {
        let _ = hostname;
        (Self { entries }, Vec::new())
    }

    /// The identities, in configuration order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}
