//! From the model to running rooms: certificates, acceptors, relays, listeners.

use std::net::SocketAddr;
use std::sync::Arc;

use waxseal_proto::Protocol;
use waxseal_server::service::{Nothing, Relay, RelayContext, Resolver, Service};
use waxseal_server::{Listener, Security, Upstream};
use waxseal_tls::{Acceptor, CertificateStore, ConnectorError, Policy, Pool, TicketKeys, Trust};

use crate::config;

/// Buffers kept for the next byte in flight; more are made when needed and thrown away after.
const POOLED_BUFFERS: usize = 256;

/// Why a model cannot be put into force, though nothing is wrong with its text.
#[derive(Debug, thiserror::Error)]
pub enum WiringError {
    /// DNS servers that cannot be asked.
    #[error("server.resolver cannot be used: {0}")]
    Resolver(std::io::Error),
    /// TLS towards a service cannot be set up.
    #[error("upstream.{name}: {source}")]
    Upstream {
        /// The upstream.
        name: Arc<str>,
        /// What is wrong with its TLS.
        source: ConnectorError,
    },
    /// A listener without its upstream, which resolving a configuration rules out.
    #[error("listener.{listener}: there is no upstream {upstream:?}")]
    NoUpstream {
        /// The listener.
        listener: Arc<str>,
        /// The name it gives.
        upstream: Arc<str>,
    },
}

/// What outlives a reload: buffers, certificates in force, ticket keys, and relays whose upstream has not changed.
pub struct Rooms {
    /// Where buffers come from.
    pub pool: Arc<Pool>,
    /// The certificates in force.
    pub store: Arc<CertificateStore>,
    tickets: Arc<TicketKeys>,
    relays: Vec<Kept>,
}

/// A relay, and what it was made from.
#[derive(Clone)]
struct Kept {
    relay: Arc<Relay>,
    protocol: Protocol,
    hostname: Arc<str>,
    resolver: Vec<SocketAddr>,
}

/// Listeners ready to be bound, and the relays they need.
pub struct Wired {
    /// The listeners.
    pub listeners: Vec<Listener>,
    relays: Vec<Kept>,
}

impl Rooms {
    /// Rooms around `store`.
    pub fn new(store: Arc<CertificateStore>) -> Self {
        Self { pool: Pool::new(POOLED_BUFFERS), store, tickets: TicketKeys::new(), relays: Vec::new() }
    }

    /// Everything `model` needs, made or taken over from before. Changes nothing that is in force.
    ///
    /// # Errors
    /// The first thing that cannot be made.
    pub fn wire(&self, model: &config::Model) -> Result<Wired, WiringError> {
        let context = RelayContext {
            hostname: Arc::clone(&model.hostname),
            resolver: Resolver::new(&model.resolver).map_err(WiringError::Resolver)?,
            pool: Arc::clone(&self.pool),
        };
        let mut wired = Wired { listeners: Vec::new(), relays: Vec::new() };
        for listener in &model.listeners {
            let service: Arc<dyn Service> = match &listener.upstream {
                None => Arc::new(Nothing::new(Arc::clone(&self.pool))),
                Some(name) => {
                    let upstream = model.upstream(name).ok_or_else(|| WiringError::NoUpstream {
                        listener: Arc::clone(&listener.name),
                        upstream: Arc::clone(name),
                    })?;
                    self.relay(&mut wired.relays, model, &context, upstream, listener.protocol)?
                }
            };
            wired.listeners.push(self.listener(listener, &model.hostname, service));
        }
        Ok(wired)
    }

    /// Keeps the relays of what is now in force, and lets the others end with their last session.
    pub fn keep(&mut self, relays: KeptRelays) {
        self.relays = relays.0;
    }

    /// The services in force, with the protocol that is spoken to each.
    pub fn services(&self) -> Vec<(Protocol, Arc<Relay>)> {
        self.relays.iter().map(|kept| (kept.protocol, Arc::clone(&kept.relay))).collect()
    }

    fn relay(
        &self,
        made: &mut Vec<Kept>,
        model: &config::Model,
        context: &RelayContext,
        upstream: &config::Upstream,
        protocol: Protocol,
    ) -> Result<Arc<Relay>, WiringError> {
        let upstream = upstream_of(upstream);
        let same = |kept: &&Kept| {
            kept.protocol == protocol
                && *kept.relay.upstream() == upstream
                && kept.hostname == model.hostname
                && kept.resolver == model.resolver
        };
        let kept = match made.iter().chain(&self.relays).find(same) {
            Some(kept) => kept.clone(),
            None => Kept {
                relay: Relay::start(context.clone(), upstream.clone(), protocol)
                    .map_err(|source| WiringError::Upstream { name: Arc::clone(&upstream.name), source })?,
                protocol,
                hostname: Arc::clone(&model.hostname),
                resolver: model.resolver.clone(),
            },
        };
        let relay = Arc::clone(&kept.relay);
        made.push(kept);
        Ok(relay)
    }

    fn listener(
        &self,
        listener: &config::Listener,
        hostname: &Arc<str>,
        service: Arc<dyn Service>,
    ) -> Listener {
        let acceptor = |policy: &Policy| {
            Acceptor::new(
                &listener.name,
                listener.protocol,
                policy.clone(),
                Arc::clone(&self.store),
                Arc::clone(&self.tickets),
                Arc::clone(&self.pool),
            )
        };
        Listener {
            name: Arc::clone(&listener.name),
            protocol: listener.protocol,
            bind: listener.bind.clone(),
            socket: listener.socket.clone(),
            max_connections: listener.max_connections,
            max_connections_per_address: listener.max_connections_per_address,
            trusted_networks: listener.trusted_networks.clone(),
            hostname: Arc::clone(hostname),
            security: match &listener.security {
                config::Security::Clear => Security::Clear,
                config::Security::Implicit(policy) => Security::Implicit(acceptor(policy)),
                config::Security::StartTls { policy, require } => {
                    Security::StartTls { acceptor: acceptor(policy), require: *require }
                }
            },
            timeout: listener.timeout,
            service,
        }
    }
}

/// The relays of a [`Wired`] model.
pub struct KeptRelays(Vec<Kept>);

impl Wired {
    /// The listeners to bind, and the relays to keep once they are in force.
    pub fn into_parts(self) -> (Vec<Listener>, KeptRelays) {
        (self.listeners, KeptRelays(self.relays))
    }
}

/// An upstream in the server's terms.
pub fn upstream_of(upstream: &config::Upstream) -> Upstream {
    Upstream {
        name: Arc::clone(&upstream.name),
        addresses: upstream.addresses.clone(),
        forwarding: upstream.forwarding,
        leg: upstream.tls.mode,
        server_name: upstream.tls.server_name.clone(),
        trust: match &upstream.tls.trust {
            config::Trust::System => Trust::System,
            config::Trust::Ca { pem, .. } => Trust::Roots(pem.clone().into_bytes()),
            config::Trust::Pin(pin) => Trust::Pin(*pin),
            config::Trust::Any => Trust::Any,
        },
    }
}
