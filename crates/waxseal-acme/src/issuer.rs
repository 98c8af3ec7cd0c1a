//! Whoever can be asked for a certificate: the seam between timing and the wire.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use tokio::sync::mpsc;
use waxseal_storage::BoxFuture;
use zeroize::Zeroizing;

use crate::name::Name;
use crate::settings::KeyType;

/// A CA with an account there, able to prove names to it.
pub trait Issuer: Send + Sync + fmt::Debug {
    /// Obtains a certificate.
    ///
    /// The caller holds the certificate's lease. An order that an earlier process left unfinished (its address and key
    /// under [`waxseal_storage::keys::order`]) is gone on with rather than a new one made.
    fn issue<'a>(
        &'a self,
        want: &'a OrderRequest,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<Issued, IssueError>>;

    /// When the CA would like `leaf` to be renewed; `None` where it does not say (RFC 9773).
    fn renewal_info<'a>(
        &'a self,
        leaf: &'a CertificateDer<'a>,
    ) -> BoxFuture<'a, Result<Option<RenewalWindow>, IssueError>>;

    /// Finds everything that would make an order fail, without asking the CA for one. The error is of
    /// [`Stage::Preflight`]; where the CA itself could not be asked, its fault and its wish to be left alone are in it.
    fn preflight<'a>(&'a self, want: &'a OrderRequest) -> BoxFuture<'a, Result<(), IssueError>>;
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct OrderRequest {
    /// The names, the first one first.
    pub names: Vec<Name>,
    /// What kind of key to make.
    pub key_type: KeyType,
    /// The key to use instead, PEM (PKCS #8).
    pub reuse_key: Option<Zeroizing<String>>,
    /// The profile, where one is wanted.
    pub profile: Option<String>,
    /// The certificate that the new one stands in for (RFC 9773 section 5), where it is from the same CA.
    pub replaces: Option<Replaces>,
}

impl OrderRequest {
    /// The names as texts, for keys of storage.
    pub fn name_texts(&self) -> Vec<String> {
        self.names.iter().map(Name::to_string).collect()
    }

    /// Its names in one line, however many there are.
    pub fn in_short(&self) -> String {
        const SHOWN: usize = 3;
        let names = self.name_texts();
        let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
        match names.len().checked_sub(SHOWN) {
            None | Some(0) => shown,
            Some(more) => format!("{shown} and {more} more"),
        }
    }
}

/// The leaf of a certificate that is to be replaced.
#[derive(Clone, Debug)]
pub struct Replaces(pub CertificateDer<'static>);

/// What was obtained.
#[derive(Clone)]
pub struct Issued {
    /// Leaf first, PEM.
    pub chain: String,
    /// Its key, PEM (PKCS #8).
    pub key: Zeroizing<String>,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").finish_non_exhaustive()
    }
}

/// When the CA would like a certificate to be renewed (RFC 9773 section 4.2), in unix seconds.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RenewalWindow {
    /// Its begin.
    pub start: i64,
    /// Its end. Both in the past: renew at once.
    pub end: i64,
    /// A page that explains, where the CA gives one.
    pub explanation: Option<String>,
    /// In how many seconds to ask again.
    pub retry_after: u64,
}

/// How far an order had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Checks before the CA is asked.
    Preflight,
    /// Reaching the CA.
    Directory,
    /// The account there.
    Account,
    /// Making the order.
    Order,
    /// Putting the answer to a challenge in place.
    Challenge,
    /// The CA's look at the answer.
    Validation,
    /// Asking for the certificate, once all names are proved.
    Finalize,
    /// Fetching it.
    Download,
    /// Checking and keeping it.
    Storage,
}

impl Stage {
    /// For operators.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preflight => "checks",
            Self::Directory => "reaching the CA",
            Self::Account => "account",
            Self::Order => "order",
            Self::Challenge => "challenge",
            Self::Validation => "validation",
            Self::Finalize => "finalize",
            Self::Download => "download",
            Self::Storage => "storage",
        }
    }

    /// Whether an order stands at the CA, and counts there.
    pub fn has_order(self) -> bool {
        self > Self::Order
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The surroundings: names that do not lead here, a port that is closed, a record that does not appear.
    Setup,
    /// The configuration: an unknown profile, a wrong EAB key, a name that the CA's policy forbids.
    Configuration,
    /// The CA said that it is too much.
    RateLimit,
    /// The CA does not answer, or answers what no CA should.
    Ca,
    /// Our own storage.
    Storage,
    /// Ourselves.
    Internal,
}

