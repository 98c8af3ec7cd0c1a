//! The server's side: one acceptor a listener.

use std::sync::Arc;

use waxseal_proto::Protocol;

use crate::handshake::{Begin, Handshake};
use crate::policy::Policy;
use crate::pool::Pool;
use crate::store::CertificateStore;
use crate::tickets::TicketKeys;
use crate::transport::Transport;

/// Accepts TLS on one listener.
#[derive(Debug)]
pub struct Acceptor {
    policy: Policy,
}

impl Acceptor {
    /// An acceptor for the listener of that name.
    pub fn new(
        listener: &str,
        protocol: Protocol,
        policy: Policy,
        store: Arc<CertificateStore>,
        tickets: Arc<TicketKeys>,
        pool: Arc<Pool>,
    ) -> Arc<Self> {
        let _ = (listener, protocol, store, tickets, pool);
        Arc::new(Self { policy })
    }

    /// Begins a handshake with the client behind `io`.
    pub fn begin<T: Transport>(self: &Arc<Self>, io: T, begin: Begin) -> Handshake<T> {
        let _ = (io, begin);
        todo!()
    }

    /// What the listener allows.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }
}
