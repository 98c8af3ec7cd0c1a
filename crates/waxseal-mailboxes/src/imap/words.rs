//! How values are written in answers (RFC 9051 section 9).

/// A quoted string where it can be one, else a literal.
pub(super) fn put_string(text: &[u8], out: &mut Vec<u8>) {
    let quotable = |byte: &u8| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t');
    if text.iter().all(quotable) {
        put_quoted(text, out);
    } else {
        put_literal(text, out);
    }
}

/// A mailbox name, quoted whatever it has: names have neither control characters nor, before IMAP4rev2, octets beyond ASCII.
pub(super) fn put_mailbox(name: &str, out: &mut Vec<u8>) {
    put_quoted(name.as_bytes(), out);
}

fn put_quoted(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

/// A string or NIL.
pub(super) fn put_nstring(text: Option<&[u8]>, out: &mut Vec<u8>) {
    match text {
        Some(text) => put_string(text, out),
        None => out.extend_from_slice(b"NIL"),
    }
}

/// A literal. It cannot have a NUL, which becomes another octet that is no text either.
pub(super) fn put_literal(text: &[u8], out: &mut Vec<u8>) {
    put_literal_head(text.len(), out);
    out.extend(text.iter().map(|byte| if *byte == 0 { NUL_STAND_IN } else { *byte }));
}

/// What stands where a message has a NUL.
pub(super) const NUL_STAND_IN: u8 = 0x80;

/// `{length}` and its line end.
pub(super) fn put_literal_head(length: usize, out: &mut Vec<u8>) {
    out.push(b'{');
    put_number(length as u64, out);
    out.extend_from_slice(b"}\r\n");
}

pub(super) fn put_number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(number.to_string().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_quoted_where_it_can_be() {
        let written = |text: &[u8]| {
            let mut out = Vec::new();
            put_string(text, &mut out);
            out
        };
        assert_eq!(written(b"a \"b\" \\"), b"\"a \\\"b\\\" \\\\\"");
        assert_eq!(written(b"a\r\nb"), b"{4}\r\na\r\nb");
        assert_eq!(written(b"a\0b"), b"{3}\r\na\x80b");
        assert_eq!(written("\u{e4}".as_bytes()), b"{2}\r\n\xc3\xa4");
        assert_eq!(written(b""), b"\"\"");
    }
}
