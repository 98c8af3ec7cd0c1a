//! ENVELOPE (RFC 9051 section 7.5.2).

use super::address::{EnvelopeAddress, addresses};
use super::header::{Field, fields, unfolded};
use crate::imap::words::{put_nstring, put_string};

/// How much of a message can be its header.
pub(in crate::imap) const MAX_HEADER: usize = 1 << 20;

/// Writes the envelope of the message whose header this is.
pub(in crate::imap) fn write_envelope(header: &[u8], out: &mut Vec<u8>) {
    let header = header.get(..header.len().min(MAX_HEADER)).unwrap_or_default();
    let fields: Vec<Field<'_>> = fields(header).collect();
    let values = |name: &'static str| {
        let named = fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name.as_bytes()));
        named.map(|field| field.value)
    };
    let text = |name| values(name).next().map(unfolded);
    let list = |name| addresses(values(name));
    out.push(b'(');
    put_nstring(text("date").as_deref(), out);
    out.push(b' ');
    put_nstring(text("subject").as_deref(), out);
    let from = list("from");
    out.push(b' ');
    write_list(&from, out);
    // A missing Sender or Reply-To, or an empty one, is the same as From.
    for name in ["sender", "reply-to"] {
        let own = list(name);
        out.push(b' ');
        write_list(if own.is_empty() { &from } else { &own }, out);
    }
    for name in ["to", "cc", "bcc"] {
        out.push(b' ');
        write_list(&list(name), out);
    }
    for name in ["in-reply-to", "message-id"] {
        out.push(b' ');
        put_nstring(text(name).as_deref(), out);
    }
    out.push(b')');
}

fn write_list(list: &[EnvelopeAddress], out: &mut Vec<u8>) {
    if list.is_empty() {
        out.extend_from_slice(b"NIL");
        return;
    }
    out.push(b'(');
    for address in list {
        out.push(b'(');
        for (index, part) in
            [&address.name, &address.route, &address.mailbox, &address.host].into_iter().enumerate()
        {
            if index > 0 {
                out.push(b' ');
            }
            match part {
                Some(text) => put_string(text, out),
                None => out.extend_from_slice(b"NIL"),
            }
        }
        out.push(b')');
    }
    out.push(b')');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(header: &str) -> String {
        let mut out = Vec::new();
        write_envelope(header.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fields_stand_as_they_are() {
        let header = "Date: Mon, 7 Feb 1994 21:52:25 -0800\r\nFrom: =?UTF-8?Q?J=C3=BC?= <j@x>\r\nTo: a@b,\r\n c@d\r\n\
            Subject: a\r\n folded \"subject\"\r\nMessage-ID: <1@x>\r\n\r\n";
        assert_eq!(
            envelope(header),
            "(\"Mon, 7 Feb 1994 21:52:25 -0800\" \"a folded \\\"subject\\\"\" \
             ((\"=?UTF-8?Q?J=C3=BC?=\" NIL \"j\" \"x\")) ((\"=?UTF-8?Q?J=C3=BC?=\" NIL \"j\" \"x\")) \
             ((\"=?UTF-8?Q?J=C3=BC?=\" NIL \"j\" \"x\")) ((NIL NIL \"a\" \"b\")(NIL NIL \"c\" \"d\")) \
             NIL NIL NIL \"<1@x>\")"
        );
    }

    #[test]
    fn a_header_of_nothing_has_an_envelope() {
        assert_eq!(envelope("\r\n"), "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)");
    }

    #[test]
    fn what_is_beyond_ascii_is_a_literal() {
        assert!(envelope("Subject: \u{e4}\r\n\r\n").starts_with("(NIL {2}\r\n\u{e4} NIL"));
    }
}
