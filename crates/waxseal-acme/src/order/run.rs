//! One order under way: made or gone on with, proved, finished.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use instant_acme::{
    Account, CertificateIdentifier, Error as AcmeError, Identifier, NewOrder, Order, OrderStatus,
};
use waxseal_storage::keys;

use super::AcmeIssuer;
use super::key;
use super::pending::{Pending, Place};
use crate::account::{MAX_NONCES, Open};
use crate::bundle::Bundle;
use crate::challenge::Proofs;
use crate::directory::Directory;
use crate::issuer::{Fault, IssueError, Issued, OrderRequest, Progress, Replaces, Stage};
use crate::name::{Name, NameKind};
use crate::words;

/// How long a CA may take to make a certificate once all names are proved.
const ISSUE_TIME: Duration = Duration::from_secs(180);
/// Pauses between two looks at an order: the first, and the longest.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(250);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The profile of certificates that may be for addresses.
const FOR_ADDRESSES: &str = "shortlived";
/// How a CA says that it will not replace this certificate (RFC 9773 section 5, and what is not understood).
const REPLACES_REFUSED: [&str; 3] = ["alreadyReplaced", "malformed", "unauthorized"];
/// What says nothing about an order but that the CA cannot tell now.
const NOT_NOW: [&str; 3] = ["rateLimited", "serverInternal", "badNonce"];

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
pub(super) use with_fresh_nonce;

/// An order at the CA.
struct UnderWay {
    order: Order,
    pending: Pending,
    /// Whether it was placed by an earlier attempt, which may have left something behind.
    resumed: bool,
}

/// One attempt at a certificate.
pub(super) struct Run<'a> {
    pub(super) issuer: &'a AcmeIssuer,
    pub(super) want: &'a OrderRequest,
    pub(super) progress: &'a Progress,
    pub(super) directory: Directory,
    pub(super) place: Place<'a>,
}

