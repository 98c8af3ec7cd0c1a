//! The INBOX as a POP3 session sees it: a list that stays as it was at login.

use crate::accounts::Account;
use crate::store::{Access, Folder, FolderName, Maildrop, Store, StoreError, Uid};

/// A message in the list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item {
    pub(crate) uid: Uid,
    /// Octets as they are sent, without the dots added.
    pub(crate) size: u64,
    pub(crate) deleted: bool,
}

/// The list, and the right to it.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) folder: Folder,
    pub(crate) items: Vec<Item>,
    _lock: Maildrop,
}

impl Opened {
    /// Opens the INBOX of an account; `None` while another POP3 session has it. File work.
    pub(crate) fn open(store: &Store, account: &Account) -> Result<Option<Self>, StoreError> {
        let mailbox = store.mailbox(&account.address, account.quota)?;
        let Some(lock) = mailbox.maildrop()? else { return Ok(None) };
        let folder = mailbox.open(&FolderName::inbox(), Access::ReadWrite)?;
        let mut items = Vec::with_capacity(folder.messages().len());
        for message in folder.messages() {
            match folder.size(message.uid) {
                Ok(size) => items.push(Item { uid: message.uid, size, deleted: false }),
                Err(StoreError::Expunged) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(Self { folder, items, _lock: lock }))
    }

    /// A message that is there and not marked as deleted; `number` from 1.
    pub(crate) fn item(&self, number: usize) -> Option<&Item> {
        self.items.get(number.checked_sub(1)?).filter(|item| !item.deleted)
    }

    /// Those not marked as deleted, with their numbers.
    pub(crate) fn listed(&self) -> impl Iterator<Item = (usize, &Item)> {
        (1..).zip(&self.items).filter(|(_, item)| !item.deleted)
    }

    /// The unique id of a message: stays as long as its UID means anything (RFC 1939 section 7).
    pub(crate) fn unique_id(&self, uid: Uid) -> String {
        // The form Dovecot gives by default (%08Xu%08Xv), so that no client fetches anything twice when one follows the other.
        format!("{uid:08x}{:08x}", self.folder.uid_validity())
    }

    /// Removes what was marked. File work.
    pub(crate) fn update(mut self) -> Result<(), StoreError> {
        let deleted: Vec<Uid> = self.items.iter().filter(|item| item.deleted).map(|item| item.uid).collect();
        if deleted.is_empty() { Ok(()) } else { self.folder.remove_all(&deleted).map(|_| ()) }
    }
}

/// A message as it is sent: dots doubled at the beginning of lines (RFC 1939 section 3), the last line whole, the end behind it.
/// `lines`: how many of the body (TOP).
pub(crate) fn stuffed(message: &[u8], lines: Option<usize>) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 64);
    let (mut in_body, mut left) = (false, lines.unwrap_or(usize::MAX));
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        if in_body {
            if left == 0 {
                break;
            }
            left -= 1;
        }
        if line == b"\r\n" {
            in_body = true;
        }
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    if !out.is_empty() && !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_stuffed_and_cut() {
        let message = b"A: 1\r\n.B: 2\r\n\r\n.one\r\n..\r\nthree";
        assert_eq!(stuffed(message, None), b"A: 1\r\n..B: 2\r\n\r\n..one\r\n...\r\nthree\r\n.\r\n");
        assert_eq!(stuffed(message, Some(0)), b"A: 1\r\n..B: 2\r\n\r\n.\r\n");
        assert_eq!(stuffed(message, Some(1)), b"A: 1\r\n..B: 2\r\n\r\n..one\r\n.\r\n");
        assert_eq!(stuffed(b"", None), b".\r\n");
    }
}
