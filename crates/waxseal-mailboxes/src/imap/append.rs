//! APPEND.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::reply::{Answer, Reply, Stop, try_create};
use super::session::{SILENCE, Session, blocking};
use super::syntax::{AppendHead, SyntaxError};
use super::wire::{Line, Literal};
use crate::store::{Draft, FolderName, Mailbox, StoreError};

/// How long the client may take for each stretch of a message.
const STRETCH_TIME: Duration = Duration::from_secs(300);
/// How much of a message is collected before it is written.
const STRETCH: usize = 256 << 10;

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Session<S> {
    pub(super) async fn append(&mut self, head: Result<AppendHead, SyntaxError>, message: Literal) -> Answer {
        let (mailbox, folder, head, draft) = match self.before_message(head, &message).await {
            Ok(ready) => ready,
            Err(refusal) => {
                self.skip(message).await?;
                return Err(refusal);
            }
        };
        if message.synchronizing {
            self.put("+ Go on");
        }
        let draft = self.take_message(draft, message.length, head.binary).await?;
        match timeout(STRETCH_TIME, self.wire.line(0)).await.map_err(|_| SILENT)?? {
            Line::Whole(_) => {}
            // RFC 3502 (MULTIAPPEND) is not offered.
            Line::TooLong { end, .. } => {
                if let Some(next) = Literal::at_end_of(&end) {
                    self.skip(next).await?;
                }
                return Ok(Reply::bad("APPEND takes one message"));
            }
            Line::BareLineFeed => return Ok(Reply::bad("Lines end in CRLF")),
        }
        let draft = draft?;
        let save = move || mailbox.save(draft, &folder, &head.flags, head.date);
        let saved = blocking(save).await?.map_err(try_create)?;
        Ok(Reply::ok("Message saved").with_code(format!("APPENDUID {} {}", saved.uid_validity, saved.uid)))
    }

    /// Reads what is left of a command that is refused.
    async fn skip(&mut self, literal: Literal) -> Result<(), Stop> {
        Ok(timeout(SILENCE, self.wire.skip_after(Some(literal))).await.map_err(|_| SILENT)??)
    }

    /// Finds out all that can be known before the message is asked for.
    async fn before_message(
        &mut self,
        head: Result<AppendHead, SyntaxError>,
        message: &Literal,
    ) -> Result<(Mailbox, FolderName, AppendHead, Draft), Stop> {
        let mailbox = self.mailbox.clone().ok_or_else(|| Reply::bad("Log in first"))?;
        let head = head?;
        let folder = self.name(&head.name)?;
        if message.length > self.site.max_message {
            return Err(Reply::no(
                "TOOBIG",
                format!("Messages have at most {} bytes", self.site.max_message),
            )
            .into());
        }
        let length = message.length;
        let begin = move || {
            if !mailbox.exists(&folder) {
                return Err(StoreError::NoSuchFolder);
            }
            let draft = mailbox.draft(Some(length))?;
            Ok((mailbox, folder, draft))
        };
        let (mailbox, folder, draft) = blocking(begin).await?.map_err(try_create)?;
        Ok((mailbox, folder, head, draft))
    }

    /// Takes the whole message off the wire, whatever becomes of it; the inner result says that.
    async fn take_message(
        &mut self,
        draft: Draft,
        length: u64,
        binary: bool,
    ) -> Result<Result<Draft, Stop>, Stop> {
        let mut left = length;
        let mut draft = Ok(draft);
        while left > 0 {
            let mut stretch = Vec::new();
            while left > 0 && stretch.len() < STRETCH {
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(STRETCH);
                let bytes = timeout(STRETCH_TIME, self.wire.bytes(most)).await.map_err(|_| SILENT)??;
                left = left.saturating_sub(bytes.len() as u64);
                match stretch.is_empty() {
                    true => stretch = bytes,
                    false => stretch.extend_from_slice(&bytes),
                }
            }
            draft = match draft {
                Ok(_) if stretch.contains(&0) => Err(nul(binary)),
                Ok(draft) => blocking(move || write(draft, &stretch)).await?,
                refused => refused,
            };
        }
        Ok(draft)
    }
}

const SILENT: Stop = Stop::Bye("You have been silent for too long");

/// RFC 3516 section 4.4: what cannot be kept as it is. No literal could give a NUL back.
fn nul(binary: bool) -> Stop {
    match binary {
        true => Reply::no("UNKNOWN-CTE", "Messages with NUL are not kept").into(),
        false => Reply::bad("A literal has no NUL").into(),
    }
}

fn write(mut draft: Draft, bytes: &[u8]) -> Result<Draft, Stop> {
    match draft.write_all(bytes) {
        Ok(()) => Ok(draft),
        Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            Err(StoreError::DiskFull.into())
        }
        Err(source) => Err(StoreError::Io { path: PathBuf::from("tmp"), source }.into()),
    }
}
