//! What the renewer knows of each certificate between two looks into storage.

use waxseal_storage::{Key, Storage, StorageError};

use super::job::FAULT;
use crate::bundle::Bundle;
use crate::clock::fraction;
use crate::issuer::Stage;
use crate::ledger::{Attempts, LastFailure};
use crate::managed;
use crate::plan::{self, Asked, Next, Situation};
use crate::target::Target;

/// One certificate's state.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) facts: Option<Facts>,
    pub(super) asked: Option<Asked>,
    pub(super) attempts: Attempts,
    /// The history here is newer than the stored one: it could not be written, or was brought to a clock set right.
    pub(super) unwritten: bool,
    /// A certificate that came and could not be stored.
    pub(super) unsaved: Option<Bundle>,
    /// How far the order in flight has come.
    pub(super) stage: Option<Stage>,
    pub(super) in_flight: bool,
    /// Not to be looked at before, as another process holds the lease or storage cannot be read.
    pub(super) rest_until: i64,
    /// The serial of a certificate whose end has been told.
    pub(super) told_ended: Option<String>,
}

/// A bundle without its key.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) held: plan::Held,
    pub(super) serial: String,
    pub(super) issuer: String,
}

/// A certificate as `cert list` shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// What it is called.
    pub id: String,
    /// Its names.
    pub names: Vec<String>,
    /// Its kind of key.
    pub key_type: &'static str,
    /// The certificate there is.
    pub held: Option<HeldStatus>,
    /// How far an order in flight has come.
    pub stage: Option<Stage>,
    /// When it is renewed, or an attempt made, next; in unix seconds.
    pub next: i64,
    /// The last failure, where the last attempt failed.
    pub failure: Option<LastFailure>,
    /// Since when it has been failing, in unix seconds.
    pub failing_since: Option<i64>,
    /// Whether it is to be ordered or renewed by now.
    pub due: bool,
    /// What keeps it back where that is due and no failure.
    pub waits: Option<String>,
}

/// What there is.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldStatus {
    /// In hexadecimal.
    pub serial: String,
    /// Who signed it.
    pub issuer: String,
    /// Begin of its life, in unix seconds.
    pub not_before: i64,
    /// End of its life, in unix seconds.
    pub not_after: i64,
}

impl Facts {
    pub(super) fn of(bundle: &Bundle, target: &Target) -> Self {
        Self {
            held: bundle.held(&target.directories()),
            serial: bundle.serial.clone(),
            issuer: bundle.issuer.clone(),
        }
    }
}

impl Facts {
    /// Says so where the operator's wish is more than the certificate's life allows.
    pub(super) fn tell_clamped(&self, target: &Target) {
        let wish = target.settings.renew_before;
        if let Some(Err(bound)) = wish.map(|wish| plan::clamp(self.held, wish)) {
            tracing::warn!(
                "acme.{}.renew-before is longer than two thirds of the certificate's life; it is renewed {} before its end",
                target.settings.id,
                span(u64::try_from(bound).unwrap_or(0))
            );
        }
    }
}

/// A time in its largest unit, for a line of the log.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds.div_ceil(60)),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// What storage holds for `target`.
pub(super) struct Fresh {
    pub(super) bundle: Option<Bundle>,
    asked: Option<Asked>,
    attempts: Attempts,
}

impl Fresh {
    /// Reads it. What cannot be used is as good as not there, and told: a certificate is ordered anew then.
    pub(super) async fn read(storage: &dyn Storage, target: &Target, now: i64) -> Result<Self, StorageError> {
        let bundle = storage.get(&target.certificate).await?;
        let asked = storage.get(&target.renewal_info).await?;
        let attempts = storage.get(&target.attempts).await?;
        let usable = |key: &Key, why: &dyn std::fmt::Display| {
            let place = storage.place();
            tracing::error!("{target}: {place}/{key} cannot be used, and is taken for lost: {why}");
        };
        let bundle = bundle.and_then(|stored| {
            let read = managed::identity(&stored.value, now);
            read.inspect_err(|why| usable(&target.certificate, why)).ok()
        });
        let asked = asked.and_then(|stored| {
            let read = serde_json::from_slice(&stored.value);
            read.inspect_err(|why| usable(&target.renewal_info, why)).ok()
        });
        let attempts = attempts.and_then(|stored| {
            let read = serde_json::from_slice(&stored.value);
            read.inspect_err(|why| usable(&target.attempts, why)).ok()
        });
        Ok(Self { bundle: bundle.map(|(bundle, _)| bundle), asked, attempts: attempts.unwrap_or_default() })
    }
}

