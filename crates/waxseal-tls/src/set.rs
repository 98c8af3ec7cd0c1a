//! All identities of the moment, and which of them a client gets.

use std::collections::{HashMap, HashSet};
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
    /// The places of the identities with a name, in the entries' order; without it ten thousand names would have to be
    /// compared at each ClientHello.
    by_name: HashMap<String, Vec<usize>>,
    /// The same for wildcards, by what stands behind `*.`.
    by_parent: HashMap<String, Vec<usize>>,
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
        let names_server = |entry: &Entry| covers(&entry.identity, &hostname);
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
        let as_good: HashSet<&String> = entries
            .iter()
            .filter(|entry| is_default(entry))
            .flat_map(|entry| entry.identity.names())
            .collect();
        // The sort is stable: among equals the configuration's order stands. What shares a name with the default is as
        // good, for clients that cannot use the default's kind of key.
        let mut defaults: Vec<usize> = (0..entries.len()).collect();
        defaults.sort_by_cached_key(|&index| {
            let entry = entries.get(index)?;
            let tier = if is_default(entry) {
                0
            } else if entry.identity.names().iter().any(|name| as_good.contains(name)) {
                1
            } else {
                2
            };
            Some((tier, entry.identity.is_rsa()))
        });
        drop((is_default, as_good, marked));
        let (mut by_name, mut by_parent) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for (index, entry) in entries.iter().enumerate() {
            for name in entry.identity.names() {
                by_name.entry(name.clone()).or_default().push(index);
                if let Some(parent) = name.strip_prefix("*.") {
                    by_parent.entry(parent.to_owned()).or_default().push(index);
                }
            }
        }
        (Self { entries, by_name, by_parent, defaults }, warnings)
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
        let named = self
            .named(sni)
            .filter_map(|(index, matched)| Some(Choice { index, entry: self.entries.get(index)?, matched }));
        let rank = |choice: &Choice<'_>| {
            let identity = &choice.entry.identity;
            (!identity.is_valid_at(now), choice.matched == Matched::Wildcard, identity.is_rsa())
        };
        let for_name = named.filter(|choice| fits(&choice.entry.identity)).min_by_key(rank);
        for_name.or_else(|| {
            let matched = if sni.is_some() { Matched::Foreign } else { Matched::Unnamed };
            let defaults = || {
                let choice =
                    |&index: &usize| Some(Choice { index, entry: self.entries.get(index)?, matched });
                self.defaults.iter().filter_map(choice).filter(|choice| fits(&choice.entry.identity))
            };
            defaults().find(|choice| choice.entry.identity.is_valid_at(now)).or_else(|| defaults().next())
        })
    }

    /// The places of the identities that cover a name, and how. A wildcard stands for exactly one label (RFC 9525
    /// section 6.3).
    fn named(&self, sni: Option<&str>) -> impl Iterator<Item = (usize, Matched)> {
        let exact = sni.and_then(|name| self.by_name.get(name));
        let parent = sni.and_then(|name| name.split_once('.')).filter(|(label, _)| !label.is_empty());
        let wildcard = parent.and_then(|(_, parent)| self.by_parent.get(parent));
        let exact = exact.into_iter().flatten().map(|index| (*index, Matched::Exact));
        exact.chain(wildcard.into_iter().flatten().map(|index| (*index, Matched::Wildcard)))
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

/// Whether an identity covers a name.
fn covers(identity: &Identity, name: &str) -> bool {
    let parent = name.split_once('.').filter(|(label, _)| !label.is_empty()).map(|(_, parent)| parent);
    let covers = |own: &String| own == name || parent.is_some() && own.strip_prefix("*.") == parent;
    identity.names().iter().any(covers)
}
