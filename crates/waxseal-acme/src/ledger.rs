//! What was tried for a certificate, kept in storage so that no restart forgets it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::issuer::{Failure, Fault, IssueError, Stage};

/// How long to wait after the first failure, the second, and so on; the last stands for all further ones. Four
/// attempts within the first hour, as Let's Encrypt allows five failed validations of a name in one.
const LADDER: [Duration; 8] = [
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(3600),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(4 * 3600),
    Duration::from_secs(8 * 3600),
    Duration::from_secs(24 * 3600),
];
/// How much longer than the ladder says a wait may become, so that those who failed together do not return together.
const SPREAD: f64 = 0.2;
/// Longest wait after a failure that the CA was not asked about: whoever repairs a record wants to see it work.
const CHECKS_WAIT: Duration = Duration::from_secs(5 * 60);
/// Longest `Retry-After` that is believed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(8 * 86_400);
/// After how many failures in a row another CA is turned to.
const FALLBACK_AFTER: u32 = 3;
/// How long a CA may want to be left alone before another is turned to.
const PATIENCE: i64 = 3600;
/// Orders remembered for each certificate, whenever they were: a clock set forward by mistake forgets nothing.
const MAX_ORDERS: usize = 40;
/// Names of CAs whose wishes are remembered.
const MAX_HELD_OFF: usize = 8;
/// Failures of single names that are kept.
const MAX_FAILURES: usize = crate::name::MAX_NAMES;
/// How far ahead, in seconds, the clock of another machine that shares the storage may be.
const SKEW: i64 = 300;
/// The time over which orders are counted.
pub(crate) const WEEK: i64 = 7 * 86_400;

/// The history of one certificate. Times are unix seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attempts {
    /// Failures in a row.
    pub failures: u32,
    /// Since when it has been failing.
    pub failing_since: Option<i64>,
    /// The last failure.
    pub last: Option<LastFailure>,
    /// An attempt that has begun. Where nobody holds the lease, one that was cut short.
    pub begun: Option<Begun>,
    /// Attempts in a row that were cut short.
    pub interruptions: u32,
    /// Orders made, the oldest first.
    pub orders: Vec<PlacedOrder>,
    /// CAs that want to be left alone.
    pub held_off: Vec<HeldOff>,
}

/// A failure and how long to wait after it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastFailure {
    /// When.
    pub at: i64,
    /// How far the order had come.
    pub stage: Stage,
    /// Whose fault.
    pub fault: Fault,
    /// What failed, name by name.
    pub failures: Vec<Failure>,
    /// The directory of the CA that was asked.
    pub directory: String,
    /// Seconds to wait.
    pub wait: i64,
}

/// An attempt that has begun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    /// When.
    pub at: i64,
    /// The directory of the CA that is asked.
    pub directory: String,
}

/// An order that counts at a CA.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlacedOrder {
    /// When.
    pub at: i64,
    /// The CA's directory.
    pub directory: String,
}

/// A CA's wish to be left alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldOff {
    /// The CA's directory.
    pub directory: String,
    /// When it was said.
    pub at: i64,
    /// For how many seconds.
    pub wait: i64,
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// The step of the ladder after `failures` in a row, spread by `jitter` (0 to 1).
fn ladder(failures: u32, jitter: f64) -> i64 {
    let step = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX).min(LADDER.len() - 1);
    let wait = LADDER.get(step).copied().unwrap_or_default();
    seconds(wait.mul_f64(1.0 + SPREAD * jitter.clamp(0.0, 1.0)))
}

impl Attempts {
    /// An attempt begins. Written before the CA is asked, so that a process that dies on the way is known to have asked.
    pub fn begin(&mut self, now: i64, directory: &str) {
        // An attempt that was cut short is gone on with: its order is counted already.
        let resumed = self.begun.take().is_some_and(|begun| begun.directory == directory);
        if resumed {
            self.interruptions += 1;
        } else {
            self.orders.push(PlacedOrder { at: now, directory: directory.to_owned() });
            let surplus = self.orders.len().saturating_sub(MAX_ORDERS);
            self.orders.drain(..surplus);
        }
        self.begun = Some(Begun { at: now, directory: directory.to_owned() });
    }

