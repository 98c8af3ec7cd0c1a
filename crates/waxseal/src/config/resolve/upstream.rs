//! The mail servers behind.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use waxseal_server::{Address, Forwarding, LegSecurity};
use waxseal_tls::{PemPart, PemSource};

use super::choice::choose;
use super::pem;
use crate::config::file;
use crate::config::model::{Section, Trust, Upstream, UpstreamTls};
use crate::config::names::refuse_hostname;
use crate::config::nearest::{Ledger, Origin};
use crate::config::problem::Problems;
use crate::config::reader::{Located, Word};
use crate::config::source::{Source, Span};

/// Bytes the path of a unix socket may have on Linux, without the NUL at its end.
const MAX_UNIX_PATH: usize = 107;

const FORWARDING: [(&str, Forwarding); 4] = [
    ("none", Forwarding::None),
    ("proxy-v1", Forwarding::ProxyV1),
    ("proxy-v2", Forwarding::ProxyV2),
    ("xclient", Forwarding::Xclient),
];

/// Other words for a forwarding.
const FORWARDING_STRANGERS: [(&str, &str); 6] = [
    ("v1", "`proxy-v1`"),
    ("v2", "`proxy-v2`"),
    ("proxy", "`proxy-v2`, or `proxy-v1` for a service that knows only that"),
    ("haproxy", "`proxy-v2`, or `proxy-v1` for a service that knows only that"),
    ("id", "`xclient`: in IMAP it is ID"),
    ("true", "`proxy-v2`, `proxy-v1` or `xclient`"),
];

/// Other words for a mode.
const MODE_STRANGERS: [(&str, &str); 4] = [
    ("tls", "`implicit`, or `starttls`"),
    ("ssl", "`implicit`, or `starttls`"),
    ("plain", "`none`"),
    ("clear", "`none`"),
];

/// An upstream; `None` where too little of it is right.
pub(super) fn upstream(
    name: &Located<String>,
    written: &Located<file::Upstream>,
    source: &Source,
    problems: &mut Problems,
) -> (Option<Upstream>, Section) {
    let mut ledger = Ledger::new(source);
    let addresses = addresses(name, written, problems);
    ledger.only("address", (Origin::Upstream, &addresses), Vec::new());
    let table = &written.value;
    let forwarding = choose(&table.forwarding, "forwarding", &FORWARDING, &FORWARDING_STRANGERS, problems);
    let shown = forwarding.as_ref().map(|forwarding| forwarding.with(forwarding.value.as_str()));
    ledger.only("forwarding", (Origin::Upstream, &shown), Forwarding::None.as_str());
    let empty = file::UpstreamTls::default();
    let tls = table.tls.as_ref().map_or(&empty, |tls| &tls.value);
    let addresses = addresses.map(|addresses| addresses.value);
    let tls = leg(tls, addresses.as_deref().unwrap_or_default(), &written.span, &mut ledger, problems);
    let upstream = addresses.map(|addresses| Upstream {
        name: Arc::from(name.value.as_str()),
        addresses,
        forwarding: forwarding.map_or(Forwarding::None, |forwarding| forwarding.value),
        tls,
        header: name.span.clone(),
    });
    (upstream, Section { table: format!("upstream.{}", name.value), settings: ledger.close() })
}

fn addresses(
    name: &Located<String>,
    written: &Located<file::Upstream>,
    problems: &mut Problems,
) -> Option<Located<Vec<Address>>> {
    let Some(list) = &written.value.address else {
        problems
            .error(name.span.clone(), format!("upstream `{}` has no `address`", name.value))
            .help("write address = \"127.0.0.1:10025\" or \"unix:/run/dovecot/lmtp\"");
        return None;
    };
    if list.value.is_empty() {
        problems.error(list.span.clone(), "`address` names no address").help("write host:port or unix:PATH");
        return None;
    }
    let addresses = list.value.iter().filter_map(|word| {
        address(word.value.as_str())
            .map_err(|(why, help)| {
                problems.error(word.span.clone(), format!("`{}` {why}", word.value)).help(help);
            })
            .ok()
    });
    Some(list.with(addresses.collect()))
}

