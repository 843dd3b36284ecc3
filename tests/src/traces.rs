//! Editing traces: what people really typed, key by key, to be typed again through whatever is under test.
//!
//! The files are those of `josephg/editing-traces` (CC BY 4.0), read from the directory named by `FORESHORE_TRACES`, or
//! `../shared/traces` beside the workspace; where a file is absent, [`Trace::load`] says so and a test prints that it was
//! skipped. [`generate`] makes concurrent traces from a seed where no file is at hand.
//!
//! A *sequential* trace is one agent's, each transaction standing on the one before. A *concurrent* trace is a graph: a
//! transaction applies to the merge of its parents. Both have the same shape here: a sequential one is a graph that is a
//! line.
//!
//! **Invariants**, checked on reading: parents precede their children; an agent's transaction has the agent's previous
//! one among its ancestors; what an agent has seen only grows. Positions in a [`Patch`] count Unicode code points, as in
//! the files; [`Patch::in_utf16`] and [`in_code_units`] turn them into the code units that documents use.

mod generate;
mod replay;

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

pub use generate::{Shape, generate};
pub use replay::{Replica, in_code_units, replay};

/// A graph of transactions and the text it ends in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The text before the first transaction.
    pub start: String,
    /// The text after merging everything.
    pub end: String,
    /// How many agents typed.
    pub agents: usize,
    /// In an order in which parents come first.
    pub txns: Vec<Txn>,
}

/// One transaction: what one agent did to the merge of `parents`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Txn {
    /// Indexes of transactions, ascending.
    pub parents: Vec<usize>,
    /// Who.
    pub agent: usize,
    /// One after the other, each on the text that the one before left.
    pub patches: Vec<Patch>,
}

/// Replaces `deleted` code points at code point `at` by `inserted`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// Where, in code points.
    pub at: usize,
    /// How many code points go.
    pub deleted: usize,
    /// What comes.
    pub inserted: String,
}

/// A patch in UTF-16 code units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Splice<'a> {
    /// Where, in code units.
    pub at: usize,
    /// How many code units go.
    pub deleted: usize,
    /// What comes.
    pub inserted: &'a str,
}

impl Patch {
    /// The same patch in UTF-16 code units of `text`, the text it applies to.
    pub fn in_utf16(&self, text: &str) -> Splice<'_> {
        let units = |from: usize, count: usize| text.chars().skip(from).take(count).map(char::len_utf16).sum();
        Splice { at: units(0, self.at), deleted: units(self.at, self.deleted), inserted: &self.inserted }
    }
}

impl Trace {
    /// Reads `NAME.json.gz`; `None` where the file is absent.
    pub fn load(name: &str) -> anyhow::Result<Option<Self>> {
        let file = directory().join(format!("{name}.json.gz"));
        if !file.exists() {
            return Ok(None);
        }
        let mut json = String::new();
        let bytes = std::fs::File::open(&file).with_context(|| format!("{} does not open", file.display()))?;
        flate2::read::GzDecoder::new(bytes).read_to_string(&mut json)?;
        Self::parse(&json).with_context(|| format!("{} is not a trace", file.display())).map(Some)
    }

    /// As [`Trace::load`], and says on standard error that the caller's test is skipped where the file is absent.
    pub fn load_or_say_skipped(name: &str) -> Option<Self> {
        let trace = Self::load(name).expect("a trace that is there is well formed");
        if trace.is_none() {
            eprintln!("SKIPPED: no {name}.json.gz in {}; set FORESHORE_TRACES", directory().display());
        }
        trace
    }

