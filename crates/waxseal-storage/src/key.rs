//! Names of values.

use std::fmt;

/// Longest segment of a key, in bytes: a file's name may have 255, and a temporary one needs some for itself.
const MAX_SEGMENT: usize = 200;
/// Most segments of a key.
const MAX_SEGMENTS: usize = 8;

/// The name of a value: segments of letters, digits, `.`, `-`, `_`, `+`, joined by `/`.
///
/// No segment begins with a dot, so that a key is a safe relative path wherever it is one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Box<str>);

/// Why a text is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no storage key")]
pub struct KeyError(pub String);

impl Key {
    /// Reads a key.
    ///
    /// # Errors
    ///
    /// A text with other segments than those that [`Key`] allows.
    pub fn new(text: &str) -> Result<Self, KeyError> {
        let fine = text.split('/').count() <= MAX_SEGMENTS && text.split('/').all(is_segment);
        if fine { Ok(Self(text.into())) } else { Err(KeyError(text.to_owned())) }
    }

    /// The key as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this key is below `prefix`: `a/b` is below `a`, neither below `a/b` nor below `a/`.
    pub fn is_below(&self, prefix: &Self) -> bool {
        self.0.strip_prefix(&*prefix.0).is_some_and(|rest| rest.starts_with('/'))
    }

    /// The segments.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }
}

fn is_segment(segment: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte);
    !segment.is_empty()
        && segment.len() <= MAX_SEGMENT
        && !segment.starts_with('.')
        && segment.bytes().all(allowed)
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_path_that_cannot_leave_its_directory() {
        for fine in ["a", "a/b", "certificates/mail.example.org/ecdsa-p256", "A_-+.x"] {
            assert!(Key::new(fine).is_ok(), "{fine}");
        }
        let long = "x".repeat(MAX_SEGMENT + 1);
        for wrong in
            ["", "/", "a/", "/a", "a//b", "..", "a/../b", ".a", "a/.b", "a b", "a\nb", "ä", "*", &long]
        {
            assert!(Key::new(wrong).is_err(), "{wrong}");
        }
        assert!(Key::new(&["a"; MAX_SEGMENTS + 1].join("/")).is_err());
    }

    #[test]
    fn below_means_whole_segments() {
        let key = |text| Key::new(text).expect("a key");
        assert!(key("a/b").is_below(&key("a")));
        assert!(key("a/b/c").is_below(&key("a/b")));
        assert!(!key("ab/c").is_below(&key("a")));
        assert!(!key("a").is_below(&key("a")));
    }
}
