//! Small pieces of grammar that the protocols share.

use crate::line::content;

/// The first word of a line and what follows it, both without the blanks around them.
pub(crate) fn first_word(line: &str) -> (&str, &str) {
    let line = line.trim();
    match line.split_once([' ', '\t']) {
        Some((word, rest)) => (word, rest.trim_start()),
        None => (line, ""),
    }
}

/// The text without one pair of quotes around it.
pub(crate) fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

/// A quoted string of IMAP and ManageSieve (RFC 9051 section 4.3, RFC 5804 section 1.2).
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

/// The one quoted string that `arguments` is, its escapes undone.
pub(crate) fn quoted_string(arguments: &str) -> Option<String> {
    let inner = arguments.strip_prefix('"')?;
    let mut string = String::new();
    let mut characters = inner.chars();
    loop {
        match characters.next()? {
            '\\' => string.push(characters.next()?),
            '"' => break,
            c => string.push(c),
        }
    }
    characters.as_str().is_empty().then_some(string)
}

/// Appends one line of our own.
pub(crate) fn say(out: &mut Vec<u8>, line: &str) {
    out.extend_from_slice(line.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// A line from the network as text, without its end. Bytes that are no UTF-8 become replacement characters:
/// good for comparing words, never for passing on.
pub(crate) fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(content(line)).into_owned()
}

/// A foreign text made fit for a log line: printable, and not longer than [`MAX_SHOWN`] characters.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let printable = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(MAX_SHOWN).collect()
}

/// How much of a service's words goes into a log line, in characters.
const MAX_SHOWN: usize = 200;

/// A literal announced at the end of a line (RFC 9051 section 4.3, RFC 7888, RFC 5804 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Literal {
    /// Its length in bytes, as announced.
    pub(crate) bytes: u64,
    /// Whether its sender waits to be asked for it.
    pub(crate) waits: bool,
}

/// The literal that a line announces: `{12}`, `{12+}`, `{12-}`, `~{12}`.
pub(crate) fn literal(line: &[u8]) -> Option<Literal> {
    let inner = content(line).strip_suffix(b"}")?;
    let open = memchr::memrchr(b'{', inner)?;
    let inner = inner.get(open + 1..)?;
    let digits = inner.strip_suffix(b"+").or_else(|| inner.strip_suffix(b"-")).unwrap_or(inner);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // A length beyond any number is a literal still, and beyond any limit.
    let bytes = std::str::from_utf8(digits).ok()?.parse().unwrap_or(u64::MAX);
    Some(Literal { bytes, waits: digits.len() == inner.len() })
}

/// Whether the line is the first one of an HTTP request: somebody turns a browser on a mail port (cross-protocol
/// requests carry attacker-chosen lines in their body).
pub(crate) fn is_http_request(line: &[u8]) -> bool {
    let line = content(line);
    let mut words = line.split(|&byte| byte == b' ');
    let method = words.next().unwrap_or_default();
    const METHODS: [&[u8]; 10] =
        [b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"CONNECT", b"DELETE", b"PATCH", b"TRACE", b"PRI"];
    METHODS.contains(&method) && words.next_back().is_some_and(|last| last.starts_with(b"HTTP/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_seen_in_all_their_forms() {
        let wait = |bytes| Some(Literal { bytes, waits: true });
        let push = |bytes| Some(Literal { bytes, waits: false });
        assert_eq!(literal(b"a LOGIN {5}\r\n"), wait(5));
        assert_eq!(literal(b"a LOGIN {5+}\r\n"), push(5));
        assert_eq!(literal(b"a LOGIN {5-}\r\n"), push(5));
        assert_eq!(literal(b"a APPEND x ~{5}\r\n"), wait(5));
        assert_eq!(literal(b"a LOGIN {}\r\n"), None);
        assert_eq!(literal(b"a LOGIN {+5}\r\n"), None);
        assert_eq!(literal(b"a LOGIN {5} \r\n"), None);
        assert_eq!(literal(b"a LOGIN {99999999999999999999}\r\n"), wait(u64::MAX));
    }

    #[test]
    fn http_requests_are_told_from_mail_commands() {
        assert!(is_http_request(b"GET / HTTP/1.1\r\n"));
        assert!(is_http_request(b"PRI * HTTP/2.0\r\n"));
        assert!(!is_http_request(b"GET the mail\r\n"));
        assert!(!is_http_request(b"NOOP / HTTP/1.1\r\n"));
    }

    #[test]
    fn foreign_text_is_cut_and_made_printable() {
        assert_eq!(shown(b"550 \x1b[31mno\xff\r\n"), "550  [31mno\u{fffd}");
        assert_eq!(shown(&[b'x'; 1000]).len(), MAX_SHOWN);
    }

    #[test]
    fn one_quoted_string_is_read_and_nothing_else() {
        assert_eq!(quoted_string("\"a \\\"b\\\\\""), Some("a \"b\\".into()));
        assert_eq!(quoted_string("\"a\" \"b\""), None);
        assert_eq!(quoted_string("\"a"), None);
        assert_eq!(quoted_string("a"), None);
        assert_eq!(quoted_string("\"a\\"), None);
    }
}
