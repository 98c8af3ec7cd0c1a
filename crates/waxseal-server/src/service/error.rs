//! What can go wrong on the leg behind, by whose fault.

use std::io;
use std::sync::Arc;

use waxseal_proto::OpeningError;

/// Why a service did not open a session. The words name the leg, so that nobody looks for the fault at the client's side.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// It is known to be down, and was not dialled again.
    #[error("service {service} is not reachable: {why}")]
    Down {
        /// The service.
        service: Arc<str>,
        /// What the last attempt said.
        why: Arc<str>,
    },
    /// No connection to any of its addresses.
    #[error("cannot connect to service {service} at {address}: {source}")]
    Connect {
        /// The service.
        service: Arc<str>,
        /// The address tried last.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The connection broke before the session was open.
    #[error("the connection to service {service} at {address} broke while opening: {source}")]
    Broken {
        /// The service.
        service: Arc<str>,
        /// Its address.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// It accepted the connection and then said nothing useful in time.
    #[error(
        "service {service} at {address} accepted the connection but did not {awaited} within {seconds} s"
    )]
    Silent {
        /// The service.
        service: Arc<str>,
        /// Its address.
        address: String,
        /// What was waited for.
        awaited: &'static str,
        /// How long, in seconds.
        seconds: u64,
    },
    /// TLS on the leg behind failed.
    #[error("TLS towards service {service} at {address} failed (the client's side is fine): {why}")]
    Tls {
        /// The service.
        service: Arc<str>,
        /// Its address.
        address: String,
        /// What the connector said, with the remedy.
        why: String,
    },
    /// What it said while opening was not what it should say.
    #[error("service {service} at {address}: {source}")]
    Opening {
        /// The service.
        service: Arc<str>,
        /// Its address.
        address: String,
        /// What it said.
        source: OpeningError,
    },
    /// It and waxseal are set up differently (a PROXY header expected and not sent, or the other way round; no STARTTLS;
    /// no XCLIENT); found by trying both.
    #[error("{service} at {address}: {remedy}")]
    Misconfigured {
        /// The service.
        service: Arc<str>,
        /// Its address.
        address: String,
        /// What is wrong and the line to set.
        remedy: String,
    },
}

impl ServiceError {
    /// Whether it says something about this client only; one banned client says nothing about the service.
    pub fn is_about_the_client(&self) -> bool {
        matches!(self, Self::Opening { source, .. } if source.is_about_the_client())
    }

    /// The service's own words to the client, where it has refused this client.
    pub(crate) fn refusal(&self) -> Option<&OpeningError> {
        match self {
            Self::Opening { source, .. } if source.is_about_the_client() => Some(source),
            _ => None,
        }
    }

    /// A stable label for counters.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Down { .. } => "down",
            Self::Connect { .. } => "connect",
            Self::Broken { .. } => "broken",
            Self::Silent { .. } => "silent",
            Self::Tls { .. } => "tls",
            Self::Opening { .. } => "opening",
            Self::Misconfigured { .. } => "misconfigured",
        }
    }
}
