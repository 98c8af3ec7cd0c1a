//! Proving names: what a CA looks for is put in place, and taken away again whatever happens.

mod answers;
pub(crate) mod dns_01;

use std::sync::Arc;

use tokio::task::JoinSet;
use waxseal_storage::{Key, keys};

pub use answers::Answers;

use crate::issuer::{Failure, Fault, IssueError, Stage};
use crate::name::Name;
use crate::settings::ChallengeKind;
use crate::words;
use answers::PostError;
use dns_01::{Dns01, Record};

/// What one challenge asks for.
pub(crate) struct Task<'a> {
    pub(crate) name: &'a Name,
    pub(crate) token: &'a str,
    pub(crate) key_authorization: &'a str,
    /// SHA-256 of the key authorization.
    pub(crate) digest: &'a [u8],
    /// The same in base64url.
    pub(crate) dns_value: &'a str,
}

/// One thing put in place.
#[derive(Clone, Debug)]
enum Posted {
    Answer(Key),
    /// The record, whether it was set, and the name that it proves.
    Record(Record, Certainty, Name),
}

/// Whether a record was set, or its provider failed half-way at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Certainty {
    Set,
    Perhaps,
}

/// Everything that one order has put in place. Dropped before [`Proofs::withdraw`], it is taken away in the background.
#[derive(Debug)]
pub(crate) struct Proofs {
    answers: Arc<Answers>,
    dns: Option<Arc<Dns01>>,
    posted: Vec<Posted>,
}

impl Proofs {
    pub(crate) fn new(answers: Arc<Answers>, dns: Option<Arc<Dns01>>) -> Self {
        Self { answers, dns, posted: Vec::new() }
    }

    /// Puts the answer to one challenge in place.
    pub(crate) async fn post(&mut self, kind: ChallengeKind, task: &Task<'_>) -> Result<(), IssueError> {
        let failed = |error: IssueError| error.about(task.name);
        match kind {
            ChallengeKind::Http01 => {
                let key = keys::http_01(task.token).map_err(|_| {
                    let said = format!("the CA gives a token that is none: {:?}", task.token);
                    failed(IssueError::new(Stage::Challenge, Fault::Ca, said))
                })?;
                self.posted.push(Posted::Answer(key));
                let posted = self.answers.post_http_01(task.token, task.key_authorization).await;
                posted.map_err(|e| failed(words::storage(Stage::Challenge, &e)))
            }
            ChallengeKind::TlsAlpn01 => {
                let key = keys::tls_alpn_01(&task.name.sni())
                    .map_err(|e| failed(words::storage(Stage::Challenge, &e.into())))?;
                self.posted.push(Posted::Answer(key));
                match self.answers.post_tls_alpn_01(task.name, task.digest).await {
                    Ok(()) => Ok(()),
                    Err(PostError::Storage(e)) => Err(failed(words::storage(Stage::Challenge, &e))),
                    Err(e @ PostError::Certificate(_)) => {
                        Err(failed(IssueError::new(Stage::Challenge, Fault::Internal, e.to_string())))
                    }
                }
            }
            ChallengeKind::Dns01 => self.post_record(task).await.map_err(failed),
        }
    }

    async fn post_record(&mut self, task: &Task<'_>) -> Result<(), IssueError> {
        let dns = self.dns.clone().ok_or_else(|| {
            IssueError::new(Stage::Challenge, Fault::Configuration, "dns-01 needs acme.ID.provider")
        })?;
        let setup = |e: dns_01::Dns01Error| IssueError::new(Stage::Challenge, Fault::Setup, e.to_string());
        let record = dns.record(task.name, task.dns_value).await.map_err(setup)?;
        // Noted before it is set: a provider that fails half-way is cleaned up after too.
        self.posted.push(Posted::Record(record.clone(), Certainty::Perhaps, task.name.clone()));
        dns.set(&record).await.map_err(setup)?;
        if let Some(Posted::Record(_, certainty, _)) = self.posted.last_mut() {
            *certainty = Certainty::Set;
        }
        Ok(())
    }

    /// Takes a record for set that an earlier attempt may have set.
    pub(crate) async fn note_record(&mut self, name: &Name, value: &str) {
        let Some(dns) = &self.dns else { return };
        match dns.record(name, value).await {
            Ok(record) => self.posted.push(Posted::Record(record, Certainty::Perhaps, name.clone())),
            Err(error) => {
                tracing::debug!(%error, "{name}: whether a record was left behind cannot be found out");
            }
        }
    }

    /// Waits until a CA would see everything, for all records at once. What is not seen is told name by name.
    pub(crate) async fn settle(&self) -> Result<(), IssueError> {
        let Some(dns) = &self.dns else { return Ok(()) };
        let mut waits = JoinSet::new();
        for posted in &self.posted {
            if let Posted::Record(record, Certainty::Set, name) = posted {
                let (dns, record, name) = (Arc::clone(dns), record.clone(), name.clone());
                waits.spawn(async move {
                    let seen = dns.wait_until_seen(&record).await;
                    seen.map_err(|e| Failure { name: Some(name.to_string()), problem: e.to_string() })
                });
            }
        }
        let mut failures: Vec<Failure> = Vec::new();
        while let Some(seen) = waits.join_next().await {
            match seen {
                Ok(seen) => failures.extend(seen.err()),
                Err(error) => {
                    return Err(IssueError::new(Stage::Challenge, Fault::Internal, error.to_string()));
                }
            }
        }
        if failures.is_empty() {
            return Ok(());
        }
        failures.sort_by(|a, b| a.name.cmp(&b.name));
        let mut error = IssueError::new(Stage::Challenge, Fault::Setup, String::new());
        error.failures = failures;
        Err(error)
    }

    /// Takes everything away.
    pub(crate) async fn withdraw(mut self) {
        let posted = std::mem::take(&mut self.posted);
        withdraw(Arc::clone(&self.answers), self.dns.clone(), posted).await;
    }
}

impl Drop for Proofs {
    fn drop(&mut self) {
        let posted = std::mem::take(&mut self.posted);
        let runtime = tokio::runtime::Handle::try_current();
        if let (false, Ok(runtime)) = (posted.is_empty(), runtime) {
            runtime.spawn(withdraw(Arc::clone(&self.answers), self.dns.clone(), posted));
        }
    }
}

async fn withdraw(answers: Arc<Answers>, dns: Option<Arc<Dns01>>, posted: Vec<Posted>) {
    for posted in posted {
        match (posted, &dns) {
            (Posted::Answer(key), _) => answers.withdraw(&key).await,
            (Posted::Record(record, certainty, _), Some(dns)) => match (dns.remove(&record).await, certainty)
            {
                (Err(error), Certainty::Set) => {
                    tracing::warn!(
                        record = record.name,
                        error,
                        "the TXT record of a challenge cannot be removed"
                    );
                }
                // Whoever did not set it has been complained of already.
                (Err(_), Certainty::Perhaps) | (Ok(()), _) => {}
            },
            (Posted::Record(..), None) => {}
        }
    }
}
