//! The directory: made for its owner alone, and used again only if a quickstart made it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::Uid;
use serde::{Deserialize, Serialize};

use super::DOMAIN;

/// The file that makes a directory one of a quickstart: it is the first to be written.
const PASSWORDS: &str = "passwords.json";
/// Characters of a password: letters and digits, which no shell and no mail program takes for something else.
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// How many a password has: 119 bits.
const PASSWORD_CHARACTERS: usize = 20;
/// Bytes the file of passwords may have.
const MAX_PASSWORDS_BYTES: u64 = 64 << 10;

/// An account and its password.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Login {
    pub(super) address: String,
    pub(super) password: String,
}

/// The directory, ours alone as long as this lives.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    logins: [Login; 2],
    _lock: Flock<File>,
}

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Visibility {
    /// Everyone whom the directory lets in.
    Public,
    /// Its owner.
    Secret,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It cannot be made or written to.
    #[error("{}: {source}. Name a directory that can be written to with --dir DIR", path.display())]
    Io {
        /// What was worked on.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something else is in it.
    #[error("{} is not empty, and no quickstart made it. Name a new directory with --dir DIR", .0.display())]
    Foreign(PathBuf),
    /// The file of passwords is not what was written.
    #[error("{}: {why}. It was changed by hand; name a new directory with --dir DIR", path.display())]
    Passwords {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It belongs to somebody else, who could read what is put there.
    #[error("{} belongs to another user. Name a directory of your own with --dir DIR", .0.display())]
    NotOurs(PathBuf),
    /// A quickstart runs there.
    #[error("a quickstart runs in {} already. Stop it, or name another directory with --dir DIR", .0.display())]
    Runs(PathBuf),
    /// There is no randomness for passwords.
    #[error("the system has no randomness for passwords: {0}")]
    Randomness(getrandom::Error),
}

/// What went wrong with `path`.
fn at(path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    move |source| DirectoryError::Io { path: path.to_owned(), source }
}

impl Directory {
    /// Makes the directory, or takes one that a quickstart made.
    pub(super) fn open(path: &Path) -> Result<Self, DirectoryError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))?;
        // What is printed must hold in another shell too.
        let path = path.canonicalize().map_err(at(path))?;
        if path.to_str().is_none() {
            return Err(at(&path)(io::Error::other("its name is no text (UTF-8)")));
        }
        let found = path.metadata().map_err(at(&path))?;
        if found.uid() != Uid::effective().as_raw() {
            return Err(DirectoryError::NotOurs(path));
        }
        let passwords = path.join(PASSWORDS);
        let fresh = !passwords.exists();
        if fresh && fs::read_dir(&path).map_err(at(&path))?.next().is_some() {
            return Err(DirectoryError::Foreign(path));
        }
        // Less than there is, never more: who may not write into their own directory has a reason.
        let private = Permissions::from_mode(found.mode() & 0o700);
        fs::set_permissions(&path, private).map_err(at(&path))?;
        let lock = File::open(&path).map_err(at(&path))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|_| DirectoryError::Runs(path.clone()))?;
        let logins = match fresh {
            true => {
                let logins = [new_login("alice")?, new_login("bob")?];
                let text = serde_json::to_string_pretty(&logins).unwrap_or_default();
                write(&passwords, format!("{text}\n").as_bytes(), Visibility::Secret)?;
                logins
            }
            false => read(&passwords)?,
        };
        Ok(Self { path, logins, _lock: lock })
    }

    /// The path of a file in it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Its own path, from the root.
    pub(super) fn root(&self) -> &Path {
        &self.path
    }

    /// The accounts: the one that sends, and the one that reads.
    pub(super) fn logins(&self) -> &[Login; 2] {
        &self.logins
    }

    /// Writes a file whole or not at all; gives its path.
    pub(super) fn write(
        &self,
        name: &str,
        content: impl AsRef<[u8]>,
        visibility: Visibility,
    ) -> Result<PathBuf, DirectoryError> {
        let path = self.path(name);
        write(&path, content.as_ref(), visibility)?;
        Ok(path)
    }

    /// A text that was written; `None` if it is not there, or no text.
    pub(super) fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path(name)).ok()
    }
}

