//! What all sessions of this process share of one folder: a cache of what is on disk, and the only code that writes there.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::watch;

use super::error::{At, StoreError};
use super::files::{self, Stamp};
use super::folder::{Access, Message};
use super::letters::{self, Keywords, Letters};
use super::lock::FolderLock;
use super::modseq::Modseqs;
use super::scan::{Place, Scan, arrival};
use super::uidlist::{self, UidList};
use super::watch::{Watch, Watches};
use super::{Flags, Uid};

/// How often a file is looked for under a new name, as other programs change flags when they like.
pub(super) const RENAMES: usize = 10;

/// One folder's shared state.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) dir: PathBuf,
    /// The account's directory, the same as `dir` for INBOX.
    pub(super) root: PathBuf,
    state: Mutex<State>,
    /// Deleted or renamed: whoever has it open sees no more of it.
    gone: AtomicBool,
    sender: watch::Sender<()>,
    watches: Arc<Watches>,
    watched: OnceLock<bool>,
}

/// What is known of a folder.
#[derive(Debug, Default)]
pub(super) struct State {
    list: Option<UidList>,
    list_stamp: Stamp,
    pub(super) keywords: Keywords,
    keywords_stamp: Stamp,
    modseqs: Modseqs,
    /// In ascending order of UIDs.
    pub(super) messages: Vec<Arc<Message>>,
    /// Another number for each change of `messages`.
    pub(super) generation: u64,
    /// Messages that were new, and that no session was told of yet.
    pub(super) recent: BTreeSet<Uid>,
    /// The directories as they were when last read; `None`: to be read again.
    seen: Option<[Stamp; 2]>,
    cur_inode: u64,
}

impl Core {
    pub(super) fn new(root: PathBuf, dir: PathBuf, watches: Arc<Watches>) -> Self {
        Self {
            dir,
            root,
            state: Mutex::default(),
            gone: AtomicBool::new(false),
            sender: watch::Sender::new(()),
            watches,
            watched: OnceLock::new(),
        }
    }

    /// What is on disk now. New files get their UIDs, and with [`Access::ReadWrite`] move to `cur/`.
    pub(super) fn fresh(&self, access: Access) -> Result<MutexGuard<'_, State>, StoreError> {
        let mut state = self.state()?;
        let done = state.refresh(self, access);
        self.checked(done)?;
        Ok(state)
    }

    /// What is on disk now, with the right to change it.
    pub(super) fn exclusive(&self) -> Result<(MutexGuard<'_, State>, FolderLock), StoreError> {
        let mut state = self.state()?;
        let lock = self.checked(FolderLock::wait(&self.dir))?;
        let done = state.settle(self, Access::ReadWrite);
        self.checked(done)?;
        // Whoever holds this will change what was just read.
        state.seen = None;
        Ok((state, lock))
    }

    /// The right to add messages. What else is in the folder is not looked at, so that it may be large.
    pub(super) fn adding(&self) -> Result<Adding<'_>, StoreError> {
        let mut state = self.state()?;
        let lock = self.checked(FolderLock::wait(&self.dir))?;
        let done = state.load(self).and_then(|()| state.ensure_list(self));
        self.checked(done)?;
        state.seen = None;
        Ok(Adding { core: self, state, _lock: lock })
    }

    fn state(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        if self.is_gone() {
            return Err(StoreError::NoSuchFolder);
        }
        Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A file that is not there, in a folder that is not there, is no failure of the disk.
    fn checked<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        match result {
            Err(error) if error.is_not_found() && !self.dir.is_dir() => {
                self.leave();
                Err(StoreError::NoSuchFolder)
            }
            other => other,
        }
    }

    /// Whether the folder was deleted or renamed.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// The folder is no longer here; whoever waits for it is told.
    pub(super) fn leave(&self) {
        self.gone.store(true, Ordering::Release);
        self.sender.send_replace(());
    }

    /// The directories as they are now.
    pub(super) fn dir_stamps(&self) -> Result<[Stamp; 2], StoreError> {
        Ok([Stamp::of(&self.dir.join("new"))?, Stamp::of(&self.dir.join("cur"))?])
    }

    pub(super) fn watch(self: &Arc<Self>) -> Watch {
        let receiver = self.sender.subscribe();
        let told = self.watched.get_or_init(|| {
            ["new", "cur"].iter().all(|dir| self.watches.add(&self.dir.join(dir), self.sender.clone()))
        });
        Watch::new(self, receiver, *told)
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if self.watched.get().is_some() {
            self.watches.remove(&self.dir.join("new"), &self.sender);
            self.watches.remove(&self.dir.join("cur"), &self.sender);
        }
    }
}

