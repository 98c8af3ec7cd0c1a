//! `docs/dns-providers.md` says of every provider what it wants. `UPDATE_GOLDEN=1` writes the table anew.

use std::fmt::Write as _;
use std::path::Path;

use waxseal_acme::{Hoster, hosters};

const ABOVE: &str = "| provider | | keys |\n|---|---|---|\n";

fn row(hoster: &Hoster) -> String {
    let keys = hoster.wants.iter().map(|want| {
        let optional = if want.optional { " (optional)" } else { "" };
        format!("`{}`{optional}: {}", want.key, want.what)
    });
    let keys = keys.collect::<Vec<_>>().join("; ");
    let one = if hoster.one_record { ". One TXT record for a name" } else { "" };
    format!("| `{}` | {} | {keys}{one} |\n", hoster.name, hoster.title)
}

#[test]
fn every_provider_is_documented_with_what_it_wants() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/dns-providers.md");
    let text = std::fs::read_to_string(&path).expect("the page");
    let (before, _) = text.split_once(ABOVE).expect("the table's header");
    let mut right = format!("{before}{ABOVE}");
    for hoster in hosters() {
        let _ = write!(right, "{}", row(hoster));
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &right).expect("written");
    }
    assert_eq!(std::fs::read_to_string(&path).expect("the page"), right);
}
