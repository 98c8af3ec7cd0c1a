//! Rows under a header: aligned for people, objects for programs.

use comfy_table::{ContentArrangement, Table as Rendering, presets};
use serde_json::{Map, Value};

/// Bytes above which a list takes a line for each of its elements.
const WIDE_CELL: usize = 50;

/// Rows under a header.
pub(super) struct Table {
    /// The names of the columns, for people; in lower case for programs.
    pub(super) header: &'static [&'static str],
    pub(super) rows: Vec<Vec<Value>>,
}

impl Table {
    /// The rows as objects.
    pub(super) fn records(self) -> Vec<Map<String, Value>> {
        let keys = || self.header.iter().map(|name| name.to_lowercase().replace(' ', "-"));
        self.rows.into_iter().map(|row| keys().zip(row).collect()).collect()
    }

    /// The rows side by side.
    pub(super) fn render(&self) -> String {
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
