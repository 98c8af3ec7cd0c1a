//! IDLE (RFC 2177).

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::reply::{Answer, Reply, Stop};
use super::selected::{Selected, Told};
use super::session::{SILENCE, Session};
use super::wire::Line;

/// How often a word is said, so that what stands between keeps the connection and a dead client is noticed.
const STILL_HERE: Duration = Duration::from_secs(240);
/// Changes come in flocks (a delivery is a file, then a name): they are told together.
const GATHER: Duration = Duration::from_millis(50);
/// The longest line to end with.
const MAX_DONE: usize = 64;
/// How much is read at once.
const READ: usize = 256;

/// What IDLE waits for.
enum Event {
    Said,
    Changed,
    Time,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Session<S> {
    pub(super) async fn idle(&mut self) -> Answer {
        self.put("+ Idling");
        // What has changed before is told at once, lest the client waits for it.
        if self.selected.is_some() {
            self.tell_news(Told::All).await?;
        }
        let end = Instant::now() + SILENCE;
        let mut word = Instant::now() + STILL_HERE;
        while !self.wire.has_more_than(MAX_DONE) {
            self.wire.send().await?;
            match self.idle_event(word.min(end)).await? {
                Event::Said => {}
                Event::Changed => {
                    tokio::time::sleep(GATHER).await;
                    self.tell_news(Told::All).await?;
                }
                Event::Time if Instant::now() >= end => {
                    return Err(Stop::Bye("You have been silent for too long"));
                }
                Event::Time => {
                    word = Instant::now() + STILL_HERE;
                    self.put("* OK Still here");
                }
            }
        }
        let line = timeout_at(end, self.wire.line(MAX_DONE)).await;
        match line.map_err(|_| Stop::Bye("You have been silent for too long"))?? {
            Line::Whole(line) if line.eq_ignore_ascii_case(b"DONE") => Ok(Reply::ok("Idled")),
            _ => Ok(Reply::bad("IDLE ends with DONE")),
        }
    }

    async fn idle_event(&mut self, at: Instant) -> Result<Event, Stop> {
        let watch = self.selected.as_deref_mut().map(|Selected { watch, .. }| watch);
        let changed = async {
            match watch {
                Some(watch) => watch.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            read = self.wire.fill(READ) => read.map(|()| Event::Said).map_err(Stop::from),
            () = changed => Ok(Event::Changed),
            () = sleep_until(at) => Ok(Event::Time),
        }
    }
}
