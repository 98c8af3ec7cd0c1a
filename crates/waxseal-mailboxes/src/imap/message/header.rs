//! Header fields as they stand.

use memchr::memchr;

/// One field: `raw` is all of it with its line ends, `value` what is behind the colon.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    pub(super) raw: &'a [u8],
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
}

/// Where the body begins: behind the first empty line. `None` when there is none.
pub(in crate::imap) fn end_of_header(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(line) = line_at(bytes, at) {
        at += line.len();
        if matches!(line, b"\r\n" | b"\n") {
            return Some(at);
        }
    }
    None
}

/// The line that begins at `at`, with its end.
pub(super) fn line_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
    let length = memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
    rest.get(..length)
}

/// The fields of a header. A line that is no field (no colon, such as mbox's `From `) has an empty name.
pub(super) fn fields(header: &[u8]) -> impl Iterator<Item = Field<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at;
        let first = line_at(header, at)?;
        if matches!(first, b"\r\n" | b"\n") {
            return None;
        }
        at += first.len();
        // RFC 5322 section 2.2.3: a line that begins with white space continues the field.
        while let Some(line) = line_at(header, at).filter(|line| matches!(line.first(), Some(b' ' | b'\t'))) {
            at += line.len();
        }
        let raw = header.get(start..at)?;
        let (name, value) = match memchr(b':', first) {
            Some(colon) => (raw.get(..colon)?.trim_ascii_end(), raw.get(colon + 1..)?),
            None => (&raw[..0], raw),
        };
        Some(Field { raw, name, value })
    })
}

/// The values of all fields of this name.
pub(super) fn values<'a>(header: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    fields(header)
        .filter(move |field| field.name.eq_ignore_ascii_case(name.as_bytes()))
        .map(|field| field.value)
}

/// A value on one line, without white space around it, its tabs as spaces: folds are mostly made of one or the other.
pub(super) fn unfolded(value: &[u8]) -> Vec<u8> {
    let line = value.trim_ascii().iter().filter(|byte| !matches!(byte, b'\r' | b'\n'));
    line.map(|byte| if *byte == b'\t' { b' ' } else { *byte }).collect()
}

/// HEADER.FIELDS and HEADER.FIELDS.NOT: the fields named (or all others) as they stand, and the empty line.
pub(in crate::imap) fn write_fields(header: &[u8], names: &[Vec<u8>], not: bool, out: &mut Vec<u8>) {
    for field in fields(header) {
        if names.iter().any(|name| name.eq_ignore_ascii_case(field.name)) != not {
            out.extend_from_slice(field.raw);
        }
    }
    // RFC 9051 section 6.4.5.1: not where a message is all header and has no empty line; chosen fields are a header of their own.
    if !not || end_of_header(header).is_some() {
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8] = b"From x\r\nSubject: a\r\n  b\r\nX : y\r\nsubject:\r\n\r\nBody: no\r\n";

    #[test]
    fn fields_are_told_apart() {
        let names: Vec<_> = fields(HEADER).map(|field| field.name).collect();
        assert_eq!(names, [&b""[..], b"Subject", b"X", b"subject"]);
        assert_eq!(values(HEADER, "subject").map(unfolded).collect::<Vec<_>>(), [b"a  b".to_vec(), vec![]]);
    }

    #[test]
    fn fields_are_chosen_by_name() {
        let mut out = Vec::new();
        write_fields(HEADER, &[b"SUBJECT".to_vec()], false, &mut out);
        assert_eq!(out, b"Subject: a\r\n  b\r\nsubject:\r\n\r\n");
        out.clear();
        write_fields(HEADER, &[b"SUBJECT".to_vec()], true, &mut out);
        assert_eq!(out, b"From x\r\nX : y\r\n\r\n");
    }

    #[test]
    fn the_header_ends_at_the_first_empty_line() {
        assert_eq!(end_of_header(b"a: b\r\n\r\nc"), Some(8));
        assert_eq!(end_of_header(b"\r\nc"), Some(2));
        assert_eq!(end_of_header(b"a: b\r\nc"), None);
        assert_eq!(end_of_header(b""), None);
    }
}
