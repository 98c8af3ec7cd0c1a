//! The text of a configuration file, with the lines and columns that problems are told by.

use std::ops::Range;
use std::path::{Path, PathBuf};

/// Where something stands in the file, in bytes.
pub type Span = Range<usize>;

/// A configuration file as it was read.
#[derive(Clone, Debug)]
pub struct Source {
    path: PathBuf,
    text: String,
    /// `text` with private keys and secrets masked, byte for byte as long: the only form that is ever printed.
    printable: String,
}

impl Source {
    /// A file at `path` that holds `text`.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { path: path.into(), printable: mask_secrets(&mask_private_keys(&text)), text }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory that relative paths in it start from.
    pub(crate) fn directory(&self) -> &Path {
        self.path.parent().unwrap_or_else(|| Path::new(""))
    }

    /// The whole text. It may hold private keys and secrets: for parsing, not for printing.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The whole text, private keys and secrets masked.
    pub(crate) fn printable(&self) -> &str {
        &self.printable
    }

    /// Line and column (both from 1, columns in characters) of a byte.
    pub fn position(&self, byte: usize) -> (usize, usize) {
        let before = self.printable.get(..byte).unwrap_or(&self.printable);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        (line, before[line_start..].chars().count() + 1)
    }

    /// The part of `span` that stands on its first line; an empty span takes the character it points at.
    pub(crate) fn first_line(&self, span: &Span) -> Span {
        let Some(text) = self.printable.get(span.clone()) else { return 0..0 };
        let end = span.start + text.find(['\n', '\r']).unwrap_or(text.len());
        span.start..end
    }

    /// What stands at `span`, up to the end of its first line.
    pub fn excerpt(&self, span: &Span) -> &str {
        self.printable.get(self.first_line(span)).unwrap_or_default()
    }
}

/// The keys whose values are nobody's business, wherever they stand: so are those of keys that hold such a word, or are one
/// of them but for a slip of the finger.
const SECRET_KEYS: [&str; 7] =
    ["secret", "hmac", "hmac-key", "passphrase", "password", "consumer-key", "token"];
/// One slip for so many letters.
const LETTERS_PER_SLIP: usize = 4;

/// Whether what stands before a `=` ends in such a key, dotted or not.
fn is_secret(before: &str) -> bool {
    let key = before.trim_end_matches([' ', '\t']);
    let outside = |character: char| !character.is_alphanumeric() && !"-_.\"'".contains(character);
    let key = key.rfind(outside).map_or(key, |at| key.get(at..).unwrap_or_default());
    key.split(['.', '"', '\'']).map(|part| part.trim().to_ascii_lowercase().replace('_', "-")).any(|part| {
        SECRET_KEYS.iter().any(|secret| {
            let slips = secret.len() / LETTERS_PER_SLIP;
            part.contains(secret) || strsim::damerau_levenshtein(&part, secret) <= slips
        })
    })
}

/// Where the string that begins behind `quote` ends. In one with double quotes a backslash takes the next character along.
fn end_of_string(inside: &str, quote: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let end = from + inside.get(from..)?.find(quote)?;
        let slashes = inside.get(..end)?.bytes().rev().take_while(|byte| *byte == b'\\').count();
        if quote.starts_with('\'') || slashes % 2 == 0 {
            return Some(end);
        }
        from = end + 1;
    }
}

/// Replaces the values of secret keys by stars, macros excepted. It reads no TOML, which may be broken just there: what
/// is behind `KEY =` counts up to the end of the string, else of the line.
fn mask_secrets(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, length)) = first_secret(rest) {
        let (head, tail) = rest.split_at(at);
        let (value, tail) = tail.split_at(length);
        masked.push_str(head);
        masked.extend(value.chars().flat_map(|character| {
            let shown = if "\n\r\"'[], \t".contains(character) { character } else { '*' };
            std::iter::repeat_n(shown, character.len_utf8())
        }));
        rest = tail;
    }
    masked + rest
}

/// Where the value of the first secret key stands, and its length.
fn first_secret(text: &str) -> Option<(usize, usize)> {
    let mut from = 0;
    while let Some(equals) = text.get(from..)?.find('=').map(|at| from + at) {
        from = equals + 1;
        let value = text.get(from..)?;
        let blank = value.len() - value.trim_start_matches([' ', '\t']).len();
        let value = value.get(blank..)?;
        if is_secret(text.get(..equals)?) {
            let length = ["\"\"\"", "\'\'\'", "\"", "\'"]
                .into_iter()
                .find(|quote| value.starts_with(quote))
                .map_or_else(
                    || value.find(['\n', '}']),
                    |quote| {
                        let inside = value.get(quote.len()..)?;
                        let end = end_of_string(inside, quote).map(|at| at + 2 * quote.len());
                        end.or_else(|| value.find('\n'))
                    },
                )
                .unwrap_or(value.len());
            let content = value.get(..length)?.trim_matches(['"', '\'']);
            let is_macro = content.starts_with("%{") && content.ends_with("}%");
            if !is_macro && !content.is_empty() {
                return Some((from + blank, length));
            }
        }
    }
    None
}

