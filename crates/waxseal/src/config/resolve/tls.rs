//! How a listener's clients are encrypted, of what stands in the listener, in `server` and nowhere.

use std::time::Duration;

use waxseal_proto::Protocol;
use waxseal_tls::{Group, Policy, PolicyError, PolicySettings, Suite, Version};

use super::level;
use crate::config::model::Security;
use crate::config::nearest::{Ledger, Origin, Setting};
use crate::config::problem::Problems;
use crate::config::reader::Located;
use crate::config::source::Span;

const TIMEOUT: Duration = Duration::from_secs(60);

/// Both places a listener's TLS settings may stand in.
pub(super) struct Places<'l> {
    pub(super) protocol: Protocol,
    pub(super) listener: &'l level::Tls,
    pub(super) server: &'l level::Tls,
    /// The listener's header, for what is wrong with it as a whole.
    pub(super) header: Span,
}

/// How clients are encrypted and how long a handshake may take; what contradicts itself is told.
pub(super) fn security(
    places: &Places<'_>,
    ledger: &mut Ledger<'_>,
    problems: &mut Problems,
) -> (Option<Security>, Duration) {
    let Places { protocol, listener, server, .. } = *places;
    let nearest = |ledger: &mut Ledger<'_>, key, own, servers, built_in| {
        ledger.nearest(key, &[(Origin::Listener, own), (Origin::Server, servers)], built_in)
    };
    let enable = nearest(ledger, "tls.enable", &listener.enable, &server.enable, true).value;
    if !enable {
        overruled_by_server(places, problems);
        return (Some(Security::Clear), TIMEOUT);
    }
    let implicit = nearest(ledger, "tls.implicit", &listener.implicit, &server.implicit, false).value;
    if !implicit && !protocol.has_starttls() {
        cleartext_http(places, problems);
        return (Some(Security::Clear), TIMEOUT);
    }
    let by_default = protocol.requires_tls_by_default();
    let require = match implicit {
        true => {
            require_without_starttls(places, problems);
            true
        }
        false => nearest(ledger, "tls.require", &listener.require, &server.require, by_default).value,
    };
    let timeout = [(Origin::Listener, &listener.timeout), (Origin::Server, &server.timeout)];
    let timeout = ledger.nearest("tls.timeout", &timeout, TIMEOUT).value;
    let security = policy(places, ledger, problems).map(|policy| match implicit {
        true => Security::Implicit(policy),
        false => Security::StartTls { policy, require },
    });
    (security, timeout)
}

fn is_true(setting: &Option<Located<bool>>) -> Option<&Located<bool>> {
    setting.as_ref().filter(|setting| setting.value)
}

/// The listener asks for TLS, and only `server` says that there is none.
fn overruled_by_server(places: &Places<'_>, problems: &mut Problems) {
    if places.listener.enable.is_some() {
        return; // Its own contradictions have been told.
    }
    for (key, setting) in [("implicit", &places.listener.implicit), ("require", &places.listener.require)] {
        if let Some(setting) = is_true(setting) {
            let title = format!("this listener has `{key} = true`, and `server.tls.enable` is false");
            problems.error(setting.key.clone(), title).help("add `tls.enable = true` to the listener");
        }
    }
}

/// The listener speaks of STARTTLS, and only `server` says that TLS is implicit.
fn require_without_starttls(places: &Places<'_>, problems: &mut Problems) {
    if let (Some(require), None) = (&places.listener.require, &places.listener.implicit) {
        problems
            .error(
                require.key.clone(),
                "this listener has `require`, and `server.tls.implicit` leaves no STARTTLS",
            )
            .help("add `tls.implicit = false` to the listener, or leave out `require`");
    }
}

fn cleartext_http(places: &Places<'_>, problems: &mut Problems) {
    let help = "for HTTPS set `tls.implicit = true`; for cleartext `tls.enable = false`";
    match is_true(&places.listener.require) {
        Some(require) => {
            problems.error(require.key.clone(), "HTTP has no STARTTLS that could be required").help(help)
        }
        None => problems
            .warning(places.header.clone(), "this listener is cleartext HTTP: there is no STARTTLS in HTTP")
            .help(help),
    };
}