impl State {
    /// The folder's UIDVALIDITY.
    pub(super) fn validity(&self) -> u32 {
        self.list.as_ref().map_or(0, |list| list.validity)
    }

    /// The UID that is given next.
    pub(super) fn uid_next(&self) -> Uid {
        self.list.as_ref().map_or(1, |list| list.next)
    }

    /// The highest modification sequence.
    pub(super) fn highest_modseq(&self) -> u64 {
        self.modseqs.highest()
    }

    /// The message with a UID.
    pub(super) fn find(&self, uid: Uid) -> Option<&Arc<Message>> {
        let index = self.messages.binary_search_by_key(&uid, |message| message.uid).ok()?;
        self.messages.get(index)
    }

    fn refresh(&mut self, core: &Core, access: Access) -> Result<(), StoreError> {
        let waiting =
            access == Access::ReadWrite && self.messages.iter().any(|found| found.place == Place::New);
        let stamps = core.dir_stamps()?;
        let unchanged = self.seen == Some(stamps)
            && self.list_stamp == Stamp::of(&core.dir.join(uidlist::NAME))?
            && self.keywords_stamp == Stamp::of(&core.dir.join(letters::NAME))?;
        if unchanged && !waiting {
            return Ok(());
        }
        self.load(core)?;
        let scan = Scan::take(core)?;
        self.still_here(core, &scan)?;
        if !scan.waits_for(access) && self.adopt(&scan) {
            return Ok(());
        }
        let _lock = FolderLock::wait(&core.dir)?;
        self.settle(core, access)
    }

    /// Another folder may stand in this one's place.
    fn still_here(&mut self, core: &Core, scan: &Scan) -> Result<(), StoreError> {
        let [_, cur] = scan.stamps;
        if self.cur_inode != 0 && cur.inode != self.cur_inode {
            core.leave();
            return Err(StoreError::NoSuchFolder);
        }
        self.cur_inode = cur.inode;
        Ok(())
    }

    /// Reads our lists anew where they are others than before.
    fn load(&mut self, core: &Core) -> Result<(), StoreError> {
        let path = core.dir.join(uidlist::NAME);
        let stamp = Stamp::of(&path)?;
        if stamp != self.list_stamp || self.list.is_none() {
            let content = files::read_if_there(&path)?;
            self.list = content.as_deref().and_then(UidList::parse);
            if content.is_some() && self.list.is_none() {
                tracing::warn!(list = %path.display(), "the UID list cannot be read, and is made anew: clients fetch everything again");
            }
            self.list_stamp = stamp;
        }
        let stamp = Stamp::of(&core.dir.join(letters::NAME))?;
        if stamp != self.keywords_stamp {
            let keywords = Keywords::read(&core.dir)?;
            self.keywords_stamp = stamp;
            if keywords != self.keywords {
                self.keywords = keywords;
                // What the letters mean is read anew, even if nothing else changed, or nothing is left.
                self.messages.clear();
                self.generation += 1;
                self.seen = None;
            }
        }
        self.modseqs.reload(&core.dir, self.validity())
    }

