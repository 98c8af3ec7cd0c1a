//! Keeps certificates renewed: wakes, plans, takes a lease, looks again, orders, stores.
//!
//! It installs nothing: whoever serves certificates watches storage. Each certificate is worked on for itself; one that
//! fails, or hangs, delays no other.

mod job;
mod state;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use waxseal_storage::{Durability, Key, Storage, StorageError, Watch, keys};

use crate::clock::Clock;
use crate::issuer::{Issuer, Progress};
use crate::plan::Action;
use crate::target::Target;
use job::{Job, QUESTION};
pub use job::{Outcome, Urgency};
use state::{Fresh, State};
pub use state::{HeldStatus, Status};

/// Longest time without a look at the clock: one that was set, or a machine that slept, is noticed by then.
const NAP: Duration = Duration::from_secs(5 * 60);
/// Shortest time between two looks.
const PAUSE: Duration = Duration::from_millis(200);
/// Orders in flight at a time. Many, as one may wait for half an hour for a record to be seen.
const MAX_IN_FLIGHT: usize = 32;
/// Orders begun at once when many are due, and the time after which one more may be: Let's Encrypt takes 300 from an
/// account within three hours.
const BURST: u32 = 100;
const ONE_MORE: Duration = Duration::from_secs(60);

/// Keeps certificates renewed as long as it lives. An order in flight when it is dropped is brought to its end.
#[derive(Debug)]
pub struct Renewer {
    shared: Arc<Shared>,
    scheduler: JoinHandle<()>,
}

/// What the scheduler and those in flight share.
#[derive(Debug)]
struct Shared {
    storage: Arc<dyn Storage>,
    issuers: HashMap<Arc<str>, Arc<dyn Issuer>>,
    targets: Vec<Target>,
    /// One for each target.
    states: Mutex<Vec<State>>,
    /// For each target the others with the same names.
    siblings: Vec<Vec<usize>>,
    places: Arc<Semaphore>,
    /// Something has changed that the scheduler may want to know.
    news: Notify,
    clock: Clock,
}

/// Why there is nothing to renew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no certificate that is renewed is called {0:?}")]
pub struct UnknownName(pub String);

impl Renewer {
    /// Reads what storage holds and begins. `issuers` has one for the id of each settings that a target names.
    ///
    /// # Errors
    ///
    /// Storage that cannot be read.
    pub async fn start(
        storage: Arc<dyn Storage>,
        targets: Vec<Target>,
        issuers: HashMap<Arc<str>, Arc<dyn Issuer>>,
        clock: Clock,
    ) -> Result<Self, StorageError> {
        if let Durability::Fleeting(why) = storage.durability()
            && !targets.is_empty()
        {
            tracing::warn!(
                "{why}: certificates and the account are ordered anew after each restart, which soon runs into the CA's \
                 limits. Keep acme.ID.cache on a disk or a volume"
            );
        }
        // Watched first: what changes while it is read is read again.
        let watches =
            (storage.watch(&Key::new(keys::CERTIFICATES)?), storage.watch(&Key::new(keys::ATTEMPTS)?));
        let mut states = Vec::with_capacity(targets.len());
        for target in &targets {
            let mut state = State::default();
            match Fresh::read(&*storage, target, clock.now()).await {
                Ok(fresh) => state.take(&fresh, target, clock.now()),
                // One that cannot be read stops no other; its turn finds out again, and tells what to do.
                Err(error) => tracing::error!("{target}: {error}"),
            }
            states.push(state);
        }
        let shared = Arc::new(Shared {
            siblings: siblings(&targets),
            storage,
            issuers,
            targets,
            states: Mutex::new(states),
            places: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
            news: Notify::new(),
            clock,
        });
        shared.tell_waiting();
        let scheduler = tokio::spawn(schedule(Arc::clone(&shared), watches));
        Ok(Self { shared, scheduler })
    }