    /// The attempt failed. `jitter` is between 0 and 1.
    pub fn fail(&mut self, now: i64, directory: &str, error: &IssueError, jitter: f64) {
        // Checks come before the attempt; one that was cut short earlier is still to be gone on with.
        if error.stage != Stage::Preflight {
            if !error.stage.has_order() {
                self.uncount();
            }
            self.begun = None;
            self.interruptions = 0;
        }
        self.failures = self.failures.saturating_add(1);
        self.failing_since.get_or_insert(now);
        let mut wait = ladder(self.failures, jitter);
        let is_ours = !matches!(error.fault, Fault::Ca | Fault::RateLimit);
        if error.stage == Stage::Preflight && is_ours {
            wait = wait.min(seconds(CHECKS_WAIT));
        }
        if let Some(asked) = error.retry_after {
            let asked = seconds(asked.min(MAX_RETRY_AFTER));
            self.held_off.retain(|other| other.directory != directory);
            let surplus = (self.held_off.len() + 1).saturating_sub(MAX_HELD_OFF);
            self.held_off.drain(..surplus);
            self.held_off.push(HeldOff { directory: directory.to_owned(), at: now, wait: asked });
        }
        self.last = Some(LastFailure {
            at: now,
            stage: error.stage,
            fault: error.fault,
            failures: error.failures.iter().take(MAX_FAILURES).cloned().collect(),
            directory: directory.to_owned(),
            wait,
        });
    }

    /// The attempt that has begun could not be written down, so that nothing was asked.
    pub fn abandon(&mut self) {
        self.uncount();
        if self.interruptions == 0 {
            self.begun = None;
        }
    }

    /// Nothing was ordered after all; unless an earlier attempt, which this one went on with, did so.
    fn uncount(&mut self) {
        if self.begun.is_some() && self.interruptions == 0 {
            self.orders.pop();
        }
    }

    /// The attempt succeeded: only its order is remembered, and what CAs wish, as the other may have made it.
    pub fn succeed(&mut self) {
        let (orders, held_off) = (std::mem::take(&mut self.orders), std::mem::take(&mut self.held_off));
        *self = Self { orders, held_off, ..Self::default() };
    }

    /// Brings times that lie well in the future, as a clock wrote them that has been set back since, to `now`. Waits stay as
    /// long as they were meant; none is waited for until a year that does not come. Whether anything was changed.
    pub fn anchor(&mut self, now: i64) -> bool {
        let last = self.last.iter_mut().map(|last| &mut last.at);
        let begun = self.begun.iter_mut().map(|begun| &mut begun.at);
        let orders = self.orders.iter_mut().map(|order| &mut order.at);
        let held_off = self.held_off.iter_mut().map(|held| &mut held.at);
        let times = last.chain(begun).chain(orders).chain(held_off).chain(&mut self.failing_since);
        let mut changed = false;
        for time in times.filter(|time| **time > now.saturating_add(SKEW)) {
            *time = now;
            changed = true;
        }
        changed
    }

    /// Which of `directories` (the wanted CA, then the one to fall back to) is to be asked, and from when on.
    pub fn choose(&self, directories: &[&str]) -> (usize, i64) {
        let at = |index: usize| {
            let directory = directories.get(index).copied().unwrap_or_default();
            self.ladder_ends().max(self.held_off_until(directory))
        };
        let wanted = at(0);
        if directories.len() < 2 {
            return (0, wanted);
        }
        let other = at(1);
        let impatient = wanted > other.saturating_add(PATIENCE);
        let turn = self.failures >= FALLBACK_AFTER && (self.failures - FALLBACK_AFTER).is_multiple_of(2);
        match (turn, impatient) {
            (_, true) => (1, other),
            (true, false) if wanted.saturating_add(PATIENCE) >= other => (1, other),
            _ => (0, wanted),
        }
    }

