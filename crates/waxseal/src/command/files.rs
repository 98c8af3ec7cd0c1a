//! `waxseal cert import` and `waxseal cert export`: certificates from and for other programs. Neither needs a running
//! server, and one that runs takes every change at once.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde_json::Value;
use waxseal_acme::{
    Clock, Export, ExportError, Import, Origin, Target, Verdict, exports, pairs, remove_exports,
};
use waxseal_storage::{FileStorage, KeyError, MemoryStorage, Storage, StorageError};

use super::table::Table;
use super::{ConfigurationFile, ended, print, refuse, say};
use crate::config::Loaded;
use crate::obtained::{make_caches, wanted};
use crate::privileges::{self, PrivilegeError};
use crate::records::date;

/// Mode of a key's file unless told otherwise.
const PRIVATE: u32 = 0o600;

/// What to export.
#[derive(Debug, Args)]
pub(super) struct ExportArguments {
    /// One of the certificate's names, or what `cert list` calls it
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// The file for the certificate and those above it
    #[arg(long, value_name = "FILE", required_unless_present_any = ["list", "remove"], requires = "key")]
    cert: Option<PathBuf>,
    /// The file for the key
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Whose the files shall be: USER, USER:GROUP or :GROUP
    #[arg(long, value_name = "OWNER", requires = "cert")]
    owner: Option<String>,
    /// The mode of the key's file, 600 unless said
    #[arg(long, value_name = "MODE", requires = "cert", value_parser = mode)]
    mode: Option<u32>,
    /// A shell command to run whenever the files have changed, such as "systemctl reload postfix"
    #[arg(long, value_name = "COMMAND", requires = "cert")]
    run: Option<String>,
    /// Print the exports
    #[arg(long, conflicts_with_all = ["name", "cert", "remove"])]
    list: bool,
    /// End the exports of NAME; the files stay
    #[arg(long, conflicts_with = "cert")]
    remove: bool,
}

