//! Sets of messages, by sequence number or UID.

use super::{Cursor, Parsed, SyntaxError};

/// sequence-set as written; a `None` is `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::imap) enum SequenceSet {
    /// `$`: what the last SEARCH saved (RFC 5182).
    Saved,
    /// Ranges in the order written, each end in either order.
    Written(Vec<(Option<u32>, Option<u32>)>),
}

/// Ranges in ascending order that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::imap) struct Ranges(Vec<(u32, u32)>);

impl Cursor<'_> {
    pub(super) fn sequence_set(&mut self) -> Parsed<SequenceSet> {
        if self.take(b'$') {
            return Ok(SequenceSet::Saved);
        }
        let mut ranges = Vec::new();
        loop {
            let from = self.sequence_number()?;
            let to = if self.take(b':') { self.sequence_number()? } else { from };
            ranges.push((from, to));
            if !self.take(b',') {
                return Ok(SequenceSet::Written(ranges));
            }
        }
    }

    fn sequence_number(&mut self) -> Parsed<Option<u32>> {
        if self.take(b'*') {
            return Ok(None);
        }
        self.nz_number().map(Some).map_err(|_| SyntaxError("a set of messages is malformed"))
    }
}

impl SequenceSet {
    /// The set in order, `*` being `largest`. `None` for `$`.
    pub(in crate::imap) fn resolve(&self, largest: u32) -> Option<Ranges> {
        let Self::Written(ranges) = self else { return None };
        Some(Ranges::new(ranges.iter().map(|(from, to)| {
            let (from, to) = (from.unwrap_or(largest), to.unwrap_or(largest));
            (from.min(to), from.max(to))
        })))
    }

    /// The largest number written, `*` not counted.
    pub(in crate::imap) fn largest_written(&self) -> u32 {
        let Self::Written(ranges) = self else { return 0 };
        ranges.iter().flat_map(|(from, to)| [*from, *to]).flatten().max().unwrap_or(0)
    }
}

impl Ranges {
    /// From ranges (first, last) in any order.
    pub(in crate::imap) fn new(ranges: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut sorted: Vec<_> = ranges.into_iter().collect();
        sorted.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(sorted.len());
        for (from, to) in sorted {
            match merged.last_mut() {
                Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        merged.shrink_to_fit();
        Self(merged)
    }

    /// Of single numbers.
    pub(in crate::imap) fn of(numbers: impl IntoIterator<Item = u32>) -> Self {
        Self::new(numbers.into_iter().map(|number| (number, number)))
    }

    pub(in crate::imap) fn contains(&self, number: u32) -> bool {
        let behind = self.0.partition_point(|(from, _)| *from <= number);
        behind.checked_sub(1).and_then(|at| self.0.get(at)).is_some_and(|(_, to)| number <= *to)
    }

    pub(in crate::imap) fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.0.iter().copied()
    }

    /// As in `1:3,5`.
    pub(in crate::imap) fn write(&self, out: &mut Vec<u8>) {
        write_ranges(self.iter(), out);
    }
}

/// As in `1:3,5`, in the order given.
pub(in crate::imap) fn write_ranges(ranges: impl Iterator<Item = (u32, u32)>, out: &mut Vec<u8>) {
    for (index, (from, to)) in ranges.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(from.to_string().as_bytes());
        if to != from {
            out.push(b':');
            out.extend_from_slice(to.to_string().as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str, largest: u32) -> String {
        let set = Cursor::new(text.as_bytes()).sequence_set().unwrap().resolve(largest).unwrap();
        let mut out = Vec::new();
        set.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn sets_are_brought_in_order() {
        assert_eq!(resolved("5,1:3,2:4", 9), "1:5");
        assert_eq!(resolved("*:7", 9), "7:9");
        assert_eq!(resolved("12:*", 9), "9:12");
        assert_eq!(resolved("4294967295,1", 9), "1,4294967295");
    }

    #[test]
    fn what_is_in_a_set_is_found() {
        let set = Ranges::new([(3, 5), (9, 9)]);
        let found: Vec<u32> = (0..12).filter(|number| set.contains(*number)).collect();
        assert_eq!(found, [3, 4, 5, 9]);
    }

    #[test]
    fn malformed_sets_are_refused() {
        for bad in ["", "0", "1,", ":1", "1:", "a", "1:0", "4294967296"] {
            assert!(Cursor::new(bad.as_bytes()).sequence_set().is_err(), "{bad}");
        }
    }
}
