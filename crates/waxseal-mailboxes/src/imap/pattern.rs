//! The patterns of LIST and LSUB (RFC 9051 section 6.3.9).

use crate::store::SEPARATOR;

/// The longest pattern: no name is longer.
const MAX_PATTERN: usize = 1024;

/// Reference and mailbox pattern, one behind the other.
#[derive(Debug)]
pub(super) struct Pattern(Vec<u8>);

impl Pattern {
    pub(super) fn new(reference: &[u8], pattern: &[u8]) -> Self {
        let mut whole = [reference, pattern].concat();
        // Wildcards in a row are as one.
        whole.dedup_by(|next, before| matches!((*before, *next), (b'*', b'*' | b'%') | (b'%', b'%')));
        whole.truncate(MAX_PATTERN);
        // INBOX in any case is INBOX, also as the level above others.
        let inbox = whole.len().min(5);
        let (first, rest) = whole.split_at_mut(inbox);
        let ends = rest.first().is_none_or(|next| b"*%".contains(next) || char::from(*next) == SEPARATOR);
        if ends && first.eq_ignore_ascii_case(b"INBOX") {
            first.make_ascii_uppercase();
        }
        Self(whole)
    }

    /// Whether the last thing is `%`.
    pub(super) fn ends_in_level(&self) -> bool {
        self.0.last() == Some(&b'%')
    }

    /// Whether a name is of this pattern: `*` is anything, `%` anything within a level.
    pub(super) fn matches(&self, name: &str) -> bool {
        // All places in the pattern that the name so far can have led to: time is at most length times length.
        let mut places = vec![false; self.0.len() + 1];
        self.enter(0, &mut places);
        for byte in name.bytes() {
            let mut next = vec![false; places.len()];
            for (at, wanted) in self.0.iter().enumerate() {
                if places.get(at) != Some(&true) {
                    continue;
                }
                match wanted {
                    b'*' => self.enter(at, &mut next),
                    b'%' if char::from(byte) != SEPARATOR => self.enter(at, &mut next),
                    b'%' => {}
                    wanted if *wanted == byte => self.enter(at + 1, &mut next),
                    _ => {}
                }
            }
            places = next;
        }
        places.last() == Some(&true)
    }

    /// Marks a place, and those behind wildcards that stand for nothing.
    fn enter(&self, at: usize, places: &mut [bool]) {
        let mut at = at;
        while let Some(place) = places.get_mut(at) {
            *place = true;
            if !matches!(self.0.get(at), Some(b'*' | b'%')) {
                return;
            }
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_for_what_the_rfc_says() {
        for (pattern, name, expected) in [
            ("*", "INBOX", true),
            ("*", "a.b.c", true),
            ("%", "a", true),
            ("%", "a.b", false),
            ("a.%", "a.b", true),
            ("a.%", "a.b.c", false),
            ("a*c", "a.b.c", true),
            ("%.%", "a.b", true),
            ("inbox", "INBOX", true),
            ("inBox.%", "INBOX.a", true),
            ("inboxes", "INBOXes", false),
            ("A", "a", false),
            ("", "a", false),
            ("a%", "a", true),
            ("%*%", "a.b", true),
        ] {
            assert_eq!(Pattern::new(b"", pattern.as_bytes()).matches(name), expected, "{pattern} {name}");
        }
        assert!(Pattern::new(b"a.", b"%").matches("a.b"));
    }

    #[test]
    fn many_wildcards_take_no_long_time() {
        let pattern = Pattern::new(b"", "%*a".repeat(300).as_bytes());
        assert!(!pattern.matches(&"a.".repeat(120)));
    }
}
