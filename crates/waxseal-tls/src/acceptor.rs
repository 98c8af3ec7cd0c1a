//! The server's side: one acceptor a listener.

use std::fmt;
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, Guard};
use rustls::server::{NoServerSessionStorage, UnbufferedServerConnection};
use rustls::sign::SingleCertAndKey;
use rustls::{NoKeyLog, ServerConfig};
use waxseal_proto::Protocol;

use crate::error::HandshakeError;
use crate::explain;
use crate::facts::Matched;
use crate::handshake::{Begin, Handshake, alert};
use crate::hello::Hello;
use crate::identity::Identity;
use crate::policy::{Group, Policy};
use crate::pool::Pool;
use crate::session::Session;
use crate::set::{CertificateSet, normal_name};
use crate::store::CertificateStore;
use crate::tickets::{BoundTickets, TicketKeys};
use crate::transport::Transport;

/// Tickets given out with each full TLS 1.3 handshake, and the most that a client gets which asks (RFC 9149): a mail
/// client opens a few connections at a time.
const TICKETS_PER_SESSION: usize = 2;

/// Accepts TLS on one listener.
///
/// # Application protocols
///
/// The protocol's registered ALPN name is agreed when the client offers it; a client that offers none is served, one
/// that offers only others is refused, lest a web browser be led to talk to a mail server (ALPACA). SMTP and LMTP have
/// no registered name, so that there whoever offers any is refused.
pub struct Acceptor {
    listener: Box<str>,
    protocol: Protocol,
    policy: Policy,
    store: Arc<CertificateStore>,
    tickets: Arc<TicketKeys>,
    pool: Arc<Pool>,
    configs: ArcSwap<Configs>,
}

/// One configuration for each identity of a set and each group of the policy, made when first needed.
struct Configs {
    set: Arc<CertificateSet>,
    /// The identities one after the other; for each, the groups in the policy's order, then any of them.
    each: Vec<OnceLock<Arc<ServerConfig>>>,
}

impl Configs {
    fn new(set: Arc<CertificateSet>, policy: &Policy) -> Self {
        let count = set.entries().len() * (policy.groups().len() + 1);
        Self { set, each: std::iter::repeat_with(OnceLock::new).take(count).collect() }
    }
}

/// The certificate a client gets.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) name: Arc<str>,
    pub(crate) matched: Matched,
    pub(crate) sni: Option<Box<str>>,
}

/// Why a client gets no session.
pub(crate) struct Refusal {
    pub(crate) alert: u8,
    why: Why,
}

enum Why {
    NoCertificate,
    Error(rustls::Error),
}

impl Refusal {
    pub(crate) fn explain(self, acceptor: &Acceptor, hello: Option<Box<Hello>>) -> HandshakeError {
        match self.why {
            Why::NoCertificate => HandshakeError::NoCertificate,
            Why::Error(error) => acceptor.explain(error, hello),
        }
    }
}

impl From<rustls::Error> for Refusal {
    fn from(error: rustls::Error) -> Self {
        Self { alert: alert::INTERNAL_ERROR, why: Why::Error(error) }
    }
}

impl Acceptor {
    /// An acceptor for the listener of that name. Acceptors that share `tickets` do not resume each other's sessions.
    pub fn new(
        listener: &str,
        protocol: Protocol,
        policy: Policy,
        store: Arc<CertificateStore>,
        tickets: Arc<TicketKeys>,
        pool: Arc<Pool>,
    ) -> Arc<Self> {
        let configs = ArcSwap::from_pointee(Configs::new(store.current(), &policy));
        Arc::new(Self { listener: listener.into(), protocol, policy, store, tickets, pool, configs })
    }

    /// Begins a handshake with the client behind `io`.
    pub fn begin<T: Transport>(self: &Arc<Self>, io: T, begin: Begin) -> Handshake<T> {
        Handshake::server(Arc::clone(self), io, begin)
    }

    /// What the listener allows.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// The session for a client that said `hello`, or something unreadable.
    pub(crate) fn serve(&self, hello: Option<&Hello>) -> Result<(Session, Served), Refusal> {
        if self.offers_only_others(hello) {
            let why = Why::Error(rustls::Error::NoApplicationProtocol);
            return Err(Refusal { alert: alert::NO_APPLICATION_PROTOCOL, why });
        }
        let configs = self.configs();
        let sni = hello.and_then(|hello| hello.sni.as_deref()).map(normal_name);
        let fits = |identity: &Identity| hello.is_none_or(|hello| identity.fits(hello, &self.policy));
        let Some(choice) = configs.set.choose(sni.as_deref(), unix_now(), fits) else {
            return Err(Refusal { alert: alert::INTERNAL_ERROR, why: Why::NoCertificate });
        };
        let groups = self.policy.groups();
        let group = hello.and_then(|hello| self.policy.choose_group(hello)).unwrap_or(groups.len());
        let config = match configs.each.get(choice.index * (groups.len() + 1) + group) {
            Some(place) => match place.get() {
                Some(config) => Arc::clone(config),
                None => {
                    let config = self.config(&choice.entry.identity, groups.get(group).copied())?;
                    Arc::clone(place.get_or_init(|| config))
                }
            },
            None => return Err(Refusal { alert: alert::INTERNAL_ERROR, why: Why::NoCertificate }),
        };
        let session = Session::Server(Box::new(UnbufferedServerConnection::new(config)?));
        let name = Arc::clone(choice.entry.identity.primary_name());
        Ok((session, Served { name, matched: choice.matched, sni: sni.map(Into::into) }))
    }

    /// Where the protocol has no registered name the library does not look at the client's.
    fn offers_only_others(&self, hello: Option<&Hello>) -> bool {
        self.protocol.alpn().is_none() && hello.is_some_and(|hello| hello.alpn.is_some())
    }

    /// The configurations for the set in force.
    fn configs(&self) -> Guard<Arc<Configs>> {
        let set = self.store.current();
        let configs = self.configs.load();
        if Arc::ptr_eq(&configs.set, &set) {
            return configs;
        }
        self.configs.store(Arc::new(Configs::new(set, &self.policy)));
        self.configs.load()
    }

    fn config(&self, identity: &Identity, group: Option<Group>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(self.policy.provider(group))
            .with_protocol_versions(&self.policy.supported_versions())?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(identity.certified_key()))));
        config.ignore_client_order = self.policy.ignore_client_order();
        config.alpn_protocols = self.protocol.alpn().map(<[u8]>::to_vec).into_iter().collect();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        if self.policy.tickets() {
            config.ticketer = Arc::new(BoundTickets::new(
                Arc::clone(&self.tickets),
                &self.listener,
                self.policy.digest(),
                identity.primary_name(),
            ));
            config.send_tls13_tickets = TICKETS_PER_SESSION;
            config.max_tls13_tickets = TICKETS_PER_SESSION;
        }
        // RFC 7627 is used by every client that knows it, but not demanded: its attack needs client certificates,
        // renegotiation or channel binding, none of which there are, while mail servers with OpenSSL 1.0.2 lack it and
        // would fall back to cleartext.
        config.require_ems = false;
        config.max_early_data_size = 0;
        config.key_log = Arc::new(NoKeyLog {});
        Ok(Arc::new(config))
    }

    /// Puts a refusal into words.
    pub(crate) fn explain(&self, error: rustls::Error, hello: Option<Box<Hello>>) -> HandshakeError {
        explain::client_refused(error, hello, &self.policy, self.protocol)
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor")
            .field("listener", &self.listener)
            .field("protocol", &self.protocol)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
