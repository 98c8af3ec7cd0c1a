//! The letters behind `:2,` in a file name, and the names of the keywords that 26 of them stand for.

use std::path::Path;

use super::error::StoreError;
use super::files;
use super::flags::{Flag, Flags, Keyword};

/// Dovecot's file of keyword names.
pub(super) const NAME: &str = "dovecot-keywords";
/// Keywords that a folder has room for, one per small letter.
pub(super) const MAX_KEYWORDS: usize = 26;

/// A set of ASCII letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Letters(u64);

impl Letters {
    /// The letters of a file name's info, or of one of our own records. Anything else is left out.
    pub(super) fn parse(info: &[u8]) -> Self {
        info.iter().fold(Self::default(), |letters, byte| letters.with(*byte))
    }

    fn bit(letter: u8) -> u64 {
        match letter {
            b'A'..=b'Z' => 1 << (letter - b'A'),
            b'a'..=b'z' => 1 << (26 + letter - b'a'),
            _ => 0,
        }
    }

    #[must_use]
    pub(super) fn with(self, letter: u8) -> Self {
        Self(self.0 | Self::bit(letter))
    }

    pub(super) fn contains(self, letter: u8) -> bool {
        self.0 & Self::bit(letter) != 0
    }

    /// In ASCII order, as Maildir wants them.
    pub(super) fn iter(self) -> impl Iterator<Item = u8> {
        (b'A'..=b'Z').chain(b'a'..=b'z').filter(move |letter| self.contains(*letter))
    }

    /// A file name with these letters.
    pub(super) fn file_name(self, base: &[u8]) -> Vec<u8> {
        let mut name = base.to_vec();
        name.extend_from_slice(b":2,");
        name.extend(self.iter());
        name
    }

    /// Those letters that we give no meaning to (`P`assed, and what other programs may have put there).
    fn foreign(self, keywords: &Keywords) -> Self {
        let known = |letter: &u8| {
            Flag::ALL.iter().any(|flag| flag.letter() == *letter) || keywords.name(*letter).is_some()
        };
        self.iter().filter(|letter| !known(letter)).fold(Self::default(), Self::with)
    }
}

/// The names of a folder's keywords, by letter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Keywords {
    names: [Option<Keyword>; MAX_KEYWORDS],
}

impl Keywords {
    /// Reads Dovecot's file.
    pub(super) fn read(dir: &Path) -> Result<Self, StoreError> {
        let content = files::read_if_there(&dir.join(NAME))?.unwrap_or_default();
        Ok(Self::parse(&String::from_utf8_lossy(&content)))
    }

    fn parse(content: &str) -> Self {
        let mut keywords = Self::default();
        for line in content.lines() {
            let Some((index, name)) = line.split_once(' ') else { continue };
            let place = index.parse::<usize>().ok().and_then(|index| keywords.names.get_mut(index));
            if let (Some(place), Some(keyword)) = (place, Keyword::new(name)) {
                *place = Some(keyword);
            }
        }
        keywords
    }

    /// Writes Dovecot's file. The folder's lock is held.
    pub(super) fn write(&self, dir: &Path) -> Result<(), StoreError> {
        let lines = self
            .names
            .iter()
            .enumerate()
            .filter_map(|(index, name)| name.as_ref().map(|name| format!("{index} {}\n", name.as_str())));
        files::replace(&dir.join(NAME), lines.collect::<String>().as_bytes())
    }

    fn name(&self, letter: u8) -> Option<&Keyword> {
        let index = letter.checked_sub(b'a')?;
        self.names.get(usize::from(index))?.as_ref()
    }

    /// All names in use.
    pub(super) fn all(&self) -> impl Iterator<Item = &Keyword> {
        self.names.iter().flatten()
    }

    /// Whether there is room for another.
    pub(super) fn has_room(&self) -> bool {
        self.names.iter().any(Option::is_none)
    }

    /// The flags that letters stand for.
    pub(super) fn flags(&self, letters: Letters) -> Flags {
        let mut flags: Flags = Flag::ALL.into_iter().filter(|flag| letters.contains(flag.letter())).collect();
        for keyword in letters.iter().filter_map(|letter| self.name(letter)) {
            flags.insert_keyword(keyword.clone());
        }
        flags
    }

    /// The letters for flags, beside those in `before` that have no meaning to us. All keywords are in the table.
    pub(super) fn letters(&self, flags: &Flags, before: Letters) -> Letters {
        let mut letters = flags.iter().map(Flag::letter).fold(before.foreign(self), Letters::with);
        for (letter, name) in (b'a'..=b'z').zip(&self.names) {
            if name.as_ref().is_some_and(|name| flags.contains_keyword(name)) {
                letters = letters.with(letter);
            }
        }
        letters
    }

    /// Gives letters to the keywords that have none; says whether the table is another now.
    pub(super) fn admit(&mut self, flags: &Flags) -> Result<bool, StoreError> {
        let mut grown = false;
        for keyword in flags.keywords() {
            if self.all().any(|name| name == keyword) {
                continue;
            }
            let free = self.names.iter_mut().find(|name| name.is_none());
            *free.ok_or(StoreError::Limit("the folder has 26 keywords, and no room for more"))? =
                Some(keyword.clone());
            grown = true;
        }
        Ok(grown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_keywords_and_foreign_letters_survive_a_change() {
        let mut keywords = Keywords::parse("0 $Foo\n2 Bar\nx y\n99 z\n");
        let before = Letters::parse(b"PSac");
        let flags = keywords.flags(before);
        assert_eq!(format!("{flags:?}"), "{\"\\\\Seen\", $Foo, Bar}");
        let mut wanted = flags;
        wanted.insert(Flag::Flagged);
        wanted.insert_keyword(Keyword::new("new").unwrap());
        assert!(keywords.admit(&wanted).unwrap());
        let after = keywords.letters(&wanted, before);
        assert_eq!(after.file_name(b"x"), b"x:2,FPSabc");
    }

    #[test]
    fn a_twenty_seventh_keyword_is_refused() {
        let mut keywords = Keywords::default();
        for index in 0..27 {
            let mut flags = Flags::new();
            flags.insert_keyword(Keyword::new(&format!("k{index}")).unwrap());
            assert_eq!(keywords.admit(&flags).is_ok(), index < 26, "{index}");
        }
        assert!(!keywords.has_room());
    }
}
