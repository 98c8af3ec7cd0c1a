//! Certificates that another program has obtained, taken over as if they had been obtained here.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use waxseal_storage::{Guard, Storage, StorageError};
use waxseal_tls::{Identity, KeyKind};
use zeroize::Zeroizing;

use crate::bundle::Bundle;
use crate::issuer::Issued;
use crate::managed;
use crate::settings::KeyType;
use crate::target::{Target, is_covered};

/// Most pairs that are read from a directory.
const MAX_PAIRS: usize = 10_000;
/// Longest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 18;

/// Who has obtained them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `live/NAME/{fullchain,privkey}.pem`.
    Certbot,
    /// `NAME/` or `NAME_ecc/`, with `fullchain.cer` and `NAME.key`.
    AcmeSh,
    /// `certificates/CA/NAME/NAME.{crt,key}`.
    Caddy,
}

impl Origin {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Certbot, Self::AcmeSh, Self::Caddy];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Certbot => "certbot",
            Self::AcmeSh => "acme.sh",
            Self::Caddy => "caddy",
        }
    }

    /// Chain and key of each certificate below `directory`.
    fn files(self, directory: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
        let mut files = Vec::new();
        let places = match self {
            Self::Certbot => directories(&directory.join("live"))?,
            Self::AcmeSh => directories(directory)?,
            Self::Caddy => {
                let mut places = Vec::new();
                for ca in directories(&directory.join("certificates"))? {
                    places.extend(directories(&ca)?);
                }
                places
            }
        };
        for place in places {
            let name = place.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let (chain, key) = match self {
                Self::Certbot => ("fullchain.pem".to_owned(), "privkey.pem".to_owned()),
                Self::AcmeSh => {
                    ("fullchain.cer".to_owned(), format!("{}.key", name.strip_suffix("_ecc").unwrap_or(name)))
                }
                Self::Caddy => (format!("{name}.crt"), format!("{name}.key")),
            };
            let chain = place.join(chain);
            if chain.exists() {
                files.push((chain, place.join(key)));
            }
        }
        files.truncate(MAX_PAIRS);
        Ok(files)
    }
}

/// The directories in `directory`, sorted.
fn directories(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries: Vec<_> = fs::read_dir(directory)?.collect::<io::Result<_>>()?;
    let mut found: Vec<PathBuf> =
        entries.into_iter().map(|it| it.path()).filter(|path| path.is_dir()).collect();
    found.sort();
    Ok(found)
}

/// A chain with its key, as another program keeps them.
#[derive(Debug)]
pub struct Pair {
    /// The file of the chain.
    pub from: PathBuf,
    /// What it is; or why it is nothing.
    content: Result<(Arc<Identity>, Issued), String>,
}

/// The pairs that `origin` keeps below `directory`.
///
/// # Errors
///
/// A directory that cannot be read. A pair that cannot is told for itself.
pub fn pairs(origin: Origin, directory: &Path) -> io::Result<Vec<Pair>> {
    let files = origin.files(directory)?;
    Ok(files.into_iter().map(|(chain, key)| Pair { content: content(&chain, &key), from: chain }).collect())
}

fn content(chain: &Path, key: &Path) -> Result<(Arc<Identity>, Issued), String> {
    let read = |path: &Path| -> Result<Zeroizing<String>, String> {
        let mut text = Zeroizing::new(String::new());
        File::open(path)
            .and_then(|file| file.take(MAX_FILE).read_to_string(&mut text))
            .map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(text)
    };
    let (chain, key) = (read(chain)?, read(key)?);
    let (identity, _) =
        Identity::from_pem(chain.as_bytes(), key.as_bytes(), &[]).map_err(|e| e.to_string())?;
    Ok((Arc::new(identity), Issued { chain: chain.to_string(), key }))
}

/// What came of a pair.
#[derive(Debug)]
pub struct Import {
    /// The file of its chain.
    pub from: PathBuf,
    /// Its names.
    pub names: Vec<String>,
    /// What came of it.
    pub verdict: Verdict,
}

/// What came of a pair, for a certificate that is wanted.
#[derive(Debug)]
pub enum Verdict {
    /// It is the certificate from now on, until its end in unix seconds.
    Taken(Arc<str>, i64),
    /// There is one already that lives as long.
    Kept(Arc<str>),
    /// Another of the pairs lives longer.
    Outlived(Arc<str>),
    /// Storage refused.
    Refused(Arc<str>, StorageError),
    /// The names are wanted, with another kind of key than this.
    KeyKind(Arc<str>, KeyKind),
    /// No certificate for names among these is wanted.
    Unwanted,
    /// Its life has ended, or has not begun; begin and end in unix seconds.
    NotValid(i64, i64),
    /// It is none; why.
    Broken(String),
}

