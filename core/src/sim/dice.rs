//! Every random choice of a simulated run, drawn from one seed.
//!
//! The stream is ChaCha12, so it is the same on every machine and in every build. [`Dice::fork`] gives a part of the run a
//! stream of its own: what one part draws then does not move what another part draws.

use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

/// A seeded source of choices.
#[derive(Debug, Clone)]
pub struct Dice(ChaCha12Rng);

impl Dice {
    /// The dice of a seed.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha12Rng::seed_from_u64(seed))
    }

    /// Dice of their own for one part of a run.
    pub fn fork(&mut self) -> Self {
        Self::new(self.bits())
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A seed for something else's generator.
    pub fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.0.fill_bytes(&mut seed);
        seed
    }

    /// A number below `n`, and 0 if `n` is 0. The bias of the multiplication is below 2⁻³² for the small `n` used here.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True in `per_mille` of 1,000 cases.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        self.below(1000) < u64::from(per_mille)
    }

    /// A time span from `low` to `high`, both included.
    pub fn span(&mut self, low: Duration, high: Duration) -> Duration {
        Duration::from_micros(self.between(low.as_micros() as u64, high.as_micros() as u64))
    }

    /// One of `items`, `None` if there is none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len() as u64) as usize)
    }

    /// Puts `items` into a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_stream() {
        let draw = |seed| {
            let mut dice = Dice::new(seed);
            (0..64).map(|_| dice.between(3, 9)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert!(draw(7).iter().all(|n| (3..=9).contains(n)));
    }

    #[test]
    fn a_fork_does_not_move_its_parent_by_what_it_draws() {
        let mut left = Dice::new(1);
        let mut right = Dice::new(1);
        left.fork().bits();
        let mut fork = right.fork();
        (0..10).for_each(|_| {
            fork.bits();
        });
        assert_eq!(left.bits(), right.bits());
    }
}
