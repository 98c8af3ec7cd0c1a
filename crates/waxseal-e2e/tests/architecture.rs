//! The rooms, the arrows between them, and what may not come in from outside, read from `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use waxseal_e2e::run;

/// Which room may name which. `waxseal` may name all; this crate none.
const ARROWS: [(&str, &[&str]); 6] = [
    ("waxseal-proto", &[]),
    ("waxseal-storage", &[]),
    ("waxseal-tls", &["waxseal-proto"]),
    ("waxseal-acme", &["waxseal-storage", "waxseal-tls"]),
    ("waxseal-server", &["waxseal-proto", "waxseal-tls"]),
    ("waxseal-mailboxes", &["waxseal-proto", "waxseal-tls", "waxseal-server"]),
];
const PROGRAM: &str = "waxseal";
const OUTSIDE: &str = "waxseal-e2e";

/// Crates that one room alone may name (in what is shipped; its tests may take others).
const KEPT: [(&str, &[&str]); 5] = [
    // HTTPS towards a CA needs rustls' own settings; nothing of it shows in the room's face.
    ("rustls", &["waxseal-tls", "waxseal-acme"]),
    ("rustls-native-certs", &["waxseal-tls", "waxseal-acme"]),
    ("x509-parser", &["waxseal-tls"]),
    // The configuration's, and the file of accounts, which is the mailboxes' own.
    ("toml", &["waxseal-mailboxes", PROGRAM]),
    (
        "tokio",
        &["waxseal-storage", "waxseal-tls", "waxseal-acme", "waxseal-server", "waxseal-mailboxes", PROGRAM],
    ),
];

/// Each would be a second stack of its kind.
const BANNED: [&str; 4] = ["ring", "openssl", "openssl-sys", "native-tls"];

const LICENCES: [&str; 10] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "ISC",
    "BSD-3-Clause",
    "Zlib",
    "CC0-1.0",
    "Unicode-3.0",
    "CDLA-Permissive-2.0",
];

struct Workspace(Value);

fn cargo(arguments: &[&str]) -> String {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    run(&cargo, &[arguments, &["--locked", "--manifest-path", manifest]].concat()).ok().out
}

impl Workspace {
    fn read() -> Self {
        let said = cargo(&["metadata", "--format-version=1", "--no-deps"]);
        Self(serde_json::from_str(&said).expect("JSON"))
    }

    fn packages(&self) -> impl Iterator<Item = &Value> {
        list(&self.0["packages"])
    }

    fn members(&self) -> BTreeMap<&str, &Value> {
        let ids: BTreeSet<&str> = list(&self.0["workspace_members"]).map(text).collect();
        let members = self.packages().filter(|package| ids.contains(text(&package["id"])));
        members.map(|package| (text(&package["name"]), package)).collect()
    }
}

/// A crate that the program is built from, on this platform and with its default features.
struct Shipped {
    name: String,
    version: String,
    licence: String,
}

