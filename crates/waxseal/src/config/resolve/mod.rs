//! From what is written to what is used, telling everything that cannot be meant.

mod acme;
mod bind;
mod certificate;
mod choice;
mod conventions;
mod leg;
mod level;
mod listener;
mod mailboxes;
mod number;
mod pem;
mod server;
mod tls;
mod upstream;

use waxseal_tls::Entry;

use self::certificate::Certificate;
use self::level::{Level, parts};
use self::listener::{Draft, Own, Surroundings};
use super::Machine;
use super::file::{self, File};
use super::model::{Behind, Listener, Model, Section, Upstream};
use super::problem::Problems;
use super::reader::{Incomplete as _, Named};
use super::source::Source;

/// Decides everything. The result is of use only if no error was told.
pub(super) fn resolve(
    file: File,
    source: &Source,
    machine: &Machine,
    problems: &mut Problems,
) -> (Model, Vec<Entry>) {
    let written = Written {
        listeners_refused: file.refused("server"),
        server: file.server.map(|server| server.value).unwrap_or_default(),
        upstreams: file.upstream.map(|upstreams| upstreams.value).unwrap_or_default(),
        certificates: file.certificate.map(|certificates| certificates.value).unwrap_or_default(),
        acme: file.acme.map(|acme| acme.value).unwrap_or_default(),
    };
    let once = server::once(&written.server, machine, source, problems);
    let (log, log_settings) = server::log(file.log.as_ref().map(|log| &log.value), source, problems);
    let mut settings = vec![once.settings, log_settings];
    let upstreams = upstreams(&written, source, &mut settings, problems);
    let mailboxes = file.mailboxes.as_ref().and_then(|table| {
        let (mailboxes, section) = mailboxes::mailboxes(table, source, problems);
        settings.push(section);
        mailboxes
    });
    let own = if file.mailboxes.is_some() { Own::Mailboxes } else { Own::Nothing };
    let listeners = listeners(&written, &upstreams, own, source, problems);
    let acme = acme::acme(&written.acme, &listeners, source, &mut settings, problems);
    let certificates = certificates(&written, once.hostname.as_deref(), source, &mut settings, problems);
    acme::by_hand(&acme, &certificates, &written.acme, problems);
    acme::several_defaults(&acme, &certificates, &written.acme, problems);
    served(&listeners, &written, &certificates, problems);
    let (certificates, identities) =
        certificates.into_iter().map(|certificate| (certificate.spec, certificate.entry)).unzip();
    let model = Model {
        hostname: once.hostname.unwrap_or_default(),
        run_as: once.run_as,
        resolver: once.resolver,
        listeners,
        upstreams: upstreams.into_iter().filter_map(|(_, upstream)| upstream).collect(),
        mailboxes,
        certificates,
        acme,
        log,
        settings,
    };
    (model, identities)
}

/// The tables of a file, taken apart.
struct Written {
    server: file::Server,
    /// Whether something stands where `server` should, so that listeners cannot be told to be missing.
    listeners_refused: bool,
    upstreams: Named<file::Upstream>,
    certificates: Named<file::Certificate>,
    acme: Named<file::Acme>,
}

impl Written {
    fn has_acme(&self) -> bool {
        !self.acme.tables.is_empty() || !self.acme.refused.is_empty()
    }
}

/// Every upstream by name; those without a value are there and wrong.
fn upstreams(
    written: &Written,
    source: &Source,
    settings: &mut Vec<Section>,
    problems: &mut Problems,
) -> Vec<(String, Option<Upstream>)> {
    let mut upstreams: Vec<_> = written.upstreams.refused.iter().map(|name| (name.clone(), None)).collect();
    for (name, table) in &written.upstreams.tables {
        let (upstream, section) = upstream::upstream(name, table, source, problems);
        upstreams.push((name.value.clone(), upstream));
        settings.push(section);
    }
    upstreams
}

fn listeners(
    written: &Written,
    upstreams: &[(String, Option<Upstream>)],
    own: Own,
    source: &Source,
    problems: &mut Problems,
) -> Vec<Listener> {
    let server = &written.server;
    let level = Level::check(&parts!(server), problems);
    let around = Surroundings { source, server: &level, upstreams, own, challenges: written.has_acme() };
    let empty = Named::default();
    let tables = server.listener.as_ref().map_or(&empty, |listeners| &listeners.value);
    let drafts: Vec<Draft> = tables
        .tables
        .iter()
        .map(|(name, table)| listener::listener(name, table, &around, problems))
        .collect();
    let refused = written.listeners_refused || server.refused("listener") || !tables.refused.is_empty();
    if drafts.is_empty() && !refused {
        problems
            .error(None, "no listener is configured")
            .help("add [server.listener.NAME] with protocol, bind and upstream");
    }
    let binds = drafts.iter().flat_map(|draft| draft.binds.iter().map(|bind| (draft.name.as_str(), bind)));
    bind::conflicts(binds, problems);
    // A listener that means an upstream and misses it would have it told of twice.
    if !refused && drafts.iter().all(|draft| draft.behind.is_some()) {
        unused(&written.upstreams, &drafts, problems);
    }
    drafts.into_iter().filter_map(|draft| draft.listener).collect()
}

fn unused(written: &Named<file::Upstream>, drafts: &[Draft], problems: &mut Problems) {
    for (name, _) in &written.tables {
        if drafts
            .iter()
            .all(|draft| !matches!(&draft.behind, Some(Behind::Upstream(used)) if **used == *name.value))
        {
            problems.warning(name.span.clone(), format!("no listener uses upstream `{}`", name.value));
        }
    }
}

fn certificates(
    written: &Written,
    hostname: Option<&str>,
    source: &Source,
    settings: &mut Vec<Section>,
    problems: &mut Problems,
) -> Vec<Certificate> {
    let has_acme = written.has_acme();
    let written = &written.certificates.tables;
    let mut certificates = Vec::with_capacity(written.len());
    for (name, table) in written {
        let (certificate, section) = certificate::certificate(name, table, source, problems);
        certificates.extend(certificate);
        settings.push(section);
    }
    if let (Some(hostname), true) = (hostname, certificates.len() == written.len()) {
        certificate::choice(&certificates, hostname, written, has_acme, problems);
    }
    certificates
}

/// What each listener promises its clients, and that there is a certificate to keep it with.
fn served(listeners: &[Listener], written: &Written, certificates: &[Certificate], problems: &mut Problems) {
    for listener in listeners {
        conventions::check(listener, problems);
        conventions::usable(listener, certificates, problems);
    }
    let first = listeners.iter().find(|listener| listener.security.policy().is_some());
    let named = &written.certificates;
    let none = named.tables.is_empty() && named.refused.is_empty() && !written.has_acme();
    if let (Some(first), true) = (first, none) {
        let title = format!("listener `{}` offers TLS, and no certificate is configured", first.name);
        problems
            .error(first.places.header.clone(), title)
            .help("add [acme.NAME] with contact and domains, or [certificate.NAME] with cert and private-key, or set `tls.enable = false`");
    }
}
