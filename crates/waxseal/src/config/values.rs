//! What a value of the file may be: a word, a number, true or false, a list of words, PEM.

use std::fmt;

use toml::de::DeValue;
use waxseal_tls::{PemPart, PemSource};

use super::macros::{self, Piece};
use super::reader::{Located, Reading, Spot, Written};
use super::source::Span;
use super::unreadable;

impl Reading<'_> {
    /// A string, its macros expanded.
    pub(crate) fn word(&mut self, spot: &Spot<'_>, expected: &str) -> Option<Word> {
        let DeValue::String(value) = spot.value else {
            self.wrong_type(spot, expected);
            return None;
        };
        if !macros::present(value) {
            return Some(Word { text: value.to_string(), written: None });
        }
        let mut text = String::new();
        for piece in self.pieces(spot, value)? {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Variable(name) => text.push_str(&self.variable(spot, name)?),
                Piece::File(path) => text.push_str(&self.file(spot, path)?),
            }
        }
        Some(Word { text, written: Some(value.to_string()) })
    }

    fn pieces<'v>(&mut self, spot: &Spot<'_>, value: &'v str) -> Option<Vec<Piece<'v>>> {
        macros::pieces(value)
            .map_err(|bad| {
                let span = self.find(&spot.span, bad.text);
                self.problems.error(span, bad.why).help("a macro is `%{file:PATH}%` or `%{env:NAME}%`");
            })
            .ok()
    }

    fn variable(&mut self, spot: &Spot<'_>, name: &str) -> Option<String> {
        let value = (self.machine.variable)(name);
        if value.is_none() {
            let span = self.find(&spot.span, &format!("%{{env:{name}}}%"));
            self.problems
                .error(span, format!("the environment variable `{name}` is not set (or is not text)"));
        }
        value
    }

    fn file(&mut self, spot: &Spot<'_>, path: &str) -> Option<String> {
        let located = macros::locate(path, self.directory());
        macros::read(&located)
            .map_err(|error| {
                let span = self.find(&spot.span, &format!("%{{file:{path}}}%"));
                unreadable::complain(self.problems, span, &located, &error);
            })
            .ok()
    }

    /// Where `text` stands within `span`; all of `span` if escapes hide it.
    fn find(&self, span: &Span, text: &str) -> Span {
        let found = self.source.text().get(span.clone()).and_then(|within| within.find(text));
        found.map_or_else(|| span.clone(), |at| span.start + at..span.start + at + text.len())
    }
}

/// A string as it counts, and as it may be shown: a macro's content never is.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    text: String,
    written: Option<String>,
}

impl Word {
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The string, if it came of no macro.
    pub(crate) fn literal(&self) -> Option<&str> {
        self.written.is_none().then_some(&self.text)
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.written.as_ref().unwrap_or(&self.text))
    }
}

impl Written for Word {
    const EXPECTED: &'static str = "a string";

    fn read(spot: Spot<'_>, reading: &mut Reading<'_>) -> Option<Self> {
        reading.word(&spot, Self::EXPECTED)
    }
}

/// Reads a value that is no string but may come of a macro, which can only make strings.
fn parsed<T: std::str::FromStr>(spot: &Spot<'_>, reading: &mut Reading<'_>, expected: &str) -> Option<T> {
    match spot.value {
        DeValue::String(value) if macros::present(value) => {
            let word = reading.word(spot, expected)?;
            let parsed = word.as_str().trim().parse().ok();
            if parsed.is_none() {
                let title = format!("`{}` must be {expected}, and {word} is none", reading.key());
                reading.problems.error(spot.span.clone(), title);
            }
            parsed
        }
        _ => {
            reading.wrong_type(spot, expected);
            None
        }
    }
}

impl Written for bool {
    const EXPECTED: &'static str = "true or false";

    fn read(spot: Spot<'_>, reading: &mut Reading<'_>) -> Option<Self> {
        match spot.value {
            DeValue::Boolean(value) => Some(*value),
            _ => parsed(&spot, reading, Self::EXPECTED),
        }
    }
}