    /// The UID list, made if there is none that can be read. The lock is held.
    fn ensure_list(&mut self, core: &Core) -> Result<(), StoreError> {
        if self.list.is_none() {
            let mut list = UidList::new(super::mailbox::next_validity(&core.root)?);
            list.rewrite(&core.dir)?;
            self.list = Some(list);
            self.list_stamp = Stamp::of(&core.dir.join(uidlist::NAME))?;
            self.modseqs.reload(&core.dir, self.validity())?;
        }
        Ok(())
    }

    fn list(&mut self) -> Result<&mut UidList, StoreError> {
        self.list.as_mut().ok_or(StoreError::NoSuchFolder)
    }

    /// Takes over a scan if it tells nothing that must be written down first.
    fn adopt(&mut self, scan: &Scan) -> bool {
        let Some(list) = &self.list else { return false };
        let mut by_base: HashMap<&[u8], (Place, &[u8])> = HashMap::with_capacity(scan.found.len());
        for (place, name) in &scan.found {
            if by_base.insert(files::base(name), (*place, name)).is_some() {
                return false;
            }
        }
        if by_base.len() != list.records.len() {
            return false;
        }
        let mut before = self.messages.iter().peekable();
        let mut messages = Vec::with_capacity(list.records.len());
        let mut changed = self.messages.len() != list.records.len();
        for record in &list.records {
            let Some((place, name)) = by_base.get(&*record.base).copied() else { return false };
            let letters = Letters::parse(files::info(name));
            let Some(modseq) = self.modseqs.of(record.uid, letters) else { return false };
            while before.next_if(|message| message.uid < record.uid).is_some() {}
            let known = before.next_if(|message| {
                message.uid == record.uid
                    && *message.file == *name
                    && message.place == place
                    && message.modseq == modseq
            });
            messages.push(known.map_or_else(
                || {
                    changed = true;
                    Arc::new(Message {
                        uid: record.uid,
                        flags: self.keywords.flags(letters),
                        modseq,
                        file: name.into(),
                        place,
                        letters,
                        virtual_size: record.virtual_size(),
                    })
                },
                Arc::clone,
            ));
        }
        if changed {
            self.messages = messages;
            self.generation += 1;
        }
        self.seen = scan.is_calm().then_some(scan.stamps);
        true
    }

    /// Writes down what has come, gone and changed, and takes it over. The lock is held.
    fn settle(&mut self, core: &Core, access: Access) -> Result<(), StoreError> {
        self.load(core)?;
        self.ensure_list(core)?;
        let mut scan = Scan::take(core)?;
        self.still_here(core, &scan)?;
        if !scan.waits_for(access) && self.adopt(&scan) {
            return Ok(());
        }
        self.confirm(core, &mut scan)?;
        scan.separate(core)?;
        let claimed = if scan.waits_for(access) { scan.claim(core)? } else { Vec::new() };
        let known: HashSet<&[u8]> =
            self.list.iter().flat_map(|list| &list.records).map(|record| &*record.base).collect();
        let mut unknown: Vec<Box<[u8]>> = scan
            .found
            .iter()
            .map(|(_, name)| files::base(name))
            .filter(|base| !known.contains(base))
            .map(Box::from)
            .collect();
        unknown.sort_by(|a, b| arrival(a).cmp(&arrival(b)));
        let there: HashMap<&[u8], Letters> = scan
            .found
            .iter()
            .map(|(_, name)| (files::base(name), Letters::parse(files::info(name))))
            .collect();
        self.write(core, &there, &unknown)?;
        let claimed: HashSet<&[u8]> = claimed.iter().map(|base| &**base).collect();
        let records = self.list.iter().flat_map(|list| &list.records);
        self.recent.extend(records.filter(|record| claimed.contains(&*record.base)).map(|record| record.uid));
        // A name that Maildir does not know, put there while we looked, waits for the next time.
        if !self.adopt(&scan) {
            tracing::warn!(folder = %core.dir.display(), "the folder's files and its list could not be brought together");
        }
        Ok(())
    }

