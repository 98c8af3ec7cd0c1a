//! One session's view of a folder.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::core::{Adding, Core, RENAMES, State};
use super::draft::with_crlf;
use super::error::{At, StoreError};
use super::letters::Letters;
use super::mailbox::Mailbox;
use super::scan::Place;
use super::watch::Watch;
use super::{FlagChange, Flags, FolderName, Keyword, Uid, files, quota};

/// A message as the session last saw it. Shared, never changed in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its UID.
    pub uid: Uid,
    /// Its flags and keywords.
    pub flags: Flags,
    /// The modification sequence of its last change (RFC 7162).
    pub modseq: u64,
    pub(super) file: Box<[u8]>,
    pub(super) place: Place,
    pub(super) letters: Letters,
    /// What Dovecot noted in its list.
    pub(super) virtual_size: Option<u64>,
}

impl Message {
    /// Bytes of the file, where its name tells.
    pub(super) fn size_on_disk(&self) -> Option<u64> {
        files::size_in_name(&self.file, b'S')
    }

    /// Bytes with CRLF line ends, where that was noted.
    fn known_size(&self) -> Option<u64> {
        files::size_in_name(&self.file, b'W').or(self.virtual_size)
    }

    /// Whether the file is known to have CRLF line ends only, so that parts of it can be read.
    fn is_crlf(&self) -> bool {
        self.size_on_disk().is_some() && self.size_on_disk() == self.known_size()
    }
}

/// What a session may do with a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// SELECT: new messages are taken over from `new/`, and are \Recent for this session alone.
    ReadWrite,
    /// EXAMINE, STATUS: nothing changes but that messages get UIDs.
    ReadOnly,
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

impl Changes {
    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
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

/// What a message that is gone means to a copy or a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    Fails,
    IsLeftOut,
}

/// What becomes of messages in a view that are no longer there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gone {
    Removed,
    Kept,
}

/// One session's view of a folder: a list of messages that only this session's own calls change.
///
/// The view changes with [`refresh`](Self::refresh) alone, and, for the messages named only, with what the session itself does
/// ([`set_flags`](Self::set_flags), [`expunge`](Self::expunge), [`move_to`](Self::move_to)).
#[derive(Debug)]
pub struct Folder {
    mailbox: Mailbox,
    name: FolderName,
    access: Access,
    core: Arc<Core>,
    view: Vec<Arc<Message>>,
    generation: Option<u64>,
    recent: HashSet<Uid>,
    uid_validity: u32,
    uid_next: Uid,
    highest_modseq: u64,
    keywords: Vec<Keyword>,
    takes_new_keywords: bool,
}

impl Folder {
    pub(super) fn open(
        mailbox: Mailbox,
        name: FolderName,
        core: Arc<Core>,
        access: Access,
    ) -> Result<Self, StoreError> {
        let mut folder = Self {
            mailbox,
            name,
            access,
            core,
            view: Vec::new(),
            generation: None,
            recent: HashSet::new(),
            uid_validity: 0,
            uid_next: 1,
            highest_modseq: 1,
            keywords: Vec::new(),
            takes_new_keywords: true,
        };
        folder.refresh()?;
        Ok(folder)
    }

    /// Its name.
    pub fn name(&self) -> &FolderName {
        &self.name
    }

    /// Its UIDVALIDITY.
    pub fn uid_validity(&self) -> u32 {
        self.uid_validity
    }

    /// The UID above all that were ever given, as of the last refresh.
    pub fn uid_next(&self) -> Uid {
        self.uid_next
    }

    /// The highest modification sequence, as of the last refresh or own change.
    pub fn highest_modseq(&self) -> u64 {
        self.highest_modseq
    }

    /// How many messages this session is the first to be told of (\Recent of IMAP4rev1).
    pub fn recent(&self) -> u32 {
        u32::try_from(self.view.iter().filter(|message| self.is_recent(message.uid)).count())
            .unwrap_or(u32::MAX)
    }

    /// Whether `uid` counts as \Recent for this session.
    pub fn is_recent(&self, uid: Uid) -> bool {
        self.recent.contains(&uid)
    }

    /// The keywords in use in this folder (FLAGS, PERMANENTFLAGS).
    pub fn keywords(&self) -> &[Keyword] {
        &self.keywords
    }

