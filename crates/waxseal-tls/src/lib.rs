//! Who we are: certificates, and TLS with them, on rustls' unbuffered connections.
//!
//! This room holds the certificates and gives each client the one for the name it asks for ([`CertificateStore`],
//! [`Watcher`]), says what a listener allows ([`Policy`]), and turns a connection into a session: [`Acceptor`] for
//! clients, [`Connector`] towards services, a [`Handshake`] for both, a [`TlsStream`] at its end. It is the only room
//! that names rustls. It must not know of configuration files, listeners, or what is said inside a session.
//!
//! Two things are unusual. A session holds no buffer while nothing is in flight: streams are read by
//! [`AsyncBufRead`](tokio::io::AsyncBufRead) out of a [`Pool`]. And the ClientHello is read before the TLS library gets
//! it, so that the certificate is chosen by all that the client offers, and a refusal can say what was offered.
//!
//! ```
//! # use waxseal_proto::Protocol;
//! # use waxseal_tls::*;
//! # async fn serve(io: tokio::net::TcpStream, spec: CertificateSpec) -> Result<(), Box<dyn std::error::Error>> {
//! let (entry, _warnings) = load(&spec)?;
//! let store = CertificateStore::new(CertificateSet::new(vec![entry], "mail.example.org").0);
//! let watcher = Watcher::start(vec![spec], "mail.example.org", store.clone())?;
//! let policy = Policy::new(PolicySettings::default())?;
//! let acceptor = Acceptor::new("imaps", Protocol::Imap, policy, store, TicketKeys::new(), Pool::new(64));
//!
//! let mut handshake = acceptor.begin(io, Begin::FirstByte);
//! let established = handshake.run().await?;
//! let session = handshake.finish(established);
//! println!("{} {}", session.facts().version, session.facts().suite);
//! # drop(watcher);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod acceptor;
mod chain;
mod challenge;
mod connector;
mod date;
mod error;
mod explain;
mod facts;
mod handshake;
mod hello;
mod identity;
mod key_kind;
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
mod suite;
mod tickets;
mod transport;
mod trust;
mod unreadable;
mod watcher;

pub use acceptor::Acceptor;
pub use challenge::{ChallengeIdentity, Challenges};
pub use connector::{Connector, ConnectorError};
pub use error::HandshakeError;
pub use facts::{Facts, Matched};
pub use handshake::{Begin, Established, Handshake};
pub use hello::Hello;
pub use identity::{Identity, IdentityError, IdentityWarning};
pub use key_kind::KeyKind;
pub use pem::{CertificateSpec, LoadError, PemPart, PemSource, load};
pub use plain::PlainStream;
pub use policy::{Policy, PolicyError, PolicySettings};
pub use pool::{BUFFER_BYTES, Buffer, Pool};
pub use set::{CertificateSet, Choice, Entry, SetWarning, normal_name};
pub use store::{CertificateStore, Updater};
pub use stream::{End, TlsStream};
pub use suite::{Group, Suite, Version};
pub use tickets::TicketKeys;
pub use transport::Transport;
pub use trust::{Trust, pin_text};
pub use watcher::{Report, Watcher};
