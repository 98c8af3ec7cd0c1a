//! `waxseal cert`: the certificates of the running server.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;
use waxseal_acme::Step;

use super::running::{ask, fail, line};
use super::table::Table;
use super::{print, say};
use crate::control::{Answer, Renewal, Request};
use crate::records::{Record, date, now};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// `cert list`.
pub fn list(configuration: &Path, json: bool) -> ExitCode {
    with_certificates(configuration, |records| {
        print(&if json { lines(records) } else { table(records) });
        ExitCode::SUCCESS
    })
}

/// `cert show NAME`.
pub fn show(configuration: &Path, name: &str, json: bool) -> ExitCode {
    with_certificates(configuration, |records| {
        let found: Vec<Record> = records.iter().filter(|record| record.is_called(name)).cloned().collect();
        if found.is_empty() {
            return fail(&format!("no certificate is called {name:?}; `waxseal cert list` shows all"));
        }
        print(&if json { lines(&found) } else { found.iter().map(whole).collect::<Vec<_>>().join("\n") });
        ExitCode::SUCCESS
    })
}

/// `cert renew NAME`.
pub fn renew(configuration: &Path, name: &str, force: bool, json: bool) -> ExitCode {
    let request = Request::CertRenew { name: name.to_owned(), force };
    let mut end = None;
    let asked = ask(configuration, &request, |answer| match answer {
        Answer::Step(step) => tell(&step, json),
        other => end = Some(other),
    });
    if !json && std::io::stderr().is_terminal() {
        say("\r\u{1b}[K");
    }
    match (asked, end) {
        (Err(why), _) => fail(&why),
        (Ok(()), Some(Answer::Renewed(renewals))) => {
            for renewal in &renewals {
                let text = if json { line(renewal) } else { outcome(renewal) };
                if json || renewal.serial.is_some() { print(&text) } else { say(&text) }
            }
            let all = renewals.iter().all(|renewal| renewal.serial.is_some());
            if all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        (Ok(()), Some(Answer::Refused(why))) => fail(&why),
        (Ok(()), _) => fail("the server went away before it was done"),
    }
}

fn with_certificates(configuration: &Path, show: impl FnOnce(&[Record]) -> ExitCode) -> ExitCode {
    let mut end = None;
    let asked = ask(configuration, &Request::CertList, |answer| end = Some(answer));
    match (asked, end) {
        (Err(why), _) => fail(&why),
        (Ok(()), Some(Answer::Certificates(records))) => show(&records),
        (Ok(()), Some(Answer::Refused(why))) => fail(&why),
        (Ok(()), _) => fail("the server went away before it answered"),
    }
}

fn lines(records: &[Record]) -> String {
    records.iter().map(line).collect()
}

/// A step: one line that is written over on a terminal, a line each elsewhere.
fn tell(step: &Step, json: bool) {
    match (json, std::io::stderr().is_terminal()) {
        (true, _) => print(&line(step)),
        (false, true) => say(&format!("\r\u{1b}[K{}: {} ...", step.stage, step.text)),
        (false, false) => say(&format!("{}: {}\n", step.stage, step.text)),
    }
}

fn outcome(renewal: &Renewal) -> String {
    match (&renewal.serial, renewal.not_after) {
        (Some(serial), Some(until)) => {
            format!("{}: new certificate, serial {serial}, valid until {}\n", renewal.id, date(until))
        }
        _ => {
            let reason = renewal.reason.as_deref().unwrap_or("no reason given");
            let failures: String = renewal.failures.iter().map(|failure| format!("  {failure}\n")).collect();
            format!("{}: no new certificate: {reason}\n{failures}", renewal.id)
        }
    }
}

/// Every certificate in a row, then what is failing.
pub(super) fn table(records: &[Record]) -> String {
    let now = now();
    let rows = records.iter().map(|record| {
        vec![
            Value::from(record.id.as_str()),
            record.state.as_str().into(),
            record.names.clone().into(),
            record.issuer.clone().into(),
            record.not_after.map(|at| span(at - now)).into(),
            record.next.map(|at| format!("in {}", span(at - now))).into(),
        ]
    });
    let header = &["certificate", "state", "names", "issuer", "ends in", "next renewal"];
    let table = Table { header, rows: rows.collect() };
    let failures: String = records.iter().map(failure).collect();
    format!("{}\n{failures}", table.render())
}

/// A length of time in its largest unit.
pub(super) fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    if seconds < 2 * HOUR {
        format!("{} min", (seconds + 59) / 60)
    } else if seconds < 2 * DAY {
        format!("{} h", seconds / HOUR)
    } else {
        format!("{} d", seconds / DAY)
    }
}

/// What failed, name by name, or else keeps the order back, and when it is tried again.
fn failure(record: &Record) -> String {
    let mut text = match &record.failure {
        Some(failure) => {
            let since = date(record.failing_since.unwrap_or(failure.at));
            let mut text =
                format!("\n{} is failing since {since}, at the stage: {}\n", record.id, failure.stage);
            for one in &failure.failures {
                text.push_str(&format!("  {one}\n"));
            }
            text
        }
        _ if record.waits.is_some() => format!("\n{} waits\n", record.id),
        _ => return String::new(),
    };
    if let Some(why) = &record.waits {
        text.push_str(&format!("  {why}\n"));
    }
    let next = record.next.map_or_else(|| "-".to_owned(), date);
    text.push_str(&format!("  next attempt: {next}; other certificates are not affected\n"));
    text
}

fn whole(record: &Record) -> String {
    let time = |at: Option<i64>| at.map_or_else(|| "-".to_owned(), date);
    let mut text = format!("{}\n", record.id);
    let facts = [
        ("state", record.state.as_str().to_owned()),
        ("names", record.names.join(" ")),
        ("key", record.key.clone()),
        ("issuer", record.issuer.clone().unwrap_or_else(|| "-".to_owned())),
        ("serial", record.serial.clone().unwrap_or_else(|| "-".to_owned())),
        ("valid from", time(record.not_before)),
        ("valid until", time(record.not_after)),
        ("next renewal", time(record.next)),
    ];
    for (what, value) in facts {
        text.push_str(&format!("  {what:12} {value}\n"));
    }
    text + &failure(record)
}
