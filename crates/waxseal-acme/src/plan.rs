//! What is due when. Pure: the time is an argument, and so is chance.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::issuer::RenewalWindow;
use crate::ledger::{Attempts, WEEK};

const DAY: i64 = 86_400;
/// Below this a certificate is renewed at half its life, as a third would leave too little time for repairs.
const SHORT_LIFE: i64 = 10 * DAY;
/// The CA is asked for its window at least this often (RFC 9773 section 4.3 leaves it to the CA; ours is a bound).
const ASK_EVERY: i64 = DAY / 2;
/// And not more often than this, whatever it says.
const ASK_AT_MOST: i64 = 60;
/// Over which part of its life renewals of certificates made together are spread.
const SPREAD: i64 = 50;
/// What is left of a certificate's life at the latest when it is renewed, as a part of it, whatever the CA says.
const LATEST: i64 = 20;
/// What must have passed of a certificate's life before it is renewed again, as a part of it: a clock gone wrong, or a
/// CA that issues what has ended already, makes no loop.
const SETTLE: i64 = 4;
/// Orders that a name set may place in a week beyond what its certificates' lives call for.
const SPARE_ORDERS: i64 = 3;

/// When a certificate is valid and since when we have it; unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Begin of its life.
    pub not_before: i64,
    /// End of its life.
    pub not_after: i64,
    /// When it came.
    pub obtained: i64,
    /// Whether it is not what is wanted any more, as it comes from a CA that is neither the wanted one nor the one to
    /// fall back to.
    pub foreign: bool,
}

impl Held {
    fn life(self) -> i64 {
        self.not_after.saturating_sub(self.not_before).max(1)
    }

    /// How long before its end it is renewed, without anybody's wish.
    fn rest(self) -> i64 {
        if self.life() < SHORT_LIFE { self.life() / 2 } else { self.life() / 3 }
    }
}

/// What the CA said when it was asked for its window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// When it was asked.
    pub at: i64,
    /// The serial of the certificate it was asked about.
    pub serial: String,
    /// Its answer; `None` where it has no wish.
    pub window: Option<RenewalWindow>,
}

/// All that counts for what is due.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// Unix seconds.
    pub now: i64,
    /// The certificate, if there is one.
    pub held: Option<Held>,
    /// What the CA said about it.
    pub asked: Option<&'a Asked>,
    /// What was tried.
    pub attempts: &'a Attempts,
    /// What was tried for the same names with other key types.
    pub siblings: &'a [&'a Attempts],
    /// The operator's wish.
    pub renew_before: Option<Duration>,
    /// The directory of the wanted CA, then of the one to fall back to.
    pub directories: &'a [&'a str],
    /// Between 0 and 1; the same for the same certificate, so that a plan does not change from look to look.
    pub jitter: f64,
}

/// What is due next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// When, in unix seconds; at once where it is not after now.
    pub at: i64,
    /// What.
    pub action: Action,
}

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the CA for its window.
    AskWindow,
    /// Order a certificate.
    Order {
        /// At which of the directories.
        ca: usize,
        /// What for.
        why: Why,
    },
}

/// Why a certificate is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There is none.
    Missing,
    /// The one there is comes from another CA.
    Foreign,
    /// So much of its life is over.
    Age,
    /// The operator wants it so long before its end.
    RenewBefore,
    /// The CA wants it.
    Window,
    /// The CA wants it at once: its window is over already, as when it is about to revoke.
    Emergency,
}

/// How long before its end a certificate of this life is renewed where the operator wants `wish`: at most two thirds of
/// its life. `Err` has the bound where it was more.
///
/// # Errors
///
/// The bound, in seconds, that was taken instead.
pub fn clamp(held: Held, wish: Duration) -> Result<i64, i64> {
    let bound = held.life().saturating_mul(2) / 3;
    match i64::try_from(wish.as_secs()) {
        Ok(wish) if wish <= bound => Ok(wish),
        _ => Err(bound),
    }
}

/// What is due next, and when.
pub fn next(situation: &Situation<'_>) -> Next {
    let order = order(situation);
    match window_due(situation) {
        Some(ask) if ask < order.at => Next { at: ask, action: Action::AskWindow },
        _ => order,
    }
}

/// When a certificate is ordered next, as far as is known now: the CA may wish for something else when it is asked again.
pub fn order(situation: &Situation<'_>) -> Next {
    let (wanted, why) = renewal(situation);
    let (ca, allowed) = situation.attempts.choose(situation.directories);
    let at = wanted.max(allowed).max(cap_ends(situation, ca));
    Next { at, action: Action::Order { ca, why } }
}

