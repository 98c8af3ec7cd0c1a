//! The octets of `BODY[...]` and `BINARY[...]`.

use std::borrow::Cow;
use std::ops::Range;

use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::quoted_printable::quoted_printable_decode;

use super::header::write_fields;
use super::structure::{Content, Part, encoding};
use crate::imap::syntax::{Section, SectionText};

/// What a section is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::imap) enum Found {
    /// There is no such part: NIL.
    Nothing,
    /// A stretch of the message.
    Range(Range<usize>),
    /// Fields picked from a header.
    Made(Vec<u8>),
}

/// Why a part cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::imap) enum BinaryError {
    /// `NO [UNKNOWN-CTE]` (RFC 3516 section 4.3).
    UnknownEncoding,
}

/// Finds `section` in `message`, whose structure is `whole`.
pub(in crate::imap) fn section(message: &[u8], whole: &Part, section: &Section) -> Found {
    let (part, is_message) = match section.part.as_slice() {
        [] => (whole, true),
        numbers => match find(whole, numbers) {
            // RFC 9051 section 6.4.5.1: HEADER and TEXT of a part are those of the message in it.
            Some(part) => match (&section.text, &part.content) {
                (SectionText::All | SectionText::Mime, _) => (part, false),
                (_, Content::Message(inner)) => (&**inner, true),
                _ => return Found::Nothing,
            },
            None => return Found::Nothing,
        },
    };
    match &section.text {
        SectionText::All if is_message => Found::Range(part.header.start..part.body.end),
        SectionText::All | SectionText::Text => Found::Range(part.body.clone()),
        SectionText::Header | SectionText::Mime => Found::Range(part.header.clone()),
        SectionText::HeaderFields { not, names } => {
            let mut fields = Vec::new();
            write_fields(message.get(part.header.clone()).unwrap_or_default(), names, *not, &mut fields);
            Found::Made(fields)
        }
    }
}

/// The content of a part without its transfer encoding; `None` when there is no such part.
pub(in crate::imap) fn binary<'a>(
    message: &'a [u8],
    whole: &Part,
    numbers: &[u32],
) -> Result<Option<Cow<'a, [u8]>>, BinaryError> {
    if numbers.is_empty() {
        return Ok(Some(Cow::Borrowed(message)));
    }
    find(whole, numbers).map(|part| content(message, part)).transpose()
}

/// The content of `part` without its transfer encoding.
pub(super) fn content<'a>(message: &'a [u8], part: &Part) -> Result<Cow<'a, [u8]>, BinaryError> {
    let body = message.get(part.body.clone()).unwrap_or_default();
    let encoding = encoding(message.get(part.header.clone()).unwrap_or_default());
    let decoded = match encoding.to_ascii_lowercase().as_slice() {
        b"7bit" | b"8bit" | b"binary" => return Ok(Cow::Borrowed(body)),
        b"base64" => base64_decode(body),
        b"quoted-printable" => quoted_printable_decode(body),
        _ => None,
    };
    decoded.map(Cow::Owned).ok_or(BinaryError::UnknownEncoding)
}

/// The part with these numbers.
fn find<'a>(whole: &'a Part, numbers: &[u32]) -> Option<&'a Part> {
    let mut under = parts_of_message(whole);
    let mut found = None;
    for number in numbers {
        let part = under.get(usize::try_from(*number).ok()?.checked_sub(1)?)?;
        found = Some(part);
        under = match &part.content {
            Content::Leaf => &[],
            Content::Multipart(parts) => parts,
            Content::Message(inner) => parts_of_message(inner),
        };
    }
    found
}

/// Every message has at least part 1 (RFC 9051 section 6.4.5.1).
fn parts_of_message(message: &Part) -> &[Part] {
    match &message.content {
        Content::Multipart(parts) => parts,
        _ => std::slice::from_ref(message),
    }
}

#[cfg(test)]
mod tests {
    use super::super::structure::structure;
    use super::*;

    /// The message of RFC 9051 section 6.4.5.1, less a few of its parts.
    const MESSAGE: &str = "Subject: outer\n\
        Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\nContent-Type: application/octet-stream\n\
        Content-Transfer-Encoding: base64\n\nAAEC\n--b\nContent-Type: message/rfc822\nX-Mime: yes\n\n\
        Subject: inner\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\nthree.one\n--c\n\
        Content-Transfer-Encoding: quoted-printable\n\n=41=\nB\n--c--\n--b--\n";

    fn get(part: &[u32], text: SectionText) -> String {
        let message = MESSAGE.replace('\n', "\r\n");
        let whole = structure(message.as_bytes());
        match section(message.as_bytes(), &whole, &Section { part: part.to_vec(), text }) {
            Found::Nothing => "NIL".to_owned(),
            Found::Range(range) => message[range].to_owned(),
            Found::Made(bytes) => String::from_utf8(bytes).unwrap(),
        }
    }

    #[test]
    fn parts_are_found_by_number() {
        assert_eq!(get(&[1], SectionText::All), "one");
        assert_eq!(get(&[1, 1], SectionText::All), "NIL");
        assert_eq!(get(&[2], SectionText::Mime).lines().count(), 3);
        assert_eq!(get(&[3, 1], SectionText::All), "three.one");
        assert_eq!(get(&[3, 3], SectionText::All), "NIL");
        assert_eq!(get(&[4], SectionText::All), "NIL");
    }

    #[test]
    fn the_message_in_a_part_has_header_and_text() {
        assert!(get(&[3], SectionText::Header).starts_with("Subject: inner\r\n"));
        assert!(get(&[3], SectionText::Text).starts_with("--c\r\n"));
        assert!(get(&[3], SectionText::Mime).contains("X-Mime: yes"));
        assert!(get(&[3], SectionText::All).starts_with("Subject: inner\r\n"));
        let names = vec![b"subject".to_vec()];
        assert_eq!(get(&[3], SectionText::HeaderFields { not: false, names }), "Subject: inner\r\n\r\n");
        assert_eq!(get(&[1], SectionText::Header), "NIL");
    }

    #[test]
    fn the_whole_is_header_and_text() {
        let whole = get(&[], SectionText::All);
        assert_eq!(whole, MESSAGE.replace('\n', "\r\n"));
        assert_eq!(get(&[], SectionText::Header) + &get(&[], SectionText::Text), whole);
    }

    #[test]
    fn transfer_encodings_are_undone() {
        let message = MESSAGE.replace('\n', "\r\n");
        let whole = structure(message.as_bytes());
        let get = |part: &[u32]| binary(message.as_bytes(), &whole, part).unwrap().map(Cow::into_owned);
        assert_eq!(get(&[2]), Some(vec![0, 1, 2]));
        assert_eq!(get(&[3, 2]), Some(b"AB".to_vec()));
        assert_eq!(get(&[1]), Some(b"one".to_vec()));
        assert_eq!(get(&[9]), None);
        let odd = b"Content-Transfer-Encoding: x-odd\r\n\r\nx";
        assert_eq!(binary(odd, &structure(odd), &[1]), Err(BinaryError::UnknownEncoding));
    }

    #[test]
    fn a_message_of_one_part_is_its_own_part() {
        let message = b"Subject: x\r\n\r\nhello";
        let whole = structure(message);
        let get =
            |part: &[u32]| section(message, &whole, &Section { part: part.to_vec(), text: SectionText::All });
        assert_eq!(get(&[1]), Found::Range(14..19));
        assert_eq!(get(&[2]), Found::Nothing);
    }
}
