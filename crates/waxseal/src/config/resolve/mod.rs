//! From what is written to what is used, telling everything that cannot be meant.

mod bind;
mod certificate;
mod choice;
mod conventions;
mod level;
mod listener;
mod number;
mod pem;
mod server;
mod tls;
mod upstream;

use waxseal_tls::Entry;

use self::level::{Level, parts};
use self::listener::{Draft, Surroundings};
use super::Machine;
use super::file::File;
use super::model::{Model, Upstream};
use super::problem::Problems;
use super::source::Source;

/// Decides everything. The result is of use only if no error was told.
pub(super) fn resolve(
    file: File,
    source: &Source,
    machine: &Machine,
    problems: &mut Problems,
) -> (Model, Vec<Entry>) {
    let server = file.server.map(|server| server.value).unwrap_or_default();
    let once = server::once(&server, machine, source, problems);
    let mut settings = vec![once.settings];

    let written = file.upstream.map(|upstreams| upstreams.value).unwrap_or_default();
    let mut upstreams: Vec<(String, Option<Upstream>)> = Vec::with_capacity(written.len());
    for (name, table) in &written {
        let (upstream, section) = upstream::upstream(name, table, source, problems);
        upstreams.push((name.value.clone(), upstream));
        settings.push(section);
    }

    let level = Level::check(&parts!(server), problems);
    let around = Surroundings { source, server: &level, upstreams: &upstreams };
    let listeners = server.listener.map(|listeners| listeners.value).unwrap_or_default();
    if listeners.is_empty() {
        problems.error(None, "no listener is configured").help("add [server.listener.NAME] with protocol, bind and upstream");
    }
    let drafts: Vec<Draft> =
        listeners.iter().map(|(name, table)| listener::listener(name, table, &around, problems)).collect();
    let binds = drafts.iter().flat_map(|draft| draft.binds.iter().map(|bind| (draft.name.as_str(), bind)));
    bind::conflicts(binds, problems);
    for (name, _) in &written {
        let used = |name: &str| listeners.iter().any(|(_, listener)| listener.value.upstream.as_ref().is_some_and(|word| word.value.as_str() == name));
        if !used(&name.value) {
            problems.warning(name.span.clone(), format!("no listener uses upstream `{}`", name.value));
        }
    }

    let written = file.certificate.map(|certificates| certificates.value).unwrap_or_default();
    certificate::one_default(written.iter(), problems);
    let mut certificates = Vec::with_capacity(written.len());
    for (name, table) in &written {
        let (certificate, section) = certificate::certificate(name, table, source, problems);
        certificates.extend(certificate);
        settings.push(section);
    }
    if certificates.len() == written.len() && !certificates.is_empty() {
        certificate::choice(&certificates, &once.hostname, &written, problems);
    }

    let listeners: Vec<_> = drafts.into_iter().filter_map(|draft| draft.listener).collect();
    for listener in &listeners {
        conventions::check(listener, problems);
    }
    if let Some(first) = listeners.iter().find(|listener| listener.security.policy().is_some()) {
        if written.is_empty() {
            let title = format!("listener `{}` offers TLS, and no certificate is configured", first.name);
            problems
                .error(first.places.header.clone(), title)
                .help("add [certificate.NAME] with cert and private-key, or set `tls.enable = false`");
        }
    }

    let (log, section) = server::log(file.log.as_ref().map(|log| &log.value), source, problems);
    settings.push(section);
    let (certificates, identities) =
        certificates.into_iter().map(|certificate| (certificate.spec, certificate.entry)).unzip();
    let upstreams = upstreams.into_iter().filter_map(|(_, upstream)| upstream).collect();
    (
        Model {
            hostname: once.hostname,
            run_as: once.run_as,
            resolver: once.resolver,
            listeners,
            upstreams,
            certificates,
            log,
            settings,
        },
        identities,
    )
}
