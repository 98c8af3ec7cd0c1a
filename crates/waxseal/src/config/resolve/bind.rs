//! Where listeners listen, and that no two of them listen in the same place.

use std::net::{IpAddr, SocketAddr};

use crate::config::problem::Problems;
use crate::config::reader::Located;
use crate::config::source::Span;
use crate::config::values::{Word, Words};
use waxseal_acme::ports::{overlap, takes_both};

/// How an address is written.
const ADDRESS_FORMS: &str = "write 0.0.0.0:25 or [::]:25";

/// An address and where it stands.
#[derive(Clone)]
pub(super) struct Bind {
    pub(super) address: SocketAddr,
    pub(super) span: Span,
}

/// The addresses of one listener, those that are none told of.
pub(super) fn addresses(written: &Located<Words>, problems: &mut Problems) -> Vec<Bind> {
    if written.value.is_empty() {
        problems.error(written.span.clone(), "`bind` names no address").help(ADDRESS_FORMS);
    }
    let binds = written.value.iter().filter_map(|word| match word.value.as_str().parse() {
        Ok(address) => Some(Bind { address, span: word.span.clone() }),
        Err(_) => {
            let (title, help) = refuse(&word.value);
            let help = word.value.literal().map_or_else(|| ADDRESS_FORMS.to_owned(), |_| help);
            problems.error(word.span.clone(), title).help(help);
            None
        }
    });
    binds.collect()
}

/// What is wrong with an address, and what to write.
fn refuse(word: &Word) -> (String, String) {
    let text = word.as_str();
    if text.parse::<IpAddr>().is_ok() {
        let bracketed = if text.contains(':') { format!("[{text}]") } else { text.to_owned() };
        return (format!("`{word}` has no port"), format!("write the port too, as in {bracketed}:25"));
    }
    let port = text.rsplit(':').next().filter(|port| port.parse::<u16>().is_ok()).unwrap_or("25");
    (format!("`{word}` is not an address with a port"), format!("write 0.0.0.0:{port} or [::]:{port}"))
}

/// Tells of every address that is taken by an earlier one, of the same listener or of another.
pub(super) fn conflicts<'b>(
    binds: impl Iterator<Item = (&'b str, &'b Bind)> + Clone,
    problems: &mut Problems,
) {
    for (index, (name, bind)) in binds.clone().enumerate() {
        let taken = binds.clone().take(index).find(|(_, earlier)| overlap(earlier.address, bind.address));
        let Some((other, earlier)) = taken else { continue };
        let title = match (other == name, earlier.address == bind.address) {
            (true, true) => format!("`{}` stands twice in this listener", bind.address),
            (true, false) => format!("`{}` and `{}` overlap", earlier.address, bind.address),
            (false, _) => format!("`{}` is taken by listener `{other}` ({})", bind.address, earlier.address),
        };
        let problem = problems.error(bind.span.clone(), title);
        for both in [earlier.address, bind.address].iter().filter(|address| takes_both(address.ip())) {
            if earlier.address != bind.address {
                problem.help(format!("{both} takes IPv4 too: leave the other one out"));
            }
        }
    }
}