    /// When the back-off ladder lets go on.
    fn ladder_ends(&self) -> i64 {
        let last = self.last.as_ref().map_or(i64::MIN, |last| last.at.saturating_add(last.wait));
        match &self.begun {
            // The first interruption is most likely a restart: go on at once. A loop of restarts climbs the ladder.
            Some(begun) if self.interruptions > 0 => {
                last.max(begun.at.saturating_add(ladder(self.interruptions, 0.0)))
            }
            _ => last,
        }
    }

    /// When a CA no longer wants to be left alone.
    pub(crate) fn held_off_until(&self, directory: &str) -> i64 {
        let held = self.held_off.iter().find(|held| held.directory == directory);
        held.map_or(i64::MIN, |held| held.at.saturating_add(held.wait))
    }

    /// Orders at `directory` within the week before `now`.
    pub fn orders_this_week<'a>(&'a self, now: i64, directory: &'a str) -> impl Iterator<Item = i64> + 'a {
        let recent = move |at: i64| at > now.saturating_sub(WEEK);
        self.orders
            .iter()
            .filter(move |order| order.directory == directory && recent(order.at))
            .map(|it| it.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CA: &str = "https://ca.example/dir";
    const OTHER: &str = "https://other.example/dir";
    const T: i64 = 1_800_000_000;

    fn error(stage: Stage) -> IssueError {
        IssueError::new(stage, Fault::Setup, "no answer")
    }

    fn next(attempts: &Attempts) -> i64 {
        attempts.choose(&[CA]).1
    }

    #[test]
    fn waits_grow_to_a_day_and_stay_there() {
        let mut attempts = Attempts::default();
        let mut waits = Vec::new();
        for _ in 0..10 {
            attempts.begin(T, CA);
            attempts.fail(T, CA, &error(Stage::Validation), 0.0);
            waits.push(next(&attempts) - T);
        }
        assert_eq!(waits, [300, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400, 86_400, 86_400]);
        assert!(waits[..3].iter().sum::<i64>() < 3600, "the fourth attempt is within the hour");
        assert!(waits[..4].iter().sum::<i64>() > 3600, "the fifth is not");
    }

    #[test]
    fn jitter_only_lengthens() {
        for step in 1..12 {
            assert!(ladder(step, 0.5) > ladder(step, 0.0));
            assert!(ladder(step, 7.0) as f64 <= ladder(step, 0.0) as f64 * (1.0 + SPREAD));
        }
    }

    #[test]
    fn what_the_ca_was_not_asked_is_tried_again_soon_and_counts_as_no_order() {
        let mut attempts = Attempts::default();
        for _ in 0..10 {
            attempts.fail(T, CA, &error(Stage::Preflight), 1.0);
            assert!(next(&attempts) - T <= 300);
        }
        for stage in [Stage::Directory, Stage::Account, Stage::Order] {
            attempts.begin(T, CA);
            attempts.fail(T, CA, &error(stage), 0.0);
        }
        assert_eq!(attempts.orders, []);
        attempts.begin(T, CA);
        attempts.fail(T, CA, &error(Stage::Validation), 0.0);
        assert_eq!(attempts.orders.len(), 1);
    }

    #[test]
    fn a_ca_that_does_not_answer_the_checks_is_asked_less_and_less() {
        let mut attempts = Attempts::default();
        for _ in 0..4 {
            let silent = IssueError::new(Stage::Preflight, Fault::Ca, "no answer");
            attempts.fail(T, CA, &silent, 0.0);
        }
        assert_eq!(next(&attempts), T + 3600);
    }

    #[test]
    fn retry_after_is_obeyed_where_it_is_longer_and_survives_writing_down() {
        let mut attempts = Attempts::default();
        attempts.begin(T, CA);
        let limit = error(Stage::Order).after(Some(Duration::from_secs(50_000)));
        attempts.fail(T, CA, &limit, 0.0);
        let text = serde_json::to_string(&attempts).expect("JSON");
        let attempts: Attempts = serde_json::from_str(&text).expect("the same");
        assert_eq!(next(&attempts), T + 50_000);
        let mut short = Attempts::default();
        short.fail(T, CA, &error(Stage::Order).after(Some(Duration::from_secs(1))), 0.0);
        assert_eq!(next(&short), T + 300);
    }

    #[test]
    fn a_retry_after_of_years_is_not_believed() {
        let mut attempts = Attempts::default();
        attempts.fail(T, CA, &error(Stage::Order).after(Some(Duration::MAX)), 0.0);
        assert_eq!(next(&attempts), T + 8 * 86_400);
    }

    #[test]
    fn the_other_ca_is_turned_to_after_three_failures_and_then_by_turns() {
        let mut attempts = Attempts::default();
        let mut asked = Vec::new();
        for _ in 0..7 {
            let (ca, _) = attempts.choose(&[CA, OTHER]);
            asked.push(ca);
            attempts.fail(T, [CA, OTHER][ca], &error(Stage::Validation), 0.0);
        }
        assert_eq!(asked, [0, 0, 0, 1, 0, 1, 0]);
    }

    #[test]
    fn the_other_ca_is_turned_to_when_the_first_wants_a_long_rest() {
        let mut attempts = Attempts::default();
        attempts.fail(T, CA, &error(Stage::Order).after(Some(Duration::from_secs(86_400))), 0.0);
        assert_eq!(attempts.choose(&[CA, OTHER]), (1, T + 300));
        assert_eq!(attempts.choose(&[CA]), (0, T + 86_400));
    }

    #[test]
    fn a_first_interruption_goes_on_at_once_and_a_loop_of_them_climbs_the_ladder() {
        let mut attempts = Attempts::default();
        attempts.begin(T, CA);
        assert_eq!(next(&attempts), i64::MIN);
        attempts.begin(T, CA);
        assert_eq!(next(&attempts), T + 300);
        attempts.begin(T, CA);
        assert_eq!(next(&attempts), T + 900);
        assert_eq!(attempts.orders.len(), 1, "one order, gone on with");
        attempts.fail(T, CA, &error(Stage::Order), 0.0);
        assert_eq!(attempts.orders.len(), 1, "the first of them may have been placed");
        assert_eq!(next(&attempts), T + 300);
    }

    #[test]
    fn checks_that_fail_forget_no_attempt_that_was_cut_short() {
        let mut attempts = Attempts::default();
        attempts.begin(T, CA);
        attempts.fail(T, CA, &error(Stage::Preflight), 0.0);
        assert_eq!(next(&attempts), T + 300);
        assert!(attempts.begun.is_some());
        assert_eq!(attempts.orders.len(), 1);
    }

    #[test]
    fn an_attempt_that_cannot_be_written_down_was_none() {
        let mut attempts = Attempts::default();
        attempts.begin(T, CA);
        attempts.abandon();
        assert_eq!(attempts, Attempts::default());
    }

    #[test]
    fn success_forgets_all_but_the_orders_and_what_cas_wish() {
        let mut attempts = Attempts::default();
        attempts.begin(T, CA);
        attempts.fail(T, CA, &error(Stage::Validation).after(Some(Duration::from_secs(9))), 0.0);
        attempts.begin(T, CA);
        attempts.succeed();
        assert_eq!(attempts.orders.len(), 2);
        assert_eq!(attempts.held_off.len(), 1);
        let kept = Attempts {
            orders: attempts.orders.clone(),
            held_off: attempts.held_off.clone(),
            ..Attempts::default()
        };
        assert_eq!(attempts, kept);
    }

    #[test]
    fn a_clock_set_back_shortens_waits_to_what_was_meant() {
        let mut attempts = Attempts::default();
        let year = 365 * 86_400;
        attempts.begin(T + year, CA);
        attempts.fail(T + year, CA, &error(Stage::Validation).after(Some(Duration::from_secs(7200))), 0.0);
        assert!(attempts.anchor(T));
        assert_eq!(next(&attempts), T + 7200);
        assert_eq!(attempts.orders_this_week(T + 1, CA).count(), 1);
        assert!(!attempts.anchor(T), "once is enough");
        assert!(!attempts.anchor(T - 60), "another machine's clock may be a little ahead");
    }
}
