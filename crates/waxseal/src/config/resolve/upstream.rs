//! The mail servers behind.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use waxseal_server::{Address, Forwarding};

use super::choice::choose;
use super::leg;
use crate::config::file;
use crate::config::model::{Section, Upstream};
use crate::config::names::refuse_hostname;
use crate::config::nearest::{Ledger, Origin};
use crate::config::problem::Problems;
use crate::config::reader::{Incomplete as _, Located};
use crate::config::source::Source;

/// Bytes the path of a unix socket may have on Linux, without the NUL at its end.
const MAX_UNIX_PATH: usize = 107;

/// How an address is written.
const ADDRESS_FORMS: &str = "write host:port or unix:PATH";

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
    let tls = leg::leg(tls, addresses.as_deref().unwrap_or_default(), &name.span, &mut ledger, problems);
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
        if !written.value.refused("address") {
            problems
                .error(name.span.clone(), format!("upstream `{}` has no `address`", name.value))
                .help("write address = \"127.0.0.1:10025\" or \"unix:/run/dovecot/lmtp\"");
        }
        return None;
    };
    if list.value.is_empty() {
        problems.error(list.span.clone(), "`address` names no address").help(ADDRESS_FORMS);
        return None;
    }
    let addresses = list.value.iter().filter_map(|word| {
        address(word.value.as_str())
            .map_err(|(why, help)| {
                let help = word.value.literal().map_or_else(|| ADDRESS_FORMS.to_owned(), |_| help);
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
