//! What clients and other servers expect of a port, and what happens to mail where they are disappointed.

use waxseal_proto::Protocol;
use waxseal_tls::{KeyKind, Policy, Suite, Version};

use super::certificate::Certificate;
use crate::config::model::{Listener, Security};
use crate::config::problem::Problems;

/// How clients of a port begin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begin {
    /// With TLS at once.
    Tls,
    /// In cleartext, with STARTTLS if it is there.
    StartTls,
}

/// A registered port (IANA; RFC 8314 section 3 for implicit TLS).
struct Port {
    number: u16,
    protocol: Protocol,
    begin: Begin,
    /// Its twin that begins the other way.
    twin: Option<u16>,
}

const fn port(number: u16, protocol: Protocol, begin: Begin, twin: Option<u16>) -> Port {
    Port { number, protocol, begin, twin }
}

const PORTS: [Port; 10] = [
    port(25, Protocol::Smtp, Begin::StartTls, None),
    port(587, Protocol::Submission, Begin::StartTls, Some(465)),
    port(465, Protocol::Submission, Begin::Tls, Some(587)),
    port(143, Protocol::Imap, Begin::StartTls, Some(993)),
    port(993, Protocol::Imap, Begin::Tls, Some(143)),
    port(110, Protocol::Pop3, Begin::StartTls, Some(995)),
    port(995, Protocol::Pop3, Begin::Tls, Some(110)),
    port(4190, Protocol::ManageSieve, Begin::StartTls, None),
    port(24, Protocol::Lmtp, Begin::StartTls, None),
    port(443, Protocol::Http, Begin::Tls, None),
];

/// Warns where a listener is not what its port promises.
pub(super) fn check(listener: &Listener, problems: &mut Problems) {
    let mut told = Vec::new();
    for (address, span) in listener.bind.iter().zip(&listener.places.bind) {
        let Some(port) = PORTS.iter().find(|port| port.number == address.port()) else { continue };
        if told.contains(&port.number) {
            continue;
        }
        told.push(port.number);
        let Port { number, protocol, .. } = *port;
        if protocol != listener.protocol {
            let title =
                format!("port {number} is for {protocol}, and this listener speaks {}", listener.protocol);
            problems
                .warning(span.clone(), title)
                .help(format!("set protocol = \"{protocol}\", or take another port"));
        } else if let Some((title, help)) = wrong_begin(port, &listener.security) {
            problems.warning(span.clone(), title).help(help);
        } else if protocol == Protocol::Smtp {
            exchanger(listener, problems);
        }
    }
}

fn wrong_begin(port: &Port, security: &Security) -> Option<(String, String)> {
    let implicit = matches!(security, Security::Implicit(_));
    let number = port.number;
    let twin = |what| {
        port.twin.map(|twin| format!(", or take port {twin}, which is for {what}")).unwrap_or_default()
    };
    match port.begin {
        Begin::Tls if !implicit => Some((
            format!("port {number} is for TLS from the first byte; clients that expect it will fail"),
            format!("set tls.implicit = true{}", twin("STARTTLS")),
        )),
        Begin::StartTls if implicit => Some((
            format!("port {number} is for STARTTLS; clients that expect it will fail"),
            format!("leave out `tls.implicit`{}", twin("TLS from the first byte")),
        )),
        _ => None,
    }
}

/// Senders of mail do not choose their exchanger's TLS: what does not suit them goes in cleartext or comes back.
fn exchanger(listener: &Listener, problems: &mut Problems) {
    let header = &listener.places.header;
    if let Security::StartTls { require: true, .. } = listener.security {
        problems
            .warning(header.clone(), "senders without STARTTLS cannot deliver here: their mail bounces")
            .help("on port 25 leave out `tls.require`, unless every sender is known");
    }
    if let Some(missing) = listener.security.policy().and_then(strict) {
        problems
            .warning(
                header.clone(),
                format!("on port 25 without {missing} some senders deliver in cleartext, or not at all"),
            )
            .help("give this listener its own `tls`, wider than that of the ports for people");
    }
}

/// Warns where no key there is can be used with the suites of TLS 1.2 that are left: unlike TLS 1.3, they say which.
pub(super) fn usable(listener: &Listener, certificates: &[Certificate], problems: &mut Problems) {
    let Some(policy) = listener.security.policy() else { return };
    let mut suites = policy.suites().iter().filter(|suite| suite.version() == Version::Tls12).peekable();
    if suites.peek().is_none() || certificates.is_empty() {
        return;
    }
    let fits = |suite: &Suite| {
        let rsa = suite.name().contains("_RSA_");
        certificates
            .iter()
            .any(|certificate| rsa == matches!(certificate.entry.identity.key_kind(), KeyKind::Rsa(_)))
    };
    if !suites.any(fits) {
        let title = "no certificate has a key for the suites of TLSv1.2 that are left here";
        problems
            .warning(listener.places.header.clone(), title)
            .help("allow a suite of the other kind (ECDSA or RSA), or set disable-protocols = [\"TLSv1.2\"]");
    }
}

/// What a policy lacks that mail senders count on.
fn strict(policy: &Policy) -> Option<&'static str> {
    let gcm = |kind: &str| {
        let found = |suite: &&Suite| suite.name().contains(kind) && suite.name().contains("_GCM_");
        policy.suites().iter().find(found)
    };
    if !policy.versions().contains(&Version::Tls12) {
        return Some("TLSv1.2");
    }
    (gcm("_RSA_").is_none() && gcm("_ECDSA_").is_none()).then_some("an AES-GCM suite of TLSv1.2")
}
