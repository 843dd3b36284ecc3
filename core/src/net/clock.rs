//! The one place of the driver that reads clocks: the machine's natively, `performance.now` and `Date` in a browser.

use std::time::Duration;

use web_time::{Instant, SystemTime, UNIX_EPOCH};

use crate::time::{Now, Timestamp, WallTime};

/// Both clocks of the machine; the monotonic one counts from the clock's making.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    #[allow(clippy::disallowed_methods, reason = "the driver's one reading of the monotonic clock")]
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// Both clocks, now.
    #[allow(clippy::disallowed_methods, reason = "the driver's one reading of the wall clock")]
    pub(crate) fn now(&self) -> Now {
        // A wall clock before 1970 labels changes with 0; nothing that peers must agree on depends on it.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis();
        Now { mono: self.mono(), wall: WallTime(i64::try_from(wall).unwrap_or(i64::MAX)) }
    }

    /// The monotonic clock, now.
    pub(crate) fn mono(&self) -> Timestamp {
        Timestamp::ZERO + self.start.elapsed()
    }

    /// When `at` is reached, for a runtime's timer.
    pub(crate) fn instant(&self, at: Timestamp) -> Instant {
        self.start + Duration::from_micros(at.as_micros())
    }
}
