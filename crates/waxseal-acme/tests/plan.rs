//! Years of renewals in virtual time.

use std::time::Duration;

use waxseal_acme::plan::{Action, Asked, Held, Next, Situation, Why, clamp, next, order};
use waxseal_acme::{Attempts, Fault, IssueError, RenewalWindow, Stage};

const CA: &str = "https://ca.example/dir";
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;
const T: i64 = 1_800_000_000;

/// A certificate's surroundings, through time.
struct World {
    now: i64,
    life: i64,
    /// What the CA says when asked: the window's begin and end as parts of a life.
    window: Option<(f64, f64)>,
    renew_before: Option<Duration>,
    jitter: f64,
    held: Option<Held>,
    asked: Option<Asked>,
    attempts: Attempts,
    questions: usize,
    /// When each certificate came, and what was left of the former one.
    renewals: Vec<(i64, i64)>,
}

impl World {
    fn of(life: i64) -> Self {
        Self {
            now: T,
            life,
            window: None,
            renew_before: None,
            jitter: 0.5,
            held: None,
            asked: None,
            attempts: Attempts::default(),
            questions: 0,
            renewals: Vec::new(),
        }
    }

    fn next(&self) -> Next {
        next(&self.situation())
    }

    fn situation(&self) -> Situation<'_> {
        Situation {
            now: self.now,
            held: self.held,
            asked: self.asked.as_ref(),
            attempts: &self.attempts,
            siblings: &[],
            renew_before: self.renew_before,
            directories: &[CA],
            jitter: self.jitter,
        }
    }

    fn at(&self, part: f64) -> i64 {
        self.held.expect("a certificate").not_before + (self.life as f64 * part) as i64
    }

    fn window(&self) -> Option<RenewalWindow> {
        let (start, end) = self.window?;
        Some(RenewalWindow {
            start: self.at(start),
            end: self.at(end),
            explanation: None,
            retry_after: 6 * 3600,
        })
    }

    fn hold(&mut self, not_before: i64) {
        let not_after = not_before + self.life;
        self.held = Some(Held { not_before, not_after, obtained: self.now, foreign: false });
        self.asked = None;
    }

    /// Lets time pass until `end`, doing what is due.
    fn run(&mut self, end: i64) -> &mut Self {
        loop {
            let Next { at, action } = self.next();
            if at > end {
                self.now = self.now.max(end);
                return self;
            }
            self.now = self.now.max(at);
            match action {
                Action::AskWindow => {
                    self.questions += 1;
                    self.asked = Some(Asked { at: self.now, serial: String::new(), window: self.window() });
                }
                Action::Order { .. } => {
                    let left = self.held.map_or(0, |held| held.not_after - self.now);
                    self.renewals.push((self.now, left));
                    self.attempts.begin(self.now, CA);
                    self.attempts.succeed();
                    // CAs date their certificates back an hour.
                    self.hold(self.now - self.life.min(HOUR * 20) / 20);
                }
            }
            assert!(self.renewals.len() + self.questions < 20_000, "a loop");
        }
    }
}

#[test]
fn a_year_of_90_day_certificates_renews_with_a_third_left() {
    let mut world = World::of(90 * DAY);
    world.run(T + YEAR);
    assert_eq!(world.renewals.len(), 7, "once, and then each two months");
    assert!(world.renewals[1..].iter().all(|(_, left)| (30 * DAY..=32 * DAY).contains(left)));
}

#[test]
fn a_year_of_47_day_certificates_renews_with_a_third_left() {
    let mut world = World::of(47 * DAY);
    world.run(T + YEAR);
    assert!((12..=13).contains(&world.renewals.len()), "{}", world.renewals.len());
    let third = 47 * DAY / 3;
    assert!(world.renewals[1..].iter().all(|(_, left)| (third..=third + DAY).contains(left)));
}

#[test]
fn a_year_of_6_day_certificates_renews_at_half_their_life() {
    let mut world = World::of(6 * DAY);
    world.run(T + YEAR);
    assert!((120..=130).contains(&world.renewals.len()), "{}", world.renewals.len());
    assert!(world.renewals[1..].iter().all(|(_, left)| (3 * DAY..=3 * DAY + 4 * HOUR).contains(left)));
}

#[test]
fn a_year_of_24_hour_certificates_renews_at_half_their_life_and_the_weekly_cap_lets_it() {
    let mut world = World::of(DAY);
    world.run(T + YEAR);
    assert!((730..=850).contains(&world.renewals.len()), "{}", world.renewals.len());
    assert!(world.renewals[1..].iter().all(|(_, left)| (12 * HOUR..=13 * HOUR).contains(left)));
}

