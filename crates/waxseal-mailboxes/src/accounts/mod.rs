//! Who has an account, and whether a password is the right one.

use std::net::IpAddr;

use crate::Address;

/// The accounts of a site.
#[derive(Debug)]
pub struct Accounts;

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

impl Accounts {
    /// Logs `name` in. Takes as long for an account that does not exist, and longer after failures (the wait is in here).
    pub async fn login(&self, name: &str, password: &[u8], source: IpAddr) -> Result<Account, LoginError> {
        let _ = (name, password, source);
        Err(LoginError::Refused)
    }
}
