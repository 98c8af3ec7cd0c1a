//! `waxseal check --upstreams`: every service dialled as sessions would dial it.

use std::sync::Arc;

use waxseal_proto::Protocol;
use waxseal_server::service::{Finding, RelayContext, Resolver, Severity, diagnose};
use waxseal_tls::Pool;

use crate::command::say;
use crate::config::{Behind, Loaded, Model, Upstream};
use crate::wiring::upstream_of;

/// What was found about one upstream as one protocol sees it.
struct Found {
    upstream: usize,
    protocol: Protocol,
    findings: Vec<Finding>,
}

/// Dials every service, says which answer, and adds what is wrong with the others to the problems.
pub(super) fn dial(loaded: &mut Loaded) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            loaded.report.problems.error(None, format!("cannot dial the services: {error}"));
            return;
        }
    };
    let found = runtime.block_on(dial_all(&loaded.model));
    runtime.shutdown_background();
    match found {
        Ok(found) => tell(loaded, found),
        Err(error) => {
            loaded.report.problems.error(None, format!("server.resolver cannot be used: {error}"));
        }
    }
}

/// Services do not wait for each other: one that is silent takes seconds.
async fn dial_all(model: &Model) -> std::io::Result<Vec<Found>> {
    let context = RelayContext {
        hostname: Arc::clone(&model.hostname),
        resolver: Resolver::new(&model.resolver)?,
        pool: Pool::new(16),
    };
    let dialling: Vec<_> = spoken(model)
        .map(|(index, upstream, protocol)| {
            let (context, upstream) = (context.clone(), upstream_of(upstream));
            let task = tokio::spawn(async move { diagnose(context, &upstream, protocol).await });
            (index, protocol, task)
        })
        .collect();
    let mut found = Vec::new();
    for (upstream, protocol, task) in dialling {
        let findings = task.await.map_err(std::io::Error::other)?;
        found.push(Found { upstream, protocol, findings });
    }
    Ok(found)
}

/// Every upstream with each protocol that some listener speaks to it.
fn spoken(model: &Model) -> impl Iterator<Item = (usize, &Upstream, Protocol)> {
    model.upstreams.iter().enumerate().flat_map(move |(index, upstream)| {
        Protocol::ALL.into_iter().filter_map(move |protocol| {
            let spoken = |listener: &crate::config::Listener| {
                listener.behind == Behind::Upstream(Arc::clone(&upstream.name))
                    && listener.protocol == protocol
            };
            model.listeners.iter().any(spoken).then_some((index, upstream, protocol))
        })
    })
}

fn tell(loaded: &mut Loaded, found: Vec<Found>) {
    for Found { upstream, protocol, findings } in found {
        let Some(upstream) = loaded.model.upstreams.get(upstream) else { continue };
        for finding in findings {
            let text = match finding.severity {
                // The error names service and address by itself.
                Severity::Error => finding.text,
                _ => format!("{} ({protocol}) at {}: {}", upstream.name, finding.address, finding.text),
            };
            match finding.severity {
                Severity::Fine => say(&format!("{text}\n")),
                Severity::Warning => {
                    loaded.report.problems.warning(upstream.header.clone(), text);
                }
                Severity::Error => {
                    loaded.report.problems.error(upstream.header.clone(), text);
                }
            }
        }
    }
}