impl State {
    /// Brings times that lie in the future to `now`.
    pub(super) fn anchor(&mut self, now: i64) {
        // Ours counts then: what is stored would be brought to now, and its waits begin, again and again.
        self.unwritten |= self.attempts.anchor(now);
        if self.rest_until > now + FAULT {
            self.rest_until = now;
        }
    }

    /// Takes over what storage holds; what could not be written there stays.
    pub(super) fn take(&mut self, fresh: &Fresh, target: &Target, now: i64) {
        let facts = fresh.bundle.as_ref().map(|bundle| Facts::of(bundle, target));
        let serial = |facts: &Option<Facts>| facts.as_ref().map(|facts| facts.serial.clone());
        if let Some(facts) = facts.as_ref().filter(|it| serial(&self.facts).as_ref() != Some(&it.serial)) {
            facts.tell_clamped(target);
        }
        self.facts = facts;
        // The later answer counts: the last may not have been written down.
        let asked = [self.asked.take(), fresh.asked.clone()].into_iter().flatten();
        let asked = asked.filter(|asked| Some(&asked.serial) == serial(&self.facts).as_ref());
        self.asked = asked.max_by_key(|asked| asked.at);
        if !self.unwritten {
            self.attempts = fresh.attempts.clone();
        }
        self.anchor(now);
        // An attempt whose certificate is there ended well, though its process did not live to write so.
        let obtained = self.facts.as_ref().map(|facts| facts.held.obtained);
        if self.attempts.begun.as_ref().is_some_and(|begun| obtained >= Some(begun.at)) {
            self.attempts.succeed();
        }
    }

    /// The plan, with the histories of the same names' other key types.
    pub(super) fn plan<T>(
        &self,
        target: &Target,
        siblings: &[&Attempts],
        now: i64,
        ask: impl FnOnce(&Situation<'_>) -> T,
    ) -> T {
        let serial = self.facts.as_ref().map_or("", |facts| facts.serial.as_str());
        ask(&Situation {
            now,
            held: self.facts.as_ref().map(|facts| facts.held),
            asked: self.asked.as_ref(),
            attempts: &self.attempts,
            siblings,
            renew_before: target.settings.renew_before,
            directories: &target.directories(),
            jitter: fraction(&(serial, target.certificate.as_str())),
        })
    }

    pub(super) fn next(&self, target: &Target, siblings: &[&Attempts], now: i64) -> Next {
        self.soonest(target, siblings, now, plan::next)
    }

    /// When it is ordered next, as far as is known.
    pub(super) fn next_order(&self, target: &Target, siblings: &[&Attempts], now: i64) -> Next {
        self.soonest(target, siblings, now, plan::order)
    }

    fn soonest(
        &self,
        target: &Target,
        siblings: &[&Attempts],
        now: i64,
        ask: fn(&Situation<'_>) -> Next,
    ) -> Next {
        let mut next = self.plan(target, siblings, now, ask);
        if self.unsaved.is_some() {
            next.at = self.attempts.choose(&target.directories()).1;
        }
        next.at = next.at.max(self.rest_until);
        next
    }

    pub(super) fn status(&self, target: &Target, siblings: &[&Attempts], now: i64) -> Status {
        Status {
            id: target.id.to_string(),
            names: target.names.iter().map(ToString::to_string).collect(),
            key_type: target.key_type.as_str(),
            held: self.facts.as_ref().map(|facts| HeldStatus {
                serial: facts.serial.clone(),
                issuer: facts.issuer.clone(),
                not_before: facts.held.not_before,
                not_after: facts.held.not_after,
            }),
            stage: self.stage,
            next: self.next_order(target, siblings, now).at.max(now),
            failure: self.attempts.last.clone(),
            failing_since: self.attempts.failing_since,
            due: self.plan(target, siblings, now, plan::is_due),
            waits: self.waits(target, siblings, now),
        }
    }

    /// What keeps an order back that is due.
    pub(super) fn waits(&self, target: &Target, siblings: &[&Attempts], now: i64) -> Option<String> {
        let next = self.next_order(target, siblings, now).at;
        if self.in_flight || next <= now || !self.plan(target, siblings, now, plan::is_due) {
            return None;
        }
        match self.plan(target, siblings, now, plan::barrier) {
            Some((until, barrier)) if until >= next => {
                Some(format!("{barrier}; `waxseal cert renew --force` passes that"))
            }
            _ if self.attempts.begun.is_some() && self.attempts.interruptions > 0 => Some(format!(
                "{} attempts in a row were cut short, as by a kill or a crash; `waxseal cert renew` goes on at once",
                self.attempts.interruptions + 1
            )),
            _ => None,
        }
    }
}