impl Written for i64 {
    const EXPECTED: &'static str = "a whole number";

    fn read(spot: Spot<'_>, reading: &mut Reading<'_>) -> Option<Self> {
        match spot.value {
            DeValue::Integer(value) => {
                // Whatever is beyond 64 bits is beyond every range there is to check.
                Some(Self::from_str_radix(value.as_str(), value.radix()).unwrap_or(Self::MAX))
            }
            _ => parsed(&spot, reading, Self::EXPECTED),
        }
    }
}

/// A list of strings without spaces or commas in them; one alone may stand without brackets. It is read whole or not
/// at all, so that nobody complains of what only a mistake in it leaves out.
pub(crate) type Words = Vec<Located<Word>>;

impl Written for Words {
    const EXPECTED: &'static str = "a string or a list of strings";

    fn read(spot: Spot<'_>, reading: &mut Reading<'_>) -> Option<Self> {
        one_or_list(spot, reading, |spot, reading| one_word(spot, reading, |_| true))
    }
}

/// Mail addresses, written as [`Words`] are. What is blank between words that are no addresses makes them none either, and
/// is left to whoever reads addresses.
#[derive(Clone, Debug)]
pub(crate) struct Addresses(pub(crate) Words);

impl Written for Addresses {
    const EXPECTED: &'static str = "a mail address or a list of them";

    fn read(spot: Spot<'_>, reading: &mut Reading<'_>) -> Option<Self> {
        let address = |part: &str| part.contains('@');
        one_or_list(spot, reading, |spot, reading| one_word(spot, reading, address)).map(Self)
    }
}

/// A program and its arguments, which in a list are what they are, blanks and all. No shell reads them.
#[derive(Clone, Debug)]
pub(crate) struct Command(pub(crate) Words);

impl Written for Command {
    const EXPECTED: &'static str = "a program, or a list of a program and its arguments";

    fn read(spot: Spot<'_>, reading: &mut Reading<'_>) -> Option<Self> {
        let is_list = matches!(spot.value, DeValue::Array(_));
        let words = one_or_list(spot, reading, |spot, reading| {
            let value = reading.word(&spot, Words::EXPECTED)?;
            Some(Located { value, span: spot.span, key: spot.key })
        })?;
        if let ([only], false) = (words.as_slice(), is_list)
            && only.value.as_str().contains(char::is_whitespace)
        {
            let key = reading.key();
            let title = format!("`{key}` is one string with blanks, and no shell takes it apart");
            let whole = only.value.as_str();
            let parts: Vec<&str> = whole.split_whitespace().collect();
            let list = if locate(whole, reading).is_file() { vec![whole] } else { parts };
            reading.problems.error(only.span.clone(), title).help(format!("write a list: {list:?}"));
            return None;
        }
        if let Some(program) = words.first().filter(|program| program.value.as_str().trim().is_empty()) {
            let key = reading.key();
            let problem = reading.problems.error(program.span.clone(), format!("`{key}` names no program"));
            problem.help(format!(
                "write {} = [\"/path/to/program\"]",
                key.rsplit('.').next().unwrap_or_default()
            ));
            return None;
        }
        Some(Self(in_place(words, reading)))
    }
}

/// A program that is named by a relative path, where it lies beside the configuration; one without a slash is looked for in
/// PATH.
fn in_place(mut words: Words, reading: &Reading<'_>) -> Words {
    if let Some(program) = words.first_mut().filter(|program| program.value.as_str().contains('/')) {
        let path = locate(program.value.as_str(), reading).to_string_lossy().into_owned();
        program.value.text = path;
    }
    words
}

fn locate(path: &str, reading: &Reading<'_>) -> std::path::PathBuf {
    macros::locate(path, reading.directory())
}

