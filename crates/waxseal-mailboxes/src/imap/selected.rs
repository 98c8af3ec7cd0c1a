//! The folder that is open: SELECT to CLOSE, EXPUNGE, and what is told of others' changes.

use std::fmt::Write;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::reply::{Answer, Reply, Status, Stop};
use super::session::{Enabled, Session, blocking};
use super::syntax::{Ranges, SequenceSet};
use super::words::put_number;
use crate::store::{
    Access, Changes, Flag, Folder, FolderName, Keyword, Mailbox, Message, StoreError, Uid, Watch,
};

/// An open folder.
#[derive(Debug)]
pub(super) struct Selected {
    pub(super) folder: Folder,
    pub(super) watch: Watch,
    pub(super) read_only: bool,
    /// How many keywords the client was last told of.
    told_keywords: usize,
    /// What `$` stands for, as UIDs (RFC 5182).
    pub(super) saved: Ranges,
}

/// What of others' changes may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    All,
    /// No EXPUNGE.
    AllButGone,
}

impl Selected {
    /// The messages of a set, in order.
    ///
    /// A sequence number that no message has is the client's error; a UID that no message has is not (RFC 9051 section 6.4.9).
    pub(super) fn uids(&self, set: &SequenceSet, by_uid: bool) -> Result<Vec<Uid>, Stop> {
        let view = self.folder.messages();
        let largest_uid = view.last().map_or(0, |message| message.uid);
        let count = u32::try_from(view.len()).unwrap_or(u32::MAX);
        let largest = if by_uid { largest_uid } else { count };
        if !by_uid && set.largest_written() > count {
            return Err(Reply::bad("There are not so many messages").into());
        }
        let Some(ranges) = set.resolve(largest) else {
            return Ok(uids_within(view, &self.saved));
        };
        if by_uid {
            return Ok(uids_within(view, &ranges));
        }
        let slices =
            ranges.iter().filter_map(|(from, to)| view.get(from.checked_sub(1)? as usize..to as usize));
        Ok(slices.flatten().map(|message| message.uid).collect())
    }

    /// The sequence number of a message of the view.
    pub(super) fn number(&self, uid: Uid) -> usize {
        number(&self.folder, uid)
    }
}

/// The sequence number that a message of the view has, or had before it went.
pub(super) fn number(folder: &Folder, uid: Uid) -> usize {
    folder.messages().partition_point(|message| message.uid < uid) + 1
}

fn uids_within(view: &[Arc<Message>], ranges: &Ranges) -> Vec<Uid> {
    let slices = ranges.iter().filter_map(|(from, to)| {
        let start = view.partition_point(|message| message.uid < from);
        let end = view.partition_point(|message| message.uid <= to);
        view.get(start..end)
    });
    slices.flatten().map(|message| message.uid).collect()
}

/// `(\Seen keyword)`
pub(super) fn put_flags(folder: &Folder, message: &Message, enabled: Enabled, out: &mut Vec<u8>) {
    let recent = !enabled.rev2 && folder.is_recent(message.uid);
    let names = message.flags.iter().map(|flag| -> &str { flag.as_str() });
    let names = names.chain(message.flags.keywords().iter().map(Keyword::as_str));
    out.push(b'(');
    for (index, name) in names.chain(recent.then_some("\\Recent")).enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(name.as_bytes());
    }
    out.push(b')');
}

/// What of a message is told after its flags have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FlagsTold {
    pub(super) flags: bool,
    pub(super) uid: bool,
    pub(super) modseq: bool,
}

