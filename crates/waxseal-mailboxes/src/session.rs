//! What a session is told about its client, and what all sessions share.

use std::net::IpAddr;
use std::sync::Arc;

use crate::accounts::Accounts;
use crate::store::{Store, StoreError};

/// Who speaks, as the door says.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The client's address.
    pub source: IpAddr,
    /// What its connection is encrypted with; `None` in clear, and then no password is taken.
    pub tls: Option<TlsWords>,
    /// The session's name in logs.
    pub session: String,
}

impl Peer {
    /// Whether passwords may be taken.
    pub fn secured(&self) -> bool {
        self.tls.is_some()
    }
}

/// The facts of the client's TLS that go into a Received line (RFC 8314 section 7.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsWords {
    /// As in `TLS1.3`, the registered form.
    pub version: String,
    /// The suite's registered name.
    pub suite: String,
}

/// What all sessions share.
#[derive(Debug)]
pub struct Site {
    /// The name in greetings.
    pub hostname: Arc<str>,
    /// Domains whose mail is taken, in lower case.
    pub domains: Vec<String>,
    /// Who has an account.
    pub accounts: Arc<Accounts>,
    /// The mail.
    pub store: Store,
    /// The largest message taken, in bytes.
    pub max_message: u64,
}

/// Does file work where it holds up no other session.
pub(crate) async fn blocking<T, F>(work: F) -> Result<T, StoreError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, StoreError> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(StoreError::Io { path: "file work".into(), source: std::io::Error::other(error) })
    })
}
