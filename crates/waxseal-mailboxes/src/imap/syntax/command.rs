//! Commands as a whole.

use std::fmt;
use std::time::SystemTime;

use zeroize::Zeroizing;

use super::{Cursor, Fetch, List, Parsed, Search, SequenceSet, SyntaxError, ascii, is_astring};
use crate::store::{FlagChange, Flags};

/// How long a tag may be: it is repeated in every answer.
const MAX_TAG: usize = 128;
/// How many pairs ID may have, and how long each may be (RFC 2971 section 3.3).
const MAX_ID_PAIRS: usize = 30;
const MAX_ID_VALUE: usize = 1024;

/// A mailbox name as it came, in whichever encoding the session speaks.
pub(in crate::imap) type Name = Vec<u8>;

#[derive(Clone, PartialEq)]
pub(in crate::imap) enum Command {
    Capability,
    Noop,
    Logout,
    Id,
    StartTls,
    Login {
        user: Vec<u8>,
        password: Zeroizing<Vec<u8>>,
    },
    Authenticate {
        mechanism: String,
        initial: Option<Zeroizing<Vec<u8>>>,
    },
    Enable(Vec<String>),
    Select {
        name: Name,
        read_only: bool,
        condstore: bool,
    },
    Create(Name),
    Delete(Name),
    Rename {
        from: Name,
        to: Name,
    },
    Subscribe(Name),
    Unsubscribe(Name),
    List(List),
    Lsub {
        reference: Vec<u8>,
        pattern: Vec<u8>,
    },
    Namespace,
    Status {
        name: Name,
        items: Vec<StatusItem>,
    },
    Idle,
    Check,
    Close,
    Unselect,
    /// The set is UID EXPUNGE's.
    Expunge(Option<SequenceSet>),
    Search {
        uid: bool,
        search: Search,
    },
    Fetch {
        uid: bool,
        fetch: Fetch,
    },
    Store {
        uid: bool,
        set: SequenceSet,
        store: SetFlags,
    },
    Copy {
        uid: bool,
        set: SequenceSet,
        to: Name,
    },
    Move {
        uid: bool,
        set: SequenceSet,
        to: Name,
    },
}

impl fmt::Debug for Command {
    /// Without arguments: passwords are among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Command")
    }
}

/// What STORE does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::imap) struct SetFlags {
    pub(in crate::imap) change: FlagChange,
    pub(in crate::imap) flags: Flags,
    pub(in crate::imap) silent: bool,
    /// RFC 7162 section 3.1.3.
    pub(in crate::imap) unchanged_since: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::imap) enum StatusItem {
    Messages,
    Recent,
    UidNext,
    UidValidity,
    Unseen,
    Deleted,
    Size,
    HighestModSeq,
}

impl StatusItem {
    pub(in crate::imap) const ALL: [(Self, &str); 8] = [
        (Self::Messages, "MESSAGES"),
        (Self::Recent, "RECENT"),
        (Self::UidNext, "UIDNEXT"),
        (Self::UidValidity, "UIDVALIDITY"),
        (Self::Unseen, "UNSEEN"),
        (Self::Deleted, "DELETED"),
        (Self::Size, "SIZE"),
        (Self::HighestModSeq, "HIGHESTMODSEQ"),
    ];
}

/// What stands before the message in APPEND.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::imap) struct AppendHead {
    pub(in crate::imap) name: Name,
    pub(in crate::imap) flags: Flags,
    pub(in crate::imap) date: Option<SystemTime>,
    /// literal8 (RFC 3516 section 4.4).
    pub(in crate::imap) binary: bool,
}

/// The tag at the beginning of `line`, if there is one; what follows is behind one space.
pub(in crate::imap) fn tag_of(line: &[u8]) -> Option<(&str, &[u8])> {
    let mut cursor = Cursor::new(line);
    let tag = cursor.while_is(|byte| is_astring(byte) && byte != b'+');
    if tag.is_empty() || tag.len() > MAX_TAG || !(cursor.rest.is_empty() || cursor.take(b' ')) {
        return None;
    }
    Some((ascii(tag), cursor.rest))
}

