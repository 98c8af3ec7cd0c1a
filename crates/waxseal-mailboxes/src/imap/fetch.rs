//! FETCH: a stretch of messages at a time, so that memory is bounded by the largest message.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::give::{Give, Given, Piece};
use super::reply::{Answer, Reply};
use super::session::Session;
use super::syntax::{Fetch, FetchItem};
use crate::store::{Folder, Uid};

/// How many messages are marked as \Seen in one go.
const MARK_AT_ONCE: usize = 64;

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Session<S> {
    pub(super) async fn fetch(&mut self, by_uid: bool, fetch: Fetch) -> Answer {
        if fetch.changed_since.is_some() || fetch.items.contains(&FetchItem::ModSeq) {
            self.enable_condstore();
        }
        let selected = self.selected()?;
        let mut uids = selected.uids(&fetch.set, by_uid)?;
        if let Some(since) = fetch.changed_since {
            uids.retain(|uid| selected.folder.get(*uid).is_some_and(|message| message.modseq > since));
        }
        let marks = !selected.read_only && fetch.items.iter().any(FetchItem::sets_seen);
        let give = Arc::new(Give::new(fetch, by_uid, self.enabled));
        let (mut gone, mut refusal) = (false, None);
        let at_once = if marks { MARK_AT_ONCE } else { usize::MAX };
        for some in uids.chunks(at_once) {
            let newly_seen: Arc<[Uid]> = match marks {
                true => self.mark_seen(some.to_vec()).await?.into(),
                false => Arc::default(),
            };
            let some: Arc<[Uid]> = some.into();
            let mut next = 0;
            while next < some.len() {
                let (some, seen, give) = (Arc::clone(&some), Arc::clone(&newly_seen), Arc::clone(&give));
                let Given { pieces, taken, gone: some_gone, refusal: refused } = self
                    .on_folder(move |folder: &mut Folder| give.stretch(folder, &some, next, &seen))
                    .await?;
                for piece in pieces {
                    match piece {
                        Piece::Own(bytes) => self.wire.send_through(&bytes).await?,
                        Piece::Part(message, range) => {
                            self.wire.send_through(message.get(range).unwrap_or_default()).await?;
                        }
                    }
                }
                next += taken.max(1);
                gone |= some_gone;
                refusal = refusal.or(refused);
            }
        }
        match refusal {
            Some(refusal) => Ok(refusal),
            // RFC 2180 section 4.1.2; a UID that is gone is nothing.
            None if gone && !by_uid => Ok(Reply::no("EXPUNGEISSUED", "Some of the messages are gone")),
            None => Ok(Reply::ok("Fetched")),
        }
    }
}
