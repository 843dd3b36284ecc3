//! Peeling the difference out of two prefixes.

use super::{Symbol, Walk, check_of};
use crate::reconcile::item::IdKey;

/// The ids that one side has and the other lacks, each list sorted and without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Ids that only the decoding side has.
    pub only_mine: Vec<u64>,
    /// Ids that only the other side has.
    pub only_theirs: Vec<u64>,
}

impl Diff {
    /// Number of ids on both lists.
    pub fn len(&self) -> usize {
        self.only_mine.len() + self.only_theirs.len()
    }

    /// Whether the sets are equal.
    pub fn is_empty(&self) -> bool {
        self.only_mine.is_empty() && self.only_theirs.is_empty()
    }

    /// Sorts both lists and leaves each id once.
    pub(in crate::reconcile) fn sort(&mut self) {
        for ids in [&mut self.only_mine, &mut self.only_theirs] {
            ids.sort_unstable();
            ids.dedup();
        }
    }
}

/// How far a decoder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More symbols are needed.
    NeedMore,
    /// Every difference is known.
    Complete,
    /// The symbols are not those of two sets under this key: bad luck of one in billions, ids that occur twice in one
    /// set, or a hostile peer. More symbols would not help.
    Inconsistent,
}

/// Subtracts own symbols from a peer's and peels ids out of what is left.
///
/// Holds 16 bytes a symbol and 24 an id that was found. Work is O(log n) a found id, and no more ids are found than symbols were
/// received.
#[derive(Debug, Clone)]
pub struct Decoder {
    key: IdKey,
    cells: Vec<Symbol>,
    found: Vec<(Walk, i8)>,
    /// How many symbols of the difference were empty when they came.
    empty: usize,
    progress: Progress,
}

impl Decoder {
    /// A decoder for symbols under `key`.
    pub fn new(key: IdKey) -> Self {
        Self { key, cells: Vec::new(), found: Vec::new(), empty: 0, progress: Progress::NeedMore }
    }

    /// How many symbols have been taken.
    pub fn taken(&self) -> usize {
        self.cells.len()
    }

    /// How many ids have been found so far.
    pub fn found(&self) -> usize {
        self.found.len()
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Takes the next symbols of both sides, from symbol [`Decoder::taken`] on. Excess of the longer slice is ignored.
    pub fn push(&mut self, theirs: &[Symbol], mine: &[Symbol]) -> Progress {
        if self.progress != Progress::NeedMore {
            return self.progress;
        }
        let start = self.cells.len();
        self.cells.extend(theirs.iter().zip(mine).map(|(their, my)| their.minus(*my)));
        self.empty += self.cells[start..].iter().filter(|cell| cell.is_zero()).count();
        for (walk, sign) in &mut self.found {
            walk.apply(&mut self.cells[start..], start as u32, sign.wrapping_neg());
        }
        self.progress = self.peel(start);
        self.progress
    }

    /// How many ids differ, by how many symbols of the difference are empty: a far better estimate than a sketch once
    /// about as many symbols have come as ids differ. `None` as long as too few are empty.
    pub fn estimate(&self) -> Option<u64> {
        /// Enough for a standard error of about 10 %, less for more symbols.
        const ENOUGH: usize = 24;
        if self.empty < ENOUGH {
            return None;
        }
        // Expected emptiness falls as the difference grows; halve the interval in which it fits what was seen.
        let (mut low, mut high) = (0, 8 * self.cells.len() as u64);
        while low < high {
            let middle = low.midpoint(high);
            if expected_empty(self.cells.len(), middle) > self.empty as f64 {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Some(low)
    }

    /// The difference, once [`Progress::Complete`].
    pub fn finish(self) -> Option<Diff> {
        if self.progress != Progress::Complete {
            return None;
        }
        let mut diff = Diff::default();
        for (walk, sign) in self.found {
            if sign > 0 { diff.only_theirs.push(walk.id) } else { diff.only_mine.push(walk.id) }
        }
        diff.sort();
        Some(diff)
    }

    fn peel(&mut self, start: usize) -> Progress {
        let mut pure: Vec<u32> =
            (start..self.cells.len()).filter(|i| self.is_pure(&self.cells[*i])).map(|i| i as u32).collect();
        while let Some(index) = pure.pop() {
            // The cell may have been emptied since it was noted.
            let cell = self.cells[index as usize];
            if !self.is_pure(&cell) {
                continue;
            }
            if self.found.len() >= self.cells.len() {
                return Progress::Inconsistent;
            }
            self.take_out(&cell, &mut pure);
        }
        self.judge()
    }

    /// Removes a found id from every symbol so far, noting those that become pure.
    fn take_out(&mut self, cell: &Symbol, pure: &mut Vec<u32>) {
        let mut walk = Walk::new(&self.key, cell.sum);
        while (walk.next as usize) < self.cells.len() {
            let index = walk.next;
            let touched = &mut self.cells[index as usize];
            touched.toggle(&walk, cell.count.wrapping_neg());
            if matches!(touched.count, 1 | -1) {
                pure.push(index);
            }
            walk.advance();
        }
        self.found.push((walk, cell.count));
    }

    /// Symbol 0 holds every id, so it is empty once all are found.
    fn judge(&self) -> Progress {
        let Some(first) = self.cells.first() else {
            return Progress::NeedMore;
        };
        if first.sum != 0 || first.check != 0 {
            return Progress::NeedMore;
        }
        if !self.cells.iter().all(Symbol::is_zero) {
            return Progress::Inconsistent;
        }
        let mut ids: Vec<u64> = self.found.iter().map(|(walk, _)| walk.id).collect();
        ids.sort_unstable();
        let unique = ids.windows(2).all(|pair| pair[0] != pair[1]);
        if unique { Progress::Complete } else { Progress::Inconsistent }
    }

    fn is_pure(&self, cell: &Symbol) -> bool {
        matches!(cell.count, 1 | -1) && cell.check == check_of(&self.key, cell.sum)
    }
}

/// How many of the first `symbols` symbols are empty on average if `differences` ids differ: the sum of
/// (1 − 1/(1 + i/2)) to the power of the differences, taken at some evenly spaced *i*.
fn expected_empty(symbols: usize, differences: u64) -> f64 {
    const POINTS: usize = 128;
    let points = POINTS.min(symbols);
    let stride = symbols as f64 / points as f64;
    let at = |k: usize| {
        let i = (k as f64 + 0.5) * stride;
        power(i / (i + 2.0), differences)
    };
    (0..points).map(at).sum::<f64>() * stride
}

/// Repeated squaring: `powi` may differ in the last bit from platform to platform.
fn power(mut base: f64, mut exponent: u64) -> f64 {
    let mut product = 1.0;
    while exponent > 0 {
        if exponent & 1 == 1 {
            product *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    product
}
