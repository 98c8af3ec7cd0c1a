//! Session tickets, RFC 5077 and RFC 8446 section 4.6.1: sessions sealed and given to the clients to keep.
//!
//! The keys are shared by all listeners, but a ticket is good only where it was made: it is bound to the listener, its
//! policy and the name of the certificate served, so that no listener takes a session that another's rules allowed.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::{digest, rand};
use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

/// How long a key seals tickets. For as long again it opens them; then it is forgotten, and with it the possibility
/// of reading those sessions (RFC 5077 section 5.5).
pub(crate) const KEY_PERIOD: Duration = Duration::from_secs(12 * 60 * 60);

const NAME_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// Time since some fixed moment.
type Clock = Box<dyn Fn() -> Duration + Send + Sync>;

/// The keys under which sessions are sealed into tickets. They rotate by themselves as they are used.
pub struct TicketKeys {
    clock: Clock,
    keys: ArcSwap<Keys>,
    rotating: Mutex<()>,
}

#[derive(Default)]
struct Keys {
    /// Seals and opens. `None` where the system gave no randomness: then there are no tickets.
    current: Option<Arc<Key>>,
    /// Only opens.
    previous: Option<Arc<Key>>,
    since: Duration,
}

struct Key {
    name: [u8; NAME_BYTES],
    aead: RandomizedNonceKey,
}

impl Key {
    fn generate() -> Option<Arc<Self>> {
        let mut name = [0; NAME_BYTES];
        rand::fill(&mut name).ok()?;
        let mut secret = Zeroizing::new([0; 32]);
        rand::fill(secret.as_mut_slice()).ok()?;
        let aead = RandomizedNonceKey::new(&AES_256_GCM, secret.as_slice()).ok()?;
        Some(Arc::new(Self { name, aead }))
    }
}

impl TicketKeys {
    /// Fresh random keys that rotate by the system's clock.
    pub fn new() -> Arc<Self> {
        let start = Instant::now();
        Self::with_clock(move || start.elapsed())
    }

    /// Fresh random keys that rotate by `clock`, which gives the time since some fixed moment.
    pub fn with_clock(clock: impl Fn() -> Duration + Send + Sync + 'static) -> Arc<Self> {
        let keys = Keys { current: Key::generate(), previous: None, since: clock() };
        Arc::new(Self { clock: Box::new(clock), keys: ArcSwap::from_pointee(keys), rotating: Mutex::new(()) })
    }

    fn keys(&self) -> arc_swap::Guard<Arc<Keys>> {
        let now = (self.clock)();
        let is_due = |keys: &Keys| now.saturating_sub(keys.since) >= KEY_PERIOD;
        if is_due(&self.keys.load()) {
            let _alone = self.rotating.lock().unwrap_or_else(PoisonError::into_inner);
            let old = self.keys.load();
            if is_due(&old) {
                let recent = now.saturating_sub(old.since) < 2 * KEY_PERIOD;
                let previous = old.current.clone().filter(|_| recent);
                self.keys.store(Arc::new(Keys { current: Key::generate(), previous, since: now }));
            }
        }
        self.keys.load()
    }

    /// key name | nonce | ciphertext and tag
    fn seal(&self, plain: &[u8], binding: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys();
        let key = keys.current.as_ref()?;
        let mut sealed = Zeroizing::new(Vec::with_capacity(plain.len() + TAG_BYTES));
        sealed.extend_from_slice(plain);
        let nonce = key.aead.seal_in_place_append_tag(Aad::from(binding), &mut *sealed).ok()?;
        Some([key.name.as_slice(), nonce.as_ref(), sealed.as_slice()].concat())
    }

    fn open(&self, ticket: &[u8], binding: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let keys = self.keys();
        let key = keys.current.iter().chain(&keys.previous).find(|key| key.name == *name)?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let mut plain = sealed.to_vec();
        let length = key.aead.open_in_place(nonce, Aad::from(binding), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }

    fn are_there(&self) -> bool {
        self.keys().current.is_some()
    }
}

impl fmt::Debug for TicketKeys {
    /// Never a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKeys").finish_non_exhaustive()
    }
}