/// Asked of `cargo tree`, for the resolution in `cargo metadata` names crates that no feature calls for.
fn shipped() -> Vec<Shipped> {
    let arguments = ["tree", "--package", PROGRAM, "--edges", "normal,build", "--prefix", "none"];
    let said = cargo(&[&arguments[..], &["--no-dedupe", "--format", "{p}|{l}"]].concat());
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    let crates = lines.into_iter().map(|line| {
        let (package, licence) = line.split_once('|').expect("the format asked for");
        let mut words = package.split(' ').map(str::to_owned);
        let (name, version) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        Shipped { name, version, licence: licence.to_owned() }
    });
    crates.collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().expect("a list").iter()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

#[test]
fn rooms_name_only_the_rooms_they_may_know() {
    let workspace = Workspace::read();
    let members = workspace.members();
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let mut wrong = Vec::new();
    for (name, package) in &members {
        for dependency in list(&package["dependencies"]) {
            let on = text(&dependency["name"]);
            let fine = match *name {
                _ if !members.contains_key(on) => true,
                PROGRAM => on != OUTSIDE,
                OUTSIDE => false,
                room => allowed.get(room).is_some_and(|rooms| rooms.contains(&on)),
            };
            if !fine {
                wrong.push(format!("{name} -> {on}"));
            }
        }
        if ![PROGRAM, OUTSIDE].contains(name) && !allowed.contains_key(name) {
            wrong.push(format!("{name} is no room known here"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_belongs_to_one_room_is_named_by_no_other() {
    let workspace = Workspace::read();
    let kept: BTreeMap<&str, &[&str]> = KEPT.into_iter().collect();
    let mut wrong = Vec::new();
    for (name, package) in workspace.members() {
        for dependency in list(&package["dependencies"]).filter(|dep| dep["kind"].as_str() != Some("dev")) {
            let on = text(&dependency["name"]);
            let fine = name == OUTSIDE || kept.get(on).is_none_or(|rooms| rooms.contains(&name));
            if !fine {
                wrong.push(format!("{name} -> {on}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_is_shipped_holds_one_tls_stack() {
    let shipped = shipped();
    let names: Vec<&str> = shipped.iter().map(|it| it.name.as_str()).collect();
    assert!(names.contains(&"rustls") && names.contains(&"aws-lc-rs"), "{names:?}");
    let banned: Vec<_> = names.iter().filter(|name| BANNED.contains(name)).collect();
    assert!(banned.is_empty(), "{banned:?}");
    assert_eq!(names.iter().filter(|name| **name == "rustls").count(), 1, "one version of rustls");
}

#[test]
fn every_crate_shipped_has_a_licence_that_is_allowed() {
    let shipped = shipped().into_iter().filter(|it| !allowed(&it.licence));
    let wrong: Vec<_> = shipped.map(|it| format!("{} {}: {}", it.name, it.version, it.licence)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn licence_expressions_are_read_as_spdx_means_them() {
    for fine in
        ["MIT", "MIT/GPL-3.0", "GPL-3.0 OR MIT", "ISC AND (Apache-2.0 OR GPL-3.0)", "(MIT OR X) AND ISC"]
    {
        assert!(allowed(fine), "{fine}");
    }
    for wrong in ["GPL-3.0", "none", "MIT AND GPL-3.0", "ISC AND (X OR Y)", "MIT AND X OR Y", "OpenSSL"] {
        assert!(!allowed(wrong), "{wrong}");
    }
}

#[test]
fn no_test_crate_is_published_and_all_rooms_forbid_unsafe_code() {
    let workspace = Workspace::read();
    let members = workspace.members();
    assert_eq!(members[OUTSIDE]["publish"], serde_json::json!([]));
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).expect("workspace manifest");
    assert!(manifest.contains("unsafe_code = \"forbid\""));
    for (name, package) in members {
        let own = std::fs::read_to_string(text(&package["manifest_path"])).expect("manifest");
        assert!(own.contains("[lints]\nworkspace = true"), "{name} does not take the workspace's lints");
    }
}

/// SPDX expressions as far as crates use them: AND binds closer than OR, `/` is an old OR.
fn allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    any_of(&words, &mut at)
}

fn any_of(words: &[&str], at: &mut usize) -> bool {
    let mut fine = all_of(words, at);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        fine |= all_of(words, at);
    }
    fine
}

fn all_of(words: &[&str], at: &mut usize) -> bool {
    let mut fine = licence(words, at);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        fine &= licence(words, at);
    }
    fine
}

fn licence(words: &[&str], at: &mut usize) -> bool {
    let word = words.get(*at).copied().unwrap_or_default();
    *at += 1;
    if word == "(" {
        let fine = any_of(words, at);
        *at += 1; // the closing one
        return fine;
    }
    if words.get(*at) == Some(&"WITH") {
        let whole = format!("{word} WITH {}", words.get(*at + 1).unwrap_or(&""));
        *at += 2;
        return LICENCES.contains(&whole.as_str());
    }
    LICENCES.contains(&word)
}
