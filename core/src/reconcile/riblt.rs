//! Rateless invertible Bloom lookup tables: find the symmetric difference of two sets for bytes in proportion to it.
//!
//! From Yang, Gilad and Alizadeh, *Practical Rateless Set Reconciliation* (SIGCOMM 2024, arXiv 2402.02668). A set has
//! an endless sequence of coded symbols; symbol *i* sums the ids that map to it, and an id maps to symbol *i* with
//! probability 1/(1 + i/2). Symbols are linear, so the symbols of one set minus those of the other are the symbols of
//! the difference, from which ids are peeled one after the other once about 1.36 symbols for each of them are there
//! (1.4 to 1.8 for small differences). A prefix serves every peer, however much differs.
//!
//! ```text
//! symbol on the wire, 13 bytes: sum u64 le · check u32 le · count i8
//! ```
//!
//! - *sum*: exclusive or of the ids. *check*: exclusive or of a keyed 32-bit hash of each.
//! - *count*: how many ids, modulo 256. Peeling asks only whether the difference of two counts is ±1, and a residue
//!   answers that: a symbol of 257 ids still has to pass the check. So a count is one byte for sets of any size.
//!
//! Ids are [keyed](super::item::IdKey) hashes, so the walk of an id over the symbols starts from the id itself. Steps are
//! computed in IEEE 754 doubles with operations that the standard rounds exactly (add, multiply, divide, square root), so
//! every platform takes the same ones; frozen vectors hold that.
//!
//! - Invariant: symbols depend on the set and the key alone. A prefix kept up to date equals a fresh one.
//! - Hostile symbols: peeling stops when more ids came out than symbols went in, which no honest prefix allows. Each id
//!   touches O(log n) symbols, so work is bounded by the bytes received.
//! - It needs ids without duplicates inside one set; with duplicates it never completes, and the caller falls back.

use super::item::{IdKey, mix};
use crate::wire::{Codec, DecodeError, Reader, Writer};

mod decode;
mod encode;

pub use decode::{Decoder, Diff, Progress};
pub use encode::{Encoder, PrefixCache};

/// One coded symbol: a sum over the ids that map to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Symbol {
    sum: u64,
    check: u32,
    count: i8,
}

impl Symbol {
    /// Bytes on the wire.
    pub const LEN: usize = 13;

    /// The symbol of the difference: what maps here in `self`'s set and not in `other`'s, and the other way round.
    pub fn minus(self, other: Self) -> Self {
        Self { sum: self.sum ^ other.sum, check: self.check ^ other.check, count: self.count.wrapping_sub(other.count) }
    }

    fn toggle(&mut self, walk: &Walk, by: i8) {
        self.sum ^= walk.id;
        self.check ^= walk.check;
        self.count = self.count.wrapping_add(by);
    }

    fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

impl Codec for Symbol {
    fn encode(&self, w: &mut Writer) {
        w.u64_le(self.sum).array(&self.check.to_le_bytes()).u8(self.count as u8);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let sum = r.u64_le("symbol sum")?;
        let check = u32::from_le_bytes(r.array("symbol check")?);
        Ok(Self { sum, check, count: r.u8("symbol count")? as i8 })
    }
}

/// The keyed check of one id.
fn check_of(key: &IdKey, id: u64) -> u32 {
    (mix(id ^ key.check) >> 32) as u32
}

/// An id on its way over the symbols that it maps to: 24 bytes.
#[derive(Clone, Copy, Debug)]
struct Walk {
    id: u64,
    state: u64,
    check: u32,
    /// The symbol that the id maps to next.
    next: u32,
}

impl Walk {
    fn new(key: &IdKey, id: u64) -> Self {
        Self { id, state: mix(id ^ key.walk), check: check_of(key, id), next: 0 }
    }

    /// Moves to the following symbol.
    ///
    /// From symbol *i*, the chance to map to none of *i+1 … n* is the product of 1 − 1/(1 + j/2), which telescopes to
    /// (i+1)(i+2) / ((n+1)(n+2)), and that is ((i+1½)/(n+1½))² within a hair. The next symbol is the least n for which it
    /// is at most a uniform r: n = ⌈(i+1½)/√r − 1½⌉. The root depends on the generator alone, so a processor works on
    /// several steps at once.
    fn advance(&mut self) {
        // A linear congruential generator with a multiplier of Steele and Vigna (2021); its upper half is used.
        self.state = self.state.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let uniform = (self.state >> 32) as i64 as f64 + 1.0;
        let stretch = (4_294_967_296.0 / uniform).sqrt();
        // Truncating and adding one is the ceiling but for whole numbers, and always moves on.
        let least = ((f64::from(self.next) + 1.5) * stretch - 1.5) as i64 + 1;
        self.next = least.min(i64::from(u32::MAX)) as u32;
    }

    /// Adds or removes the id in every symbol of `cells` from where it stands; `cells` begin with symbol `start`.
    fn apply(&mut self, cells: &mut [Symbol], start: u32, by: i8) {
        let end = start.saturating_add(cells.len() as u32);
        while self.next < end {
            cells[(self.next - start) as usize].toggle(self, by);
            self.advance();
        }
    }
}

#[cfg(test)]
mod tests;
