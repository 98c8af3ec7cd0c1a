//! Configurations and what is said of them: `golden/NAME.toml` and `golden/NAME.expected`.
//!
//! The expected text is the problems as an operator sees them. What may be served is followed by a line that says so, or,
//! where the configuration begins with `# show`, by its normal form: the settings in force as `waxseal show` prints them.
//! `UPDATE_GOLDEN=1` writes what is said now; read the difference.

use std::fs;
use std::path::{Path, PathBuf};

use waxseal::command::show;
use waxseal::config::{self, Loaded, Machine, Report, Source};

mod pki;

fn variable(name: &str) -> Option<String> {
    match name {
        "HOST" => Some("mail.example.org".to_owned()),
        "LIMIT" => Some("100".to_owned()),
        "SECRET" => Some("hunter2".to_owned()),
        _ => None,
    }
}

fn machine() -> Machine {
    Machine { hostname: Some("box".to_owned()), variable }
}

/// What is said of a configuration in a directory that has certificates in it.
fn said(directory: &Path, file: &Path) -> String {
    let name = file.file_name().unwrap();
    fs::copy(file, directory.join(name)).unwrap();
    let text = match config::load(&directory.join(name), &machine()) {
        Ok(Loaded { model, report, .. }) => {
            let shown = fs::read_to_string(file).unwrap().starts_with("# show");
            format!(
                "{report}{}",
                if shown { show::show(&model, false) } else { "may be served\n".to_owned() }
            )
        }
        Err(report) => refused(&report),
    };
    let text = text.replace(&format!("{}/", directory.display()), "");
    // Columns depend on how long the directory's name is.
    text.split_inclusive('\n').map(single_gap).collect()
}

/// A line of `show` with two spaces before its comment.
fn single_gap(line: &str) -> String {
    match line.rsplit_once("  # ") {
        Some((setting, origin)) => format!("{}  # {origin}", setting.trim_end()),
        None => line.to_owned(),
    }
}

fn refused(report: &Report) -> String {
    assert!(report.problems.any_error(), "refused without an error");
    report.to_string()
}

fn cases(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    cases.sort();
    cases
}

#[test]
fn every_configuration_is_judged_as_expected() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let directory = tempfile::tempdir().unwrap();
    pki::write(directory.path());
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let cases = cases(&golden);
    assert!(cases.len() >= 45, "only {} cases", cases.len());
    let mut differing = Vec::new();
    for case in cases {
        let said = said(directory.path(), &case);
        let expected = case.with_extension("expected");
        if update {
            fs::write(&expected, &said).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != said {
            differing.push(format!("==== {}\n{said}", case.display()));
        }
    }
    assert!(differing.is_empty(), "said otherwise than expected:\n{}", differing.join("\n"));
}

#[test]
fn a_secret_from_a_macro_is_never_printed() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let using: Vec<_> = cases(&golden)
        .into_iter()
        .filter(|case| fs::read_to_string(case).unwrap().contains("%{env:SECRET}%"))
        .collect();
    assert!(using.len() >= 2, "no case uses the secret");
    for case in using {
        let expected = fs::read_to_string(case.with_extension("expected")).unwrap();
        assert!(!expected.contains("hunter2"), "{}", case.display());
    }
}

#[test]
fn a_configuration_cut_anywhere_is_judged_and_told_of() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let directory = tempfile::tempdir().unwrap();
    pki::write(directory.path());
    for case in cases(&golden) {
        let text = fs::read_to_string(&case).unwrap();
        for (cut, _) in text.char_indices().step_by(5) {
            let source = Source::new(directory.path().join("cut.toml"), &text[..cut]);
            if let Err(report) = config::understand(source, &machine()) {
                let records = report.records();
                assert!(!records.is_empty(), "{}: {cut}: refused in silence", case.display());
                assert!(report.to_string().contains("error: "), "{}: {cut}: {report}", case.display());
            }
        }
    }
}

#[test]
fn every_example_may_be_served_once_its_certificates_are_there() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let directory = tempfile::tempdir().unwrap();
    pki::write(directory.path());
    let cases = cases(&examples);
    assert!(cases.len() >= 2, "only {} examples", cases.len());
    for example in cases {
        let text = fs::read_to_string(&example).unwrap();
        let text = text
            .replace("/etc/letsencrypt/live/mail.example.org/fullchain.pem", "mail.pem")
            .replace("/etc/letsencrypt/live/mail.example.org/privkey.pem", "mail.key");
        assert!(!text.contains("/etc/letsencrypt/live"), "{}: another path", example.display());
        // The user of an installed package, whom this machine need not know.
        let text = text.replace("\"waxseal\"", "\"root\"");
        let path = directory.path().join(example.file_name().unwrap());
        fs::write(&path, text).unwrap();
        match config::load(&path, &machine()) {
            Ok(loaded) => assert!(loaded.report.is_empty(), "{}", loaded.report),
            Err(report) => panic!("{report}"),
        }
    }
}
