//! One account's folders.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::core::Core;
use super::draft::{Draft, sweep};
use super::error::{At, StoreError};
use super::folder::{Access, Folder};
use super::lock::Flock;
use super::scan::Place;
use super::{Flag, Flags, FolderName, Shared, Uid, files, quota};

/// Folders of one account.
pub const MAX_FOLDERS: usize = 10_000;
/// The folders a new account begins with, subscribed to.
const FIRST_FOLDERS: [&str; 5] = ["Archive", "Drafts", "Junk", "Sent", "Trash"];
/// What a directory that is being removed is called; two dots, so that neither we nor Dovecot list it.
const REMOVED: &str = "..waxseal-removed.";

/// One account's mail.
#[derive(Clone, Debug)]
pub struct Mailbox {
    shared: Arc<Shared>,
    root: PathBuf,
    limit: Option<u64>,
}

/// What a folder is for (RFC 6154), by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialUse {
    /// `\Archive`
    Archive,
    /// `\Drafts`
    Drafts,
    /// `\Junk`
    Junk,
    /// `\Sent`
    Sent,
    /// `\Trash`
    Trash,
}

impl SpecialUse {
    fn of(name: &FolderName) -> Option<Self> {
        match name.as_str() {
            "Archive" => Some(Self::Archive),
            "Drafts" => Some(Self::Drafts),
            "Junk" => Some(Self::Junk),
            "Sent" => Some(Self::Sent),
            "Trash" => Some(Self::Trash),
            _ => None,
        }
    }
}

/// A folder in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderEntry {
    /// Its name.
    pub name: FolderName,
    /// Whether it exists; `false` for a level above an existing folder, and for a subscription to what is not there.
    pub exists: bool,
    /// Whether it is subscribed to.
    pub subscribed: bool,
    /// Whether an existing folder is below it.
    pub has_children: bool,
    /// What it is for.
    pub special_use: Option<SpecialUse>,
}

/// A folder's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Messages.
    pub messages: u32,
    /// Of them new to every session.
    pub recent: u32,
    /// Of them without \Seen.
    pub unseen: u32,
    /// Of them with \Deleted.
    pub deleted: u32,
    /// Bytes of all messages with CRLF line ends.
    pub size: u64,
    /// The next UID.
    pub uid_next: Uid,
    /// The folder's UIDVALIDITY.
    pub uid_validity: u32,
    /// The highest modification sequence of the folder (RFC 7162).
    pub highest_modseq: u64,
}

/// Which figures of a folder are wanted: one of them may cost reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figures {
    /// All but [`Status::size`], which stays 0.
    WithoutSize,
    /// All.
    All,
}

/// What of the quota is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Bytes of all messages in all folders.
    pub used: u64,
    /// The limit in bytes, if there is one.
    pub limit: Option<u64>,
}

/// Where a saved message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The folder's UIDVALIDITY.
    pub uid_validity: u32,
    /// The message's UID.
    pub uid: Uid,
}

