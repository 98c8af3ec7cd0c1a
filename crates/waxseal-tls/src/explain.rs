//! Refusals in an operator's words: what the client offered, what the listener allows.

use rustls::{AlertDescription, CipherSuite, Error, NamedGroup, PeerIncompatible, SignatureScheme};
use waxseal_proto::Protocol;

use crate::error::HandshakeError;
use crate::hello::Hello;
use crate::policy::{Policy, Suite, Version};

/// The most items of a client's list that are written out.
const MAX_LISTED: usize = 12;

const TLS12: u16 = 0x0303;

pub(crate) fn client_refused(
    error: Error,
    hello: Option<Box<Hello>>,
    policy: &Policy,
    protocol: Protocol,
) -> HandshakeError {
    let (why, explanation) = match hello.as_deref() {
        Some(hello) => incompatibility(&error, hello, policy, protocol),
        None => None,
    }
    .unwrap_or_else(|| of_either_side(&error, "client"));
    HandshakeError::Refused { why, explanation, offered: hello, source: error }
}

/// The label and the words for a client that speaks TLS well, but has nothing in common with the listener.
fn incompatibility(
    error: &Error,
    hello: &Hello,
    policy: &Policy,
    protocol: Protocol,
) -> Option<(&'static str, String)> {
    use PeerIncompatible as P;
    let too_old = hello.versions.iter().all(|&version| version < TLS12);
    let (why, offered, allowed) = match error {
        Error::NoApplicationProtocol => {
            let offered = hello.alpn.iter().flatten().map(|name| quoted(name));
            let allowed = match protocol.alpn() {
                Some(name) => format!("takes {} or none", quoted(name)),
                None => format!("({protocol}) takes none"),
            };
            return Some((
                "alpn",
                format!("the client wants to speak {}; this listener {allowed}", list(offered)),
            ));
        }
        Error::PeerIncompatible(
            P::Tls12NotOffered
            | P::Tls12NotOfferedOrEnabled
            | P::Tls13RequiredForQuic
            | P::SupportedVersionsExtensionRequired,
        ) => ("version", versions(hello), policy.versions().iter().map(|v| v.name()).collect()),
        // TLS 1.1 and older have no such extension.
        Error::PeerIncompatible(P::SignatureAlgorithmsExtensionRequired) if too_old => {
            ("version", versions(hello), policy.versions().iter().map(|v| v.name()).collect())
        }
        Error::PeerIncompatible(P::NoCipherSuitesInCommon) => {
            ("suite", list(suites(hello)), policy.suites().iter().map(|s| s.name()).collect::<Vec<_>>())
        }
        Error::PeerIncompatible(
            P::NoKxGroupsInCommon | P::NamedGroupsExtensionRequired | P::NoEcPointFormatsInCommon,
        ) => {
            let groups = list(hello.groups.iter().filter(|&&g| !is_grease(g)).map(|&g| {
                let group = NamedGroup::from(g);
                group.as_str().map_or_else(|| format!("group 0x{g:04x}"), str::to_uppercase)
            }));
            ("group", groups, policy.groups().iter().map(|g| g.name()).collect())
        }
        Error::PeerIncompatible(
            P::NoSignatureSchemesInCommon
            | P::SignatureAlgorithmsExtensionRequired
            | P::NoCertificateRequestSignatureSchemesInCommon,
        ) => {
            let schemes = list(hello.schemes.iter().filter(|&&s| !is_grease(s)).map(|&s| {
                let scheme = SignatureScheme::from(s);
                scheme.as_str().map_or_else(|| format!("scheme 0x{s:04x}"), str::to_owned)
            }));
            return Some((
                "signature",
                format!(
                    "the client takes no signature that our certificates' keys can make; it takes {schemes}"
                ),
            ));
        }
        _ => return None,
    };
    let allowed = allowed.join(", ");
    Some((why, format!("the client offers {offered}; this listener allows {allowed}")))
}

