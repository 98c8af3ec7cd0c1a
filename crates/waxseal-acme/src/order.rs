//! Orders at a CA, from the directory to the certificate (RFC 8555 section 7.4).
//!
//! The library speaks the protocol; which order is gone on with, how long anything is waited for, what is put in
//! place and taken away, and what is told of a failure are settled here.

mod key;
mod pending;
mod validation;

use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use instant_acme::{
    Account, CertificateIdentifier, Error as AcmeError, Identifier, NewOrder, Order, OrderStatus,
};
use rustls_pki_types::CertificateDer;
use waxseal_storage::{BoxFuture, Storage, keys};

use crate::account::{Accounts, MAX_NONCES, Open};
use crate::bundle::Bundle;
use crate::challenge::dns_01::Dns01;
use crate::challenge::{Answers, Proofs, storage};
use crate::directory::Directory;
use crate::dns::Dns;
use crate::http::{Http, Roots, RootsError};
use crate::issuer::{
    Failure, Fault, IssueError, Issued, Issuer, OrderRequest, Progress, RenewalWindow, Replaces, Stage,
};
use crate::name::NameKind;
use crate::preflight::{Listening, Preflight, ThisMachine, Wires};
use crate::settings::{ChallengeKind, Settings};
use crate::words;
use pending::{Pending, Place};

/// How long a CA may take to make a certificate once all names are proved.
const ISSUE_TIME: Duration = Duration::from_secs(180);
/// Pauses between two looks at an order: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// When to ask for renewal information again where the CA does not say (RFC 9773 section 4.3.2 says it must).
const ASK_AGAIN: Duration = Duration::from_secs(6 * 3600);

/// A step of the library, again for as long as the CA refuses it for its nonce alone. The library gives up after
/// three, which a CA that is short of them does to one order in fifty.
macro_rules! with_fresh_nonce {
    ($step:expr) => {{
        let mut refusals = 0;
        loop {
            match $step {
                Err(error) if refusals < MAX_NONCES && words::is_stale_nonce(&error) => refusals += 1,
                done => break done,
            }
        }
    }};
}
use with_fresh_nonce;

/// Why there is no issuer. All of it stands in the configuration or on this machine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssuerError {
    /// No roots to believe the CA by.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// The provider of dns-01.
    #[error("{0}")]
    Provider(String),
}

/// A CA as one `acme.ID` of the configuration describes it.
pub struct AcmeIssuer {
    settings: Settings,
    storage: Arc<dyn Storage>,
    answers: Arc<Answers>,
    http: Http,
    dns: Arc<Dns>,
    dns_01: Option<Arc<Dns01>>,
    listening: Listening,
}

impl fmt::Debug for AcmeIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcmeIssuer").field("id", &self.settings.id).finish_non_exhaustive()
    }
}

/// One order under way.
struct Run<'a> {
    issuer: &'a AcmeIssuer,
    want: &'a OrderRequest,
    progress: &'a Progress,
    directory: Directory,
    place: Place<'a>,
}

impl AcmeIssuer {
    /// An issuer for `settings`; `listening` says which listeners of this process answer challenges.
    ///
    /// # Errors
    ///
    /// [`IssuerError`].
    pub fn new(
        settings: Settings,
        storage: Arc<dyn Storage>,
        answers: Arc<Answers>,
        dns: Arc<Dns>,
        listening: Listening,
    ) -> Result<Self, IssuerError> {
        let roots = settings.ca.clone().map_or(Roots::System, Roots::Pem);
        let http = Http::new(&roots, &dns)?;
        let dns_01 = match (&settings.dns, settings.challenge) {
            (Some(dns_settings), ChallengeKind::Dns01) => {
                let made = Dns01::new(dns_settings, Arc::clone(&dns));
                Some(Arc::new(made.map_err(|e| IssuerError::Provider(e.to_string()))?))
            }
            _ => None,
        };
        Ok(Self { settings, storage, answers, http, dns, dns_01, listening })
    }

