//! How a command ends.

use std::borrow::Cow;
use std::io;

use super::syntax::SyntaxError;
use crate::store::{NameError, StoreError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    No,
    Bad,
}

/// The tagged answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: Status,
    /// The response code, without brackets (RFC 9051 section 7.1, RFC 5530).
    pub(super) code: Option<Cow<'static, str>>,
    pub(super) text: Cow<'static, str>,
}

/// Why a command did not come to its answer.
#[derive(Debug)]
pub(super) enum Stop {
    /// It was refused.
    Refused(Reply),
    /// The session ends, in these words.
    Bye(&'static str),
    /// The connection is broken.
    Broken(io::Error),
}

pub(super) type Answer = Result<Reply, Stop>;

impl Reply {
    pub(super) fn ok(text: &'static str) -> Self {
        Self { status: Status::Ok, code: None, text: Cow::Borrowed(text) }
    }

    pub(super) fn bad(text: &'static str) -> Self {
        Self { status: Status::Bad, code: None, text: Cow::Borrowed(text) }
    }

    pub(super) fn no(code: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status: Status::No, code: Some(Cow::Borrowed(code)), text: text.into() }
    }

    #[must_use]
    pub(super) fn with_code(self, code: impl Into<Cow<'static, str>>) -> Self {
        Self { code: Some(code.into()), ..self }
    }

    pub(super) fn write(&self, tag: &str, out: &mut Vec<u8>) {
        let status = match self.status {
            Status::Ok => "OK",
            Status::No => "NO",
            Status::Bad => "BAD",
        };
        let code = self.code.as_ref().map_or_else(String::new, |code| format!("[{code}] "));
        out.extend_from_slice(format!("{tag} {status} {code}{}\r\n", self.text).as_bytes());
    }
}

impl From<Reply> for Stop {
    fn from(reply: Reply) -> Self {
        Self::Refused(reply)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl From<SyntaxError> for Stop {
    fn from(SyntaxError(text): SyntaxError) -> Self {
        Self::Refused(Reply::bad(text))
    }
}

impl From<NameError> for Stop {
    fn from(error: NameError) -> Self {
        Self::Refused(Reply::no("CANNOT", error.to_string()))
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Refused(error.into())
    }
}

impl From<StoreError> for Reply {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::NoSuchFolder => "NONEXISTENT",
            StoreError::FolderExists => "ALREADYEXISTS",
            StoreError::Cannot(_) => "CANNOT",
            StoreError::Limit(_) => "LIMIT",
            StoreError::Expunged => "EXPUNGEISSUED",
            StoreError::OverQuota => "OVERQUOTA",
            StoreError::Locked => "INUSE",
            StoreError::DiskFull => "UNAVAILABLE",
            StoreError::Io { .. } => {
                // Paths are the operator's business, not the client's.
                tracing::warn!(%error, "the mail cannot be reached");
                return Self::no("UNAVAILABLE", "The mail cannot be reached for the moment");
            }
        };
        Self::no(code, error.to_string())
    }
}

/// A target that is not there can be made (RFC 9051 section 7.1).
pub(super) fn try_create(error: StoreError) -> Stop {
    match error {
        StoreError::NoSuchFolder => Reply::no("TRYCREATE", StoreError::NoSuchFolder.to_string()).into(),
        error => error.into(),
    }
}
