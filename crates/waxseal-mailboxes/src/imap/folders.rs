//! LIST, LSUB, STATUS, CREATE and the like.

use std::collections::BTreeSet;

use tokio::io::{AsyncRead, AsyncWrite};

use super::pattern::Pattern;
use super::reply::{Answer, Reply, Stop};
use super::session::{Session, blocking};
use super::syntax::{List, ListSelect, StatusItem};
use super::words::put_mailbox;
use crate::store::{Figures, FolderEntry, FolderName, Mailbox, SEPARATOR, SpecialUse, Status, StoreError};

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Session<S> {
    /// Does file work, and says `done`.
    pub(super) async fn on_mailbox(
        &mut self,
        work: impl FnOnce() -> Result<(), StoreError> + Send + 'static,
        done: &'static str,
    ) -> Answer {
        blocking(work).await??;
        Ok(Reply::ok(done))
    }

    pub(super) async fn create(&mut self, mailbox: Mailbox, name: &[u8]) -> Answer {
        // RFC 9051 section 6.3.4: a separator at the end says that folders below are to come.
        let name = name.strip_suffix(&[SEPARATOR as u8]).unwrap_or(name);
        let name = self.name(name)?;
        self.on_mailbox(move || mailbox.create(&name), "Folder made").await
    }

    pub(super) async fn status(&mut self, mailbox: Mailbox, name: &[u8], items: &[StatusItem]) -> Answer {
        let name = self.name(name)?;
        self.enable_condstore_for(items);
        let (asked, figures) = (name.clone(), figures(items));
        let status = blocking(move || mailbox.status(&asked, figures)).await??;
        self.put_status(&name, &status, items);
        Ok(Reply::ok("Status given"))
    }

    fn enable_condstore_for(&mut self, items: &[StatusItem]) {
        if items.contains(&StatusItem::HighestModSeq) {
            self.enable_condstore();
        }
    }

    fn put_status(&mut self, name: &FolderName, status: &Status, items: &[StatusItem]) {
        let name = self.enabled.name_sent(name);
        let out = self.wire.out();
        out.extend_from_slice(b"* STATUS ");
        put_mailbox(&name, out);
        let words: Vec<String> = items
            .iter()
            .map(|item| {
                let figure = match item {
                    StatusItem::Messages => status.messages.into(),
                    StatusItem::Recent => status.recent.into(),
                    StatusItem::UidNext => status.uid_next.into(),
                    StatusItem::UidValidity => status.uid_validity.into(),
                    StatusItem::Unseen => status.unseen.into(),
                    StatusItem::Deleted => status.deleted.into(),
                    StatusItem::Size => status.size,
                    StatusItem::HighestModSeq => status.highest_modseq,
                };
                let name =
                    StatusItem::ALL.iter().find(|(known, _)| known == item).map_or("", |(_, name)| name);
                format!("{name} {figure}")
            })
            .collect();
        self.put(&format!(" ({})", words.join(" ")));
    }

    pub(super) async fn list(&mut self, mailbox: Mailbox, list: List) -> Answer {
        // RFC 9051 section 6.3.9: the separator is asked for.
        if list.patterns.iter().all(Vec::is_empty) && !list.extended {
            self.put(&format!("* LIST (\\Noselect) \"{SEPARATOR}\" \"\""));
            return Ok(Reply::ok("Separator given"));
        }
        self.enable_condstore_for(&list.return_status);
        let patterns: Vec<Pattern> =
            list.patterns.iter().map(|pattern| Pattern::new(&list.reference, pattern)).collect();
        let (enabled, asked, status_items) = (self.enabled, mailbox.clone(), list.return_status.clone());
        let find = move || {
            let entries = asked.folders()?;
            let line = |entry: &FolderEntry| {
                let name = enabled.name_sent(&entry.name);
                if !patterns.iter().any(|pattern| pattern.matches(&name)) {
                    return None;
                }
                let below = wanted(entry, &entries, list.select)?;
                Some((entry.name.clone(), entry.exists, list_line(entry, &list, below, &name)))
            };
            Ok::<_, StoreError>(entries.iter().filter_map(line).collect::<Vec<_>>())
        };
        for (name, exists, line) in blocking(find).await?? {
            self.wire.out().extend_from_slice(&line);
            if !status_items.is_empty() && exists {
                self.list_status(&mailbox, name, &status_items).await?;
            }
            self.wire.send_if_much().await?;
        }
        Ok(Reply::ok("Folders listed"))
    }

    /// RFC 5819: a folder that cannot be looked into has no STATUS line.
    async fn list_status(
        &mut self,
        mailbox: &Mailbox,
        name: FolderName,
        items: &[StatusItem],
    ) -> Result<(), Stop> {
        let (mailbox, asked, figures) = (mailbox.clone(), name.clone(), figures(items));
        if let Ok(status) = blocking(move || mailbox.status(&asked, figures)).await? {
            self.put_status(&name, &status, items);
        }
        Ok(())
    }

    pub(super) async fn lsub(&mut self, mailbox: Mailbox, reference: &[u8], pattern: &[u8]) -> Answer {
        let pattern = Pattern::new(reference, pattern);
        let mut listed = BTreeSet::new();
        for entry in folders(mailbox).await?.into_iter().filter(|entry| entry.subscribed) {
            let name = self.enabled.name_sent(&entry.name);
            if pattern.matches(&name) {
                listed.insert((name, ""));
                continue;
            }
            // RFC 3501 section 6.3.9: with `%`, a level above a subscribed folder is given as \Noselect.
            let mut above = entry.name.parent();
            while let Some(level) = above {
                let name = self.enabled.name_sent(&level);
                if pattern.ends_in_level() && pattern.matches(&name) && !listed.contains(&(name.clone(), ""))
                {
                    listed.insert((name, "\\Noselect"));
                }
                above = level.parent();
            }
        }
        let own: BTreeSet<String> = listed
            .iter()
            .filter(|(_, attribute)| attribute.is_empty())
            .map(|(name, _)| name.clone())
            .collect();
        for (name, attribute) in listed {
            if attribute.is_empty() || !own.contains(&name) {
                let mut line = format!("* LSUB ({attribute}) \"{SEPARATOR}\" ").into_bytes();
                put_mailbox(&name, &mut line);
                line.extend_from_slice(b"\r\n");
                self.wire.send_through(&line).await?;
            }
        }
        Ok(Reply::ok("Subscriptions listed"))
    }
}

