//! Nearest wins: of a setting that stands in several places the nearest counts, whole, and where it came from is kept.

use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;
use serde_json::Value;
use waxseal_tls::{Group, Suite, Version};

use super::duration;
use super::reader::Located;
use super::source::{Source, Span};
use super::values::Word;

/// Where a setting in force was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// In the listener's own table.
    Listener,
    /// In `server`.
    Server,
    /// In `upstream.ID`.
    Upstream,
    /// In `certificate.ID`.
    Certificate,
    /// In `acme.ID`.
    Acme,
    /// In `mailboxes`.
    Mailboxes,
    /// In `log`.
    Log,
    /// Nowhere.
    BuiltIn,
}

impl Origin {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Listener => "listener",
            Self::Server => "server",
            Self::Upstream => "upstream",
            Self::Certificate => "certificate",
            Self::Acme => "acme",
            Self::Mailboxes => "mailboxes",
            Self::Log => "log",
            Self::BuiltIn => "built-in",
        }
    }
}

/// One setting in force, ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InForce {
    /// The key, from its table on.
    pub key: &'static str,
    /// Its value; null where it is not set, and the system decides or nothing happens.
    pub value: Value,
    /// Where it comes from.
    pub origin: Origin,
    /// The line it is written in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
}

/// A setting decided.
#[derive(Clone, Debug)]
pub(crate) struct Setting<T> {
    pub(crate) value: T,
    /// The value in the file, if it is written there.
    pub(crate) span: Option<Span>,
}

/// Decides settings and keeps the account of them.
pub(crate) struct Ledger<'s> {
    source: &'s Source,
    settings: Vec<InForce>,
}

impl<'s> Ledger<'s> {
    pub(crate) fn new(source: &'s Source) -> Self {
        Self { source, settings: Vec::new() }
    }

    /// The first of `places`, nearest first, where the setting is written.
    pub(crate) fn nearest<T: Shown + Clone>(
        &mut self,
        key: &'static str,
        places: &[(Origin, &Option<Located<T>>)],
        built_in: T,
    ) -> Setting<T> {
        let written =
            places.iter().find_map(|(origin, place)| place.as_ref().map(|located| (*origin, located)));
        match written {
            Some((origin, located)) => {
                let line = self.source.position(located.key.start).0;
                self.enter(key, located.value.shown(), origin, Some(line));
                Setting { value: located.value.clone(), span: Some(located.span.clone()) }
            }
            None => {
                self.enter(key, built_in.shown(), Origin::BuiltIn, None);
                Setting { value: built_in, span: None }
            }
        }
    }

    /// A setting that can only stand in one place.
    pub(crate) fn only<T: Shown + Clone>(
        &mut self,
        key: &'static str,
        (origin, place): (Origin, &Option<Located<T>>),
        built_in: T,
    ) -> T {
        self.nearest(key, &[(origin, place)], built_in).value
    }

    fn enter(&mut self, key: &'static str, value: Value, origin: Origin, line: Option<usize>) {
        self.settings.push(InForce { key, value, origin, line });
    }

    /// The account.
    pub(crate) fn close(self) -> Vec<InForce> {
        self.settings
    }
}

/// A value that `show` can print.
pub(crate) trait Shown {
    fn shown(&self) -> Value;
}

macro_rules! shown {
    ($($kind:ty: |$value:ident| $form:expr;)*) => {
        $(impl Shown for $kind {
            fn shown(&self) -> Value {
                let $value = self;
                Value::from($form)
            }
        })*
    };
}

shown! {
    bool: |value| *value;
    usize: |value| *value;
    u32: |value| *value;
    String: |value| value.clone();
    &'static str: |value| *value;
    Word: |value| value.as_str();
    Duration: |value| duration::written(*value);
    Version: |value| value.name();
    Suite: |value| value.name();
    Group: |value| value.name();
    IpNet: |value| value.to_string();
    std::net::SocketAddr: |value| value.to_string();
    waxseal_server::Address: |value| value.to_string();
}

impl<T: Shown> Shown for Vec<T> {
    fn shown(&self) -> Value {
        self.iter().map(T::shown).collect()
    }
}

impl<T: Shown> Shown for Option<T> {
    fn shown(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::shown)
    }
}
