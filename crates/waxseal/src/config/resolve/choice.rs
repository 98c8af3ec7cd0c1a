//! A word that must be one of a few.

use crate::config::problem::Problems;
use crate::config::reader::Located;
use crate::config::values::Word;
use crate::config::words::suggest;

/// The value of a word; else an error that names the nearest one.
///
/// `strangers`: words that other programs or tempers use, with what to write here.
pub(super) fn choose<T: Clone>(
    written: &Option<Located<Word>>,
    key: &str,
    choices: &[(&'static str, T)],
    strangers: &[(&str, &str)],
    problems: &mut Problems,
) -> Option<Located<T>> {
    let word = written.as_ref()?;
    let text = word.value.as_str();
    if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == text) {
        return Some(word.with(choice.clone()));
    }
    let stranger = strangers.iter().find(|(stranger, _)| stranger.eq_ignore_ascii_case(text));
    let help = match stranger {
        Some((_, instead)) => format!("write {instead}"),
        None => suggest(text, choices.iter().map(|(name, _)| *name)),
    };
    problems.error(word.span.clone(), format!("unknown {key} `{}`", word.value)).help(help);
    None
}
