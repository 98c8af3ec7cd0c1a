//! What FETCH and SEARCH tell of a message, from its bytes (CRLF line ends).
//!
//! ENVELOPE, BODYSTRUCTURE and the sections of BODY speak of octets as they stand, encoded words and all, so they are read here
//! from the bytes. Where meaning is asked for (transfer encodings, charsets, dates) the work is the library's.
//! Any bytes are a message: nothing here fails, and depth and number of parts are bounded.

mod address;
mod body_structure;
mod decoded;
mod envelope;
mod header;
mod lexer;
mod section;
mod structure;

pub(super) use self::body_structure::{Extensions, write_body_structure};
pub(super) use self::decoded::Decoded;
pub(super) use self::envelope::{MAX_HEADER, write_envelope};
pub(super) use self::header::{end_of_header, write_fields};
pub(super) use self::section::{BinaryError, Found, binary, section};
pub(super) use self::structure::{Part, structure};

/// Says all there is to say of a message.
pub(super) fn describe(message: &[u8]) -> Vec<u8> {
    use crate::imap::syntax::{Section, SectionText};

    let whole = structure(message);
    let mut out = Vec::new();
    let header = message.get(whole.header.clone()).unwrap_or_default();
    write_envelope(header, &mut out);
    write_body_structure(message, &whole, Extensions::With, &mut out);
    for part in [vec![], vec![1], vec![2], vec![1, 1], vec![2, 1]] {
        for text in [SectionText::All, SectionText::Header, SectionText::Text, SectionText::Mime] {
            if let Found::Range(range) = section(message, &whole, &Section { part: part.clone(), text }) {
                out.extend_from_slice(message.get(range).unwrap_or_default());
            }
        }
        if let Ok(Some(content)) = binary(message, &whole, &part) {
            out.extend_from_slice(&content);
        }
    }
    let decoded = Decoded::whole(message, header);
    let _ = (decoded.has("x"), decoded.has_field("subject", ""), decoded.date());
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lines that structures are made of.
    fn line() -> impl Strategy<Value = Vec<u8>> {
        let known = prop::sample::select(vec![
            "Content-Type: multipart/mixed; boundary=a",
            "Content-Type: multipart/digest; boundary=b",
            "Content-Type: message/rfc822",
            "Content-Type: text/plain; charset=\"utf-8",
            "Content-Type: text/plain; charset=utf-7",
            "Content-Type: text/html; charset=iso-2022-jp",
            "Content-Type: text/x; charset=utf-16",
            "Content-Transfer-Encoding: base64",
            "Content-Transfer-Encoding: quoted-printable",
            "",
            "--a",
            "--b",
            "--a--",
            "--b--",
            "--",
            "From: a@b, (c <d@e>",
            "To: x:;,<@:y@z>",
            " folded",
            "Subject: =?utf-8?q?=?=",
            "Date: Mon, 99 Foo",
            "Content-Disposition: a; b*0=c; =",
            "Content-Language: (",
            "=C3=A4=",
            "QUJD=",
            "text",
        ]);
        prop_oneof![
            9 => known.prop_map(|line| line.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..30),
        ]
    }

    proptest! {
        #[test]
        fn any_message_is_described_and_its_parts_lie_within(
            lines in prop::collection::vec((line(), prop::sample::select(vec!["\r\n", "\n"])), 0..60),
        ) {
            let message: Vec<u8> = lines.iter().flat_map(|(line, end)| [line.as_slice(), end.as_bytes()].concat()).collect();
            describe(&message);
            within(&structure(&message), 0..message.len());
        }
    }

    #[test]
    fn parts_that_end_where_they_should_not_are_searched() {
        // mail-parser 0.11 loses count in this one: a multipart closes in it that is open in no message it knows of.
        let message = "Content-Type: multipart/mixed; boundary=a\r\nContent-Type: multipart/digest; boundary=b\r\n\r\n\
            --b--\r\n\r\nContent-Type: message/rfc822\r\n\r\n\r\n--b--\r\n";
        let end = end_of_header(message.as_bytes()).unwrap_or_default();
        let decoded = Decoded::whole(message.as_bytes(), message.as_bytes().get(..end).unwrap_or_default());
        assert!(decoded.has("boundary=b") && !decoded.has_in_body("rfc822"), "{decoded:?}");
    }

    /// Every part lies within the one around it, its body behind its header.
    fn within(part: &Part, around: std::ops::Range<usize>) {
        assert!(
            around.start <= part.header.start && part.header.end == part.body.start,
            "{part:?} in {around:?}"
        );
        assert!(
            part.header.start <= part.header.end
                && part.body.start <= part.body.end
                && part.body.end <= around.end
        );
        match &part.content {
            structure::Content::Leaf => {}
            structure::Content::Multipart(parts) => {
                assert!(!parts.is_empty());
                parts.iter().for_each(|inner| within(inner, part.body.clone()));
            }
            structure::Content::Message(inner) => within(inner, part.body.clone()),
        }
    }
}
