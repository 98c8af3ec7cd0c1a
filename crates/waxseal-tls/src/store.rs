//! The current set, swapped whole.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::set::CertificateSet;

/// Where the current [`CertificateSet`] is published.
///
/// Whoever obtains certificates publishes here; whoever serves them looks here at each ClientHello. Open sessions keep
/// what they began with.
#[derive(Debug)]
pub struct CertificateStore {
    current: ArcSwap<CertificateSet>,
    updating: Mutex<()>,
}

impl CertificateStore {
    /// A store that begins with `set`.
    pub fn new(set: CertificateSet) -> Arc<Self> {
        Arc::new(Self { current: ArcSwap::from_pointee(set), updating: Mutex::new(()) })
    }

    /// Replaces the set.
    pub fn publish(&self, set: CertificateSet) {
        self.update(|_| set);
    }

    /// Replaces the set by one made from it. Updates wait for each other, so that none is lost.
    pub fn update(&self, change: impl FnOnce(&CertificateSet) -> CertificateSet) {
        let _alone = self.updating.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&self.current.load());
        self.current.store(Arc::new(changed));
    }

    /// The set in force.
    pub fn current(&self) -> Arc<CertificateSet> {
        self.current.load_full()
    }
}
