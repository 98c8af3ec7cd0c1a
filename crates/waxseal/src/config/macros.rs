//! `%{file:PATH}%` and `%{env:NAME}%` in a value.

use std::path::{Path, PathBuf};

const OPEN: &str = "%{";
const CLOSE: &str = "}%";

/// Bytes a file taken into a value may have: a bundle of every public root has about 250,000.
pub(crate) const MAX_FILE_BYTES: u64 = 1 << 20;

/// One stretch of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'v> {
    /// Stands for itself.
    Text(&'v str),
    /// The content of a file.
    File(&'v str),
    /// The value of an environment variable.
    Variable(&'v str),
}

/// Why a value's macros cannot be understood, and the text that is at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadMacro<'v> {
    pub(crate) text: &'v str,
    pub(crate) why: &'static str,
}

/// Whether a value holds anything to expand.
pub(crate) fn present(value: &str) -> bool {
    value.contains(OPEN)
}

/// Takes a value apart. A value without macros is one text.
pub(crate) fn pieces(value: &str) -> Result<Vec<Piece<'_>>, BadMacro<'_>> {
    let mut pieces = Vec::new();
    let mut rest = value;
    while let Some(open) = rest.find(OPEN) {
        let (text, inner) = rest.split_at(open);
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        let Some(close) = inner.find(CLOSE) else {
            return Err(BadMacro { text: inner, why: "this macro has no end: `}%` is missing" });
        };
        let (whole, after) = inner.split_at(close + CLOSE.len());
        pieces.push(piece(whole)?);
        rest = after;
    }
    if !rest.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    Ok(pieces)
}

/// Understands one macro, its brackets included.
fn piece(whole: &str) -> Result<Piece<'_>, BadMacro<'_>> {
    let bad = |why| Err(BadMacro { text: whole, why });
    let inner = whole.trim_start_matches(OPEN).trim_end_matches(CLOSE);
    if inner.contains(OPEN) {
        return bad("a macro cannot hold another one");
    }
    match inner.split_once(':') {
        Some(("file" | "env", "")) => bad("this macro names nothing"),
        Some(("file", path)) => Ok(Piece::File(path)),
        Some(("env", name)) => Ok(Piece::Variable(name)),
        _ => bad("unknown macro"),
    }
}

/// Where a path in a macro leads: a relative one starts at the configuration file's directory.
pub(crate) fn locate(path: &str, directory: &Path) -> PathBuf {
    directory.join(path)
}

/// The text of a file, without the line ends at its end, as a shell's `$(cat FILE)` gives it.
pub(crate) fn read(path: &Path) -> std::io::Result<String> {
    let text = super::unreadable::read_bounded(path, MAX_FILE_BYTES)?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_taken_apart_in_order() {
        assert_eq!(
            pieces("a%{env:B}%c%{file:/d e}%").unwrap(),
            [Piece::Text("a"), Piece::Variable("B"), Piece::Text("c"), Piece::File("/d e")]
        );
        assert_eq!(pieces("").unwrap(), [Piece::Text("")]);
        assert_eq!(pieces("100%").unwrap(), [Piece::Text("100%")]);
    }

    #[test]
    fn what_is_no_macro_is_refused_with_its_text() {
        let why = |value| pieces(value).unwrap_err();
        assert_eq!(why("x%{env:A").text, "%{env:A");
        assert_eq!(why("%{vault:A}%").why, "unknown macro");
        assert_eq!(why("%{file:}%").why, "this macro names nothing");
        assert_eq!(why("%{file:/a/%{env:B}%/c}%").why, "a macro cannot hold another one");
        assert_eq!(why("%{}%").text, "%{}%");
    }
}
