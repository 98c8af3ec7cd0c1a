//! Mail addresses of this server's own accounts.

use std::fmt;
use std::str::FromStr;

/// The longest local part, in octets (RFC 5321 section 4.5.3.1.1).
pub const MAX_LOCAL: usize = 64;
/// The longest domain, in octets (RFC 5321 section 4.5.3.1.2).
pub const MAX_DOMAIN: usize = 255;

/// An address in its one form: ASCII letters lowered, no quotes, and both parts fit to name a directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    text: String,
    at: usize,
}

/// Why a text is not an address that an account could have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no `@`, or nothing on one side of it.
    #[error("an address has the form name@domain")]
    Form,
    /// The local part is longer than 64 octets, or the domain longer than 255.
    #[error("the address is too long")]
    Long,
    /// A character that no account's address may have.
    #[error("the address has a character that accounts cannot have ({0:?})")]
    Character(char),
    /// A dot at the beginning, at the end, or next to another.
    #[error("the address has a dot in the wrong place")]
    Dot,
}

impl Address {
    /// What is before the `@`.
    pub fn local(&self) -> &str {
        self.text.get(..self.at).unwrap_or_default()
    }

    /// What is behind the `@`.
    pub fn domain(&self) -> &str {
        self.text.get(self.at + 1..).unwrap_or_default()
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The address without what follows a `+` in the local part (RFC 5233), if it has such a detail.
    pub fn without_detail(&self) -> Option<Self> {
        let (user, _) = self.local().split_once('+')?;
        format!("{user}@{}", self.domain()).parse().ok()
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (local, domain) = text.rsplit_once('@').ok_or(AddressError::Form)?;
        if local.is_empty() || domain.is_empty() {
            return Err(AddressError::Form);
        }
        if local.len() > MAX_LOCAL || domain.len() > MAX_DOMAIN {
            return Err(AddressError::Long);
        }
        // RFC 5321 section 4.1.2 atext, RFC 6531 section 3.3 beyond ASCII; never a slash, as the local part names a directory.
        let in_local = |c: char| {
            c.is_ascii_alphanumeric()
                || "!#$%&'*+-=?^_`{|}~.".contains(c)
                || (!c.is_ascii() && !c.is_control())
        };
        let in_domain =
            |c: char| c.is_ascii_alphanumeric() || "-.".contains(c) || (!c.is_ascii() && !c.is_control());
        let bad = local.chars().find(|c| !in_local(*c)).or_else(|| domain.chars().find(|c| !in_domain(*c)));
        if let Some(bad) = bad {
            return Err(AddressError::Character(bad));
        }
        if [local, domain].iter().any(|part| part.split('.').any(str::is_empty)) {
            return Err(AddressError::Dot);
        }
        Ok(Self { text: text.to_ascii_lowercase(), at: local.len() })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_form() {
        let address: Address = "Alice.B+Tag@Waxseal.TEST".parse().unwrap();
        assert_eq!(address.as_str(), "alice.b+tag@waxseal.test");
        assert_eq!((address.local(), address.domain()), ("alice.b+tag", "waxseal.test"));
        assert_eq!(address.without_detail().unwrap().as_str(), "alice.b@waxseal.test");
    }

    #[test]
    fn what_could_leave_the_directory_is_no_address() {
        for bad in [
            "../x@y", "a/b@y", ".@y", "..@y", "a@..", "a@y/z", "a", "@", "a@", "@b", "a\0@b", "a b@c",
            "\"a\"@b",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
