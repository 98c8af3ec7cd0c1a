//! What a mail server says before TLS, and what a door in front of one has to look at afterwards.
//!
//! Pure state machines: bytes in, bytes and steps out. This crate knows no sockets, no TLS library, no clock
//! and no configuration; whoever drives a machine owns those.
//!
//! - [`Dialogue`]: the door speaking alone to a client, up to STARTTLS (or to the first command that needs
//!   the service, where cleartext is permitted).
//! - [`Opening`]: the door's own words as a client of the service behind.
//! - [`Guard`]: what is let through between a client and its service once both are connected.
//! - [`proxy`]: the PROXY protocol, both ways. [`farewell()`]: the polite last words of each protocol.
//!
//! ```
//! use std::sync::Arc;
//! use waxseal_proto::{Capabilities, Dialogue, DoorWords, Protocol, StartTls, Step};
//!
//! let service = Capabilities::new(Protocol::Smtp, vec!["SIZE 1000".into(), "AUTH PLAIN".into()]);
//! let words = DoorWords { hostname: "mail.example".into(), starttls: StartTls::Required };
//! let mut door = Dialogue::new(Protocol::Smtp, words, Arc::new(service)).expect("SMTP has STARTTLS");
//! let mut out = Vec::new();
//! assert!(matches!(door.receive(b"EHLO client.example\r\n", &mut out), Step::More));
//! assert_eq!(out, b"250-mail.example\r\n250-SIZE 1000\r\n250 STARTTLS\r\n");
//! assert!(matches!(door.receive(b"STARTTLS\r\n", &mut out), Step::StartTls(_)));
//! ```
#![forbid(unsafe_code)]

pub mod capability;
pub mod dialogue;
pub mod farewell;
pub mod guard;
pub mod line;
pub mod opening;
pub mod protocol;
pub mod proxy;
mod syntax;

pub use capability::Capabilities;
pub use dialogue::{CleartextStart, Dialogue, DoorWords, Ended, GoAhead, StartTls, Step};
pub use farewell::{Farewell, farewell};
pub use guard::{Auth, ClientLeg, Cut, Guard, Outputs, Taken};
pub use line::{Drained, LineBuffer, LineError, MAX_LINE, Unread};
pub use opening::{Client, Goal, Opening, OpeningError, OpeningPlan, OpeningStep, Ready};
pub use protocol::Protocol;
