//! Why a file cannot be read: its owner and mode, who we are, and the command that mends it.

use std::fs::{self, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User};

use super::problem::{Problem, Problems};
use super::source::Span;

/// The text of a file of at most `limit` bytes.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(limit + 1).read_to_string(&mut text)?;
    if text.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {limit} bytes")));
    }
    Ok(text)
}

/// Whether a file that is no text begins as a certificate or key in DER does: a SEQUENCE with a long length (X.690).
fn is_der(path: &Path) -> bool {
    let mut start = [0; 2];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start[0] == 0x30 && start[1] & 0xf0 == 0x80
}

/// Notes that a file cannot be read, with what is known of it and what to do.
pub(crate) fn complain<'p>(
    problems: &'p mut Problems,
    span: impl Into<Option<Span>>,
    path: &Path,
    error: &io::Error,
) -> &'p mut Problem {
    let reason = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        io::ErrorKind::InvalidData if is_der(path) => "it is DER, and PEM is wanted".to_owned(),
        io::ErrorKind::InvalidData => "it is not text (UTF-8)".to_owned(),
        _ => error.to_string(),
    };
    let problem = problems.error(span, format!("cannot read {}: {reason}", path.display()));
    match error.kind() {
        io::ErrorKind::InvalidData if is_der(path) => problem.help(format!(
            "convert it: openssl x509 -inform der -in {0} -out NEW.pem for a certificate, openssl pkey for a key",
            path.display()
        )),
        io::ErrorKind::NotFound => {
            let missing = first_missing(path);
            problem.maybe_help(missing.map(|part| format!("the directory {} does not exist", part.display())))
        }
        io::ErrorKind::PermissionDenied => {
            let (culprit, metadata) = culprit(path);
            let user = user_name(Uid::effective());
            let seen = metadata.map(|metadata| describe(&culprit, &metadata));
            let right = if culprit == path { "r" } else { "x" };
            problem
                .maybe_help(seen.map(|seen| format!("{seen}; waxseal runs as {user}")))
                .help("if waxseal is to start as another user, do this as that user")
                .help(format!("else run: setfacl -m u:{user}:{right} {}", culprit.display()))
        }
        _ => problem,
    }
}

/// `PATH is 0600 root:root`.
fn describe(path: &Path, metadata: &Metadata) -> String {
    let group = Gid::from_raw(metadata.gid());
    let group = Group::from_gid(group).ok().flatten().map_or_else(|| group.to_string(), |group| group.name);
    let owner = user_name(Uid::from_raw(metadata.uid()));
    format!("{} is {:04o} {owner}:{group}", path.display(), metadata.mode() & 0o7777)
}

fn user_name(uid: Uid) -> String {
    User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

/// The part of the path that is missing, if a directory of it is.
fn first_missing(path: &Path) -> Option<PathBuf> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty())?;
    let missing =
        |path: &&Path| fs::symlink_metadata(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
    parent
        .ancestors()
        .filter(|part| !part.as_os_str().is_empty())
        .filter(missing)
        .last()
        .map(Path::to_path_buf)
}

/// The file, or the last directory on the way to it that can be seen and so is the one that bars it.
fn culprit(path: &Path) -> (PathBuf, Option<Metadata>) {
    let seen = path.ancestors().find_map(|part| fs::metadata(part).ok().map(|metadata| (part, metadata)));
    match seen {
        Some((part, metadata)) => (part.to_path_buf(), Some(metadata)),
        None => (path.to_path_buf(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_missing_directory_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("live/mail.example.org/privkey.pem");
        assert_eq!(first_missing(&path), Some(directory.path().join("live")));
        assert_eq!(first_missing(&directory.path().join("privkey.pem")), None);
    }

    #[test]
    fn owner_mode_and_user_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let (culprit, metadata) = culprit(&path);
        assert_eq!(culprit, path);
        let text = describe(&culprit, &metadata.unwrap());
        assert!(text.contains("0600") && text.contains(&user_name(Uid::effective())), "{text}");
    }

    #[test]
    fn permission_denied_is_told_with_the_command_that_mends_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        fs::write(&path, "x").unwrap();
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let help = |path: &Path| {
            let mut problems = Problems::default();
            complain(&mut problems, None, path, &denied);
            problems.iter().flat_map(|problem| problem.help.clone()).collect::<Vec<_>>().join("\n")
        };
        let user = user_name(Uid::effective());
        let file = help(&path);
        assert!(file.contains(&format!("setfacl -m u:{user}:r {}", path.display())), "{file}");
        // A file that cannot even be seen is barred by its directory.
        let barred = help(&directory.path().join("unseen"));
        assert!(
            barred.contains(&format!("setfacl -m u:{user}:x {}", directory.path().display())),
            "{barred}"
        );
        assert!(barred.contains(&format!("waxseal runs as {user}")), "{barred}");
    }

    #[test]
    fn a_file_beyond_its_bound_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("large");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read_bounded(&path, 5).unwrap(), "12345");
        assert_eq!(read_bounded(&path, 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