/// Whether there ought to be another certificate by now, were nothing in the way.
pub fn is_due(situation: &Situation<'_>) -> bool {
    renewal(situation).0 <= situation.now
}

/// When the certificate ought to be renewed, were nothing in the way.
fn renewal(situation: &Situation<'_>) -> (i64, Why) {
    let Some(held) = situation.held else { return (i64::MIN, Why::Missing) };
    if held.foreign {
        return (i64::MIN, Why::Foreign);
    }
    let window = situation.asked.and_then(|asked| asked.window.as_ref());
    let window = window.filter(|window| window.start < window.end && window.start < held.not_after);
    if let Some(window) = window
        && window.end <= situation.now
    {
        return (window.end, Why::Emergency);
    }
    let latest = held.not_after - held.life() / LATEST;
    let (at, why) = if let Some(wish) = situation.renew_before {
        (held.not_after - clamp(held, wish).unwrap_or_else(|bound| bound), Why::RenewBefore)
    } else if let Some(window) = window {
        (window.start + part(window.end - window.start, situation.jitter), Why::Window)
    } else {
        (held.not_after - held.rest() - part(held.life() / SPREAD, situation.jitter), Why::Age)
    };
    // The CA may have its reasons to want it early; and one that came later than now came by another clock.
    let settled = if why == Why::Window || held.obtained > situation.now {
        i64::MIN
    } else {
        held.obtained + held.life() / SETTLE
    };
    (at.min(latest).max(settled), why)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "seconds, far below 2^52")]
fn part(whole: i64, jitter: f64) -> i64 {
    (whole as f64 * jitter.clamp(0.0, 1.0)) as i64
}

/// When the CA is to be asked for its window; `None` where there is nothing to ask about.
fn window_due(situation: &Situation<'_>) -> Option<i64> {
    let held = situation.held.filter(|held| !held.foreign)?;
    let Some(asked) = situation.asked.filter(|asked| asked.at <= situation.now) else {
        return Some(i64::MIN);
    };
    // A life of a day is a few questions long, too.
    let bound = ASK_EVERY.min(held.life() / SETTLE);
    let wish =
        asked.window.as_ref().map_or(bound, |window| i64::try_from(window.retry_after).unwrap_or(bound));
    Some(asked.at + wish.min(bound).max(ASK_AT_MOST))
}

/// When the weekly cap lets place another order for these names: a few to spare, one for each further key type, and
/// as many as the certificate's life calls for.
fn cap_ends(situation: &Situation<'_>, ca: usize) -> i64 {
    let directory = situation.directories.get(ca).copied().unwrap_or_default();
    let all = std::iter::once(situation.attempts).chain(situation.siblings.iter().copied());
    let mut orders: Vec<i64> =
        all.flat_map(|attempts| attempts.orders_this_week(situation.now, directory)).collect();
    orders.sort_unstable();
    let types = i64::try_from(situation.siblings.len()).unwrap_or(0) + 1;
    let regular =
        situation.held.map_or(0, |held| WEEK / (held.life() - held.rest() - held.life() / SPREAD).max(1));
    let cap = usize::try_from(SPARE_ORDERS - 1 + types + regular * types).unwrap_or(usize::MAX);
    // An attempt that was cut short has its order counted already.
    let begun = situation.attempts.begun.as_ref().is_some_and(|begun| begun.directory == directory);
    match orders.len().checked_sub(cap) {
        Some(over) if !begun => orders.get(over).map_or(i64::MIN, |at| at.saturating_add(WEEK)),
        _ => i64::MIN,
    }
}

/// What keeps an order back that somebody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Barrier {
    /// The CA's wish.
    #[error("the CA wants to be left alone until then")]
    RetryAfter,
    /// Our own limit, which keeps clear of the CA's.
    #[error("as many orders were placed for these names this week as keep clear of the CA's limits")]
    WeeklyCap,
}

/// Until when an order must not be placed, however much it is wanted; `None`: it may be placed now.
pub fn barrier(situation: &Situation<'_>) -> Option<(i64, Barrier)> {
    let (ca, _) = situation.attempts.choose(situation.directories);
    let directory = situation.directories.get(ca).copied().unwrap_or_default();
    let held_off = (situation.attempts.held_off_until(directory), Barrier::RetryAfter);
    let capped = (cap_ends(situation, ca), Barrier::WeeklyCap);
    let later = if held_off.0 >= capped.0 { held_off } else { capped };
    (later.0 > situation.now).then_some(later)
}
