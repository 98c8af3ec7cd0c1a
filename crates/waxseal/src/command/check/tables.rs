//! What a configuration comes to, as tables for people and as records for programs.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use waxseal_tls::{Group, Policy, Suite, Version};

use crate::command::table::Table;
use crate::config::{Loaded, UpstreamTls};

const SECONDS_A_DAY: i64 = 86_400;

/// Every table, for people.
pub(super) fn all(loaded: &Loaded) -> String {
    let tables = [listeners(loaded), tls(loaded), certificates(loaded), acme(loaded)];
    let tables = tables.iter().filter(|table| !table.rows.is_empty());
    tables.map(|table| table.render() + "\n").collect::<Vec<_>>().join("\n")
}

/// Where clients knock and who is behind.
pub(super) fn listeners(loaded: &Loaded) -> Table {
    let rows = loaded.model.listeners.iter().map(|listener| {
        let upstream = loaded.model.upstream(&listener.behind);
        vec![
            Value::from(&*listener.name),
            listener.protocol.as_str().into(),
            listener.bind.iter().map(ToString::to_string).collect(),
            listener.security.as_str().into(),
            Value::from(listener.behind.as_str()),
            upstream.map(|upstream| upstream.forwarding.as_str()).into(),
            upstream.map(|upstream| UpstreamTls::word(upstream.tls.mode)).into(),
        ]
    });
    Table {
        header: &["listener", "protocol", "bind", "security", "upstream", "forwarding", "leg behind"],
        rows: rows.collect(),
    }
}

/// The TLS settings that each listener ends up with.
pub(super) fn tls(loaded: &Loaded) -> Table {
    let rows = loaded.model.listeners.iter().filter_map(|listener| {
        let policy = listener.security.policy()?;
        Some(vec![
            Value::from(&*listener.name),
            policy.versions().iter().copied().map(Version::name).collect(),
            suites(policy),
            groups(policy),
            if policy.ignore_client_order() { "server's" } else { "client's" }.into(),
            humantime::format_duration(listener.timeout).to_string().into(),
        ])
    });
    Table { header: &["listener", "versions", "suites", "groups", "order", "timeout"], rows: rows.collect() }
}

/// The suites by name, unless they are what they always are.
fn suites(policy: &Policy) -> Value {
    match policy.suites() == Suite::ALL {
        true => format!("all {}", Suite::ALL.len()).into(),
        false => policy.suites().iter().copied().map(Suite::name).collect(),
    }
}

fn groups(policy: &Policy) -> Value {
    policy.groups().iter().copied().map(Group::name).collect()
}

/// Who we are, and for how long.
pub(super) fn certificates(loaded: &Loaded) -> Table {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs().cast_signed());
    let rows = loaded.identities.iter().map(|entry| {
        let identity = &entry.identity;
        vec![
            Value::from(entry.id.as_str()),
            identity.names().to_vec().into(),
            identity.key_kind().to_string().into(),
            identity.issuer().into(),
            (identity.not_after() - now).div_euclid(SECONDS_A_DAY).into(),
            entry.default.into(),
        ]
    });
    Table { header: &["certificate", "names", "key", "issuer", "days left", "default"], rows: rows.collect() }
}

/// What is to be obtained, from whom and how.
pub(super) fn acme(loaded: &Loaded) -> Table {
    let rows = loaded.model.acme.iter().map(|acme| {
        let settings = &acme.settings;
        vec![
            Value::from(&*settings.id),
            settings.name_texts().into(),
            settings.key_types.iter().map(|kind| kind.as_str()).collect(),
            settings.challenge.as_str().into(),
            settings.directory.as_str().into(),
            acme.cache.display().to_string().into(),
        ]
    });
    Table { header: &["acme", "names", "key types", "challenge", "directory", "cache"], rows: rows.collect() }
}
