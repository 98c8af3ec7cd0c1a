//! Small pieces of grammar that the protocols share.

/// The first word of a line and what follows it, both without the blanks around them.
pub(crate) fn first_word(line: &str) -> (&str, &str) {
    let line = line.trim();
    match line.split_once([' ', '\t']) {
        Some((word, rest)) => (word, rest.trim_start()),
        None => (line, ""),
    }
}

/// The text without one pair of quotes around it.
pub(crate) fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}
