//! Commands that ask the running server.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

use super::cert::{span, table};
use super::table::Table;
use super::{print, say};
use crate::control::{Answer, Request, sockets};
use crate::records::Status;

/// `waxseal status`.
pub(super) fn status(configuration: &Path, json: bool) -> ExitCode {
    let mut end = None;
    match (ask(configuration, &Request::Status, |answer| end = Some(answer)), end) {
        (Err(why), _) | (Ok(()), Some(Answer::Refused(why))) => fail(&why),
        (Ok(()), Some(Answer::Status(status))) => {
            print(&if json { line(&status) } else { text(&status) });
            ExitCode::SUCCESS
        }
        (Ok(()), _) => fail("the server went away before it answered"),
    }
}

fn text(status: &Status) -> String {
    let listeners = status.listeners.iter().map(|listener| {
        vec![
            Value::from(listener.name.as_str()),
            listener.protocol.as_str().into(),
            listener.bind.clone().into(),
            listener.security.as_str().into(),
            listener.upstream.as_str().into(),
        ]
    });
    let header = &["listener", "protocol", "bind", "security", "upstream"];
    let listeners = Table { header, rows: listeners.collect() };
    let services = status.services.iter().map(|service| {
        let state = service.problem.as_deref().unwrap_or("reachable");
        vec![Value::from(service.name.as_str()), service.protocol.as_str().into(), state.into()]
    });
    let services = Table { header: &["service", "protocol", "state"], rows: services.collect() };
    let tables = [listeners, services].map(|table| match table.rows.is_empty() {
        true => String::new(),
        false => format!("{}\n\n", table.render()),
    });
    format!(
        "waxseal {}, serving for {}: {} sessions now; since the start {} handshakes, {} failed, {} injections\n\n{}{}",
        status.version,
        span(i64::try_from(status.seconds).unwrap_or(i64::MAX)),
        status.sessions,
        status.handshakes,
        status.handshake_failures,
        status.injections,
        tables.concat(),
        table(&status.certificates),
    )
}

/// Asks the running server, and hands over each line of its answer.
pub(super) fn ask(
    configuration: &Path,
    request: &Request,
    mut hear: impl FnMut(Answer),
) -> Result<(), String> {
    let all = sockets(configuration);
    let mut refusal = None;
    let stream = all.iter().find_map(|path| {
        UnixStream::connect(path)
            .inspect_err(|error| {
                if error.kind() == std::io::ErrorKind::PermissionDenied {
                    refusal =
                        Some(format!("{}: {error}; only root and the server's user may ask", path.display()));
                }
            })
            .ok()
    });
    let Some(mut stream) = stream else {
        let why = format!("no server runs with {}: start it with `waxseal serve`", configuration.display());
        return Err(refusal.unwrap_or(why));
    };
    let broken = |error: std::io::Error| format!("the server cannot be asked: {error}");
    writeln!(stream, "{}", line(request).trim_end()).map_err(broken)?;
    for answer in BufReader::new(stream).lines() {
        let answer = serde_json::from_str(&answer.map_err(broken)?);
        hear(answer.map_err(|error| format!("the server is of another version: {error}"))?);
    }
    Ok(())
}

/// The error, and the status for it.
pub(super) fn fail(why: &str) -> ExitCode {
    say(&format!("error: {why}\n"));
    ExitCode::FAILURE
}

/// A line of JSON.
pub(super) fn line(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value)
        .map_or_else(|error| format!("{{\"error\": \"{error}\"}}\n"), |text| text + "\n")
}
