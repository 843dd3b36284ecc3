//! The clocks of one simulated machine: they start anywhere, run too fast or too slow, and the wall clock jumps.

use std::time::Duration;

use super::dice::Dice;
use crate::time::{Now, Timestamp, WallTime};

/// Greatest drift in parts per million. Cheap quartz stays within 100; this is ten times worse.
pub const MAX_DRIFT_PPM: u64 = 1000;

/// A monotonic and a wall clock.
#[derive(Debug, Clone)]
pub struct Clock {
    /// Parts per million by which this clock runs fast; negative: slow.
    drift_ppm: i64,
    /// Virtual time at which `mono` and `wall` were last pinned.
    pinned_at: Timestamp,
    mono: u64,
    wall: i64,
}

impl Clock {
    /// A machine that booted some time ago, somewhere in 2026, its wall clock off by at most `error`.
    pub fn random(now: Timestamp, error: Duration, dice: &mut Dice) -> Self {
        let error = error.as_millis() as i64;
        const YEAR_2026_MS: i64 = 1_790_000_000_000;
        Self {
            drift_ppm: dice.between(0, 2 * MAX_DRIFT_PPM) as i64 - MAX_DRIFT_PPM as i64,
            pinned_at: now,
            mono: dice.below(1 << 40),
            wall: YEAR_2026_MS + dice.below(2 * error as u64) as i64 - error,
        }
    }

    /// Both readings at virtual time `now`.
    pub fn read(&self, now: Timestamp) -> Now {
        let passed = self.local(now.since(self.pinned_at));
        Now {
            mono: Timestamp::from_micros(self.mono + passed.as_micros() as u64),
            wall: WallTime(self.wall + passed.as_millis() as i64),
        }
    }

    /// The virtual time at which the monotonic clock first reads `mono` or more.
    pub fn when(&self, now: Timestamp, mono: Timestamp) -> Timestamp {
        let local = mono.as_micros().saturating_sub(self.mono);
        let denominator = 1_000_000 + self.drift_ppm as i128;
        let micros = (i128::from(local) * 1_000_000).div_ceil_to(denominator);
        now.max(self.pinned_at + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX >> 1)))
    }

    /// Moves the wall clock by `millis`, as NTP or a user does.
    pub fn jump_wall(&mut self, now: Timestamp, millis: i64) {
        self.pin(now);
        self.wall += millis;
    }

    /// A suspend: the monotonic clock stands still for `span`, the wall clock goes on. Not to be read meanwhile.
    pub fn suspend(&mut self, now: Timestamp, span: Duration) {
        self.pin(now);
        self.wall += span.as_millis() as i64;
        self.pinned_at = now + span;
    }

    /// The end of a suspend, if there is one, before its time.
    pub fn resume(&mut self, now: Timestamp) {
        if self.pinned_at > now {
            self.wall -= self.pinned_at.since(now).as_millis() as i64;
            self.pinned_at = now;
        }
    }

    /// A reboot: the monotonic clock starts elsewhere, the drift changes with the temperature.
    pub fn reboot(&mut self, now: Timestamp, dice: &mut Dice) {
        self.pin(now);
        self.mono = dice.below(1 << 40);
        self.drift_ppm = dice.between(0, 2 * MAX_DRIFT_PPM) as i64 - MAX_DRIFT_PPM as i64;
    }

    fn pin(&mut self, now: Timestamp) {
        let read = self.read(now);
        (self.mono, self.wall, self.pinned_at) = (read.mono.as_micros(), read.wall.0, now);
    }

    fn local(&self, passed: Duration) -> Duration {
        let micros = passed.as_micros() as i128;
        Duration::from_micros((micros * (1_000_000 + self.drift_ppm as i128) / 1_000_000) as u64)
    }
}

/// Division that rounds up, for positive numbers.
trait DivCeil {
    fn div_ceil_to(self, by: i128) -> i128;
}

impl DivCeil for i128 {
    fn div_ceil_to(self, by: i128) -> i128 {
        (self + by - 1) / by
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_reached_when_the_clock_says_so() {
        let mut dice = Dice::new(4);
        for _ in 0..100 {
            let born = Timestamp::from_micros(dice.below(1 << 30));
            let clock = Clock::random(born, Duration::from_secs(3600), &mut dice);
            let wanted = clock.read(born).mono + Duration::from_micros(dice.below(1 << 35));
            let due = clock.when(born, wanted);
            assert!(clock.read(due).mono >= wanted);
            let before = Timestamp::from_micros(due.as_micros().saturating_sub(2).max(born.as_micros()));
            assert!(due == born || clock.read(before).mono < wanted);
        }
    }

    #[test]
    fn a_wall_jump_leaves_the_monotonic_clock_alone() {
        let mut dice = Dice::new(5);
        let mut clock = Clock::random(Timestamp::ZERO, Duration::from_secs(3600), &mut dice);
        let at = Timestamp::from_micros(1_000_000);
        let before = clock.read(at);
        clock.jump_wall(at, -5_000);
        let after = clock.read(at);
        assert_eq!((after.mono, after.wall.0), (before.mono, before.wall.0 - 5_000));
    }
}