/// What a listener's versions, suites and groups come to.
fn policy(places: &Places<'_>, ledger: &mut Ledger<'_>, problems: &mut Problems) -> Option<Policy> {
    let Places { protocol, listener, server, .. } = *places;
    macro_rules! nearest {
        ($key:literal, $field:ident, $built_in:expr) => {
            ledger.nearest(
                $key,
                &[(Origin::Listener, &listener.$field), (Origin::Server, &server.$field)],
                $built_in,
            )
        };
    }
    let disabled = nearest!("tls.disable-protocols", disable_protocols, Vec::new());
    let ciphers = nearest!("tls.ciphers", ciphers, Suite::ALL.to_vec());
    let without = nearest!("tls.disable-ciphers", disable_ciphers, Vec::new());
    let groups = nearest!("tls.groups", groups, Group::ALL.to_vec());
    let order = nearest!("tls.ignore-client-order", ignore_client_order, true);
    let settings = PolicySettings {
        versions: Version::ALL.into_iter().filter(|version| !disabled.value.contains(version)).collect(),
        suites: ciphers.value.iter().copied().filter(|suite| !without.value.contains(suite)).collect(),
        groups: groups.value.clone(),
        ignore_client_order: order.value,
        // Big senders have had trouble with tickets of mail exchangers.
        tickets: protocol != Protocol::Smtp,
    };
    idle_suites(&settings, &ciphers, problems);
    lonely_group(&settings, &groups, problems);
    let culprits = Culprits {
        versions: disabled.span.clone(),
        suites: [without.span, ciphers.span, disabled.span].into_iter().flatten().next(),
        groups: groups.span,
        header: places.header.clone(),
    };
    judged(settings, &culprits, problems)
}

/// Whom to blame for what is missing.
struct Culprits {
    versions: Option<Span>,
    suites: Option<Span>,
    groups: Option<Span>,
    header: Span,
}

/// The policy; else every reason why there is none, the judge being asked again with each one mended.
fn judged(settings: PolicySettings, culprits: &Culprits, problems: &mut Problems) -> Option<Policy> {
    let mut mended = settings;
    // A round mends one of: no version, a version of two without a suite, no group.
    for round in 0..=4 {
        let error = match Policy::new(mended.clone()) {
            Ok(policy) => return (round == 0).then_some(policy),
            Err(error) => error,
        };
        let (culprit, title, help) = match error {
            PolicyError::NoVersion => {
                mended.versions = Version::ALL.to_vec();
                let title = "both TLS versions are disabled".to_owned();
                (&culprits.versions, title, "for a cleartext listener set `tls.enable = false`".to_owned())
            }
            PolicyError::VersionWithoutSuite(version) => {
                mended.suites.extend(Suite::ALL.into_iter().filter(|suite| suite.version() == version));
                let title = format!("{version} is left without a cipher suite");
                (
                    &culprits.suites,
                    title,
                    format!("allow one, or disable the version: disable-protocols = [\"{version}\"]"),
                )
            }
            PolicyError::NoGroup => {
                mended.groups = Group::ALL.to_vec();
                let title = "no key exchange group is left".to_owned();
                (&culprits.groups, title, "leave `groups` out for the usual ones".to_owned())
            }
        };
        problems.error(culprit.as_ref().unwrap_or(&culprits.header).clone(), title).help(help);
    }
    None
}

/// Suites that were asked for by name and cannot be used.
fn idle_suites(settings: &PolicySettings, ciphers: &Setting<Vec<Suite>>, problems: &mut Problems) {
    let idle = |suite: &&Suite| !settings.versions.contains(&suite.version());
    if let (Some(span), Some(suite)) = (&ciphers.span, ciphers.value.iter().find(idle)) {
        let title = format!("`{suite}` is a suite of {}, which is disabled here", suite.version());
        problems.warning(span.clone(), title);
    }
}

/// TLS 1.2 has no post-quantum key exchange.
fn lonely_group(settings: &PolicySettings, groups: &Setting<Vec<Group>>, problems: &mut Problems) {
    let Some(span) = &groups.span else { return };
    if settings.groups == [Group::X25519MlKem768] && settings.versions.contains(&Version::Tls12) {
        let title = format!("TLSv1.2 is allowed and cannot use `{}`, the only group", Group::X25519MlKem768);
        problems.warning(span.clone(), title).help("add X25519, or set disable-protocols = [\"TLSv1.2\"]");
    }
}