impl Fault {
    /// Stable, for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Configuration => "configuration",
            Self::RateLimit => "rate-limit",
            Self::Ca => "ca",
            Self::Storage => "storage",
            Self::Internal => "internal",
        }
    }
}

/// What keeps one name, or a whole order, from its certificate.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Failure {
    /// The name, where it is about one.
    pub name: Option<String>,
    /// What is wrong and the one thing to do, in plain words.
    pub problem: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name}: {}", self.problem),
            None => f.write_str(&self.problem),
        }
    }
}

/// Why no certificate was obtained.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{stage}: {}", texts(.failures))]
pub struct IssueError {
    /// How far the order had come.
    pub stage: Stage,
    /// What failed: one for each name that failed, or one for the order as a whole.
    pub failures: Vec<Failure>,
    /// Whose fault it is.
    pub fault: Fault,
    /// How long the CA wants to be left alone (`Retry-After`, RFC 8555 section 6.6).
    pub retry_after: Option<Duration>,
}

fn texts(failures: &[Failure]) -> String {
    failures.iter().map(Failure::to_string).collect::<Vec<_>>().join("; ")
}

impl IssueError {
    /// A failure of the order as a whole.
    pub fn new(stage: Stage, fault: Fault, problem: impl Into<String>) -> Self {
        let failure = Failure { name: None, problem: problem.into() };
        Self { stage, failures: vec![failure], fault, retry_after: None }
    }

    /// The same, about one name.
    #[must_use]
    pub fn about(mut self, name: &Name) -> Self {
        for failure in &mut self.failures {
            failure.name = Some(name.to_string());
        }
        self
    }

    /// The same, with the CA's wish to be left alone.
    #[must_use]
    pub fn after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }
}

/// A step of an order, for whoever looks on.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Step {
    /// Which.
    pub stage: Stage,
    /// In the operator's words, as in "proving mail.example.org by http-01".
    pub text: String,
}

/// Where steps are told. Telling costs nothing where nobody looks on, and never waits.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    steps: Option<mpsc::UnboundedSender<Step>>,
    note: Option<Note>,
    brake: Option<Arc<Brake>>,
}

/// Takes down which stage is reached.
#[derive(Clone)]
struct Note(Arc<dyn Fn(Stage) + Send + Sync>);

impl fmt::Debug for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Note")
    }
}

/// Stops an order at a step, for tests of what a crash there leaves behind.
#[derive(Debug)]
pub struct Brake {
    stage: Stage,
    reached: tokio::sync::Notify,
}

impl Progress {
    /// Nobody looks on.
    pub fn unseen() -> Self {
        Self::default()
    }

    /// Steps are sent to the receiver. An order has few steps, so that what is unread stays small.
    pub fn seen() -> (Self, mpsc::UnboundedReceiver<Step>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { steps: Some(sender), ..Self::default() }, receiver)
    }

    /// The same, and `note` is told each stage.
    pub(crate) fn noted(&self, note: impl Fn(Stage) + Send + Sync + 'static) -> Self {
        Self { note: Some(Note(Arc::new(note))), ..self.clone() }
    }

    /// The same, stopping for ever at the first step of `stage`.
    #[must_use]
    pub fn stopping_at(mut self, stage: Stage) -> (Self, Arc<Brake>) {
        let brake = Arc::new(Brake { stage, reached: tokio::sync::Notify::new() });
        self.brake = Some(Arc::clone(&brake));
        (self, brake)
    }

    /// Tells a step, before it is done.
    pub async fn step(&self, stage: Stage, text: impl Into<String>) {
        let text = text.into();
        tracing::debug!(stage = stage.as_str(), "{text}");
        if let Some(Note(note)) = &self.note {
            note(stage);
        }
        if let Some(sender) = &self.steps {
            // The one who looked on may have gone.
            let _ = sender.send(Step { stage, text });
        }
        if let Some(brake) = self.brake.as_ref().filter(|brake| brake.stage == stage) {
            brake.reached.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

impl Brake {
    /// Waits until the order stands still.
    pub async fn reached(&self) {
        self.reached.notified().await;
    }
}
