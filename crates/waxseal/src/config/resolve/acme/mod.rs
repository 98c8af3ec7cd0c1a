//! Certificates from a CA: which names, from whom, proved how.

mod provider;
mod together;

pub(super) use self::together::{by_hand, several_defaults};

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};
use waxseal_acme::{ChallengeKind, Directory, Eab, KeyType, Name, NameError, Settings, parse_names};

use super::choice::choose;
use super::number::lasting;
use super::pem;
use crate::config::file;
use crate::config::model::{Acme, Listener, Section};
use crate::config::nearest::{Ledger, Origin};
use crate::config::problem::Problems;
use crate::config::reader::{Incomplete as _, Located, Named};
use crate::config::source::Source;
use crate::config::values::Word;

const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// Below, nobody could repair what fails; a year is longer than any certificate lives.
const RENEW_BEFORE: RangeInclusive<Duration> = Duration::from_secs(3600)..=Duration::from_secs(31_557_600);
const CACHE: &str = "/var/lib/waxseal/acme";

/// Decides every `acme` table.
pub(super) fn acme(
    written: &Named<file::Acme>,
    listeners: &[Listener],
    source: &Source,
    settings: &mut Vec<Section>,
    problems: &mut Problems,
) -> Vec<Acme> {
    let fallbacks: Vec<&str> = written
        .tables
        .iter()
        .filter_map(|(_, table)| Some(table.value.fallback.as_ref()?.value.as_str()))
        .collect();
    let mut all = Vec::with_capacity(written.tables.len());
    for (name, table) in &written.tables {
        let mut one = One { name, table: &table.value, ledger: Ledger::new(source), problems };
        let decided = one.decide(fallbacks.contains(&name.value.as_str()));
        settings.push(Section { table: format!("acme.{}", name.value), settings: one.ledger.close() });
        together::fallback(name, &table.value, written, problems);
        all.extend(
            decided.inspect(|acme| together::answered(acme.settings.challenge, listeners, name, problems)),
        );
    }
    together::twice(&all, written, problems);
    together::circles(&all, written, problems);
    together::provable(&all, written, problems);
    all
}

/// One table under decision.
struct One<'a, 's> {
    name: &'a Located<String>,
    table: &'a file::Acme,
    ledger: Ledger<'s>,
    problems: &'a mut Problems,
}

impl One<'_, '_> {
    fn decide(&mut self, is_fallback: bool) -> Option<Acme> {
        let table = self.table;
        let directory = self.word("directory", &table.directory, Some(LETS_ENCRYPT)).unwrap_or_default();
        let directory = self.directory(directory);
        let ca = table.ca.as_ref().map(|ca| ca.with(Some(pem::in_words(&ca.value.0))));
        self.ledger.only("ca", (Origin::Acme, &ca), None);
        let ca = table.ca.as_ref().map(|ca| pem::roots(ca, self.problems).map(String::into_bytes));
        let contact = self.contact();
        let challenge = self.challenge();
        let names = self.names(challenge, is_fallback);
        let cache = self.word("cache", &table.cache, Some(CACHE)).unwrap_or_default();
        let cache = self.cache(cache);
        lasting(&table.renew_before, "renew-before", RENEW_BEFORE, self.problems);
        let renew_before = table.renew_before.as_ref().map(|value| value.with(Some(value.value)));
        let renew_before = self.ledger.only("renew-before", (Origin::Acme, &renew_before), None);
        let eab = self.eab();
        let default = self.ledger.only("default", (Origin::Acme, &table.default), false);
        let profile = self.word("profile", &table.profile, None);
        let key_types = self.key_types();
        let reuse_key = self.ledger.only("reuse-key", (Origin::Acme, &table.reuse_key), false);
        let preflight = self.ledger.only("preflight", (Origin::Acme, &table.preflight), true);
        let public_ip = self.public_ip();
        let fallback = self.word("fallback", &table.fallback, None);
        let dns = challenge.map(|challenge| self.dns(challenge, names.as_deref()));
        Some(Acme {
            settings: Arc::new(Settings {
                id: self.name.value.as_str().into(),
                directory: directory?,
                ca: match ca {
                    Some(roots) => Some(roots?),
                    None => None,
                },
                contact: contact?,
                eab: eab.ok()?,
                challenge: challenge?,
                names: names?,
                key_types: key_types?,
                reuse_key,
                renew_before,
                profile,
                default,
                fallback: fallback.map(Arc::from),
                preflight,
                public_ip: public_ip?,
                dns: dns?.ok()?,
            }),
            cache: cache?,
            header: self.name.span.clone(),
            directory: table.directory.as_ref().map(|word| word.span.clone()),
            kept: table.cache.as_ref().map(|word| word.span.clone()),
            profile: table.profile.as_ref().map(|word| word.span.clone()),
        })
    }

