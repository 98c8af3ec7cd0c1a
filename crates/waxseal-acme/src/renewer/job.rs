//! One certificate's turn: from the lease to the stored bundle.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use waxseal_storage::{Guard, Key, Lease, Storage, StorageError, keys};
use zeroize::Zeroizing;

use super::Shared;
use super::state::{Facts, Fresh, State, span};
use crate::bundle::Bundle;
use crate::clock::fraction;
use crate::issuer::{Fault, IssueError, OrderRequest, Progress, RenewalWindow, Replaces, Stage};
use crate::ledger::Attempts;
use crate::plan::{self, Action, Asked, Barrier};
use crate::settings::Settings;
use crate::target::Target;

/// For how long a lease is taken at a time.
const LEASE: Duration = Duration::from_secs(90);
/// How often it is renewed.
const KEEP: Duration = Duration::from_secs(30);
/// How long an order may take, waiting for DNS included.
const ORDER: Duration = Duration::from_secs(30 * 60);
/// How long the checks before it may take, all names together.
const CHECKS: Duration = Duration::from_secs(5 * 60);
/// How long a question to the CA may take.
pub(super) const QUESTION: Duration = Duration::from_secs(60);
/// After how many seconds a CA that did not answer is asked for its window again.
const ASK_AGAIN: u64 = 3600;
/// After how many seconds a certificate that another process works on is looked at again.
const REST: i64 = 30;
/// After how many seconds, at the earliest, a certificate is worked on again whatever its plan says: nothing that goes
/// wrong becomes a loop.
const BREATH: i64 = 1;
/// After how many seconds a lease that could not be taken is tried again.
pub(super) const FAULT: i64 = 300;
/// Most certificates of other names that are looked through for a key that is to be kept.
const MAX_PREDECESSORS: usize = 1000;

/// How much is brushed aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Nothing: only what is due is done.
    WhenDue,
    /// The plan and the back-off ladder, but neither the CA's `Retry-After` nor the weekly cap.
    Now,
    /// Those too.
    Force,
}

/// What came of it.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// A new certificate is stored.
    Renewed {
        /// In hexadecimal.
        serial: String,
        /// End of its life, in unix seconds.
        not_after: i64,
    },
    /// Nothing is due before then, in unix seconds.
    NotDue(i64),
    /// Not before then, in unix seconds.
    Barred(i64, Barrier),
    /// An order for it is in flight, here or in another process.
    Busy,
    /// It failed.
    Failed(IssueError),
}

/// What a look under the lease says.
struct Plans {
    next: plan::Next,
    /// Which CA is asked for the next order.
    ca: usize,
    barrier: Option<(i64, Barrier)>,
}

/// The right to work on one certificate, within this process. Given back when dropped.
pub(super) struct Job {
    shared: Arc<Shared>,
    index: usize,
}

impl Drop for Job {
    fn drop(&mut self) {
        let breath = self.shared.clock.now() + BREATH;
        self.shared.with(self.index, |state| {
            (state.in_flight, state.stage) = (false, None);
            state.rest_until = state.rest_until.max(breath);
        });
        self.shared.news.notify_one();
    }
}

impl Job {
    /// Takes the right, unless another job of this process has it, or one for the same names with another key type: a CA
    /// gives both the same order.
    pub(super) fn begin(shared: &Arc<Shared>, index: usize) -> Option<Self> {
        let mut states = shared.states();
        if !shared.is_free(&states, index) {
            return None;
        }
        states.get_mut(index)?.in_flight = true;
        Some(Self { shared: Arc::clone(shared), index })
    }

    /// Does what is due. Whatever fails is logged and kept.
    pub(super) async fn run(self, urgency: Urgency, progress: &Progress) -> Outcome {
        let shared = Arc::clone(&self.shared);
        let Some(target) = shared.targets.get(self.index) else { return Outcome::Busy };
        let storage = &*shared.storage;
        let lease = match storage.acquire(&target.lease, LEASE).await {
            Ok(Some(lease)) => lease,
            Ok(None) => {
                self.rest(REST);
                return Outcome::Busy;
            }
            Err(error) => {
                self.rest(FAULT);
                return self.fail(target, None, &target.settings, nothing_asked(&error)).await;
            }
        };
        let (noting, index) = (Arc::clone(&shared), self.index);
        let progress = progress.noted(move |stage| {
            noting.with(index, |state| state.stage = Some(stage));
        });
        let done = tokio::select! {
            done = self.work(target, &lease, urgency, &progress) => done,
            () = keep(storage, &lease) => {
                self.rest(REST);
                return Outcome::Busy;
            }
        };
        let outcome = match done {
            Ok(outcome) => outcome,
            Err((settings, error)) => self.fail(target, Some(&lease), &settings, error).await,
        };
        if let Err(error) = storage.release(lease).await {
            tracing::warn!("{target}: {error}");
        }
        outcome
    }

