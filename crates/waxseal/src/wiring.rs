//! From the model to running rooms: certificates, acceptors, relays, listeners.

use std::net::SocketAddr;
use std::sync::Arc;

use waxseal_mailboxes::{Mailboxes, MailboxesError, Site};
use waxseal_proto::Protocol;
use waxseal_server::service::{Nothing, Relay, RelayContext, Resolver, Service};
use waxseal_server::{Listener, Security, Upstream};
use waxseal_tls::{Acceptor, CertificateStore, ConnectorError, Policy, Pool, TicketKeys, Trust};

use crate::config::Behind;
use crate::{config, privileges};

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
    /// The mailboxes cannot be opened.
    #[error("mailboxes: {0}")]
    Mailboxes(#[from] MailboxesError),
    /// The mailboxes cannot be given to the user of `server.run-as`.
    #[error("mailboxes: cannot give the directory to the user of server.run-as: {0}")]
    HandOver(std::io::Error),
    /// A listener without a service, which resolving a configuration rules out.
    #[error("listener.{0}: there is no service behind it")]
    NothingBehind(Arc<str>),
}

/// What outlives a reload: buffers, certificates in force, ticket keys, the mailboxes, and relays whose upstream has not
/// changed.
pub struct Rooms {
    /// Where buffers come from.
    pub pool: Arc<Pool>,
    /// The certificates in force.
    pub store: Arc<CertificateStore>,
    tickets: Arc<TicketKeys>,
    behind: BehindAll,
}

/// The services of a model.
#[derive(Default)]
pub struct BehindAll {
    relays: Vec<Kept>,
    mailboxes: Option<(config::Mailboxes, Arc<Site>)>,
}

/// A relay, and what it was made from.
#[derive(Clone)]
struct Kept {
    relay: Arc<Relay>,
    protocol: Protocol,
    hostname: Arc<str>,
    resolver: Vec<SocketAddr>,
}

/// Listeners ready to be bound, and the services behind them.
pub struct Wired {
    /// The listeners.
    pub listeners: Vec<Listener>,
    /// What to [`Rooms::keep`] once they are in force.
    pub behind: BehindAll,
}

impl Rooms {
    /// Rooms around `store`.
    pub fn new(store: Arc<CertificateStore>) -> Self {
        Self {
            pool: Pool::new(POOLED_BUFFERS),
            store,
            tickets: TicketKeys::new(),
            behind: BehindAll::default(),
        }
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
        let mailboxes = model.mailboxes.as_ref().map(|mailboxes| self.site(mailboxes, model)).transpose()?;
        let mut wired = Wired { listeners: Vec::new(), behind: BehindAll { relays: Vec::new(), mailboxes } };
        for listener in &model.listeners {
            let nothing = || WiringError::NothingBehind(Arc::clone(&listener.name));
            let service: Arc<dyn Service> = match &listener.behind {
                Behind::Nobody => Arc::new(Nothing::new(Arc::clone(&self.pool))),
                Behind::Upstream(_) => {
                    let upstream = model.upstream(&listener.behind).ok_or_else(nothing)?;
                    self.relay(&mut wired.behind.relays, model, &context, upstream, listener.protocol)?
                }
                Behind::Mailboxes => {
                    let (_, site) = wired.behind.mailboxes.as_ref().ok_or_else(nothing)?;
                    let pool = Arc::clone(&self.pool);
                    Arc::new(Mailboxes::new(Arc::clone(site), listener.protocol, pool).ok_or_else(nothing)?)
                }
            };
            wired.listeners.push(self.listener(listener, &model.hostname, service));
        }
        Ok(wired)
    }

    /// Keeps the services of what is now in force, and lets the others end with their last session.
    pub fn keep(&mut self, behind: BehindAll) {
        self.behind = behind;
    }

    /// The mailboxes, opened once.
    fn site(
        &self,
        mailboxes: &config::Mailboxes,
        model: &config::Model,
    ) -> Result<(config::Mailboxes, Arc<Site>), WiringError> {
        match &self.behind.mailboxes {
            Some((kept, site)) if kept == mailboxes && *site.hostname == *model.hostname => {
                Ok((kept.clone(), Arc::clone(site)))
            }
            _ => {
                let site = Mailboxes::site(&model.hostname, &mailboxes.path, &mailboxes.domains)?;
                // Made by root, and used by whom we become.
                if let Some(run_as) = &model.run_as {
                    privileges::hand_over(&mailboxes.path, run_as).map_err(WiringError::HandOver)?;
                }
                Ok((mailboxes.clone(), site))
            }
        }
    }

    /// The services in force, with the protocol that is spoken to each.
    pub fn services(&self) -> Vec<(Protocol, Arc<Relay>)> {
        self.behind.relays.iter().map(|kept| (kept.protocol, Arc::clone(&kept.relay))).collect()
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
        let kept = match made.iter().chain(&self.behind.relays).find(same) {
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