    /// The same, waiting no longer than `patience` for one answer of the CA.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.http = self.http.with_patience(patience);
        self
    }

    async fn directory(&self) -> Result<Directory, IssueError> {
        let fetched = Directory::fetch(&self.http, &self.settings.directory).await;
        fetched.map_err(|e| words::no_directory(&e))
    }

    fn accounts(&self) -> Accounts<'_> {
        Accounts {
            http: &self.http,
            storage: &*self.storage,
            contact: &self.settings.contact,
            eab: self.settings.eab.as_ref(),
        }
    }

    async fn run(&self, want: &OrderRequest, progress: &Progress) -> Result<Issued, IssueError> {
        let url = &self.settings.directory;
        progress.step(Stage::Directory, format!("asking {url} what it offers")).await;
        let directory = self.directory().await?;
        let place = Place::new(&*self.storage, want)?;
        let run = Run { issuer: self, want, progress, directory, place };
        run.whole().await
    }

    async fn window(&self, leaf: &CertificateDer<'_>) -> Result<Option<RenewalWindow>, IssueError> {
        let directory = self.directory().await?;
        let Some(base) = &directory.renewal_info else { return Ok(None) };
        // RFC 9773 section 4.1 names certificates by an extension that this one may lack.
        let Ok(id) = CertificateIdentifier::try_from(leaf) else { return Ok(None) };
        let url = format!("{}/{id}", base.trim_end_matches('/'));
        let reply = match self.http.get(&url).await {
            Ok(reply) => reply,
            Err(error) => return Err(words::unanswered(Stage::Directory, &error)),
        };
        let info: instant_acme::RenewalInfo = serde_json::from_slice(&reply.body).map_err(|e| {
            let said = format!("{url} answers with something that is no renewal information: {e}");
            IssueError::new(Stage::Directory, Fault::Ca, said)
        })?;
        let wait = reply.retry_after.and_then(|at| at.duration_since(SystemTime::now()).ok());
        Ok(Some(RenewalWindow {
            start: info.suggested_window.start.unix_timestamp(),
            end: info.suggested_window.end.unix_timestamp(),
            explanation: info.explanation_url,
            retry_after: wait.unwrap_or(ASK_AGAIN).as_secs(),
        }))
    }
}

impl Issuer for AcmeIssuer {
    fn issue<'a>(
        &'a self,
        want: &'a OrderRequest,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<Issued, IssueError>> {
        Box::pin(self.run(want, progress))
    }

    fn renewal_info<'a>(
        &'a self,
        leaf: &'a CertificateDer<'a>,
    ) -> BoxFuture<'a, Result<Option<RenewalWindow>, IssueError>> {
        Box::pin(self.window(leaf))
    }

    fn preflight<'a>(&'a self, want: &'a OrderRequest) -> BoxFuture<'a, Vec<Failure>> {
        Box::pin(async move {
            let directory = self.directory().await;
            let preflight = Preflight {
                settings: &self.settings,
                listening: &self.listening,
                storage: &*self.storage,
                answers: &self.answers,
                dns_01: self.dns_01.as_deref(),
                names: &*self.dns,
                dial: &Wires,
                machine: &ThisMachine,
            };
            preflight.failures(&directory, &want.names).await
        })
    }
}

