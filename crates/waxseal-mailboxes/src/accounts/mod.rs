//! Who has an account, and whether a password is the right one.

mod file;
mod slowdown;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordVerifier};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

pub use self::file::{AccountsError, add, list, remove, set_password};

use self::file::Entry;
use self::slowdown::Slowdown;
use crate::Address;
use crate::store::Stamp;

/// Passwords hashed at once: each takes 19 MiB and a core.
const HASHES_AT_ONCE: usize = 2;
/// Logins that may wait for that.
const MAX_WAITING: usize = 200;
/// The longest password looked at, in octets.
pub const MAX_PASSWORD: usize = 1024;

/// One account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its own address, which names its mailbox.
    pub address: Address,
    /// Further addresses of its own.
    pub aliases: Vec<Address>,
    /// Bytes its mail may use, if there is a limit.
    pub quota: Option<u64>,
}

impl Account {
    fn owns_exactly(&self, address: &Address) -> bool {
        self.address == *address || self.aliases.contains(address)
    }

    /// Whether mail may be sent from `address`: an address of the account, with or without a detail behind a `+`.
    pub fn owns(&self, address: &Address) -> bool {
        self.owns_exactly(address) || address.without_detail().is_some_and(|bare| self.owns_exactly(&bare))
    }
}

/// Why a login failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// No such account, or not its password; nobody is told which (`NO [AUTHENTICATIONFAILED]`, 535 5.7.8).
    #[error("invalid name or password")]
    Refused,
    /// Too many are logging in, or have failed from this address or for this account (`NO [UNAVAILABLE]`, 454 4.7.0).
    #[error("too many logins, try again later")]
    Busy,
}

/// The accounts of a site, read again when their file changes.
#[derive(Debug)]
pub struct Accounts {
    path: PathBuf,
    loaded: Mutex<Loaded>,
    gate: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    slowdown: Mutex<Slowdown>,
    /// Verified where there is no account, so that it takes as long.
    nobody: Box<str>,
}

#[derive(Debug, Default)]
struct Loaded {
    stamp: Stamp,
    table: Arc<Table>,
}

#[derive(Debug, Default)]
struct Table {
    entries: Vec<Entry>,
    by_address: HashMap<Address, usize>,
}

impl Table {
    fn new(entries: Vec<Entry>) -> Self {
        let mut by_address = HashMap::new();
        for (index, entry) in entries.iter().enumerate() {
            for address in std::iter::once(&entry.account.address).chain(&entry.account.aliases) {
                by_address.insert(address.clone(), index);
            }
        }
        Self { entries, by_address }
    }

    fn get(&self, address: &Address) -> Option<&Entry> {
        self.entries.get(*self.by_address.get(address)?)
    }
}

impl Accounts {
    /// The accounts in the file at `path`, which need not exist yet.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn open(path: &Path) -> Result<Self, AccountsError> {
        let stamp = Stamp::of(path)?;
        let table = Arc::new(Table::new(file::read(path)?));
        Ok(Self {
            path: path.to_owned(),
            loaded: Mutex::new(Loaded { stamp, table }),
            gate: Arc::new(Semaphore::new(HASHES_AT_ONCE)),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            slowdown: Mutex::default(),
            nobody: file::hash(b"nobody's")?,
        })
    }

    /// The accounts as they stand in the file now. A broken file leaves those in use that were.
    fn table(&self) -> Arc<Table> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        match Stamp::of(&self.path) {
            Ok(stamp) if stamp == loaded.stamp => {}
            Ok(stamp) => {
                loaded.stamp = stamp;
                match file::read(&self.path) {
                    Ok(entries) => loaded.table = Arc::new(Table::new(entries)),
                    Err(error) => tracing::error!("accounts stay as they were: {error}"),
                }
            }
            Err(error) => tracing::error!("accounts stay as they were: {error}"),
        }
        Arc::clone(&loaded.table)
    }

    /// The account that mail to `address` goes to: by its address, an alias, or either without a detail behind a `+`.
    /// Postmaster is somebody in every domain (RFC 5321 section 4.5.1).
    pub fn recipient(&self, address: &Address) -> Option<Account> {
        let table = self.table();
        let found = table.get(address).or_else(|| table.get(&address.without_detail()?)).or_else(|| {
            let first =
                || table.entries.iter().find(|entry| entry.account.address.domain() == address.domain());
            (address.local() == "postmaster").then(first).flatten()
        });
        found.map(|entry| entry.account.clone())
    }

    /// Logs `name` in: an address or an alias. Takes as long for an account that does not exist, and longer after failures
    /// (the wait is in here).
    ///
    /// # Errors
    /// [`LoginError`]
    pub async fn login(&self, name: &str, password: &[u8], source: IpAddr) -> Result<Account, LoginError> {
        let name = name.parse::<Address>().ok();
        let Ok(_waiting) = self.waiting.try_acquire() else { return Err(LoginError::Busy) };
        let wait = self.slowdown().admit(name.as_ref(), source, Instant::now()).ok_or(LoginError::Busy)?;
        tokio::time::sleep(wait).await;
        let entry = name.as_ref().and_then(|name| self.table().get(name).cloned());
        let hash = entry.as_ref().map_or_else(|| self.nobody.clone(), |entry| entry.hash.clone());
        let right = self.verify(password, hash).await?;
        let mut slowdown = self.slowdown();
        match entry.filter(|_| right) {
            Some(entry) => {
                slowdown.succeeded(&entry.account.address, source, Instant::now());
                Ok(entry.account)
            }
            None => {
                slowdown.failed(name.as_ref(), source, Instant::now());
                Err(LoginError::Refused)
            }
        }
    }

    fn slowdown(&self) -> std::sync::MutexGuard<'_, Slowdown> {
        self.slowdown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn verify(&self, password: &[u8], hash: Box<str>) -> Result<bool, LoginError> {
        let password = Zeroizing::new(password.get(..MAX_PASSWORD).unwrap_or(password).to_vec());
        let Ok(permit) = Arc::clone(&self.gate).acquire_owned().await else { return Err(LoginError::Busy) };
        let verified = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            PasswordHash::new(&hash)
                .is_ok_and(|hash| Argon2::default().verify_password(&password, &hash).is_ok())
        });
        verified.await.map_err(|_| LoginError::Busy)
    }
}

pub(crate) fn fuzz_file(text: &str) {
    let _ = file::parse(text);
}