#[test]
fn the_cas_window_is_asked_for_twice_a_day_and_kept() {
    let mut world = World::of(90 * DAY);
    world.window = Some((0.60, 0.65));
    world.run(T + YEAR);
    for pair in world.renewals.windows(2) {
        let age = (pair[1].0 - pair[0].0) as f64 / (90 * DAY) as f64;
        assert!((0.59..0.65).contains(&age), "{age}");
    }
    assert!(world.questions >= 2 * 360, "{}", world.questions);
    assert!(world.questions <= 4 * 366, "as often as the CA says, each six hours: {}", world.questions);
}

#[test]
fn jitter_spreads_over_the_window_and_never_leaves_it() {
    let mut times = Vec::new();
    for jitter in [0.0, 0.25, 0.5, 0.75, 0.999] {
        let mut world = World::of(90 * DAY);
        (world.window, world.jitter) = (Some((0.5, 0.6)), jitter);
        world.hold(T);
        world.run(T + 60 * DAY);
        times.push(world.renewals[0].0);
    }
    assert!(times.is_sorted() && times[0] == T + 45 * DAY && times[4] < T + 54 * DAY, "{times:?}");
}

#[test]
fn an_emergency_window_renews_within_the_hour() {
    let mut world = World::of(90 * DAY);
    world.window = Some((0.6, 0.65));
    world.hold(T);
    world.run(T + 10 * DAY);
    assert_eq!(world.renewals, []);
    world.window = Some((0.01, 0.02));
    // The next question, at the latest in half a day, tells; from then on it is a matter of an hour.
    let asked = world.questions;
    while world.questions == asked {
        world.run(world.now + 60);
    }
    let told = world.now;
    world.run(told + HOUR);
    assert_eq!(world.renewals.len(), 1);
    assert!(told < T + 10 * DAY + 12 * HOUR + 120);
}

#[test]
fn an_emergency_passes_the_operators_wish() {
    let mut world = World::of(90 * DAY);
    world.renew_before = Some(Duration::from_secs(5 * 86_400));
    world.window = Some((0.01, 0.02));
    world.hold(T);
    world.run(T + 3 * DAY);
    assert!(!world.renewals.is_empty());
}

#[test]
fn a_ca_in_which_every_certificate_is_an_emergency_makes_no_loop() {
    let mut world = World::of(90 * DAY);
    world.window = Some((-0.2, -0.1));
    world.run(T + 7 * DAY - 1);
    assert!(world.renewals.len() <= 3, "{}", world.renewals.len());
}

#[test]
fn a_window_that_makes_no_sense_is_ignored() {
    for window in [(0.7, 0.6), (0.5, 0.5), (1.1, 1.2)] {
        let mut world = World::of(90 * DAY);
        world.window = Some(window);
        world.hold(T);
        world.run(T + 90 * DAY);
        let (at, _) = world.renewals[0];
        assert!((T + 57 * DAY..=T + 60 * DAY).contains(&at), "{window:?}: day {}", (at - T) / DAY);
    }
}

#[test]
fn a_window_at_the_very_end_leaves_time_for_repairs() {
    let mut world = World::of(90 * DAY);
    world.window = Some((0.99, 1.0));
    world.hold(T);
    world.run(T + 90 * DAY);
    assert_eq!(world.renewals[0].0, T + 90 * DAY - 90 * DAY / 20);
}

#[test]
fn renew_before_is_kept_and_clamped_to_two_thirds() {
    let held = Held { not_before: T, not_after: T + 6 * DAY, obtained: T, foreign: false };
    assert_eq!(clamp(held, Duration::from_secs(2 * 86_400)), Ok(2 * DAY));
    assert_eq!(clamp(held, Duration::from_secs(30 * 86_400)), Err(4 * DAY));
    assert_eq!(clamp(held, Duration::MAX), Err(4 * DAY));

    let mut world = World::of(90 * DAY);
    world.renew_before = Some(Duration::from_secs(20 * 86_400));
    world.window = Some((0.3, 0.4)); // over before the operator's time has come: the CA's emergency
    world.hold(T);
    assert_eq!(world.run(T + 30 * DAY).renewals, []);
    world.window = None;
    world.hold(T);
    world.renewals.clear();
    world.run(T + 75 * DAY);
    assert_eq!(world.renewals[0].1, 20 * DAY);

    let mut short = World::of(6 * DAY);
    short.renew_before = Some(Duration::from_secs(30 * 86_400));
    short.run(T + YEAR);
    assert!((175..=200).contains(&short.renewals.len()), "every second day: {}", short.renewals.len());
}

#[test]
fn what_is_missing_is_due_at_once_and_what_has_ended_too() {
    let mut world = World::of(90 * DAY);
    let why = |world: &World| match world.next() {
        Next { at, action: Action::Order { why, .. } } if at <= world.now => Some(why),
        _ => None,
    };
    assert_eq!(why(&world), Some(Why::Missing));
    world.hold(T);
    world.now = T + 200 * DAY;
    world.asked = Some(Asked { at: world.now, serial: String::new(), window: None });
    assert_eq!(why(&world), Some(Why::Age));
    world.now = T + 1;
    world.held = world.held.map(|held| Held { foreign: true, ..held });
    assert_eq!(why(&world), Some(Why::Foreign));
}

