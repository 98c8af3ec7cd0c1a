//! Checks before a CA is asked: everything that would make it refuse, found here, told together, each with its remedy.

mod caa;
mod machine;
mod reach;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use waxseal_storage::{BoxFuture, Guard, Key, Storage};

use crate::challenge::Answers;
use crate::challenge::dns_01::Dns01;
use crate::directory::Directory;
use crate::dns::{CaaSet, Dns, DnsError};
use crate::issuer::{Failure, Fault, IssueError, Stage};
use crate::name::{Name, NameKind};
use crate::settings::{ChallengeKind, Settings};

pub(crate) use machine::{Machine, ThisMachine};
pub(crate) use reach::{Dial, Wires};

/// A clock further off than this makes certificates look expired or not yet valid.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(300);
/// Where it is tried whether storage can be written.
const PROBE: &str = "preflight/probe";

/// The listeners of this process that answer challenges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listening {
    /// Those that speak HTTP in the clear, for http-01.
    pub http: Vec<SocketAddr>,
    /// Those that speak TLS from the first byte, for tls-alpn-01.
    pub tls: Vec<SocketAddr>,
}

/// What DNS says of names; a seam for tests.
pub(crate) trait Names: Send + Sync {
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, DnsError>>;
    fn caa<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<CaaSet>, DnsError>>;
}

impl Names for Dns {
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, DnsError>> {
        Box::pin(self.addresses(name))
    }

    fn caa<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<CaaSet>, DnsError>> {
        Box::pin(self.caa(name))
    }
}

/// Everything that the checks look at.
pub(crate) struct Preflight<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) listening: &'a Listening,
    pub(crate) storage: &'a dyn Storage,
    pub(crate) answers: &'a Answers,
    pub(crate) dns_01: Option<&'a Dns01>,
    /// The address of our account at the CA; `None` before it is made.
    pub(crate) account: Option<&'a str>,
    pub(crate) names: &'a dyn Names,
    pub(crate) dial: &'a dyn Dial,
    pub(crate) machine: &'a dyn Machine,
}

impl fmt::Debug for Preflight<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Preflight").field("id", &self.settings.id).finish_non_exhaustive()
    }
}

impl Preflight<'_> {
    /// All that is wrong, as the reason for asking for nothing.
    pub(crate) async fn check(
        &self,
        directory: &Result<Directory, IssueError>,
        names: &[Name],
    ) -> Result<(), IssueError> {
        let failures = self.failures(directory, names).await;
        if failures.is_empty() {
            return Ok(());
        }
        // A CA that cannot be asked is no fault of the surroundings, and may say how long it wants to be left alone.
        let (fault, wait) =
            directory.as_ref().err().map_or((Fault::Setup, None), |error| (error.fault, error.retry_after));
        Err(IssueError { stage: Stage::Preflight, failures, fault, retry_after: wait })
    }

    /// All that is wrong. `directory` is what the CA offers, the only thing it is asked for.
    pub(crate) async fn failures(
        &self,
        directory: &Result<Directory, IssueError>,
        names: &[Name],
    ) -> Vec<Failure> {
        let mut failures = Vec::new();
        match directory {
            Ok(directory) => {
                failures.extend(clock(directory.date, SystemTime::now()).map(whole));
                for name in names {
                    let forbidden = self.forbidden(directory, name).await;
                    failures.extend(forbidden.map(|problem| about(name, problem)));
                }
            }
            Err(error) => failures.extend(error.failures.iter().cloned()),
        }
        failures.extend(self.storage_failure().await.map(whole));
        if self.settings.challenge != ChallengeKind::Dns01 {
            failures.extend(self.reach(names).await);
        }
        if let Some(dns_01) = self.dns_01 {
            for name in names {
                // Finds out where the record would stand, and sets nothing.
                let found = dns_01.record(name, "").await;
                failures.extend(found.err().map(|error| about(name, error.to_string())));
            }
        }
        failures
    }

    /// Why CAA forbids this CA to issue for `name`, if it does.
    async fn forbidden(&self, directory: &Directory, name: &Name) -> Option<String> {
        let identities = &directory.meta.caa_identities;
        let base = match name.kind() {
            NameKind::Dns(base) | NameKind::Wildcard(base) => base,
            NameKind::Ip(_) => return None,
        };
        // A CA that names no identity looks at no CAA records, as private ones do.
        if identities.is_empty() {
            return None;
        }
        match self.names.caa(base).await {
            Ok(None) => None,
            Ok(Some(set)) => {
                let challenge = self.settings.challenge;
                let asked = caa::Asked { identities, account: self.account, challenge };
                caa::forbidden(&set, asked, name.is_wildcard())
            }
            Err(error) => Some(format!(
                "{error}. The CA takes that for a refusal: see why the name servers of {base} do not answer for CAA"
            )),
        }
    }

    async fn storage_failure(&self) -> Option<String> {
        let probe = Key::new(PROBE).ok()?;
        let written = self.storage.put(&probe, b"probe", Guard::Always).await;
        let error = match written {
            Ok(_) => self.storage.delete(&probe, Guard::Always).await.err()?,
            Err(error) => error,
        };
        Some(format!("{error}. A certificate could not be kept in {}", self.storage.place()))
    }
}

/// Why the clock cannot be right, if it cannot.
fn clock(theirs: Option<SystemTime>, ours: SystemTime) -> Option<String> {
    let theirs = theirs?;
    let (off, way) = match ours.duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    if off <= CLOCK_TOLERANCE {
        return None;
    }
    let minutes = off.as_secs() / 60;
    Some(format!(
        "this machine's clock is {minutes} minutes {way} the CA's: certificates would look expired or not yet valid. Set it right (timedatectl set-ntp true)"
    ))
}

fn about(name: &Name, problem: String) -> Failure {
    Failure { name: Some(name.to_string()), problem }
}

fn whole(problem: String) -> Failure {
    Failure { name: None, problem }
}

#[cfg(test)]
mod tests;
