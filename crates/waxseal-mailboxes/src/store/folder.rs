//! One session's view of a folder.

use std::sync::Arc;
use std::time::SystemTime;

use super::{FlagChange, Flags, FolderName, Keyword, StoreError, Uid};

/// A message as the session last saw it. Shared, never changed in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its UID.
    pub uid: Uid,
    /// Its flags and keywords.
    pub flags: Flags,
    /// The modification sequence of its last change (RFC 7162).
    pub modseq: u64,
}

/// What others did since the view was last refreshed. UIDs in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// New messages, already in the view, at its end.
    pub arrived: Vec<Uid>,
    /// Messages that are gone, no longer in the view.
    pub vanished: Vec<Uid>,
    /// Messages whose flags are others.
    pub changed: Vec<Uid>,
}

/// What [`Folder::set_flags`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Messages that now have the flags asked for; the view has them, with their modseq.
    pub done: Vec<Uid>,
    /// Messages left alone as they were changed since `unchanged_since` (`[MODIFIED]`, RFC 7162 section 3.1.3).
    pub modified: Vec<Uid>,
}

/// Where copies are (`[COPYUID]`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// UIDVALIDITY of the folder they are in.
    pub uid_validity: u32,
    /// UID here, UID there.
    pub pairs: Vec<(Uid, Uid)>,
}

/// One session's view of a folder: a list of messages that only this session's own calls change.
///
/// The view changes with [`refresh`](Self::refresh) alone, and, for the messages named only, with what the session itself does
/// ([`set_flags`](Self::set_flags), [`expunge`](Self::expunge), [`move_to`](Self::move_to)).
#[derive(Debug)]
pub struct Folder {
    name: FolderName,
    view: Vec<Arc<Message>>,
}

impl Folder {
    /// Its name.
    pub fn name(&self) -> &FolderName {
        &self.name
    }

    /// Its UIDVALIDITY.
    pub fn uid_validity(&self) -> u32 {
        todo!()
    }

    /// The UID above all that were ever given, as of the last refresh.
    pub fn uid_next(&self) -> Uid {
        todo!()
    }

    /// The highest modification sequence, as of the last refresh or own change.
    pub fn highest_modseq(&self) -> u64 {
        todo!()
    }

    /// How many messages this session is the first to be told of (\Recent of IMAP4rev1).
    pub fn recent(&self) -> u32 {
        todo!()
    }

    /// Whether `uid` counts as \Recent for this session.
    pub fn is_recent(&self, uid: Uid) -> bool {
        let _ = uid;
        todo!()
    }

    /// The keywords in use in this folder (FLAGS, PERMANENTFLAGS).
    pub fn keywords(&self) -> Vec<Keyword> {
        todo!()
    }

    /// Whether another keyword can be kept (`\*` in PERMANENTFLAGS): a Maildir folder has room for 26.
    pub fn takes_new_keywords(&self) -> bool {
        todo!()
    }

    /// The messages, by UID; index + 1 is the sequence number.
    pub fn messages(&self) -> &[Arc<Message>] {
        &self.view
    }

    /// The message with this UID, if the view has it.
    pub fn get(&self, uid: Uid) -> Option<&Arc<Message>> {
        let index = self.view.binary_search_by_key(&uid, |message| message.uid).ok()?;
        self.view.get(index)
    }

    /// Looks what others did, and brings the view up to date.
    pub fn refresh(&mut self) -> Result<Changes, StoreError> {
        todo!()
    }

    /// Bytes of the message with CRLF line ends (RFC822.SIZE). Mostly known from the file's name.
    pub fn size(&self, uid: Uid) -> Result<u64, StoreError> {
        let _ = uid;
        todo!()
    }

    /// When the message came (INTERNALDATE).
    pub fn internal_date(&self, uid: Uid) -> Result<SystemTime, StoreError> {
        let _ = uid;
        todo!()
    }

    /// The whole message, CRLF line ends.
    pub fn read(&self, uid: Uid) -> Result<Vec<u8>, StoreError> {
        let _ = uid;
        todo!()
    }

    /// At most `length` bytes of the message from `start` on; fewer at its end.
    pub fn read_range(&self, uid: Uid, start: u64, length: usize) -> Result<Vec<u8>, StoreError> {
        let _ = (uid, start, length);
        todo!()
    }

    /// Changes flags. Messages that are gone are in neither list of [`Stored`]. `unchanged_since`: UNCHANGEDSINCE of CONDSTORE.
    pub fn set_flags(
        &mut self,
        uids: &[Uid],
        change: FlagChange,
        flags: &Flags,
        unchanged_since: Option<u64>,
    ) -> Result<Stored, StoreError> {
        let _ = (uids, change, flags, unchanged_since);
        todo!()
    }

    /// Removes the messages with \Deleted, of `among` only if given (UID EXPUNGE); says which, and has them no longer in the view.
    pub fn expunge(&mut self, among: Option<&[Uid]>) -> Result<Vec<Uid>, StoreError> {
        let _ = among;
        todo!()
    }

    /// Copies messages with flags and dates into another folder of the mailbox (or this one), all or none of them.
    pub fn copy_to(&self, uids: &[Uid], target: &FolderName) -> Result<Copied, StoreError> {
        let _ = (uids, target);
        todo!()
    }

    /// Moves messages; they are no longer in the view. Each is moved whole or not at all.
    pub fn move_to(&mut self, uids: &[Uid], target: &FolderName) -> Result<Copied, StoreError> {
        let _ = (uids, target);
        todo!()
    }

    /// Something to wait on for changes by others. Cheap; keep it for the whole time the folder is open.
    pub fn watch(&self) -> Watch {
        todo!()
    }
}

/// Says when a folder may have changed. The one asynchronous thing of the store.
#[derive(Debug)]
pub struct Watch;

impl Watch {
    /// Returns once something in the folder may have changed since the last call (or since [`Folder::watch`]), by whatever
    /// process, within a second. May say so for nothing. Cancel-safe.
    pub async fn changed(&mut self) {
        std::future::pending().await
    }
}
