//! What has happened, counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of a running server. Each only grows.
#[derive(Debug, Default)]
pub struct Tally {
    /// Connections accepted.
    pub connections: Count,
    /// Sessions joined to a service.
    pub sessions: Count,
    /// Handshakes finished, resumed ones included.
    pub handshakes: Count,
    /// Handshakes that resumed an earlier session.
    pub resumptions: Count,
    /// Handshakes that failed or timed out.
    pub handshake_failures: Count,
    /// Sessions ended because something stood between STARTTLS and the go-ahead.
    pub injections: Count,
    /// Connections turned away by a limit.
    pub turned_away: Count,
    /// Sessions that no service could be opened for.
    pub service_failures: Count,
}

/// One counter.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more; returns the new count.
    pub(crate) fn add(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The count now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
