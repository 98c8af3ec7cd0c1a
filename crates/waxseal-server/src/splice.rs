//! Both ways at once, until both have ended.
//!
//! While nothing is in flight neither side holds a buffer: reading waits for the socket before it takes one from the pool.
//! The guard looks at the bytes as long as it needs to; after that they pass from one leg's buffer to the other leg unseen.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;
use waxseal_proto::{Cut, Guard, Outputs, Taken};

use crate::drain::{Drain, Phase};
use crate::leg::Leg;

/// What the guard may have written and nobody has read yet, in bytes; beyond it the session waits for the slower side.
const QUEUE_LIMIT: usize = 16 * 1024;
/// How long one side may go on once the other has ended.
const HALF_CLOSED: Duration = Duration::from_secs(60);
/// How long a session must have been silent to be told of a shutdown at once.
const RESTING: Duration = Duration::from_millis(400);
/// How long the last words may take to be written.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How a spliced session ended.
#[derive(Debug)]
pub(crate) enum SpliceEnd {
    /// The client closed, in order.
    Client,
    /// The client closed TCP without close_notify; most mail clients do.
    ClientTruncated,
    /// The service closed, in order.
    Service,
    /// The service closed TCP without close_notify on an encrypted leg.
    ServiceTruncated,
    /// The client's connection broke.
    ClientLost(io::Error),
    /// The service's connection broke.
    ServiceLost(io::Error),
    /// Nothing moved for the protocol's idle limit.
    Idle,
    /// The guard ended it.
    Cut(Cut),
    /// Waxseal is shutting down.
    ShutDown,
}

/// What a spliced session came to.
pub(crate) struct SpliceReport {
    /// Plaintext bytes from the client to the service.
    pub(crate) up: u64,
    /// Plaintext bytes from the service to the client.
    pub(crate) down: u64,
    pub(crate) end: SpliceEnd,
}

/// One direction.
#[derive(Default)]
struct Way {
    /// Bytes the guard has let through that are still to be written.
    pass: usize,
    /// What was read from the source, ever.
    bytes: u64,
    /// Whether something was written since the last flush.
    dirty: bool,
    state: WayState,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum WayState {
    #[default]
    Open,
    /// The source has ended; the target has not been told yet.
    Ended,
    /// The target knows.
    Closed,
}

/// Which side an I/O error came from, seen from one direction.
enum Fault {
    Source(io::Error),
    Target(io::Error),
    Guard(Cut),
}

/// What makes the splice look at its time again.
enum Event {
    /// One side has ended: there is less time for the other.
    HalfClosed,
    End(SpliceEnd),
}

/// Who spoke last; a service that has spoken and said a whole line awaits nothing from us.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spoke {
    Client,
    Service { whole_line: bool },
}

/// A client and its service, joined.
pub(crate) struct Splice {
    client: Leg,
    service: Leg,
    /// `None` once nothing needs to be looked at any more.
    guard: Option<Guard>,
    queues: Outputs,
    up: Way,
    down: Way,
    spoke: Spoke,
    first_to_end: Option<SpliceEnd>,
    moved_at: Instant,
}

/// Writes to `to`; `None` if it would block.
fn put(cx: &mut Context<'_>, to: &mut Leg, bytes: &[u8]) -> Result<Option<usize>, Fault> {
    match Pin::new(to).poll_write(cx, bytes) {
        Poll::Pending => Ok(None),
        Poll::Ready(Ok(0)) => Err(Fault::Target(io::ErrorKind::WriteZero.into())),
        Poll::Ready(Ok(written)) => Ok(Some(written)),
        Poll::Ready(Err(error)) => Err(Fault::Target(error)),
    }
}

/// What one round in one direction came to.
#[derive(Default)]
struct Moved {
    /// Whether anything was taken or written.
    any: bool,
    /// The last byte written, if nothing was taken from the source since that has not come out yet.
    last: Option<u8>,
}

