//! The configuration: from a TOML file to a [`Model`], or to everything that is wrong with it.
//!
//! What is written (`file`) and what is used ([`Model`]) are two families of types; `resolve` leads from one to the
//! other. No other part of the program knows TOML.

mod duration;
mod file;
mod macros;
mod model;
mod names;
mod nearest;
mod problem;
mod reader;
mod resolve;
mod source;
mod unreadable;
mod values;
mod words;

use std::path::Path;

pub use model::{
    Acme, Behind, Format, Level, Listener, Log, Mailboxes, Model, Places, RunAs, Section, Security, Trust,
    Upstream, UpstreamTls,
};
pub use nearest::{InForce, Origin};
pub use problem::{Problem, ProblemRecord, Problems, Report, Severity, Style};
pub use source::{Source, Span};
use toml::de::{DeTable, DeValue};
use waxseal_tls::Entry;

use self::file::File;
use self::reader::{Reading, Spot, Written};
pub(crate) use names::refuse_hostname;
pub(crate) use unreadable::read_bounded;

/// Bytes a configuration file may have.
const MAX_CONFIGURATION_BYTES: u64 = 1 << 20;

/// What a configuration takes from the machine it is read on.
pub struct Machine {
    /// The system's name, where it is text.
    pub hostname: Option<String>,
    /// An environment variable, where it is set and text.
    pub variable: fn(&str) -> Option<String>,
}

impl Machine {
    /// The one we run on.
    pub fn this() -> Self {
        let hostname = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        Self { hostname, variable: |name| std::env::var(name).ok() }
    }
}

/// A configuration that may be served.
#[derive(Debug)]
pub struct Loaded {
    /// What to serve.
    pub model: Model,
    /// The certificates of `model.certificates`, read.
    pub identities: Vec<Entry>,
    /// The file, and warnings about it.
    pub report: Report,
}

/// Reads the configuration at `path`, certificates included. Starts and changes nothing.
///
/// # Errors
///
/// Everything that is wrong, at least one error among it.
pub fn load(path: &Path, machine: &Machine) -> Result<Loaded, Report> {
    match unreadable::read_bounded(path, MAX_CONFIGURATION_BYTES) {
        Ok(text) => understand(Source::new(path, text), machine),
        Err(error) => {
            let mut problems = Problems::default();
            let problem = unreadable::complain(&mut problems, None, path, &error);
            if error.kind() == std::io::ErrorKind::NotFound {
                problem
                    .help("name another one with --config FILE or the environment variable WAXSEAL_CONFIG");
            }
            Err(Report { source: Source::new(path, ""), problems })
        }
    }
}

/// Understands a configuration that has been read.
///
/// # Errors
///
/// As [`load`].
pub fn understand(source: Source, machine: &Machine) -> Result<Loaded, Report> {
    let mut problems = Problems::default();
    let resolved = written(&source, machine, &mut problems)
        .map(|file| resolve::resolve(file, &source, machine, &mut problems));
    let refused = problems.any_error();
    problems.settle();
    let report = Report { source, problems };
    match resolved {
        Some((model, identities)) if !refused => Ok(Loaded { model, identities, report }),
        _ => Err(report),
    }
}

/// The file in its own terms; `None` if it is no TOML.
fn written(source: &Source, machine: &Machine, problems: &mut Problems) -> Option<File> {
    let (document, errors) = DeTable::parse_recoverable(source.text());
    let span = document.span();
    let value = DeValue::Table(document.into_inner());
    let spot = Spot { key: span.clone(), span, value: &value };
    let file = File::read(spot, &mut Reading::new(source, machine, problems));
    if errors.is_empty() {
        return file;
    }
    // What the parser made of a broken line is its guess, and what the line would have said is missing: complaints about
    // either would mislead.
    let line = |span: &Span| source.position(span.start).0;
    let broken: Vec<_> = errors.iter().filter_map(|error| error.span()).map(|span| line(&span)).collect();
    problems.retain(|problem| problem.span.as_ref().is_none_or(|span| !broken.contains(&line(span))));
    for error in &errors {
        problems.error(error.span(), error.message().replace('\n', ", "));
    }
    None
}