/// `* 5 FETCH (UID 17 FLAGS (\Seen) MODSEQ (12))`
pub(super) fn put_flags_fetch(
    folder: &Folder,
    uid: Uid,
    enabled: Enabled,
    told: FlagsTold,
    out: &mut Vec<u8>,
) {
    let Some(message) = folder.get(uid) else { return };
    out.extend_from_slice(b"* ");
    put_number(number(folder, uid) as u64, out);
    out.extend_from_slice(b" FETCH (");
    let start = out.len();
    let next = |out: &mut Vec<u8>, name: &str| {
        if out.len() > start {
            out.push(b' ');
        }
        out.extend_from_slice(name.as_bytes());
    };
    if told.uid {
        next(out, "UID ");
        put_number(uid.into(), out);
    }
    if told.flags {
        next(out, "FLAGS ");
        put_flags(folder, message, enabled, out);
    }
    if told.modseq {
        next(out, "MODSEQ (");
        put_number(message.modseq, out);
        out.push(b')');
    }
    out.extend_from_slice(b")\r\n");
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Session<S> {
    pub(super) fn selected(&self) -> Result<&Selected, Stop> {
        self.selected.as_deref().ok_or_else(|| Reply::bad("Select a folder first").into())
    }

    /// Does file work on the open folder.
    pub(super) async fn on_folder<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Folder) -> T + Send + 'static,
    ) -> Result<T, Stop> {
        let mut selected = self.selected.take().ok_or_else(|| Reply::bad("Select a folder first"))?;
        let (selected, done) = blocking(move || {
            let done = work(&mut selected.folder);
            (selected, done)
        })
        .await?;
        self.selected = Some(selected);
        Ok(done)
    }

    pub(super) async fn select(
        &mut self,
        mailbox: Mailbox,
        name: Result<FolderName, Stop>,
        read_only: bool,
        condstore: bool,
    ) -> Answer {
        // Kept until the new one is open: what is known of a folder need not be found out again when it is the same.
        let before = self.selected.take();
        if before.is_some() {
            // Whatever was said so far was of the old folder (RFC 9051 section 7.1).
            self.put("* OK [CLOSED] The folder before is closed");
        }
        let name = name?;
        if condstore {
            self.enabled.condstore = true;
        }
        let access = if read_only { Access::ReadOnly } else { Access::ReadWrite };
        let folder = blocking(move || mailbox.open(&name, access)).await??;
        let selected = Selected {
            watch: folder.watch(),
            told_keywords: folder.keywords().len(),
            folder,
            read_only,
            saved: Ranges::default(),
        };
        drop(before);
        let mut text = String::new();
        self.describe(&selected, &mut text);
        self.wire.out().extend_from_slice(text.as_bytes());
        self.selected = Some(Box::new(selected));
        let code = if read_only { "READ-ONLY" } else { "READ-WRITE" };
        Ok(Reply::ok("Folder selected").with_code(code))
    }

    /// What SELECT has to say (RFC 9051 section 6.3.2, RFC 3501 section 6.3.1).
    fn describe(&self, selected: &Selected, text: &mut String) {
        let folder = &selected.folder;
        flags_lines(selected, text);
        let view = folder.messages();
        // Writing to a String does not fail.
        let _ = write!(text, "* {} EXISTS\r\n", view.len());
        if !self.enabled.rev2 {
            let _ = write!(text, "* {} RECENT\r\n", folder.recent());
            let unseen = view.iter().position(|message| !message.flags.contains(Flag::Seen));
            if let Some(unseen) = unseen {
                let _ = write!(text, "* OK [UNSEEN {}] First unseen\r\n", unseen + 1);
            }
        }
        let _ = write!(text, "* OK [UIDVALIDITY {}] UIDs valid\r\n", folder.uid_validity());
        let _ = write!(text, "* OK [UIDNEXT {}] Next UID\r\n", folder.uid_next());
        let _ = write!(text, "* OK [HIGHESTMODSEQ {}] Highest\r\n", folder.highest_modseq());
        if self.enabled.rev2 {
            let mut line = b"* LIST () \".\" ".to_vec();
            super::words::put_mailbox(&self.enabled.name_sent(folder.name()), &mut line);
            text.push_str(&String::from_utf8_lossy(&line));
            text.push_str("\r\n");
        }
    }

    /// Closes the open folder if it is `name` or below, as it is to go. INBOX never goes.
    pub(super) fn leave(&mut self, name: &FolderName) {
        let open = self.selected.as_ref().map(|selected| selected.folder.name());
        if !name.is_inbox() && open.is_some_and(|open| open == name || open.is_below(name)) {
            self.selected = None;
            self.put("* OK [CLOSED] The folder is closed");
        }
    }

    pub(super) async fn close(&mut self) -> Answer {
        if !self.selected()?.read_only {
            self.on_folder(|folder| folder.expunge(None)).await??;
        }
        self.selected = None;
        Ok(Reply::ok("Folder closed"))
    }

    pub(super) async fn expunge(&mut self, set: Option<SequenceSet>) -> Answer {
        self.writable()?;
        let among = match set {
            Some(set) => Some(self.selected()?.uids(&set, true)?),
            None => None,
        };
        let gone = self.on_folder(move |folder| folder.expunge(among.as_deref())).await??;
        self.tell_gone(&gone).await?;
        Ok(Reply::ok("Expunged"))
    }

    pub(super) fn writable(&self) -> Result<(), Stop> {
        match self.selected()?.read_only {
            true => Err(Reply::no("NOPERM", "The folder is open to be read only").into()),
            false => Ok(()),
        }
    }

    /// Marks CONDSTORE as understood; a folder that is open is described anew (RFC 7162 section 3.1.2).
    pub(super) fn enable_condstore(&mut self) {
        if std::mem::replace(&mut self.enabled.condstore, true) {
            return;
        }
        if let Some(selected) = &self.selected {
            let line = format!("* OK [HIGHESTMODSEQ {}] Highest", selected.folder.highest_modseq());
            self.put(&line);
        }
    }

    /// Tells what has changed, at the end of a command.
    pub(super) async fn with_news(&mut self, told: Told, answer: Answer) -> Answer {
        let complete = match &answer {
            Ok(reply) | Err(Stop::Refused(reply)) => reply.status != Status::Bad,
            Err(_) => false,
        };
        if complete && self.selected.is_some() {
            self.tell_news(told).await?;
        }
        answer
    }

    pub(super) async fn tell_news(&mut self, told: Told) -> Result<(), Stop> {
        let refresh = move |folder: &mut Folder| match told {
            Told::All => folder.refresh(),
            Told::AllButGone => folder.refresh_keeping_gone(),
        };
        let changes = match self.on_folder(refresh).await? {
            Ok(changes) => changes,
            // RFC 2180 section 3: the folder was deleted under the session.
            Err(StoreError::NoSuchFolder) => return Err(Stop::Bye("The folder was deleted or renamed")),
            Err(error) => {
                // The command itself was done; what is new can be told another time.
                tracing::warn!(%error, "a folder cannot be read again");
                return Ok(());
            }
        };
        self.tell(&changes).await
    }

    async fn tell(&mut self, changes: &Changes) -> Result<(), Stop> {
        self.tell_gone(&changes.vanished).await?;
        let Some(selected) = &mut self.selected else { return Ok(()) };
        let folder = &selected.folder;
        let mut text = String::new();
        if !changes.arrived.is_empty() {
            let _ = write!(text, "* {} EXISTS\r\n", folder.messages().len());
            if !self.enabled.rev2 {
                let _ = write!(text, "* {} RECENT\r\n", folder.recent());
            }
        }
        if folder.keywords().len() != selected.told_keywords {
            selected.told_keywords = folder.keywords().len();
            flags_lines(selected, &mut text);
        }
        self.wire.out().extend_from_slice(text.as_bytes());
        let told = FlagsTold {
            flags: true,
            uid: self.enabled.rev2 || self.enabled.condstore,
            modseq: self.enabled.condstore,
        };
        self.tell_flags(&changes.changed, told).await
    }

    pub(super) async fn tell_flags(&mut self, uids: &[Uid], told: FlagsTold) -> Result<(), Stop> {
        let Some(selected) = &self.selected else { return Ok(()) };
        for uid in uids {
            put_flags_fetch(&selected.folder, *uid, self.enabled, told, self.wire.out());
            self.wire.send_if_much().await?;
        }
        Ok(())
    }

    /// Messages that are no longer in the view, ascending: each line counts with those before it gone.
    pub(super) async fn tell_gone(&mut self, uids: &[Uid]) -> Result<(), Stop> {
        let Some(selected) = &self.selected else { return Ok(()) };
        for uid in uids {
            let out = self.wire.out();
            out.extend_from_slice(b"* ");
            put_number(selected.number(*uid) as u64, out);
            out.extend_from_slice(b" EXPUNGE\r\n");
            self.wire.send_if_much().await?;
        }
        Ok(())
    }
}

fn flags_lines(selected: &Selected, text: &mut String) {
    let mut names: Vec<&str> = Flag::ALL.into_iter().map(Flag::as_str).collect();
    names.extend(selected.folder.keywords().iter().map(Keyword::as_str));
    let _ = write!(text, "* FLAGS ({})\r\n", names.join(" "));
    if selected.read_only {
        names.clear();
    } else if selected.folder.takes_new_keywords() {
        names.push("\\*");
    }
    let _ = write!(text, "* OK [PERMANENTFLAGS ({})] Flags that last\r\n", names.join(" "));
}
