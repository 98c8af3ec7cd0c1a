//! What is known of a service: what it can do, or why it cannot be reached. One question at a time is asked on behalf of
//! all clients, so that a service that fails is not dialled by every one of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use waxseal_proto::Capabilities;

use super::Unreachable;

/// Age at which an answer is asked for again, at the next use.
pub(super) const EXPIRY: Duration = Duration::from_secs(60);
/// How long a client waits for the answer to a question under way.
const PATIENCE: Duration = Duration::from_secs(6);

/// What is known.
#[derive(Clone, Debug)]
pub(super) enum Health {
    /// Asked, not answered yet.
    Unknown,
    /// It answers.
    Up { capabilities: Arc<Capabilities>, learnt: Instant },
    /// It answered once, then failed a session; being asked again.
    Doubtful { capabilities: Arc<Capabilities> },
    /// It does not answer.
    Down { why: Arc<str> },
}

/// The one place where it is kept.
pub(super) struct Known {
    health: watch::Sender<Health>,
}

impl Known {
    pub(super) fn new() -> Self {
        Self { health: watch::Sender::new(Health::Unknown) }
    }

    /// What is known, once it is certain or patience has run out.
    pub(super) async fn settled(&self) -> Result<(Arc<Capabilities>, Instant), Unreachable> {
        let mut health = self.health.subscribe();
        let certain = health.wait_for(|health| matches!(health, Health::Up { .. } | Health::Down { .. }));
        let last = match timeout(PATIENCE, certain).await {
            Ok(Ok(health)) => health.clone(),
            Ok(Err(_)) | Err(_) => self.health.borrow().clone(),
        };
        match last {
            Health::Up { capabilities, learnt } => Ok((capabilities, learnt)),
            Health::Doubtful { capabilities } => Ok((capabilities, Instant::now())),
            Health::Down { why } => Err(Unreachable(why)),
            Health::Unknown => Err(Unreachable(Arc::from("it has not answered yet"))),
        }
    }

    /// A session has failed: what was known is in doubt.
    pub(super) fn doubt(&self) {
        self.health.send_if_modified(|health| match health {
            Health::Up { capabilities, .. } => {
                *health = Health::Doubtful { capabilities: Arc::clone(capabilities) };
                true
            }
            Health::Unknown | Health::Doubtful { .. } | Health::Down { .. } => false,
        });
    }

    /// Keeps an answer; returns what was known before.
    pub(super) fn learn(&self, answer: Result<Capabilities, Arc<str>>) -> Health {
        self.health.send_replace(match answer {
            Ok(capabilities) => Health::Up { capabilities: Arc::new(capabilities), learnt: Instant::now() },
            Err(why) => Health::Down { why },
        })
    }
}