/// The right to be the one POP3 session of a mailbox (RFC 1939 section 4); IMAP does not ask for it.
#[derive(Debug)]
pub struct Maildrop(#[expect(dead_code, reason = "held until the session ends")] Flock);

/// A message whose bytes are on disk, not yet in its folder. Dropped, it is gone.
#[derive(Debug)]
pub struct Prepared {
    mailbox: Mailbox,
    draft: Draft,
    name: String,
}

impl Prepared {
    /// Puts the message into the INBOX as new; it is there for good when this returns. No UID yet: whoever looks first gives
    /// one.
    ///
    /// # Errors
    /// What the disk says.
    pub fn commit(mut self) -> Result<(), StoreError> {
        let new = self.mailbox.root.join("new");
        self.draft.rename(&new.join(&self.name))?;
        files::sync_dir(&new)?;
        self.mailbox.note_quota(self.draft.bytes())
    }
}

impl Mailbox {
    pub(super) fn open_root(
        shared: Arc<Shared>,
        root: PathBuf,
        limit: Option<u64>,
    ) -> Result<Self, StoreError> {
        let mailbox = Self { shared, root, limit };
        if !mailbox.root.join("cur").is_dir() {
            files::make_dir(&mailbox.root)?;
            let _lock = mailbox.lock()?;
            if !mailbox.root.join("cur").is_dir() {
                let first = FIRST_FOLDERS.into_iter().filter_map(|name| FolderName::from_utf8(name).ok());
                let first: Vec<FolderName> = first.collect();
                for name in &first {
                    make_folder(&mailbox.dir(name))?;
                }
                write_subscriptions(&mailbox.root, &[vec![FolderName::inbox()], first].concat())?;
                make_maildir(&mailbox.root)?;
            }
        }
        sweep(&mailbox.root.join("tmp"), "")?;
        Ok(mailbox)
    }

    /// The lock for whatever concerns more than one folder. Never taken before, always after, a folder's own.
    fn lock(&self) -> Result<Flock, StoreError> {
        account_lock(&self.root)
    }

    fn dir(&self, name: &FolderName) -> PathBuf {
        if name.is_inbox() { self.root.clone() } else { self.root.join(format!(".{}", name.to_utf7())) }
    }

    /// Whether there is such a folder.
    pub fn exists(&self, name: &FolderName) -> bool {
        self.dir(name).is_dir()
    }

    pub(super) fn core(&self, name: &FolderName) -> Result<Arc<Core>, StoreError> {
        let dir = self.dir(name);
        if !dir.is_dir() {
            return Err(StoreError::NoSuchFolder);
        }
        Ok(self.shared.core(&self.root, dir))
    }

    fn existing(&self) -> Result<Vec<FolderName>, StoreError> {
        let dirs = quota::folder_dirs(&self.root)?;
        // A directory whose name is no folder's is left alone.
        let mut names: Vec<FolderName> =
            dirs.iter().filter_map(|dir| FolderName::from_utf7(dir.strip_prefix('.')?).ok()).collect();
        names.retain(|name| !name.is_inbox());
        names.sort();
        Ok(names)
    }

    /// All folders, INBOX first, then by name; with the levels above them and the subscriptions that do not exist.
    pub fn folders(&self) -> Result<Vec<FolderEntry>, StoreError> {
        use std::collections::BTreeMap;

        let subscribed = read_subscriptions(&self.root)?;
        let mut all: BTreeMap<FolderName, (bool, bool)> = BTreeMap::new();
        all.insert(FolderName::inbox(), (true, false));
        for name in self.existing()? {
            let mut above = name.parent();
            while let Some(parent) = above {
                above = parent.parent();
                all.entry(parent).or_default().1 = true;
            }
            all.entry(name).or_default().0 = true;
        }
        for name in &subscribed {
            all.entry(name.clone()).or_default();
        }
        let subscribed: std::collections::HashSet<FolderName> = subscribed.into_iter().collect();
        let mut entries: Vec<FolderEntry> = all
            .into_iter()
            .map(|(name, (exists, has_children))| FolderEntry {
                subscribed: subscribed.contains(&name),
                special_use: SpecialUse::of(&name).filter(|_| exists),
                name,
                exists,
                has_children,
            })
            .collect();
        entries.sort_by_key(|entry| !entry.name.is_inbox());
        Ok(entries)
    }

    /// Makes a folder. Levels above need not exist.
    pub fn create(&self, name: &FolderName) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        if self.exists(name) {
            return Err(StoreError::FolderExists);
        }
        if quota::folder_dirs(&self.root)?.len() >= MAX_FOLDERS {
            return Err(StoreError::Limit("there are too many folders"));
        }
        make_folder(&self.dir(name))
    }

    /// Removes a folder and its messages, not the folders below. Its subscription stays (RFC 9051 section 6.3.7).
    pub fn delete(&self, name: &FolderName) -> Result<(), StoreError> {
        if name.is_inbox() {
            return Err(StoreError::Cannot("INBOX cannot be deleted"));
        }
        let _lock = self.lock()?;
        let dir = self.dir(name);
        let aside = self.root.join(format!("{REMOVED}{}", files::unique_name()));
        match fs::rename(&dir, &aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(StoreError::NoSuchFolder),
            renamed => renamed.at(&dir)?,
        }
        self.shared.forget(&dir);
        // This one, and what a process killed in the middle has left.
        for entry in fs::read_dir(&self.root).at(&self.root)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(REMOVED) {
                fs::remove_dir_all(entry.path()).at(&entry.path())?;
            }
        }
        if let Some(limit) = self.limit {
            quota::recount(&self.root, Some(limit))?;
        }
        Ok(())
    }

    /// Renames a folder and all below it. Renaming INBOX moves its messages and leaves it empty (RFC 9051 section 6.3.6).
    pub fn rename(&self, from: &FolderName, to: &FolderName) -> Result<(), StoreError> {
        if from.is_inbox() {
            self.create(to)?;
            let mut inbox = self.open(from, Access::ReadWrite)?;
            let all: Vec<Uid> = inbox.messages().iter().map(|message| message.uid).collect();
            return inbox.move_to(&all, to).map(|_| ());
        }
        if to == from || to.is_below(from) {
            return Err(StoreError::Cannot("a folder cannot be moved into itself"));
        }
        let _lock = self.lock()?;
        if self.exists(to) {
            return Err(StoreError::FolderExists);
        }
        let mut moves = Vec::new();
        for name in self.existing()? {
            if name == *from || name.is_below(from) {
                let target = name
                    .moved(from, to)
                    .map_err(|_| StoreError::Cannot("a folder below would have a name that is too long"))?;
                if self.exists(&target) {
                    return Err(StoreError::FolderExists);
                }
                moves.push((self.dir(&name), self.dir(&target)));
            }
        }
        if moves.is_empty() {
            return Err(StoreError::NoSuchFolder);
        }
        for (from, to) in moves {
            fs::rename(&from, &to).at(&from)?;
            self.shared.forget(&from);
        }
        Ok(())
    }

    /// Subscribes to a folder, which need not exist.
    pub fn subscribe(&self, name: &FolderName) -> Result<(), StoreError> {
        self.change_subscriptions(|names| {
            if !names.contains(name) {
                names.push(name.clone());
            }
        })
    }

    /// Ends a subscription.
    pub fn unsubscribe(&self, name: &FolderName) -> Result<(), StoreError> {
        self.change_subscriptions(|names| names.retain(|known| known != name))
    }

    fn change_subscriptions(&self, change: impl FnOnce(&mut Vec<FolderName>)) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        let before = read_subscriptions(&self.root)?;
        let mut names = before.clone();
        change(&mut names);
        if names.len() > MAX_FOLDERS {
            return Err(StoreError::Limit("there are too many subscriptions"));
        }
        if names == before { Ok(()) } else { write_subscriptions(&self.root, &names) }
    }

    /// Opens a folder for one session, its view already fresh.
    pub fn open(&self, name: &FolderName, access: Access) -> Result<Folder, StoreError> {
        let core = self.core(name)?;
        sweep(&core.dir, files::UNFINISHED)?;
        Folder::open(self.clone(), name.clone(), core, access)
    }

    /// A folder's figures, fresh.
    pub fn status(&self, name: &FolderName, figures: Figures) -> Result<Status, StoreError> {
        let size = if figures == Figures::All {
            let folder = self.open(name, Access::ReadOnly)?;
            folder.messages().iter().filter_map(|message| folder.size(message.uid).ok()).sum()
        } else {
            0
        };
        let core = self.core(name)?;
        let state = core.fresh(Access::ReadOnly)?;
        let count = |which: &dyn Fn(&Flags, Place) -> bool| {
            let found = state.messages.iter().filter(|message| which(&message.flags, message.place)).count();
            u32::try_from(found).unwrap_or(u32::MAX)
        };
        Ok(Status {
            messages: count(&|_, _| true),
            recent: count(&|_, place| place == Place::New),
            unseen: count(&|flags, _| !flags.contains(Flag::Seen)),
            deleted: count(&|flags, _| flags.contains(Flag::Deleted)),
            size,
            uid_next: state.uid_next(),
            uid_validity: state.validity(),
            highest_modseq: state.highest_modseq(),
        })
    }

    /// What is used of the quota.
    pub fn quota(&self) -> Result<Quota, StoreError> {
        let used = match self.limit {
            Some(limit) => quota::used(&self.root, limit)?,
            None => quota::recount(&self.root, None)?,
        };
        Ok(Quota { used, limit: self.limit })
    }

    /// Whether so many bytes more are allowed.
    ///
    /// # Errors
    /// [`StoreError::OverQuota`] when they are not.
    pub fn check_quota(&self, bytes: u64) -> Result<(), StoreError> {
        let Some(limit) = self.limit else { return Ok(()) };
        let fits = |used: u64| used.saturating_add(bytes) <= limit;
        // Other programs may have removed mail: nothing is refused on the word of a note.
        if fits(quota::used(&self.root, limit)?) || fits(quota::recount(&self.root, Some(limit))?) {
            return Ok(());
        }
        Err(StoreError::OverQuota)
    }

    /// Begins a message. `size`: how many bytes will come, if known, so that a full mailbox is told at once.
    ///
    /// # Errors
    /// [`StoreError::OverQuota`], or what the disk says.
    pub fn draft(&self, size: Option<u64>) -> Result<Draft, StoreError> {
        self.check_quota(size.unwrap_or(1))?;
        Draft::new(&self.root.join("tmp"))
    }

    /// Puts a message into a folder; it is on disk when this returns (APPEND).
    ///
    /// # Errors
    /// [`StoreError::NoSuchFolder`] (`[TRYCREATE]`), [`StoreError::OverQuota`], or what the disk says; nothing was added then.
    pub fn save(
        &self,
        mut draft: Draft,
        folder: &FolderName,
        flags: &Flags,
        internal_date: Option<SystemTime>,
    ) -> Result<Saved, StoreError> {
        let core = self.core(folder)?;
        self.check_quota(draft.bytes())?;
        let (bytes, base) = (draft.bytes(), draft.finish(internal_date)?.into_bytes());
        let mut adding = core.adding()?;
        let (path, letters) = adding.place(&base, flags)?;
        draft.rename(&path)?;
        let uids = adding.record(&[(base, letters)])?;
        let saved =
            Saved { uid_validity: adding.state.validity(), uid: uids.first().copied().unwrap_or_default() };
        self.note_quota(bytes)?;
        Ok(saved)
    }

    /// Puts a message's bytes on disk, so that little can go wrong when it is [committed](Prepared::commit) to the INBOX.
    ///
    /// # Errors
    /// [`StoreError::OverQuota`], or what the disk says.
    pub fn prepare(&self, mut draft: Draft) -> Result<Prepared, StoreError> {
        self.check_quota(draft.bytes())?;
        let name = draft.finish(None)?;
        Ok(Prepared { mailbox: self.clone(), draft, name })
    }

    /// Puts a message into the INBOX as new; it is on disk when this returns.
    ///
    /// # Errors
    /// [`StoreError::OverQuota`], or what the disk says; nothing was added then.
    pub fn deliver(&self, draft: Draft) -> Result<(), StoreError> {
        self.prepare(draft)?.commit()
    }

    fn note_quota(&self, bytes: u64) -> Result<(), StoreError> {
        match self.limit {
            Some(_) => quota::note(&self.root, i64::try_from(bytes).unwrap_or(i64::MAX), 1),
            None => Ok(()),
        }
    }

    /// The right to be the one POP3 session; `None` while there is another.
    pub fn maildrop(&self) -> Result<Option<Maildrop>, StoreError> {
        Ok(Flock::now(&self.root.join("waxseal-pop3-lock"))?.map(Maildrop))
    }
}

