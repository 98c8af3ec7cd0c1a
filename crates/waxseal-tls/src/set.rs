//! All identities of the moment, and which of them a client gets.

use std::fmt;
use std::sync::Arc;

use crate::facts::Matched;
use crate::identity::Identity;

/// One identity of a set.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name in the configuration.
    pub id: String,
    /// The chain and key.
    pub identity: Arc<Identity>,
    /// Whether it is for clients that name no host, or one that no certificate has.
    pub default: bool,
}

/// What is odd about a set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetWarning {
    /// No certificate is marked as the default, and none names the server: the first one has to do.
    #[error(
        "no certificate has `default = true` and none names the server \"{hostname}\": clients that name no host, or one \
         that no certificate has, get \"{id}\", the first one"
    )]
    FirstIsDefault {
        /// The server's name.
        hostname: String,
        /// The certificate that is the default now.
        id: String,
    },
    /// Several certificates with the same kind of key are marked as the default.
    #[error("`default = true` stands in {}: the first one is taken", .0.join(", "))]
    SeveralDefaults(Vec<String>),
}

/// All identities of the moment.
pub struct CertificateSet {
    entries: Vec<Entry>,
    /// Every identity by its place among the entries, the ones to be preferred as the default first.
    defaults: Vec<usize>,
}

/// The identity for a client.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// Its place among the entries.
    pub index: usize,
    /// The identity.
    pub entry: &'a Entry,
    /// Why it is this one.
    pub matched: Matched,
}

impl CertificateSet {
    /// A set of `entries`, in configuration order, for the server of that name.
    ///
    /// The default is what is marked so; else what names the server; else the first.
    pub fn new(entries: Vec<Entry>, hostname: &str) -> (Self, Vec<SetWarning>) {
        let hostname = normal_name(hostname);
        let mut warnings = Vec::new();
        let marked: Vec<_> = entries.iter().filter(|entry| entry.default).collect();
        for rsa in [false, true] {
            let alike = marked.iter().filter(|entry| entry.identity.is_rsa() == rsa);
            let alike: Vec<_> = alike.map(|entry| entry.id.clone()).collect();
            if alike.len() > 1 {
                warnings.push(SetWarning::SeveralDefaults(alike));
            }
        }
        let names_server = |entry: &Entry| match_name(&entry.identity, &hostname).is_some();
        let is_default: Box<dyn Fn(&Entry) -> bool> = if !marked.is_empty() {
            Box::new(|entry| entry.default)
        } else if entries.iter().any(names_server) {
            Box::new(names_server)
        } else {
            if let Some(first) = entries.first() {
                warnings
                    .push(SetWarning::FirstIsDefault { hostname: hostname.clone(), id: first.id.clone() });
            }
            let first = entries.first().map(|first| first.id.clone());
            Box::new(move |entry| Some(&entry.id) == first.as_ref())
        };
        let mut defaults: Vec<usize> = (0..entries.len()).collect();
        // The sort is stable: among equals the configuration's order stands. What shares a name with the default is as
        // good, for clients that cannot use the default's kind of key.
        defaults.sort_by_key(|&index| {
            let entry = entries.get(index)?;
            let shares = || entries.iter().any(|other| is_default(other) && share_a_name(entry, other));
            let tier = if is_default(entry) {
                0
            } else if shares() {
                1
            } else {
                2
            };
            Some((tier, entry.identity.is_rsa()))
        });
        drop(is_default);
        drop(marked);
        (Self { entries, defaults }, warnings)
    }

    /// The identities, in configuration order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The identity for a client that names `sni` (in the form of [`normal_name`]) at `now`, in seconds since 1970.
    ///
    /// An exact name, then a wildcard over one label, then the default. `fits` tells whether the client can use an
    /// identity; where none fits, the choice is made as if all did, and the handshake will say what is missing. What is
    /// valid comes before what has expired; ECDSA before RSA. `None` only if the set is empty.
    pub fn choose(
        &self,
        sni: Option<&str>,
        now: i64,
        fits: impl Fn(&Identity) -> bool,
    ) -> Option<Choice<'_>> {
        self.best(sni, now, fits).or_else(|| self.best(sni, now, |_| true))
    }

    fn best(&self, sni: Option<&str>, now: i64, fits: impl Fn(&Identity) -> bool) -> Option<Choice<'_>> {
        let named = self.entries.iter().enumerate().filter_map(|(index, entry)| {
            let matched = match_name(&entry.identity, sni?)?;
            Some(Choice { index, entry, matched })
        });
        let rank = |choice: &Choice<'_>| {
            let identity = &choice.entry.identity;
            (!identity.is_valid_at(now), choice.matched == Matched::Wildcard, identity.is_rsa())
        };
        let for_name = named.filter(|choice| fits(&choice.entry.identity)).min_by_key(rank);
        for_name.or_else(|| {
            let matched = if sni.is_some() { Matched::Foreign } else { Matched::Unnamed };
            let defaults = self.defaults.iter().filter_map(|&index| {
                let entry = self.entries.get(index)?;
                Some(Choice { index, entry, matched })
            });
            defaults
                .filter(|choice| fits(&choice.entry.identity))
                .min_by_key(|choice| !choice.entry.identity.is_valid_at(now))
        })
    }
}

impl fmt::Debug for CertificateSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.entries).finish()
    }
}

/// A host name as it is compared: ASCII lower case, without a trailing dot. Internationalised names stay as they are
/// sent and certified, in punycode.
pub fn normal_name(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Whether and how an identity covers a name. A wildcard stands for exactly one label (RFC 9525 section 6.3).
fn match_name(identity: &Identity, name: &str) -> Option<Matched> {
    let names = identity.names();
    if names.iter().any(|own| own == name) {
        return Some(Matched::Exact);
    }
    let (label, parent) = name.split_once('.')?;
    let covers = |own: &String| own.strip_prefix("*.") == Some(parent);
    (!label.is_empty() && names.iter().any(covers)).then_some(Matched::Wildcard)
}

fn share_a_name(one: &Entry, other: &Entry) -> bool {
    one.identity.names().iter().any(|name| other.identity.names().contains(name))
}