/// Moves bytes in one direction until it would block. `queue` is what the guard wrote for the target.
///
/// Order matters: bytes let through earlier, then what the guard wrote since, then new bytes.
fn pump(
    cx: &mut Context<'_>,
    from: &mut Leg,
    to: &mut Leg,
    way: &mut Way,
    queue: impl Fn(&mut Outputs) -> &mut Vec<u8>,
    queues: &mut Outputs,
    mut judge: impl FnMut(&[u8], &mut Outputs) -> Taken,
) -> Result<Moved, Fault> {
    let mut moved = Moved::default();
    loop {
        if way.pass == 0 && !queue(queues).is_empty() {
            let queue = queue(queues);
            let Some(written) = put(cx, to, queue)? else { break };
            moved = Moved { any: true, last: queue.get(written - 1).copied() };
            queue.drain(..written);
            if queue.is_empty() {
                // However much it once held, an idle session holds nothing.
                *queue = Vec::new();
            }
            way.dirty = true;
            continue;
        }
        if way.state != WayState::Open {
            break;
        }
        // Only the client can cause more to be said to itself than it reads. The service is always heard: it may
        // not listen before it is.
        if way.pass == 0 && queues.to_client.len() > QUEUE_LIMIT {
            break;
        }
        let data = match Pin::new(&mut *from).poll_fill_buf(cx) {
            Poll::Pending => break,
            Poll::Ready(Err(error)) => return Err(Fault::Source(error)),
            Poll::Ready(Ok([])) => {
                way.state = WayState::Ended;
                moved.any = true;
                continue;
            }
            Poll::Ready(Ok(data)) => data,
        };
        if way.pass == 0 {
            match judge(data, queues) {
                Taken::Pass(count) => way.pass = count,
                Taken::Took(count) => {
                    way.bytes += count as u64;
                    Pin::new(&mut *from).consume(count);
                    moved = Moved { any: true, last: None };
                    continue;
                }
                Taken::Wait => break,
                Taken::Close(cut) => return Err(Fault::Guard(cut)),
            }
        }
        let allowed = data.get(..way.pass).unwrap_or(data);
        let Some(written) = put(cx, to, allowed)? else { break };
        moved = Moved { any: true, last: allowed.get(written - 1).copied() };
        way.pass -= written;
        way.bytes += written as u64;
        way.dirty = true;
        Pin::new(&mut *from).consume(written);
    }
    moved.any |= close_or_flush(cx, to, way, queue(queues).is_empty())?;
    Ok(moved)
}

/// Passes a half-close on, or flushes what was written. Whether it has passed one on.
fn close_or_flush(
    cx: &mut Context<'_>,
    to: &mut Leg,
    way: &mut Way,
    queue_empty: bool,
) -> Result<bool, Fault> {
    if way.state == WayState::Ended && queue_empty {
        let Poll::Ready(done) = Pin::new(&mut *to).poll_shutdown(cx) else { return Ok(false) };
        way.state = WayState::Closed;
        way.dirty = false;
        return match done {
            // The target may have closed first; that is its right.
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(Fault::Target(error)),
            _ => Ok(true),
        };
    }
    if way.dirty
        && way.state != WayState::Closed
        && let Poll::Ready(done) = Pin::new(&mut *to).poll_flush(cx)
    {
        done.map_err(Fault::Target)?;
        way.dirty = false;
    }
    Ok(false)
}

impl std::fmt::Display for SpliceEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Client => f.write_str("client closed"),
            Self::ClientTruncated => f.write_str("client closed without close_notify"),
            Self::Service => f.write_str("service closed"),
            Self::ServiceTruncated => f.write_str("service closed without close_notify"),
            Self::ClientLost(error) => write!(f, "client lost: {error}"),
            Self::ServiceLost(error) => write!(f, "service lost: {error}"),
            Self::Idle => f.write_str("idle for too long"),
            Self::Cut(cut) => write!(f, "cut: {cut:?}"),
            Self::ShutDown => f.write_str("waxseal shut down"),
        }
    }
}