fn account_lock(root: &Path) -> Result<Flock, StoreError> {
    Flock::wait(&root.join("waxseal-account-lock"))
}

fn make_maildir(dir: &Path) -> Result<(), StoreError> {
    // `cur/` last: it is what shows that a Maildir is whole.
    ["", "tmp", "new", "cur"].iter().try_for_each(|part| files::make_dir(&dir.join(part)))
}

fn make_folder(dir: &Path) -> Result<(), StoreError> {
    make_maildir(dir)?;
    // Maildir++: tells a delivery agent that this is a folder, and the mailbox one level up.
    files::open_to_append(&dir.join("maildirfolder")).map(|_| ())
}

/// A UIDVALIDITY that no folder of the account has had, as Dovecot keeps count of them.
pub(super) fn next_validity(root: &Path) -> Result<u32, StoreError> {
    const COUNTER: &str = "dovecot-uidvalidity";
    let _lock = account_lock(root)?;
    let mut last = 0;
    let mut old = Vec::new();
    for entry in fs::read_dir(root).at(root)?.flatten() {
        let name = entry.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix(COUNTER)?.strip_prefix('.'));
        if let Some(validity) = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
            last = last.max(validity);
            old.push(entry.path());
        }
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let next = u32::try_from(now).unwrap_or(1).max(last.saturating_add(1));
    let path = root.join(format!("{COUNTER}.{next:08x}"));
    fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o444).open(&path).at(&path)?;
    files::replace(&root.join(COUNTER), format!("{next:08x}").as_bytes())?;
    for path in old {
        let _ = fs::remove_file(path);
    }
    Ok(next)
}

const SUBSCRIPTIONS: &str = "subscriptions";
const SUBSCRIPTIONS_V2: &str = "V\t2\n\n";

fn read_subscriptions(root: &Path) -> Result<Vec<FolderName>, StoreError> {
    let content = files::read_if_there(&root.join(SUBSCRIPTIONS))?.unwrap_or_default();
    let content = String::from_utf8_lossy(&content);
    let lines = content.strip_prefix(SUBSCRIPTIONS_V2).unwrap_or(&content).lines();
    // Version 2 has tabs between levels, version 1 the separator.
    Ok(lines.filter_map(|line| FolderName::from_utf7(&line.replace('\t', ".")).ok()).collect())
}

fn write_subscriptions(root: &Path, names: &[FolderName]) -> Result<(), StoreError> {
    let mut content = SUBSCRIPTIONS_V2.to_owned();
    for name in names {
        content.push_str(&name.to_utf7().replace('.', "\t"));
        content.push('\n');
    }
    files::replace(&root.join(SUBSCRIPTIONS), content.as_bytes())
}