    /// Whether another keyword can be kept (`\*` in PERMANENTFLAGS): a Maildir folder has room for 26.
    pub fn takes_new_keywords(&self) -> bool {
        self.takes_new_keywords
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
    ///
    /// # Errors
    /// [`StoreError::NoSuchFolder`] when the folder was deleted, renamed, or is another one by now.
    pub fn refresh(&mut self) -> Result<Changes, StoreError> {
        self.bring_up_to_date(Gone::Removed)
    }

    /// As [`refresh`](Self::refresh), but what is gone stays in the view until then, and is not told: IMAP must not shift numbers
    /// while FETCH, STORE and SEARCH are answered (RFC 9051 section 7.5.1).
    ///
    /// # Errors
    /// As for [`refresh`](Self::refresh).
    pub fn refresh_keeping_gone(&mut self) -> Result<Changes, StoreError> {
        self.bring_up_to_date(Gone::Kept)
    }

    fn bring_up_to_date(&mut self, gone: Gone) -> Result<Changes, StoreError> {
        let core = Arc::clone(&self.core);
        let mut state = core.fresh(self.access)?;
        if self.uid_validity != 0 && self.uid_validity != state.validity() {
            return Err(StoreError::NoSuchFolder);
        }
        self.note(&state);
        match self.access {
            Access::ReadWrite => self.recent.extend(std::mem::take(&mut state.recent)),
            Access::ReadOnly => {
                let new = state.messages.iter().filter(|message| message.place == Place::New);
                self.recent = state.recent.iter().copied().chain(new.map(|message| message.uid)).collect();
            }
        }
        if self.generation == Some(state.generation) {
            return Ok(Changes::default());
        }
        let mut changes = difference(&self.view, &state.messages);
        if gone == Gone::Kept && !changes.vanished.is_empty() {
            let kept = std::mem::take(&mut changes.vanished);
            let mut view = state.messages.clone();
            view.extend(kept.iter().filter_map(|uid| self.get(*uid).cloned()));
            view.sort_by_key(|message| message.uid);
            self.view = view;
            self.generation = None;
        } else {
            self.view.clone_from(&state.messages);
            self.generation = Some(state.generation);
        }
        Ok(changes)
    }

    fn note(&mut self, state: &State) {
        self.uid_validity = state.validity();
        self.uid_next = state.uid_next();
        self.highest_modseq = state.highest_modseq();
        self.keywords = state.keywords.all().cloned().collect();
        self.takes_new_keywords = state.keywords.has_room();
    }

    /// Bytes of the message with CRLF line ends (RFC822.SIZE). Mostly known from the file's name.
    pub fn size(&self, uid: Uid) -> Result<u64, StoreError> {
        match self.get(uid).ok_or(StoreError::Expunged)?.known_size() {
            Some(size) => Ok(size),
            None => Ok(self.read(uid)?.len() as u64),
        }
    }

    /// When the message came (INTERNALDATE).
    pub fn internal_date(&self, uid: Uid) -> Result<SystemTime, StoreError> {
        self.with_file(uid, |path, _| fs::metadata(path)?.modified())
    }

    /// The whole message, CRLF line ends.
    pub fn read(&self, uid: Uid) -> Result<Vec<u8>, StoreError> {
        self.with_file(uid, |path, _| fs::read(path)).map(with_crlf)
    }

    /// At most `length` bytes of the message from `start` on; fewer at its end.
    pub fn read_range(&self, uid: Uid, start: u64, length: usize) -> Result<Vec<u8>, StoreError> {
        if self.get(uid).ok_or(StoreError::Expunged)?.is_crlf() {
            return self.with_file(uid, |path, _| read_part(path, start, length));
        }
        let whole = self.read(uid)?;
        let start = usize::try_from(start).unwrap_or(usize::MAX).min(whole.len());
        let end = start.saturating_add(length).min(whole.len());
        Ok(whole.get(start..end).unwrap_or_default().to_vec())
    }

    /// Does something with a message's file, under whatever name another program has given it meanwhile.
    fn with_file<T>(
        &self,
        uid: Uid,
        work: impl Fn(&Path, &Message) -> io::Result<T>,
    ) -> Result<T, StoreError> {
        let mut message = Arc::clone(self.get(uid).ok_or(StoreError::Expunged)?);
        for _ in 0..RENAMES {
            let path = message.place.path(&self.core.dir, &message.file);
            match work(&path, &message) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => return done.at(&path),
            }
            let state = self.core.fresh(Access::ReadOnly)?;
            message = Arc::clone(state.find(uid).ok_or(StoreError::Expunged)?);
        }
        Err(StoreError::Expunged)
    }

