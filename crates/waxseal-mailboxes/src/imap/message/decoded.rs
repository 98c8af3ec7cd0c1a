//! A message as its reader sees it, for SEARCH: charsets and encodings undone, in lower case.

use mail_parser::parsers::MessageStream;
use mail_parser::{HeaderValue, Message, MessageParser, PartType};

use super::header::{fields, unfolded};
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
        let fields = fields(header)
            .map(|field| (String::from_utf8_lossy(field.name).to_lowercase(), decoded_text(field.value)));
        Self { fields: fields.collect(), date, texts: None }
    }

    /// From all of the message; `header` is its beginning.
    pub(in crate::imap) fn whole(message: &[u8], header: &[u8]) -> Self {
        let mut decoded = Self::header(header);
        let mut texts = Vec::new();
        if let Some(message) = MessageParser::new().with_mime_headers().parse(message) {
            collect(&message, &mut texts);
        }
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

/// The texts of all parts, and of messages within (the library bounds how deep).
fn collect(message: &Message<'_>, texts: &mut Vec<String>) {
    for part in &message.parts {
        match &part.body {
            PartType::Text(text) | PartType::Html(text) => texts.push(text.to_lowercase()),
            PartType::Message(inner) => {
                for (_, value) in inner.headers_raw() {
                    texts.push(value.to_lowercase());
                }
                collect(inner, texts);
            }
            _ => {}
        }
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
}
