//! Files that other programs read: whole or not at all, and never anybody else's for a moment.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use nix::unistd::{Group, User};

/// A file to be.
pub(super) struct Content<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a [u8],
    pub(super) mode: u32,
}

/// User and group by their numbers; `None` leaves them.
pub(super) type Owner = (Option<u32>, Option<u32>);

/// Reads `USER`, `USER:GROUP` or `:GROUP`, names or numbers.
pub(super) fn owner(text: &str) -> Result<Owner, String> {
    let (user, group) = text.split_once(':').map_or((text, ""), |(user, group)| (user, group));
    let found = |what: &str, name: &str, found: nix::Result<Option<u32>>| match found {
        Ok(number) => number.ok_or_else(|| format!("there is no {what} {name:?} on this machine")),
        Err(error) => Err(format!("the {what} {name:?} cannot be looked up: {error}")),
    };
    let user_of = |name: &str| match name.parse() {
        Ok(number) => Ok(number),
        Err(_) => found("user", name, User::from_name(name).map(|user| user.map(|it| it.uid.as_raw()))),
    };
    let group_of = |name: &str| match name.parse() {
        Ok(number) => Ok(number),
        Err(_) => found("group", name, Group::from_name(name).map(|group| group.map(|it| it.gid.as_raw()))),
    };
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Ok((
        given(user).map(|user| user_of(&user)).transpose()?,
        given(group).map(|group| group_of(&group)).transpose()?,
    ))
}

/// Writes those of `contents` that differ from what is there, all beside their places first; whether any did.
pub(super) fn write(contents: &[Content<'_>], owner: Owner) -> Result<bool, (PathBuf, io::Error)> {
    let mut waiting = Vec::new();
    for content in contents {
        if is_there(content, owner) {
            continue;
        }
        let made = beside(content.path).and_then(|(beside, mut file)| {
            waiting.push((beside, content.path));
            fill(&mut file, content, owner)
        });
        if let Err(error) = made {
            for (beside, _) in waiting {
                let _ = fs::remove_file(beside);
            }
            return Err((content.path.to_owned(), error));
        }
    }
    for (beside, path) in &waiting {
        let renamed = fs::rename(beside, path).and_then(|()| match path.parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        });
        renamed.map_err(|error| (path.to_path_buf(), error))?;
    }
    Ok(!waiting.is_empty())
}

/// Whether the file is as it shall be, text, mode and owner.
fn is_there(content: &Content<'_>, (user, group): Owner) -> bool {
    let Ok(found) = fs::metadata(content.path) else { return false };
    found.permissions().mode() & 0o7777 == content.mode
        && user.is_none_or(|user| user == found.uid())
        && group.is_none_or(|group| group == found.gid())
        && fs::read(content.path).is_ok_and(|there| there == content.text)
}

/// A new file in the same directory, under a name that nobody else has: of two who write the same file at once, in two
/// containers even, each has its own.
fn beside(path: &Path) -> io::Result<(PathBuf, File)> {
    /// More than anybody has left behind by being killed.
    const MOST: usize = 100;
    let mut number = 0;
    loop {
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".waxseal-{}-{number}", std::process::id()));
        let beside = path.with_file_name(name);
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < MOST => number += 1,
            opened => return opened.map(|file| (beside, file)),
        }
    }
}

fn fill(file: &mut File, content: &Content<'_>, (user, group): Owner) -> io::Result<()> {
    file.write_all(content.text)?;
    if user.is_some() || group.is_some() {
        fchown(&*file, user, group)?;
    }
    file.set_permissions(Permissions::from_mode(content.mode))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_their_mode_and_nothing_is_left_beside_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key.pem");
        fs::write(&path, "old").expect("written");
        let before = fs::metadata(&path).expect("there").ino();
        let content = |text| Content { path: &path, text, mode: 0o640 };
        assert!(write(&[content(b"new")], (None, None)).expect("written"));
        let after = fs::metadata(&path).expect("there");
        assert_eq!(after.permissions().mode() & 0o7777, 0o640);
        assert_ne!(after.ino(), before, "another file in its place, not the same one written over");
        assert!(!write(&[content(b"new")], (None, None)).expect("nothing to do"));
        let narrower = Content { mode: 0o600, ..content(b"new") };
        assert!(write(&[narrower], (None, None)).expect("written"), "another mode is a change");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 1);
    }

    #[test]
    fn where_one_file_cannot_be_made_the_other_stays_as_it_was() {
        let dir = tempfile::tempdir().expect("a directory");
        let (key, lost) = (dir.path().join("key.pem"), dir.path().join("missing/cert.pem"));
        fs::write(&key, "old").expect("written");
        let contents = [&key, &lost].map(|path| Content { path, text: b"new", mode: 0o600 });
        let (path, _) = write(&contents, (None, None)).expect_err("no such directory");
        assert_eq!(path, lost);
        assert_eq!(fs::read(&key).expect("read"), b"old");
        assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 1);
    }

    #[test]
    fn many_who_write_at_once_do_not_get_into_each_others_way() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key.pem");
        let texts: Vec<Vec<u8>> = (b'a'..b'i').map(|letter| vec![letter; 4000]).collect();
        std::thread::scope(|scope| {
            for text in &texts {
                let content = Content { path: &path, text, mode: 0o600 };
                scope.spawn(move || write(&[content], (None, None)).expect("written"));
            }
        });
        let there = fs::read(&path).expect("read");
        assert!(texts.contains(&there), "one of them, whole");
        assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 1);
    }

    #[test]
    fn owners_are_names_or_numbers() {
        assert_eq!(owner("root"), Ok((Some(0), None)));
        assert_eq!(owner("root:root"), Ok((Some(0), Some(0))));
        assert_eq!(owner(":12"), Ok((None, Some(12))));
        assert_eq!(owner("7:8"), Ok((Some(7), Some(8))));
        let said = owner("nobody-of-that-name").expect_err("unknown");
        assert!(said.contains("no user \"nobody-of-that-name\""), "{said}");
    }
}
