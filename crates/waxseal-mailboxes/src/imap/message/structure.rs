//! The tree of a message's parts, by octet ranges.

use std::ops::Range;

use memchr::memmem;

use super::header::{end_of_header, unfolded, values};
use super::lexer::{Lexer, Token};

/// How deep parts may be in each other; what is deeper is one part.
const MAX_DEPTH: usize = 32;
/// How many parts there may be; what is beyond belongs to the last.
const MAX_PARTS: usize = 2000;
/// How many parameters a field may have.
const MAX_PARAMETERS: usize = 64;

/// A part, or the whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::imap) struct Part {
    /// Its header with the empty line.
    pub(in crate::imap) header: Range<usize>,
    pub(in crate::imap) body: Range<usize>,
    pub(in crate::imap) content: Content,
    pub(super) media: Media,
}

/// What is in a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::imap) enum Content {
    Leaf,
    /// At least one.
    Multipart(Vec<Part>),
    /// message/rfc822 and message/global.
    Message(Box<Part>),
}

/// Content-Type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Media {
    pub(super) kind: Vec<u8>,
    pub(super) subtype: Vec<u8>,
    pub(super) parameters: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What a part is that does not say (RFC 2045 section 5.2, RFC 2046 section 5.1.5).
#[derive(Clone, Copy)]
enum Default {
    Text,
    Message,
}

/// Reads the structure of a message.
pub(in crate::imap) fn structure(message: &[u8]) -> Part {
    let mut parts_left = MAX_PARTS;
    part(message, 0..message.len(), Default::Text, MAX_DEPTH, &mut parts_left)
}

fn part(message: &[u8], range: Range<usize>, default: Default, depth: usize, parts_left: &mut usize) -> Part {
    let bytes = message.get(range.clone()).unwrap_or_default();
    let split = range.start + end_of_header(bytes).unwrap_or(bytes.len());
    let (header, body) = (range.start..split, split..range.end);
    let header_bytes = message.get(header.clone()).unwrap_or_default();
    let mut media = media(header_bytes, default);
    let content = match (depth.checked_sub(1), media.kind.as_slice()) {
        (Some(deeper), kind) if kind.eq_ignore_ascii_case(b"multipart") => {
            let default = match media.subtype.eq_ignore_ascii_case(b"digest") {
                true => Default::Message,
                false => Default::Text,
            };
            let boundary = parameter(&media.parameters, "boundary").unwrap_or_default();
            let mut parts = Vec::new();
            for range in split_at_boundary(message, body.clone(), boundary, *parts_left) {
                // Parts within the parts before this one count too.
                let Some(fewer) = parts_left.checked_sub(1) else { break };
                *parts_left = fewer;
                parts.push(part(message, range, default, deeper, parts_left));
            }
            // The grammar of BODYSTRUCTURE has no multipart without parts.
            if parts.is_empty() {
                parts.push(empty(body.end));
            }
            Content::Multipart(parts)
        }
        (Some(deeper), _) if media.is_message() => {
            Content::Message(Box::new(part(message, body.clone(), Default::Text, deeper, parts_left)))
        }
        _ => {
            if media.kind.eq_ignore_ascii_case(b"multipart") || media.is_message() {
                media = Media::new("application", "octet-stream");
            }
            Content::Leaf
        }
    };
    Part { header, body, content, media }
}

fn empty(at: usize) -> Part {
    Part { header: at..at, body: at..at, content: Content::Leaf, media: Media::new("text", "plain") }
}