impl Run<'_> {
    pub(super) async fn whole(&self) -> Result<Issued, IssueError> {
        let accounts = self.issuer.accounts();
        self.step(Stage::Account, format!("using the account at {}", self.directory.url)).await;
        let mut open = accounts.open(&self.directory).await?;
        let under_way = match self.order(&open).await {
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
        let issued = self.follow(under_way).await;
        if issued.as_ref().is_err_and(ends_order) {
            self.place.forget().await;
        }
        issued
    }

    pub(super) async fn step(&self, stage: Stage, text: String) {
        self.progress.step(stage, text).await;
    }

    /// The order that is under way, else a new one.
    async fn order(&self, open: &Open) -> Result<UnderWay, Refusal> {
        if let Some(mut pending) = self.place.read(&self.directory.url, self.want).await? {
            if pending.url.is_none() {
                pending.url = self.lost(open).await?;
                self.place.keep(&pending).await?;
            }
            if let Some(url) = &pending.url
                && let Some(order) = self.resume(&open.account, url).await?
            {
                return Ok(UnderWay { order, pending, resumed: true });
            }
            self.place.forget().await;
        }
        self.step(Stage::Order, format!("ordering a certificate for {}", self.want.in_short())).await;
        let key = match &self.want.reuse_key {
            Some(key) => key.clone(),
            None => key::make_key(self.want.key_type).await.map_err(|e| {
                let said = format!("a key of type {} cannot be made: {e}", self.want.key_type);
                IssueError::new(Stage::Order, Fault::Internal, said)
            })?,
        };
        let directory = self.directory.url.clone();
        let mut pending = Pending { directory, url: None, key, profile: self.want.profile.clone() };
        self.place.keep(&pending).await?;
        let order = match self.make_order(open).await {
            Ok(order) => order,
            Err(refusal) => {
                // A plain no leaves nothing to look for.
                if refusal.is_plain() {
                    self.place.forget().await;
                }
                return Err(refusal);
            }
        };
        pending.url = Some(order.url().to_owned());
        self.place.forget_siblings(self.want, order.url()).await?;
        self.place.keep(&pending).await?;
        Ok(UnderWay { order, pending, resumed: false })
    }

    /// The order that an earlier process left; `None` when nothing can come of it any more.
    async fn resume(&self, account: &Account, url: &str) -> Result<Option<Order>, IssueError> {
        self.step(Stage::Order, format!("going on with the order {url}")).await;
        match with_fresh_nonce!(account.order(url.to_owned()).await) {
            Ok(mut order) => {
                let useful = match order.state().status {
                    OrderStatus::Invalid => false,
                    OrderStatus::Valid => !self.is_kept(&mut order).await?,
                    _ => true,
                };
                Ok(useful.then_some(order))
            }
            Err(error) => {
                let busy = |status: &StatusCode| matches!(status.as_u16(), 408 | 429);
                let gone = words::reasons(&error).is_some_and(|it| !NOT_NOW.contains(&it.kind.as_str()))
                    || words::status(&error).is_some_and(|it| it.is_client_error() && !busy(&it));
                if gone { Ok(None) } else { Err(words::refused(Stage::Order, &error)) }
            }
        }
    }

    /// Whether the certificate of a finished order is the one in storage already: then the order has served.
    async fn is_kept(&self, order: &mut Order) -> Result<bool, IssueError> {
        let place = keys::certificate(&self.want.name_texts(), self.want.key_type.as_str());
        let place = place.map_err(|e| words::storage(Stage::Order, &e.into()))?;
        let kept = self.issuer.storage.get(&place).await.map_err(|e| words::storage(Stage::Order, &e))?;
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
        let profile = self.profile();
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
            Err(error) => {
                // A CA that does not repeat `replaces` has made the order all the same; one that refuses to replace
                // this certificate (RFC 9773 section 5) may make an order that replaces none.
                let made = open.made.lock().unwrap_or_else(PoisonError::into_inner).take();
                let refuses =
                    words::reasons(&error).is_some_and(|it| REPLACES_REFUSED.contains(&it.kind.as_str()));
                match made {
                    Some(url) => {
                        with_fresh_nonce!(open.account.order(url.clone()).await).map_err(|e| Refusal::of(&e))
                    }
                    None if refuses => self.send_order(open, &new_order(&identifiers, profile)).await,
                    None => Err(Refusal::of(&error)),
                }
            }
        }
    }

    /// The profile to ask for. Addresses get the one that Let's Encrypt has for them (and other CAs may call so) where
    /// none is wanted; its default takes none.
    fn profile(&self) -> Option<&str> {
        let Some(wanted) = &self.want.profile else {
            let any_address = self.want.names.iter().any(Name::is_ip);
            return any_address.then(|| self.directory.profile(FOR_ADDRESSES).ok()).flatten();
        };
        self.directory.profile(wanted).inspect_err(|warning| tracing::warn!("{warning}")).ok()
    }

    async fn send_order(&self, open: &Open, new: &NewOrder<'_>) -> Result<Order, Refusal> {
        with_fresh_nonce!(open.account.new_order(new).await).map_err(|e| Refusal::of(&e))
    }

    /// From an order, in whatever state, to the certificate.
    async fn follow(&self, UnderWay { mut order, pending, resumed }: UnderWay) -> Result<Issued, IssueError> {
        let mut proofs = Proofs::new(Arc::clone(&self.issuer.answers), self.issuer.dns_01.clone());
        if resumed {
            self.note_former(&mut order, &mut proofs).await;
        }
        let proved = match order.state().status {
            OrderStatus::Pending => self.prove(&mut order, &mut proofs).await,
            _ => Ok(()),
        };
        // Before anything else, so that nothing stays behind that a CA might ask for no more.
        proofs.withdraw().await;
        proved?;
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

    /// Whether the CA said no, and made nothing.
    fn is_plain(&self) -> bool {
        match self {
            Self::NoAccount => true,
            Self::Told(error) => matches!(error.fault, Fault::Configuration | Fault::RateLimit),
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
