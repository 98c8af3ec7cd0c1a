//! PEM that stands in the configuration or in files it names.

use waxseal_tls::{PemPart, PemSource};

use crate::config::macros;
use crate::config::problem::Problems;
use crate::config::reader::Located;
use crate::config::unreadable;

/// The whole text; a file that cannot be read is told of.
pub(super) fn text(source: &Located<PemSource>, problems: &mut Problems) -> Option<String> {
    let mut text = String::new();
    for part in &source.value.parts {
        match part {
            PemPart::Text(piece) => text.push_str(piece),
            PemPart::File(path) => match macros::read(path) {
                Ok(piece) => text.push_str(&piece),
                Err(error) => {
                    let title = format!("cannot read {}: {}", path.display(), unreadable::reason(&error));
                    unreadable::explain(problems.error(source.span.clone(), title), path, &error);
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