    /// UIDs for what came, no more of what went, and a new number for whatever changed.
    fn write(
        &mut self,
        core: &Core,
        there: &HashMap<&[u8], Letters>,
        unknown: &[Box<[u8]>],
    ) -> Result<(), StoreError> {
        let list = self.list.as_mut().ok_or(StoreError::NoSuchFolder)?;
        let mut lost = Vec::new();
        list.records.retain(|record| {
            let stays = there.contains_key(&*record.base);
            if !stays {
                lost.push(record.uid);
            }
            stays
        });
        for base in unknown {
            list.give(base)?;
        }
        if !lost.is_empty() {
            list.rewrite(&core.dir)?;
        } else if !unknown.is_empty() {
            list.append(&core.dir, unknown.len())?;
        }
        let changed: Vec<(Uid, Letters)> = list
            .records
            .iter()
            .filter_map(|record| {
                let letters = *there.get(&*record.base)?;
                self.modseqs.of(record.uid, letters).is_none().then_some((record.uid, letters))
            })
            .collect();
        if !lost.is_empty() || !changed.is_empty() {
            self.modseqs.advance();
            lost.iter().for_each(|uid| self.modseqs.forget(*uid));
            changed.iter().for_each(|(uid, letters)| self.modseqs.note(*uid, *letters));
            self.modseqs.flush(&core.dir)?;
        }
        self.list_stamp = Stamp::of(&core.dir.join(uidlist::NAME))?;
        Ok(())
    }

    /// A file that is renamed while its directory is read may not be seen. What was not seen is looked for again, unless the
    /// directories were still all the while.
    fn confirm(&self, core: &Core, scan: &mut Scan) -> Result<(), StoreError> {
        const LOOKS: usize = 3;
        for _ in 0..LOOKS {
            let bases: HashSet<&[u8]> = scan.found.iter().map(|(_, name)| files::base(name)).collect();
            let mut records = self.list.iter().flat_map(|list| &list.records);
            if scan.is_calm() || records.all(|record| bases.contains(&*record.base)) {
                break;
            }
            let mut again = Scan::take(core)?;
            let bases: HashSet<Box<[u8]>> =
                again.found.iter().map(|(_, name)| Box::from(files::base(name))).collect();
            let only_before = scan.found.drain(..).filter(|(place, name)| {
                !bases.contains(files::base(name)) && place.path(&core.dir, name).exists()
            });
            again.found.extend(only_before);
            *scan = again;
        }
        Ok(())
    }

    /// Gives letters to new keywords. The lock is held.
    pub(super) fn admit_keywords(&mut self, core: &Core, flags: &Flags) -> Result<(), StoreError> {
        if self.keywords.admit(flags)? {
            // Before any file name has the letter: a letter without a name has no meaning.
            self.keywords.write(&core.dir)?;
            self.keywords_stamp = Stamp::of(&core.dir.join(letters::NAME))?;
        }
        Ok(())
    }