    /// Leaves the certificate alone for so many seconds, as to whoever holds its lease.
    fn rest(&self, seconds: i64) {
        let until = self.shared.clock.now() + seconds;
        self.shared.with(self.index, |state| state.rest_until = until);
    }

    /// Looks again, now under the lease, and does what is due.
    async fn work(
        &self,
        target: &Target,
        lease: &Lease,
        urgency: Urgency,
        progress: &Progress,
    ) -> Result<Outcome, (Arc<Settings>, IssueError)> {
        let ours = |error| (Arc::clone(&target.settings), error);
        loop {
            let storage = &*self.shared.storage;
            let fresh = Fresh::read(storage, target, self.shared.clock.now()).await;
            let fresh = fresh.map_err(|error| ours(nothing_asked(&error)))?;
            if let Some(bundle) = self.unsaved(&fresh) {
                return self.save(target, lease, bundle, progress).await.map_err(ours);
            }
            let Plans { next, ca: wanted, barrier } = self.look(target, &fresh);
            let due = next.at <= self.shared.clock.now();
            let ca = match (urgency, next.action) {
                (Urgency::WhenDue, _) if !due => return Ok(Outcome::NotDue(next.at)),
                (Urgency::WhenDue, Action::AskWindow) => {
                    self.ask_window(target, fresh.bundle).await;
                    continue;
                }
                (Urgency::WhenDue | Urgency::Force, Action::Order { ca, .. }) => ca,
                (Urgency::Force, Action::AskWindow) => wanted,
                (Urgency::Now, action) => match (barrier, action) {
                    (Some((until, barrier)), _) => return Ok(Outcome::Barred(until, barrier)),
                    (None, Action::Order { ca, .. }) => ca,
                    (None, Action::AskWindow) => wanted,
                },
            };
            let settings = target.authorities().nth(ca).unwrap_or(&target.settings);
            let ordered = self.order(target, settings, lease, fresh.bundle, progress).await;
            return ordered.map_err(|error| (Arc::clone(settings), error));
        }
    }

    /// What could not be stored yet, unless another process has stored something newer by now.
    fn unsaved(&self, fresh: &Fresh) -> Option<Bundle> {
        let newest = |bundle: &Bundle| fresh.bundle.as_ref().is_none_or(|it| it.obtained <= bundle.obtained);
        self.shared.with(self.index, |state| {
            state.unsaved = state.unsaved.take().filter(newest);
            state.unsaved.clone()
        })?
    }

    /// Takes over what was read, and plans.
    fn look(&self, target: &Target, fresh: &Fresh) -> Plans {
        let now = self.shared.clock.now();
        let mut states = self.shared.states();
        let siblings = self.shared.histories(&states, self.index);
        let siblings: Vec<&Attempts> = siblings.iter().collect();
        let mut nowhere = State::default();
        let state = states.get_mut(self.index).unwrap_or(&mut nowhere);
        state.take(fresh, target, now);
        state.rest_until = 0;
        Plans {
            next: state.next(target, &siblings, now),
            ca: state.attempts.choose(&target.directories()).0,
            barrier: state.plan(target, &siblings, now, plan::barrier),
        }
    }

    /// Asks the CA that the certificate is from when it would like it to be renewed. A CA that does not answer is asked
    /// again later; until then what it said before stands.
    async fn ask_window(&self, target: &Target, bundle: Option<Bundle>) {
        let Some(bundle) = bundle else { return };
        let issuer = target
            .authorities()
            .find(|settings| settings.directory == bundle.directory)
            .and_then(|settings| self.shared.issuers.get(&settings.id));
        let answer = match (issuer, bundle.leaf()) {
            (Some(issuer), Some(leaf)) => timeout(QUESTION, issuer.renewal_info(&leaf)).await,
            _ => Ok(Ok(None)),
        };
        let now = self.shared.clock.now();
        let before = || self.shared.with(self.index, |state| state.asked.clone()).flatten();
        let window = match answer {
            Ok(Ok(window)) => window,
            failed => {
                tracing::info!(
                    "{target}: when to renew could not be asked: {}",
                    match failed {
                        Ok(Err(error)) => error.to_string(),
                        _ => "no answer".to_owned(),
                    }
                );
                before()
                    .and_then(|asked| asked.window)
                    .map(|window| RenewalWindow { retry_after: ASK_AGAIN, ..window })
            }
        };
        if let Some(RenewalWindow { explanation: Some(explanation), end, .. }) = &window
            && *end <= now
        {
            tracing::warn!("{target}: the CA wants it to be renewed now: {explanation}");
        }
        let asked = Asked { at: now, serial: bundle.serial, window };
        if let Ok(text) = serde_json::to_vec(&asked)
            && let Err(error) = self.shared.storage.put(&target.renewal_info, &text, Guard::Always).await
        {
            tracing::debug!("{target}: {error}");
        }
        self.shared.with(self.index, |state| state.asked = Some(asked));
    }

