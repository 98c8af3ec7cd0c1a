//! The addresses of MAIL and RCPT (RFC 5321 section 4.1.2).

/// A mailbox as it was written: beyond our own accounts nobody knows what a local part means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mailbox {
    /// Quotes taken away.
    pub(crate) local: String,
    pub(crate) domain: String,
}

/// What stands between angle brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// `<>`
    Null,
    /// `<Postmaster>`
    Postmaster,
    /// An address; its source route, if it had one, was left out (RFC 5321 appendix C).
    Mailbox(Mailbox),
}

/// Octets of a path (RFC 5321 section 4.5.3.1.3).
const MAX_PATH: usize = 256;

impl Mailbox {
    /// The address in one piece, quoted only where it must be.
    pub(crate) fn text(&self) -> String {
        let plain = self.local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext));
        if plain {
            return format!("{}@{}", self.local, self.domain);
        }
        let quoted = self.local.replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{quoted}\"@{}", self.domain)
    }

    /// Whether it can only be written with SMTPUTF8.
    pub(crate) fn is_international(&self) -> bool {
        !self.local.is_ascii() || !self.domain.is_ascii()
    }
}

impl Path {
    /// The text between the brackets.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Postmaster => "Postmaster".to_owned(),
            Self::Mailbox(mailbox) => mailbox.text(),
        }
    }
}

/// Reads a path in angle brackets at the beginning of `text`; gives it and what is behind.
pub(crate) fn path(text: &str) -> Option<(Path, &str)> {
    let inside = text.strip_prefix('<')?;
    if let Some(rest) = inside.strip_prefix('>') {
        return Some((Path::Null, rest));
    }
    let inside = if inside.starts_with('@') { inside.split_once(':')?.1 } else { inside };
    let (local, after) = local_part(inside)?;
    if let Some(rest) = after.strip_prefix('>') {
        return local.eq_ignore_ascii_case("postmaster").then_some((Path::Postmaster, rest));
    }
    let (domain, rest) = after.strip_prefix('@')?.split_once('>')?;
    if local.len() + domain.len() + 3 > MAX_PATH || !is_domain(domain) {
        return None;
    }
    Some((Path::Mailbox(Mailbox { local, domain: domain.to_owned() }), rest))
}

/// A dot-string or a quoted string; gives what it means and what is behind.
fn local_part(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(['@', '>'])?;
        let (local, rest) = text.split_at(end);
        let atoms = local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext));
        return atoms.then(|| (local.to_owned(), rest));
    };
    let mut local = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (!local.is_empty()).then(|| (local, quoted.get(at + 1..).unwrap_or_default())),
            '\\' => local.push(chars.next().map(|(_, c)| c).filter(|c| (' '..='~').contains(c))?),
            c if c.is_control() => return None,
            c => local.push(c),
        }
    }
    None
}

fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || (!c.is_ascii() && !c.is_control())
}

/// A domain, or an address literal in brackets.
pub(crate) fn is_domain(text: &str) -> bool {
    if let Some(literal) = text.strip_prefix('[') {
        return literal.strip_suffix(']').is_some_and(|inside| {
            !inside.is_empty() && inside.chars().all(|c| c.is_ascii_alphanumeric() || ".:-".contains(c))
        });
    }
    let label = |label: &str| {
        let inner =
            |c: char| c.is_ascii_alphanumeric() || "-_".contains(c) || (!c.is_ascii() && !c.is_control());
        !label.is_empty() && !label.starts_with('-') && label.chars().all(inner)
    };
    text.len() <= 255 && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_read_as_the_rfc_writes_them() {
        for (text, meant) in [
            ("<>", ""),
            ("<a@b>", "a@b"),
            ("<\"a b\\\"c\"@d.e>", "\"a b\\\"c\"@d.e"),
            ("<\"plain\"@d.e>", "plain@d.e"),
            ("<@x,@y:a.b@c>", "a.b@c"),
            ("<a@[192.0.2.1]>", "a@[192.0.2.1]"),
            ("<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]"),
            ("<pÖst@exämple>", "pÖst@exämple"),
            ("<POSTMASTER>", "Postmaster"),
        ] {
            let line = format!("{text} SIZE=1");
            let (path, rest) = path(&line).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((path.text().as_str(), rest), (meant, " SIZE=1"));
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in [
            "a@b", "<a@b", "<a>", "< a@b>", "<a b@c>", "<a..b@c>", "<.a@b>", "<a@b c>", "<\"\"@b>",
            "<\"a@b>", "<a@>", "<@b>", "<a@b@c>", "<a@[]>", "<a@-b>", "<a@b..c>",
        ] {
            assert_eq!(path(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_upsets_the_reader_and_what_it_reads_it_reads_again(text in "<?[\"<>@a.\\\\ ü:\\[\\]]{0,20}>?") {
            if let Some((read, _)) = path(&text) {
                let again = format!("<{}>", read.text());
                prop_assert_eq!(path(&again), Some((read, "")));
            }
        }
    }
}
