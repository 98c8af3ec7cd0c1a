//! The file of accounts: TOML, written by the program, and by hand if one likes.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use argon2::{Argon2, PasswordHasher};
use serde::Deserialize;

use super::Account;
use crate::Address;
use crate::store::{StoreError, replace_file, with_file_lock};

/// Why the accounts could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// The system's answer.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was worked on.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not what it should be; the text names the line.
    #[error("{}: {why}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        why: String,
    },
    /// An address belongs to an account already.
    #[error("{0} belongs to an account already")]
    Taken(Address),
    /// There is no such account.
    #[error("there is no account {0}")]
    Unknown(Address),
    /// The password is empty.
    #[error("the password is empty")]
    EmptyPassword,
    /// A hash could not be made.
    #[error("the password could not be hashed: {0}")]
    Hash(String),
    /// The file could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An account with the hash of its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) account: Account,
    /// PHC string, Argon2id.
    pub(super) hash: Box<str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    account: Vec<WrittenAccount>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenAccount {
    address: String,
    #[serde(default)]
    aliases: Vec<String>,
    quota: Option<u64>,
    password: String,
}

/// Reads the accounts; no file is none.
pub(super) fn read(path: &Path) -> Result<Vec<Entry>, AccountsError> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.map_err(|source| AccountsError::Io { path: path.to_owned(), source })?,
    };
    parse(&text).map_err(|why| AccountsError::Syntax { path: path.to_owned(), why })
}

/// Reads the text of the file. The messages never hold a hash.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, String> {
    let written: Written = toml::from_str(text).map_err(|error| {
        let line = error
            .span()
            .and_then(|span| text.get(..span.start))
            .map(|before| before.matches('\n').count() + 1);
        line.map_or_else(|| error.message().to_owned(), |line| format!("line {line}: {}", error.message()))
    })?;
    let mut entries = Vec::with_capacity(written.account.len());
    let mut taken = std::collections::HashSet::new();
    for account in written.account {
        let parse = |text: &str| text.parse::<Address>().map_err(|error| format!("{text:?}: {error}"));
        let address = parse(&account.address)?;
        let aliases = account.aliases.iter().map(|alias| parse(alias)).collect::<Result<Vec<_>, _>>()?;
        for own in std::iter::once(&address).chain(&aliases) {
            if !taken.insert(own.clone()) {
                return Err(format!("{own} stands there twice"));
            }
        }
        if argon2::password_hash::phc::PasswordHash::new(&account.password).is_err() {
            return Err(format!(
                "the password of {address} is no PHC string ($argon2id$...); `waxseal account password` makes one"
            ));
        }
        entries.push(Entry {
            account: Account { address, aliases, quota: account.quota },
            hash: account.password.into(),
        });
    }
    Ok(entries)
}

fn write(path: &Path, entries: &[Entry]) -> Result<(), AccountsError> {
    let mut text = String::from(
        "# The accounts of waxseal's mailboxes. Changed by `waxseal account`; comments do not survive that.\n",
    );
    for Entry { account, hash } in entries {
        // Neither an address nor a PHC string has a quote or a backslash.
        let aliases: Vec<String> = account.aliases.iter().map(|alias| format!("\"{alias}\"")).collect();
        let _ = write!(
            text,
            "\n[[account]]\naddress = \"{}\"\naliases = [{}]\n",
            account.address,
            aliases.join(", ")
        );
        if let Some(quota) = account.quota {
            let _ = writeln!(text, "quota = {quota}");
        }
        let _ = writeln!(text, "password = \"{hash}\"");
    }
    Ok(replace_file(path, text.as_bytes())?)
}

fn edit(
    path: &Path,
    change: impl FnOnce(&mut Vec<Entry>) -> Result<(), AccountsError>,
) -> Result<(), AccountsError> {
    with_file_lock(&path.with_extension("lock"), || {
        let mut entries = read(path)?;
        change(&mut entries)?;
        write(path, &entries)
    })
}

/// Makes an account (`waxseal account add`). `quota` in bytes.
///
/// # Errors
/// When an address is taken, the password empty, or the file cannot be read or written.
pub fn add(path: &Path, account: Account, password: &[u8]) -> Result<(), AccountsError> {
    let hash = hash(password)?;
    edit(path, |entries| {
        let mut wanted = std::iter::once(&account.address).chain(&account.aliases);
        if let Some(taken) = wanted.find(|own| entries.iter().any(|entry| entry.account.owns_exactly(own))) {
            return Err(AccountsError::Taken(taken.clone()));
        }
        entries.push(Entry { account, hash });
        Ok(())
    })
}

/// All accounts (`waxseal account list`).
///
/// # Errors
/// When the file cannot be read.
pub fn list(path: &Path) -> Result<Vec<Account>, AccountsError> {
    Ok(read(path)?.into_iter().map(|entry| entry.account).collect())
}

/// Takes an account away (`waxseal account remove`); its mail stays on the disk.
///
/// # Errors
/// When there is no such account, or the file cannot be read or written.
pub fn remove(path: &Path, address: &Address) -> Result<(), AccountsError> {
    edit(path, |entries| {
        let before = entries.len();
        entries.retain(|entry| entry.account.address != *address);
        if entries.len() == before { Err(AccountsError::Unknown(address.clone())) } else { Ok(()) }
    })
}

/// Gives an account another password (`waxseal account password`).
///
/// # Errors
/// When there is no such account, the password is empty, or the file cannot be read or written.
pub fn set_password(path: &Path, address: &Address, password: &[u8]) -> Result<(), AccountsError> {
    let hash = hash(password)?;
    edit(path, |entries| {
        let entry = entries.iter_mut().find(|entry| entry.account.address == *address);
        entry.ok_or_else(|| AccountsError::Unknown(address.clone()))?.hash = hash;
        Ok(())
    })
}

pub(super) fn hash(password: &[u8]) -> Result<Box<str>, AccountsError> {
    if password.is_empty() {
        return Err(AccountsError::EmptyPassword);
    }
    let hash =
        Argon2::default().hash_password(password).map_err(|error| AccountsError::Hash(error.to_string()))?;
    Ok(hash.to_string().into())
}
