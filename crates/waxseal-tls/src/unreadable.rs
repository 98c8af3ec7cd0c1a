//! Why a file cannot be read, and the command that repairs it.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User};

/// Permission bits of others.
const OTHERS_READ: u32 = 0o004;
const OTHERS_SEARCH: u32 = 0o001;
const PERMISSION_BITS: u32 = 0o7777;

/// The reason in an operator's words.
pub(crate) fn reason(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => missing(path),
        io::ErrorKind::PermissionDenied => denied(path),
        _ => error.to_string(),
    }
}

fn missing(path: &Path) -> String {
    let Some(first) = path.ancestors().skip(1).find(|ancestor| ancestor.exists()) else {
        return "it does not exist".into();
    };
    if path.is_symlink() {
        let target = std::fs::read_link(path).unwrap_or_default();
        return format!("it is a symbolic link to {}, which does not exist", target.display());
    }
    match path.parent() {
        Some(parent) if parent == first || parent.as_os_str().is_empty() => "it does not exist".into(),
        _ => format!("it does not exist; of its path, only {} does", first.display()),
    }
}

/// Names what stands in the way: the file itself, or a directory above it or above what it links to.
fn denied(path: &Path) -> String {
    let user = user_name(Uid::effective());
    let real = furthest(path);
    let obstacle = real.ancestors().find_map(|part| Some((part, std::fs::symlink_metadata(part).ok()?)));
    let Some((obstacle, metadata)) = obstacle else {
        return format!("permission denied to user {user}");
    };
    let what = if metadata.is_dir() { "the directory" } else { "the file" };
    let owner = user_name(Uid::from_raw(metadata.uid()));
    let group = Group::from_gid(Gid::from_raw(metadata.gid())).ok().flatten();
    let group = group.map_or_else(|| metadata.gid().to_string(), |group| group.name);
    let mode = metadata.mode() & PERMISSION_BITS;
    let remedy = if metadata.is_dir() {
        format!("setfacl -R -m u:{user}:rX {}", obstacle.display())
    } else {
        format!("setfacl -m u:{user}:r {}", obstacle.display())
    };
    format!(
        "permission denied to user {user}: {what} {} belongs to {owner}:{group} with mode {mode:04o}. Repair it: {remedy}",
        obstacle.display()
    )
}

/// The path with its links followed as far as we are allowed to.
fn furthest(path: &Path) -> PathBuf {
    const MAX_LINKS: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(target) = std::fs::read_link(&path) else { break };
        path = path.parent().unwrap_or_else(|| Path::new("/")).join(target);
    }
    path
}

fn user_name(uid: Uid) -> String {
    User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

/// The file and its mode, if every user of the machine can read it.
pub(crate) fn readable_by_others(path: &Path) -> Option<(&Path, u32)> {
    let real = std::fs::canonicalize(path).ok()?;
    let mode = std::fs::metadata(&real).ok()?.mode();
    let is_open = |directory: &Path| {
        std::fs::metadata(directory).is_ok_and(|metadata| metadata.mode() & OTHERS_SEARCH != 0)
    };
    let exposed = mode & OTHERS_READ != 0 && real.ancestors().skip(1).all(is_open);
    exposed.then_some((path, mode & PERMISSION_BITS))
}
