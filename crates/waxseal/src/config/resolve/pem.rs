//! PEM that stands in the configuration or in files it names.

use waxseal_tls::{PemPart, PemSource};

use crate::config::macros;
use crate::config::problem::Problems;
use crate::config::source::Span;
use crate::config::unreadable;

/// The whole text; a file that cannot be read is told of.
pub(super) fn text(source: &PemSource, span: &Span, problems: &mut Problems) -> Option<String> {
    let mut text = String::new();
    for part in &source.parts {
        match part {
            PemPart::Text(piece) => text.push_str(piece),
            PemPart::File(path) => match macros::read(path) {
                Ok(piece) => text.push_str(&piece),
                Err(error) => {
                    unreadable::complain(problems, span.clone(), path, &error);
                    return None;
                }
            },
        }
        text.push('\n');
    }
    Some(text)
}

/// Where the PEM comes from, never the PEM itself.
pub(super) fn in_words(source: &PemSource) -> String {
    let words = source.parts.iter().map(|part| match part {
        PemPart::File(path) => format!("%{{file:{}}}%", path.display()),
        PemPart::Text(_) => "(PEM text)".to_owned(),
    });
    words.collect()
}