impl Run<'_> {
    async fn whole(&self) -> Result<Issued, IssueError> {
        let accounts = self.issuer.accounts();
        self.step(Stage::Account, format!("using the account at {}", self.directory.url)).await;
        let mut open = accounts.open(&self.directory).await?;
        let (order, pending) = match self.order(&open).await {
            Err(Refusal::NoAccount) => {
                tracing::warn!(
                    "{} does not know our account any more; registering again",
                    self.directory.url
                );
                accounts.forget(&self.directory).await?;
                open = accounts.open(&self.directory).await?;
                self.order(&open).await.map_err(Refusal::told)?
            }
            done => done.map_err(Refusal::told)?,
        };
        let issued = self.follow(order, &pending).await;
        if issued.as_ref().is_err_and(ends_order) {
            self.place.forget().await;
        }
        issued
    }

    async fn step(&self, stage: Stage, text: String) {
        self.progress.step(stage, text).await;
    }

    /// The order that is under way, else a new one.
    async fn order(&self, open: &Open) -> Result<(Order, Pending), Refusal> {
        if let Some(pending) = self.place.read(&self.directory.url, self.want).await? {
            if let Some(order) = self.resume(&open.account, &pending).await? {
                return Ok((order, pending));
            }
            self.place.forget().await;
        }
        let names: Vec<String> = self.want.name_texts();
        self.step(Stage::Order, format!("ordering a certificate for {}", names.join(", "))).await;
        let key = match &self.want.reuse_key {
            Some(key) => key.clone(),
            None => key::make_key(self.want.key_type).await.map_err(|e| {
                let said = format!("a key of type {} cannot be made: {e}", self.want.key_type);
                IssueError::new(Stage::Order, Fault::Internal, said)
            })?,
        };
        let order = self.make_order(open).await?;
        let pending = Pending {
            directory: self.directory.url.clone(),
            url: order.url().to_owned(),
            key,
            profile: self.want.profile.clone(),
        };
        self.place.keep(&pending).await?;
        Ok((order, pending))
    }

    /// The order that an earlier process left; `None` when nothing can come of it any more.
    async fn resume(&self, account: &Account, pending: &Pending) -> Result<Option<Order>, IssueError> {
        self.step(Stage::Order, format!("going on with the order {}", pending.url)).await;
        match with_fresh_nonce!(account.order(pending.url.clone()).await) {
            Ok(mut order) => {
                let useful = match order.state().status {
                    OrderStatus::Invalid => false,
                    OrderStatus::Valid => !self.is_kept(&mut order).await?,
                    _ => true,
                };
                Ok(useful.then_some(order))
            }
            Err(error) => {
                let gone = words::reasons(&error).is_some_and(|it| !it.is("rateLimited"))
                    || words::status(&error).is_some_and(|it| it.is_client_error());
                if gone { Ok(None) } else { Err(words::refused(Stage::Order, &error)) }
            }
        }
    }

    /// Whether the certificate of a finished order is the one in storage already: then the order has served.
    async fn is_kept(&self, order: &mut Order) -> Result<bool, IssueError> {
        let place = keys::certificate(&self.want.name_texts(), self.want.key_type.as_str());
        let place = place.map_err(|e| storage(&e.into()))?;
        let kept = self.issuer.storage.get(&place).await.map_err(|e| storage(&e))?;
        let Some(kept) = kept.and_then(|it| Bundle::read(&it.value).ok()) else { return Ok(false) };
        let chain = with_fresh_nonce!(order.certificate().await);
        let chain = chain.map_err(|e| words::refused(Stage::Order, &e))?;
        Ok(chain.is_some_and(|chain| chain == kept.chain))
    }

    async fn make_order(&self, open: &Open) -> Result<Order, Refusal> {
        let identifiers: Vec<Identifier> = self
            .want
            .names
            .iter()
            .map(|name| match name.kind() {
                NameKind::Ip(ip) => Identifier::Ip(ip),
                NameKind::Dns(_) | NameKind::Wildcard(_) => Identifier::Dns(name.to_string()),
            })
            .collect();
        let profile = match self.want.profile.as_deref().map(|it| self.directory.profile(it)) {
            Some(Err(warning)) => {
                tracing::warn!("{warning}");
                None
            }
            Some(Ok(profile)) => Some(profile),
            None => None,
        };
        let replaces = self.want.replaces.as_ref().filter(|_| self.directory.renewal_info.is_some());
        let replaces = replaces.and_then(|Replaces(leaf)| CertificateIdentifier::try_from(leaf).ok());
        let Some(replaces) = replaces else {
            return self.send_order(open, &new_order(&identifiers, profile)).await;
        };
        *open.made.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let replacing = new_order(&identifiers, profile).replaces(replaces);
        let replacing = with_fresh_nonce!(open.account.new_order(&replacing).await);
        match replacing {
            Ok(order) => Ok(order),
            Err(error) if words::reasons(&error).is_some_and(|it| it.is("rateLimited")) => {
                Err(Refusal::of(&error))
            }
            Err(error) => {
                // A CA that does not repeat `replaces` has made the order all the same; one that refuses to replace
                // this certificate (RFC 9773 section 5) may make an order that replaces none.
                tracing::debug!(%error, "ordering without saying what is replaced");
                let made = open.made.lock().unwrap_or_else(PoisonError::into_inner).take();
                match made {
                    Some(url) => {
                        with_fresh_nonce!(open.account.order(url.clone()).await).map_err(|e| Refusal::of(&e))
                    }
                    None => self.send_order(open, &new_order(&identifiers, profile)).await,
                }
            }
        }
    }

    async fn send_order(&self, open: &Open, new: &NewOrder<'_>) -> Result<Order, Refusal> {
        with_fresh_nonce!(open.account.new_order(new).await).map_err(|e| Refusal::of(&e))
    }

    /// From an order, in whatever state, to the certificate.
    async fn follow(&self, mut order: Order, pending: &Pending) -> Result<Issued, IssueError> {
        if order.state().status == OrderStatus::Pending {
            let mut proofs = Proofs::new(Arc::clone(&self.issuer.answers), self.issuer.dns_01.clone());
            let proved = self.prove(&mut order, &mut proofs).await;
            // Before anything else, so that nothing stays behind that a CA might ask for no more.
            proofs.withdraw().await;
            proved?;
        }
        if order.state().status == OrderStatus::Ready {
            self.step(Stage::Finalize, "all names are proved; asking for the certificate".to_owned()).await;
            let csr = key::request(&self.want.names, &pending.key)
                .map_err(|e| IssueError::new(Stage::Finalize, Fault::Internal, e))?;
            let done = with_fresh_nonce!(order.finalize_csr(&csr).await);
            done.map_err(|e| words::refused(Stage::Finalize, &e))?;
        }
        self.wait_while(&mut order, OrderStatus::Processing).await?;
        self.step(Stage::Download, "fetching the certificate".to_owned()).await;
        let chain = with_fresh_nonce!(order.certificate().await);
        let chain = chain.map_err(|e| words::refused(Stage::Download, &e))?.ok_or_else(|| {
            IssueError::new(
                Stage::Download,
                Fault::Ca,
                "the CA says that the certificate is not ready after all",
            )
        })?;
        self.step(Stage::Storage, "checking the certificate".to_owned()).await;
        let issued = Issued { chain, key: pending.key.clone() };
        Bundle::check(issued.clone(), &self.want.names, &self.directory.url, unix_now())
            .map_err(|unfit| IssueError::new(Stage::Storage, Fault::Ca, unfit.to_string()))?;
        Ok(issued)
    }

    /// Waits for a certificate that the CA is making.
    async fn wait_while(&self, order: &mut Order, status: OrderStatus) -> Result<(), IssueError> {
        let deadline = tokio::time::Instant::now() + ISSUE_TIME;
        let mut pause = FIRST_PAUSE;
        while order.state().status == status {
            if tokio::time::Instant::now() > deadline {
                let said = format!("the CA has not made the certificate within {} s", ISSUE_TIME.as_secs());
                return Err(IssueError::new(Stage::Finalize, Fault::Ca, said));
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
            let looked = with_fresh_nonce!(order.refresh().await.map(|_| ()));
            looked.map_err(|e| words::refused(Stage::Finalize, &e))?;
        }
        let state = order.state();
        match (&state.error, state.status) {
            (Some(error), _) => Err(words::problem(Stage::Finalize, &error.into())),
            (None, OrderStatus::Valid) => Ok(()),
            (None, _) => Err(IssueError::new(
                Stage::Finalize,
                Fault::Ca,
                "the order has expired or was given up by the CA; a new one is made next time",
            )),
        }
    }
}

