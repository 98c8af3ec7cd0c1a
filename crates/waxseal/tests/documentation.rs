//! What the documentation says is so: every provider stands in `docs/dns-providers.md` with what it wants
//! (`UPDATE_GOLDEN=1` writes the table anew), and every piece of configuration has keys and words that there are.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use waxseal::config::{self, Machine, Source};
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

/// The pages for people.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let docs = std::fs::read_dir(root.join("docs")).expect("docs").map(|page| page.expect("a page").path());
    docs.chain([root.join("README.md")]).collect()
}

#[test]
fn every_piece_of_configuration_has_keys_and_words_that_there_are() {
    let mut pieces = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).expect("a page");
        for piece in text.split("```toml\n").skip(1) {
            let piece = piece.split("```").next().expect("an end");
            let machine = Machine { hostname: Some("box".to_owned()), variable: |_| Some("word".to_owned()) };
            let source = Source::new(Path::new("/docs/waxseal.toml").to_owned(), piece);
            let report = match config::understand(source, &machine) {
                Ok(loaded) => loaded.report,
                Err(report) => report,
            };
            // A piece lacks what other pieces have, and the files that it names are not here.
            let wrong =
                ["unknown", "must be", " is no address", "is not the address", "no base64", "in one string"];
            for problem in report.problems.iter() {
                let is_wrong = wrong.iter().any(|word| problem.title.contains(word));
                assert!(!is_wrong, "{}: {}\n{piece}", page.display(), problem.title);
            }
            pieces += 1;
        }
    }
    assert!(pieces >= 7, "only {pieces}");
}
