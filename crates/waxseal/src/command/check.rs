//! `waxseal check`: everything that is wrong with a configuration, and what it comes to.

use std::process::ExitCode;

use serde_json::json;
use waxseal_acme::ports;

use super::{print, refuse, say, summary, tell};
use crate::config::{Loaded, Report};

mod authorities;
mod caches;
mod services;
mod tables;

/// Tells of problems on standard error and of what there is on standard output.
pub(super) fn check(loaded: Result<Loaded, Report>, upstreams_too: bool, as_json: bool) -> ExitCode {
    let loaded = loaded.map(|mut loaded| {
        ports_in_use(&mut loaded);
        caches::look(&mut loaded);
        authorities::ask(&mut loaded);
        if upstreams_too {
            services::dial(&mut loaded);
        }
        loaded.report.problems.settle();
        loaded
    });
    let refused = match &loaded {
        Ok(loaded) => loaded.report.problems.any_error(),
        Err(_) => true,
    };
    match (&loaded, as_json) {
        (Ok(loaded), true) => print(&format!("{}\n", record(&loaded.report, Some(loaded)))),
        (Err(report), true) => print(&format!("{}\n", record(report, None))),
        (Ok(loaded), false) => {
            print(&tables::all(loaded));
            tell(&loaded.report);
            say(&format!("{}\n", summary(&loaded.report)));
        }
        (Err(report), false) => return refuse(report),
    }
    if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// One object with everything.
fn record(report: &Report, loaded: Option<&Loaded>) -> serde_json::Value {
    json!({
        "ok": !report.problems.any_error(),
        "file": report.source.path().display().to_string(),
        "problems": report.records(),
        "listeners": loaded.map(tables::listeners).map(|table| table.records()),
        "tls": loaded.map(tables::tls).map(|table| table.records()),
        "certificates": loaded.map(tables::certificates).map(|table| table.records()),
        "acme": loaded.map(tables::acme).map(|table| table.records()),
    })
}

/// Warns of addresses that somebody listens on already.
fn ports_in_use(loaded: &mut Loaded) {
    for listener in &loaded.model.listeners {
        for (address, span) in listener.bind.iter().zip(&listener.places.bind) {
            let Some(holder) = ports::holder(*address) else { continue };
            let title = format!("{} is held by {}", holder.address, holder.program);
            loaded
                .report
                .problems
                .warning(span.clone(), title)
                .help("nothing is wrong if that is the server this configuration is for");
        }
    }
}
