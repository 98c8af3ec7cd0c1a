//! The mailboxes as a service behind the door.

use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::net::UnixStream;
use waxseal_proto::{Capabilities, Protocol};
use waxseal_server::service::{Caller, Opened, Promise, ServiceError, Unreachable};
use waxseal_server::{Leg, Service, Socket};
use waxseal_tls::{Facts, Pool};

use crate::accounts::{Accounts, AccountsError};
use crate::session::{Peer, Site, TlsWords};
use crate::smtp::Kind;
use crate::store::{Store, StoreError};
use crate::{imap, pop3, smtp};

/// The largest message taken, in bytes.
pub const MAX_MESSAGE: u64 = 50 << 20;
/// The file of accounts in the mailboxes' directory.
pub const ACCOUNTS_FILE: &str = "accounts.toml";

/// Why the mailboxes cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum MailboxesError {
    /// The directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The accounts cannot be read.
    #[error(transparent)]
    Accounts(#[from] AccountsError),
}

/// The mailboxes of a site, as the service of one protocol.
#[derive(Debug)]
pub struct Mailboxes {
    site: Arc<Site>,
    protocol: Protocol,
    pool: Arc<Pool>,
}

impl Mailboxes {
    /// What all protocols share: `directory` has the accounts, and the mail in `mail/`.
    ///
    /// # Errors
    /// When the directory cannot be made or the accounts cannot be read.
    pub fn site(hostname: &str, directory: &Path, domains: &[String]) -> Result<Arc<Site>, MailboxesError> {
        // Made by way of the store, with its modes.
        Store::open(directory)?;
        Ok(Arc::new(Site {
            hostname: hostname.into(),
            domains: domains.iter().map(|domain| domain.to_ascii_lowercase()).collect(),
            accounts: Arc::new(Accounts::open(&directory.join(ACCOUNTS_FILE))?),
            store: Store::open(&directory.join("mail"))?,
            max_message: MAX_MESSAGE,
        }))
    }

    /// The service of one protocol; `None` for those that the mailboxes do not speak.
    pub fn new(site: Arc<Site>, protocol: Protocol, pool: Arc<Pool>) -> Option<Self> {
        let spoken = kind(protocol).is_some() || matches!(protocol, Protocol::Imap | Protocol::Pop3);
        spoken.then_some(Self { site, protocol, pool })
    }

    /// Begins a session; gives the greeting. The session ends with its stream.
    fn start(&self, stream: UnixStream, peer: Peer, hello: Option<Vec<u8>>) -> Vec<u8> {
        let site = Arc::clone(&self.site);
        match (kind(self.protocol), self.protocol) {
            (Some(kind), _) => {
                let greeting = smtp::greeting(&site, kind);
                spawn(peer.session.clone(), smtp::serve(stream, site, kind, peer, hello));
                greeting
            }
            (None, Protocol::Pop3) => {
                let greeting = pop3::greeting(&site);
                spawn(peer.session.clone(), pop3::serve(stream, site, peer));
                greeting
            }
            _ => {
                let greeting = imap::greeting(&site, &peer);
                spawn(peer.session.clone(), imap::serve(stream, site, peer));
                greeting
            }
        }
    }
}

fn spawn(session: String, serve: impl Future<Output = io::Result<()>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(error) = serve.await {
            tracing::debug!(session, "session ended: {error}");
        }
    });
}

fn kind(protocol: Protocol) -> Option<Kind> {
    match protocol {
        Protocol::Smtp => Some(Kind::Smtp),
        Protocol::Submission => Some(Kind::Submission),
        Protocol::Lmtp => Some(Kind::Lmtp),
        _ => None,
    }
}

fn tls_words(facts: &Facts) -> TlsWords {
    TlsWords {
        version: facts.version.name().replace("TLSv", "TLS"),
        // The registered name of a suite of TLS 1.3 has no version in it.
        suite: facts.suite.name().replace("TLS13_", "TLS_"),
    }
}

impl Service for Mailboxes {
    fn name(&self) -> &str {
        "mailboxes"
    }

    fn capabilities(&self) -> Promise<'_, Result<Arc<Capabilities>, Unreachable>> {
        // As inside TLS: the door hides logins where there is none.
        let entries = match (kind(self.protocol), self.protocol) {
            (Some(kind), _) => smtp::capabilities(&self.site, kind, true),
            (None, Protocol::Pop3) => pop3::capabilities(true),
            _ => imap::capabilities(true),
        };
        let capabilities = Arc::new(Capabilities::new(self.protocol, entries));
        Box::pin(std::future::ready(Ok(capabilities)))
    }

    fn open<'a>(&'a self, caller: Caller<'a>) -> Promise<'a, Result<Opened, ServiceError>> {
        let peer = Peer {
            source: caller.source.ip(),
            tls: caller.tls.map(tls_words),
            session: caller.session.to_owned(),
        };
        let opened = UnixStream::pair().map(|(ours, theirs)| Opened {
            greeting: self.start(ours, peer, caller.hello),
            leg: Leg::plain(Socket::Unix(theirs), &self.pool),
            capabilities: None,
            unread: Vec::new(),
        });
        Box::pin(std::future::ready(opened.map_err(|source| ServiceError::Broken {
            service: self.name().into(),
            address: "the mailboxes".to_owned(),
            source,
        })))
    }
}