    /// A setting that is a word.
    fn word(
        &mut self,
        key: &'static str,
        written: &Option<Located<Word>>,
        built_in: Option<&str>,
    ) -> Option<String> {
        let word = written.as_ref().map(|word| word.with(Some(word.value.as_str().to_owned())));
        self.ledger.only(key, (Origin::Acme, &word), built_in.map(str::to_owned))
    }

    /// A setting that is a secret: shown as one.
    fn secret(&mut self, key: &'static str, written: &Option<Located<Word>>) {
        let hidden = written.as_ref().map(|word| word.with(Some("(secret)".to_owned())));
        self.ledger.only(key, (Origin::Acme, &hidden), None);
    }

    fn missing(&mut self, key: &'static str, field: &str, help: &str) {
        if !self.table.refused(field) {
            let title = format!("acme `{}` has no `{key}`", self.name.value);
            self.problems.error(self.name.span.clone(), title).help(help);
        }
    }

    fn directory(&mut self, text: String) -> Option<String> {
        if Directory::is_address(&text) {
            return Some(text);
        }
        let span = self.table.directory.as_ref().map(|word| word.span.clone());
        let title = format!("`{text}` is not the address of an ACME directory");
        self.problems
            .error(span, title)
            .help("write the https:// address that the CA gives, as in https://acme-v02.api.letsencrypt.org/directory");
        None
    }

    fn contact(&mut self) -> Option<Vec<String>> {
        let shown = self.table.contact.as_ref().map(|list| list.with(texts(&list.value.0)));
        self.ledger.only("contact", (Origin::Acme, &shown), Vec::new());
        let Some(list) = self.table.contact.as_ref().filter(|list| !list.value.0.is_empty()) else {
            self.missing(
                "contact",
                "contact",
                "write contact = \"postmaster@example.org\": the CA sends word there",
            );
            return None;
        };
        let mut contacts = Some(Vec::new());
        for word in &list.value.0 {
            let text = word.value.as_str();
            let address = text.strip_prefix("mailto:").unwrap_or(text);
            match as_mail_address(address) {
                Some(address) => {
                    if let Some(contacts) = &mut contacts {
                        contacts.push(format!("mailto:{address}"));
                    }
                }
                None => {
                    self.problems
                        .error(word.span.clone(), format!("`{}` is no mail address", word.value))
                        .help("write contact = \"postmaster@example.org\"");
                    contacts = None;
                }
            }
        }
        contacts
    }

    /// `None` where one is written that cannot be read: what only it decides is not judged then.
    fn challenge(&mut self) -> Option<ChallengeKind> {
        let kinds = ChallengeKind::ALL.map(|kind| (kind.as_str(), kind));
        let chosen = choose(&self.table.challenge, "challenge", &kinds, &[], self.problems);
        let shown = chosen.as_ref().map(|chosen| chosen.with(chosen.value.as_str()));
        self.ledger.only("challenge", (Origin::Acme, &shown), ChallengeKind::TlsAlpn01.as_str());
        let built_in = self.table.challenge.is_none() && !self.table.refused("challenge");
        chosen.map(|chosen| chosen.value).or_else(|| built_in.then_some(ChallengeKind::TlsAlpn01))
    }

    fn names(&mut self, challenge: Option<ChallengeKind>, is_fallback: bool) -> Option<Vec<Name>> {
        let shown = self.table.domains.as_ref().map(|list| list.with(texts(&list.value)));
        self.ledger.only("domains", (Origin::Acme, &shown), Vec::new());
        let Some(list) = &self.table.domains else {
            if is_fallback {
                return Some(Vec::new()); // it orders what others want, and nothing of its own
            }
            self.missing("domains", "domains", "write domains = [\"mail.example.org\"]");
            return None;
        };
        match parse_names(&texts(&list.value), challenge?) {
            Ok(names) => Some(names),
            Err(errors) => {
                let texts = || list.value.iter().map(|word| word.value.as_str());
                let apart = texts().any(|text| text.starts_with("*."))
                    && texts().any(|text| text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok());
                for (at, error) in errors {
                    let word = at.and_then(|at| list.value.get(at));
                    let problem = self
                        .problems
                        .error(word.map_or(&list.span, |word| &word.span).clone(), error.to_string());
                    match error {
                        NameError::WildcardNeedsDns(_) | NameError::AddressCannotDns(_) if apart => {
                            problem.help("no challenge proves wildcards and addresses: leave the ones or the others to another [acme.NAME]");
                        }
                        NameError::WildcardNeedsDns(_) => {
                            problem.help("set challenge = \"dns-01\" and `provider`, or name each host");
                        }
                        _ => {}
                    }
                }
                None
            }
        }
    }

    fn cache(&mut self, text: String) -> Option<PathBuf> {
        if text.starts_with('/') {
            return Some(PathBuf::from(text));
        }
        let span = self.table.cache.as_ref().map(|word| word.span.clone());
        self.problems
            .error(span, format!("`{text}` is no absolute path"))
            .help(format!("write cache = \"{CACHE}\""));
        None
    }