/// The parts between the lines `--boundary`, less the line end before each such line, which belongs to it (RFC 2046 section 5.1.1).
fn split_at_boundary(message: &[u8], body: Range<usize>, boundary: &[u8], most: usize) -> Vec<Range<usize>> {
    let bytes = message.get(body.clone()).unwrap_or_default();
    let delimiter = [b"--", boundary].concat();
    let mut parts = Vec::new();
    let mut open: Option<usize> = None;
    for at in memmem::find_iter(bytes, &delimiter) {
        if boundary.is_empty() || !(at == 0 || bytes.get(at - 1) == Some(&b'\n')) {
            continue;
        }
        let Some((last, behind)) = delimiter_line(bytes, at + delimiter.len()) else { continue };
        if let Some(start) = open.take() {
            parts.push(start..line_end_before(bytes, at).max(start));
        }
        if last {
            break;
        }
        if parts.len() >= most {
            break;
        }
        open = Some(behind);
    }
    if let Some(start) = open {
        parts.push(start..bytes.len());
    }
    parts.into_iter().map(|range| body.start + range.start..body.start + range.end).collect()
}

/// What is behind the boundary on its line: nothing but white space, or `--` and whatever. Says whether it is the last, and where the
/// next line begins.
fn delimiter_line(bytes: &[u8], at: usize) -> Option<(bool, usize)> {
    let line = super::header::line_at(bytes, at).unwrap_or_default();
    let text = line.trim_ascii();
    let last = line.starts_with(b"--");
    (last || text.is_empty()).then_some((last, at + line.len()))
}

/// Where the line end before `at` begins.
fn line_end_before(bytes: &[u8], at: usize) -> usize {
    match bytes.get(..at) {
        Some([.., b'\r', b'\n']) => at - 2,
        Some([.., b'\n']) => at - 1,
        _ => at,
    }
}

impl Media {
    fn new(kind: &str, subtype: &str) -> Self {
        Self { kind: kind.into(), subtype: subtype.into(), parameters: Vec::new() }
    }

    pub(super) fn is_text(&self) -> bool {
        self.kind.eq_ignore_ascii_case(b"text")
    }

    fn is_message(&self) -> bool {
        self.kind.eq_ignore_ascii_case(b"message")
            && [&b"rfc822"[..], b"global"].iter().any(|subtype| self.subtype.eq_ignore_ascii_case(subtype))
    }
}

fn media(header: &[u8], default: Default) -> Media {
    let read = values(header, "content-type").next().and_then(|value| {
        let mut tokens = Lexer::mime(value).filter(|token| !matches!(token, Token::Comment(_)));
        let (Token::Atom(kind), Token::Special(b'/'), Token::Atom(subtype)) =
            (tokens.next()?, tokens.next()?, tokens.next()?)
        else {
            return None;
        };
        Some(Media { kind, subtype, parameters: parameters(tokens) })
    });
    let mut media = read.unwrap_or_else(|| match default {
        Default::Text => Media::new("text", "plain"),
        Default::Message => Media::new("message", "rfc822"),
    });
    // RFC 2045 section 5.2, RFC 2046 section 4.1.2.
    if media.is_text() && parameter(&media.parameters, "charset").is_none() {
        media.parameters.push((b"charset".to_vec(), b"us-ascii".to_vec()));
    }
    media
}

/// `; name=value` again and again; what is not of this form is passed over.
pub(super) fn parameters(tokens: impl Iterator<Item = Token>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut read = Vec::new();
    let mut name: Option<Vec<u8>> = None;
    let mut value: Option<Vec<u8>> = None;
    for token in tokens.chain([Token::Special(b';')]) {
        match token {
            Token::Special(b';') => {
                if let (Some(name), Some(value)) = (name.take(), value.take()) {
                    read.push((name, value));
                }
                if read.len() >= MAX_PARAMETERS {
                    break;
                }
            }
            Token::Special(b'=') if name.is_some() && value.is_none() => value = Some(Vec::new()),
            Token::Atom(text) | Token::Quoted(text) | Token::Literal(text) => match &mut value {
                // An unquoted value with characters that should have been quoted: all of it.
                Some(value) => value.extend(text),
                None => name = Some(text),
            },
            Token::Special(special) => {
                if let Some(value) = &mut value {
                    value.push(special);
                }
            }
            Token::Comment(_) => {}
        }
    }
    read
}