/// The label and the words for everything else; `peer` is "client" or "service".
pub(crate) fn of_either_side(error: &Error, peer: &str) -> (&'static str, String) {
    match error {
        Error::AlertReceived(alert) => ("alert", format!("the {peer} gave up: {}", meaning(*alert))),
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => {
            ("garbage", format!("the {peer} sent something that is not TLS: {error}"))
        }
        Error::InappropriateHandshakeMessage { .. } | Error::PeerMisbehaved(_) => {
            ("misbehaved", format!("the {peer} broke the rules of TLS: {error}"))
        }
        Error::PeerSentOversizedRecord => ("garbage", format!("the {peer} sent a record that is too long")),
        Error::DecryptError => {
            ("decrypt", format!("a record of the {peer} cannot be decrypted: it was damaged on the way"))
        }
        Error::PeerIncompatible(_) => ("incompatible", format!("nothing in common with the {peer}: {error}")),
        Error::NoApplicationProtocol => ("alpn", format!("no application protocol agreed: {error}")),
        _ => ("internal", format!("the handshake failed: {error}")),
    }
}

/// What an alert says about us (RFC 8446 section 6.2).
fn meaning(alert: AlertDescription) -> String {
    use AlertDescription as A;
    let words = match alert {
        A::UnknownCA => "it does not trust the issuer of our certificate (is the chain complete?)",
        A::BadCertificate | A::CertificateUnknown => "it does not accept our certificate",
        A::CertificateExpired => "our certificate has expired by its clock",
        A::CertificateRevoked => "our certificate is revoked",
        A::UnsupportedCertificate => "it cannot use our certificate's kind of key",
        A::ProtocolVersion => "it takes none of our protocol versions",
        A::HandshakeFailure => "it found nothing in common with us",
        A::InsufficientSecurity => "it finds our offer too weak",
        A::UnrecognisedName => "it was not the host it expected",
        A::UserCanceled => "its user cancelled",
        A::CloseNotify => "it closed the connection",
        A::NoApplicationProtocol => "it expects another application protocol",
        _ => return format!("alert {}", alert.as_str().unwrap_or("of an unknown kind")),
    };
    format!("{words} (alert {})", alert.as_str().unwrap_or_default())
}

fn versions(hello: &Hello) -> String {
    match hello.versions.as_slice() {
        // The legacy field is the highest one.
        [highest] if *highest < TLS12 => format!("{} at most", version_name(*highest)),
        versions => list(versions.iter().map(|&version| version_name(version))),
    }
}

fn version_name(version: u16) -> String {
    match version {
        0x0002 => "SSL 2.0".into(),
        0x0300 => "SSL 3.0".into(),
        0x0301 => "TLS 1.0".into(),
        0x0302 => "TLS 1.1".into(),
        0x0303 => Version::Tls12.name().into(),
        0x0304 => Version::Tls13.name().into(),
        other => format!("version 0x{other:04x}"),
    }
}

fn suites(hello: &Hello) -> impl Iterator<Item = String> {
    const FALLBACK_SCSV: u16 = 0x5600;
    const RENEGOTIATION_SCSV: u16 = 0x00ff;
    let signals = [FALLBACK_SCSV, RENEGOTIATION_SCSV];
    hello.suites.iter().filter(move |suite| !is_grease(**suite) && !signals.contains(suite)).map(|&number| {
        let suite = CipherSuite::from(number);
        let known = Suite::by_id(suite).map(Suite::name).or_else(|| suite.as_str());
        known.map_or_else(|| format!("suite 0x{number:04x}"), str::to_owned)
    })
}

/// RFC 8701: values that clients send to see whether servers ignore them.
fn is_grease(value: u16) -> bool {
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}

fn quoted(name: &[u8]) -> String {
    format!("\"{}\"", name.escape_ascii())
}

/// At most [`MAX_LISTED`] items with commas between.
fn list(items: impl Iterator<Item = String>) -> String {
    let all: Vec<_> = items.collect();
    let shown = all.get(..MAX_LISTED).unwrap_or(&all);
    match all.len() - shown.len() {
        0 if all.is_empty() => "nothing".into(),
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
