//! The client's side: TLS towards a service.

use std::sync::Arc;

use crate::handshake::{Begin, Handshake};
use crate::pool::Pool;
use crate::transport::Transport;

/// Whom to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The roots of the system.
    System,
    /// These roots, in PEM.
    Roots(Vec<u8>),
    /// The certificate whose public key (SubjectPublicKeyInfo) has this SHA-256, and no other.
    Pin([u8; 32]),
    /// Anybody: encryption without authentication.
    Any,
}

/// Why there is no connector.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectorError {
    /// The name is neither a host name nor an address.
    #[error("{0:?} is neither a host name nor an address")]
    ServerName(String),
    /// The system has no root certificates that can be read.
    #[error("the system's root certificates cannot be read: {0}")]
    SystemRoots(String),
    /// The PEM holds no root certificate.
    #[error("no root certificate can be read from the PEM: {0}")]
    Roots(String),
    /// The library refused the settings.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// Connects with TLS to one service.
#[derive(Debug)]
pub struct Connector {
    pool: Arc<Pool>,
}

impl Connector {
    /// A connector to the service of that name (a host name or an IP address).
    ///
    /// # Errors
    ///
    /// [`ConnectorError`].
    pub fn new(trust: &Trust, server_name: &str, pool: Arc<Pool>) -> Result<Arc<Self>, ConnectorError> {
        let _ = (trust, server_name);
        Ok(Arc::new(Self { pool }))
    }

    /// Begins a handshake with the service behind `io`.
    pub fn begin<T: Transport>(self: &Arc<Self>, io: T, begin: Begin) -> Handshake<T> {
        let _ = (io, begin, &self.pool);
        todo!()
    }
}
