//! The current set, swapped whole.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::set::CertificateSet;

/// Where the current [`CertificateSet`] is published.
#[derive(Debug)]
pub struct CertificateStore {
    current: ArcSwap<CertificateSet>,
}

impl CertificateStore {
    /// A store that begins with `set`.
    pub fn new(set: CertificateSet) -> Arc<Self> {
        Arc::new(Self { current: ArcSwap::from_pointee(set) })
    }

    /// Replaces the set: the next ClientHello meets the new one, open sessions keep what they have.
    pub fn publish(&self, set: CertificateSet) {
        self.current.store(Arc::new(set));
    }

    /// The set in force.
    pub fn current(&self) -> Arc<CertificateSet> {
        self.current.load_full()
    }
}
