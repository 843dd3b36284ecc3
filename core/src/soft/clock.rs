//! A clock that goes on during sleep.
//!
//! The monotonic clock of most systems stands still while a machine is suspended, and leases must not. The wall clock goes
//! on, so what it gains on the monotonic one between two readings is counted as sleep. A wall clock that is set forward by
//! hand looks the same: then everything of others lapses, and comes back with its owners' next renewals. One that is set
//! back changes nothing.

use std::time::Duration;

use crate::time::{Now, Timestamp};

/// Gains below this are drift and adjustment.
const MIN_GAP: Duration = Duration::from_secs(1);

/// Counts the time that a machine slept.
#[derive(Debug, Default)]
pub struct Clock {
    last: Option<Now>,
    slept: Duration,
}

impl Clock {
    /// The time now, sleep included, and for how long the machine slept since the last reading. Call it with every reading
    /// of the machine's clocks.
    pub fn read(&mut self, now: Now) -> (Now, Duration) {
        let before = self.slept;
        if let Some(last) = self.last.replace(now) {
            let wall = Duration::from_millis(u64::try_from(now.wall.0.saturating_sub(last.wall.0)).unwrap_or(0));
            let gap = wall.saturating_sub(now.mono.since(last.mono));
            if gap >= MIN_GAP {
                self.slept += gap;
            }
        }
        (Now { mono: now.mono + self.slept, wall: now.wall }, self.slept - before)
    }

    /// When the machine's monotonic clock reads what is `at` here, unless it sleeps again.
    pub fn machine_time(&self, at: Timestamp) -> Timestamp {
        Timestamp::from_micros(at.as_micros().saturating_sub(self.slept.as_micros() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::WallTime;

    fn at(mono_ms: u64, wall_ms: i64) -> Now {
        Now { mono: Timestamp::from_micros(mono_ms * 1000), wall: WallTime(wall_ms) }
    }

    #[test]
    fn sleep_counts_and_a_clock_set_back_does_not() {
        let mut clock = Clock::default();
        let mut reads = |mono, wall| {
            let (now, slept) = clock.read(at(mono, wall));
            (now.mono.as_micros() / 1000, slept.as_millis())
        };
        assert_eq!(reads(1_000, 50_000), (1_000, 0));
        assert_eq!(reads(2_000, 51_400), (2_000, 0), "an adjustment below the least gap");
        assert_eq!(reads(3_000, 112_400), (63_000, 60_000), "a minute of sleep");
        assert_eq!(reads(4_000, 0), (64_000, 0));
        assert_eq!(clock.machine_time(at(70_000, 0).mono), at(10_000, 0).mono);
    }
}
