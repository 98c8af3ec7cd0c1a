//! BODY and BODYSTRUCTURE (RFC 9051 section 7.5.2).

use memchr::memchr_iter;

use super::envelope::write_envelope;
use super::header::{unfolded, values};
use super::lexer::{Lexer, Token};
use super::structure::{Content, Part, encoding, parameters};
use crate::imap::words::{put_nstring, put_number, put_string};

/// Whether the extension data is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::imap) enum Extensions {
    /// BODY
    Without,
    /// BODYSTRUCTURE
    With,
}

type Parameters = [(Vec<u8>, Vec<u8>)];

/// Writes the structure of `part`, of `message`.
pub(in crate::imap) fn write_body_structure(
    message: &[u8],
    part: &Part,
    extensions: Extensions,
    out: &mut Vec<u8>,
) {
    let header = message.get(part.header.clone()).unwrap_or_default();
    out.push(b'(');
    if let Content::Multipart(parts) = &part.content {
        for part in parts {
            write_body_structure(message, part, extensions, out);
        }
        out.push(b' ');
        put_string(&part.media.subtype, out);
        if extensions == Extensions::With {
            out.push(b' ');
            write_parameters(&part.media.parameters, out);
            write_common_extensions(header, out);
        }
    } else {
        write_single(message, part, header, extensions, out);
        if extensions == Extensions::With {
            out.push(b' ');
            put_nstring(text(header, "content-md5").as_deref(), out);
            write_common_extensions(header, out);
        }
    }
    out.push(b')');
}

fn write_single(message: &[u8], part: &Part, header: &[u8], extensions: Extensions, out: &mut Vec<u8>) {
    let body = message.get(part.body.clone()).unwrap_or_default();
    put_string(&part.media.kind, out);
    out.push(b' ');
    put_string(&part.media.subtype, out);
    out.push(b' ');
    write_parameters(&part.media.parameters, out);
    for name in ["content-id", "content-description"] {
        out.push(b' ');
        put_nstring(text(header, name).as_deref(), out);
    }
    out.push(b' ');
    put_string(&encoding(header), out);
    out.push(b' ');
    put_number(body.len() as u64, out);
    if let Content::Message(inner) = &part.content {
        out.push(b' ');
        write_envelope(message.get(inner.header.clone()).unwrap_or_default(), out);
        out.push(b' ');
        write_body_structure(message, inner, extensions, out);
    }
    if part.media.is_text() || matches!(part.content, Content::Message(_)) {
        out.push(b' ');
        put_number(memchr_iter(b'\n', body).count() as u64, out);
    }
}

fn text(header: &[u8], name: &str) -> Option<Vec<u8>> {
    values(header, name).next().map(unfolded)
}

/// Disposition, language, location.
fn write_common_extensions(header: &[u8], out: &mut Vec<u8>) {
    out.push(b' ');
    let disposition = text(header, "content-disposition").unwrap_or_default();
    let mut tokens = Lexer::mime(&disposition).filter(|token| !matches!(token, Token::Comment(_)));
    match tokens.next() {
        Some(Token::Atom(kind)) => {
            out.push(b'(');
            put_string(&kind, out);
            out.push(b' ');
            write_parameters(&parameters(tokens), out);
            out.push(b')');
        }
        _ => out.extend_from_slice(b"NIL"),
    }
    out.push(b' ');
    let languages = text(header, "content-language").unwrap_or_default();
    let languages: Vec<_> = Lexer::mime(&languages)
        .filter_map(|token| if let Token::Atom(language) = token { Some(language) } else { None })
        .collect();
    match languages.as_slice() {
        [] => out.extend_from_slice(b"NIL"),
        [one] => put_string(one, out),
        several => {
            out.push(b'(');
            for (index, language) in several.iter().enumerate() {
                if index > 0 {
                    out.push(b' ');
                }
                put_string(language, out);
            }
            out.push(b')');
        }
    }
    out.push(b' ');
    put_nstring(text(header, "content-location").as_deref(), out);
}

fn write_parameters(parameters: &Parameters, out: &mut Vec<u8>) {
    if parameters.is_empty() {
        out.extend_from_slice(b"NIL");
        return;
    }
    out.push(b'(');
    for (index, (name, value)) in parameters.iter().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        put_string(name, out);
        out.push(b' ');
        put_string(value, out);
    }
    out.push(b')');
}

#[cfg(test)]
mod tests {
    use super::super::structure::structure;
    use super::*;

    fn written(message: &str, extensions: Extensions) -> String {
        let message = message.replace('\n', "\r\n");
        let mut out = Vec::new();
        write_body_structure(message.as_bytes(), &structure(message.as_bytes()), extensions, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_plain_message_is_us_ascii_text() {
        let expected = r#"("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 6 2)"#;
        assert_eq!(written("Subject: x\n\na\nb\n", Extensions::Without), expected);
    }

    #[test]
    fn nested_parts_are_described() {
        let message = "Content-Type: multipart/mixed; boundary=b\nContent-Language: en, de\n\n--b\n\
            Content-Type: text/html; charset=utf-8\nContent-Disposition: attachment; filename=\"a b\"\n\
            Content-Transfer-Encoding: BASE64\nContent-ID: <i@x>\n\nQQ==\n--b\nContent-Type: message/rfc822\n\n\
            Subject: in\n\nhi\n--b--\n";
        assert_eq!(
            written(message, Extensions::With),
            "((\"text\" \"html\" (\"charset\" \"utf-8\") \"<i@x>\" NIL \"BASE64\" 4 0 NIL \
             (\"attachment\" (\"filename\" \"a b\")) NIL NIL)\
             (\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 17 \
             (NIL \"in\" NIL NIL NIL NIL NIL NIL NIL NIL) \
             (\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 2 0 NIL NIL NIL NIL) 2 NIL NIL NIL NIL) \
             \"mixed\" (\"boundary\" \"b\") NIL (\"en\" \"de\") NIL)"
        );
    }
}
