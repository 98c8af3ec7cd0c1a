//! DNS hosters: what each is called and which credentials its API wants. How they are spoken to is the library's.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

/// A DNS hoster, or a program for serving DNS, with an API that sets records.
#[derive(Debug, PartialEq, Eq)]
pub struct Hoster {
    /// Its name in configurations.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// What it wants to be told.
    pub wants: &'static [Want],
    /// Whether it keeps one TXT record for a name, and not several: a name and its wildcard cannot be proved together.
    pub one_record: bool,
}

/// One thing that a hoster wants to be told.
#[derive(Debug, PartialEq, Eq)]
pub struct Want {
    /// The key below `acme.ID`.
    pub key: &'static str,
    /// What the hoster calls it.
    pub what: &'static str,
    /// Whether it can do without.
    pub optional: bool,
}

/// What may be shown of credentials. All else is secret.
const OPEN: [&str; 17] = [
    "account",
    "client-ip",
    "compartment",
    "configuration",
    "email",
    "endpoint",
    "environment",
    "project",
    "region",
    "resource-group",
    "server",
    "sub-user",
    "subscription",
    "tenant",
    "user",
    "view",
    "zone",
];

/// What is shorter is nobody's secret, and would tear words apart when it is looked for in them.
#[cfg(feature = "dns-providers")]
const SHORTEST_SECRET: usize = 4;

impl Want {
    /// Whether it must not be shown.
    pub fn is_secret(&self) -> bool {
        !OPEN.contains(&self.key)
    }
}

/// What a hoster was told, by key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials(BTreeMap<&'static str, Zeroizing<String>>);

impl Credentials {
    /// The value of one that the hoster cannot do without.
    #[cfg(feature = "dns-providers")]
    pub(crate) fn get(&self, key: &str) -> &str {
        self.may(key).unwrap_or_default()
    }

    /// The value of one that it can do without.
    #[cfg(feature = "dns-providers")]
    pub(crate) fn may(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|value| value.as_str())
    }
}

impl FromIterator<(&'static str, String)> for Credentials {
    fn from_iter<T: IntoIterator<Item = (&'static str, String)>>(all: T) -> Self {
        Self(all.into_iter().map(|(key, value)| (key, value.into())).collect())
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Hoster {
    /// `text` without anything secret of `credentials`: some hosters take them in the address, which errors repeat.
    #[cfg(feature = "dns-providers")]
    pub(crate) fn redacted(&self, credentials: &Credentials, text: &str) -> String {
        let secrets = self.wants.iter().filter(|want| want.is_secret());
        let secrets = secrets.filter_map(|want| credentials.may(want.key));
        let secrets = secrets.filter(|secret| secret.len() >= SHORTEST_SECRET);
        secrets.fold(text.to_owned(), |text, secret| {
            text.replace(secret, "(secret)").replace(&percent_encoded(secret), "(secret)")
        })
    }
}

/// As in the query of an address (RFC 3986 section 2.1).
#[cfg(feature = "dns-providers")]
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The hosters that this build speaks to, by name.
#[cfg(feature = "dns-providers")]
pub fn hosters() -> impl Iterator<Item = &'static Hoster> {
    crate::challenge::dns_01::hosters::ROWS.iter().map(|row| &row.hoster)
}

/// The hosters that this build speaks to: none.
#[cfg(not(feature = "dns-providers"))]
pub fn hosters() -> impl Iterator<Item = &'static Hoster> {
    std::iter::empty()
}
