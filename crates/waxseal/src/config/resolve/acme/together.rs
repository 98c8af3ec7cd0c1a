//! What several tables come to together, and with what stands beside them.

use waxseal_acme::{ChallengeKind, KeyType, Name, is_covered, parse_names};
use waxseal_proto::Protocol;
use waxseal_tls::KeyKind;

use crate::config::file;
use crate::config::model::{Acme, Listener, Security};
use crate::config::problem::Problems;
use crate::config::reader::{Located, Named};
use crate::config::resolve::certificate::Certificate;
use crate::config::values::Word;
use crate::config::words::suggest;

/// Whether the `acme` to turn to is there, and another.
pub(super) fn fallback(
    name: &Located<String>,
    table: &file::Acme,
    written: &Named<file::Acme>,
    problems: &mut Problems,
) {
    let Some(word) = &table.fallback else { return };
    let others =
        || written.tables.iter().map(|(name, _)| name.value.as_str()).filter(|other| *other != name.value);
    if word.value.as_str() == name.value {
        problems.error(word.span.clone(), "`fallback` names itself").help("name another [acme.NAME]");
    } else if others().all(|other| other != word.value.as_str()) {
        let problem = problems.error(word.span.clone(), format!("there is no acme `{}`", word.value));
        problem.help(match others().next() {
            None => format!("add [acme.{}] with the directory of another CA", word.value),
            Some(_) => suggest(word.value.as_str(), others()),
        });
    }
}

/// Names that a certificate by hand has already: none is ordered for them.
pub(in crate::config::resolve) fn by_hand(
    all: &[Acme],
    certificates: &[Certificate],
    written: &Named<file::Acme>,
    problems: &mut Problems,
) {
    for acme in all {
        for name in &acme.settings.names {
            let has = |certificate: &&Certificate| is_covered(name, certificate.entry.identity.names());
            let Some(certificate) = certificates.iter().find(has) else { continue };
            let id = &certificate.entry.id;
            let span = table(acme, written).and_then(|table| table.domains.as_ref()).map(|list| {
                let is_it = |word: &&Located<Word>| Name::parse(word.value.as_str()).as_ref() == Ok(name);
                list.value.iter().find(is_it).map_or_else(|| list.span.clone(), |word| word.span.clone())
            });
            problems
                .warning(span, format!("certificate `{id}` has {name} already, and none is ordered for it"))
                .help(format!("remove [certificate.{id}], or leave the name out here"));
        }
    }
}

/// Which of several would be the default is not to be guessed; an RSA and an ECDSA one are none too many.
pub(in crate::config::resolve) fn several_defaults(
    all: &[Acme],
    certificates: &[Certificate],
    written: &Named<file::Acme>,
    problems: &mut Problems,
) {
    let by_hand = certificates.iter().map(|certificate| &certificate.entry).filter(|entry| entry.default);
    // What they are called, and whether they are RSA.
    let mut defaults: Vec<(String, bool)> = by_hand
        .map(|entry| {
            let is_rsa = matches!(entry.identity.key_kind(), KeyKind::Rsa(_));
            (format!("certificate `{}`", entry.id), is_rsa)
        })
        .collect();
    for acme in all.iter().filter(|acme| acme.settings.default) {
        let kinds = acme.settings.key_types.iter();
        let kinds: Vec<bool> =
            kinds.map(|kind| matches!(kind, KeyType::Rsa2048 | KeyType::Rsa4096)).collect();
        if let Some((other, _)) = defaults.iter().find(|(_, is_rsa)| kinds.contains(is_rsa)) {
            let default = table(acme, written).and_then(|table| table.default.as_ref());
            problems
                .error(default.map(|default| default.key.clone()), format!("{other} is the default already"))
                .help("leave `default = true` to one of them, or to one with RSA and one with ECDSA");
        }
        defaults.extend(kinds.into_iter().map(|is_rsa| (format!("acme `{}`", acme.settings.id), is_rsa)));
    }
}

/// The table that became `acme`.
fn table<'w>(acme: &Acme, written: &'w Named<file::Acme>) -> Option<&'w file::Acme> {
    let found = written.tables.iter().find(|(name, _)| *name.value == *acme.settings.id);
    found.map(|(_, table)| &table.value)
}