fn write(path: &Path, content: &[u8], visibility: Visibility) -> Result<(), DirectoryError> {
    let mode = if visibility == Visibility::Secret { 0o600 } else { 0o644 };
    let new = path.with_extension("new");
    // One of a start that was killed may have another mode.
    let _ = fs::remove_file(&new);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&new)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&new, path));
    written.map_err(at(path))
}

fn read(path: &Path) -> Result<[Login; 2], DirectoryError> {
    let wrong = |why: String| DirectoryError::Passwords { path: path.to_owned(), why };
    let text = crate::config::read_bounded(path, MAX_PASSWORDS_BYTES).map_err(at(path))?;
    // serde_json's messages can hold what stands in the file.
    let logins: [Login; 2] = serde_json::from_str(&text)
        .map_err(|error| wrong(format!("line {} is not what quickstart writes", error.line())))?;
    let ours = |login: &Login| {
        login.address.ends_with(&format!("@{DOMAIN}"))
            && !login.password.is_empty()
            && login.password.bytes().all(|byte| ALPHABET.contains(&byte))
    };
    // They are printed in commands for a shell.
    let plain =
        |login: &Login| login.address.bytes().all(|b| b.is_ascii_alphanumeric() || b"@.-_".contains(&b));
    match logins.iter().all(|login| ours(login) && plain(login)) {
        true => Ok(logins),
        false => Err(wrong("it holds something else than addresses and passwords".to_owned())),
    }
}

fn new_login(name: &str) -> Result<Login, DirectoryError> {
    Ok(Login { address: format!("{name}@{DOMAIN}"), password: new_password()? })
}

fn new_password() -> Result<String, DirectoryError> {
    let mut password = String::with_capacity(PASSWORD_CHARACTERS);
    while password.len() < PASSWORD_CHARACTERS {
        let mut random = [0; 2 * PASSWORD_CHARACTERS];
        getrandom::fill(&mut random).map_err(DirectoryError::Randomness)?;
        // Bytes that would make some characters likelier than others fall out: 62 * 4 = 248.
        let fair = random.iter().filter(|byte| **byte < 248);
        let characters = fair.filter_map(|byte| ALPHABET.get(usize::from(*byte) % ALPHABET.len()));
        let missing = PASSWORD_CHARACTERS - password.len();
        password.extend(characters.take(missing).map(|character| char::from(*character)));
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_long_plain_and_never_the_same() {
        let (one, other) = (new_password().unwrap(), new_password().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), PASSWORD_CHARACTERS);
        assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }

    #[test]
    fn a_directory_is_private_locked_and_keeps_its_passwords() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let first = Directory::open(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o700);
        assert_eq!(path.join(PASSWORDS).metadata().unwrap().mode() & 0o777, 0o600);
        assert!(matches!(Directory::open(&path), Err(DirectoryError::Runs(_))));
        let password = first.logins()[0].password.clone();
        drop(first);
        assert_eq!(Directory::open(&path).unwrap().logins()[0].password, password);
    }

    #[test]
    fn what_no_quickstart_made_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        fs::write(directory.path().join("thesis.tex"), "").unwrap();
        assert!(matches!(Directory::open(directory.path()), Err(DirectoryError::Foreign(_))));
        assert_eq!(directory.path().metadata().unwrap().mode() & 0o777, 0o755);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn passwords_changed_by_hand_are_told_of_and_never_printed() {
        let directory = tempfile::tempdir().unwrap();
        for text in [
            "",
            "{}",
            "[]",
            "[\"hunter2\", 1]",
            r#"[{"address": "a@waxseal.test", "password": "hunter2; rm"}, {"address": "b@waxseal.test", "password": "x"}]"#,
            r#"[{"address": "$(a)@waxseal.test", "password": "hunter2"}, {"address": "b@waxseal.test", "password": "x"}]"#,
        ] {
            fs::write(directory.path().join(PASSWORDS), text).unwrap();
            let error = Directory::open(directory.path()).unwrap_err();
            assert!(matches!(error, DirectoryError::Passwords { .. }), "{text}: {error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
