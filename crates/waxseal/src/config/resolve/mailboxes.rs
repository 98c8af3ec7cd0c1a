//! The mailboxes of our own.

use waxseal_tls::normal_name;

use super::server::words;
use crate::config::file;
use crate::config::macros;
use crate::config::model::{Mailboxes, Section};
use crate::config::names::refuse_hostname;
use crate::config::nearest::{Ledger, Origin};
use crate::config::problem::Problems;
use crate::config::reader::{Incomplete as _, Located};
use crate::config::source::Source;

/// Decides where the mailboxes are and whose they are.
pub(super) fn mailboxes(
    table: &Located<file::Mailboxes>,
    source: &Source,
    problems: &mut Problems,
) -> (Option<Mailboxes>, Section) {
    let written = &table.value;
    let mut ledger = Ledger::new(source);
    ledger.only("path", (Origin::Mailboxes, &words(&written.path)), None);
    let domains = written.domains.as_ref().map(|list| {
        list.with(list.value.iter().filter_map(|word| domain(word, problems)).collect::<Vec<String>>())
    });
    ledger.only("domains", (Origin::Mailboxes, &domains), Vec::new());
    if written.path.is_none() && !written.refused("path") {
        problems
            .error(table.key.clone(), "the mailboxes have no `path`")
            .help("write path = \"/var/lib/waxseal/mail\"");
    }
    if domains.as_ref().is_none_or(|list| list.value.is_empty()) && !written.refused("domains") {
        problems
            .error(table.key.clone(), "the mailboxes have no `domains`")
            .help("write domains = [\"example.org\"], the part of their addresses behind the @");
    }
    let section = Section { table: "mailboxes".to_owned(), settings: ledger.close() };
    let mailboxes = written.path.as_ref().zip(domains).map(|(path, domains)| Mailboxes {
        path: macros::locate(path.value.as_str(), source.directory()),
        domains: domains.value,
    });
    (mailboxes, section)
}

fn domain(word: &Located<crate::config::values::Word>, problems: &mut Problems) -> Option<String> {
    let name = normal_name(word.value.as_str());
    match refuse_hostname(&name) {
        Ok(()) => Some(name),
        Err(why) => {
            problems.error(word.span.clone(), format!("`{}` is no domain: {why}", word.value));
            None
        }
    }
}
