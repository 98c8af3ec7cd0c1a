//! The small mailboxes behind the door: mail comes in (SMTP, LMTP), is submitted, kept in Maildir, and read (IMAP, POP3).
//!
//! It sends nothing to other servers. It never hears of TLS or STARTTLS: a session's [`Peer`] says whether it is secured,
//! and by what, as facts for the Received line. Files are worked on synchronously, so whatever touches [`store`] runs in
//! `spawn_blocking`.
//!
//! Each protocol module has the same three functions: `capabilities`, `greeting`, and `serve`, which speaks the session
//! from the client's first command on (the greeting has been said by whoever opened it).
//!
//! ```
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::path::Path;
//! use waxseal_mailboxes::{Mailboxes, accounts};
//! use waxseal_proto::Protocol;
//!
//! let site = Mailboxes::site("mail.example", Path::new("/var/lib/mailboxes"), &["example".to_owned()])?;
//! let alice = accounts::Account { address: "alice@example".parse()?, aliases: vec![], quota: Some(1 << 30) };
//! accounts::add(Path::new("/var/lib/mailboxes/accounts.toml"), alice, b"correct horse battery staple")?;
//! // A `waxseal_server::Service`, to be put behind a listener:
//! let imap = Mailboxes::new(site, Protocol::Imap, waxseal_tls::Pool::new(64));
//! # assert!(imap.is_some());
//! # Ok(())
//! # }
//! ```

pub mod accounts;
pub mod address;
#[doc(hidden)]
pub mod fuzzing;
pub mod imap;
pub mod pop3;
mod sasl;
pub mod service;
pub mod session;
pub mod smtp;
pub mod store;
mod wire;

pub use self::address::{Address, AddressError};
pub use self::service::{Mailboxes, MailboxesError};
pub use self::session::{Peer, Site, TlsWords};
