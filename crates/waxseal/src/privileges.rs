//! Giving up what only the start needs.

use std::ffi::CString;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::Path;
use std::{fs, io};

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, User, initgroups, setgid, setgroups, setuid};

use crate::config::RunAs;

/// What the system refused.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// Only root may become somebody else.
    #[error(
        "cannot become {whom}: {source}. server.run-as needs a start as root; start as root, or remove server.run-as and \
         start as that user at once"
    )]
    Refused {
        /// User or group.
        whom: String,
        /// The system's word for it.
        source: Errno,
    },
    /// The old rights could be had back, which must not be.
    #[error("root's rights could be regained after becoming {0}; refusing to go on")]
    Regained(String),
}

/// Gives a directory that was just made, and what is in it, to whom we are about to become. What belongs to somebody
/// else than root already is left to whoever gave it.
///
/// # Errors
/// What the system refuses.
pub fn hand_over(directory: &Path, run_as: &RunAs) -> io::Result<()> {
    let Some((_, uid)) = &run_as.user else { return Ok(()) };
    let give = |path: &Path| -> io::Result<()> {
        if fs::symlink_metadata(path)?.uid() == 0 {
            lchown(path, Some(uid.as_raw()), Some(run_as.group.as_raw()))?;
        }
        Ok(())
    };
    for entry in fs::read_dir(directory)? {
        give(&entry?.path())?;
    }
    give(directory)
}

/// Becomes, for good, whoever `path` belongs to, or else the nearest directory above it that is there: what is made there
/// from now on is theirs from its first moment. Only root can, and needs to.
///
/// # Errors
/// As [`drop_to`].
pub fn become_owner(path: &Path) -> Result<(), PrivilegeError> {
    let Some(found) = path.ancestors().find_map(|above| fs::metadata(above).ok()) else { return Ok(()) };
    let uid = Uid::from_raw(found.uid());
    if !Uid::effective().is_root() || uid.is_root() {
        return Ok(());
    }
    let name = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    drop_to(&RunAs { user: Some((name, uid)), group: Gid::from_raw(found.gid()) })
}

/// Becomes `run_as`, for good: groups first, then the group, then the user, for every thread of the process.
///
/// # Errors
/// What the system refuses; the process is then in between and must end.
pub fn drop_to(run_as: &RunAs) -> Result<(), PrivilegeError> {
    let refused = |whom: String| move |source| PrivilegeError::Refused { whom, source };
    let group = format!("group {}", run_as.group);
    // The user's other groups are kept: one of them is often what may read the keys.
    let name = run_as.user.as_ref().and_then(|(name, _)| CString::new(name.as_str()).ok());
    match name {
        Some(name) => initgroups(&name, run_as.group),
        None => setgroups(&[run_as.group]),
    }
    .map_err(refused(group.clone()))?;
    setgid(run_as.group).map_err(refused(group))?;
    if let Some((name, uid)) = &run_as.user {
        setuid(*uid).map_err(refused(format!("user {name}")))?;
        if !uid.is_root() && (setuid(Uid::from_raw(0)).is_ok() || setgid(Gid::from_raw(0)).is_ok()) {
            return Err(PrivilegeError::Regained(name.clone()));
        }
    }
    Ok(())
}
