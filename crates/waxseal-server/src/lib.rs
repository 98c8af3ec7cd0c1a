//! How connections run: listeners, sessions, the relay to a service, and draining.
//!
//! This crate joins a client to its [`Service`]. It knows neither where certificates come from nor how anything was
//! written in a file: whoever uses it hands over resolved [`Listener`]s.
//!
//! ```no_run
//! # async fn example(listeners: Vec<waxseal_server::Listener>) -> Result<(), Vec<waxseal_server::BindError>> {
//! let mut server = waxseal_server::Server::new(waxseal_tls::Pool::new(1024));
//! let prepared = server.prepare(listeners)?; // binds, changes nothing yet
//! server.apply(prepared);
//! // ... until it is time to go:
//! server.drain(std::time::Duration::from_secs(30)).await;
//! # Ok(())
//! # }
//! ```

mod accept;
mod challenge;
mod drain;
mod leg;
mod limits;
mod listen;
mod server;
pub mod service;
mod session;
mod settings;
mod splice;
mod tally;

pub use self::challenge::HttpChallenges;
pub use self::leg::{Leg, Socket};
pub use self::listen::BindError;
pub use self::server::{Counts, Prepared, Server};
pub use self::service::Service;
pub use self::settings::{Address, Forwarding, LegSecurity, Listener, Security, SocketOptions, Upstream};
pub use self::tally::{Count, Tally};
