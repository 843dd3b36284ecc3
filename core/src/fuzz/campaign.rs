//! Running a target: inputs altered from a growing set, what breaks kept with how to repeat it.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Mutator, ROOM_FACTOR, Target, Verdict};

/// Most inputs of a set that altered ones are made from.
const MAX_INPUTS: usize = 1_024;

/// How the heap is measured, where a program counts it: this library forbids what a counter needs.
#[derive(Debug, Clone, Copy)]
pub struct Meter {
    /// Begins to measure the highest level.
    pub begin: fn(),
    /// Bytes at present.
    pub now: fn() -> usize,
    /// Bytes at the highest since it was begun.
    pub peak: fn() -> usize,
}

/// An input that broke an invariant.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The target.
    pub target: &'static str,
    /// The input.
    pub input: Vec<u8>,
    /// What was broken.
    pub why: String,
}

/// One target being run.
#[derive(Debug)]
pub struct Campaign {
    target: Target,
    mutator: Mutator,
    inputs: Vec<Vec<u8>>,
    kinds: BTreeSet<u64>,
    meter: Option<Meter>,
    executions: u64,
    accepted: u64,
    most: usize,
}

impl Campaign {
    /// A campaign that begins with the target's seeds and `corpus`.
    pub fn new(target: Target, seed: u64, corpus: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut inputs = (target.seeds)();
        inputs.extend(corpus);
        let mutator = Mutator::new(seed);
        Self { target, mutator, inputs, kinds: BTreeSet::new(), meter: None, executions: 0, accepted: 0, most: 0 }
    }

    /// Measures the heap of each run. Nothing else may allocate meanwhile.
    pub fn metered(self, meter: Meter) -> Self {
        Self { meter: Some(meter), ..self }
    }

    /// Runs every input of the set as it is.
    pub fn replay(&mut self) -> Result<(), Finding> {
        for n in 0..self.inputs.len() {
            let input = self.inputs[n].clone();
            self.handle(&input)?;
        }
        Ok(())
    }

    /// Runs one altered input.
    pub fn step(&mut self) -> Result<(), Finding> {
        let pick = |mutator: &mut Mutator, inputs: &[Vec<u8>]| match inputs.len() {
            0 => Vec::new(),
            len => inputs[mutator.below(len)].clone(),
        };
        let mut input = pick(&mut self.mutator, &self.inputs);
        let other = pick(&mut self.mutator, &self.inputs);
        self.mutator.mutate(&mut input, &other, self.target.max_len);
        if let Some(repair) = self.target.repair
            && self.mutator.below(4) > 0
        {
            repair(&mut input);
        }
        let verdict = self.handle(&input)?;
        // A sort of outcome that was not seen before is a place that was not reached before.
        if self.kinds.insert(verdict.kind) || (verdict.accepted && self.mutator.below(64) == 0) {
            self.keep(input);
        }
        Ok(())
    }

    fn keep(&mut self, input: Vec<u8>) {
        if self.inputs.len() < MAX_INPUTS {
            return self.inputs.push(input);
        }
        let at = self.mutator.below(self.inputs.len());
        self.inputs[at] = input;
    }

    /// Runs one input.
    pub fn handle(&mut self, input: &[u8]) -> Result<Verdict, Finding> {
        let finding = |why| Finding { target: self.target.name, input: input.to_vec(), why };
        let before = self.meter.map(|meter| {
            (meter.begin)();
            (meter.now)()
        });
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.target.run)(input)));
        let verdict = outcome.map_err(|payload| finding(crate::sim::scenario::panic_text(&*payload)))?;
        if let (Some(meter), Some(before)) = (self.meter, before) {
            let taken = (meter.peak)().saturating_sub(before);
            let room = self.target.room + ROOM_FACTOR * input.len();
            if taken > room {
                return Err(finding(format!(
                    "{taken} bytes of heap for {} of input; {room} is the bound",
                    input.len()
                )));
            }
            self.most = self.most.max(taken);
        }
        self.executions += 1;
        self.accepted += u64::from(verdict.accepted);
        Ok(verdict)
    }

    /// Inputs that were run.
    pub fn executions(&self) -> u64 {
        self.executions
    }

    /// Inputs among them that the target took.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Kinds of outcomes seen.
    pub fn kinds(&self) -> usize {
        self.kinds.len()
    }

    /// The most heap that one input took, where it is measured.
    pub fn most_heap(&self) -> usize {
        self.most
    }
}
