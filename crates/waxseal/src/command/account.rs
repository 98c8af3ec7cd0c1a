//! `waxseal account`: the accounts of the built-in mailboxes. A running server takes every change at once.

use std::fmt::{self, Display};
use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use comfy_table::{Table, presets};
use serde_json::{Value, json};
use waxseal_mailboxes::Address;
use waxseal_mailboxes::accounts::{self, AccountsError};
use waxseal_mailboxes::service::ACCOUNTS_FILE;
use waxseal_mailboxes::store::{Store, StoreError};

use super::{ConfigurationFile, ended, print, say, tell};
use crate::config::Mailboxes;
use crate::privileges::{self, PrivilegeError};

/// The longest password, in bytes, with the end of its line.
const MAX_PASSWORD: u64 = 1024;

/// Units of a quota, in bytes.
const UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

/// What is done to accounts.
#[derive(Debug, Subcommand)]
pub(super) enum Account {
    /// Make an account; its password is asked for, or is the first line of standard input
    Add {
        #[command(flatten)]
        file: ConfigurationFile,
        /// Its address, which is also the name to log in with
        address: Address,
        /// A further address of its own; may be given several times
        #[arg(long, value_name = "ADDRESS")]
        alias: Vec<Address>,
        /// How much its mail may take, such as 1GiB
        #[arg(long, value_name = "SIZE", value_parser = bytes)]
        quota: Option<u64>,
    },
    /// Print the accounts
    List {
        #[command(flatten)]
        file: ConfigurationFile,
        /// Print one JSON array instead
        #[arg(long)]
        json: bool,
    },
    /// Remove an account; its mail stays on the disk
    Remove {
        #[command(flatten)]
        file: ConfigurationFile,
        /// Its address
        address: Address,
    },
    /// Change an account's password; it is asked for, or is the first line of standard input
    Password {
        #[command(flatten)]
        file: ConfigurationFile,
        /// Its address
        address: Address,
    },
}

/// Why the accounts stay as they are.
#[derive(Debug, thiserror::Error)]
enum AccountError {
    #[error(
        "{0} has no mailboxes; write\n\n    [mailboxes]\n    path = \"/var/lib/waxseal/mail\"\n    domains = [\"example.org\"]\n\n\
         with your own domain, and leave `upstream` out of the listeners that the mailboxes shall serve"
    )]
    NoMailboxes(PathBuf),
    #[error(
        "{address} is in no domain of the mailboxes; they are: {}. Add the domain to mailboxes.domains if it is yours",
        domains.join(", ")
    )]
    Domain { address: Address, domains: Vec<String> },
    #[error("the two passwords differ; nothing was changed")]
    Differ,
    #[error("no password was given; write it as one line on standard input")]
    NoPassword,
    #[error("the password is longer than {} bytes", MAX_PASSWORD - 1)]
    LongPassword,
    #[error("the password holds a control character, which mail programs cannot send")]
    Control,
    #[error("the password could not be read: {0}")]
    Terminal(io::Error),
    #[error("{path}: {source}; run this as root or as the owner of that directory", path = path.display())]
    Forbidden { path: PathBuf, source: io::Error },
    #[error("the directory could not be given to the user of server.run-as: {0}")]
    HandOver(io::Error),
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Accounts(AccountsError),
}

impl From<AccountsError> for AccountError {
    fn from(error: AccountsError) -> Self {
        match error {
            AccountsError::Io { path, source } if source.kind() == io::ErrorKind::PermissionDenied => {
                Self::Forbidden { path, source }
            }
            error => Self::Accounts(error),
        }
    }
}

impl Account {
    /// Does it.
    pub(super) fn run(self) -> ExitCode {
        let (Self::Add { file, .. }
        | Self::List { file, .. }
        | Self::Remove { file, .. }
        | Self::Password { file, .. }) = &self;
        match file.load() {
            Ok(loaded) => {
                let book = loaded.model.mailboxes.clone().map(|mailboxes| Book { mailboxes, loaded });
                let path = file.config.clone();
                ended(book.ok_or(AccountError::NoMailboxes(path)).and_then(|book| self.apply(&book)))
            }
            Err(report) => {
                tell(&report);
                say("the accounts stay as they are until the configuration is right\n");
                ExitCode::FAILURE
            }
        }
    }

    fn apply(self, book: &Book) -> Result<(), AccountError> {
        match self {
            Self::Add { address, alias, quota, .. } => {
                std::iter::once(&address).chain(&alias).try_for_each(|own| book.is_ours(own))?;
                let password = password(&address)?;
                let account = accounts::Account { address: address.clone(), aliases: alias, quota };
                accounts::add(&book.open()?, account, password.as_bytes())?;
                say(&format!("{address} can receive mail and log in\n"));
            }
            Self::List { json, .. } => {
                let accounts = accounts::list(&book.path())?;
                print(&if json { records(&accounts) } else { table(&accounts) });
            }
            Self::Remove { address, .. } => {
                accounts::remove(&book.open()?, &address)?;
                say(&format!(
                    "{address} is removed; its mail stays in {}\n",
                    book.mailboxes.path.join("mail").join(address.domain()).join(address.local()).display()
                ));
            }
            Self::Password { address, .. } => {
                // Before anybody types a password in vain.
                if !accounts::list(&book.path())?.iter().any(|account| account.address == address) {
                    return Err(AccountsError::Unknown(address).into());
                }
                let password = password(&address)?;
                accounts::set_password(&book.open()?, &address, password.as_bytes())?;
                say(&format!("{address} has the new password\n"));
            }
        }
        Ok(())
    }
}

