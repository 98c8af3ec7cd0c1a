//! The harness for tests of the whole `waxseal` binary against real mail servers and clients.
//!
//! It knows the program only as an operator does: a configuration file, ports, signals, the log.
//! It must not depend on any other crate of the project, so that what the tests see is what the
//! world outside sees.
//!
//! ```no_run
//! use waxseal_e2e::{Door, Ground, Wire};
//!
//! let ground = Ground::new();
//! let door = Door::start(&ground, "[server.listener.imap]\nprotocol = \"imap\"\nbind = \"<imap>\"\n");
//! let mut client = Wire::connect(ground.addr("imap"));
//! client.expect("* OK");
//! door.wait_log("listener");
//! ```
//!
//! A harness judges by panicking: every function here panics with what it saw when the world is
//! not as the test says it is.

mod command;
mod daemon;
mod door;
mod dovecot;
mod fake;
mod ground;
mod house;
mod knot;
mod openssl;
mod pebble;
mod pki;
mod postfix;
mod wire;

pub use command::{Finished, python, run, run_with_input};
pub use daemon::Daemon;
pub use door::{CERTIFICATE, Door, cert, program, waxseal};
pub use dovecot::Dovecot;
pub use fake::Fake;
pub use ground::Ground;
pub use house::{ALICE, House, READER, SENDER};
pub use knot::Knot;
pub use openssl::{SClient, Seen};
pub use pebble::{NAME, Pebble, Wishes, own_ip};
pub use pki::{KeyKind, Leaf, Pki, mail_certificate, provider, suite};
pub use postfix::Postfix;
pub use wire::{TlsClient, Wire};

use std::time::Duration;

/// How long anything that ought to happen soon may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

/// Asks `probe` again and again until it yields something; panics with `what` after [`SOON`].
///
/// # Panics
/// When the time is over.
pub fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    within(SOON, what, probe)
}

/// As [`eventually`], with its own limit.
///
/// # Panics
/// When the time is over.
pub fn within<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = std::time::Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