/// A string, or the strings of a list, each read by `one`.
fn one_or_list(
    spot: Spot<'_>,
    reading: &mut Reading<'_>,
    one: impl Fn(Spot<'_>, &mut Reading<'_>) -> Option<Located<Word>>,
) -> Option<Words> {
    let DeValue::Array(array) = spot.value else {
        return one(spot, reading).map(|word| vec![word]);
    };
    let words: Vec<_> = array
        .iter()
        .map(|element| {
            let span = element.span();
            one(Spot { key: span.clone(), span, value: element.get_ref() }, reading)
        })
        .collect();
    words.into_iter().collect()
}

/// `separate` says whether a part of the string could stand as an element of its own.
fn one_word(spot: Spot<'_>, reading: &mut Reading<'_>, separate: fn(&str) -> bool) -> Option<Located<Word>> {
    let value = reading.word(&spot, Words::EXPECTED)?;
    let parts: Vec<_> =
        value.as_str().split([',', ';', ' ', '\t', '\n', '\r']).filter(|part| !part.is_empty()).collect();
    // A path may hold spaces.
    let whole = value.as_str().starts_with("unix:") || parts.as_slice() == [value.as_str()];
    if whole || !parts.iter().all(|part| separate(part)) {
        return Some(Located { value, span: spot.span, key: spot.key });
    }
    let key = reading.key();
    if parts.is_empty() {
        reading.problems.error(spot.span, format!("`{key}` holds an empty string"));
        return None;
    }
    let title = match parts.len() {
        1 => format!("`{key}` begins or ends with a blank or a comma"),
        several => format!("`{key}` holds {several} names in one string"),
    };
    // An element has no key of its own.
    let is_element = spot.key == spot.span;
    let strings = format!("\"{}\"", parts.join("\", \""));
    reading.problems.error(spot.span, title).help(match (value.literal(), parts.len()) {
        (Some(_), 1) => format!("write {strings}"),
        (Some(_), _) if is_element => format!("write {strings} in its place"),
        (Some(_), _) => format!("write a list: [{strings}]"),
        (None, _) => "write a list of strings".to_owned(),
    });
    None
}

/// In pieces, so that a file in it can be watched.
impl Written for PemSource {
    const EXPECTED: &'static str = "PEM text";

    fn read(spot: Spot<'_>, reading: &mut Reading<'_>) -> Option<Self> {
        let DeValue::String(value) = spot.value else {
            reading.wrong_type(&spot, Self::EXPECTED);
            return None;
        };
        if let Some(path) = looks_like_path(value) {
            let title = format!("`{}` is PEM text, and this looks like a path", reading.key());
            reading.problems.error(spot.span, title).help(format!("write \"%{{file:{path}}}%\""));
            return None;
        }
        let mut parts = Vec::new();
        for piece in reading.pieces(&spot, value)? {
            parts.push(match piece {
                Piece::Text(text) => PemPart::Text(text.to_owned()),
                Piece::Variable(name) => PemPart::Text(reading.variable(&spot, name)?),
                Piece::File(path) => PemPart::File(macros::locate(path, reading.directory())),
            });
        }
        Some(Self { parts })
    }
}

/// Roots to trust: a file by its path, as no other text could be meant, or PEM as elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Roots(pub(crate) PemSource);

impl Written for Roots {
    const EXPECTED: &'static str = "the path of a PEM file";

    fn read(spot: Spot<'_>, reading: &mut Reading<'_>) -> Option<Self> {
        if let DeValue::String(value) = spot.value
            && let Some(path) = looks_like_path(value)
        {
            let file = macros::locate(path, reading.directory());
            return Some(Self(PemSource { parts: vec![PemPart::File(file)] }));
        }
        PemSource::read(spot, reading).map(Self)
    }
}

fn looks_like_path(value: &str) -> Option<&str> {
    let value = value.trim();
    let extension = [".pem", ".crt", ".cer", ".key", ".der"].iter().any(|end| value.ends_with(end));
    let path =
        !value.contains('\n') && !macros::present(value) && (value.starts_with(['/', '.']) || extension);
    path.then_some(value)
}