/// The file of accounts of a configuration.
struct Book {
    mailboxes: Mailboxes,
    loaded: crate::config::Loaded,
}

impl Book {
    fn path(&self) -> PathBuf {
        self.mailboxes.path.join(ACCOUNTS_FILE)
    }

    /// The file, to be changed. From here on we are the owner of the directory, so that a server that runs as somebody else
    /// than root can read what was changed.
    fn open(&self) -> Result<PathBuf, AccountError> {
        let directory = &self.mailboxes.path;
        if !directory.exists() {
            privileges::become_owner(directory)?;
            Store::open(directory)?;
            if let Some(run_as) = &self.loaded.model.run_as {
                privileges::hand_over(directory, run_as).map_err(AccountError::HandOver)?;
            }
        }
        privileges::become_owner(directory)?;
        Ok(self.path())
    }

    fn is_ours(&self, address: &Address) -> Result<(), AccountError> {
        let domains = &self.mailboxes.domains;
        if domains.iter().any(|domain| domain == address.domain()) {
            return Ok(());
        }
        Err(AccountError::Domain { address: address.clone(), domains: domains.clone() })
    }
}

/// Asks twice where there is somebody to ask, and takes a line of standard input else.
fn password(address: &Address) -> Result<String, AccountError> {
    let password = if io::stdin().is_terminal() {
        let ask = |prompt: &dyn Display| {
            rpassword::prompt_password(prompt.to_string()).map_err(AccountError::Terminal)
        };
        let password = ask(&format_args!("Password of {address}: "))?;
        if password != ask(&"The same again: ")? {
            return Err(AccountError::Differ);
        }
        password
    } else {
        let mut line = String::new();
        let read = io::stdin().lock().take(MAX_PASSWORD + 1).read_line(&mut line);
        read.map_err(AccountError::Terminal)?;
        let line = line.strip_suffix('\n').unwrap_or(&line);
        line.strip_suffix('\r').unwrap_or(line).to_owned()
    };
    match password {
        empty if empty.is_empty() => Err(AccountError::NoPassword),
        long if long.len() as u64 >= MAX_PASSWORD => Err(AccountError::LongPassword),
        odd if odd.chars().any(char::is_control) => Err(AccountError::Control),
        password => Ok(password),
    }
}

/// A size such as `1GiB`.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim();
    let factor = match unit {
        "" => Some(1),
        unit => UNITS.iter().find(|(known, _)| known.eq_ignore_ascii_case(unit)).map(|(_, factor)| *factor),
    };
    let size = number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    size.filter(|size| *size > 0)
        .ok_or_else(|| "a size is a number and a unit, such as 500MiB or 1GiB".to_owned())
}

/// A size in the largest unit that it is a whole number of.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS.iter().filter(|(_, factor)| self.0.is_multiple_of(*factor));
        match whole.max_by_key(|(_, factor)| *factor) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

fn records(accounts: &[accounts::Account]) -> String {
    let record = |account: &accounts::Account| {
        let aliases: Vec<_> = account.aliases.iter().map(Address::as_str).collect();
        json!({ "address": account.address.as_str(), "aliases": aliases, "quota": account.quota })
    };
    format!("{}\n", Value::Array(accounts.iter().map(record).collect()))
}

fn table(accounts: &[accounts::Account]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["ADDRESS", "ALIASES", "QUOTA"]);
    for account in accounts {
        let aliases: Vec<_> = account.aliases.iter().map(Address::as_str).collect();
        let quota = account.quota.map_or_else(|| "none".to_owned(), |quota| Size(quota).to_string());
        table.add_row([account.address.to_string(), aliases.join(", "), quota]);
    }
    format!("{}\n", table.trim_fmt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units_and_written_so_that_they_can_be_read_again() {
        for (text, size) in
            [("1GiB", 1 << 30), ("500 MiB", 500 << 20), ("10mb", 10_000_000), ("7", 7), ("1B", 1)]
        {
            assert_eq!(bytes(text), Ok(size), "{text}");
            assert_eq!(bytes(&Size(size).to_string()), Ok(size), "{text}");
        }
        assert_eq!(Size(1 << 30).to_string(), "1GiB");
        for wrong in ["", "GiB", "0", "-1", "1.5GiB", "1 parsec", "99999999999999999999", "99999999TiB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
