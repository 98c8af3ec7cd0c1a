//! What a configuration comes to, as tables for people and as records for programs.

use std::time::{SystemTime, UNIX_EPOCH};

use comfy_table::{ContentArrangement, Table as Rendering, presets};
use serde_json::{Map, Value};
use waxseal_tls::{Group, Policy, Suite, Version};

use crate::config::{Listener, Loaded, Security, UpstreamTls};

/// Bytes above which a list takes a line for each of its elements.
const WIDE_CELL: usize = 50;
const SECONDS_A_DAY: i64 = 86_400;

/// Rows under a header.
pub(super) struct Table {
    /// The names of the columns, for people; in lower case for programs.
    header: &'static [&'static str],
    rows: Vec<Vec<Value>>,
}

impl Table {
    /// The rows as objects.
    pub(super) fn records(self) -> Vec<Map<String, Value>> {
        let keys = || self.header.iter().map(|name| name.to_lowercase().replace(' ', "-"));
        self.rows.into_iter().map(|row| keys().zip(row).collect()).collect()
    }

    /// The rows side by side.
    fn render(&self) -> String {
        let mut table = Rendering::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(self.header.iter().map(|name| name.to_uppercase()));
        for row in &self.rows {
            table.add_row(row.iter().map(cell));
        }
        table.trim_fmt()
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(value) => if *value { "yes" } else { "no" }.to_owned(),
        Value::Array(values) => {
            let cells: Vec<_> = values.iter().map(cell).collect();
            let line = cells.join(", ");
            if line.len() > WIDE_CELL { cells.join("\n") } else { line }
        }
        value => value.to_string(),
    }
}

/// Every table, for people.
pub(super) fn all(loaded: &Loaded) -> String {
    let tables = [listeners(loaded), tls(loaded), certificates(loaded)];
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
            security(listener).into(),
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

fn security(listener: &Listener) -> &'static str {
    match &listener.security {
        Security::Clear => "cleartext",
        Security::Implicit(_) => "implicit TLS",
        Security::StartTls { require: true, .. } => "STARTTLS required",
        Security::StartTls { require: false, .. } => "STARTTLS offered",
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
