//! Which certificates are wanted: one for each name set and key type.

use std::fmt;
use std::sync::Arc;

use waxseal_storage::{Key, KeyError, keys};

use crate::name::{Name, NameKind};
use crate::settings::{KeyType, Settings};

/// A certificate that is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// What it is called: `acme.ID`, with the key type where there are several.
    pub id: Arc<str>,
    /// The settings that want it.
    pub settings: Arc<Settings>,
    /// The settings whose CA is turned to when theirs keeps failing.
    pub fallback: Option<Arc<Settings>>,
    /// Its names: those of the settings less those with a certificate by hand.
    pub names: Vec<Name>,
    /// Its kind of key.
    pub key_type: KeyType,
    /// The lease of whoever orders it, or one for the same names.
    pub lease: Key,
    /// Where it is stored.
    pub certificate: Key,
    /// Where its history is stored.
    pub attempts: Key,
    /// Where the CA's wish is stored.
    pub renewal_info: Key,
    /// Where the order in flight is stored.
    pub order: Key,
}

impl Target {
    /// The settings whose CAs may be asked, the wanted one first.
    pub fn authorities(&self) -> impl Iterator<Item = &Arc<Settings>> {
        std::iter::once(&self.settings).chain(&self.fallback)
    }

    /// Their directories.
    pub fn directories(&self) -> Vec<&str> {
        self.authorities().map(|settings| settings.directory.as_str()).collect()
    }

    /// Whether `name` is one of its names, its id, or that of its settings.
    pub fn is_called(&self, name: &str) -> bool {
        let own = Name::parse(name).is_ok_and(|name| self.names.contains(&name));
        let table = name.strip_prefix("acme.").unwrap_or(name);
        own || name == &*self.id || table == &*self.settings.id || self.id.strip_prefix("acme.") == Some(name)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

/// The certificates that `settings` want, less the names that `by_hand` covers (names of certificates, wildcards among
/// them): a certificate by hand wins.
///
/// # Errors
///
/// None for names that [`Name`] holds.
pub fn targets(settings: &[Arc<Settings>], by_hand: &[String]) -> Result<Vec<Target>, KeyError> {
    let mut targets = Vec::new();
    for one in settings {
        // What another orders and turns here for is not ordered here as well.
        let turns_here =
            |other: &&Arc<Settings>| other.fallback.as_ref() == Some(&one.id) && other.id != one.id;
        let ordered =
            |name: &Name| settings.iter().filter(turns_here).any(|other| other.names.contains(name));
        if one.names.iter().all(ordered) {
            continue;
        }
        let names: Vec<Name> = one.names.iter().filter(|name| !is_covered(name, by_hand)).cloned().collect();
        for name in one.names.iter().filter(|name| !names.contains(name)) {
            tracing::info!(
                "acme.{}: {name} has a certificate by hand, which is served; none is ordered",
                one.id
            );
        }
        if names.is_empty() {
            continue;
        }
        let texts: Vec<String> = names.iter().map(Name::to_string).collect();
        let fallback = settings.iter().find(|other| Some(&other.id) == one.fallback.as_ref());
        for key_type in &one.key_types {
            let kind = key_type.as_str();
            let id = match one.key_types.len() {
                1 => format!("acme.{}", one.id),
                _ => format!("acme.{} ({kind})", one.id),
            };
            targets.push(Target {
                id: id.into(),
                settings: Arc::clone(one),
                fallback: fallback.cloned(),
                names: names.clone(),
                key_type: *key_type,
                lease: keys::ordering(&texts)?,
                certificate: keys::certificate(&texts, kind)?,
                attempts: keys::attempts(&texts, kind)?,
                renewal_info: keys::renewal_info(&texts, kind)?,
                order: keys::order(&texts, kind)?,
            });
        }
    }
    Ok(targets)
}

/// Whether one of `names`, as they stand in certificates, covers `name`.
pub fn is_covered(name: &Name, names: &[String]) -> bool {
    let text = name.to_string();
    let parent = match name.kind() {
        NameKind::Dns(name) => name.split_once('.').map(|(_, parent)| parent),
        _ => None,
    };
    let covers = |own: &String| *own == text || parent.is_some() && own.strip_prefix("*.") == parent;
    names.iter().any(covers)
}
