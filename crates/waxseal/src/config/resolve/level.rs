//! What may stand both in `server` and in a listener, each value checked by itself.

use std::fmt::Display;
use std::time::Duration;

use ipnet::IpNet;
use waxseal_tls::{Group, Suite, Version};

use super::number::within;
use crate::config::file;
use crate::config::problem::Problems;
use crate::config::reader::Located;
use crate::config::source::Span;
use crate::config::values::{Word, Words};
use crate::config::words::suggest;

/// Connections a listener may be allowed: more than any machine has descriptors.
const MAX_CONNECTIONS: i64 = 10_000_000;
/// Bytes a socket buffer may have.
const MAX_SOCKET_BUFFER: i64 = 1 << 30;

/// The settings of one level.
#[derive(Default)]
pub(super) struct Level {
    pub(super) max_connections: Option<Located<usize>>,
    pub(super) max_connections_per_address: Option<Located<usize>>,
    pub(super) trusted_networks: Option<Located<Vec<IpNet>>>,
    pub(super) tls: Tls,
    pub(super) socket: Socket,
}

/// `tls.*`
#[derive(Default)]
pub(super) struct Tls {
    pub(super) enable: Option<Located<bool>>,
    pub(super) implicit: Option<Located<bool>>,
    pub(super) require: Option<Located<bool>>,
    pub(super) timeout: Option<Located<Duration>>,
    pub(super) disable_protocols: Option<Located<Vec<Version>>>,
    pub(super) disable_ciphers: Option<Located<Vec<Suite>>>,
    pub(super) ignore_client_order: Option<Located<bool>>,
    pub(super) ciphers: Option<Located<Vec<Suite>>>,
    pub(super) groups: Option<Located<Vec<Group>>>,
}

/// `socket.*`
#[derive(Default)]
pub(super) struct Socket {
    pub(super) reuse_addr: Option<Located<bool>>,
    pub(super) reuse_port: Option<Located<bool>>,
    pub(super) backlog: Option<Located<u32>>,
    pub(super) ttl: Option<Located<u32>>,
    pub(super) send_buffer_size: Option<Located<usize>>,
    pub(super) recv_buffer_size: Option<Located<usize>>,
    pub(super) linger: Option<Located<Duration>>,
    pub(super) tos: Option<Located<u32>>,
    pub(super) nodelay: Option<Located<bool>>,
}

/// What a level is made of, as it is written.
pub(super) struct Parts<'f> {
    pub(super) max_connections: &'f Option<Located<i64>>,
    pub(super) max_connections_per_address: &'f Option<Located<i64>>,
    pub(super) proxy: &'f Option<Located<file::Proxy>>,
    pub(super) tls: &'f Option<Located<file::Tls>>,
    pub(super) socket: &'f Option<Located<file::Socket>>,
}

/// The parts of a table that has them all.
macro_rules! parts {
    ($table:expr) => {
        $crate::config::resolve::level::Parts {
            max_connections: &$table.max_connections,
            max_connections_per_address: &$table.max_connections_per_address,
            proxy: &$table.proxy,
            tls: &$table.tls,
            socket: &$table.socket,
        }
    };
}
pub(super) use parts;

impl Level {
    /// Checks every value by itself.
    pub(super) fn check(parts: &Parts<'_>, problems: &mut Problems) -> Self {
        let limit = 1..=MAX_CONNECTIONS;
        let networks = parts.proxy.as_ref().and_then(|proxy| proxy.value.trusted_networks.as_ref());
        Self {
            max_connections: within(parts.max_connections, "max-connections", limit.clone(), problems),
            max_connections_per_address: within(
                parts.max_connections_per_address,
                "max-connections-per-address",
                limit,
                problems,
            ),
            trusted_networks: networks.map(|written| trusted_networks(written, problems)),
            tls: parts.tls.as_ref().map_or_else(Tls::default, |tls| Tls::check(&tls.value, problems)),
            socket: parts
                .socket
                .as_ref()
                .map_or_else(Socket::default, |socket| Socket::check(&socket.value, problems)),
        }
    }
}

fn trusted_networks(written: &Located<Words>, problems: &mut Problems) -> Located<Vec<IpNet>> {
    let networks = written.value.iter().filter_map(|word| {
        let network = network(word.value.as_str());
        match &network {
            None => {
                let title = format!("`{}` is not a network", word.value);
                problems
                    .error(word.span.clone(), title)
                    .help("write 192.0.2.0/24, 2001:db8::/32 or one address");
            }
            Some(network) if network.prefix_len() == 0 => {
                let title =
                    format!("`{}` trusts everyone: any client may say that it is another", word.value);
                problems.warning(word.span.clone(), title).help("name the load balancer's addresses only");
            }
            Some(_) => {}
        }
        network
    });
    written.with(networks.collect())
}

fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse().ok().map(|address: std::net::IpAddr| address.into()))
}

