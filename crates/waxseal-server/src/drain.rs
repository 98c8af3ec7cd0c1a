//! The end of a process: every session is told, at a moment when it can hear it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;

/// How often a drain looks whether the last session has gone.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Serving.
    Running,
    /// No new sessions; those at rest are told and closed, those in the middle of something may end it.
    Draining,
    /// The grace is over.
    Over,
}

/// What a session holds to hear of the end, and what counts it.
pub(crate) struct Drain {
    phase: watch::Receiver<Phase>,
    live: Arc<AtomicUsize>,
}

impl Drain {
    /// Where the process is.
    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Returns when the phase has changed; never, once the process's owner has gone without draining.
    pub(crate) async fn advanced(&mut self) {
        if self.phase.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns as soon as the process no longer serves.
    pub(crate) async fn begun(&mut self) {
        while self.phase() == Phase::Running {
            self.advanced().await;
        }
    }

    /// Returns when the grace is over.
    pub(crate) async fn over(&mut self) {
        while self.phase() != Phase::Over {
            self.advanced().await;
        }
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The owner's end of it.
pub(crate) struct Drainer {
    phase: watch::Sender<Phase>,
    live: Arc<AtomicUsize>,
}

impl Drainer {
    pub(crate) fn new() -> Self {
        Self { phase: watch::Sender::new(Phase::Running), live: Arc::new(AtomicUsize::new(0)) }
    }

    /// One for a session that begins.
    pub(crate) fn drain(&self) -> Drain {
        self.live.fetch_add(1, Ordering::Relaxed);
        Drain { phase: self.phase.subscribe(), live: Arc::clone(&self.live) }
    }

    /// Sessions that live.
    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// Tells every session and waits for the last, at most `grace`; then ends the rest. Returns how many those were.
    pub(crate) async fn run(&self, grace: Duration) -> usize {
        self.phase.send_replace(Phase::Draining);
        let all_gone = async {
            while self.live() > 0 {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        if tokio::time::timeout(grace, all_gone).await.is_ok() {
            return 0;
        }
        let cut = self.live();
        self.phase.send_replace(Phase::Over);
        // Their last words take a moment.
        for _ in 0..20 {
            if self.live() == 0 {
                break;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        cut
    }
}
