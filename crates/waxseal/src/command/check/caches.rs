//! The directories that certificates from CAs are kept in, as far as they can be judged without making them.

use nix::unistd::{AccessFlags, access, geteuid};
use waxseal_storage::{Durability, FileStorage};

use crate::config::Loaded;

/// Adds what is wrong with them to the problems.
pub(super) fn look(loaded: &mut Loaded) {
    for acme in &loaded.model.acme {
        let span = || acme.kept.as_ref().unwrap_or(&acme.header).clone();
        // A link that leads nowhere is there, too.
        let Some(there) = acme.cache.ancestors().find(|path| path.symlink_metadata().is_ok()) else {
            continue;
        };
        let own = "name a directory of waxseal's own, such as /var/lib/waxseal/acme";
        let foreign = there == acme.cache && FileStorage::is_ours(there).is_ok_and(|ours| !ours);
        if !there.is_dir() {
            let title = format!("{} is no directory", there.display());
            loaded.report.problems.error(span(), title).help(own);
        } else if foreign {
            let title = format!("{} holds what is not waxseal's", there.display());
            loaded.report.problems.error(span(), title).help(own);
        } else if let Err(refused) = access(there, AccessFlags::W_OK | AccessFlags::X_OK) {
            let title = format!("user {} may not write in {}: {refused}", geteuid(), there.display());
            let make = format!("sudo install -d -m 700 -o USER {}", acme.cache.display());
            loaded.report.problems.warning(span(), title).help(format!(
                "nothing is wrong if the server runs as another user; else run `{make}` with the USER that it runs as"
            ));
        } else if let Durability::Fleeting(why) = FileStorage::durability_at(there) {
            let title =
                format!("{why}: certificates and the account would be ordered anew after each restart");
            loaded.report.problems.warning(span(), title).help(
                "keep acme.ID.cache on a disk or a volume, as the CA's limits are soon reached otherwise",
            );
        }
    }
}
