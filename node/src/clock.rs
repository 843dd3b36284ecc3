//! One clock for the peer and for the commands that it tells until when they may act.

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds on a clock that every process of the machine shares and that goes on while the machine sleeps.
pub(crate) fn now_millis() -> u64 {
    #[cfg(target_os = "linux")]
    const CLOCK: ClockId = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: ClockId = ClockId::Monotonic;
    let now = clock_gettime(CLOCK);
    // A clock that counts from the start of the machine is not negative.
    u64::try_from(now.tv_sec).unwrap_or(0) * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}
