//! Concurrent traces from a seed.
//!
//! Every agent types into a line of its own, in a text that all of them see and that shifts under each other's cursors.
//! No two agents ever insert at the same place at once, so that where the text ends is the same for every text CRDT and
//! every choice of actors, and can be written down without asking one.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::{Patch, Trace, Txn};

/// What the agents of a generated trace are like.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// How many type.
    pub agents: usize,
    /// How many transactions all together.
    pub txns: usize,
    /// In how many of a hundred transactions an agent first hears from another.
    pub hears: u64,
}

impl Default for Shape {
    fn default() -> Self {
        Self { agents: 3, txns: 600, hears: 15 }
    }
}

/// Letters that people type, some of them two UTF-16 code units long.
const LETTERS: [char; 12] = ['a', 'e', 'n', 't', 's', ' ', 'o', 'é', '字', '😀', '🦀', '𝄞'];

/// What ends each agent's line.
const LINE_END: char = '\n';

/// The trace of `seed`: each agent types runs, deletes now and then, and sometimes takes in all that another has.
pub fn generate(seed: u64, shape: Shape) -> Trace {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    // Per agent: its line after each of its transactions, the empty line first.
    let mut lines: Vec<Vec<Vec<char>>> = vec![vec![Vec::new()]; shape.agents];
    let mut indexes: Vec<Vec<usize>> = vec![Vec::new(); shape.agents];
    // Per agent: how many transactions of every agent it has seen.
    let mut seen = vec![vec![0; shape.agents]; shape.agents];
    let mut frontiers: Vec<Vec<usize>> = vec![Vec::new(); shape.agents];
    let mut txns = Vec::with_capacity(shape.txns);
    for index in 0..shape.txns {
        let agent = pick(&mut rng, shape.agents);
        if shape.agents > 1 && rng.next_u64() % 100 < shape.hears {
            let from = (agent + 1 + pick(&mut rng, shape.agents - 1)) % shape.agents;
            hear(&mut seen, agent, from);
            frontiers[agent] = frontier(&seen[agent], &indexes, &txns);
        }
        let before: usize = (0..agent).map(|other| lines[other][seen[agent][other]].len() + 1).sum();
        let mut line = lines[agent].last().expect("the empty line is there from the start").clone();
        let mut patch = type_something(&mut rng, &mut line);
        patch.at += before;
        txns.push(Txn { parents: std::mem::replace(&mut frontiers[agent], vec![index]), agent, patches: vec![patch] });
        lines[agent].push(line);
        indexes[agent].push(index);
        seen[agent][agent] += 1;
    }
    let end = lines.iter().flat_map(|line| line.last().into_iter().flatten().copied().chain([LINE_END])).collect();
    let start = std::iter::repeat_n(LINE_END, shape.agents).collect();
    let trace = Trace { start, end, agents: shape.agents, txns };
    trace.check().expect("what agents have seen only grows");
    trace
}

/// `to` takes in all that `from` has.
fn hear(seen: &mut [Vec<usize>], to: usize, from: usize) {
    let theirs = seen[from].clone();
    seen[to].iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine = (*mine).max(theirs));
}

/// The newest seen transaction of each agent, less those that another of them stands on.
fn frontier(seen: &[usize], indexes: &[Vec<usize>], txns: &[Txn]) -> Vec<usize> {
    let newest = seen.iter().zip(indexes).filter_map(|(&count, own)| count.checked_sub(1).map(|last| own[last]));
    let mut newest: Vec<usize> = newest.collect();
    newest.sort_unstable();
    let covered = |index: usize| newest.iter().any(|&other| other > index && stands_on(other, index, txns));
    newest.iter().copied().filter(|&index| !covered(index)).collect()
}

/// Whether `descendant` has `ancestor` below it.
fn stands_on(descendant: usize, ancestor: usize, txns: &[Txn]) -> bool {
    let mut looked = vec![false; descendant + 1];
    let mut look = vec![descendant];
    while let Some(index) = look.pop() {
        if index == ancestor {
            return true;
        }
        let below = txns[index].parents.iter().copied().filter(|&parent| parent >= ancestor);
        look.extend(below.filter(|&parent| !std::mem::replace(&mut looked[parent], true)));
    }
    false
}

/// Types somewhere in `line`, mostly where it ends.
fn type_something(rng: &mut ChaCha12Rng, line: &mut Vec<char>) -> Patch {
    let at = if rng.next_u64().is_multiple_of(4) { pick(rng, line.len() + 1) } else { line.len() };
    let deleted = if rng.next_u64().is_multiple_of(3) { pick(rng, (line.len() - at).min(4) + 1) } else { 0 };
    let inserted: Vec<char> = (0..1 + pick(rng, 3)).map(|_| LETTERS[pick(rng, LETTERS.len())]).collect();
    line.splice(at..at + deleted, inserted.iter().copied());
    Patch { at, deleted, inserted: inserted.into_iter().collect() }
}

/// A number below `below`, which is at least 1. The bias is nothing that a test could notice.
fn pick(rng: &mut ChaCha12Rng, below: usize) -> usize {
    (rng.next_u64() % below as u64) as usize
}