    /// Orders a certificate of the CA of `settings`.
    async fn order(
        &self,
        target: &Target,
        settings: &Arc<Settings>,
        lease: &Lease,
        former: Option<Bundle>,
        progress: &Progress,
    ) -> Result<Outcome, IssueError> {
        let Some(issuer) = self.shared.issuers.get(&settings.id) else {
            let problem = format!("there is no issuer for acme.{}", settings.id);
            return Err(IssueError::new(Stage::Preflight, Fault::Internal, problem));
        };
        let key = match &former {
            _ if !target.settings.reuse_key => None,
            Some(former) => Some(Zeroizing::new(former.key.to_string())),
            None => self.predecessors_key(target).await,
        };
        let want = request(target, settings, former.as_ref(), key);
        if settings.id != target.settings.id {
            tracing::warn!(
                "{target}: turning to acme.{}, as acme.{} keeps failing or wants to be left alone",
                settings.id,
                target.settings.id
            );
        }
        if settings.preflight {
            progress.step(Stage::Preflight, format!("checking {}", want.in_short())).await;
            timeout(CHECKS, issuer.preflight(&want)).await.unwrap_or_else(|_| {
                let problem = format!("the checks did not end within {} minutes", CHECKS.as_secs() / 60);
                Err(IssueError::new(Stage::Preflight, Fault::Setup, problem))
            })?;
        }
        let now = self.shared.clock.now();
        self.change(|attempts| attempts.begin(now, &settings.directory));
        // Not asked before it is written that it was: a storage that cannot be written costs no order.
        if let Err(error) = self.write_attempts(target, lease).await {
            self.change(Attempts::abandon);
            return Err(nothing_asked(&error));
        }
        tracing::info!("{target}: asking {} for {}", settings.directory, want.in_short());
        let issued = match timeout(ORDER, issuer.issue(&want, progress)).await {
            Ok(issued) => issued?,
            Err(_) => {
                let problem = format!("no certificate came within {} minutes", ORDER.as_secs() / 60);
                return Err(IssueError::new(Stage::Finalize, Fault::Ca, problem));
            }
        };
        let now = self.shared.clock.now();
        let bundle = Bundle::check(issued, &target.names, &settings.directory, now)
            .map_err(|error| IssueError::new(Stage::Download, Fault::Ca, error.to_string()))?;
        self.save(target, lease, bundle, progress).await
    }

    /// The key of the certificate that has most of these names, where some were added or left out since: what is kept for
    /// DANE is the key, whatever the names (RFC 7671 section 5.1).
    async fn predecessors_key(&self, target: &Target) -> Option<Zeroizing<String>> {
        let storage = &*self.shared.storage;
        let names: Vec<String> = target.names.iter().map(ToString::to_string).collect();
        let kind = format!("/{}", target.key_type);
        let stored = storage.list(&Key::new(keys::CERTIFICATES).ok()?).await.ok()?;
        let mut best: Option<(usize, Bundle)> = None;
        for place in stored.into_iter().filter(|place| place.as_str().ends_with(&kind)).take(MAX_PREDECESSORS)
        {
            let Ok(Some(stored)) = storage.get(&place).await else { continue };
            let Ok(bundle) = Bundle::read(&stored.value) else { continue };
            let common = bundle.names.iter().filter(|name| names.contains(name)).count();
            let rank = |common: usize, bundle: &Bundle| (common, bundle.obtained);
            if common > 0
                && best.as_ref().is_none_or(|(most, other)| rank(*most, other) < rank(common, &bundle))
            {
                best = Some((common, bundle));
            }
        }
        best.map(|(_, bundle)| bundle.key)
    }