/// Why there is no order.
enum Refusal {
    /// The CA does not know the account.
    NoAccount,
    Told(IssueError),
}

impl Refusal {
    fn of(error: &AcmeError) -> Self {
        match words::reasons(error) {
            Some(problem) if problem.is("accountDoesNotExist") => Self::NoAccount,
            _ => Self::Told(words::refused(Stage::Order, error)),
        }
    }

    fn told(self) -> IssueError {
        match self {
            Self::NoAccount => IssueError::new(
                Stage::Order,
                Fault::Ca,
                "the CA does not know the account that it has just made",
            ),
            Self::Told(error) => error,
        }
    }
}

impl From<IssueError> for Refusal {
    fn from(error: IssueError) -> Self {
        Self::Told(error)
    }
}

fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

fn new_order<'a>(identifiers: &'a [Identifier], profile: Option<&'a str>) -> NewOrder<'a> {
    let new = NewOrder::new(identifiers);
    match profile {
        Some(profile) => new.profile(profile),
        None => new,
    }
}

/// Whether the same order would fail in the same way again. All else can be tried once more; [`Run::resume`] finds out
/// when the CA has given it up.
fn ends_order(error: &IssueError) -> bool {
    match error.stage {
        Stage::Finalize => error.fault == Fault::Configuration,
        Stage::Storage => error.fault == Fault::Ca,
        _ => false,
    }
}