    /// Changes flags. Messages that are gone are in neither list of [`Stored`]. `unchanged_since`: UNCHANGEDSINCE of CONDSTORE.
    pub fn set_flags(
        &mut self,
        uids: &[Uid],
        change: FlagChange,
        flags: &Flags,
        unchanged_since: Option<u64>,
    ) -> Result<Stored, StoreError> {
        let core = Arc::clone(&self.core);
        let (mut state, _lock) = core.exclusive()?;
        if change != FlagChange::Remove {
            state.admit_keywords(&core, flags)?;
        }
        let mut stored = Stored::default();
        state.begin();
        let done = self.change_each(&core, &mut state, uids, change, flags, unchanged_since, &mut stored);
        // What was renamed is renamed, whatever came after.
        state.end(&core)?;
        self.note(&state);
        done.map(|()| stored)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the loop of set_flags, which must note its changes even when it fails"
    )]
    fn change_each(
        &mut self,
        core: &Core,
        state: &mut State,
        uids: &[Uid],
        change: FlagChange,
        flags: &Flags,
        unchanged_since: Option<u64>,
        stored: &mut Stored,
    ) -> Result<(), StoreError> {
        for uid in uids {
            let mut renamed = false;
            for _ in 0..RENAMES {
                let Some(now) = state.find(*uid) else { break };
                if unchanged_since.is_some_and(|since| now.modseq > since) {
                    stored.modified.push(*uid);
                    break;
                }
                let wanted = now.flags.changed(change, flags);
                renamed = wanted == now.flags || state.rename(core, *uid, &wanted)?;
                if renamed {
                    break;
                }
                // Another program has changed the flags, and with them the name, since we looked.
                state.end(core)?;
                state.look_again(core)?;
                state.begin();
            }
            if !renamed {
                continue;
            }
            stored.done.push(*uid);
            let now = state.find(*uid).cloned();
            let index = self.view.binary_search_by_key(uid, |message| message.uid);
            if let (Some(now), Some(seen)) = (now, index.ok().and_then(|index| self.view.get_mut(index))) {
                *seen = now;
            }
        }
        Ok(())
    }

    /// Removes the messages of the view with \Deleted, of `among` only if given (UID EXPUNGE); says which, and has them no
    /// longer in the view.
    pub fn expunge(&mut self, among: Option<&[Uid]>) -> Result<Vec<Uid>, StoreError> {
        let among: Option<HashSet<Uid>> = among.map(|among| among.iter().copied().collect());
        self.remove(|message| {
            message.flags.contains(super::Flag::Deleted)
                && among.as_ref().is_none_or(|among| among.contains(&message.uid))
        })
    }

    /// Removes these messages of the view, whatever their flags (DELE of POP3); says which were still there.
    pub fn remove_all(&mut self, uids: &[Uid]) -> Result<Vec<Uid>, StoreError> {
        let uids: HashSet<Uid> = uids.iter().copied().collect();
        self.remove(|message| uids.contains(&message.uid))
    }

    fn remove(&mut self, which: impl Fn(&Message) -> bool) -> Result<Vec<Uid>, StoreError> {
        let core = Arc::clone(&self.core);
        let (mut state, lock) = core.exclusive()?;
        // Only what the session knows of can be told to its client.
        let chosen: BTreeSet<Uid> = self
            .view
            .iter()
            .filter_map(|message| state.find(message.uid).filter(|now| which(now)))
            .map(|message| message.uid)
            .collect();
        let bytes = state.remove(&core, &chosen)?;
        self.note(&state);
        drop((state, lock));
        self.forget(&chosen);
        quota::note(&core.root, -i64::try_from(bytes).unwrap_or(i64::MAX), -(chosen.len() as i64))?;
        Ok(chosen.into_iter().collect())
    }

    fn forget(&mut self, uids: &BTreeSet<Uid>) {
        self.view.retain(|message| !uids.contains(&message.uid));
    }

    /// Copies messages with flags and dates into another folder of the mailbox (or this one), all or none of them.
    ///
    /// # Errors
    /// [`StoreError::Expunged`] when one of them is gone, [`StoreError::NoSuchFolder`] when the target is not there (`[TRYCREATE]`).
    pub fn copy_to(&self, uids: &[Uid], target: &FolderName) -> Result<Copied, StoreError> {
        let core = self.mailbox.core(target)?;
        let bytes = uids.iter().filter_map(|uid| self.get(*uid)?.size_on_disk()).sum();
        self.mailbox.check_quota(bytes)?;
        let mut placed = Vec::new();
        let copied = self.transfer(&core, uids, Missing::Fails, &mut placed, |from, to| {
            match fs::hard_link(from, to) {
                // A file system without hard links.
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    fs::copy(from, to)?;
                    let copy = File::options().write(true).open(to)?;
                    copy.set_modified(fs::metadata(from)?.modified()?)?;
                    copy.sync_all()
                }
                linked => linked,
            }
        });
        if copied.is_err() {
            for path in placed {
                let _ = fs::remove_file(path);
            }
        } else {
            quota::note(&core.root, i64::try_from(bytes).unwrap_or(i64::MAX), uids.len() as i64)?;
        }
        copied
    }

    /// Moves messages; they are no longer in the view. Each is moved whole or not at all, what is gone already is left out.
    pub fn move_to(&mut self, uids: &[Uid], target: &FolderName) -> Result<Copied, StoreError> {
        let core = self.mailbox.core(target)?;
        // A rename, not a copy and a removal: a process killed in between leaves each message in one folder or the other.
        let moved =
            self.transfer(&core, uids, Missing::IsLeftOut, &mut Vec::new(), |from, to| fs::rename(from, to))?;
        self.forget(&moved.pairs.iter().map(|(uid, _)| *uid).collect());
        Ok(moved)
    }

    /// Puts messages into another folder, each by `put` from its path to the new one.
    fn transfer(
        &self,
        target: &Core,
        uids: &[Uid],
        missing: Missing,
        placed: &mut Vec<PathBuf>,
        put: impl Fn(&Path, &Path) -> io::Result<()>,
    ) -> Result<Copied, StoreError> {
        let mut copied = Copied::default();
        let mut left = uids.to_vec();
        for _ in 0..RENAMES {
            // Where the files are must be known before the target is locked, as it may be this very folder.
            let mut sources = Vec::with_capacity(left.len());
            for uid in left.drain(..) {
                let found = self.with_file(uid, |path, message| {
                    fs::metadata(path)
                        .map(|_| (uid, path.to_owned(), message.flags.clone(), size_fields(&message.file)))
                });
                match found {
                    Err(StoreError::Expunged) if missing == Missing::IsLeftOut => {}
                    found => sources.push(found?),
                }
            }
            let mut adding: Adding<'_> = target.adding()?;
            copied.uid_validity = adding.state.validity();
            let (mut added, mut from) =
                (Vec::with_capacity(sources.len()), Vec::with_capacity(sources.len()));
            let mut failed = None;
            for (uid, path, flags, fields) in sources {
                let base = [files::unique_name().as_bytes(), &fields].concat();
                let (to, letters) = match adding.place(&base, &flags) {
                    Ok(place) => place,
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                };
                match put(&path, &to) {
                    // Another program has changed its flags, and with them its name, since we looked.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => left.push(uid),
                    Err(error) => {
                        failed = Some(StoreError::from_io(error, &path));
                        break;
                    }
                    Ok(()) => {
                        placed.push(to);
                        added.push((base, letters));
                        from.push(uid);
                    }
                }
            }
            // What is there is there, whatever came after.
            copied.pairs.extend(from.into_iter().zip(adding.record(&added)?));
            if let Some(error) = failed {
                return Err(error);
            }
            if left.is_empty() {
                break;
            }
        }
        if !left.is_empty() && missing == Missing::Fails {
            return Err(StoreError::Expunged);
        }
        copied.pairs.sort_unstable();
        Ok(copied)
    }

    /// Something to wait on for changes by others. Cheap; keep it for the whole time the folder is open.
    pub fn watch(&self) -> Watch {
        self.core.watch()
    }
}

