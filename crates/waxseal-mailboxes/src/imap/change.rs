//! STORE, COPY, MOVE.

use tokio::io::{AsyncRead, AsyncWrite};

use super::reply::{Answer, Reply, Stop, try_create};
use super::selected::FlagsTold;
use super::session::Session;
use super::syntax::{SequenceSet, SetFlags};
use crate::store::{Copied, Flag, FolderName, Uid};

/// How many messages are changed in one piece of work.
const AT_ONCE: usize = 2000;

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Session<S> {
    pub(super) async fn store_flags(&mut self, by_uid: bool, set: &SequenceSet, store: SetFlags) -> Answer {
        self.writable()?;
        if store.unchanged_since.is_some() {
            self.enable_condstore();
        }
        let uids = self.selected()?.uids(set, by_uid)?;
        let told = FlagsTold {
            flags: !store.silent,
            uid: by_uid || self.enabled.rev2,
            modseq: self.enabled.condstore,
        };
        let (change, since) = (store.change, store.unchanged_since);
        let mut modified = Vec::new();
        let mut gone = false;
        for some in uids.chunks(AT_ONCE) {
            let (some, flags) = (some.to_vec(), store.flags.clone());
            let asked = some.len();
            let stored =
                self.on_folder(move |folder| folder.set_flags(&some, change, &flags, since)).await??;
            gone |= stored.done.len() + stored.modified.len() < asked;
            if told.flags || told.modseq {
                self.tell_flags(&stored.done, told).await?;
            }
            modified.extend(stored.modified);
        }
        if !modified.is_empty() {
            let selected = self.selected()?;
            let numbers = modified.iter().map(|uid| match by_uid {
                true => *uid,
                false => u32::try_from(selected.number(*uid)).unwrap_or(u32::MAX),
            });
            let code = format!("MODIFIED {}", in_order(numbers));
            return Ok(Reply::ok("Some had been changed by others").with_code(code));
        }
        if gone && !by_uid {
            return Ok(Reply::no("EXPUNGEISSUED", "Some of the messages are gone"));
        }
        Ok(Reply::ok("Flags stored"))
    }

    pub(super) async fn copy(&mut self, by_uid: bool, set: &SequenceSet, to: FolderName) -> Answer {
        let uids = self.selected()?.uids(set, by_uid)?;
        if uids.is_empty() {
            return Ok(Reply::ok("Nothing to copy"));
        }
        let copied = self.on_folder(move |folder| folder.copy_to(&uids, &to)).await?.map_err(try_create)?;
        Ok(Reply::ok("Messages copied").with_code(copy_uid(&copied)))
    }

    pub(super) async fn move_messages(&mut self, by_uid: bool, set: &SequenceSet, to: FolderName) -> Answer {
        self.writable()?;
        let uids = self.selected()?.uids(set, by_uid)?;
        if uids.is_empty() {
            return Ok(Reply::ok("Nothing to move"));
        }
        let moved = self.on_folder(move |folder| folder.move_to(&uids, &to)).await?.map_err(try_create)?;
        if moved.pairs.is_empty() {
            return Ok(Reply::no("EXPUNGEISSUED", "The messages are gone"));
        }
        // RFC 6851 section 4.3: before the numbers shift.
        self.put(&format!("* OK [{}] Moved", copy_uid(&moved)));
        let gone: Vec<Uid> = moved.pairs.iter().map(|(uid, _)| *uid).collect();
        self.tell_gone(&gone).await?;
        Ok(Reply::ok("Messages moved"))
    }

    /// Sets \Seen on those of `uids` that do not have it; says which.
    pub(super) async fn mark_seen(&mut self, uids: Vec<Uid>) -> Result<Vec<Uid>, Stop> {
        let mark = move |folder: &mut crate::store::Folder| {
            let unseen: Vec<Uid> = uids
                .into_iter()
                .filter(|uid| folder.get(*uid).is_some_and(|message| !message.flags.contains(Flag::Seen)))
                .collect();
            if unseen.is_empty() {
                return Ok(unseen);
            }
            let seen = [Flag::Seen].into_iter().collect();
            folder.set_flags(&unseen, crate::store::FlagChange::Add, &seen, None).map(|stored| stored.done)
        };
        Ok(self.on_folder(mark).await??)
    }
}

/// COPYUID: both sets in the same order (RFC 4315 section 3). The new numbers need not ascend: a message that another
/// program renamed meanwhile came later.
fn copy_uid(copied: &Copied) -> String {
    let here = in_order(copied.pairs.iter().map(|(here, _)| *here));
    let there = in_order(copied.pairs.iter().map(|(_, there)| *there));
    format!("COPYUID {} {here} {there}", copied.uid_validity)
}

/// Numbers as they come, runs of neighbours as ranges.
fn in_order(numbers: impl Iterator<Item = u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, end)) if end.checked_add(1) == Some(number) => *end = number,
            _ => runs.push((number, number)),
        }
    }
    let written =
        runs.into_iter().map(|(from, to)| if from == to { from.to_string() } else { format!("{from}:{to}") });
    written.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copyuid_keeps_each_number_beside_its_own() {
        let copied = Copied { uid_validity: 7, pairs: vec![(1, 6), (2, 4), (3, 5)] };
        assert_eq!(copy_uid(&copied), "COPYUID 7 1:3 6,4:5");
    }
}