/// Tables that turn to one another in a circle, all for the same names: each would leave the names to the one before it.
pub(super) fn circles(all: &[Acme], written: &Named<file::Acme>, problems: &mut Problems) {
    for (first, one) in all.iter().enumerate() {
        let mut circle = vec![one];
        let next = |acme: &Acme| {
            all.iter().position(|other| Some(&other.settings.id) == acme.settings.fallback.as_ref())
        };
        // Told once, of the one that stands first.
        while let Some(at) = circle.last().copied().and_then(next).filter(|at| *at >= first) {
            let Some(acme) = all.get(at).filter(|_| circle.len() <= all.len()) else { break };
            circle.push(acme);
            if at == first {
                break;
            }
        }
        let closed = circle.len() > 2 && circle.last().is_some_and(|last| std::ptr::eq(*last, one));
        let left = |pair: &[&Acme]| match pair {
            [before, acme] => acme.settings.names.iter().all(|name| before.settings.names.contains(name)),
            _ => false,
        };
        if closed && circle.windows(2).all(left) {
            let span = table(one, written).and_then(|table| Some(table.fallback.as_ref()?.span.clone()));
            let names: Vec<&str> = circle.iter().map(|acme| &*acme.settings.id).collect();
            problems
                .error(
                    span,
                    format!("`fallback` goes in a circle ({}), and nothing is ordered", names.join(", ")),
                )
                .help("leave `domains` out of those that are only turned to");
        }
    }
}

/// Whether a listener of this process answers the challenge. Another process may; hence no error.
pub(super) fn answered(
    kind: ChallengeKind,
    listeners: &[Listener],
    name: &Located<String>,
    problems: &mut Problems,
) {
    let (any, help) = match kind {
        ChallengeKind::Dns01 => return,
        ChallengeKind::TlsAlpn01 => (
            listeners.iter().any(|listener| matches!(listener.security, Security::Implicit(_))),
            "add a listener with tls.implicit = true on port 443 (protocol = \"http\" needs no upstream for it), or choose \
             http-01 or dns-01",
        ),
        ChallengeKind::Http01 => (
            listeners
                .iter()
                .any(|listener| listener.protocol == Protocol::Http && listener.security == Security::Clear),
            "add a listener with protocol = \"http\" and tls.enable = false on port 80 (it needs no upstream for it), or choose \
             tls-alpn-01 or dns-01",
        ),
    };
    if !any {
        let title = format!("no listener answers {kind}, which acme `{}` wants", name.value);
        problems.warning(name.span.clone(), title).help(help);
        return;
    }
    let on_443 = |listener: &Listener| {
        matches!(listener.security, Security::Implicit(_)) && listener.bind.iter().any(|at| at.port() == 443)
    };
    if kind == ChallengeKind::TlsAlpn01 && !listeners.iter().any(on_443) {
        let title = format!("no listener has port 443, where tls-alpn-01 is asked for acme `{}`", name.value);
        problems.warning(name.span.clone(), title).help(
            "add a listener with protocol = \"http\", tls.implicit = true and bind = \"[::]:443\" (it needs no upstream), or \
             forward port 443 to one that has implicit TLS",
        );
    }
}

/// What is turned to for names must be able to prove them, too.
pub(super) fn provable(all: &[Acme], written: &Named<file::Acme>, problems: &mut Problems) {
    for acme in all {
        let settings = &acme.settings;
        // One that only others turn to turns to nobody.
        let Some(id) = settings.fallback.as_ref().filter(|_| !settings.names.is_empty()) else { continue };
        let Some(other) = all.iter().find(|other| other.settings.id == *id) else { continue };
        let names: Vec<String> = settings.names.iter().map(ToString::to_string).collect();
        let Err(errors) = parse_names(&names, other.settings.challenge) else { continue };
        let span = table(acme, written).and_then(|table| Some(table.fallback.as_ref()?.span.clone()));
        for (_, error) in errors {
            problems
                .warning(span.clone(), format!("acme `{id}` cannot stand in: {error}"))
                .help(format!("set another challenge for acme.{id}, or name another `fallback`"));
        }
    }
}

/// One name in two tables would be ordered twice; unless one of them is the other's fallback.
pub(super) fn twice(all: &[Acme], written: &Named<file::Acme>, problems: &mut Problems) {
    for (at, later) in all.iter().enumerate() {
        for earlier in all.iter().take(at) {
            let (one, other) = (&earlier.settings, &later.settings);
            let related =
                one.fallback.as_ref() == Some(&other.id) || other.fallback.as_ref() == Some(&one.id);
            let common = one.names.iter().find(|name| other.names.contains(name));
            if let (Some(common), false) = (common, related) {
                let domains = table(later, written).and_then(|table| table.domains.as_ref());
                problems
                    .error(
                        domains.map(|list| list.span.clone()),
                        format!("{common} stands in acme `{}` already", one.id),
                    )
                    .help("leave it to one of them");
            }
        }
    }
}
