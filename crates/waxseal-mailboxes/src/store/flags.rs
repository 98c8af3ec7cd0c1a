//! What a message is marked with: the five flags that last, and keywords.

use std::fmt;
use std::sync::Arc;

/// A flag that every message can have (RFC 9051 section 2.3.2), less \Recent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Flag {
    /// `\Draft`
    Draft,
    /// `\Flagged`
    Flagged,
    /// `\Answered`
    Answered,
    /// `\Seen`
    Seen,
    /// `\Deleted`
    Deleted,
}

impl Flag {
    /// All flags, in the order of their letters in a Maildir file name.
    pub const ALL: [Self; 5] = [Self::Draft, Self::Flagged, Self::Answered, Self::Seen, Self::Deleted];

    /// The letter in a Maildir file name.
    pub(super) fn letter(self) -> u8 {
        match self {
            Self::Draft => b'D',
            Self::Flagged => b'F',
            Self::Answered => b'R',
            Self::Seen => b'S',
            Self::Deleted => b'T',
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }

    /// The name, as in `\Seen`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "\\Draft",
            Self::Flagged => "\\Flagged",
            Self::Answered => "\\Answered",
            Self::Seen => "\\Seen",
            Self::Deleted => "\\Deleted",
        }
    }
}

/// The longest keyword, in octets.
pub const MAX_KEYWORD: usize = 128;

/// A keyword: an IMAP atom. Its case is kept and does not count (RFC 9051 section 2.3.2).
#[derive(Clone)]
pub struct Keyword(Arc<str>);

impl Keyword {
    /// `None` when `text` is no IMAP atom, or longer than [`MAX_KEYWORD`].
    pub fn new(text: &str) -> Option<Self> {
        let atom = |byte: u8| byte.is_ascii_graphic() && !b"(){%*\"\\]".contains(&byte);
        (!text.is_empty() && text.len() <= MAX_KEYWORD && text.bytes().all(atom))
            .then(|| Self(Arc::from(text)))
    }

    /// The keyword as it was first written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Keyword {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Keyword {}

impl fmt::Debug for Keyword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The flags and keywords of one message.
#[derive(Clone, Default)]
pub struct Flags {
    bits: u8,
    keywords: Vec<Keyword>,
}

impl Flags {
    /// No flag at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.bits == 0 && self.keywords.is_empty()
    }

    /// Whether `flag` is set.
    pub fn contains(&self, flag: Flag) -> bool {
        self.bits & flag.bit() != 0
    }

    /// Whether `keyword` is set.
    pub fn contains_keyword(&self, keyword: &Keyword) -> bool {
        self.keywords.contains(keyword)
    }

    /// Sets `flag`.
    pub fn insert(&mut self, flag: Flag) {
        self.bits |= flag.bit();
    }

    /// Sets `keyword`.
    pub fn insert_keyword(&mut self, keyword: Keyword) {
        if !self.contains_keyword(&keyword) {
            self.keywords.push(keyword);
        }
    }

    /// The flags set.
    pub fn iter(&self) -> impl Iterator<Item = Flag> + '_ {
        Flag::ALL.into_iter().filter(|flag| self.contains(*flag))
    }

    /// The keywords set.
    pub fn keywords(&self) -> &[Keyword] {
        &self.keywords
    }

    /// These flags after `change` by `with`.
    #[must_use]
    pub fn changed(&self, change: FlagChange, with: &Self) -> Self {
        match change {
            FlagChange::Replace => with.clone(),
            FlagChange::Add => {
                let mut sum = self.clone();
                sum.bits |= with.bits;
                for keyword in &with.keywords {
                    sum.insert_keyword(keyword.clone());
                }
                sum
            }
            FlagChange::Remove => {
                let kept = |keyword: &&Keyword| !with.contains_keyword(keyword);
                Self {
                    bits: self.bits & !with.bits,
                    keywords: self.keywords.iter().filter(kept).cloned().collect(),
                }
            }
        }
    }
}

impl PartialEq for Flags {
    fn eq(&self, other: &Self) -> bool {
        // No keyword is in a set twice, and their order means nothing.
        self.bits == other.bits
            && self.keywords.len() == other.keywords.len()
            && self.keywords.iter().all(|keyword| other.contains_keyword(keyword))
    }
}

impl Eq for Flags {}

impl FromIterator<Flag> for Flags {
    fn from_iter<I: IntoIterator<Item = Flag>>(flags: I) -> Self {
        let mut set = Self::new();
        for flag in flags {
            set.insert(flag);
        }
        set
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Flag::as_str)).entries(&self.keywords).finish()
    }
}

/// What STORE does with the flags it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagChange {
    /// `FLAGS`
    Replace,
    /// `+FLAGS`
    Add,
    /// `-FLAGS`
    Remove,
}
