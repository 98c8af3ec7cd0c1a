//! Folder names: UTF-8 in the program, modified UTF-7 on disk.

use std::fmt;

/// What stands between the levels of a folder's name: a dot, as in the directories of Maildir++ and as Dovecot has it there,
/// so that no client sees other names when the one server takes the other's place.
pub const SEPARATOR: char = '.';

/// A folder's name, valid and in its one form; the first level `INBOX` is always in capitals.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FolderName(String);

/// Why a text does not name a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, or an empty level: a separator first, last, or twice in a row.
    #[error("a folder name has an empty level")]
    Empty,
    /// A slash, or a control character.
    #[error("a folder name has a character that it cannot have ({0:?})")]
    Character(char),
    /// Longer than a directory's name can be, or with too many levels.
    #[error("the folder name is too long")]
    Long,
    /// Not valid modified UTF-7 (RFC 3501 section 5.1.3).
    #[error("the folder name is not valid modified UTF-7")]
    Utf7,
}

impl FolderName {
    /// The INBOX.
    pub fn inbox() -> Self {
        Self("INBOX".to_owned())
    }

    /// A name in UTF-8 (IMAP4rev2, or after ENABLE UTF8=ACCEPT).
    ///
    /// # Errors
    /// When no folder can have this name.
    pub fn from_utf8(name: &str) -> Result<Self, NameError> {
        let _ = name;
        todo!()
    }

    /// A name in modified UTF-7 (IMAP4rev1), as it also stands on disk.
    ///
    /// # Errors
    /// When no folder can have this name, or it is not modified UTF-7 in its one form.
    pub fn from_utf7(name: &str) -> Result<Self, NameError> {
        let _ = name;
        todo!()
    }

    /// The name in UTF-8.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name in modified UTF-7.
    pub fn to_utf7(&self) -> String {
        todo!()
    }

    /// Whether this is the INBOX.
    pub fn is_inbox(&self) -> bool {
        self.0 == "INBOX"
    }

    /// The folder one level up, if there is one.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once(SEPARATOR).map(|(parent, _)| Self(parent.to_owned()))
    }

    /// Whether this folder is below `other`, at whatever depth.
    pub fn is_below(&self, other: &Self) -> bool {
        self.0.strip_prefix(&other.0).is_some_and(|rest| rest.starts_with(SEPARATOR))
    }
}

impl fmt::Display for FolderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
