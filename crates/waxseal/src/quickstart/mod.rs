//! `waxseal quickstart`: a mail server with TLS on every port, on this machine only, out of nothing but a directory.
//!
//! Everything is made anew at each start but what clients have come to know: the authority, the accounts with their
//! passwords, and the mail. What it makes is served as any other configuration is.

mod authority;
mod directory;
mod message;
mod ports;
mod screen;

use std::path::Path;

use waxseal_mailboxes::accounts::{self, AccountsError};
use waxseal_mailboxes::service::ACCOUNTS_FILE;
use waxseal_mailboxes::store::{Store, StoreError};
use waxseal_mailboxes::{Address, AddressError};

pub use self::authority::AuthorityError;
pub use self::directory::DirectoryError;
use self::directory::{Directory, Visibility};
use self::ports::Open;
pub use self::ports::PortsError;
pub use self::screen::Screen;
use crate::app::{self, ServeError};
use crate::config::{self, Machine, Report, refuse_hostname};
use crate::logs::Logs;

/// The domain of the accounts; nobody can ever register it (RFC 2606 section 2).
const DOMAIN: &str = "waxseal.test";
/// The name that clients on this machine know it by.
const HOST: &str = "localhost";
/// The configuration's file.
const CONFIGURATION: &str = "waxseal.toml";
/// How often ports are chosen, as another program may take one between the look and the opening.
const MAX_CHOICES: u32 = 10;

/// Why there is no quickstart.
#[derive(Debug, thiserror::Error)]
pub enum QuickstartError {
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// Certificates cannot be made.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// No free ports.
    #[error(transparent)]
    Ports(#[from] PortsError),
    /// The accounts cannot be made.
    #[error("the accounts cannot be made: {0}")]
    Accounts(#[from] AccountsError),
    /// The mailboxes cannot be made.
    #[error("the mailboxes cannot be made: {0}")]
    Store(#[from] StoreError),
    /// An address in the file of passwords is none.
    #[error("passwords.json: {0}")]
    Address(#[from] AddressError),
    /// The configuration that was written is refused, which says that the directory was changed by hand.
    #[error("{0}the configuration cannot be served; name another directory with --dir DIR")]
    Configuration(Box<Report>),
    /// It cannot be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// A directory in which everything but the ports is ready.
#[derive(Debug)]
pub struct Started {
    directory: Directory,
}

impl Started {
    /// Makes ready, in `directory`, what is not there yet.
    ///
    /// # Errors
    /// What cannot be made, and what to do about it.
    pub fn in_directory(directory: &Path) -> Result<Self, QuickstartError> {
        let directory = Directory::open(directory)?;
        authority::renew(&directory, &names(&Machine::this()))?;
        message::write(&directory)?;
        make_accounts(&directory)?;
        Ok(Self { directory })
    }

    /// Serves it until the process is told to stop. `opened` gets what to tell the world once every port is open.
    ///
    /// # Errors
    /// What keeps it from beginning.
    pub fn serve(&self, level: &str, opened: impl Fn(&Screen<'_>)) -> Result<(), QuickstartError> {
        let mut logs = None;
        let mut choices = 1;
        loop {
            let ports = ports::choose()?;
            let file =
                self.directory.write(CONFIGURATION, configuration(&ports, level), Visibility::Public)?;
            let loaded = config::load(&file, &Machine::this())
                .map_err(|report| QuickstartError::Configuration(Box::new(report)))?;
            let logs: &Logs = logs.get_or_insert_with(|| Logs::start(loaded.model.log));
            let screen = Screen { directory: &self.directory, ports: &ports };
            match app::serve(loaded, file.clone(), logs.clone(), || opened(&screen)) {
                Err(ServeError::Bind(_)) if choices < MAX_CHOICES => choices += 1,
                served => return Ok(served?),
            }
        }
    }
}

/// What the certificate is for.
fn names(machine: &Machine) -> Vec<String> {
    let host = machine.hostname.iter().map(|name| name.to_ascii_lowercase());
    let mut names = vec![HOST.to_owned()];
    names.extend(host.filter(|name| name != HOST && refuse_hostname(name).is_ok()));
    names.extend(["127.0.0.1", "::1"].map(str::to_owned));
    names
}

/// Sees to it that each account is there and has the password that is shown.
fn make_accounts(directory: &Directory) -> Result<(), QuickstartError> {
    let mail = directory.path("mail");
    Store::open(&mail)?;
    let file = mail.join(ACCOUNTS_FILE);
    let there = accounts::list(&file)?;
    for login in directory.logins() {
        let address: Address = login.address.parse()?;
        let password = login.password.as_bytes();
        if there.iter().any(|account| account.address == address) {
            accounts::set_password(&file, &address, password)?;
        } else {
            accounts::add(&file, accounts::Account { address, aliases: Vec::new(), quota: None }, password)?;
        }
    }
    Ok(())
}

/// The configuration file, for people to read.
fn configuration(ports: &[Open], level: &str) -> String {
    let mut text = format!(
        r#"# Written by `waxseal quickstart`, anew at every start, with the ports that were free.
# For a configuration of your own copy this file, and start it with `waxseal serve --config FILE`.

[server]
hostname = "{HOST}"

# Signed by the authority of ca.pem, which was made here and is known nowhere else.
[certificate.quickstart]
cert = "%{{file:cert.pem}}%"
private-key = "%{{file:key.pem}}%"
default = true

# The mail, and accounts.toml; `waxseal account` changes the accounts. Nothing is sent to other servers.
[mailboxes]
path = "mail"
domains = ["{DOMAIN}"]

[log]
level = "{level}"
"#
    );
    for Open { door, port, .. } in ports {
        let implicit = if door.implicit { "tls.implicit = true\n" } else { "" };
        text.push_str(&format!(
            "\n# {}\n[server.listener.{}]\nprotocol = \"{}\"\nbind = \"127.0.0.1:{port}\"\n{implicit}",
            door.purpose, door.name, door.protocol
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(name: Option<&str>) -> Machine {
        Machine { hostname: name.map(str::to_owned), variable: |_| None }
    }

    #[test]
    fn a_host_name_that_is_none_stays_out_of_the_certificate() {
        assert_eq!(names(&machine(Some("Box.example"))), ["localhost", "box.example", "127.0.0.1", "::1"]);
        for none in [None, Some("localhost"), Some("two words"), Some("")] {
            assert_eq!(names(&machine(none)), ["localhost", "127.0.0.1", "::1"]);
        }
    }
}
