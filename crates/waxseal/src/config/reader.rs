//! Reads TOML tables into the types of [`file`](super::file), key by key, noting everything that is wrong on the way.
//!
//! Not serde, which stops at the first error and tells the rest in prose: here an unknown key, a wrong type or an
//! unreadable file takes one key away and the reading goes on.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Machine;
use super::file::{LATER, STRANGERS};
use super::problem::{Problem, Problems};
use super::source::{Source, Span};
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
        self.source.directory()
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
    // `eab-kid` is `eab.kid`.
    let within = keys.iter().find_map(|table| {
        let table_name = kebab(table.field);
        let rest = key.strip_prefix(&table_name)?.strip_prefix(['-', '_'])?;
        let is_there = table.below.iter().any(|known| is_key(rest, known.field));
        is_there.then(|| format!("{table_name}.{}", kebab(rest)))
    });
    let table = place.split('.').next().unwrap_or_default();
    let stranger = STRANGERS.iter().find(|(of, stranger, _)| *of == table && is_key(key, stranger));
    let help = match (above, within, stranger) {
        (Some(table), ..) => format!("did you mean `{}.{key}`?", kebab(table.field)),
        (_, Some(dotted), _) => format!("did you mean `{dotted}`?"),
        (.., Some((_, _, instead))) => format!("write `{instead}`"),
        _ => suggest(key, known.clone()),
    };
    reading.problems.error(span, title).help(help);
    let meant = stranger.map(|(_, _, instead)| *instead).or_else(|| nearest(key, known))?;
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
