//! On what kind of file system a directory is.

use std::fs;
use std::path::Path;

use crate::storage::Durability;

/// Whether what is written to `root` outlives the machine's, or the container's, next start.
pub(super) fn durability(root: &Path) -> Durability {
    let (Ok(root), Ok(mounts)) = (root.canonicalize(), fs::read_to_string("/proc/self/mountinfo")) else {
        return Durability::Lasting;
    };
    judge(&root, &mounts)
}

/// Whether `root` is on a file system that other machines write to as well: the kernel tells nothing of what they do.
pub(super) fn is_shared(root: &Path) -> bool {
    let (Ok(root), Ok(mounts)) = (root.canonicalize(), fs::read_to_string("/proc/self/mountinfo")) else {
        return false;
    };
    kind_of(&root, &mounts).is_some_and(|kind| is_network(&kind))
}

fn is_network(kind: &str) -> bool {
    let names = [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "9p",
        "virtiofs",
        "ceph",
        "glusterfs",
        "lustre",
        "gfs2",
        "ocfs2",
        "afs",
    ];
    names.contains(&kind) || kind.starts_with("fuse.")
}

fn judge(root: &Path, mounts: &str) -> Durability {
    match kind_of(root, mounts) {
        Some(kind) if ["tmpfs", "ramfs", "overlay"].contains(&kind.as_str()) => {
            let ends = if kind == "overlay" {
                "goes away with the container"
            } else {
                "is lost when the machine stops"
            };
            Durability::Fleeting(format!("{} is on {kind}, which {ends}", root.display()))
        }
        _ => Durability::Lasting,
    }
}

/// The kind of file system that `root` is on. Reads proc_pid_mountinfo(5):
/// `36 35 98:0 /root /mount/point options [tags] - type source options`.
fn kind_of(root: &Path, mounts: &str) -> Option<String> {
    let mount = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?.replace("\\040", " ");
        let kind = after.split(' ').next()?.to_owned();
        root.starts_with(&point).then_some((point, kind))
    };
    // The last of the longest: a later mount covers an earlier one.
    mounts.lines().filter_map(mount).max_by_key(|(point, _)| point.len()).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 0:20 / / rw,relatime shared:1 - overlay overlay rw,lowerdir=/x
23 22 8:1 / /var/lib/waxseal rw,relatime - ext4 /dev/sda1 rw
24 22 0:21 / /run rw,nosuid shared:2 - tmpfs tmpfs rw,mode=755
25 22 8:2 / /with\\040space rw - xfs /dev/sdb rw";

    #[test]
    fn the_nearest_mount_counts() {
        assert_eq!(judge(Path::new("/var/lib/waxseal/acme"), MOUNTS), Durability::Lasting);
        assert_eq!(judge(Path::new("/with space/acme"), MOUNTS), Durability::Lasting);
        for (path, kind) in
            [("/var/lib/waxseal2", "overlay"), ("/run/waxseal", "tmpfs"), ("/with", "overlay")]
        {
            match judge(Path::new(path), MOUNTS) {
                Durability::Fleeting(why) => assert!(why.contains(kind), "{why}"),
                Durability::Lasting => panic!("{path} is on {kind}"),
            }
        }
    }

    #[test]
    fn what_other_machines_write_to_is_known_by_its_kind() {
        let mounts =
            "23 22 0:50 / /shared rw - nfs4 server:/export rw\n24 22 0:51 / /own rw - ext4 /dev/sda rw";
        let kind = |path| kind_of(Path::new(path), mounts).expect("mounted");
        assert!(is_network(&kind("/shared/acme")) && is_network("fuse.sshfs"));
        assert!(!is_network(&kind("/own/acme")));
    }

    #[test]
    fn what_cannot_be_known_is_not_complained_about() {
        assert_eq!(judge(Path::new("/x"), "nonsense"), Durability::Lasting);
    }
}