pub(super) fn parameter<'a>(parameters: &'a [(Vec<u8>, Vec<u8>)], name: &str) -> Option<&'a [u8]> {
    let found = parameters.iter().find(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()));
    found.map(|(_, value)| value.as_slice())
}

/// Content-Transfer-Encoding in one word; `7BIT` if there is none.
pub(super) fn encoding(header: &[u8]) -> Vec<u8> {
    let value = values(header, "content-transfer-encoding").next().map(unfolded).unwrap_or_default();
    match Lexer::mime(&value).find(|token| !matches!(token, Token::Comment(_))) {
        Some(Token::Atom(word) | Token::Quoted(word)) => word,
        _ => b"7bit".to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree, a leaf being its body.
    fn shape(message: &[u8], part: &Part) -> String {
        match &part.content {
            Content::Leaf => format!("{:?}", String::from_utf8_lossy(&message[part.body.clone()])),
            Content::Message(inner) => format!("msg<{}>", shape(message, inner)),
            Content::Multipart(parts) => {
                format!("({})", parts.iter().map(|part| shape(message, part)).collect::<Vec<_>>().join(" "))
            }
        }
    }

    fn shape_of(message: &str) -> String {
        let message = message.replace('\n', "\r\n");
        shape(message.as_bytes(), &structure(message.as_bytes()))
    }

    #[test]
    fn nested_parts_are_found() {
        let message = "Content-Type: multipart/mixed; boundary=\"b\"\n\npreamble\n--b\n\none\n\n--b\n\
            Content-Type: multipart/alternative; boundary=b1\n\n--b1  \n\ntwo\n--b1x\n--b1--\nepilogue\n--b\n\
            Content-Type: message/rfc822\n\nSubject: x\n\nthree\n--b--\nepilogue\n";
        assert_eq!(shape_of(message), r#"("one\r\n" ("two\r\n--b1x") msg<"three">)"#);
    }

    #[test]
    fn broken_multiparts_end_with_what_is_around_them() {
        let head = "Content-Type: multipart/mixed; boundary=b\n\n";
        assert_eq!(shape_of(&format!("{head}--b\n\nopen")), r#"("open")"#);
        assert_eq!(shape_of(&format!("{head}nothing")), r#"("")"#);
        assert_eq!(shape_of(&format!("{head}--b--\n")), r#"("")"#);
        assert_eq!(shape_of(&format!("{head}--b\n--b\n--b--")), r#"("" "")"#);
        assert_eq!(shape_of("Content-Type: multipart/mixed\n\n--\n\nx\n----\n"), r#"("")"#);
        let inner = "Content-Type: multipart/mixed; boundary=c\n\n--c\n\ninner";
        assert_eq!(shape_of(&format!("{head}--b\n{inner}\n--b\n\nouter\n--b--\n")), r#"(("inner") "outer")"#);
    }

    #[test]
    fn depth_and_number_are_bounded() {
        let deep = "Content-Type: message/rfc822\n\n".repeat(1000);
        assert!(shape_of(&deep).matches("msg").count() <= MAX_DEPTH);
        let many = format!("Content-Type: multipart/mixed; boundary=b\n\n{}", "--b\n\nx\n".repeat(5000));
        let Content::Multipart(parts) = structure(many.as_bytes()).content else { panic!() };
        assert_eq!(parts.len(), MAX_PARTS);
    }

    #[test]
    fn parameters_are_read_leniently() {
        let read = |text: &str| {
            parameters(Lexer::mime(text.as_bytes()))
                .into_iter()
                .map(|(name, value)| {
                    format!("{}={}", String::from_utf8_lossy(&name), String::from_utf8_lossy(&value))
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(read("; a=b; c=\"d;e\" (f) ;; g ; h = i/j=k"), ["a=b", "c=d;e", "h=i/j=k"]);
        assert_eq!(encoding(b"Content-Transfer-Encoding: (c) Base64 (d)\r\n\r\n"), b"Base64");
        assert_eq!(encoding(b"\r\n"), b"7bit");
    }
}