impl Splice {
    /// The client's side.
    pub(crate) fn client(&self) -> &Leg {
        &self.client
    }

    /// Joins `client` and `service`. What stands in `queues` is written first.
    pub(crate) fn new(client: Leg, service: Leg, guard: Guard, queues: Outputs) -> Self {
        let guard = (!guard.is_transparent()).then_some(guard);
        Self {
            client,
            service,
            guard,
            queues,
            up: Way::default(),
            down: Way::default(),
            spoke: Spoke::Client,
            first_to_end: None,
            moved_at: Instant::now(),
        }
    }

    /// Runs until both sides have ended, nothing has moved for `idle`, or waxseal shuts down. `words` are said to the
    /// client, where it can hear them, when we end the session.
    pub(crate) async fn run(
        &mut self,
        idle: Duration,
        drain: &mut Drain,
        words: impl Fn(&SpliceEnd) -> Vec<u8>,
    ) -> SpliceReport {
        let timer = tokio::time::sleep(idle);
        tokio::pin!(timer);
        let end = loop {
            match self.look_again(idle, drain.phase()) {
                Ok(at) => timer.as_mut().reset(at),
                Err(end) => break end,
            }
            tokio::select! {
                biased;
                event = std::future::poll_fn(|cx| self.poll(cx)) => if let Event::End(end) = event { break end },
                // A session that is always busy has used up the task's budget by now, and is to hear of the end all
                // the same.
                () = tokio::task::unconstrained(drain.advanced()) => {}
                () = &mut timer => {}
            }
        };
        // What happens to one side after the other has ended is no news.
        let end = match end {
            SpliceEnd::Idle | SpliceEnd::ClientLost(_) | SpliceEnd::ServiceLost(_) => {
                self.first_to_end.take().unwrap_or(end)
            }
            end => end,
        };
        self.finish(&end, words).await;
        SpliceReport { up: self.up.bytes, down: self.down.bytes, end }
    }

    /// When to look again if nothing happens, or why to end.
    fn look_again(&self, idle: Duration, phase: Phase) -> Result<Instant, SpliceEnd> {
        let idle = if self.first_to_end.is_some() { idle.min(HALF_CLOSED) } else { idle };
        let silent = self.moved_at.elapsed();
        let rests = phase == Phase::Draining && silent >= RESTING && self.is_at_rest();
        if rests || phase == Phase::Over {
            return Err(SpliceEnd::ShutDown);
        }
        if silent >= idle {
            return Err(SpliceEnd::Idle);
        }
        let at = self.moved_at + idle;
        Ok(if phase == Phase::Running { at } else { at.min(Instant::now() + RESTING) })
    }

    /// Whether a line of ours would stand between two of the service's, and not inside a message or a literal.
    fn is_at_rest(&self) -> bool {
        self.spoke == Spoke::Service { whole_line: true }
            && self.down.pass == 0
            && !self.down.dirty
            && self.queues.to_client.is_empty()
            && self.queues.to_service.is_empty()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let both_open = self.first_to_end.is_none();
        loop {
            let moved = match self.pump_up(cx).and_then(|up| Ok(up | self.pump_down(cx)?)) {
                Ok(moved) => moved,
                Err(end) => return Poll::Ready(Event::End(end)),
            };
            if self.guard.as_ref().is_some_and(Guard::is_transparent) {
                self.guard = None;
            }
            if moved {
                self.moved_at = Instant::now();
                self.note_first_end();
                if both_open && self.first_to_end.is_some() {
                    return Poll::Ready(Event::HalfClosed);
                }
                continue;
            }
            if self.up.state == WayState::Closed && self.down.state == WayState::Closed {
                let end = self.first_to_end.take().unwrap_or(SpliceEnd::Service);
                return Poll::Ready(Event::End(end));
            }
            return Poll::Pending;
        }
    }