fn is_of(key_type: KeyType, kind: &KeyKind) -> bool {
    match key_type {
        KeyType::EcdsaP256 => *kind == KeyKind::Ecdsa("P-256"),
        KeyType::EcdsaP384 => *kind == KeyKind::Ecdsa("P-384"),
        KeyType::Rsa2048 => *kind == KeyKind::Rsa(2048),
        KeyType::Rsa4096 => *kind == KeyKind::Rsa(4096),
    }
}

fn covers(identity: &Identity, target: &Target) -> bool {
    target.names.iter().all(|name| is_covered(name, identity.names()))
}

/// Gives each of `wanted` the pair that it fits and that lives longest, where its storage has none or one that ends
/// earlier. With `dry` nothing is written.
pub async fn import(
    pairs: &[Pair],
    wanted: &[(Arc<dyn Storage>, Target)],
    now: i64,
    dry: bool,
) -> Vec<Import> {
    let mut imports = Vec::new();
    for pair in pairs {
        let (names, verdicts) = match &pair.content {
            Err(why) => (Vec::new(), vec![Verdict::Broken(why.clone())]),
            Ok((identity, issued)) => {
                (identity.names().to_vec(), verdicts(identity, issued, pairs, wanted, now, dry).await)
            }
        };
        imports.extend(verdicts.into_iter().map(|verdict| Import {
            from: pair.from.clone(),
            names: names.clone(),
            verdict,
        }));
    }
    imports
}

async fn verdicts(
    identity: &Identity,
    issued: &Issued,
    pairs: &[Pair],
    wanted: &[(Arc<dyn Storage>, Target)],
    now: i64,
    dry: bool,
) -> Vec<Verdict> {
    if !identity.is_valid_at(now) {
        return vec![Verdict::NotValid(identity.not_before(), identity.not_after())];
    }
    let covered: Vec<_> = wanted.iter().filter(|(_, target)| covers(identity, target)).collect();
    let Some((_, first)) = covered.first() else { return vec![Verdict::Unwanted] };
    let fits = |identity: &Identity, target: &Target| {
        covers(identity, target) && is_of(target.key_type, identity.key_kind()) && identity.is_valid_at(now)
    };
    let mut verdicts = Vec::new();
    for (storage, target) in covered.iter().filter(|(_, target)| fits(identity, target)) {
        let id = Arc::clone(&target.id);
        let others = pairs.iter().filter_map(|pair| pair.content.as_ref().ok());
        let mut fitting = others.filter(|(other, _)| fits(other, target));
        verdicts.push(if fitting.any(|(other, _)| other.not_after() > identity.not_after()) {
            Verdict::Outlived(id)
        } else {
            let bundle = Bundle::of(
                identity,
                Issued { chain: issued.chain.clone(), key: issued.key.clone() },
                &target.names,
                &target.settings.directory,
                now,
            );
            match take(&**storage, target, &bundle, now, dry).await {
                Ok(true) => Verdict::Taken(id, bundle.not_after),
                Ok(false) => Verdict::Kept(id),
                Err(error) => Verdict::Refused(id, error),
            }
        });
    }
    if verdicts.is_empty() {
        verdicts.push(Verdict::KeyKind(Arc::clone(&first.id), identity.key_kind().clone()));
    }
    verdicts
}

/// Stores `bundle` unless there is one that lives as long; whether it is stored, or would be.
async fn take(
    storage: &dyn Storage,
    target: &Target,
    bundle: &Bundle,
    now: i64,
    dry: bool,
) -> Result<bool, StorageError> {
    let stored = storage.get(&target.certificate).await?;
    let held = stored.as_ref().and_then(|stored| managed::identity(&stored.value, now).ok());
    let lives_as_long = |(held, _): (Bundle, _)| {
        held.not_after >= bundle.not_after && target.directories().contains(&held.directory.as_str())
    };
    if held.is_some_and(lives_as_long) {
        return Ok(false);
    }
    if !dry {
        let guard = stored.map_or(Guard::Absent, |stored| Guard::Unchanged(stored.revision));
        let text = bundle.write().map_err(|error| StorageError::Io {
            what: "write",
            place: storage.place(),
            source: io::Error::other(error),
        })?;
        storage.put(&target.certificate, &text, guard).await?;
    }
    Ok(true)
}
