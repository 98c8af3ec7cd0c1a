//! Who we are: certificates and their keys, and which of them is served to whom.

use waxseal_tls::{
    CertificateSet, CertificateSpec, Entry, IdentityError, IdentityWarning, LoadError, PemSource, SetWarning,
    normal_name,
};

use super::pem;
use crate::config::file;
use crate::config::model::Section;
use crate::config::names::refuse_pattern;
use crate::config::nearest::{Ledger, Origin};
use crate::config::problem::Problems;
use crate::config::reader::{Incomplete as _, Located};
use crate::config::source::Source;
use crate::config::values::Words;

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
    let pem = |source: &Option<Located<PemSource>>| {
        source.as_ref().map(|source| source.with(Some(pem::in_words(&source.value))))
    };
    ledger.only("cert", (Origin::Certificate, &pem(&table.cert)), None);
    ledger.only("private-key", (Origin::Certificate, &pem(&table.private_key)), None);
    let subjects = table.subjects.as_ref().map(|subjects| subjects.with(names(subjects, problems)));
    let subjects = ledger.only("subjects", (Origin::Certificate, &subjects), Vec::new());
    let default = ledger.only("default", (Origin::Certificate, &table.default), false);
    let section = Section { table: format!("certificate.{}", name.value), settings: ledger.close() };
    let absent = |field, written: &Option<_>| written.is_none() && !table.refused(field);
    for (key, absent) in
        [("cert", absent("cert", &table.cert)), ("private-key", absent("private_key", &table.private_key))]
    {
        if absent {
            problems
                .error(name.span.clone(), format!("certificate `{}` has no `{key}`", name.value))
                .help(format!("write {key} = \"%{{file:/path/to/file.pem}}%\""));
        }
    }
    let (Some(chain), Some(key)) = (&table.cert, &table.private_key) else { return (None, section) };
    // Both are read before either is judged, so that both are told of.
    let readable = [chain, key].map(|source| pem::text(&source.value, &source.span, problems).is_some());
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
                let about_key = matches!(warning, IdentityWarning::KeyReadableByOthers { .. });
                problems.warning(if about_key { key } else { chain }.span.clone(), warning.to_string());
            }
            (Some(Certificate { spec, entry }), section)
        }
        Err(error) => {
            let about_chain = matches!(error, LoadError::Identity(IdentityError::Chain(_)));
            problems.error(if about_chain { chain } else { key }.span.clone(), error.to_string());
            (None, section)
        }
    }
}

fn names(written: &Located<Words>, problems: &mut Problems) -> Vec<String> {
    let names = written.value.iter().filter_map(|word| match refuse_pattern(word.value.as_str()) {
        Ok(()) => Some(normal_name(word.value.as_str())),
        Err(why) => {
            problems.error(word.span.clone(), format!("`{}` is no host name: {why}", word.value));
            None
        }
    });
    names.collect()
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
    for warning in warnings {
        match &warning {
            SetWarning::SeveralDefaults(ids) => several_defaults(ids, written, problems),
            _ => {
                problems.warning(written.first().map(|(name, _)| name.span.clone()), warning.to_string());
            }
        }
    }
}

/// Which of several would be the default is not to be guessed; an RSA and an ECDSA one are none too many.
fn several_defaults(
    ids: &[String],
    written: &[(Located<String>, Located<file::Certificate>)],
    problems: &mut Problems,
) {
    for id in ids.iter().skip(1) {
        let default = written
            .iter()
            .find(|(name, _)| name.value == *id)
            .and_then(|(_, table)| table.value.default.as_ref());
        let title = format!("certificate `{}` is the default already", ids.first().unwrap_or(id));
        problems
            .error(default.map(|default| default.key.clone()), title)
            .help("leave `default = true` to one of them, or to one with RSA and one with ECDSA");
    }
}