    /// Stores a certificate, then that the attempt succeeded. One that cannot be stored is kept for the next turn.
    async fn save(
        &self,
        target: &Target,
        lease: &Lease,
        bundle: Bundle,
        progress: &Progress,
    ) -> Result<Outcome, IssueError> {
        progress.step(Stage::Storage, format!("storing it in {}", self.shared.storage.place())).await;
        let text = bundle
            .write()
            .map_err(|error| IssueError::new(Stage::Storage, Fault::Internal, error.to_string()))?;
        if let Err(error) = self.shared.storage.put(&target.certificate, &text, Guard::Held(lease)).await {
            let outlook = match error {
                StorageError::LeaseLost(_) => {
                    "Its order is still known, and the certificate is fetched again"
                }
                _ => {
                    self.shared.with(self.index, |state| state.unsaved = Some(bundle));
                    "The new certificate is kept in memory, and stored once that is possible"
                }
            };
            let problem = format!("{error}. {outlook}");
            return Err(IssueError::new(Stage::Storage, Fault::Storage, problem));
        }
        // It has served. One that stays is found out by the next order, which asks the CA about it.
        if let Err(error) = self.shared.storage.delete(&target.order, Guard::Always).await {
            tracing::debug!("{target}: {error}");
        }
        self.change(Attempts::succeed);
        let facts = Facts::of(&bundle, target);
        facts.tell_clamped(target);
        self.shared.with(self.index, |state| {
            (state.facts, state.asked, state.unsaved) = (Some(facts), None, None);
        });
        if let Err(error) = self.write_attempts(target, lease).await {
            // The certificate itself says that the attempt succeeded.
            tracing::warn!("{target}: {error}");
        }
        let Bundle { serial, not_after, issuer, .. } = bundle;
        tracing::info!(serial, issuer, not_after, "{target}: a new certificate is stored");
        Ok(Outcome::Renewed { serial, not_after })
    }

    /// Keeps a failure, and says what is wrong and when it is tried again.
    async fn fail(
        &self,
        target: &Target,
        lease: Option<&Lease>,
        settings: &Settings,
        error: IssueError,
    ) -> Outcome {
        let now = self.shared.clock.now();
        // Nothing is in flight any more; who asks for another attempt waits for the rest of this one.
        self.shared.with(self.index, |state| state.stage = None);
        self.change(|attempts| {
            let jitter = fraction(&(target.certificate.as_str(), attempts.failures, now));
            attempts.fail(now, &settings.directory, &error, jitter);
        });
        if let Some(lease) = lease
            && let Err(error) = self.write_attempts(target, lease).await
        {
            tracing::warn!("{target}: the failure cannot be kept over a restart: {error}");
        }
        let siblings = self.shared.histories(&self.shared.states(), self.index);
        let next = self
            .shared
            .with(self.index, |state| state.next_order(target, &siblings.iter().collect::<Vec<_>>(), now).at);
        let wait = u64::try_from(next.unwrap_or(now).saturating_sub(now)).unwrap_or(0);
        for failure in &error.failures {
            tracing::error!(stage = error.stage.as_str(), fault = error.fault.label(), "{target}: {failure}");
        }
        tracing::warn!("{target}: next attempt in {}; other certificates are not affected", span(wait));
        Outcome::Failed(error)
    }

    fn change(&self, change: impl FnOnce(&mut Attempts)) {
        self.shared.with(self.index, |state| change(&mut state.attempts));
    }

    /// Writes the history down; where that fails the one in memory counts.
    async fn write_attempts(&self, target: &Target, lease: &Lease) -> Result<(), StorageError> {
        let attempts = self.shared.with(self.index, |state| {
            state.unwritten = true;
            serde_json::to_vec(&state.attempts)
        });
        let Some(Ok(text)) = attempts else { return Ok(()) };
        self.shared.storage.put(&target.attempts, &text, Guard::Held(lease)).await?;
        self.shared.with(self.index, |state| state.unwritten = false);
        Ok(())
    }
}

/// Holds on to a lease; ends when it is lost, or when storage cannot be reached for as long as it lasts.
async fn keep(storage: &dyn Storage, lease: &Lease) {
    let mut failures = 0;
    while failures < LEASE.as_secs() / KEEP.as_secs() {
        sleep(KEEP).await;
        match storage.renew(lease, LEASE).await {
            Ok(()) => failures = 0,
            Err(StorageError::LeaseLost(_)) => return,
            Err(error) => {
                tracing::warn!("{error}");
                failures += 1;
            }
        }
    }
}

fn request(
    target: &Target,
    settings: &Settings,
    former: Option<&Bundle>,
    reuse_key: Option<Zeroizing<String>>,
) -> OrderRequest {
    let same_ca = former.filter(|former| former.directory == settings.directory);
    OrderRequest {
        names: target.names.clone(),
        key_type: target.key_type,
        reuse_key,
        profile: settings.profile.clone(),
        replaces: same_ca.and_then(Bundle::leaf).map(Replaces),
    }
}

/// What storage refused, as a reason for asking nothing of the CA.
fn nothing_asked(error: &StorageError) -> IssueError {
    let problem = format!("{error}. Nothing was asked of the CA");
    IssueError::new(Stage::Preflight, Fault::Storage, problem)
}
