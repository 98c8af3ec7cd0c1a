//! LIST with its extensions (RFC 5258, 5819, 6154).

use super::command::StatusItem;
use super::{Cursor, Parsed, SyntaxError};

/// How many patterns one LIST may have.
const MAX_PATTERNS: usize = 32;

/// LIST.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::imap) struct List {
    pub(in crate::imap) reference: Vec<u8>,
    pub(in crate::imap) patterns: Vec<Vec<u8>>,
    pub(in crate::imap) select: ListSelect,
    /// Whether anything beyond RFC 3501 was written.
    pub(in crate::imap) extended: bool,
    pub(in crate::imap) return_subscribed: bool,
    /// The figures to give with each folder.
    pub(in crate::imap) return_status: Vec<StatusItem>,
}

/// Which folders are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::imap) struct ListSelect {
    pub(in crate::imap) subscribed: bool,
    pub(in crate::imap) special_use: bool,
    pub(in crate::imap) recursive_match: bool,
}

impl Cursor<'_> {
    pub(super) fn list_command(&mut self) -> Parsed<List> {
        let mut list = List::default();
        if self.peek() == Some(b'(') {
            list.extended = true;
            list.select = self.list_select()?;
            self.space()?;
        }
        list.reference = self.astring()?;
        self.space()?;
        if self.peek() == Some(b'(') {
            list.extended = true;
            list.patterns = self.list_of_one_or_more(Self::list_mailbox)?;
            if list.patterns.len() > MAX_PATTERNS {
                return Err(SyntaxError("there are too many patterns"));
            }
        } else {
            list.patterns = vec![self.list_mailbox()?];
        }
        if self.take(b' ') {
            list.extended = true;
            if !self.take_words("RETURN ") {
                return Err(SyntaxError("RETURN is missing"));
            }
            self.list_returns(&mut list)?;
        }
        Ok(list)
    }

    fn list_select(&mut self) -> Parsed<ListSelect> {
        let mut select = ListSelect::default();
        self.list(|cursor| {
            match cursor.word()?.as_str() {
                "SUBSCRIBED" => select.subscribed = true,
                "SPECIAL-USE" => select.special_use = true,
                "RECURSIVEMATCH" => select.recursive_match = true,
                // There are no folders elsewhere.
                "REMOTE" => {}
                _ => return Err(SyntaxError("there is no such selection of LIST")),
            }
            Ok(())
        })?;
        // RFC 5258 section 3: RECURSIVEMATCH must not stand without a selection that it could widen.
        if select.recursive_match && !(select.subscribed || select.special_use) {
            return Err(SyntaxError("RECURSIVEMATCH needs another selection"));
        }
        Ok(select)
    }

    fn list_returns(&mut self, list: &mut List) -> Parsed<()> {
        self.list(|cursor| {
            match cursor.word()?.as_str() {
                "SUBSCRIBED" => list.return_subscribed = true,
                // Both are always given.
                "CHILDREN" | "SPECIAL-USE" => {}
                "STATUS" => {
                    cursor.space()?;
                    list.return_status = cursor.status_items()?;
                }
                _ => return Err(SyntaxError("LIST cannot return this")),
            }
            Ok(())
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Parsed<List> {
        let mut cursor = Cursor::new(text.as_bytes());
        let list = cursor.list_command()?;
        cursor.end()?;
        Ok(list)
    }

    #[test]
    fn the_extended_form_is_read() {
        let read =
            list("(SUBSCRIBED RECURSIVEMATCH) \"\" (% \"Sent\") RETURN (STATUS (UNSEEN) CHILDREN)").unwrap();
        assert!(read.extended && read.select.subscribed && read.select.recursive_match);
        assert_eq!(read.patterns, [b"%".to_vec(), b"Sent".to_vec()]);
        assert_eq!(read.return_status, [StatusItem::Unseen]);
        assert!(!list("\"\" *").unwrap().extended);
    }

    #[test]
    fn malformed_lists_are_refused() {
        for bad in
            ["", "\"\"", "(RECURSIVEMATCH) \"\" %", "(FOO) \"\" %", "\"\" % RETURN", "\"\" ()", "\"\" % X ()"]
        {
            assert!(list(bad).is_err(), "{bad}");
        }
    }
}