/// Replaces what stands between the lines `BEGIN ... PRIVATE KEY` and `END` by stars.
fn mask_private_keys(text: &str) -> String {
    const BEGIN: &str = "PRIVATE KEY-----";
    const END: &str = "-----END";
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find(BEGIN) {
        let (head, secret) = rest.split_at(begin + BEGIN.len());
        let (secret, tail) = secret.split_at(secret.find(END).unwrap_or(secret.len()));
        masked.push_str(head);
        for character in secret.chars() {
            match character {
                '\n' | '\r' => masked.push(character),
                // As many bytes as the character had, so that every span still fits.
                _ => masked.extend(std::iter::repeat_n('*', character.len_utf8())),
            }
        }
        rest = tail.strip_prefix(END).map_or(tail, |after| {
            masked.push_str(END);
            // The closing line names "PRIVATE KEY-----" too and opens nothing.
            let closing = after.find(BEGIN).map_or(0, |at| at + BEGIN.len());
            masked.push_str(&after[..closing]);
            &after[closing..]
        });
    }
    masked.push_str(rest);
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_not_bytes() {
        let source = Source::new("f", "a = 1\nß = 2\n");
        assert_eq!(source.position(0), (1, 1));
        assert_eq!(source.position(6), (2, 1));
        assert_eq!(source.position(8), (2, 2));
        assert_eq!(source.position(1000), (3, 1));
    }

    #[test]
    fn private_keys_are_never_printable() {
        let text = "x = \"\"\"-----BEGIN EC PRIVATE KEY-----\nsecrét\n-----END EC PRIVATE KEY-----\n\"\"\"\ny = 'open'\n\
                    z = \"-----BEGIN PRIVATE KEY-----\\nsecond\\n-----END PRIVATE KEY-----\"\nw = 1";
        let source = Source::new("f", text);
        assert!(!source.printable().contains("secr"));
        assert!(!source.printable().contains("second"));
        assert!(source.printable().contains("y = 'open'"));
        assert!(source.printable().ends_with("w = 1"));
        assert_eq!(source.printable().len(), text.len());
        let cut = Source::new("f", "-----BEGIN PRIVATE KEY-----\ntruncated");
        assert!(!cut.printable().contains("truncated"));
    }

    #[test]
    fn an_excerpt_ends_with_its_line() {
        let source = Source::new("f", "list = [\n1,\n]");
        assert_eq!(source.excerpt(&(7..13)), "[");
    }

    #[test]
    fn secrets_are_masked_wherever_they_stand_and_macros_are_not() {
        for (text, shown) in [
            ("secret = \"a=b,c\"\nkey = \"k\"", "secret = \"***,*\"\nkey = \"k\""),
            ("eab = { kid = \"x\", hmac-key = 'y z' }", "eab = { kid = \"x\", hmac-key = '* *' }"),
            ("eab.hmac-key=\"open\nnext = 1", "eab.hmac-key=\"****\nnext = 1"),
            ("secret = [\"ä\", \"b\"]", "secret = [\"**\", \"*\"]"),
            ("\"secret\" = \"\"\"a\nb\"\"\"", "\"secret\" = \"\"\"*\n*\"\"\""),
            ("secret = \"%{env:S}%\" # s", "secret = \"%{env:S}%\" # s"),
            ("my-secret = \"a\"", "my-secret = \"*\""),
            ("secret = \"a \\\"b\\\\\"\nx = \"c\"", "secret = \"* *\"***\"\nx = \"c\""),
            ("secert = \"a\"\nport = 25", "secert = \"*\"\nport = 25"),
            ("api_token = 'a'\neab.hmac_key = 'b'", "api_token = '*'\neab.hmac_key = '*'"),
            ("secret.x = \"a\"\nregion = \"b\"", "secret.x = \"*\"\nregion = \"b\""),
            ("cert = \"a\"\nkey = \"b\"", "cert = \"a\"\nkey = \"b\""),
            ("imap = \"a\"\nsocket.tos = 1", "imap = \"a\"\nsocket.tos = 1"),
            ("secret =", "secret ="),
        ] {
            let source = Source::new("w.toml", text);
            assert_eq!(source.printable(), shown);
            assert_eq!(source.printable().len(), text.len());
        }
    }
}
