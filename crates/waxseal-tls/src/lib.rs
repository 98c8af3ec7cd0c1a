//! Who we are, and TLS itself: certificates, policy, the server's and the client's handshake, sessions as streams.
//!
//! The only room that names rustls. It knows nothing of configuration files, listeners or mail.
#![forbid(unsafe_code)]

mod acceptor;
mod chain;
mod connector;
mod error;
mod explain;
mod facts;
mod handshake;
mod hello;
mod identity;
mod notices;
mod pem;
mod pem_text;
mod plain;
mod policy;
mod pool;
mod session;
mod set;
mod store;
mod stream;
mod tickets;
mod transport;
mod trust;
mod unreadable;
mod watcher;

pub use acceptor::Acceptor;
pub use connector::{Connector, ConnectorError};
pub use error::HandshakeError;
pub use facts::{Facts, Matched};
pub use handshake::{Begin, Established, Handshake};
pub use hello::Hello;
pub use identity::{Identity, IdentityError, IdentityWarning, KeyKind};
pub use pem::{CertificateSpec, LoadError, PemPart, PemSource, load};
pub use plain::PlainStream;
pub use policy::{Group, Policy, PolicyError, PolicySettings, Suite, Version};
pub use pool::{BUFFER_BYTES, Buffer, Pool};
pub use set::{CertificateSet, Choice, Entry, SetWarning, normal_name};
pub use store::CertificateStore;
pub use stream::{End, TlsStream};
pub use tickets::TicketKeys;
pub use transport::Transport;
pub use trust::{Trust, pin_text};
pub use watcher::{Report, Watcher};
