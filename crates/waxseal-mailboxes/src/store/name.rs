//! Folder names: UTF-8 in the program, modified UTF-7 on disk.

use std::fmt;

use base64::Engine;
use base64::alphabet::Alphabet;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};

/// What stands between the levels of a folder's name: a dot, as in the directories of Maildir++ and as Dovecot has it there,
/// so that no client sees other names when the one server takes the other's place.
pub const SEPARATOR: char = '.';

/// A directory's name has at most 255 bytes, one of them the dot in front.
const MAX_ON_DISK: usize = 254;

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
        if name.split(SEPARATOR).any(str::is_empty) {
            return Err(NameError::Empty);
        }
        // Dovecot takes neither a slash nor a tilde in front.
        if let Some(bad) = name.chars().find(|c| c.is_control() || *c == '/') {
            return Err(NameError::Character(bad));
        }
        if name.starts_with('~') {
            return Err(NameError::Character('~'));
        }
        let (first, rest) = name.split_at(name.find(SEPARATOR).unwrap_or(name.len()));
        let name = if first.eq_ignore_ascii_case("INBOX") { format!("INBOX{rest}") } else { name.to_owned() };
        if name.len() > MAX_ON_DISK || encode_utf7(&name).len() > MAX_ON_DISK {
            return Err(NameError::Long);
        }
        Ok(Self(name))
    }

    /// A name in modified UTF-7 (IMAP4rev1), as it also stands on disk.
    ///
    /// # Errors
    /// When no folder can have this name, or it is not modified UTF-7 in its one form.
    pub fn from_utf7(name: &str) -> Result<Self, NameError> {
        if name.len() > MAX_ON_DISK {
            return Err(NameError::Long);
        }
        let decoded = decode_utf7(name).ok_or(NameError::Utf7)?;
        // A second spelling of a name would be a second folder on disk.
        if encode_utf7(&decoded) != name {
            return Err(NameError::Utf7);
        }
        Self::from_utf8(&decoded)
    }

    /// The name in UTF-8.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name in modified UTF-7.
    pub fn to_utf7(&self) -> String {
        encode_utf7(&self.0)
    }

    /// This name with its beginning `from` replaced by `to`, for what is renamed along with a folder above.
    pub(super) fn moved(&self, from: &Self, to: &Self) -> Result<Self, NameError> {
        let rest = self.0.strip_prefix(&from.0).unwrap_or_default();
        Self::from_utf8(&format!("{}{rest}", to.0))
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

/// BASE64 with a comma for the slash and without padding (RFC 3501 section 5.1.3).
fn modified_base64() -> Option<GeneralPurpose> {
    let alphabet = Alphabet::new("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").ok()?;
    Some(GeneralPurpose::new(&alphabet, NO_PAD))
}

fn encode_utf7(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut wide = Vec::new();
    for c in name.chars() {
        if (' '..='~').contains(&c) {
            close_shift(&mut wide, &mut out);
            out.push(c);
            if c == '&' {
                out.push('-');
            }
        } else {
            let mut units = [0; 2];
            wide.extend(c.encode_utf16(&mut units).iter().flat_map(|unit| unit.to_be_bytes()));
        }
    }
    close_shift(&mut wide, &mut out);
    out
}

fn close_shift(wide: &mut Vec<u8>, out: &mut String) {
    if let (false, Some(base64)) = (wide.is_empty(), modified_base64()) {
        out.push('&');
        base64.encode_string(&*wide, out);
        out.push('-');
        wide.clear();
    }
}

fn decode_utf7(name: &str) -> Option<String> {
    if !name.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return None;
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((plain, shifted)) = rest.split_once('&') {
        out.push_str(plain);
        let (code, after) = shifted.split_once('-')?;
        if code.is_empty() {
            out.push('&');
        } else {
            let wide = modified_base64()?.decode(code).ok()?;
            let (pairs, odd) = wide.as_chunks::<2>();
            if !odd.is_empty() {
                return None;
            }
            for c in char::decode_utf16(pairs.iter().map(|pair| u16::from_be_bytes(*pair))) {
                out.push(c.ok()?);
            }
        }
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_on_disk_are_those_dovecot_makes() {
        for (utf8, utf7) in
            [("Entwürfe", "Entw&APw-rfe"), ("&foo", "&-foo"), ("台北.日本語", "&U,BTFw-.&ZeVnLIqe-")]
        {
            let name = FolderName::from_utf8(utf8).unwrap();
            assert_eq!(name.to_utf7(), utf7);
            assert_eq!(FolderName::from_utf7(utf7), Ok(name));
        }
    }

    #[test]
    fn inbox_is_one_folder_in_whatever_case() {
        assert!(FolderName::from_utf8("iNbOx").unwrap().is_inbox());
        assert_eq!(FolderName::from_utf8("inbox.Y").unwrap().as_str(), "INBOX.Y");
        assert_eq!(FolderName::from_utf8("inboxes").unwrap().as_str(), "inboxes");
    }

    #[test]
    fn names_that_no_directory_can_have_are_refused() {
        for bad in [
            "",
            ".",
            "a..b",
            ".a",
            "a.",
            "a/b",
            "../x",
            "a\0",
            "~a",
            "a\r\nb",
            &"x".repeat(255),
            &"ü".repeat(100),
        ] {
            assert!(FolderName::from_utf8(bad).is_err(), "{bad:?}");
        }
        for bad in ["a&", "a&b", "&AGE-", "&APw", "&AP-", "&2AA-", "ü", "&AC8-", "&AAA-"] {
            assert!(FolderName::from_utf7(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn every_name_survives_modified_utf7(text in "\\PC{1,40}") {
            if let Ok(name) = FolderName::from_utf8(&text) {
                prop_assert_eq!(FolderName::from_utf7(&name.to_utf7()), Ok(name));
            }
        }

        #[test]
        fn whatever_is_taken_as_utf7_is_in_its_one_form(text in "[ -~]{0,40}") {
            if let Ok(name) = FolderName::from_utf7(&text) {
                prop_assert!(name.to_utf7().eq_ignore_ascii_case(&text));
            }
        }
    }
}
