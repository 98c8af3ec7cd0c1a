//! What is known of a session once its handshake is done.

use std::fmt;
use std::sync::Arc;

use crate::suite::{Group, Suite, Version};

/// What a handshake agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Facts {
    /// The protocol version.
    pub version: Version,
    /// The cipher suite.
    pub suite: Suite,
    /// The key exchange group; `None` where a TLS 1.2 session was resumed, which exchanges no keys.
    pub group: Option<Group>,
    /// The host that the client named, in lower case without a trailing dot.
    pub sni: Option<Box<str>>,
    /// The application protocol agreed on, RFC 7301.
    pub alpn: Option<Box<[u8]>>,
    /// Whether a former session was resumed.
    pub resumed: bool,
    /// The first name of the certificate chosen; `None` on a client's side.
    pub certificate: Option<Arc<str>>,
    /// Why that certificate; `None` on a client's side.
    pub matched: Option<Matched>,
}

/// How a certificate came to be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Matched {
    /// It has the very name the client asked for.
    Exact,
    /// It has a wildcard that covers the name.
    Wildcard,
    /// The client named no host: the default.
    Unnamed,
    /// The client named a host that no certificate covers: the default.
    Foreign,
}

impl Matched {
    /// A stable label: `exact`, `wildcard`, `unnamed`, `foreign`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Wildcard => "wildcard",
            Self::Unnamed => "unnamed",
            Self::Foreign => "foreign",
        }
    }
}

impl fmt::Display for Matched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
