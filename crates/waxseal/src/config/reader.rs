//! Reads TOML tables into the types of [`file`](super::file), key by key, noting everything that is wrong on the way.
//!
//! Not serde, which stops at the first error and tells the rest in prose: here an unknown key, a wrong type or an
//! unreadable file takes one key away and the reading goes on.

use std::fmt;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use waxseal_tls::{PemPart, PemSource};

use super::Machine;
use super::file::LATER;
use super::macros::{self, Piece};
use super::problem::{Problem, Problems};
use super::source::{Source, Span};
use super::unreadable;
use super::words::{nearest, suggest};

/// Something written in the file, and where.
#[derive(Clone, Debug)]
pub(crate) struct Located<T> {
    pub(crate) value: T,
    /// The value; of a table its header.
    pub(crate) span: Span,
    /// The key before it; of an element of a list the element.
    pub(crate) key: Span,
}

impl<T> Located<T> {
    /// Another value that stands in the same place.
    pub(crate) fn with<U>(&self, value: U) -> Located<U> {
        Located { value, span: self.span.clone(), key: self.key.clone() }
    }
}

/// A value about to be read.
pub(crate) struct Spot<'v> {
    pub(crate) key: Span,
    pub(crate) span: Span,
    pub(crate) value: &'v DeValue<'v>,
}

/// What reading needs, and where it tells of problems.
pub(crate) struct Reading<'r> {
    pub(crate) source: &'r Source,
    pub(crate) machine: &'r Machine,
    pub(crate) problems: &'r mut Problems,
    /// The keys that lead to where we are.
    path: Vec<String>,
}

/// A type a value may be read as.
pub(crate) trait Written: Sized {
    /// What the value should be, with its article.
    const EXPECTED: &'static str;
    /// The keys below, if it is a table.
    const KEYS: &'static [Key] = &[];

    /// Reads it, or says why not.
    fn read(spot: Spot<'_>, reading: &mut Reading<'_>) -> Option<Self>;
}

/// A key of a table, and the keys of the table it leads to if it leads to one.
pub(crate) struct Key {
    /// The field it is read into: its own name with underscores.
    pub(crate) field: &'static str,
    pub(crate) below: &'static [Self],
}

impl<'r> Reading<'r> {
    pub(crate) fn new(source: &'r Source, machine: &'r Machine, problems: &'r mut Problems) -> Self {
        Self { source, machine, problems, path: Vec::new() }
    }

    /// The directory that relative paths start from.
    pub(crate) fn directory(&self) -> &'r Path {
        self.source.path().parent().unwrap_or_else(|| Path::new(""))
    }

    /// The name of the key that is being read, from the file's root.
    pub(crate) fn key(&self) -> String {
        self.path.join(".")
    }

    /// Notes that the value has another type than it should.
    pub(crate) fn wrong_type(&mut self, spot: &Spot<'_>, expected: &str) -> &mut Problem {
        let found = match spot.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let title = format!("`{}` must be {expected}, not {found}", self.key());
        self.problems.error(spot.span.clone(), title)
    }

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
                let title = format!("cannot read {}: {}", located.display(), unreadable::reason(&error));
                unreadable::explain(self.problems.error(span, title), &located, &error);
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
        let DeValue::Array(array) = spot.value else {
            return one_word(spot, reading, Self::EXPECTED).map(|word| vec![word]);
        };
        let words: Vec<_> = array
            .iter()
            .map(|element| {
                let span = element.span();
                one_word(Spot { key: span.clone(), span, value: element.get_ref() }, reading, Self::EXPECTED)
            })
            .collect();
        words.into_iter().collect()
    }
}

