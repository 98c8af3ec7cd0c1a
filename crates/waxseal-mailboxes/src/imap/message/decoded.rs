//! A message as its reader sees it, for SEARCH: charsets and encodings undone, in lower case.

use mail_parser::decoders::charsets::map::charset_decoder;
use mail_parser::parsers::MessageStream;
use mail_parser::{HeaderValue, Message, MessageParser};

use super::header::{fields, unfolded};
use super::section::content;
use super::structure::{Content, Part, parameter, structure};
use crate::imap::syntax::Day;

/// A message that is being searched. Texts are in lower case.
#[derive(Debug)]
pub(in crate::imap) struct Decoded {
    /// Field name, text.
    fields: Vec<(String, String)>,
    date: Option<Day>,
    /// The texts of the parts; `None` when only the header was read.
    texts: Option<Vec<String>>,
}

impl Decoded {
    /// From the header alone.
    pub(in crate::imap) fn header(header: &[u8]) -> Self {
        let date = MessageParser::new().header_date("Date").parse_headers(header);
        let date = date.as_ref().and_then(Message::date).map(Day::from);
        Self { fields: decoded_fields(header).collect(), date, texts: None }
    }

    /// From all of the message; `header` is its beginning.
    pub(in crate::imap) fn whole(message: &[u8], header: &[u8]) -> Self {
        let mut decoded = Self::header(header);
        let mut texts = Vec::new();
        // The parts are those of BODYSTRUCTURE; the library finds its own, but not in every message without a panic.
        collect(message, &structure(message), &mut texts);
        decoded.texts = Some(texts);
        decoded
    }

    /// Whether a field of this name has `text`; both in lower case.
    pub(in crate::imap) fn has_field(&self, name: &str, text: &str) -> bool {
        self.fields.iter().any(|(known, value)| known == name && value.contains(text))
    }

    /// Whether `text` is in the body.
    pub(in crate::imap) fn has_in_body(&self, text: &str) -> bool {
        self.texts.iter().flatten().any(|part| part.contains(text))
    }

    /// Whether `text` is anywhere.
    pub(in crate::imap) fn has(&self, text: &str) -> bool {
        self.fields.iter().any(|(_, value)| value.contains(text)) || self.has_in_body(text)
    }

    /// The day in the Date field.
    pub(in crate::imap) fn date(&self) -> Option<Day> {
        self.date
    }
}

/// A field's text with its encoded words undone (RFC 2047).
fn decoded_text(value: &[u8]) -> String {
    let mut line = unfolded(value);
    // The library reads up to the end of the line.
    line.push(b'\n');
    match MessageStream::new(&line).parse_unstructured() {
        HeaderValue::Text(text) => text.to_lowercase(),
        _ => String::new(),
    }
}

/// Name and text of each field, in lower case.
fn decoded_fields(header: &[u8]) -> impl Iterator<Item = (String, String)> {
    fields(header)
        .map(|field| (String::from_utf8_lossy(field.name).to_lowercase(), decoded_text(field.value)))
}

/// The texts of all parts, and headers and texts of messages within.
fn collect(message: &[u8], part: &Part, texts: &mut Vec<String>) {
    match &part.content {
        Content::Multipart(parts) => parts.iter().for_each(|part| collect(message, part, texts)),
        Content::Message(inner) => {
            let header = message.get(inner.header.clone()).unwrap_or_default();
            texts.extend(decoded_fields(header).map(|(name, value)| format!("{name}: {value}")));
            collect(message, inner, texts);
        }
        Content::Leaf if part.media.is_text() => texts.push(text(message, part).to_lowercase()),
        Content::Leaf => {}
    }
}

/// The text of a part in its charset; as it stands where it is not encoded as it says.
fn text(message: &[u8], part: &Part) -> String {
    let bytes =
        content(message, part).unwrap_or_else(|_| message.get(part.body.clone()).unwrap_or_default().into());
    // 8-bit text that says US-ASCII, or nothing, is UTF-8 more often than anything else.
    let charset = parameter(&part.media.parameters, "charset")
        .filter(|charset| !charset.eq_ignore_ascii_case(b"us-ascii"));
    match charset.and_then(charset_decoder) {
        Some(decode) => decode(&bytes),
        None => String::from_utf8_lossy(&bytes).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_found() {
        let message = b"Subject: =?UTF-8?Q?J=C3=9CRGEN?=\r\nTo: =?iso-8859-1?Q?=C4?= <a@b>\r\n\
            Date: Mon, 7 Feb 1994 23:52:25 -0800\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\
            Content-Transfer-Encoding: base64\r\n\r\nR3L832U=\r\n";
        let end = super::super::end_of_header(message).unwrap();
        let decoded = Decoded::whole(message, &message[..end]);
        assert!(decoded.has_field("subject", "j\u{fc}rgen"));
        assert!(decoded.has_field("to", "\u{e4}") && decoded.has_field("to", "a@b"), "{decoded:?}");
        assert!(!decoded.has_field("cc", ""));
        assert!(decoded.has_in_body("gr\u{fc}\u{df}e".get(..4).unwrap()), "{decoded:?}");
        assert!(!decoded.has_in_body("rgen") && decoded.has("rgen"));
        assert_eq!(decoded.date(), Some(Day { year: 1994, month: 2, day: 7 }));
    }

    fn decoded(message: &str) -> Decoded {
        let message = message.replace('\n', "\r\n");
        let end = super::super::end_of_header(message.as_bytes()).unwrap_or(message.len());
        Decoded::whole(message.as_bytes(), &message.as_bytes()[..end])
    }

    #[test]
    fn all_texts_and_the_headers_of_messages_within_are_the_body() {
        let found = decoded(
            "Subject: outer\nContent-Type: multipart/mixed; boundary=b\n\npreamble\n--b\n\none\n--b\n\
             Content-Type: application/octet-stream\n\ntwo\n--b\nContent-Type: message/rfc822\n\n\
             Subject: =?utf-8?q?inn=C3=A9r?=\nContent-Type: text/html\n\nthree \u{e9}\n--b--\nepilogue\n",
        );
        for text in ["one", "inn\u{e9}r", "subject: inn", "three \u{e9}"] {
            assert!(found.has_in_body(text), "{text}: {found:?}");
        }
        for text in ["outer", "two", "preamble", "epilogue", "--b"] {
            assert!(!found.has_in_body(text), "{text}: {found:?}");
        }
    }

    #[test]
    fn what_is_not_encoded_as_it_says_is_found_as_it_stands() {
        let found = decoded("Content-Transfer-Encoding: quoted-printable\n\n100 =zz\n");
        assert!(found.has_in_body("100 =zz"), "{found:?}");
        let found = decoded("Content-Type: text/plain; charset=unheard-of\n\nplain\n");
        assert!(found.has_in_body("plain"), "{found:?}");
    }
}
