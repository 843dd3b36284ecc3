//! Token buckets on virtual time.

use std::time::Duration;

use crate::time::Timestamp;

const MICROS: u64 = 1_000_000;

/// How much may pass: so much a second, and so much at once after a rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Refilled a second.
    pub per_second: u64,
    /// Held at most.
    pub burst: u64,
}

/// What is left of a rate. Begins full.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    rate: Rate,
    /// In millionths, so that nothing is lost between refills.
    level: u64,
    at: Timestamp,
}

impl Bucket {
    pub(crate) fn new(rate: Rate, now: Timestamp) -> Self {
        Self { rate, level: rate.burst * MICROS, at: now }
    }

    /// Takes `cost` out; if there is not enough, how long until there is, and nothing has changed.
    pub(crate) fn take(&mut self, now: Timestamp, cost: u64) -> Result<(), Duration> {
        let gained = now.as_micros().saturating_sub(self.at.as_micros()).saturating_mul(self.rate.per_second);
        self.level = self.level.saturating_add(gained).min(self.rate.burst * MICROS);
        self.at = self.at.max(now);
        let cost = cost * MICROS;
        match cost.checked_sub(self.level) {
            None | Some(0) => {
                self.level -= cost;
                Ok(())
            }
            Some(lacks) => Err(Duration::from_micros(lacks.div_ceil(self.rate.per_second.max(1)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Over any span no more passes than the burst and what the span refills.
        #[test]
        fn never_more_than_the_rate(steps in proptest::collection::vec((0u64..2_000_000, 1u64..5_000), 1..200)) {
            let rate = Rate { per_second: 1_000, burst: 4_000 };
            let mut bucket = Bucket::new(rate, Timestamp::ZERO);
            let (mut now, mut passed) = (0, 0);
            for (pause, cost) in steps {
                now += pause;
                passed += bucket.take(Timestamp::from_micros(now), cost).map_or(0, |()| cost);
                prop_assert!(passed * MICROS <= rate.burst * MICROS + now * rate.per_second);
            }
        }
    }

    #[test]
    fn a_refusal_says_when_there_is_enough() {
        let mut bucket = Bucket::new(Rate { per_second: 100, burst: 100 }, Timestamp::ZERO);
        bucket.take(Timestamp::ZERO, 100).unwrap();
        let wait = bucket.take(Timestamp::ZERO, 50).unwrap_err();
        assert_eq!(wait, Duration::from_millis(500));
        assert!(bucket.take(Timestamp::ZERO + Duration::from_micros(499_999), 50).is_err());
        bucket.take(Timestamp::ZERO + wait, 50).unwrap();
    }
}