/// `host:port` or `unix:PATH`; else what is wrong with it, and what to write.
fn address(text: &str) -> Result<Address, (String, String)> {
    let wrong = |why: &str, help: String| Err((why.to_owned(), help));
    if let Some(path) = text.strip_prefix("unix:") {
        return match path {
            _ if !path.starts_with('/') => {
                wrong("is no absolute path", format!("write unix:/{}", path.trim_start_matches("./")))
            }
            _ if path.len() > MAX_UNIX_PATH => {
                wrong("is too long a path", format!("a socket's path has {MAX_UNIX_PATH} bytes at the most"))
            }
            _ => Ok(Address::Unix(PathBuf::from(path))),
        };
    }
    if text.starts_with('/') {
        return wrong("is a path", format!("write unix:{text}"));
    }
    if let Some((_, rest)) = text.split_once("://") {
        return wrong("is a URL", format!("write {}", rest.trim_end_matches('/')));
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return wrong("has no port", format!("write the port too, as in {}", SocketAddr::new(ip, 25)));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return wrong("has no port", format!("write the port too, as in {text}:25"));
    };
    let Some(port) = port.parse().ok().filter(|port| *port != 0) else {
        return wrong("has no port from 1 to 65535 behind the last colon", format!("write {host}:25"));
    };
    if let Some(inner) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return match inner.parse::<std::net::Ipv6Addr>() {
            Ok(_) => Ok(Address::Tcp { host: inner.to_owned(), port }),
            Err(_) => wrong("has no IPv6 address in its brackets", format!("write [2001:db8::1]:{port}")),
        };
    }
    match refuse_hostname(host) {
        Ok(()) => Ok(Address::Tcp { host: host.to_owned(), port }),
        Err(why) => wrong("has no host name or address before the port", why.to_owned()),
    }
}

/// TLS on the leg behind.
fn leg(
    written: &file::UpstreamTls,
    addresses: &[Address],
    header: &Span,
    ledger: &mut Ledger<'_>,
    problems: &mut Problems,
) -> UpstreamTls {
    let mode = choose(&written.mode, "tls.mode", &UpstreamTls::MODES, &MODE_STRANGERS, problems);
    let shown = mode.as_ref().map(|mode| mode.with(UpstreamTls::word(mode.value)));
    ledger.only("tls.mode", (Origin::Upstream, &shown), UpstreamTls::word(LegSecurity::None));
    let mode_is_known = mode.is_some() || written.mode.is_none();
    let mode = mode.map_or(LegSecurity::None, |mode| mode.value);
    let server_name = server_name(&written.server_name, problems);
    let trust = trust(written, problems);
    if mode == LegSecurity::None {
        if mode_is_known {
            idle(written, problems);
        }
    } else {
        ledger.only("tls.server-name", (Origin::Upstream, &server_name), "the host that is dialled".to_owned());
        let shown = trust.as_ref().map(|trust| trust.with(trust_words(&trust.value)));
        ledger.only("tls.trust", (Origin::Upstream, &shown), trust_words(&Trust::System));
    }
    let trust = trust.map_or(Trust::System, |trust| trust.value);
    let named = server_name.is_some() || !matches!(trust, Trust::System | Trust::Ca { .. });
    let only_unix = addresses.iter().all(|address| matches!(address, Address::Unix(_)));
    if mode != LegSecurity::None && !named && only_unix && !addresses.is_empty() {
        problems
            .error(header.clone(), "no name is known that the certificate behind a unix socket should bear")
            .help("set `tls.server-name`, or pin the key with `tls.pin`");
    }
    UpstreamTls { mode, server_name: server_name.map(|name| name.value), trust }
}

/// In the words of the file, whoever is trusted.
pub(super) fn trust_words(trust: &Trust) -> String {
    match trust {
        Trust::System => "the system's roots".to_owned(),
        Trust::Ca { written, .. } => format!("ca = {written}"),
        Trust::Pin(pin) => format!("pin = sha256:{}", BASE64.encode(pin)),
        Trust::Any => "anyone (verify = false)".to_owned(),
    }
}