    /// Begins nothing more; an order in flight is brought to its end. For whoever is followed by another that keeps the
    /// same certificates, while commands still hold on to this one.
    pub fn stop(&self) {
        self.scheduler.abort();
    }

    /// What is known of each certificate.
    pub fn status(&self) -> Vec<Status> {
        let now = self.shared.clock.now();
        let states = self.shared.states();
        let each = self.shared.targets.iter().zip(states.iter()).enumerate();
        each.map(|(index, (target, state))| {
            let siblings = self.shared.histories(&states, index);
            state.status(target, &siblings.iter().collect::<Vec<_>>(), now)
        })
        .collect()
    }

    /// Renews what is called `name` (a name of it, or its id), one key type after the other.
    ///
    /// # Errors
    ///
    /// [`UnknownName`].
    pub async fn renew(
        &self,
        name: &str,
        urgency: Urgency,
        progress: &Progress,
    ) -> Result<Vec<(Arc<str>, Outcome)>, UnknownName> {
        let mut outcomes = Vec::new();
        for (index, target) in self.shared.targets.iter().enumerate() {
            if !target.is_called(name) {
                continue;
            }
            let outcome = match self.begin(index).await {
                Some(job) => job.run(urgency, progress).await,
                None => Outcome::Busy,
            };
            outcomes.push((Arc::clone(&target.id), outcome));
        }
        if outcomes.is_empty() { Err(UnknownName(name.to_owned())) } else { Ok(outcomes) }
    }

    /// Takes the right to work on a certificate, waiting for whoever only asks the CA about it.
    async fn begin(&self, index: usize) -> Option<Job> {
        let deadline = Instant::now() + QUESTION;
        loop {
            let job = Job::begin(&self.shared, index);
            let orders = self.shared.with(index, |state| state.stage.is_some())?;
            if job.is_some() || orders || Instant::now() > deadline {
                return job;
            }
            sleep(PAUSE).await;
        }
    }
}

impl Drop for Renewer {
    fn drop(&mut self) {
        self.scheduler.abort();
    }
}

/// For each target the places of the others with the same names.
fn siblings(targets: &[Target]) -> Vec<Vec<usize>> {
    let mut same: HashMap<&[crate::name::Name], Vec<usize>> = HashMap::new();
    for (index, target) in targets.iter().enumerate() {
        same.entry(&target.names).or_default().push(index);
    }
    let others = |(index, target): (usize, &Target)| {
        let all = same.get(&*target.names).map_or(&[][..], Vec::as_slice);
        all.iter().copied().filter(|other| *other != index).collect()
    };
    targets.iter().enumerate().map(others).collect()
}

impl Shared {
    fn states(&self) -> MutexGuard<'_, Vec<State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on the state of one target.
    fn with<T>(&self, index: usize, work: impl FnOnce(&mut State) -> T) -> Option<T> {
        self.states().get_mut(index).map(work)
    }

    /// The histories of the same names' other key types.
    fn histories(&self, states: &[State], index: usize) -> Vec<crate::ledger::Attempts> {
        let siblings = self.siblings.get(index).map_or(&[][..], Vec::as_slice);
        siblings.iter().filter_map(|other| states.get(*other)).map(|state| state.attempts.clone()).collect()
    }

    /// Whether nobody works on it, or on one for the same names.
    fn is_free(&self, states: &[State], index: usize) -> bool {
        let siblings = self.siblings.get(index).map_or(&[][..], Vec::as_slice);
        let all = std::iter::once(&index).chain(siblings);
        all.filter_map(|one| states.get(*one)).all(|state| !state.in_flight)
    }

    /// Says what is kept back from the start on, for nothing else will until then.
    fn tell_waiting(&self) {
        let (now, states) = (self.clock.now(), self.states());
        for (index, (target, state)) in self.targets.iter().zip(states.iter()).enumerate() {
            let siblings = self.histories(&states, index);
            if let Some(why) = state.waits(target, &siblings.iter().collect::<Vec<_>>(), now) {
                tracing::warn!("{target}: no order yet: {why}");
            }
        }
    }

