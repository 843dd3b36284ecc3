//! Hash chains: what makes a renewal 16 bytes.
//!
//! `value(i − 1) = BLAKE3-derive("foreshore 1 soft chain", salt ‖ value(i))[..16]`, where the salt names the lease, so a
//! table computed for one lease is of no use for another. `value(0)` is the anchor that a lease signs.

use rand_chacha::ChaCha12Rng;
use rand_core::Rng;

use super::MAX_RENEWALS;

/// A value of a chain.
pub type Preimage = [u8; 16];

/// Context of the chain's hash.
const CHAIN_CONTEXT: &str = "foreshore 1 soft chain";

/// What a chain is bound to: owner, incarnation and lease.
pub(super) type Salt = [u8; 24];

/// An owner's chain, anchor first.
#[derive(Clone)]
pub struct Chain(Vec<Preimage>);

impl Chain {
    /// A fresh chain of `count` renewals.
    pub(super) fn generate(rng: &mut ChaCha12Rng, salt: &Salt, count: u8) -> Self {
        let mut value = Preimage::default();
        rng.fill_bytes(&mut value);
        let mut values = vec![value];
        for _ in 0..count.min(MAX_RENEWALS) {
            value = step(salt, &value);
            values.push(value);
        }
        values.reverse();
        Self(values)
    }

    /// What the lease signs.
    pub fn anchor(&self) -> Preimage {
        self.0[0]
    }

    /// The value that says "alive at issue + `index` × period"; `None` past the end.
    pub fn value(&self, index: u8) -> Option<Preimage> {
        self.0.get(usize::from(index)).copied()
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What is not revealed yet must not get into a log.
        write!(f, "Chain({} values, secret)", self.0.len())
    }
}

fn step(salt: &Salt, value: &Preimage) -> Preimage {
    let mut hasher = blake3::Hasher::new_derive_key(CHAIN_CONTEXT);
    hasher.update(salt).update(value);
    *hasher.finalize().as_bytes().first_chunk().expect("32 bytes hold 16")
}

/// Whether `later` at its index leads to `earlier` at its own, which is not above it.
pub(super) fn leads(salt: &Salt, (earlier, from): (&Preimage, u8), (later, to): (&Preimage, u8)) -> bool {
    let Some(steps) = to.checked_sub(from).filter(|_| to <= MAX_RENEWALS) else { return false };
    (0..steps).fold(*later, |value, _| step(salt, &value)) == *earlier
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng;

    #[test]
    fn every_value_leads_to_every_earlier_one_and_to_no_other() {
        let salt = [7; 24];
        let chain = Chain::generate(&mut ChaCha12Rng::from_seed([1; 32]), &salt, MAX_RENEWALS);
        let value = |i: u8| chain.value(i).unwrap();
        assert_eq!(chain.value(MAX_RENEWALS + 1), None);
        for (from, to) in [(0, 0), (0, 1), (0, 64), (3, 17), (63, 64)] {
            assert!(leads(&salt, (&value(from), from), (&value(to), to)));
            assert!(!leads(&[8; 24], (&value(from), from), (&value(to), to)) || from == to);
        }
        assert!(!leads(&salt, (&value(0), 0), (&value(5), 4)), "an index that is not the value's own");
        assert!(!leads(&salt, (&value(5), 5), (&value(4), 4)), "backwards");
        assert!(!leads(&salt, (&value(0), 0), (&value(1), 200)), "more steps than a lease has");
    }

    #[test]
    fn a_chain_does_not_print_what_it_has_not_revealed() {
        let chain = Chain::generate(&mut ChaCha12Rng::from_seed([1; 32]), &[0; 24], 2);
        assert_eq!(format!("{chain:?}"), "Chain(3 values, secret)");
    }
}