async fn folders(mailbox: Mailbox) -> Result<Vec<FolderEntry>, Stop> {
    Ok(blocking(move || mailbox.folders()).await??)
}

fn figures(items: &[StatusItem]) -> Figures {
    if items.contains(&StatusItem::Size) { Figures::All } else { Figures::WithoutSize }
}

/// Whether a folder is among those selected; and if so, what is selected below it (CHILDINFO, RFC 5258 section 3.5).
fn wanted(entry: &FolderEntry, all: &[FolderEntry], select: ListSelect) -> Option<Vec<&'static str>> {
    let is_wanted = |entry: &FolderEntry| {
        (!select.subscribed || entry.subscribed) && (!select.special_use || entry.special_use.is_some())
    };
    let mut below = Vec::new();
    if select.recursive_match {
        let any_below = || all.iter().any(|other| is_wanted(other) && other.name.is_below(&entry.name));
        if select.subscribed && any_below() {
            below.push("\"SUBSCRIBED\"");
        }
        if select.special_use && any_below() {
            below.push("\"SPECIAL-USE\"");
        }
    }
    let own = match select.subscribed {
        true => is_wanted(entry),
        // A subscription to nothing is nothing that exists.
        false => is_wanted(entry) && (entry.exists || entry.has_children),
    };
    (own || !below.is_empty()).then_some(below)
}

fn list_line(entry: &FolderEntry, list: &List, below: Vec<&'static str>, name: &str) -> Vec<u8> {
    let mut attributes = Vec::new();
    if !entry.exists {
        // RFC 5258 section 3: \NonExistent says \Noselect too, to those who know it.
        attributes.push(if list.extended { "\\NonExistent" } else { "\\Noselect" });
    }
    attributes.push(if entry.has_children { "\\HasChildren" } else { "\\HasNoChildren" });
    if entry.subscribed && (list.select.subscribed || list.return_subscribed) {
        attributes.push("\\Subscribed");
    }
    attributes.extend(entry.special_use.map(|use_| match use_ {
        SpecialUse::Archive => "\\Archive",
        SpecialUse::Drafts => "\\Drafts",
        SpecialUse::Junk => "\\Junk",
        SpecialUse::Sent => "\\Sent",
        SpecialUse::Trash => "\\Trash",
    }));
    let mut line = format!("* LIST ({}) \"{SEPARATOR}\" ", attributes.join(" ")).into_bytes();
    put_mailbox(name, &mut line);
    if !below.is_empty() {
        line.extend_from_slice(format!(" (\"CHILDINFO\" ({}))", below.join(" ")).as_bytes());
    }
    line.extend_from_slice(b"\r\n");
    line
}
