//! The running server as commands show it; certificates by hand and obtained ones alike.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use waxseal_acme::{LastFailure, Stage, Status as Obtained};
use waxseal_tls::{CertificateSet, Entry};

use crate::config::{Listener, Model};

/// How the running server is doing.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// Of the program.
    pub version: String,
    /// How long it has been serving.
    pub seconds: u64,
    /// Sessions that live.
    pub sessions: usize,
    /// Handshakes finished since the start.
    pub handshakes: u64,
    /// Handshakes failed since the start.
    pub handshake_failures: u64,
    /// Sessions ended because something stood between STARTTLS and the go-ahead.
    pub injections: u64,
    /// Where clients knock.
    pub listeners: Vec<ListenerRecord>,
    /// Who is behind.
    pub services: Vec<ServiceRecord>,
    /// Who we are.
    pub certificates: Vec<Record>,
}

/// A listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListenerRecord {
    /// Its name.
    pub name: String,
    /// What is spoken.
    pub protocol: String,
    /// Its addresses.
    pub bind: Vec<String>,
    /// How its clients are encrypted.
    pub security: String,
    /// Who is behind.
    pub upstream: String,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// Its name.
    pub name: String,
    /// What is spoken to it.
    pub protocol: String,
    /// Why it cannot be reached, where it cannot.
    pub problem: Option<String>,
}

/// The listeners of a model.
pub fn listeners(model: &Model) -> Vec<ListenerRecord> {
    let record = |listener: &Listener| ListenerRecord {
        name: listener.name.to_string(),
        protocol: listener.protocol.as_str().to_owned(),
        bind: listener.bind.iter().map(ToString::to_string).collect(),
        security: listener.security.as_str().to_owned(),
        upstream: listener.behind.as_str().to_owned(),
    };
    model.listeners.iter().map(record).collect()
}

/// How a certificate is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It is valid, and nothing is wrong.
    Valid,
    /// There is none yet; one that says so is served.
    Issuing,
    /// The last attempt to obtain one failed.
    Failing,
    /// It has ended.
    Expired,
}

impl State {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Issuing => "issuing",
            Self::Failing => "failing",
            Self::Expired => "expired",
        }
    }
}

/// A certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What it is called: `certificate.ID` or `acme.ID`.
    pub id: String,
    /// How it is doing.
    pub state: State,
    /// Its names.
    pub names: Vec<String>,
    /// Its kind of key.
    pub key: String,
    /// Who signed it.
    pub issuer: Option<String>,
    /// In hexadecimal.
    pub serial: Option<String>,
    /// Begin of its life, in unix seconds.
    pub not_before: Option<i64>,
    /// End of its life, in unix seconds.
    pub not_after: Option<i64>,
    /// When it is renewed, or an attempt made, next; in unix seconds. Nothing for those by hand.
    pub next: Option<i64>,
    /// How far an order in flight has come.
    pub stage: Option<Stage>,
    /// The last failure.
    pub failure: Option<LastFailure>,
    /// Since when it has been failing, in unix seconds.
    pub failing_since: Option<i64>,
    /// What keeps an order back that is due, where that is no failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
}

impl Record {
    /// Whether `name` is one of its names, or what it is called.
    pub fn is_called(&self, name: &str) -> bool {
        let normal = waxseal_acme::Name::parse(name)
            .map_or_else(|_| waxseal_tls::normal_name(name), |it| it.to_string());
        // With several kinds of keys each has a name of its own, and all have that of their table.
        let table = self.id.split_once(" (").map_or(self.id.as_str(), |(table, _)| table);
        let ids = [self.id.as_str(), table].into_iter();
        self.names.contains(&normal)
            || ids
                .flat_map(|id| [Some(id), id.split_once('.').map(|(_, id)| id)])
                .flatten()
                .any(|id| id == name)
    }
}

/// All certificates: those of `set` that no status is about, then the obtained ones.
pub fn records(set: &CertificateSet, statuses: Vec<Obtained>) -> Vec<Record> {
    let now = now();
    let by_hand = |entry: &&Entry| !statuses.iter().any(|status| status.id == entry.id);
    let by_hand: Vec<Record> =
        set.entries().iter().filter(by_hand).map(|entry| of_entry(entry, now)).collect();
    by_hand.into_iter().chain(statuses.into_iter().map(|status| of_status(status, now))).collect()
}

fn of_entry(entry: &Entry, now: i64) -> Record {
    let identity = &entry.identity;
    Record {
        id: format!("certificate.{}", entry.id),
        state: if identity.not_after() < now { State::Expired } else { State::Valid },
        names: identity.names().to_vec(),
        key: identity.key_kind().to_string(),
        issuer: Some(identity.issuer().to_owned()),
        serial: Some(identity.serial().to_owned()),
        not_before: Some(identity.not_before()),
        not_after: Some(identity.not_after()),
        next: None,
        stage: None,
        failure: None,
        failing_since: None,
        waits: None,
    }
}

fn of_status(status: Obtained, now: i64) -> Record {
    let failing = status.failure.is_some() || status.waits.is_some();
    let state = match &status.held {
        Some(held) if held.not_after < now => State::Expired,
        // A renewal that somebody asked for before its time may fail without harm.
        Some(_) if !status.due || !failing => State::Valid,
        None if !failing => State::Issuing,
        _ => State::Failing,
    };
    let held = status.held;
    Record {
        id: status.id,
        state,
        names: status.names,
        key: status.key_type.to_owned(),
        not_before: held.as_ref().map(|held| held.not_before),
        not_after: held.as_ref().map(|held| held.not_after),
        issuer: held.as_ref().map(|held| held.issuer.clone()),
        serial: held.map(|held| held.serial),
        next: Some(status.next),
        stage: status.stage,
        failure: status.failure,
        failing_since: status.failing_since,
        waits: status.waits,
    }
}

/// Unix seconds.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// A time for people, in UTC: `2026-11-25 03:10:00 UTC`.
pub fn date(at: i64) -> String {
    // What is beyond the year 9999 has no date.
    let seconds = u64::try_from(at).unwrap_or(0).min(253_402_300_799);
    let text = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
    text.replace('T', " ").replace('Z', " UTC")
}
