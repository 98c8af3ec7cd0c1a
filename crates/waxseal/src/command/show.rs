//! `waxseal show`: the settings in force, each with where it comes from.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::config::{InForce, Model};

/// Every table of the model with its settings: TOML with the origins as comments, or JSON.
pub fn show(model: &Model, as_json: bool) -> String {
    let listeners = model.listeners.iter().map(|listener| {
        (format!("server.listener.{}", quoted(&listener.name)), listener.settings.as_slice())
    });
    let others = model.settings.iter().map(|section| {
        let table = match section.table.split_once('.') {
            Some((table, name)) => format!("{table}.{}", quoted(name)),
            None => section.table.clone(),
        };
        (table, section.settings.as_slice())
    });
    let tables: Vec<_> = others.chain(listeners).collect();
    match as_json {
        true => {
            let object: Map<_, _> =
                tables.into_iter().map(|(table, settings)| (table, record(settings))).collect();
            format!("{}\n", Value::from(object))
        }
        false => tables.iter().map(|(table, settings)| text(table, settings)).collect::<Vec<_>>().join("\n"),
    }
}

/// A name as it stands in a TOML key.
fn quoted(name: &str) -> String {
    let bare = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if bare { name.to_owned() } else { Value::from(name).to_string() }
}

fn record(settings: &[InForce]) -> Value {
    settings
        .iter()
        .map(|setting| {
            let mut record = json!({ "value": setting.value, "origin": setting.origin });
            if let (Some(line), Some(record)) = (setting.line, record.as_object_mut()) {
                record.insert("line".to_owned(), line.into());
            }
            (setting.key.to_owned(), record)
        })
        .collect()
}

fn text(table: &str, settings: &[InForce]) -> String {
    let lines: Vec<_> = settings.iter().map(|setting| (line(setting), origin(setting))).collect();
    let width =
        lines.iter().map(|(line, _)| line.chars().count()).filter(|width| *width <= 60).max().unwrap_or(0);
    let mut text = format!("[{table}]\n");
    for (line, origin) in lines {
        let _ = writeln!(text, "{line:width$}  # {origin}");
    }
    text
}

/// `key = value`; what is not set is a comment, as TOML has no word for it.
fn line(setting: &InForce) -> String {
    match &setting.value {
        Value::Null => format!("# {} is not set", setting.key),
        value => format!("{} = {}", setting.key, toml(value)),
    }
}

/// A value in TOML, which JSON is but for the spaces in lists.
fn toml(value: &Value) -> String {
    match value {
        Value::Array(values) => format!("[{}]", values.iter().map(toml).collect::<Vec<_>>().join(", ")),
        value => value.to_string(),
    }
}

fn origin(setting: &InForce) -> String {
    match setting.line {
        Some(line) => format!("{}, line {line}", setting.origin.as_str()),
        None => setting.origin.as_str().to_owned(),
    }
}
