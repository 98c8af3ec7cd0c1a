//! The words of structured header fields (RFC 5322 section 3.2), leniently: whatever stands there becomes some word.

/// A word of a structured field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// An atom or token, as long as it goes.
    Atom(Vec<u8>),
    /// A quoted string without its quotes.
    Quoted(Vec<u8>),
    /// A domain literal with its brackets.
    Literal(Vec<u8>),
    /// A comment without its parentheses.
    Comment(Vec<u8>),
    /// A special character.
    Special(u8),
}

/// The words of `value`; `specials` are characters that stand alone.
pub(super) struct Lexer<'a> {
    rest: &'a [u8],
    specials: &'static [u8],
}

impl<'a> Lexer<'a> {
    /// For addresses: dots belong to atoms.
    pub(super) fn address(value: &'a [u8]) -> Self {
        Self { rest: value, specials: b"<>@,;:" }
    }

    /// For MIME's parameters (RFC 2045 section 5.1, tspecials).
    pub(super) fn mime(value: &'a [u8]) -> Self {
        Self { rest: value, specials: b"<>@,;:/?=[]" }
    }

    fn next_byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// Up to an unescaped `close`, less the backslashes and line ends; `nests`: the opening character that nests.
    fn until(&mut self, close: u8, nests: Option<u8>) -> Vec<u8> {
        let mut text = Vec::new();
        let mut depth = 0usize;
        while let Some(byte) = self.next_byte() {
            match byte {
                b'\\' => text.extend(self.next_byte()),
                b'\r' | b'\n' => {}
                _ if byte == close && depth == 0 => break,
                _ => {
                    if nests == Some(byte) {
                        depth += 1;
                    } else if byte == close {
                        depth -= 1;
                    }
                    text.push(byte);
                }
            }
        }
        text
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.rest = self.rest.trim_ascii_start();
        let first = *self.rest.first()?;
        if self.specials.contains(&first) {
            self.next_byte();
            return Some(Token::Special(first));
        }
        match first {
            b'"' => {
                self.next_byte();
                Some(Token::Quoted(self.until(b'"', None)))
            }
            b'(' => {
                self.next_byte();
                Some(Token::Comment(self.until(b')', Some(b'('))))
            }
            b'[' => {
                self.next_byte();
                let mut literal = vec![b'['];
                literal.append(&mut self.until(b']', None));
                literal.push(b']');
                Some(Token::Literal(literal))
            }
            _ => {
                let ends = |byte: &u8| {
                    byte.is_ascii_whitespace() || b"\"(".contains(byte) || self.specials.contains(byte)
                };
                let length = self.rest.iter().position(ends).unwrap_or(self.rest.len());
                let (atom, rest) = self.rest.split_at(length);
                self.rest = rest;
                Some(Token::Atom(atom.to_vec()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_apart() {
        let words: Vec<_> = Lexer::address(b"a.b \"q \\\" q\" (c (d) e) <[1.2]>").collect();
        assert_eq!(
            words,
            [
                Token::Atom(b"a.b".to_vec()),
                Token::Quoted(b"q \" q".to_vec()),
                Token::Comment(b"c (d) e".to_vec()),
                Token::Special(b'<'),
                Token::Literal(b"[1.2]".to_vec()),
                Token::Special(b'>'),
            ]
        );
    }

    #[test]
    fn what_has_no_end_ends_with_the_field() {
        for open in ["\"a", "(a", "[a", "((((a)", "\\", "\"\\"] {
            assert!(Lexer::address(open.as_bytes()).count() >= 1, "{open}");
        }
    }
}
