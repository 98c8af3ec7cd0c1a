//! Where clients knock.

use std::sync::Arc;

use waxseal_proto::Protocol;
use waxseal_server::{Forwarding, LegSecurity, SocketOptions};

use super::bind::{self, Bind};
use super::choice::choose;
use super::level::{Level, Socket, parts};
use super::tls;
use crate::config::file;
use crate::config::model::{self, Behind, Upstream};
use crate::config::nearest::{Ledger, Origin};
use crate::config::problem::Problems;
use crate::config::reader::{Incomplete as _, Located};
use crate::config::source::Source;
use crate::config::values::Word;
use crate::config::words::{one_of, suggest};

/// Connections of one listener where nothing is written.
const MAX_CONNECTIONS: usize = 8192;

/// Names of ports, which say more than a protocol.
const STRANGERS: [(&str, &str); 7] = [
    ("smtps", "`submission`, with tls.implicit = true"),
    ("submissions", "`submission`, with tls.implicit = true"),
    ("imaps", "`imap`, with tls.implicit = true"),
    ("pop3s", "`pop3`, with tls.implicit = true"),
    ("https", "`http`, with tls.implicit = true"),
    ("sieve", "`managesieve`"),
    ("pop", "`pop3`"),
];

/// A listener as far as it is right; what others must know of it even so.
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) binds: Vec<Bind>,
    /// Who is behind it, if there is such a service.
    pub(super) behind: Option<Behind>,
    pub(super) listener: Option<model::Listener>,
}

/// What is the same for every listener.
pub(super) struct Surroundings<'s> {
    pub(super) source: &'s Source,
    pub(super) server: &'s Level,
    pub(super) upstreams: &'s [(String, Option<Upstream>)],
    pub(super) own: Own,
    /// Whether there are challenges that `http` listeners answer, so that they need no service.
    pub(super) challenges: bool,
}

/// Whether there are mailboxes of our own, which serve listeners that name no upstream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    Mailboxes,
    Nothing,
}

/// Decides every setting of one listener.
pub(super) fn listener(
    name: &Located<String>,
    written: &Located<file::Listener>,
    around: &Surroundings<'_>,
    problems: &mut Problems,
) -> Draft {
    let table = &written.value;
    let mut ledger = Ledger::new(around.source);
    let own = Level::check(&parts!(table), problems);
    let protocol = protocol(name, table, problems);
    let shown = protocol.as_ref().map(|protocol| protocol.with(protocol.value.as_str()));
    ledger.only("protocol", (Origin::Listener, &shown), "");
    let binds = binds(name, table, problems);
    let shown = table.bind.as_ref().map(|list| list.with(binds.iter().map(|bind| bind.address).collect()));
    ledger.only("bind", (Origin::Listener, &shown), Vec::new());
    // An `http` listener may be there to answer challenges alone.
    let is_http = protocol.as_ref().is_some_and(|protocol| protocol.value == Protocol::Http);
    let alone = around.challenges && is_http && table.upstream.is_none() && !table.refused("upstream");
    let behind = if alone { Some(Behind::Nobody) } else { service(name, table, around, problems) };
    let shown = table.upstream.as_ref().map(|word| word.with(Some(word.value.as_str().to_owned())));
    ledger.only("upstream", (Origin::Listener, &shown), None);
    let listener = protocol.and_then(|protocol| {
        let behind = behind.clone()?;
        match &table.upstream {
            Some(upstream) => suits(protocol.value, upstream, around.upstreams, problems),
            None if alone => {}
            None => spoken_by_mailboxes(name, &protocol, problems),
        }
        let header = name.span.clone();
        let places =
            tls::Places { protocol: protocol.value, listener: &own.tls, server: &around.server.tls, header };
        let (security, timeout) = tls::security(&places, &mut ledger, problems);
        let limits = limits(&own, around.server, &mut ledger);
        Some(model::Listener {
            name: Arc::from(name.value.as_str()),
            protocol: protocol.value,
            bind: binds.iter().map(|bind| bind.address).collect(),
            socket: socket(&own.socket, &around.server.socket, &mut ledger),
            max_connections: limits.0,
            max_connections_per_address: limits.1,
            trusted_networks: ledger
                .nearest(
                    "proxy.trusted-networks",
                    &[
                        (Origin::Listener, &own.trusted_networks),
                        (Origin::Server, &around.server.trusted_networks),
                    ],
                    Vec::new(),
                )
                .value,
            security: security?,
            timeout,
            behind,
            settings: ledger.close(),
            places: model::Places {
                header: name.span.clone(),
                bind: binds.iter().map(|bind| bind.span.clone()).collect(),
            },
        })
    });
    Draft { name: name.value.clone(), binds, behind, listener }
}

fn protocol(
    name: &Located<String>,
    table: &file::Listener,
    problems: &mut Problems,
) -> Option<Located<Protocol>> {
    let choices = Protocol::ALL.map(|protocol| (protocol.as_str(), protocol));
    if table.protocol.is_none() && !table.refused("protocol") {
        problems
            .error(name.span.clone(), format!("listener `{}` has no `protocol`", name.value))
            .help(one_of(choices.map(|(word, _)| word)));
    }
    choose(&table.protocol, "protocol", &choices, &STRANGERS, problems)
}