#[test]
fn a_clock_that_jumps_ahead_and_back_costs_one_order_and_stops_nothing() {
    for away in [YEAR, 20 * YEAR, 70 * DAY] {
        let mut world = World::of(90 * DAY);
        world.run(T + 5 * DAY);
        assert_eq!(world.renewals.len(), 1);
        // Ahead: by that clock the certificate has ended.
        world.now += away;
        world.run(world.now + 30 * 60);
        assert!(world.renewals.len() <= 2, "{}", world.renewals.len());
        // The CA's clock is right: what it gave is valid from then on.
        let real = T + 5 * DAY + 30 * 60;
        if world.renewals.len() == 2 {
            world.held = Some(Held {
                not_before: real,
                not_after: real + 90 * DAY,
                obtained: world.now,
                foreign: false,
            });
            world.run(world.now + HOUR);
            assert!(world.renewals.len() <= 4, "the cap ends what cannot be known: {}", world.renewals.len());
            world.held = Some(Held {
                not_before: real,
                not_after: real + 90 * DAY,
                obtained: world.now,
                foreign: false,
            });
        }
        // And back.
        let before = world.renewals.len();
        world.now = real;
        world.attempts.anchor(real);
        world.run(real + 50 * DAY);
        assert_eq!(world.renewals.len(), before, "nothing is due for two months");
        world.run(real + 65 * DAY);
        assert_eq!(world.renewals.len(), before + 1, "and then it is");
    }
}

#[test]
fn a_clock_at_the_beginning_of_time_waits_until_it_is_right() {
    let mut world = World::of(90 * DAY);
    world.hold(T);
    world.now = 0;
    world.run(DAY);
    assert_eq!(world.renewals, []);
    world.now = T + 70 * DAY;
    world.attempts.anchor(world.now);
    world.run(world.now + 1);
    assert_eq!(world.renewals.len(), 1);
}

#[test]
fn a_certificate_that_comes_expired_is_not_renewed_in_a_loop() {
    let mut world = World::of(90 * DAY);
    let end = T + 30 * DAY;
    while world.now < end {
        let step = (world.now + HOUR).min(end);
        world.run(step);
        world.hold(T - YEAR);
    }
    assert!(world.renewals.len() <= 3 * 5, "{}", world.renewals.len());
}

#[test]
fn the_weekly_cap_ends_with_the_oldest_order() {
    let mut world = World::of(90 * DAY);
    for hour in 0..3 {
        world.attempts.begin(T + hour * HOUR, CA);
        world.attempts.succeed();
    }
    world.now = T + 4 * HOUR;
    assert_eq!(world.next().at, T + 7 * DAY);
    let elsewhere = next(&Situation {
        now: world.now,
        held: None,
        asked: None,
        attempts: &world.attempts,
        siblings: &[],
        renew_before: None,
        directories: &["https://other.example/dir"],
        jitter: 0.0,
    });
    assert!(elsewhere.at <= world.now, "each CA counts for itself");
}

#[test]
fn a_second_key_type_counts_for_the_same_names() {
    let mut rsa = Attempts::default();
    for _ in 0..4 {
        rsa.begin(T, CA);
        rsa.succeed();
    }
    let situation = Situation {
        now: T + HOUR,
        held: None,
        asked: None,
        attempts: &Attempts::default(),
        siblings: &[&rsa],
        renew_before: None,
        directories: &[CA],
        jitter: 0.0,
    };
    assert_eq!(next(&situation).at, T + 7 * DAY);
    let mut fewer = rsa.clone();
    fewer.orders.pop();
    assert!(next(&Situation { siblings: &[&fewer], ..situation }).at <= T);
}

#[test]
fn failures_delay_the_order_but_not_the_question() {
    let mut world = World::of(90 * DAY);
    world.hold(T - 80 * DAY);
    world.asked = Some(Asked { at: T, serial: String::new(), window: None });
    for _ in 0..20 {
        world.attempts.begin(T, CA);
        world.attempts.fail(T, CA, &IssueError::new(Stage::Account, Fault::Ca, "x"), 0.0);
    }
    assert_eq!(world.next(), Next { at: T + 12 * HOUR, action: Action::AskWindow });
}

#[test]
fn a_window_in_the_first_quarter_of_a_life_is_followed() {
    let mut world = World::of(90 * DAY);
    world.hold(T);
    let (start, end) = (T + 2 * DAY, T + 3 * DAY);
    let window = RenewalWindow { start, end, explanation: None, retry_after: 0 };
    world.asked = Some(Asked { at: T, serial: String::new(), window: Some(window) });
    let due = order(&world.situation());
    assert!((start..end).contains(&due.at), "{due:?}");
}