/// What is said about a leg that has no TLS.
fn idle(written: &file::UpstreamTls, problems: &mut Problems) {
    let keys = [
        written.server_name.as_ref().map(|key| &key.key),
        written.ca.as_ref().map(|key| &key.key),
        written.pin.as_ref().map(|key| &key.key),
        written.verify.as_ref().map(|key| &key.key),
    ];
    for key in keys.into_iter().flatten() {
        problems
            .warning(key.clone(), "this has no effect: `tls.mode` is none, so this leg is cleartext")
            .help("set tls.mode = \"starttls\", \"implicit\" or \"mirror\"");
    }
}

fn server_name(written: &Option<Located<Word>>, problems: &mut Problems) -> Option<Located<String>> {
    let word = written.as_ref()?;
    let name = word.value.as_str();
    if name.parse::<IpAddr>().is_err() {
        if let Err(why) = refuse_hostname(name) {
            problems.error(word.span.clone(), format!("`{}` is no host name: {why}", word.value));
            return None;
        }
    }
    Some(word.with(name.to_owned()))
}

/// Whom the leg behind trusts; two answers to that are a contradiction.
fn trust(written: &file::UpstreamTls, problems: &mut Problems) -> Option<Located<Trust>> {
    let pin = written.pin.as_ref().and_then(|word| pin(word, problems));
    let ca = written.ca.as_ref().and_then(|source| ca(source, problems));
    if let (Some(ca), Some(pin)) = (&written.ca, &written.pin) {
        let later = if ca.key.start > pin.key.start { ca } else { return contradiction(pin.key.clone(), problems) };
        return contradiction(later.key.clone(), problems);
    }
    if let Some(verify) = written.verify.as_ref().filter(|verify| !verify.value) {
        if written.ca.is_some() || written.pin.is_some() {
            problems
                .error(verify.key.clone(), "`verify = false` trusts anyone, `ca` or `pin` somebody: they contradict")
                .help("leave out one of the two");
        } else {
            problems
                .warning(verify.key.clone(), "anyone on the way to this service can pose as it")
                .help("pin its key with `tls.pin`; `waxseal check --upstreams` prints the pin");
        }
        return Some(verify.with(Trust::Any));
    }
    pin.or(ca)
}

fn contradiction(at: Span, problems: &mut Problems) -> Option<Located<Trust>> {
    problems
        .error(at, "`ca` and `pin` both say whom to trust")
        .help("leave out one of the two: a pin is the narrower");
    None
}

fn pin(word: &Located<Word>, problems: &mut Problems) -> Option<Located<Trust>> {
    let text = word.value.as_str();
    let digest = text.strip_prefix("sha256:").and_then(|digest| BASE64.decode(digest).ok());
    if let Some(digest) = digest.and_then(|digest| digest.try_into().ok()) {
        return Some(word.with(Trust::Pin(digest)));
    }
    let problem = problems.error(word.span.clone(), format!("`{}` is no pin", word.value));
    let hexadecimal = from_hexadecimal(text.trim_start_matches("sha256:"));
    match hexadecimal.filter(|_| word.value.literal().is_some()) {
        Some(digest) => problem.help(format!("write \"sha256:{}\"", BASE64.encode(digest))),
        None => problem.help("a pin is sha256: and 44 characters, the base64 of the hash of the service's public key"),
    };
    None
}

/// The 32 bytes of 64 hexadecimal digits, colons between them or not.
fn from_hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().filter(|c| *c != ':').map(|c| c.to_digit(16)?.try_into().ok()).collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit));
    (digits.len() == 64).then(|| pairs.collect())
}

fn ca(source: &Located<PemSource>, problems: &mut Problems) -> Option<Located<Trust>> {
    let pem = pem::text(source, problems)?;
    if !pem.contains("-----BEGIN CERTIFICATE-----") {
        problems.error(source.span.clone(), "there is no certificate in `ca`").help("it is the PEM of the CA's root");
        return None;
    }
    let files = source.value.parts.iter().filter_map(|part| match part {
        PemPart::File(path) => Some(format!("%{{file:{}}}%", path.display())),
        PemPart::Text(_) => None,
    });
    let written = files.reduce(|all, file| all + &file).unwrap_or_else(|| "(PEM text)".to_owned());
    Some(source.with(Trust::Ca { pem, written }))
}