    /// Says, once for each, which certificates have ended and are served for want of another.
    fn tell_ended(&self) {
        let now = self.clock.now();
        for (target, state) in self.targets.iter().zip(self.states().iter_mut()) {
            let ended = state.facts.as_ref().filter(|facts| facts.held.not_after <= now);
            if let Some(facts) = ended.filter(|facts| state.told_ended.as_ref() != Some(&facts.serial)) {
                state.told_ended = Some(facts.serial.clone());
                tracing::error!(
                    "{target}: the certificate has ended, and is served for want of another; `waxseal cert list` says why"
                );
            }
        }
    }

    /// What is due now and whether it is an order, and when to look again.
    fn due(&self) -> (Vec<(usize, bool)>, Duration) {
        let now = self.clock.now();
        let mut states = self.states();
        // A clock that was set back since the last look left times in the future.
        states.iter_mut().for_each(|state| state.anchor(now));
        let mut due = Vec::new();
        let mut soonest = i64::MAX;
        for (index, (target, state)) in self.targets.iter().zip(states.iter()).enumerate() {
            // Whoever ends tells.
            if !self.is_free(&states, index) {
                continue;
            }
            let siblings = self.histories(&states, index);
            let next = state.next(target, &siblings.iter().collect::<Vec<_>>(), now);
            if next.at <= now {
                due.push((index, matches!(next.action, Action::Order { .. })));
            } else {
                soonest = soonest.min(next.at);
            }
        }
        // Orders have the places first: a question to the CA can wait, a name without a certificate cannot.
        due.sort_by_key(|(_, is_order)| !is_order);
        let nap = Duration::from_secs(u64::try_from(soonest.saturating_sub(now)).unwrap_or(0));
        (due, nap.clamp(PAUSE, NAP))
    }

    /// Reads again what `keys` are about.
    async fn refresh(&self, keys: &[Key]) {
        for (index, target) in self.targets.iter().enumerate() {
            if !keys.contains(&target.certificate) && !keys.contains(&target.attempts) {
                continue;
            }
            match Fresh::read(&*self.storage, target, self.clock.now()).await {
                // Whoever is in flight has looked under the lease, and knows better.
                Ok(fresh) => self.with(index, |state| {
                    if !state.in_flight {
                        state.take(&fresh, target, self.clock.now());
                        state.rest_until = 0;
                    }
                }),
                Err(error) => self.with(index, |_| tracing::warn!("{target}: {error}")),
            };
        }
    }
}

/// How many orders may still be begun: so many at once, and one more each time some time has passed.
struct Pace {
    left: u32,
    counted: Instant,
}

impl Pace {
    fn new() -> Self {
        Self { left: BURST, counted: Instant::now() }
    }

    fn allows(&mut self) -> bool {
        while self.left < BURST && self.counted.elapsed() >= ONE_MORE {
            self.left += 1;
            self.counted += ONE_MORE;
        }
        if self.left == BURST {
            self.counted = Instant::now();
        }
        self.left > 0
    }

    fn take(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}

async fn schedule(shared: Arc<Shared>, (mut certificates, mut attempts): (Watch, Watch)) {
    let mut pace = Pace::new();
    loop {
        shared.tell_ended();
        let (due, mut nap) = shared.due();
        for (index, is_order) in due {
            if is_order && !pace.allows() {
                nap = nap.min(ONE_MORE);
                continue;
            }
            let Ok(place) = Arc::clone(&shared.places).try_acquire_owned() else { break };
            let Some(job) = Job::begin(&shared, index) else { continue };
            if is_order {
                pace.take();
            }
            tokio::spawn(async move {
                job.run(Urgency::WhenDue, &Progress::unseen()).await;
                drop(place);
            });
        }
        tokio::select! {
            () = sleep(nap) => {}
            () = shared.news.notified() => {}
            keys = certificates.changed() => shared.refresh(&keys).await,
            keys = attempts.changed() => shared.refresh(&keys).await,
        }
    }
}
