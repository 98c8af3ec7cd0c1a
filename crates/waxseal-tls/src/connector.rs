//! The client's side: TLS towards a service.

use std::fmt;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, NoKeyLog};

use crate::error::HandshakeError;
use crate::explain;
use crate::handshake::{Begin, Handshake};
use crate::pool::Pool;
use crate::session::Session;
use crate::transport::Transport;
use crate::trust::{Checker, Trust, Untrusted};

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
    #[error("no root certificate can be used: {0}")]
    Roots(String),
    /// The library refused the settings.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// Connects with TLS to one service. Sessions are resumed, from memory.
pub struct Connector {
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
    pool: Arc<Pool>,
}

impl Connector {
    /// A connector to the service of that name: a host name or an IP address. Roots are read here and now.
    ///
    /// # Errors
    ///
    /// [`ConnectorError`].
    pub fn new(trust: &Trust, server_name: &str, pool: Arc<Pool>) -> Result<Arc<Self>, ConnectorError> {
        let name = server_name.strip_suffix('.').unwrap_or(server_name).to_owned();
        let name =
            ServerName::try_from(name).map_err(|_| ConnectorError::ServerName(server_name.to_owned()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let checker = Checker::new(trust, &provider)?;
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(checker))
            .with_no_client_auth();
        config.key_log = Arc::new(NoKeyLog {});
        Ok(Arc::new(Self { config: Arc::new(config), server_name: name, pool }))
    }

    /// Begins a handshake with the service behind `io`.
    pub fn begin<T: Transport>(self: &Arc<Self>, io: T, begin: Begin) -> Handshake<T> {
        Handshake::client(Arc::clone(self), io, begin)
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    pub(crate) fn session(&self) -> Result<Session, rustls::Error> {
        let connection = UnbufferedClientConnection::new(Arc::clone(&self.config), self.server_name.clone())?;
        Ok(Session::Client(Box::new(connection)))
    }

    /// Puts a failure into words.
    pub(crate) fn explain(&self, error: rustls::Error) -> HandshakeError {
        if let Some(explanation) = Untrusted::explanation_in(&error) {
            return HandshakeError::Untrusted { explanation, source: error };
        }
        let (why, explanation) = explain::of_either_side(&error, "service");
        HandshakeError::Refused { why, explanation, offered: None, source: error }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}
