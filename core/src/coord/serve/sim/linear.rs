//! Whether a history of one register is linearizable: each operation takes effect at one instant between its call and its
//! answer.
//!
//! The search is Wing and Gong's (1993) with Lowe's memory of what was tried (2017). A register's version goes up by one with
//! each write and answers name it, so most of the order is given, and the search is short. One whose outcome is not known may
//! have taken effect at any time after its call, or never.

use std::collections::BTreeSet;

/// What an operation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It read this.
    Read(Value),
    /// It wrote `value`, if the version was `expects` (any, if `None`), and was told the new version; `None` if it has no
    /// answer.
    Write {
        /// The version it asked for.
        expects: Option<i32>,
        /// What it wrote.
        value: u64,
        /// The version that it made.
        made: Option<i32>,
    },
    /// It was refused because of the version that it found.
    Found(i32),
}

/// What a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Value {
    /// How often it was written.
    pub version: i32,
    /// What was written last.
    pub value: u64,
}

/// One operation of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// When it was called.
    pub called: u64,
    /// When it was answered; `None` if it was not.
    pub answered: Option<u64>,
    /// What it did.
    pub effect: Effect,
}

/// What the search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order.
    Linearizable,
    /// There is none.
    Not,
    /// The search became too long.
    Undecided,
}

/// Steps after which a search gives up. Histories of the simulator need some thousand.
const MAX_STEPS: u32 = 300_000;

/// Looks for an order of a register's history that begins with `first`.
pub fn check(first: Value, history: &[Operation]) -> Verdict {
    let mut history = history.to_vec();
    history.sort_by_key(|operation| operation.called);
    let mut search =
        Search { done: vec![0; history.len().div_ceil(64)], history, tried: BTreeSet::new(), steps: 0, low: 0 };
    match search.go(first) {
        true => Verdict::Linearizable,
        false if search.steps >= MAX_STEPS => Verdict::Undecided,
        false => Verdict::Not,
    }
}

struct Search {
    history: Vec<Operation>,
    /// A bit for each operation that was put into the order.
    done: Vec<u64>,
    tried: BTreeSet<(Vec<u64>, Value)>,
    steps: u32,
    /// Everything below it is in the order.
    low: usize,
}

impl Search {
    fn is_done(&self, at: usize) -> bool {
        self.done[at / 64] >> (at % 64) & 1 == 1
    }

    fn flip(&mut self, at: usize) {
        self.done[at / 64] ^= 1 << (at % 64);
    }

    /// Operations that may come next, and whether one is left that has to.
    fn next(&self) -> (Vec<usize>, bool) {
        let mut deadline = u64::MAX;
        let mut next = Vec::new();
        for (at, operation) in self.history.iter().enumerate().skip(self.low) {
            if operation.called > deadline {
                break;
            }
            if !self.is_done(at) {
                next.push(at);
                deadline = deadline.min(operation.answered.unwrap_or(u64::MAX));
            }
        }
        next.retain(|at| self.history[*at].called <= deadline);
        (next, deadline != u64::MAX)
    }

    fn go(&mut self, state: Value) -> bool {
        self.steps += 1;
        if self.steps >= MAX_STEPS {
            return false;
        }
        let (next, left) = self.next();
        if !left {
            return true;
        }
        // What changes nothing and fits now can as well come now.
        let fits = next.iter().copied().find(|at| match self.history[*at].effect {
            Effect::Read(value) => value == state,
            Effect::Found(version) => version == state.version,
            Effect::Write { .. } => false,
        });
        if let Some(at) = fits {
            return self.with(at, state);
        }
        if !self.tried.insert((self.done.clone(), state)) {
            return false;
        }
        // What was never answered may be left out for good: everything else first.
        let mut next = next;
        next.sort_by_key(|at| self.history[*at].answered.unwrap_or(u64::MAX));
        next.into_iter().any(|at| match self.history[at].effect {
            Effect::Write { expects, value, made } => {
                let version = state.version + 1;
                let takes = expects.is_none_or(|expected| expected == state.version);
                takes && made.is_none_or(|made| made == version) && self.with(at, Value { version, value })
            }
            Effect::Read(_) | Effect::Found(_) => false,
        })
    }

