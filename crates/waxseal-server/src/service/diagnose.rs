//! Errors on the leg behind, in words that name the leg and the line to set.

use std::sync::Arc;

use waxseal_proto::{Capabilities, OpeningError, Protocol};

use super::ServiceError;
use super::relay::{Relay, RelayContext, Way};
use crate::settings::{Forwarding, LegSecurity, Upstream};

/// Something found about a service by dialling it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The address dialled.
    pub address: String,
    /// Whether sessions can be served through it.
    pub severity: Severity,
    /// What was found, and the one thing to do.
    pub text: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// As it should be.
    Fine,
    /// It works, and something may surprise.
    Warning,
    /// No session can be served.
    Error,
}

/// Dials every address of `upstream` as `protocol` would be, and says what is found.
pub async fn diagnose(context: RelayContext, upstream: &Upstream, protocol: Protocol) -> Vec<Finding> {
    let relay = match Relay::new(context, upstream.clone(), protocol) {
        Ok(relay) => relay,
        Err(error) => {
            return vec![Finding {
                address: String::new(),
                severity: Severity::Error,
                text: error.to_string(),
            }];
        }
    };
    let mut findings = Vec::new();
    for way in &relay.ways {
        let address = way.address.to_string();
        let mut find = |severity, text| findings.push(Finding { address: address.clone(), severity, text });
        match relay.ask(way, upstream.forwarding).await {
            Ok(capabilities) => {
                find(Severity::Fine, format!("answers as {protocol}{}", manner(upstream)));
                for text in surprises(upstream, protocol, &capabilities) {
                    find(Severity::Warning, text);
                }
            }
            Err(error) => find(Severity::Error, explain(&relay, way, error).await.to_string()),
        }
    }
    findings
}

/// How the service was spoken to, for the line that says that it works.
fn manner(upstream: &Upstream) -> String {
    let header = match upstream.forwarding {
        Forwarding::None => "",
        Forwarding::ProxyV1 => ", takes the PROXY v1 header",
        Forwarding::ProxyV2 => ", takes the PROXY v2 header",
        Forwarding::Xclient => ", clients are introduced by XCLIENT (ID in IMAP)",
    };
    let leg = match upstream.leg {
        LegSecurity::None => "",
        LegSecurity::StartTls => ", STARTTLS works",
        LegSecurity::Implicit => ", TLS works",
        LegSecurity::Mirror => ", STARTTLS works (mirror)",
    };
    format!("{header}{leg}")
}

/// What works and may still surprise.
pub(super) fn surprises(upstream: &Upstream, protocol: Protocol, capabilities: &Capabilities) -> Vec<String> {
    let mut found = Vec::new();
    let logs_in =
        matches!(protocol, Protocol::Submission | Protocol::Imap | Protocol::Pop3 | Protocol::ManageSieve);
    if logs_in && !capabilities.offers_auth() {
        found.push(
            "the service hides AUTH on this leg, as it takes it for cleartext: nobody can log in. Send it the facts of \
             the client's TLS (forwarding = \"proxy-v2\", which Dovecot reads), or encrypt the leg (tls.mode = \
             \"mirror\" or \"starttls\"), or let it accept passwords here (Postfix: smtpd_tls_auth_only = no and \
             smtpd_sasl_auth_enable = yes; Dovecot: login_trusted_networks, or disable_plaintext_auth = no)"
                .to_owned(),
        );
    }
    if capabilities.offers_starttls() && upstream.leg == LegSecurity::None {
        found.push(
            "the service still offers STARTTLS inside; clients are not shown it. To have it quiet: Postfix: \
             -o smtpd_tls_security_level=none for this service in master.cf; Dovecot: ssl = no. To encrypt this leg \
             too: tls.mode = \"mirror\" or \"starttls\""
                .to_owned(),
        );
    }
    found
}

/// Turns a failure into the words for it: where the other kind of greeting works, the PROXY header is what is wrong.
pub(super) async fn explain(relay: &Relay, way: &Way, error: ServiceError) -> ServiceError {
    let worth_a_try = matches!(
        error,
        ServiceError::Broken { .. }
            | ServiceError::Silent { .. }
            | ServiceError::Opening { .. }
            | ServiceError::Tls { .. }
    );
    if !worth_a_try {
        return error;
    }
    let sends_header = matches!(relay.upstream.forwarding, Forwarding::ProxyV1 | Forwarding::ProxyV2);
    let other = if sends_header { Forwarding::None } else { Forwarding::ProxyV2 };
    if relay.ask(way, other).await.is_ok() {
        return ServiceError::Misconfigured {
            service: Arc::clone(&relay.upstream.name),
            address: way.address.to_string(),
            remedy: if sends_header {
                "the service does not expect a PROXY header. Set forwarding = \"none\" for this upstream, or let it expect one \
                 (Postfix: -o smtpd_upstream_proxy_protocol=haproxy for this service in master.cf; Dovecot: haproxy = \
                 yes in its inet_listener, and haproxy_trusted_networks with waxseal's address)"
            } else {
                "the service expects a PROXY header and got none. Set forwarding = \"proxy-v2\" for this upstream, or take the \
                 expectation away (Postfix: smtpd_upstream_proxy_protocol for this service in master.cf; Dovecot: \
                 haproxy = yes in its inet_listener)"
            }
            .to_owned(),
        };
    }
    match error {
        ServiceError::Broken { service, address, source } if sends_header && dovecots(relay.protocol) => {
            ServiceError::Broken {
                service,
                address,
                source: std::io::Error::new(
                    source.kind(),
                    format!(
                        "{source}. If this is Dovecot: haproxy_trusted_networks must hold the address waxseal comes from"
                    ),
                ),
            }
        }
        ServiceError::Opening { service, address, source } => match remedy(&source) {
            None => ServiceError::Opening { service, address, source },
            Some(remedy) => {
                ServiceError::Misconfigured { service, address, remedy: format!("{source}. {remedy}") }
            }
        },
        other => other,
    }
}

/// Whether it is Dovecot, most likely, that speaks this protocol.
fn dovecots(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Imap | Protocol::Pop3 | Protocol::ManageSieve)
}

/// The line to set where a service's answer names its cause.
fn remedy(error: &OpeningError) -> Option<&'static str> {
    match error {
        OpeningError::NoStartTls | OpeningError::StartTlsRefused { .. } => Some(
            "The leg is not used in clear instead. Let the service offer it (Postfix: smtpd_tls_security_level = may \
             and smtpd_tls_chain_files; Dovecot: ssl = yes), or set tls.mode = \"none\" for this upstream",
        ),
        OpeningError::XclientNotOffered | OpeningError::XclientRefused { .. } => Some(
            "Let it trust waxseal's address (Postfix: smtpd_authorized_xclient_hosts; Dovecot: \
             login_trusted_networks), or choose another forwarding for this upstream",
        ),
        OpeningError::IdRefused { .. } => Some(
            "Let it trust waxseal's address (Dovecot: login_trusted_networks), or choose another forwarding",
        ),
        _ => None,
    }
}