/// The sizes that stand in a file's name, to be carried into another.
fn size_fields(name: &[u8]) -> Vec<u8> {
    let field = |key: u8| {
        let size = files::size_in_name(name, key);
        size.map_or_else(String::new, |size| format!(",{}={size}", char::from(key)))
    };
    format!("{}{}", field(b'S'), field(b'W')).into_bytes()
}

fn read_part(path: &Path, start: u64, length: usize) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let left = file.metadata()?.len().saturating_sub(start);
    let mut part = vec![0; length.min(usize::try_from(left).unwrap_or(usize::MAX))];
    file.read_exact_at(&mut part, start)?;
    Ok(part)
}

fn difference(before: &[Arc<Message>], after: &[Arc<Message>]) -> Changes {
    let mut changes = Changes::default();
    let mut old = before.iter().peekable();
    for message in after {
        while let Some(gone) = old.next_if(|gone| gone.uid < message.uid) {
            changes.vanished.push(gone.uid);
        }
        match old.next_if(|known| known.uid == message.uid) {
            None => changes.arrived.push(message.uid),
            Some(known) if Arc::ptr_eq(known, message) => {}
            Some(known) if known.flags != message.flags || known.modseq != message.modseq => {
                changes.changed.push(message.uid);
            }
            Some(_) => {}
        }
    }
    changes.vanished.extend(old.map(|gone| gone.uid));
    changes
}
