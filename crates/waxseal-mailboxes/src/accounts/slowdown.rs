//! Failed logins slow down, per address and per account.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::Address;

/// Addresses and accounts remembered; the oldest go first.
const MAX_REMEMBERED: usize = 10_000;
/// How long a failure counts.
const MEMORY: Duration = Duration::from_secs(15 * 60);
/// Failures that cost nothing: a wrong key, a wrong password once.
const FREE: u32 = 3;
/// The longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// The longest a try is kept waiting; beyond, it is refused unseen.
const MAX_WAIT: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// A network: the address, or the /64 of an IPv6 one.
    Network(IpAddr),
    Account(Address),
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Instant,
    /// When the next try may be made.
    next: Instant,
}

/// What is remembered of failures. Time is an argument.
#[derive(Debug, Default)]
pub(super) struct Slowdown {
    failures: HashMap<Key, Failures>,
    /// From where accounts were logged in to: whoever guesses at an account does not lock out its owner.
    known: HashMap<(Address, IpAddr), Instant>,
}

fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

impl Slowdown {
    fn keys(&self, account: Option<&Address>, source: IpAddr) -> Vec<Key> {
        let network = network(source);
        let mut keys = vec![Key::Network(network)];
        if let Some(account) = account
            && !self.known.contains_key(&(account.clone(), network))
        {
            keys.push(Key::Account(account.clone()));
        }
        keys
    }

    /// How long this try has to wait; `None`: too long. Tries made at once wait one behind the other.
    pub(super) fn admit(
        &mut self,
        account: Option<&Address>,
        source: IpAddr,
        now: Instant,
    ) -> Option<Duration> {
        let keys = self.keys(account, source);
        let counting = |failures: &Failures| now.duration_since(failures.last) < MEMORY;
        let slow: Vec<Key> =
            keys.into_iter().filter(|key| self.failures.get(key).is_some_and(counting)).collect();
        let start = slow.iter().filter_map(|key| self.failures.get(key)).map(|failures| failures.next).max();
        let start = start.unwrap_or(now).max(now);
        let wait = start.duration_since(now);
        if wait > MAX_WAIT {
            return None;
        }
        for key in slow {
            if let Some(failures) = self.failures.get_mut(&key) {
                failures.next = start + pause(failures.count);
            }
        }
        Some(wait)
    }

    /// A try failed.
    pub(super) fn failed(&mut self, account: Option<&Address>, source: IpAddr, now: Instant) {
        for key in self.keys(account, source) {
            make_room(&mut self.failures, |failures| failures.last);
            let failures = self.failures.entry(key).or_insert(Failures { count: 0, last: now, next: now });
            if now.duration_since(failures.last) >= MEMORY {
                failures.count = 0;
            }
            failures.count = failures.count.saturating_add(1);
            failures.last = now;
            failures.next = failures.next.max(now + pause(failures.count));
        }
    }

    /// A try was right.
    pub(super) fn succeeded(&mut self, account: &Address, source: IpAddr, now: Instant) {
        let network = network(source);
        self.failures.remove(&Key::Network(network));
        make_room(&mut self.known, |last| *last);
        self.known.insert((account.clone(), network), now);
    }
}

fn pause(failures: u32) -> Duration {
    match failures.checked_sub(FREE) {
        None | Some(0) => Duration::ZERO,
        Some(more) => Duration::from_millis(500).saturating_mul(1 << more.min(16)).min(MAX_PAUSE),
    }
}

/// Drops the older half of a full table.
fn make_room<K: Hash + Eq, V>(table: &mut HashMap<K, V>, age: impl Fn(&V) -> Instant) {
    if table.len() >= MAX_REMEMBERED {
        let mut ages: Vec<Instant> = table.values().map(&age).collect();
        let (_, middle, _) = ages.select_nth_unstable(MAX_REMEMBERED / 2);
        let middle = *middle;
        table.retain(|_, value| age(value) > middle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn alice() -> Address {
        "alice@waxseal.test".parse().unwrap()
    }

    #[test]
    fn the_first_failures_cost_nothing_then_each_costs_twice_the_one_before() {
        let (mut slowdown, mut now) = (Slowdown::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..7 {
            let wait = slowdown.admit(Some(&alice()), HERE, now).unwrap();
            waits.push(wait.as_millis());
            now += wait;
            slowdown.failed(Some(&alice()), HERE, now);
        }
        assert_eq!(waits, [0, 0, 0, 0, 1000, 2000, 4000]);
    }

    #[test]
    fn tries_made_at_once_wait_one_behind_the_other_or_are_refused() {
        let (mut slowdown, now) = (Slowdown::default(), Instant::now());
        (0..5).for_each(|_| slowdown.failed(None, HERE, now));
        let waits: Vec<_> =
            (0..8).map(|_| slowdown.admit(None, HERE, now).map(|wait| wait.as_secs())).collect();
        assert_eq!(waits, [Some(2), Some(4), Some(6), Some(8), Some(10), None, None, None]);
    }

    #[test]
    fn who_guesses_at_an_account_does_not_lock_out_its_owner() {
        let (mut slowdown, now) = (Slowdown::default(), Instant::now());
        let home: IpAddr = "2001:db8:1:2::3".parse().unwrap();
        slowdown.succeeded(&alice(), home, now);
        for n in 0..100 {
            slowdown.failed(Some(&alice()), IpAddr::from([203, 0, 113, n]), now);
        }
        assert_eq!(slowdown.admit(Some(&alice()), IpAddr::from([203, 0, 113, 200]), now), None);
        assert_eq!(
            slowdown.admit(Some(&alice()), "2001:db8:1:2::4".parse().unwrap(), now),
            Some(Duration::ZERO)
        );
    }

    #[test]
    fn the_table_is_bounded_and_failures_are_forgotten() {
        let (mut slowdown, now) = (Slowdown::default(), Instant::now());
        for n in 0..3 * MAX_REMEMBERED as u32 {
            slowdown.failed(None, IpAddr::from(n.to_be_bytes()), now + Duration::from_millis(n.into()));
        }
        assert!(slowdown.failures.len() <= MAX_REMEMBERED);
        (0..9).for_each(|_| slowdown.failed(None, HERE, now));
        assert_eq!(slowdown.admit(None, HERE, now), None);
        assert_eq!(slowdown.admit(None, HERE, now + MEMORY), Some(Duration::ZERO));
    }
}
