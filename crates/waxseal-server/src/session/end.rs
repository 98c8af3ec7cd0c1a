//! How sessions end: why one did before it reached a service, what is said to the client, and the one log line.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use waxseal_proto::{Cut, Farewell, OpeningError, Protocol};
use waxseal_tls::Group;

use super::Session;
use crate::leg::Leg;
use crate::service::ServiceError;
use crate::splice::{SpliceEnd, SpliceReport};

/// Why a session ended before it reached a service.
#[derive(Debug, thiserror::Error)]
pub(super) enum Early {
    #[error("client left")]
    ClientLeft,
    #[error("client said goodbye")]
    Goodbye,
    #[error("connection lost: {0}")]
    Lost(#[from] io::Error),
    #[error("{0}")]
    Dialogue(&'static str),
    #[error(
        "injection: {bytes} bytes stood between STARTTLS and the go-ahead; nothing of them was executed (number {count} \
         since start)"
    )]
    Injection { bytes: usize, count: u64 },
    #[error("timed out {0}")]
    TimedOut(&'static str),
    #[error("a CA looked at our answer to {0}")]
    Challenge(&'static str),
    #[error("waxseal is shutting down")]
    ShutDown,
    #[error("handshake failed: {0}")]
    Handshake(String),
    #[error("{0}")]
    Cleartext(String),
    #[error("{0}")]
    Service(#[from] ServiceError),
    #[error("service {service} is not reachable: {why}")]
    Unreachable { service: String, why: Arc<str> },
    #[error("the service's first words cannot be passed on: {0}")]
    FirstWords(Cut),
}

impl Early {
    /// Whether an operator should look at it, rather than at the client.
    fn is_ours(&self) -> bool {
        match self {
            Self::Service(error) => !error.is_about_the_client(),
            Self::Unreachable { .. } | Self::FirstWords(_) => true,
            _ => false,
        }
    }
}

impl Session {
    /// What is said to the client when we end its session with the service.
    pub(super) fn last_words(&self, end: &SpliceEnd) -> Vec<u8> {
        match end {
            // An HTTP response that nobody asked for would be taken for the answer to the next request.
            _ if self.listener.protocol == Protocol::Http => Vec::new(),
            SpliceEnd::Idle => self.farewell(Farewell::TimedOut),
            SpliceEnd::ShutDown => self.farewell(Farewell::ShuttingDown),
            SpliceEnd::ServiceLost(_) => self.farewell(Farewell::ServiceFailed),
            // The guard has said why.
            SpliceEnd::Cut(_) => Vec::new(),
            SpliceEnd::Client
            | SpliceEnd::ClientTruncated
            | SpliceEnd::Service
            | SpliceEnd::ServiceTruncated
            | SpliceEnd::ClientLost(_) => Vec::new(),
        }
    }

    pub(super) fn log_early(&self, early: &Early) {
        let (listener, protocol) = (&*self.listener.name, self.listener.protocol.as_str());
        let (client, session) = (self.source, self.id);
        let seconds = self.accepted.elapsed().as_secs_f32();
        match early {
            Early::Injection { .. } => {
                tracing::warn!(listener, protocol, %client, %session, seconds, end = %early, "session refused");
            }
            _ if early.is_ours() => {
                tracing::error!(listener, protocol, %client, %session, seconds, end = %early, "session failed");
            }
            _ => {
                tracing::info!(listener, protocol, %client, %session, seconds, end = %early, "session ended before a service");
            }
        }
    }

    pub(super) fn log_end(&self, client: &Leg, report: &SpliceReport) {
        let facts = client.facts();
        tracing::info!(
            listener = &*self.listener.name,
            protocol = self.listener.protocol.as_str(),
            client = %self.source,
            session = %self.id,
            sni = facts.and_then(|facts| facts.sni.as_deref()),
            tls = facts.map(|facts| facts.version.name()),
            suite = facts.map(|facts| facts.suite.name()),
            group = facts.and_then(|facts| facts.group).map(Group::name),
            resumed = facts.map(|facts| facts.resumed),
            certificate = facts.and_then(|facts| facts.certificate.as_deref()),
            service = self.listener.service.name(),
            up = report.up,
            down = report.down,
            seconds = self.accepted.elapsed().as_secs_f32(),
            end = %report.end,
            "session ended"
        );
    }
}

/// The words in which the service refused this client, where they are an answer in the client's protocol.
pub(super) fn own_words(protocol: Protocol, refusal: &OpeningError) -> Option<Vec<u8>> {
    let text = match refusal {
        OpeningError::HelloRefused { reply } => return Some(reply.clone()),
        OpeningError::Refused { text } | OpeningError::XclientRefused { text } => text,
        _ => return None,
    };
    let fits = match protocol {
        Protocol::Smtp | Protocol::Submission | Protocol::Lmtp => {
            text.starts_with(['4', '5']) && text.as_bytes().get(3) == Some(&b' ')
        }
        Protocol::Imap => text.starts_with("* BYE"),
        Protocol::Pop3 => text.starts_with("-ERR"),
        Protocol::ManageSieve => text.starts_with("BYE"),
        Protocol::Http => false,
    };
    fits.then(|| format!("{text}\r\n").into_bytes())
}

/// How long a session may be silent.
pub(super) fn idle_limit(protocol: Protocol) -> Duration {
    let minutes = match protocol {
        // RFC 5321 section 4.5.3.2: the longest wait of a client is ten minutes, for the end of DATA.
        Protocol::Smtp | Protocol::Submission | Protocol::Lmtp => 11,
        // RFC 9051 section 5.4: at least 30 minutes; IDLE is renewed every 29.
        Protocol::Imap => 35,
        // RFC 1939 section 3: at least ten minutes.
        Protocol::Pop3 => 11,
        // RFC 5804 section 1.2: at least 30 minutes.
        Protocol::ManageSieve => 35,
        Protocol::Http => 10,
    };
    Duration::from_secs(minutes * 60)
}