    fn eab(&mut self) -> Result<Option<Eab>, ()> {
        let Some(eab) = &self.table.eab else { return Ok(None) };
        self.word("eab.kid", &eab.value.kid, None);
        self.secret("eab.hmac-key", &eab.value.hmac_key);
        let (Some(kid), Some(key)) = (&eab.value.kid, &eab.value.hmac_key) else {
            if !eab.value.refused("kid") && !eab.value.refused("hmac_key") {
                self.problems
                    .error(eab.span.clone(), "`eab` wants both `kid` and `hmac-key`")
                    .help("the CA shows both where the account is made there");
            }
            return Err(());
        };
        let hmac_key = self.decoded(key, "eab.hmac-key").ok_or(())?;
        Ok(Some(Eab { kid: kid.value.as_str().to_owned(), hmac_key: hmac_key.into() }))
    }

    /// Base64, of either alphabet, padded or not.
    fn decoded(&mut self, word: &Located<Word>, key: &str) -> Option<Vec<u8>> {
        let text = word.value.as_str().trim();
        if self.is_a_path(word, key) {
            return None;
        }
        let engines = [&BASE64_URL_SAFE_NO_PAD, &BASE64_URL_SAFE, &BASE64_STANDARD, &BASE64_STANDARD_NO_PAD];
        let decoded =
            engines.iter().find_map(|engine| engine.decode(text).ok()).filter(|bytes| !bytes.is_empty());
        if decoded.is_none() {
            self.problems
                .error(word.span.clone(), format!("`{key}` is no base64"))
                .help("write it as it was given, without spaces or line breaks of your own");
        }
        decoded
    }

    /// Tells of a secret that is the path of a file, which may well look like one: the characters of base64 are those of
    /// paths.
    fn is_a_path(&mut self, word: &Located<Word>, key: &str) -> bool {
        let text = word.value.as_str().trim();
        let is_path = text.starts_with('/') && Path::new(text).is_file();
        if is_path {
            self.problems
                .error(
                    word.span.clone(),
                    format!("`{key}` is the path of a file, which is taken for the secret itself"),
                )
                .help(format!("write {key} = \"%{{file:{text}}}%\""));
        }
        is_path
    }

    fn key_types(&mut self) -> Option<Vec<KeyType>> {
        let kinds = KeyType::ALL.map(|kind| (kind.as_str(), kind));
        let Some(list) = &self.table.key_types else {
            self.ledger.only(
                "key-types",
                (Origin::Acme, &None),
                vec![KeyType::EcdsaP256.as_str().to_owned()],
            );
            return Some(vec![KeyType::EcdsaP256]);
        };
        self.ledger.only("key-types", (Origin::Acme, &Some(list.with(texts(&list.value)))), Vec::new());
        let mut chosen = Vec::new();
        let mut all_known = true;
        for word in &list.value {
            let Some(kind) = choose(
                &Some(word.clone()),
                "key-types",
                &kinds,
                &[("rsa", "`rsa-2048` or `rsa-4096`"), ("ecdsa", "`ecdsa-p256`")],
                self.problems,
            ) else {
                all_known = false;
                continue;
            };
            if !chosen.contains(&kind.value) {
                chosen.push(kind.value);
            }
        }
        if chosen.is_empty() && all_known {
            self.problems
                .error(list.span.clone(), "`key-types` names none")
                .help("leave it out for ecdsa-p256");
            return None;
        }
        all_known.then_some(chosen)
    }

    fn public_ip(&mut self) -> Option<Vec<IpAddr>> {
        let Some(list) = &self.table.public_ip else {
            self.ledger.only::<Option<String>>("public-ip", (Origin::Acme, &None), None);
            return Some(Vec::new());
        };
        self.ledger.only("public-ip", (Origin::Acme, &Some(list.with(texts(&list.value)))), Vec::new());
        let mut addresses = Some(Vec::new());
        for word in &list.value {
            match (word.value.as_str().parse(), &mut addresses) {
                (Ok(address), Some(addresses)) => addresses.push(address),
                (Ok(_), None) => {}
                (Err(_), _) => {
                    self.problems.error(word.span.clone(), format!("`{}` is no IP address", word.value));
                    addresses = None;
                }
            }
        }
        addresses
    }
}

fn texts(list: &[Located<Word>]) -> Vec<String> {
    list.iter().map(|word| word.value.as_str().to_owned()).collect()
}

/// A mail address as a CA takes it: the domain in A-labels.
fn as_mail_address(text: &str) -> Option<String> {
    let (local, domain) = text.split_once('@')?;
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"<>()[],;:\\\"@?&".contains(&byte);
    let domain = Name::parse(domain).ok()?;
    (!local.is_empty() && local.bytes().all(plain)).then(|| format!("{local}@{domain}"))
}