impl Tls {
    fn check(written: &file::Tls, problems: &mut Problems) -> Self {
        contradictions(written, problems);
        Self {
            enable: written.enable.clone(),
            implicit: written.implicit.clone(),
            require: written.require.clone(),
            timeout: written.timeout.as_ref().and_then(|timeout| nonzero(timeout, problems)),
            disable_protocols: names(&written.disable_protocols, version, problems),
            disable_ciphers: names(&written.disable_ciphers, suite, problems),
            ignore_client_order: written.ignore_client_order.clone(),
            ciphers: names(&written.ciphers, suite, problems),
            groups: names(&written.groups, group, problems),
        }
    }
}

/// What cannot be meant, all of it written in one place.
fn contradictions(written: &file::Tls, problems: &mut Problems) {
    let is = |key: &Option<Located<bool>>, value| {
        key.as_ref().filter(|key| key.value == value).map(|key| key.key.clone())
    };
    let implicit = is(&written.implicit, true);
    let disabled = is(&written.enable, false).is_some();
    let mut contradiction = |at: Option<Span>, title: &str, help: &str| {
        if let Some(at) = at {
            problems.error(at, title).help(help);
        }
    };
    if let (Some(_), Some(require)) = (&implicit, &written.require) {
        contradiction(
            Some(require.key.clone()),
            "`require` is about STARTTLS, and with `implicit = true` there is none",
            "leave out one of the two: `implicit = true` always requires TLS",
        );
    }
    if disabled {
        let help = "leave out one of the two";
        contradiction(implicit, "`implicit = true` and `enable = false` contradict each other", help);
        contradiction(
            is(&written.require, true),
            "`require = true` and `enable = false` contradict each other",
            help,
        );
    }
}

fn nonzero(duration: &Located<Duration>, problems: &mut Problems) -> Option<Located<Duration>> {
    if duration.value.is_zero() {
        problems.error(duration.span.clone(), "`timeout` is zero: no handshake would ever be in time");
        return None;
    }
    Some(duration.clone())
}

/// The things that a list names, all or none; `find` tells what is wrong with a name, and what to write.
fn names<T: PartialEq>(
    written: &Option<Located<Words>>,
    find: fn(&Word) -> Result<T, (String, String)>,
    problems: &mut Problems,
) -> Option<Located<Vec<T>>> {
    let written = written.as_ref()?;
    let mut found = Vec::with_capacity(written.value.len());
    let mut refused = false;
    for word in &written.value {
        match find(&word.value) {
            Ok(named) if found.contains(&named) => {
                problems.warning(word.span.clone(), format!("`{}` stands twice in this list", word.value));
            }
            Ok(named) => found.push(named),
            Err((title, help)) => {
                problems.error(word.span.clone(), title).help(help);
                refused = true;
            }
        }
    }
    (!refused).then(|| written.with(found))
}

fn version(word: &Word) -> Result<Version, (String, String)> {
    let name = word.as_str();
    Version::by_name(name).ok_or_else(|| match Version::by_alias(name) {
        Some(version) => (format!("unknown protocol version `{word}`"), format!("write `{version}`")),
        None => {
            let title = format!("`{word}`: waxseal speaks TLS 1.2 and 1.3 only");
            (
                title,
                "leave it out: nothing older needs to be disabled; the names are TLSv1.2 and TLSv1.3"
                    .to_owned(),
            )
        }
    })
}

fn suite(word: &Word) -> Result<Suite, (String, String)> {
    named(word, "cipher suite", [Suite::by_name, Suite::by_alias], &Suite::ALL.map(Suite::name))
}

fn group(word: &Word) -> Result<Group, (String, String)> {
    named(word, "key exchange group", [Group::by_name, Group::by_alias], &Group::ALL.map(Group::name))
}

/// What the word names; one that is only another spelling is told what to write.
fn named<T: Display>(
    word: &Word,
    kind: &str,
    [by_name, by_alias]: [fn(&str) -> Option<T>; 2],
    names: &[&'static str],
) -> Result<T, (String, String)> {
    let text = word.as_str();
    by_name(text).ok_or_else(|| {
        let help = match by_alias(text) {
            Some(named) => format!("it is `{named}` here"),
            None => suggest(text, names.iter().copied()),
        };
        (format!("unknown {kind} `{word}`"), help)
    })
}

impl Socket {
    fn check(written: &file::Socket, problems: &mut Problems) -> Self {
        let buffer = 1024..=MAX_SOCKET_BUFFER;
        Self {
            reuse_addr: written.reuse_addr.clone(),
            reuse_port: written.reuse_port.clone(),
            backlog: within(&written.backlog, "backlog", 1..=65_535, problems),
            ttl: within(&written.ttl, "ttl", 1..=255, problems),
            send_buffer_size: within(&written.send_buffer_size, "send-buffer-size", buffer.clone(), problems),
            recv_buffer_size: within(&written.recv_buffer_size, "recv-buffer-size", buffer, problems),
            linger: written.linger.clone(),
            tos: within(&written.tos, "tos", 0..=255, problems),
            nodelay: written.nodelay.clone(),
        }
    }
}