fn binds(name: &Located<String>, table: &file::Listener, problems: &mut Problems) -> Vec<Bind> {
    match &table.bind {
        Some(list) => bind::addresses(list, problems),
        None => {
            if !table.refused("bind") {
                problems
                    .error(name.span.clone(), format!("listener `{}` has no `bind`", name.value))
                    .help("write bind = \"[::]:25\", or a list of addresses with ports");
            }
            Vec::new()
        }
    }
}

/// The service behind: the upstream that is named, else the mailboxes.
fn service(
    name: &Located<String>,
    table: &file::Listener,
    around: &Surroundings<'_>,
    problems: &mut Problems,
) -> Option<Behind> {
    let upstreams = around.upstreams;
    let names = || upstreams.iter().map(|(name, _)| name.as_str());
    let Some(word) = &table.upstream else {
        if table.refused("upstream") {
            return None;
        }
        if around.own == Own::Mailboxes {
            return Some(Behind::Mailboxes);
        }
        let title = format!("listener `{}` has no `upstream`: no service is behind it", name.value);
        let problem = problems.error(name.span.clone(), title);
        problem.help(match upstreams {
            [] => "add [upstream.NAME] with the address of a mail server, or [mailboxes] for waxseal's own"
                .to_owned(),
            _ => one_of(names()),
        });
        return None;
    };
    if names().all(|known| known != word.value.as_str()) {
        let problem = problems.error(word.span.clone(), format!("there is no upstream `{}`", word.value));
        problem.help(match upstreams {
            [] => format!("add [upstream.{}] with the address of a mail server", word.value),
            _ => suggest(word.value.as_str(), names()),
        });
        return None;
    }
    Some(Behind::Upstream(word.value.as_str().into()))
}

/// The mailboxes speak what a small mail server needs, and neither ManageSieve nor HTTP.
fn spoken_by_mailboxes(name: &Located<String>, protocol: &Located<Protocol>, problems: &mut Problems) {
    if matches!(protocol.value, Protocol::ManageSieve | Protocol::Http) {
        let title = format!(
            "listener `{}` has no `upstream`, and the mailboxes do not speak {}",
            name.value, protocol.value
        );
        problems.error(protocol.span.clone(), title).help("name an upstream that does");
    }
}

/// Whether the service's leg makes sense in the listener's protocol.
fn suits(
    protocol: Protocol,
    upstream: &Located<Word>,
    upstreams: &[(String, Option<Upstream>)],
    problems: &mut Problems,
) {
    if protocol != Protocol::Http {
        return;
    }
    let found = upstreams.iter().find(|(name, _)| name == upstream.value.as_str());
    let Some((name, Some(service))) = found else { return };
    if service.forwarding == Forwarding::Xclient {
        problems
            .error(
                upstream.span.clone(),
                format!("upstream `{name}` is told of clients by xclient, which HTTP has not"),
            )
            .help("give this listener an upstream of its own, with proxy-v2 or none");
    }
    if matches!(service.tls.mode, LegSecurity::StartTls | LegSecurity::Mirror) {
        problems
            .error(
                upstream.span.clone(),
                format!("upstream `{name}` is asked for STARTTLS, which HTTP has not"),
            )
            .help("give this listener an upstream of its own, with tls.mode implicit or none");
    }
}

/// `max-connections` and `max-connections-per-address`, which is no tighter where nothing is written.
fn limits(own: &Level, server: &Level, ledger: &mut Ledger<'_>) -> (usize, usize) {
    let all = [(Origin::Listener, &own.max_connections), (Origin::Server, &server.max_connections)];
    let all = ledger.nearest("max-connections", &all, MAX_CONNECTIONS).value;
    let each = [
        (Origin::Listener, &own.max_connections_per_address),
        (Origin::Server, &server.max_connections_per_address),
    ];
    (all, ledger.nearest("max-connections-per-address", &each, all).value)
}

fn socket(own: &Socket, server: &Socket, ledger: &mut Ledger<'_>) -> SocketOptions {
    let built_in = SocketOptions::default();
    macro_rules! nearest {
        ($key:literal, $field:ident) => {
            ledger
                .nearest(
                    $key,
                    &[(Origin::Listener, &own.$field), (Origin::Server, &server.$field)],
                    built_in.$field,
                )
                .value
        };
    }
    macro_rules! nearest_or_system {
        ($key:literal, $field:ident) => {{
            let [own, server] = [&own.$field, &server.$field]
                .map(|place| place.as_ref().map(|located| located.with(Some(located.value))));
            ledger
                .nearest($key, &[(Origin::Listener, &own), (Origin::Server, &server)], built_in.$field)
                .value
        }};
    }
    SocketOptions {
        reuse_addr: nearest!("socket.reuse-addr", reuse_addr),
        reuse_port: nearest!("socket.reuse-port", reuse_port),
        backlog: nearest!("socket.backlog", backlog),
        ttl: nearest_or_system!("socket.ttl", ttl),
        send_buffer_size: nearest_or_system!("socket.send-buffer-size", send_buffer_size),
        recv_buffer_size: nearest_or_system!("socket.recv-buffer-size", recv_buffer_size),
        linger: nearest_or_system!("socket.linger", linger),
        tos: nearest_or_system!("socket.tos", tos),
        nodelay: nearest!("socket.nodelay", nodelay),
    }
}