/// The ticket keys as one listener uses them for one certificate.
#[derive(Debug)]
pub(crate) struct BoundTickets {
    keys: Arc<TicketKeys>,
    binding: digest::Digest,
}

impl BoundTickets {
    pub(crate) fn new(keys: Arc<TicketKeys>, listener: &str, policy: &[u8; 32], certificate: &str) -> Self {
        let mut hash = digest::Context::new(&digest::SHA256);
        // Names hold no NUL, and the policy's digest is of fixed length: no two bindings read the same.
        for part in [listener.as_bytes(), b"\0", policy, certificate.as_bytes()] {
            hash.update(part);
        }
        Self { keys, binding: hash.finish() }
    }
}

impl ProducesTickets for BoundTickets {
    fn enabled(&self) -> bool {
        self.keys.are_there()
    }

    fn lifetime(&self) -> u32 {
        KEY_PERIOD.as_secs().try_into().unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.keys.seal(plain, self.binding.as_ref())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.keys.open(ticket, self.binding.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn keys_at(hours: Arc<AtomicU64>) -> Arc<TicketKeys> {
        TicketKeys::with_clock(move || Duration::from_secs(hours.load(Ordering::SeqCst) * 3600))
    }

    #[test]
    fn a_ticket_opens_for_two_periods_and_no_longer() {
        let hours = Arc::new(AtomicU64::new(100));
        let keys = keys_at(Arc::clone(&hours));
        let first = keys.seal(b"session", b"here").unwrap();
        hours.store(111, Ordering::SeqCst);
        let late = keys.seal(b"session", b"here").unwrap();
        assert_eq!(first[..NAME_BYTES], late[..NAME_BYTES], "still the same key");

        hours.store(112, Ordering::SeqCst);
        let second = keys.seal(b"session", b"here").unwrap();
        assert_ne!(first[..NAME_BYTES], second[..NAME_BYTES], "a new key after twelve hours");
        assert_eq!(keys.open(&first, b"here").as_deref(), Some(b"session".as_slice()));

        hours.store(124, Ordering::SeqCst);
        assert_eq!(keys.open(&first, b"here"), None);
        assert_eq!(keys.open(&second, b"here").as_deref(), Some(b"session".as_slice()));

        hours.store(148, Ordering::SeqCst);
        assert_eq!(keys.open(&second, b"here"), None, "nobody came by for two periods");
    }

    #[test]
    fn a_ticket_is_bound_to_listener_policy_and_certificate() {
        let keys = TicketKeys::new();
        let bound =
            |listener, policy, name| BoundTickets::new(Arc::clone(&keys), listener, &[policy; 32], name);
        let ticket = bound("imap", 1, "a.example").encrypt(b"session").unwrap();
        assert!(bound("imap", 1, "a.example").decrypt(&ticket).is_some());
        assert!(bound("pop3", 1, "a.example").decrypt(&ticket).is_none());
        assert!(bound("imap", 2, "a.example").decrypt(&ticket).is_none());
        assert!(bound("imap", 1, "b.example").decrypt(&ticket).is_none());
    }

    #[test]
    fn a_changed_ticket_does_not_open() {
        let keys = TicketKeys::new();
        let ticket = keys.seal(b"session", b"").unwrap();
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(keys.open(&changed, b""), None, "byte {at}");
            assert_eq!(keys.open(&ticket[..at], b""), None, "cut at {at}");
        }
        assert_eq!(TicketKeys::new().open(&ticket, b""), None, "another server's keys");
    }

    #[test]
    fn keys_are_never_shown() {
        assert_eq!(format!("{:?}", TicketKeys::new()), "TicketKeys { .. }");
    }
}