    /// Reads the published JSON form.
    pub fn parse(json: &str) -> anyhow::Result<Self> {
        let json: Value = serde_json::from_str(json)?;
        let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
        let concurrent = json["kind"] == "concurrent";
        let agents = if concurrent { number(&json["numAgents"])? } else { 1 };
        let list = json["txns"].as_array().context("no txns")?;
        let mut txns = Vec::with_capacity(list.len());
        for (index, txn) in list.iter().enumerate() {
            let parents = match concurrent {
                true => {
                    txn["parents"].as_array().context("no parents")?.iter().map(number).collect::<Result<_, _>>()?
                }
                false => index.checked_sub(1).into_iter().collect(),
            };
            let agent = if concurrent { number(&txn["agent"])? } else { 0 };
            let patches =
                txn["patches"].as_array().context("no patches")?.iter().map(patch).collect::<Result<_, _>>()?;
            txns.push(Txn { parents, agent, patches });
        }
        let trace = Self { start: text("startContent"), end: text("endContent"), agents, txns };
        trace.check()?;
        Ok(trace)
    }

    /// Whether every inserted character is one UTF-16 code unit, so that positions in code points and in code units agree.
    pub fn is_basic_plane(&self) -> bool {
        let basic = |text: &str| text.chars().all(|c| c.len_utf16() == 1);
        basic(&self.start) && self.txns.iter().flat_map(|txn| &txn.patches).all(|patch| basic(&patch.inserted))
    }

    /// The first `count` transactions. Where they end is nobody's record: `end` is what [`replay`] gives.
    pub fn prefix(&self, count: usize) -> Self {
        let txns = self.txns[..count.min(self.txns.len())].to_vec();
        let mut prefix = Self { start: self.start.clone(), end: String::new(), agents: self.agents, txns };
        prefix.end = replay(&prefix);
        prefix
    }

    /// The transactions that no other one has as its parent, ascending.
    pub fn frontier(&self) -> Vec<usize> {
        let mut is_parent = vec![false; self.txns.len()];
        self.txns.iter().flat_map(|txn| &txn.parents).for_each(|&parent| is_parent[parent] = true);
        (0..self.txns.len()).filter(|&index| !is_parent[index]).collect()
    }

    fn check(&self) -> anyhow::Result<()> {
        let mut seen = Seen::new(self.agents);
        for (index, txn) in self.txns.iter().enumerate() {
            ensure!(txn.agent < self.agents, "transaction {index} is of agent {} of {}", txn.agent, self.agents);
            ensure!(txn.parents.iter().all(|&parent| parent < index), "transaction {index} precedes a parent");
            seen.add(index, txn).with_context(|| format!("transaction {index}"))?;
        }
        Ok(())
    }
}

/// How many transactions of each agent each transaction has seen: a vector clock, enough since an agent's transactions
/// form a line.
struct Seen {
    /// Per transaction.
    clocks: Vec<Vec<u32>>,
    /// Per agent.
    latest: Vec<Vec<u32>>,
}

impl Seen {
    fn new(agents: usize) -> Self {
        Self { clocks: Vec::new(), latest: vec![vec![0; agents]; agents] }
    }

    fn add(&mut self, index: usize, txn: &Txn) -> anyhow::Result<()> {
        debug_assert_eq!(index, self.clocks.len());
        let mut clock = vec![0; self.latest.len()];
        for &parent in &txn.parents {
            clock.iter_mut().zip(&self.clocks[parent]).for_each(|(mine, theirs)| *mine = (*mine).max(*theirs));
        }
        let latest = &mut self.latest[txn.agent];
        if clock.iter().zip(&*latest).any(|(now, before)| now < before) {
            bail!("agent {} has unseen what it had seen", txn.agent);
        }
        clock[txn.agent] += 1;
        latest.clone_from(&clock);
        self.clocks.push(clock);
        Ok(())
    }
}

fn patch(json: &Value) -> anyhow::Result<Patch> {
    let inserted = json[2].as_str().context("a patch without its text")?.to_owned();
    Ok(Patch { at: number(&json[0])?, deleted: number(&json[1])?, inserted })
}

fn number(json: &Value) -> anyhow::Result<usize> {
    Ok(usize::try_from(json.as_u64().with_context(|| format!("{json} is not a number"))?)?)
}

/// Where the files are looked for.
fn directory() -> PathBuf {
    match std::env::var_os("FORESHORE_TRACES") {
        Some(dir) => dir.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/traces"),
    }
}

#[cfg(test)]
mod tests;