fn one_word(spot: Spot<'_>, reading: &mut Reading<'_>, expected: &str) -> Option<Located<Word>> {
    let value = reading.word(&spot, expected)?;
    let parts: Vec<_> =
        value.as_str().split([',', ';', ' ', '\t', '\n', '\r']).filter(|part| !part.is_empty()).collect();
    // A path may hold spaces.
    if value.as_str().starts_with("unix:") || parts.as_slice() == [value.as_str()] {
        return Some(Located { value, span: spot.span, key: spot.key });
    }
    let key = reading.key();
    if parts.is_empty() {
        reading.problems.error(spot.span, format!("`{key}` holds an empty string"));
        return None;
    }
    let problem =
        reading.problems.error(spot.span, format!("`{key}` holds {} names in one string", parts.len()));
    problem.help(match value.literal() {
        Some(_) => format!("write a list: [\"{}\"]", parts.join("\", \"")),
        None => "write a list of strings".to_owned(),
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

fn looks_like_path(value: &str) -> Option<&str> {
    let value = value.trim();
    let extension = [".pem", ".crt", ".cer", ".key", ".der"].iter().any(|end| value.ends_with(end));
    let path =
        !value.contains('\n') && !macros::present(value) && (value.starts_with(['/', '.']) || extension);
    path.then_some(value)
}

/// Tables by names that the operator chooses, in the order of the file.
#[derive(Debug)]
pub(crate) struct Named<T> {
    pub(crate) tables: Vec<(Located<String>, Located<T>)>,
    /// The names of what is no such table: nothing can be said of them, not even that they are missing.
    pub(crate) refused: Vec<String>,
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self { tables: Vec::new(), refused: Vec::new() }
    }
}

impl<T: Written> Written for Named<T> {
    const EXPECTED: &'static str = "a table of tables";

    fn read(spot: Spot<'_>, reading: &mut Reading<'_>) -> Option<Self> {
        let DeValue::Table(table) = spot.value else {
            let key = reading.key();
            reading
                .wrong_type(&spot, Self::EXPECTED)
                .help(format!("write [{key}.NAME] above each one's keys"));
            return None;
        };
        let mut named = Self::default();
        for (key, value) in table {
            let name = Located { value: key.get_ref().to_string(), span: key.span(), key: key.span() };
            if name.value.is_empty() || name.value.chars().any(char::is_control) {
                reading.problems.error(name.span, format!("`{}.` is followed by no name", reading.key()));
                continue;
            }
            match entry(key, value, reading) {
                Some(value) => named.tables.push((name, value)),
                None => named.refused.push(name.value),
            }
        }
        Some(named)
    }
}

/// Reads the value of one key.
fn entry<T: Written>(
    key: &Spanned<std::borrow::Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
    reading: &mut Reading<'_>,
) -> Option<Located<T>> {
    let (key_span, span) = (key.span(), value.span());
    reading.path.push(key.get_ref().to_string());
    let spot = Spot { key: key_span.clone(), span: span.clone(), value: value.get_ref() };
    let read = T::read(spot, reading);
    reading.path.pop();
    Some(Located { value: read?, span, key: key_span })
}

/// A table being taken apart.
pub(crate) struct Table<'v> {
    table: &'v DeTable<'v>,
    pub(crate) refused: Vec<&'static str>,
}

/// A table in which something may have been refused.
pub(crate) trait Incomplete {
    /// Whether the field is empty because what stands there was complained of, and not because nothing does.
    fn refused(&self, field: &str) -> bool;
}

impl<'v> Table<'v> {
    /// The table at `spot`, once every key of it that is none of `keys` has been complained of.
    pub(crate) fn open(spot: &Spot<'v>, keys: &'static [Key], reading: &mut Reading<'_>) -> Option<Self> {
        let DeValue::Table(table) = spot.value else {
            reading.wrong_type(spot, "a table");
            return None;
        };
        let mut refused = Vec::new();
        for key in table.keys() {
            if !keys.iter().any(|known| is_key(key.get_ref(), known.field)) {
                refused.extend(unknown_key(key.get_ref(), key.span(), keys, reading));
            }
        }
        Some(Self { table, refused })
    }

    /// Reads the value of the key that the field is named after.
    pub(crate) fn take<T: Written>(
        &mut self,
        field: &'static str,
        reading: &mut Reading<'_>,
    ) -> Option<Located<T>> {
        let (key, value) = self.table.iter().find(|(key, _)| is_key(key.get_ref(), field))?;
        let read = entry(key, value, reading);
        if read.is_none() {
            self.refused.push(field);
        }
        read
    }
}

/// Whether `key` is the kebab-case of the field's name.
fn is_key(key: &str, field: &str) -> bool {
    key.len() == field.len()
        && key.bytes().zip(field.bytes()).all(|(k, f)| k == if f == b'_' { b'-' } else { f })
}

fn kebab(field: &str) -> String {
    field.replace('_', "-")
}

/// Complains; gives back the field that was meant, if it can be told.
fn unknown_key(key: &str, span: Span, keys: &[Key], reading: &mut Reading<'_>) -> Option<&'static str> {
    let place = reading.key();
    if let Some((_, instead)) = LATER.iter().find(|(later, _)| place.is_empty() && *later == key) {
        reading.problems.error(span, format!("`{key}` is not part of this version")).help(*instead);
        return None;
    }
    let title = match place.as_str() {
        "" => format!("unknown key `{key}`"),
        _ => format!("unknown key `{key}` in `{place}`"),
    };
    // `implicit` in a listener belongs into its `tls`.
    let above = keys.iter().find(|table| table.below.iter().any(|known| is_key(key, known.field)));
    let known: Vec<_> = keys.iter().map(|known| kebab(known.field)).collect();
    let known = known.iter().map(String::as_str);
    let help = match above {
        Some(table) => format!("did you mean `{}.{key}`?", kebab(table.field)),
        None => suggest(key, known.clone()),
    };
    reading.problems.error(span, title).help(help);
    let meant = nearest(key, known)?;
    keys.iter().map(|known| known.field).find(|field| is_key(meant, field))
}

/// Declares a table of the file: a field a key, in kebab-case. A key that is not there is `None`.
macro_rules! table {
    ($(#[$about:meta])* $name:ident { $($(#[$meaning:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$about])*
        #[derive(Debug, Default)]
        pub(crate) struct $name {
            $($(#[$meaning])* pub(crate) $field: Option<$crate::config::reader::Located<$kind>>,)*
            refused: Vec<&'static str>,
        }

        impl $crate::config::reader::Incomplete for $name {
            fn refused(&self, field: &str) -> bool {
                self.refused.contains(&field)
            }
        }

        impl $crate::config::reader::Written for $name {
            const EXPECTED: &'static str = "a table";
            const KEYS: &'static [$crate::config::reader::Key] =
                &[$($crate::config::reader::Key {
                    field: stringify!($field),
                    below: <$kind as $crate::config::reader::Written>::KEYS,
                },)*];

            fn read(
                spot: $crate::config::reader::Spot<'_>,
                reading: &mut $crate::config::reader::Reading<'_>,
            ) -> Option<Self> {
                let mut table = $crate::config::reader::Table::open(&spot, Self::KEYS, reading)?;
                Some(Self { $($field: table.take(stringify!($field), reading),)* refused: table.refused })
            }
        }
    };
}
pub(crate) use table;
