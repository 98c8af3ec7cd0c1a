//! Orders at a CA, from the directory to the certificate (RFC 8555 section 7.4).
//!
//! The library speaks the protocol; which order is gone on with, how long anything is waited for, what is put in
//! place and taken away, and what is told of a failure are settled here.

mod key;
mod lost;
mod pending;
mod run;
mod validation;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use instant_acme::CertificateIdentifier;
use rustls_pki_types::CertificateDer;
use waxseal_storage::{BoxFuture, Storage};

use crate::account::Accounts;
use crate::challenge::Answers;
use crate::challenge::dns_01::Dns01;
use crate::directory::Directory;
use crate::dns::Dns;
use crate::http::Http;
use crate::issuer::{Fault, IssueError, Issued, Issuer, OrderRequest, Progress, RenewalWindow, Stage};
use crate::preflight::{Listening, Preflight, ThisMachine, Wires};
use crate::roots::{Roots, RootsError};
use crate::settings::{ChallengeKind, Settings};
use crate::words;
use pending::Place;
use run::Run;

/// When to ask for renewal information again where the CA does not say (RFC 9773 section 4.3.2 says it must).
const ASK_AGAIN: Duration = Duration::from_secs(6 * 3600);

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

    fn preflight<'a>(&'a self, want: &'a OrderRequest) -> BoxFuture<'a, Result<(), IssueError>> {
        Box::pin(async move {
            let directory = self.directory().await;
            let account = match &directory {
                Ok(directory) => self.accounts().address(directory).await,
                Err(_) => None,
            };
            let preflight = Preflight {
                settings: &self.settings,
                listening: &self.listening,
                storage: &*self.storage,
                answers: &self.answers,
                dns_01: self.dns_01.as_deref(),
                account: account.as_deref(),
                names: &*self.dns,
                dial: &Wires,
                machine: &ThisMachine,
            };
            preflight.check(&directory, &want.names).await
        })
    }
}