    /// Moves what the client says. Whether anything has moved.
    fn pump_up(&mut self, cx: &mut Context<'_>) -> Result<bool, SpliceEnd> {
        let guard = &mut self.guard;
        let moved = pump(
            cx,
            &mut self.client,
            &mut self.service,
            &mut self.up,
            |queues| &mut queues.to_service,
            &mut self.queues,
            |data, queues| match guard {
                Some(guard) => guard.from_client(data, queues),
                None => Taken::Pass(data.len()),
            },
        );
        match moved {
            Ok(moved) => {
                if moved.any {
                    self.spoke = Spoke::Client;
                }
                Ok(moved.any)
            }
            Err(Fault::Source(error)) => Err(SpliceEnd::ClientLost(error)),
            Err(Fault::Guard(cut)) => Err(SpliceEnd::Cut(cut)),
            // The service has closed its ears, and may have said why: what it said is still read.
            Err(Fault::Target(_)) => {
                if self.up.state == WayState::Open {
                    self.first_to_end.get_or_insert(SpliceEnd::Service);
                }
                self.up.state = WayState::Closed;
                self.up.pass = 0;
                self.queues.to_service = Vec::new();
                Ok(true)
            }
        }
    }

    /// Moves what the service says. Whether anything has moved.
    fn pump_down(&mut self, cx: &mut Context<'_>) -> Result<bool, SpliceEnd> {
        let guard = &mut self.guard;
        let moved = pump(
            cx,
            &mut self.service,
            &mut self.client,
            &mut self.down,
            |queues| &mut queues.to_client,
            &mut self.queues,
            |data, queues| match guard {
                Some(guard) => guard.from_service(data, queues),
                None => Taken::Pass(data.len()),
            },
        );
        match moved {
            Ok(moved) => {
                if moved.any {
                    self.spoke = Spoke::Service { whole_line: moved.last == Some(b'\n') };
                }
                Ok(moved.any)
            }
            Err(Fault::Source(error)) => Err(SpliceEnd::ServiceLost(error)),
            Err(Fault::Guard(cut)) => Err(SpliceEnd::Cut(cut)),
            Err(Fault::Target(error)) => Err(SpliceEnd::ClientLost(error)),
        }
    }

    /// Remembers who ended first.
    fn note_first_end(&mut self) {
        if self.first_to_end.is_some() {
            return;
        }
        self.first_to_end = if self.up.state != WayState::Open {
            Some(if self.client.was_truncated() { SpliceEnd::ClientTruncated } else { SpliceEnd::Client })
        } else if self.down.state != WayState::Open {
            Some(if self.service.was_truncated() { SpliceEnd::ServiceTruncated } else { SpliceEnd::Service })
        } else {
            None
        };
    }

    /// The last words, and an orderly close towards both.
    async fn finish(&mut self, end: &SpliceEnd, words: impl Fn(&SpliceEnd) -> Vec<u8>) {
        let speak = match end {
            SpliceEnd::Cut(_) => true,
            SpliceEnd::Idle | SpliceEnd::ShutDown | SpliceEnd::ServiceLost(_) => self.is_at_rest(),
            SpliceEnd::Client
            | SpliceEnd::ClientTruncated
            | SpliceEnd::Service
            | SpliceEnd::ServiceTruncated
            | SpliceEnd::ClientLost(_) => false,
        };
        let mut last = std::mem::take(&mut self.queues.to_client);
        if speak {
            last.extend(words(end));
        }
        let _ = tokio::time::timeout(LAST_WORDS, async {
            if self.down.state == WayState::Open && self.down.pass == 0 {
                let _ = self.client.write_all(&last).await;
            }
            let _ = self.client.shutdown().await;
            let _ = self.service.shutdown().await;
        })
        .await;
    }
}

#[cfg(test)]
mod tests;
