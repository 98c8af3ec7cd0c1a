//! The protocols a listener can speak.

use std::fmt;
use std::str::FromStr;

/// A protocol of a listener and of the service behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// SMTP between mail servers (RFC 5321), port 25.
    Smtp,
    /// Message submission (RFC 6409), ports 587 and 465.
    Submission,
    /// LMTP (RFC 2033).
    Lmtp,
    /// IMAP (RFC 3501, RFC 9051), ports 143 and 993.
    Imap,
    /// POP3 (RFC 1939), ports 110 and 995.
    Pop3,
    /// ManageSieve (RFC 5804), port 4190.
    ManageSieve,
    /// HTTP/1.1, port 443.
    Http,
}

/// A name that is none of [`Protocol::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown protocol")]
pub struct UnknownProtocol;

impl Protocol {
    /// Every protocol, in the order of the documentation.
    pub const ALL: [Self; 7] =
        [Self::Smtp, Self::Submission, Self::Lmtp, Self::Imap, Self::Pop3, Self::ManageSieve, Self::Http];

    /// The name used in configuration and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Smtp => "smtp",
            Self::Submission => "submission",
            Self::Lmtp => "lmtp",
            Self::Imap => "imap",
            Self::Pop3 => "pop3",
            Self::ManageSieve => "managesieve",
            Self::Http => "http",
        }
    }

    /// The ALPN name registered with IANA; none is registered for SMTP, submission and LMTP.
    pub fn alpn(self) -> Option<&'static [u8]> {
        match self {
            Self::Smtp | Self::Submission | Self::Lmtp => None,
            Self::Imap => Some(b"imap"),
            Self::Pop3 => Some(b"pop3"),
            Self::ManageSieve => Some(b"managesieve"),
            Self::Http => Some(b"http/1.1"),
        }
    }

    /// Whether a listener demands TLS unless told otherwise. Mail between servers does not: a sender without
    /// TLS would not deliver at all.
    pub fn requires_tls_by_default(self) -> bool {
        !matches!(self, Self::Smtp | Self::Lmtp | Self::Http)
    }

    /// Whether the protocol knows a command that starts TLS.
    pub fn has_starttls(self) -> bool {
        self != Self::Http
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Protocol {
    type Err = UnknownProtocol;

    fn from_str(name: &str) -> Result<Self, UnknownProtocol> {
        Self::ALL.into_iter().find(|protocol| protocol.as_str() == name).ok_or(UnknownProtocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_protocol_is_found_by_its_own_name() {
        for protocol in Protocol::ALL {
            assert_eq!(protocol.to_string().parse(), Ok(protocol));
        }
        assert_eq!("SMTP".parse::<Protocol>(), Err(UnknownProtocol));
    }

    #[test]
    fn mail_between_servers_does_not_require_tls() {
        let lax: Vec<_> = Protocol::ALL.into_iter().filter(|p| !p.requires_tls_by_default()).collect();
        assert_eq!(lax, [Protocol::Smtp, Protocol::Lmtp, Protocol::Http]);
    }
}