/// Why nothing was taken over or handed out.
#[derive(Debug, thiserror::Error)]
enum FilesError {
    #[error(
        "{0} has no certificates from a CA; write\n\n    [acme.mine]\n    contact = [\"postmaster@example.org\"]\n    \
         domains = [\"mail.example.org\"]\n\nwith your own names"
    )]
    NoAcme(PathBuf),
    #[error("{}: {source}; --from {from} takes the directory that holds {holds}", dir.display())]
    Directory { dir: PathBuf, from: &'static str, holds: &'static str, source: io::Error },
    #[error("{}: nothing that {from} keeps is there; it takes the directory that holds {holds}", dir.display())]
    Nothing { dir: PathBuf, from: &'static str, holds: &'static str },
    #[error("nothing was taken over")]
    NothingTaken,
    #[error("--cert and --key are the same file")]
    SameFile,
    #[error("{} is a directory; name the file in it", .0.display())]
    IsDirectory(PathBuf),
    #[error("{} or its key is written for {name:?} already; `waxseal cert export --list` shows all", path.display())]
    Taken { path: PathBuf, name: String },
    #[error("{}: {source}", path.display())]
    Path { path: PathBuf, source: io::Error },
    #[error("{0:?} is not exported; `waxseal cert export --list` shows what is")]
    NotExported(String),
    #[error("the cache cannot be made: {0}")]
    Cache(io::Error),
    #[error("{0}. Run this as root or as the user that the server runs as")]
    Forbidden(StorageError),
    #[error("{0}. The export is not kept")]
    Export(#[from] ExportError),
    #[error(transparent)]
    Storage(StorageError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    #[error("cannot begin: {0}")]
    System(#[from] io::Error),
}

impl From<StorageError> for FilesError {
    fn from(error: StorageError) -> Self {
        if error.is_read_only() { Self::Forbidden(error) } else { Self::Storage(error) }
    }
}

/// A cache, opened, and what is wanted in it.
type Cache = (Arc<dyn Storage>, Vec<Target>);

/// `cert import`.
pub(super) fn import(file: &ConfigurationFile, from: &str, dir: &Path, dry: bool) -> ExitCode {
    let Some(origin) = Origin::ALL.into_iter().find(|origin| origin.as_str() == from) else {
        return ExitCode::FAILURE;
    };
    with_caches(file, |loaded| {
        // Read as who we are: other programs' keys are root's.
        let holds = match origin {
            Origin::Certbot => "`live`, such as /etc/letsencrypt",
            Origin::AcmeSh => "a directory for each name, such as ~/.acme.sh",
            Origin::Caddy => "`certificates`, such as /var/lib/caddy/.local/share/caddy",
        };
        let (owned, from) = (dir.to_owned(), origin.as_str());
        let pairs = pairs(origin, dir).map_err(|source| FilesError::Directory {
            dir: owned.clone(),
            from,
            holds,
            source,
        })?;
        if pairs.is_empty() {
            return Err(FilesError::Nothing { dir: owned, from, holds });
        }
        runtime()?.block_on(async {
            let caches = open(loaded, dry)?;
            let wanted: Vec<_> = caches
                .iter()
                .flat_map(|(storage, targets)| {
                    targets.iter().map(|target| (Arc::clone(storage), target.clone()))
                })
                .collect();
            let imports = waxseal_acme::import(&pairs, &wanted, Clock::system().now(), dry).await;
            let said: String = imports.iter().map(|one| told(one, dry)).collect();
            print(&said);
            let fine = |one: &Import| matches!(one.verdict, Verdict::Taken(..) | Verdict::Kept(_));
            if imports.iter().any(fine) { Ok(()) } else { Err(FilesError::NothingTaken) }
        })
    })
}

/// What came of one, in a line or with the line to write.
fn told(one: &Import, dry: bool) -> String {
    let what = match &one.verdict {
        Verdict::Taken(id, until) => {
            let (is, until) = (if dry { "would be" } else { "is" }, date(*until));
            format!("{is} the certificate of {id}, valid until {until}")
        }
        Verdict::Kept(id) => format!("not needed: {id} has one that lives as long"),
        Verdict::Outlived(id) => format!("not needed: another of these lives longer, for {id}"),
        Verdict::Refused(id, error) => format!("not taken for {id}: {error}"),
        Verdict::KeyKind(id, kind) => {
            format!("not taken: its key is {kind}, and {id} wants none of that kind (acme.ID.key-types)")
        }
        Verdict::Unwanted => {
            let names: Vec<_> = one.names.iter().map(|name| format!("{name:?}")).collect();
            format!(
                "not taken: it covers the names of no acme.ID; to have it renewed here, write there\n    domains = [{}]",
                names.join(", ")
            )
        }
        Verdict::NotValid(from, until) => {
            format!("not taken: it is valid from {} until {} only", date(*from), date(*until))
        }
        Verdict::Broken(why) => format!("not taken: {why}"),
    };
    format!("{}: {what}\n", one.from.display())
}

impl ExportArguments {
    /// `cert export`.
    pub(super) fn run(self, file: &ConfigurationFile) -> ExitCode {
        with_caches(file, |loaded| {
            runtime()?.block_on(async {
                let caches = open(loaded, self.list)?;
                match self {
                    Self { list: true, .. } => list(&caches).await,
                    Self { name: Some(name), remove: true, .. } => remove(&caches, &name).await,
                    Self { name: Some(name), cert: Some(cert), key: Some(key), owner, mode, run, .. } => {
                        let absolute = |path: PathBuf| {
                            std::path::absolute(&path).map_err(|source| FilesError::Path { path, source })
                        };
                        let (certificate, key) = (absolute(cert)?, absolute(key)?);
                        if certificate == key {
                            return Err(FilesError::SameFile);
                        }
                        if let Some(directory) = [&certificate, &key].into_iter().find(|path| path.is_dir()) {
                            return Err(FilesError::IsDirectory(directory.clone()));
                        }
                        let mode = mode.unwrap_or(PRIVATE);
                        let export = Export { name, certificate, key, owner, mode, run, done: None };
                        begin(&caches, export).await
                    }
                    // The arguments' own rules leave nothing else.
                    _ => Ok(()),
                }
            })
        })
    }
}

/// Writes the files, as whom the server writes them later, and keeps the export: what cannot be done is known at once.
async fn begin(caches: &[Cache], mut export: Export) -> Result<(), FilesError> {
    let all: Vec<Target> = caches.iter().flat_map(|(_, targets)| targets).cloned().collect();
    let target = export.target(&all)?;
    let Some((storage, _)) = caches.iter().find(|(_, targets)| targets.contains(target)) else {
        return Err(ExportError::Unknown(export.name).into());
    };
    for (storage, _) in caches {
        for (_, other) in exports(&**storage).await? {
            // The same files again, with another owner or command, are a change of that export.
            let crossed = other.key == export.certificate || other.certificate == export.key;
            let shared = other.name != export.name
                && (other.certificate == export.certificate || other.key == export.key);
            if crossed || shared {
                return Err(FilesError::Taken { path: export.certificate, name: other.name });
            }
        }
    }
    let serial = export.bring(&**storage, target, Clock::system().now()).await?;
    export.keep(&**storage).await?;
    let (certificate, key) = (export.certificate.display(), export.key.display());
    say(&match serial {
        Some(serial) => format!("{target}, serial {serial}, is in {certificate} and {key}\n"),
        None => format!("{target} has no certificate yet; it will be in {certificate} and {key}\n"),
    });
    Ok(())
}

async fn list(caches: &[Cache]) -> Result<(), FilesError> {
    let mut rows = Vec::new();
    for (storage, _) in caches {
        for (_, export) in exports(&**storage).await? {
            rows.push(vec![
                Value::from(export.name.as_str()),
                export.certificate.to_string_lossy().into(),
                export.key.to_string_lossy().into(),
                export.owner.clone().into(),
                format!("{:o}", export.mode).into(),
                export.run.clone().into(),
                export.done.clone().into(),
            ]);
        }
    }
    let header = &["name", "cert", "key", "owner", "mode", "run", "serial"];
    print(&format!("{}\n", Table { header, rows }.render()));
    Ok(())
}

async fn remove(caches: &[Cache], name: &str) -> Result<(), FilesError> {
    let mut removed = Vec::new();
    for (storage, _) in caches {
        removed.extend(remove_exports(&**storage, name).await?);
    }
    if removed.is_empty() {
        return Err(FilesError::NotExported(name.to_owned()));
    }
    for export in &removed {
        let (certificate, key) = (export.certificate.display(), export.key.display());
        say(&format!("{certificate} and {key} stay as they are from now on\n"));
    }
    Ok(())
}

/// Does `work` with a configuration that has certificates from a CA.
fn with_caches(file: &ConfigurationFile, work: impl FnOnce(&Loaded) -> Result<(), FilesError>) -> ExitCode {
    match file.load() {
        Ok(loaded) if loaded.model.acme.is_empty() => ended(Err(FilesError::NoAcme(file.config.clone()))),
        Ok(loaded) => ended(work(&loaded)),
        Err(report) => refuse(&report),
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Opens the caches as their owner, so that the server can use what is written there. To only look at them makes none.
fn open(loaded: &Loaded, only_look: bool) -> Result<Vec<Cache>, FilesError> {
    let model = &loaded.model;
    if let Some(run_as) = model.run_as.as_ref().filter(|_| !only_look && nix::unistd::geteuid().is_root()) {
        make_caches(model, run_as).map_err(FilesError::Cache)?;
    }
    let mut caches = Vec::new();
    for (path, targets) in wanted(model, &loaded.identities)? {
        let storage: Arc<dyn Storage> = if only_look && !path.exists() {
            Arc::new(MemoryStorage::new())
        } else {
            privileges::become_owner(&path)?;
            Arc::new(FileStorage::open(&path)?)
        };
        caches.push((storage, targets));
    }
    Ok(caches)
}

/// A mode such as `640`. A key that everybody may read is none.
fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode & !0o770 == 0 && mode & 0o400 != 0 => Ok(mode),
        _ => Err("a key's mode is octal, for its owner and group only, such as 600 or 640".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal_and_let_nobody_else_read_a_key() {
        assert_eq!(mode("640"), Ok(0o640));
        assert_eq!(mode("0600"), Ok(0o600));
        for wrong in ["", "644", "1777", "8", "rw", "-600", "0"] {
            assert!(mode(wrong).is_err(), "{wrong}");
        }
    }
}
