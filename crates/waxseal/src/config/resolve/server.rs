//! What stands once: the name, whom to become, resolvers, logging.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use nix::unistd::{Group, User};
use waxseal_tls::normal_name;

use super::choice::choose;
use crate::config::Machine;
use crate::config::file;
use crate::config::model::{Format, Level, Log, RunAs, Section};
use crate::config::names::refuse_hostname;
use crate::config::nearest::{Ledger, Origin};
use crate::config::problem::Problems;
use crate::config::reader::Located;
use crate::config::source::Source;
use crate::config::values::{Word, Words};

/// The port of DNS servers that are named without one.
const DNS_PORT: u16 = 53;

/// What the whole server has once.
pub(super) struct Once {
    /// `None` if it is no host name.
    pub(super) hostname: Option<Arc<str>>,
    pub(super) run_as: Option<RunAs>,
    pub(super) resolver: Vec<SocketAddr>,
    pub(super) settings: Section,
}

/// The settings of `server` that no listener overrides.
pub(super) fn once(
    server: &file::Server,
    machine: &Machine,
    source: &Source,
    problems: &mut Problems,
) -> Once {
    let mut ledger = Ledger::new(source);
    let hostname = hostname(&server.hostname, machine, &mut ledger, problems);
    let empty = file::RunAs::default();
    let written = server.run_as.as_ref().map_or(&empty, |run_as| &run_as.value);
    ledger.only("run-as.user", (Origin::Server, &words(&written.user)), None);
    ledger.only("run-as.group", (Origin::Server, &words(&written.group)), None);
    let resolver = server.resolver.as_ref().map(|written| resolvers(written, problems));
    let shown = resolver.as_ref().map(|resolver| resolver.with(Some(resolver.value.clone())));
    ledger.only("resolver", (Origin::Server, &shown), None);
    Once {
        hostname,
        run_as: run_as(written, problems),
        resolver: resolver.map(|resolver| resolver.value).unwrap_or_default(),
        settings: Section { table: "server".to_owned(), settings: ledger.close() },
    }
}

/// A word as it is shown.
pub(super) fn words(written: &Option<Located<Word>>) -> Option<Located<Option<String>>> {
    written.as_ref().map(|word| word.with(Some(word.value.as_str().to_owned())))
}

fn hostname(
    written: &Option<Located<Word>>,
    machine: &Machine,
    ledger: &mut Ledger<'_>,
    problems: &mut Problems,
) -> Option<Arc<str>> {
    let system = machine.hostname.clone().unwrap_or_default();
    let named = written.as_ref().map(|word| word.with(word.value.as_str().to_owned()));
    let name = ledger.only("hostname", (Origin::Server, &named), system);
    if let Err(why) = refuse_hostname(&name) {
        match written {
            Some(word) => {
                problems.error(word.span.clone(), format!("`{}` is no host name: {why}", word.value))
            }
            None => problems
                .error(None, format!("the system's name `{}` is no host name: {why}", name.escape_debug()))
                .help("set `server.hostname`"),
        };
        return None;
    }
    Some(normal_name(&name).into())
}

fn run_as(written: &file::RunAs, problems: &mut Problems) -> Option<RunAs> {
    let user = written.user.as_ref().and_then(|word| {
        let user = User::from_name(word.value.as_str()).ok().flatten();
        if user.is_none() {
            let title = format!("there is no user `{}` on this system", word.value);
            problems.error(word.span.clone(), title).help(format!("run: useradd --system {}", word.value));
        }
        user
    });
    let group = written.group.as_ref().and_then(|word| {
        let group = Group::from_name(word.value.as_str()).ok().flatten();
        if group.is_none() {
            let title = format!("there is no group `{}` on this system", word.value);
            problems.error(word.span.clone(), title).help(format!("run: groupadd --system {}", word.value));
        }
        group
    });
    let group = group.map(|group| group.gid).or_else(|| user.as_ref().map(|user| user.gid))?;
    Some(RunAs { user: user.map(|user| (user.name, user.uid)), group })
}

fn resolvers(written: &Located<Words>, problems: &mut Problems) -> Located<Vec<SocketAddr>> {
    let servers = written.value.iter().filter_map(|word| {
        let text = word.value.as_str();
        let server = text.parse().ok();
        let server = server.or_else(|| text.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, DNS_PORT)));
        if server.is_none() {
            let title = format!("`{}` is not the address of a DNS server", word.value);
            problems.error(word.span.clone(), title).help("write 192.0.2.53:53 or [2001:db8::53]:53");
        }
        server
    });
    written.with(servers.collect())
}

/// What is logged, and how.
pub(super) fn log(written: Option<&file::Log>, source: &Source, problems: &mut Problems) -> (Log, Section) {
    let empty = file::Log::default();
    let written = written.unwrap_or(&empty);
    let mut ledger = Ledger::new(source);
    let level = choose(&written.level, "log level", &Level::ALL, &[], problems);
    let format = choose(&written.format, "log format", &Format::ALL, &[], problems);
    ledger.only("level", (Origin::Log, &words(&written.level)), Some("info".to_owned()));
    ledger.only("format", (Origin::Log, &words(&written.format)), Some("text".to_owned()));
    let log = Log {
        level: level.map_or(Level::Info, |level| level.value),
        format: format.map_or(Format::Text, |format| format.value),
    };
    (log, Section { table: "log".to_owned(), settings: ledger.close() })
}
