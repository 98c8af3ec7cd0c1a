//! Who we are: certificates and their keys, and which of them is served to whom.

use waxseal_tls::{CertificateSet, CertificateSpec, Entry, PemPart, PemSource};

use super::pem;
use crate::config::file;
use crate::config::model::Section;
use crate::config::names::{folded, refuse_pattern};
use crate::config::nearest::{Ledger, Origin};
use crate::config::problem::Problems;
use crate::config::reader::{Located, Words};
use crate::config::source::Source;

/// A certificate as it is configured and as it was found.
pub(super) struct Certificate {
    pub(super) spec: CertificateSpec,
    pub(super) entry: Entry,
}

/// Reads one certificate; what is wrong with it is told where it stands.
pub(super) fn certificate(
    name: &Located<String>,
    written: &Located<file::Certificate>,
    source: &Source,
    problems: &mut Problems,
) -> (Option<Certificate>, Section) {
    let table = &written.value;
    let mut ledger = Ledger::new(source);
    let pem = |source: &Option<Located<PemSource>>| source.as_ref().map(|pem| pem.with(Some(in_words(&pem.value))));
    ledger.only("cert", (Origin::Certificate, &pem(&table.cert)), None);
    ledger.only("private-key", (Origin::Certificate, &pem(&table.private_key)), None);
    let subjects = table.subjects.as_ref().map(|subjects| subjects.with(names(subjects, problems)));
    let subjects = ledger.only("subjects", (Origin::Certificate, &subjects), Vec::new());
    let default = ledger.only("default", (Origin::Certificate, &table.default), false);
    let section = Section { table: format!("certificate.{}", name.value), settings: ledger.close() };
    for (key, present) in [("cert", table.cert.is_some()), ("private-key", table.private_key.is_some())] {
        if !present {
            problems
                .error(name.span.clone(), format!("certificate `{}` has no `{key}`", name.value))
                .help(format!("write {key} = \"%{{file:/path/to/file.pem}}%\""));
        }
    }
    let (Some(chain), Some(key)) = (&table.cert, &table.private_key) else { return (None, section) };
    // Both are read before either is judged, so that both are told of.
    let readable = [chain, key].map(|source| pem::text(source, problems).is_some());
    if readable != [true, true] {
        return (None, section);
    }
    let spec = CertificateSpec {
        id: name.value.clone(),
        chain: chain.value.clone(),
        key: key.value.clone(),
        subjects,
        default,
    };
    match waxseal_tls::load(&spec) {
        Ok((entry, warnings)) => {
            for warning in warnings {
                problems.warning(chain.span.clone(), format!("certificate `{}`: {warning}", name.value));
            }
            (Some(Certificate { spec, entry }), section)
        }
        Err(error) => {
            problems.error(chain.span.clone(), format!("certificate `{}`: {error}", name.value));
            (None, section)
        }
    }
}

/// Where the PEM comes from, never the PEM itself.
fn in_words(source: &PemSource) -> String {
    let words = source.parts.iter().map(|part| match part {
        PemPart::File(path) => format!("%{{file:{}}}%", path.display()),
        PemPart::Text(_) => "(PEM text)".to_owned(),
    });
    words.collect()
}

fn names(written: &Located<Words>, problems: &mut Problems) -> Vec<String> {
    let names = written.value.iter().filter_map(|word| match refuse_pattern(word.value.as_str()) {
        Ok(()) => Some(folded(word.value.as_str())),
        Err(why) => {
            problems.error(word.span.clone(), format!("`{}` is no host name: {why}", word.value));
            None
        }
    });
    names.collect()
}

/// Tells of every default but the first.
pub(super) fn one_default<'f>(
    written: impl Iterator<Item = &'f (Located<String>, Located<file::Certificate>)>,
    problems: &mut Problems,
) {
    let mut defaults = written.filter_map(|(name, certificate)| {
        certificate.value.default.as_ref().filter(|default| default.value).map(|default| (name, default))
    });
    let Some((first, _)) = defaults.next() else { return };
    for (_, default) in defaults {
        problems
            .error(default.key.clone(), format!("certificate `{}` is the default already", first.value))
            .help("leave `default = true` to one of them");
    }
}

/// Tells what clients will be served that no certificate was meant for.
pub(super) fn choice(
    certificates: &[Certificate],
    hostname: &str,
    written: &[(Located<String>, Located<file::Certificate>)],
    problems: &mut Problems,
) {
    let entries = certificates.iter().map(|certificate| certificate.entry.clone()).collect();
    let (_, warnings) = CertificateSet::new(entries, hostname);
    let first = written.first().map(|(name, _)| name.span.clone());
    for warning in warnings {
        problems.warning(first.clone(), warning.to_string());
    }
}