    /// Gives a message other flags. `Ok(false)`: its file is not there under its name. The lock is held, keywords are admitted, and
    /// [`begin`](Self::begin) was called.
    pub(super) fn rename(&mut self, core: &Core, uid: Uid, flags: &Flags) -> Result<bool, StoreError> {
        let Ok(index) = self.messages.binary_search_by_key(&uid, |message| message.uid) else {
            return Ok(false);
        };
        let Some(message) = self.messages.get_mut(index) else { return Ok(false) };
        let letters = self.keywords.letters(flags, message.letters);
        let name = letters.file_name(files::base(&message.file));
        if name.len() > files::MAX_FILE_NAME {
            return Err(StoreError::Cannot("the message's file name is too long for its flags"));
        }
        let from = message.place.path(&core.dir, &message.file);
        match fs::rename(&from, Place::Cur.path(&core.dir, &name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            renamed => renamed.at(&from)?,
        }
        self.modseqs.note(uid, letters);
        *message = Arc::new(Message {
            uid,
            flags: self.keywords.flags(letters),
            modseq: self.modseqs.highest(),
            file: name.into(),
            place: Place::Cur,
            letters,
            virtual_size: message.virtual_size,
        });
        self.generation += 1;
        Ok(true)
    }

    /// Begins a change of several messages, which bear one number.
    pub(super) fn begin(&mut self) {
        self.modseqs.advance();
    }

    /// Writes the numbers of the change.
    pub(super) fn end(&mut self, core: &Core) -> Result<(), StoreError> {
        self.modseqs.flush(&core.dir)
    }

    /// Looks again, as another program has renamed something meanwhile. The lock is held.
    pub(super) fn look_again(&mut self, core: &Core) -> Result<(), StoreError> {
        self.settle(core, Access::ReadWrite)?;
        self.seen = None;
        Ok(())
    }

    /// Removes messages, and says how many bytes went. The lock is held.
    pub(super) fn remove(&mut self, core: &Core, uids: &BTreeSet<Uid>) -> Result<u64, StoreError> {
        let mut bytes = 0;
        let mut left: Vec<Uid> = uids.iter().copied().collect();
        for _ in 0..RENAMES {
            let mut again = Vec::new();
            for uid in left {
                let Some(message) = self.find(uid) else { continue };
                let path = message.place.path(&core.dir, &message.file);
                let size = message.size_on_disk();
                let size = size.or_else(|| fs::metadata(&path).ok().map(|found| found.size())).unwrap_or(0);
                match fs::remove_file(&path) {
                    // Renamed by another program, or gone: what is off our list must not come back under another UID.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => again.push(uid),
                    removed => {
                        removed.at(&path)?;
                        bytes += size;
                    }
                }
            }
            left = again;
            if left.is_empty() {
                break;
            }
            self.look_again(core)?;
        }
        self.drop_records(core, uids)?;
        Ok(bytes)
    }

    /// Takes messages whose files are gone off the lists. The lock is held.
    pub(super) fn drop_records(&mut self, core: &Core, uids: &BTreeSet<Uid>) -> Result<(), StoreError> {
        if uids.is_empty() {
            return Ok(());
        }
        self.messages.retain(|message| !uids.contains(&message.uid));
        self.generation += 1;
        let list = self.list()?;
        list.records.retain(|record| !uids.contains(&record.uid));
        list.rewrite(&core.dir)?;
        self.list_stamp = Stamp::of(&core.dir.join(uidlist::NAME))?;
        self.modseqs.advance();
        uids.iter().for_each(|uid| self.modseqs.forget(*uid));
        self.modseqs.flush(&core.dir)
    }
}

/// The right to add messages to a folder, while it is held.
pub(super) struct Adding<'a> {
    pub(super) core: &'a Core,
    pub(super) state: MutexGuard<'a, State>,
    _lock: FolderLock,
}

impl Adding<'_> {
    /// The path at which a message with this base name and these flags is to be put.
    pub(super) fn place(&mut self, base: &[u8], flags: &Flags) -> Result<(PathBuf, Letters), StoreError> {
        self.state.admit_keywords(self.core, flags)?;
        let letters = self.state.keywords.letters(flags, Letters::default());
        Ok((Place::Cur.path(&self.core.dir, &letters.file_name(base)), letters))
    }

    /// Gives UIDs to what was put there.
    pub(super) fn record(&mut self, added: &[(Vec<u8>, Letters)]) -> Result<Vec<Uid>, StoreError> {
        if added.is_empty() {
            return Ok(Vec::new());
        }
        files::sync_dir(&self.core.dir.join("cur"))?;
        let list = self.state.list()?;
        let uids = added.iter().map(|(base, _)| list.give(base)).collect::<Result<Vec<_>, _>>()?;
        list.append(&self.core.dir, added.len())?;
        self.state.list_stamp = Stamp::of(&self.core.dir.join(uidlist::NAME))?;
        self.state.begin();
        for (uid, (_, letters)) in uids.iter().zip(added) {
            self.state.modseqs.note(*uid, *letters);
        }
        self.state.end(self.core)?;
        Ok(uids)
    }
}
