//! Last words, in each protocol's own form.

use crate::protocol::Protocol;
use crate::syntax::quoted;

/// Why the door ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Farewell {
    /// The service behind does not answer.
    Unreachable,
    /// The listener or the address has too many connections.
    TooManyConnections,
    /// The process is stopping.
    ShuttingDown,
    /// The client took too long.
    TimedOut,
    /// The service was lost in mid-session.
    ServiceFailed,
    /// The client spoke in the clear on a port that is encrypted from the first byte.
    CleartextOnTls,
    /// Too many handshakes are in progress.
    HandshakesBusy,
}

impl Farewell {
    /// The words, for a person. No protocol's syntax is hurt by any of them.
    fn words(self) -> &'static str {
        match self {
            Self::Unreachable => "The mail service is not reachable, try again later",
            Self::TooManyConnections => "Too many connections, try again later",
            Self::ShuttingDown => "Shutting down, try again later",
            Self::TimedOut => "Timed out, closing the connection",
            Self::ServiceFailed => "The connection to the mail service was lost, try again later",
            Self::CleartextOnTls => {
                "This port speaks TLS from the first byte: choose SSL/TLS in the client, \
                 or the STARTTLS port of this protocol"
            }
            Self::HandshakesBusy => "Too many TLS handshakes in progress, try again later",
        }
    }

    /// Whether the same client will fare no better later.
    fn is_permanent(self) -> bool {
        self == Self::CleartextOnTls
    }
}

/// The words to write before closing, with the line ends of the protocol.
pub fn farewell(protocol: Protocol, hostname: &str, why: Farewell) -> Vec<u8> {
    let words = why.words();
    let line = match protocol {
        Protocol::Smtp | Protocol::Submission | Protocol::Lmtp => {
            format!("{} {hostname} {words}\r\n", smtp_code(why))
        }
        // RFC 5530 section 3: UNAVAILABLE is for what passes; a BYE that is nobody's fault has no code.
        Protocol::Imap if why.is_permanent() || why == Farewell::TimedOut => format!("* BYE {words}\r\n"),
        Protocol::Imap => format!("* BYE [UNAVAILABLE] {words}\r\n"),
        // RFC 3206 section 4.
        Protocol::Pop3 if why.is_permanent() => format!("-ERR [SYS/PERM] {words}\r\n"),
        Protocol::Pop3 => format!("-ERR [SYS/TEMP] {words}\r\n"),
        // RFC 5804 section 1.3.
        Protocol::ManageSieve if why.is_permanent() => format!("BYE {}\r\n", quoted(words)),
        Protocol::ManageSieve => format!("BYE (TRYLATER) {}\r\n", quoted(words)),
        Protocol::Http => return http(why, words),
    };
    line.into_bytes()
}

/// Reply and enhanced status code (RFC 5321 section 4.2, RFC 3463).
fn smtp_code(why: Farewell) -> &'static str {
    match why {
        Farewell::Unreachable | Farewell::ShuttingDown | Farewell::HandshakesBusy => "421 4.3.2",
        Farewell::TooManyConnections => "421 4.7.0",
        Farewell::TimedOut => "421 4.4.2",
        Farewell::ServiceFailed => "421 4.3.0",
        Farewell::CleartextOnTls => "554 5.7.0",
    }
}

fn http(why: Farewell, words: &str) -> Vec<u8> {
    let status = match why {
        Farewell::CleartextOnTls => "400 Bad Request",
        Farewell::TimedOut => "408 Request Timeout",
        Farewell::ServiceFailed => "502 Bad Gateway",
        _ => "503 Service Unavailable",
    };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{words}\n",
        words.len() + 1
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Farewell; 7] = [
        Farewell::Unreachable,
        Farewell::TooManyConnections,
        Farewell::ShuttingDown,
        Farewell::TimedOut,
        Farewell::ServiceFailed,
        Farewell::CleartextOnTls,
        Farewell::HandshakesBusy,
    ];

    fn said(protocol: Protocol, why: Farewell) -> String {
        String::from_utf8(farewell(protocol, "mx.example", why)).unwrap()
    }

    #[test]
    fn unreachable_is_said_in_the_words_of_each_protocol() {
        let start = |protocol, start: &str| assert!(said(protocol, Farewell::Unreachable).starts_with(start));
        start(Protocol::Smtp, "421 4.3.2 mx.example ");
        start(Protocol::Submission, "421 4.3.2 mx.example ");
        start(Protocol::Lmtp, "421 4.3.2 mx.example ");
        start(Protocol::Imap, "* BYE [UNAVAILABLE] ");
        start(Protocol::Pop3, "-ERR [SYS/TEMP] ");
        start(Protocol::ManageSieve, "BYE (TRYLATER) \"");
        start(Protocol::Http, "HTTP/1.1 503 ");
    }

    #[test]
    fn every_farewell_is_one_line_in_crlf() {
        for protocol in Protocol::ALL.into_iter().filter(|&p| p != Protocol::Http) {
            for why in ALL {
                let said = said(protocol, why);
                assert_eq!(said.find("\r\n"), Some(said.len() - 2), "{protocol}: {said:?}");
                assert!(said.len() <= 512 && !said.contains("  "), "{protocol}: {said:?}");
            }
        }
    }

    #[test]
    fn http_announces_the_length_that_it_sends() {
        for why in ALL {
            let said = said(Protocol::Http, why);
            let (head, body) = said.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
        }
    }
}
