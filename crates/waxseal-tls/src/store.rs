//! The current set, swapped whole.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::challenge::{ChallengeIdentity, Challenges};
use crate::set::CertificateSet;

/// Where the current [`CertificateSet`] is published.
///
/// Whoever obtains certificates publishes here; whoever serves them looks here at each ClientHello. Open sessions keep
/// what they began with.
#[derive(Debug)]
pub struct CertificateStore {
    current: ArcSwap<CertificateSet>,
    /// How many sets have been published whole. Locked by whoever changes the set.
    published: Mutex<u64>,
    challenges: ArcSwapOption<Box<dyn Challenges>>,
}

/// The right to change a published set, until another is published whole: who is caught in a change then, as by a
/// reload, brings nothing back.
#[derive(Clone, Debug)]
pub struct Updater {
    store: Arc<CertificateStore>,
    published: u64,
}

impl CertificateStore {
    /// A store that begins with `set`.
    pub fn new(set: CertificateSet) -> Arc<Self> {
        Arc::new(Self {
            current: ArcSwap::from_pointee(set),
            published: Mutex::new(0),
            challenges: ArcSwapOption::empty(),
        })
    }

    /// Replaces the set whole. Updaters of the one before have no say any more.
    pub fn publish(&self, set: CertificateSet) {
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        *published += 1;
        self.current.store(Arc::new(set));
    }

    /// The right to change the set that is in force now.
    pub fn updater(self: &Arc<Self>) -> Updater {
        let published = *self.published.lock().unwrap_or_else(PoisonError::into_inner);
        Updater { store: Arc::clone(self), published }
    }

    /// The set in force.
    pub fn current(&self) -> Arc<CertificateSet> {
        self.current.load_full()
    }

    /// Has `challenges` answered by every acceptor that looks here; `None`: by none.
    pub fn answer(&self, challenges: Option<Box<dyn Challenges>>) {
        self.challenges.store(challenges.map(Arc::new));
    }

    /// The certificate to answer a challenge for `sni` with.
    pub(crate) fn challenge(&self, sni: &str) -> Option<ChallengeIdentity> {
        self.challenges.load().as_ref()?.answer(sni)
    }
}

impl Updater {
    /// The set in force.
    pub fn current(&self) -> Arc<CertificateSet> {
        self.store.current()
    }

    /// Replaces the set by one made from it, unless another was published whole meanwhile; whether it was replaced.
    /// Updates wait for each other, so that none is lost.
    pub fn update(&self, change: impl FnOnce(&CertificateSet) -> CertificateSet) -> bool {
        let published = self.store.published.lock().unwrap_or_else(PoisonError::into_inner);
        if *published != self.published {
            return false;
        }
        let changed = change(&self.store.current.load());
        self.store.current.store(Arc::new(changed));
        true
    }
}
