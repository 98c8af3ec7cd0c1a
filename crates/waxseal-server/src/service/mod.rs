//! Who serves the sessions behind the door.

mod diagnose;
mod dial;
mod error;
mod health;
mod nothing;
mod relay;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use waxseal_proto::Capabilities;
use waxseal_tls::Facts;

use crate::leg::Leg;

pub use self::diagnose::{Finding, Severity, diagnose};
pub use self::dial::Resolver;
pub use self::error::ServiceError;
pub use self::nothing::Nothing;
pub use self::relay::{Relay, RelayContext};

/// A future that lives as long as the service it asks.
pub type Promise<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What serves the sessions of a listener: a mail server behind, or something of one's own.
///
/// A service never hears of the client before the truth about the session is known, and never of STARTTLS.
pub trait Service: Send + Sync + 'static {
    /// The name logs give it.
    fn name(&self) -> &str;

    /// What it can do, as it said itself; `Err` while it cannot be reached. Answers from what is known already, or waits
    /// a few seconds for the answer to the question under way.
    fn capabilities(&self) -> Promise<'_, Result<Arc<Capabilities>, Unreachable>>;

    /// Opens a session for `caller`.
    fn open<'a>(&'a self, caller: Caller<'a>) -> Promise<'a, Result<Opened, ServiceError>>;
}

/// Why a service cannot be reached, in an operator's words.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreachable(pub Arc<str>);

/// Who wants a session, and what is known of it.
pub struct Caller<'a> {
    /// The client's address.
    pub source: SocketAddr,
    /// The address it called.
    pub destination: SocketAddr,
    /// The facts of its TLS; `None` in clear.
    pub tls: Option<&'a Facts>,
    /// The client's EHLO, HELO or LHLO line, if it has said one in clear: the service is to hear it.
    pub hello: Option<Vec<u8>>,
    /// The session's name in logs; services that log such a thing are given it.
    pub session: &'a str,
}

/// A session that a service has opened.
pub struct Opened {
    /// The connection to it.
    pub leg: Leg,
    /// Its greeting, whole.
    pub greeting: Vec<u8>,
    /// What it announced while the session was opened, if it was asked.
    pub capabilities: Option<Capabilities>,
    /// What it has said beyond.
    pub unread: Vec<u8>,
}