    fn with(&mut self, at: usize, state: Value) -> bool {
        let low = self.low;
        self.flip(at);
        while self.low < self.history.len() && self.is_done(self.low) {
            self.low += 1;
        }
        let found = self.go(state);
        self.low = low;
        self.flip(at);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Value = Value { version: 0, value: 0 };

    fn op(called: u64, answered: u64, effect: Effect) -> Operation {
        Operation { called, answered: Some(answered), effect }
    }

    fn lost(called: u64, value: u64) -> Operation {
        Operation { called, answered: None, effect: Effect::Write { expects: None, value, made: None } }
    }

    fn write(value: u64, made: i32) -> Effect {
        Effect::Write { expects: None, value, made: Some(made) }
    }

    fn read(value: u64, version: i32) -> Effect {
        Effect::Read(Value { version, value })
    }

    #[test]
    fn a_read_sees_what_was_answered_before_it_was_asked() {
        let fresh = [op(0, 1, write(7, 1)), op(2, 3, read(7, 1))];
        assert_eq!(check(FIRST, &fresh), Verdict::Linearizable);
        let stale = [op(0, 1, write(7, 1)), op(2, 3, read(0, 0))];
        assert_eq!(check(FIRST, &stale), Verdict::Not);
        let overlapping = [op(0, 5, write(7, 1)), op(2, 3, read(0, 0)), op(3, 4, read(7, 1))];
        assert_eq!(check(FIRST, &overlapping), Verdict::Linearizable);
        let back = [op(0, 9, write(7, 1)), op(2, 3, read(7, 1)), op(4, 5, read(0, 0))];
        assert_eq!(check(FIRST, &back), Verdict::Not, "a later read goes back");
    }

    #[test]
    fn an_unknown_write_took_effect_late_or_never() {
        let never = [lost(0, 7), op(2, 3, read(0, 0)), op(90, 91, read(0, 0))];
        assert_eq!(check(FIRST, &never), Verdict::Linearizable);
        let late = [lost(0, 7), op(2, 3, read(0, 0)), op(90, 91, read(7, 1))];
        assert_eq!(check(FIRST, &late), Verdict::Linearizable);
        let twice = [lost(0, 7), op(2, 3, read(7, 1)), op(4, 5, write(8, 2)), op(6, 7, read(7, 3))];
        assert_eq!(check(FIRST, &twice), Verdict::Not, "one request, one effect");
    }

    #[test]
    fn conditions_hold_when_they_take_effect() {
        let cas = |expects, value, made| Effect::Write { expects: Some(expects), value, made: Some(made) };
        assert_eq!(check(FIRST, &[op(0, 5, cas(0, 1, 1)), op(1, 4, Effect::Found(1))]), Verdict::Linearizable);
        assert_eq!(check(FIRST, &[op(0, 5, cas(0, 1, 1)), op(1, 4, cas(0, 2, 1))]), Verdict::Not, "both won");
        assert_eq!(check(FIRST, &[op(0, 1, cas(0, 1, 1)), op(2, 3, Effect::Found(0))]), Verdict::Not);
    }

    #[test]
    fn a_lost_update_is_found_in_a_long_history() {
        let mut history: Vec<Operation> =
            (0..200).map(|n| op(10 * n, 10 * n + 15, write(n + 1, n as i32 + 1))).collect();
        history.extend((0..30).map(|n| lost(50 * n, 1_000 + n)));
        assert_eq!(check(FIRST, &history), Verdict::Linearizable);
        history.push(op(1_500, 1_501, read(3, 3)));
        assert_ne!(check(FIRST, &history), Verdict::Linearizable);
    }
}
