//! What is known of a service: what it can do, or why it cannot be reached. One question at a time is asked on behalf of
//! all clients, so that a service that fails is not dialled by every one of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use waxseal_proto::Capabilities;

use super::Unreachable;

/// Age at which an answer is asked for again, at the next use.
const EXPIRY: Duration = Duration::from_secs(60);
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
    Doubtful,
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
    pub(super) async fn settled(&self) -> Result<Arc<Capabilities>, Unreachable> {
        let mut health = self.health.subscribe();
        let certain = health.wait_for(|health| matches!(health, Health::Up { .. } | Health::Down { .. }));
        let last = match timeout(PATIENCE, certain).await {
            Ok(Ok(health)) => health.clone(),
            Ok(Err(_)) | Err(_) => self.health.borrow().clone(),
        };
        match last {
            Health::Up { capabilities, .. } => Ok(capabilities),
            Health::Doubtful => Err(Unreachable(Arc::from("it has failed a session and not answered since"))),
            Health::Down { why } => Err(Unreachable(why)),
            Health::Unknown => Err(Unreachable(Arc::from("it has not answered yet"))),
        }
    }

    /// Whether what is known has become old. Only one of those who ask is told so, lest each of them ask the service.
    pub(super) fn is_due(&self) -> bool {
        self.health.send_if_modified(|health| match health {
            Health::Up { learnt, .. } if learnt.elapsed() >= EXPIRY => {
                *learnt = Instant::now();
                true
            }
            _ => false,
        })
    }

    /// A session has failed: what was known is in doubt.
    pub(super) fn doubt(&self) {
        self.health.send_if_modified(|health| {
            let was_up = matches!(health, Health::Up { .. });
            if was_up {
                *health = Health::Doubtful;
            }
            was_up
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

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        let known = Known::new();
        known.learn(Ok(Capabilities::new(waxseal_proto::Protocol::Smtp, Vec::new())));
        known
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_is_said_at_once() {
        let begun = Instant::now();
        assert!(known().settled().await.is_ok());
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_in_doubt_is_waited_for_and_then_not_dialled_by_every_client() {
        let known = known();
        known.doubt();
        let begun = Instant::now();
        assert!(known.settled().await.is_err());
        assert_eq!(begun.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_hears_the_answer_as_soon_as_it_comes() {
        let known = Arc::new(known());
        known.doubt();
        let waiting = Arc::clone(&known);
        let waiting = tokio::spawn(async move { waiting.settled().await.is_ok() });
        tokio::time::sleep(Duration::from_secs(1)).await;
        known.learn(Ok(Capabilities::new(waxseal_proto::Protocol::Smtp, Vec::new())));
        assert!(waiting.await.unwrap());
        assert!(known.settled().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn doubt_changes_nothing_about_a_service_that_is_down() {
        let known = known();
        known.learn(Err("it sleeps".into()));
        known.doubt();
        assert_eq!(known.settled().await.unwrap_err().0.as_ref(), "it sleeps");
    }
}