/// Whether `text`, a command without its tag and with its line ending in a literal's `{n}` cut off before the brace, is an
/// APPEND whose message is that literal; `None` when it is no APPEND, or the literal is its mailbox name.
pub(in crate::imap) fn append_head(text: &[u8]) -> Option<Parsed<AppendHead>> {
    let mut cursor = Cursor::new(text);
    if !cursor.take_words("APPEND ") || cursor.rest.is_empty() {
        return None;
    }
    Some(cursor.append_head())
}

/// Reads a command without its tag.
pub(in crate::imap) fn parse(text: &[u8]) -> Parsed<Command> {
    let mut cursor = Cursor::new(text);
    let command = cursor.command()?;
    cursor.end()?;
    Ok(command)
}

impl Cursor<'_> {
    fn append_head(&mut self) -> Parsed<AppendHead> {
        let name = self.astring()?;
        self.space()?;
        let mut head = AppendHead { name, flags: Flags::new(), date: None, binary: false };
        if self.peek() == Some(b'(') {
            head.flags = self.flag_list()?;
            self.space()?;
        }
        if self.peek() == Some(b'"') {
            head.date = Some(self.date_time()?);
            self.space()?;
        }
        head.binary = self.take(b'~');
        self.end()?;
        Ok(head)
    }

    fn command(&mut self) -> Parsed<Command> {
        let mut name = self.word()?;
        let uid = name == "UID";
        if uid {
            self.space()?;
            name = self.word()?;
        }
        match name.as_str() {
            "EXPUNGE" if !uid => return Ok(Command::Expunge(None)),
            "EXPUNGE" | "FETCH" | "STORE" | "SEARCH" | "COPY" | "MOVE" => {
                self.space()?;
                return self.message_command(&name, uid);
            }
            _ if uid => return Err(SyntaxError("there is no such UID command")),
            _ => {}
        }
        Ok(match name.as_str() {
            "CAPABILITY" => Command::Capability,
            "NOOP" => Command::Noop,
            "LOGOUT" => Command::Logout,
            "STARTTLS" => Command::StartTls,
            "NAMESPACE" => Command::Namespace,
            "IDLE" => Command::Idle,
            "CHECK" => Command::Check,
            "CLOSE" => Command::Close,
            "UNSELECT" => Command::Unselect,
            _ => {
                self.space()
                    .map_err(|_| SyntaxError("there is no such command, or its arguments are missing"))?;
                self.command_with_arguments(&name)?
            }
        })
    }

    fn command_with_arguments(&mut self, name: &str) -> Parsed<Command> {
        Ok(match name {
            "ID" => self.id()?,
            "LOGIN" => {
                let user = self.astring()?;
                self.space()?;
                Command::Login { user, password: Zeroizing::new(self.astring()?) }
            }
            "AUTHENTICATE" => {
                let mechanism = self.word()?;
                let given = |cursor: &mut Self| {
                    Zeroizing::new(cursor.while_is(|byte| byte.is_ascii_graphic()).to_vec())
                };
                let initial = self.take(b' ').then(|| given(self));
                Command::Authenticate { mechanism, initial }
            }
            "ENABLE" => Command::Enable(self.one_or_more(Self::word)?),
            "SELECT" | "EXAMINE" => {
                let (name_given, condstore) = (self.astring()?, self.select_parameters()?);
                Command::Select { name: name_given, read_only: name == "EXAMINE", condstore }
            }
            "CREATE" => Command::Create(self.astring()?),
            "DELETE" => Command::Delete(self.astring()?),
            "RENAME" => {
                let from = self.astring()?;
                self.space()?;
                Command::Rename { from, to: self.astring()? }
            }
            "SUBSCRIBE" => Command::Subscribe(self.astring()?),
            "UNSUBSCRIBE" => Command::Unsubscribe(self.astring()?),
            "LIST" => Command::List(self.list_command()?),
            "LSUB" => {
                let reference = self.astring()?;
                self.space()?;
                Command::Lsub { reference, pattern: self.list_mailbox()? }
            }
            "STATUS" => {
                let name = self.astring()?;
                self.space()?;
                Command::Status { name, items: self.status_items()? }
            }
            "APPEND" => return Err(SyntaxError("the message has to be a literal")),
            _ => return Err(SyntaxError("there is no such command")),
        })
    }

    fn message_command(&mut self, name: &str, uid: bool) -> Parsed<Command> {
        Ok(match name {
            "EXPUNGE" => Command::Expunge(Some(self.sequence_set()?)),
            "FETCH" => Command::Fetch { uid, fetch: self.fetch()? },
            "SEARCH" => {
                let search = self.search()?;
                // Keys in a charset we do not have were not read.
                self.rest = &[];
                Command::Search { uid, search }
            }
            "STORE" => {
                let set = self.sequence_set()?;
                self.space()?;
                Command::Store { uid, set, store: self.set_flags()? }
            }
            _ => {
                let set = self.sequence_set()?;
                self.space()?;
                let to = self.astring()?;
                if name == "COPY" { Command::Copy { uid, set, to } } else { Command::Move { uid, set, to } }
            }
        })
    }

    fn one_or_more<T>(&mut self, mut item: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut items = vec![item(self)?];
        while self.take(b' ') {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// What a client calls itself is read, and not kept.
    fn id(&mut self) -> Parsed<Command> {
        if self.take_words("NIL") {
            return Ok(Command::Id);
        }
        let values = self.list(|cursor| {
            let value = if cursor.take_words("NIL") { Vec::new() } else { cursor.string()? };
            if value.len() > MAX_ID_VALUE { Err(SyntaxError("a value of ID is too long")) } else { Ok(()) }
        })?;
        if values.len() % 2 != 0 || values.len() > 2 * MAX_ID_PAIRS {
            return Err(SyntaxError("ID takes at most 30 pairs"));
        }
        Ok(Command::Id)
    }

    /// Whether CONDSTORE is among the parameters of SELECT (RFC 7162 section 3.1.8).
    fn select_parameters(&mut self) -> Parsed<bool> {
        if !self.take(b' ') {
            return Ok(false);
        }
        self.list_of_one_or_more(|cursor| match cursor.word()?.as_str() {
            "CONDSTORE" => Ok(()),
            _ => Err(SyntaxError("there is no such parameter of SELECT")),
        })?;
        Ok(true)
    }

    pub(super) fn status_items(&mut self) -> Parsed<Vec<StatusItem>> {
        let items = self.list_of_one_or_more(|cursor| {
            let name = cursor.word()?;
            let known = StatusItem::ALL.iter().find(|(_, known)| *known == name);
            known.map(|(item, _)| *item).ok_or(SyntaxError("there is no such figure of a folder"))
        })?;
        if items.len() > 2 * StatusItem::ALL.len() {
            return Err(SyntaxError("too many figures are asked for"));
        }
        Ok(items)
    }

    fn set_flags(&mut self) -> Parsed<SetFlags> {
        let mut unchanged_since = None;
        if self.take(b'(') {
            if !self.take_words("UNCHANGEDSINCE ") {
                return Err(SyntaxError("there is no such modifier of STORE"));
            }
            unchanged_since = Some(self.number64()?);
            self.expect(b')', "a list has no end")?;
            self.space()?;
        }
        let change = match (self.take(b'+'), self.take(b'-')) {
            (true, false) => FlagChange::Add,
            (false, true) => FlagChange::Remove,
            (false, false) => FlagChange::Replace,
            (true, true) => return Err(SyntaxError("there is nothing but FLAGS to store")),
        };
        let silent = match self.word()?.as_str() {
            "FLAGS" => false,
            "FLAGS.SILENT" => true,
            _ => return Err(SyntaxError("there is nothing but FLAGS to store")),
        };
        self.space()?;
        let flags = if self.peek() == Some(b'(') {
            self.flag_list()?
        } else {
            let mut flags = Flags::new();
            self.one_or_more(|cursor| cursor.flag(&mut flags))?;
            flags
        };
        Ok(SetFlags { change, flags, silent, unchanged_since })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Flag;

    #[test]
    fn tags_are_atoms_without_plus() {
        assert_eq!(tag_of(b"a1 NOOP"), Some(("a1", &b"NOOP"[..])));
        assert_eq!(tag_of(b"a]1"), Some(("a]1", &b""[..])));
        for bad in ["", " NOOP", "+ NOOP", "a+ NOOP", "(a NOOP", "a\0 NOOP", "\u{e4} NOOP"] {
            assert_eq!(tag_of(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(tag_of(&[b'a'; 200]), None);
    }

    #[test]
    fn store_is_read_in_its_forms() {
        let seen: Flags = [Flag::Seen].into_iter().collect();
        for (text, change, silent, unchanged_since) in [
            ("STORE 1 FLAGS \\Seen", FlagChange::Replace, false, None),
            ("uid store 1:* +flags.silent (\\seen)", FlagChange::Add, true, None),
            ("STORE 1 (UNCHANGEDSINCE 5) -FLAGS (\\Seen)", FlagChange::Remove, false, Some(5)),
        ] {
            let Command::Store { store, .. } = parse(text.as_bytes()).unwrap() else { panic!("{text}") };
            assert_eq!(store, SetFlags { change, flags: seen.clone(), silent, unchanged_since });
        }
    }

    #[test]
    fn the_head_of_append_is_told_from_its_name() {
        assert_eq!(append_head(b"APPEND "), None);
        assert_eq!(append_head(b"LOGIN x "), None);
        let head =
            append_head(b"append {2}\r\nab (\\Seen) \" 1-Feb-2026 10:11:12 +0100\" ~").unwrap().unwrap();
        assert_eq!(head.name, b"ab");
        assert!(head.flags.contains(Flag::Seen) && head.date.is_some() && head.binary);
        for bad in ["APPEND a", "APPEND a (\\Seen)", "APPEND a (\\Recent) ", "APPEND a \"1\" ", "APPEND a b "]
        {
            assert!(append_head(bad.as_bytes()).unwrap().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for bad in [
            "",
            "FOO",
            "NOOP x",
            "NOOP ",
            "UID NOOP",
            "UID",
            "LOGIN a",
            "LOGIN a b c",
            "SELECT",
            "SELECT a (X)",
            "ENABLE",
            "RENAME a",
            "STATUS a ()",
            "STATUS a (FOO)",
            "STORE 1 FLAGS",
            "STORE 1 +-FLAGS ()",
            "COPY 1",
            "EXPUNGE 1",
            "UID EXPUNGE",
            "ID (\"a\")",
            "ID x",
            "LIST",
            "APPEND a \"x\"",
            "AUTHENTICATE",
            "MOVE 0 a",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn commands_are_read() {
        for good in [
            "noop",
            "Capability",
            "ID NIL",
            "ID (\"name\" \"x\" \"v\" NIL)",
            "SELECT inbox (CONDSTORE)",
            "EXAMINE \"a b\"",
            "UID EXPUNGE 1:*",
            "EXPUNGE",
            "COPY 1,2 {3}\r\nabc",
            "UID MOVE $ x",
            "LSUB \"\" *",
            "ENABLE IMAP4rev2 CONDSTORE",
            "STATUS INBOX (messages SIZE)",
            "AUTHENTICATE PLAIN =",
            "AUTHENTICATE PLAIN",
            "LOGIN \"\" \"\"",
            "SEARCH CHARSET X TO \u{e4}",
        ] {
            assert!(parse(good.as_bytes()).is_ok(), "{good}");
        }
    }
}
