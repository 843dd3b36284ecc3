//! What makes a change admissible, checked without opening the document.
//!
//! [`Log::stage`] takes a batch of parsed chunks and the verified endorsements that go with them, and splits the batch
//! into what is admitted now, what waits, and what is refused for good. A change is admitted when
//!
//! 1. its own form is right: not empty, no extra bytes, dependencies and actors sorted and distinct;
//! 2. all its dependencies are admitted;
//! 3. it stands in its place: the author's previous change is among its *direct* dependencies, no other change has its
//!    (actor, seq), every actor it names occurs in its ancestry, and its op counters follow its dependencies' closely
//!    (Automerge allocates such gaps on reload, and panics on several of the others);
//! 4. somebody answers for it: it is on the chain below an endorsed tip, or is a template layer ([`super::layer`]) that
//!    an admitted change depends on.
//!
//! The chain below a tip is admitted whole, down to what was admitted before, or not at all: a part of it has no endorsement
//! of its own that could be shown to others. Where the signer itself is here it makes one ([`TipKind::Torn`]).
//!
//! **Purity.** The largest set that satisfies these rules is unique, and so the admitted set and the heads are the same
//! for the same chunks and endorsements, in whatever order and batches they came. The one exception is equivocation:
//! the first of two changes at one (actor, seq) stays and the second is reported with both hashes, until a proof of it is
//! among the facts and comes in here as a [`Contest`], which puts both chains out from there on.
//!
//! Not here: signatures and rights. A tip that is passed in is one that its device signed and may write.

use std::collections::{BTreeMap, VecDeque};

use smallvec::SmallVec;
use thiserror::Error;

use super::chunk::Chunk;
use super::log::{ActorSet, Log, RowIx};
use crate::id::{Actor, ChangeHash};

/// Most direct dependencies of a change. A document with more heads than this is merged in steps.
pub const MAX_DEPS: usize = 4_096;
/// Largest distance of a change's first op from its dependencies' last: Automerge fills the gap when it loads a
/// document, so a change that leaps ahead would cost every peer memory. Concurrent branches leap by what the longer one
/// has.
pub const MAX_OP_GAP: u64 = 1 << 16;
/// Largest op counter: half of what Automerge's 32 bits hold, so that no sum of two overflows.
pub const MAX_OP: u64 = 1 << 31;
/// Most actors in the ancestry of a change. Sets of them are kept as bits, so this bounds a set to 2 KiB.
pub const MAX_ACTORS: u32 = 1 << 14;

/// Why a change is refused for good: no later arrival can make it admissible. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IngestError {
    /// It has no op, and is not the first of its actor below which nothing is.
    #[error("the change is empty")]
    Empty,
    /// Bytes follow its columns.
    #[error("{bytes} extra bytes follow the change")]
    ExtraBytes {
        /// How many.
        bytes: usize,
    },
    /// More than [`MAX_DEPS`] dependencies.
    #[error("{count} dependencies are over the bound of {MAX_DEPS}")]
    TooManyDeps {
        /// How many.
        count: usize,
    },
    /// Dependencies out of order or one twice.
    #[error("dependencies are not sorted and distinct")]
    DepsUnsorted,
    /// Named actors out of order, one twice, or the author among them.
    #[error("named actors are not sorted, distinct and other than the author")]
    ActorsUnsorted,
    /// The author's previous change is not where it must be.
    #[error("change {seq} of actor does not directly follow its predecessor")]
    NotChained {
        /// The author.
        actor: Actor,
        /// The change's seq.
        seq: u64,
    },
    /// Two different changes of one actor with one seq.
    #[error("actor made both {known} and {other} as its change {seq}")]
    Equivocation {
        /// The actor.
        actor: Actor,
        /// The contested seq.
        seq: u64,
        /// The change that was there first.
        known: ChangeHash,
        /// The refused one.
        other: ChangeHash,
    },
    /// An op names an actor that has made nothing the change depends on.
    #[error("the change names an actor that does not occur in its ancestry")]
    UnknownActor {
        /// The actor.
        actor: Actor,
    },
    /// The op counters do not follow the dependencies'.
    #[error("first op {start_op} does not follow {after} within {MAX_OP_GAP}")]
    StartOp {
        /// Counter of the first op.
        start_op: u64,
        /// The largest counter among the dependencies.
        after: u64,
    },
    /// Op counters beyond [`MAX_OP`].
    #[error("last op {max_op} is beyond {MAX_OP}")]
    MaxOp {
        /// Counter of the last op.
        max_op: u64,
    },
    /// More than [`MAX_ACTORS`] actors in the ancestry.
    #[error("{count} actors are over the bound of {MAX_ACTORS}")]
    TooManyActors {
        /// How many.
        count: u32,
    },
    /// Its author is proved to have signed two chains that part at or below it.
    #[error("actor contradicted itself from its change {seq} on")]
    Contested {
        /// The author.
        actor: Actor,
        /// The number from which on nothing of it counts.
        seq: u64,
    },
    /// It depends on a refused change.
    #[error("the change depends on {dep}, which is refused")]
    DependsOnRefused {
        /// The refused one.
        dep: ChangeHash,
    },
}

/// How an endorsement covers changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TipKind {
    /// The change and, by direct dependency, all earlier ones of its actor: all of them or none.
    Chain,
    /// The same, by a signer that is here and signs anew what of the chain stands when the rest does not: as much of it is
    /// admitted as there is.
    Torn,
    /// This change alone, which may lack its direct predecessor: changes of foreign actors.
    Single,
}

/// An endorsement whose signature and right to write were verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndorsedTip {
    /// The actor.
    pub actor: Actor,
    /// The change's seq.
    pub seq: u64,
    /// The change.
    pub hash: ChangeHash,
    /// What it covers.
    pub kind: TipKind,
}

/// Two changes of one actor, both endorsed by its device, that are said to lie on different chains. What is said holds
/// unless the chain of the higher one, as far as it is here, runs through the lower one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contest {
    /// The actor.
    pub actor: Actor,
    /// From which of its numbers on nothing counts, on either chain.
    pub seq: u64,
    /// The change with the higher number.
    pub high: (u64, ChangeHash),
    /// The other one.
    pub low: (u64, ChangeHash),
}

/// A chunk that cannot be admitted yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The chunk.
    pub chunk: Chunk,
    /// Dependencies that are neither admitted nor in the batch: to be fetched.
    pub missing: Vec<ChangeHash>,
    /// Whether an endorsed tip covers it. What is not covered was not asked for.
    pub endorsed: bool,
}

/// The verdict on a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Staged {
    /// To be stored and then passed to [`Log::admit`], in this order, which is topological.
    pub admitted: Vec<Chunk>,
    /// For the orphan buffer.
    pub waiting: Vec<Waiting>,
    /// Refused for good, by hash.
    pub refused: Vec<(ChangeHash, IngestError)>,
    /// Of the changes refused as [`IngestError::Equivocation`]: actor, number, and the endorsed change on whose chain each is.
    pub contradicted: Vec<(Actor, u64, ChangeHash)>,
    /// Chunks that were here already.
    pub duplicates: usize,
}

impl Log {
    /// Judges a batch; see the module. The log itself does not change. Cost: about 2 µs a chunk, whatever
    /// the length of the log.
    pub fn stage(&self, batch: Vec<Chunk>, tips: &[EndorsedTip]) -> Staged {
        self.stage_contested(batch, tips, &[])
    }

    /// The same, where something is said against chains of the document.
    pub fn stage_contested(&self, batch: Vec<Chunk>, tips: &[EndorsedTip], contests: &[Contest]) -> Staged {
        let mut stage = Stage::new(self, batch);
        stage.contest(contests);
        stage.cover(tips);
        let chains = stage.groups.clone();
        for round in 0..=MAX_YIELDS {
            stage.judge();
            stage.hold_incomplete_chains();
            // Whoever has made room often enough is judged as it stands: the last round is never left open.
            if round == MAX_YIELDS || !stage.yield_to_complete_chains() {
                break;
            }
            stage.groups.clone_from(&chains);
        }
        stage.hold_unused_layers();
        stage.finish()
    }
}

/// How often what waits makes room for what contradicts it and does not have to wait. An author that contradicts itself more
/// often than that in one batch is refused the rest until the next.
const MAX_YIELDS: usize = 8;

/// The checks of a change's own form.
pub fn check_form(chunk: &Chunk) -> Result<(), IngestError> {
    let sorted = |deps: &[ChangeHash]| deps.windows(2).all(|pair| pair[0] < pair[1]);
    let count = chunk.deps().len();
    // What Automerge writes for a document that is made without content; later ones would be history that says nothing.
    let founds = chunk.seq() == 1 && count == 0;
    if chunk.op_count() == 0 && !founds {
        Err(IngestError::Empty)
    } else if chunk.extra_len() > 0 {
        Err(IngestError::ExtraBytes { bytes: chunk.extra_len() })
    } else if count > MAX_DEPS {
        Err(IngestError::TooManyDeps { count })
    } else if !sorted(chunk.deps()) {
        Err(IngestError::DepsUnsorted)
    } else if !chunk.other_actors().is_sorted_by(|a, b| a < b) || chunk.other_actors().contains(chunk.actor()) {
        Err(IngestError::ActorsUnsorted)
    } else if chunk.max_op() > MAX_OP {
        Err(IngestError::MaxOp { max_op: chunk.max_op() })
    } else {
        Ok(())
    }
}

/// Where a dependency is.
#[derive(Debug, Clone, Copy)]
enum Dep {
    Log(RowIx),
    Pool(usize),
    Unknown(ChangeHash),
}

/// What became of a chunk of the batch.
#[derive(Debug)]
enum Fate {
    /// Not judged yet.
    Open,
    /// Admissible as far as it goes.
    Good,
    /// Waits: for a dependency, an endorsement, or the rest of its chain.
    Held,
    Refused(IngestError),
}

struct Entry {
    chunk: Chunk,
    deps: SmallVec<[Dep; 2]>,
    children: SmallVec<[usize; 2]>,
    /// The chain it belongs to, if an endorsed tip covers it.
    group: Option<usize>,
    /// Endorsed by itself, so that it may lack its direct predecessor.
    single: bool,
    /// A chain was followed through here.
    walked: bool,
    /// Left out: it waits for the rest of its chain, and what contradicts it does not.
    yields: bool,
    fate: Fate,
    /// Actors in its ancestry, itself included; once it is good.
    ancestry: ActorSet,
}

/// A batch while it is judged.
struct Stage<'l> {
    log: &'l Log,
    /// Sorted by hash.
    pool: Vec<Entry>,
    /// Members of each chain that stands or falls as a whole.
    groups: Vec<Vec<usize>>,
    /// The endorsed change of each chain.
    tips: Vec<ChangeHash>,
    /// Topological order of the pool.
    order: Vec<usize>,
    /// Numbers of actors that the log does not know yet.
    new_actors: BTreeMap<Actor, u32>,
    /// From which number on changes of an actor are out.
    contested: BTreeMap<Actor, u64>,
    /// Good entries by actor number and seq.
    by_seq: BTreeMap<(u32, u64), usize>,
    duplicates: usize,
}

impl<'l> Stage<'l> {
    fn new(log: &'l Log, mut batch: Vec<Chunk>) -> Self {
        let offered = batch.len();
        batch.sort_unstable_by_key(Chunk::hash);
        batch.dedup_by_key(|chunk| chunk.hash());
        batch.retain(|chunk| !log.contains(&chunk.hash()));
        let duplicates = offered - batch.len();
        let resolve = |hash: &ChangeHash| match log.index_of(hash) {
            Some(index) => Dep::Log(index),
            None => batch.binary_search_by_key(hash, Chunk::hash).map_or(Dep::Unknown(*hash), Dep::Pool),
        };
        let deps: Vec<SmallVec<[Dep; 2]>> =
            batch.iter().map(|chunk| chunk.deps().iter().map(resolve).collect()).collect();
        let pool = batch.into_iter().zip(deps).map(|(chunk, deps)| Entry::new(chunk, deps)).collect();
        let mut stage = Self {
            log,
            pool,
            groups: Vec::new(),
            tips: Vec::new(),
            order: Vec::new(),
            new_actors: BTreeMap::new(),
            contested: BTreeMap::new(),
            by_seq: BTreeMap::new(),
            duplicates,
        };
        stage.sort();
        stage
    }

    /// Kahn's algorithm. Hashes make cycles impossible, so every entry gets its place.
    fn sort(&mut self) {
        let mut open: Vec<usize> = self.pool.iter().map(|entry| entry.pool_deps().count()).collect();
        for index in 0..self.pool.len() {
            for dep in self.pool[index].pool_deps() {
                self.pool[dep].children.push(index);
            }
        }
        let mut ready: VecDeque<usize> = (0..self.pool.len()).filter(|index| open[*index] == 0).collect();
        while let Some(index) = ready.pop_front() {
            self.order.push(index);
            for child in &self.pool[index].children {
                open[*child] -= 1;
                if open[*child] == 0 {
                    ready.push_back(*child);
                }
            }
        }
    }

    fn contest(&mut self, contests: &[Contest]) {
        let standing: Vec<&Contest> = contests.iter().filter(|contest| !self.is_cleared(contest)).collect();
        for contest in standing {
            let first = self.contested.entry(contest.actor.clone()).or_insert(contest.seq);
            *first = contest.seq.min(*first);
        }
    }

    /// Whether the chain of the higher change is here and runs through the lower one.
    fn is_cleared(&self, contest: &Contest) -> bool {
        let ((high_seq, high), (low_seq, low)) = (contest.high, contest.low);
        if high_seq == low_seq {
            return false;
        }
        let in_log = || self.log.by_seq(&contest.actor, low_seq).is_some_and(|row| row.hash() == low);
        let of_actor = |row: &super::log::Row| self.log.actor_of(row) == &contest.actor;
        let mut at = match self.pool.binary_search_by_key(&high, |entry| entry.chunk.hash()) {
            Ok(at) => at,
            Err(_) => return self.log.row(&high).is_some_and(of_actor) && in_log(),
        };
        if self.pool[at].chunk.actor() != &contest.actor || self.pool[at].chunk.seq() != high_seq {
            return false;
        }
        loop {
            if self.pool[at].chunk.seq() == low_seq {
                return self.pool[at].chunk.hash() == low;
            }
            match self.previous(at) {
                Some(below) => at = below,
                None => return self.previous_in_log(at) && in_log(),
            }
        }
    }

    fn is_contested(&self, actor: &Actor, seq: u64) -> bool {
        self.contested.get(actor).is_some_and(|first| seq >= *first)
    }

    /// Whether the author's previous change is a direct dependency and in the log.
    fn previous_in_log(&self, index: usize) -> bool {
        let chunk = &self.pool[index].chunk;
        self.pool[index].deps.iter().any(|dep| match dep {
            Dep::Log(row) => {
                let row = self.log.at(*row);
                row.seq() + 1 == chunk.seq() && self.log.actor_of(row) == chunk.actor()
            }
            _ => false,
        })
    }

    /// Finds the chain below each tip. A chain ends where another begins, so that each entry is in one chain at most.
    fn cover(&mut self, tips: &[EndorsedTip]) {
        let mut found: Vec<(&EndorsedTip, usize)> = tips
            .iter()
            .filter(|tip| !self.is_contested(&tip.actor, tip.seq))
            .filter_map(|tip| {
                let index = self.pool.binary_search_by_key(&tip.hash, |entry| entry.chunk.hash()).ok()?;
                let chunk = &self.pool[index].chunk;
                (chunk.actor() == &tip.actor && chunk.seq() == tip.seq).then_some((tip, index))
            })
            .collect();
        // Single changes first, then each actor's chains from the oldest tip up.
        let single = |tip: &EndorsedTip| tip.kind == TipKind::Single;
        found.sort_unstable_by(|(a, i), (b, j)| (single(b), &a.actor, a.seq, i).cmp(&(single(a), &b.actor, b.seq, j)));
        for (tip, tip_index) in found {
            let group = self.groups.len();
            let mut members = Vec::new();
            if tip.kind == TipKind::Single {
                self.pool[tip_index].single = true;
                if self.pool[tip_index].join(group) {
                    members.push(tip_index);
                }
            } else {
                let mut next = Some(tip_index);
                while let Some(index) = next.filter(|index| !self.pool[*index].walked) {
                    self.pool[index].walked = true;
                    if self.pool[index].join(group) {
                        members.push(index);
                    }
                    next = self.previous(index);
                }
            }
            if tip.kind == TipKind::Torn {
                // What stands on a change that falls falls with it; what lies below it does not.
                members.clear();
            }
            self.groups.push(members);
            self.tips.push(tip.hash);
        }
    }

    /// The author's previous change, if it is a direct dependency and in the pool.
    fn previous(&self, index: usize) -> Option<usize> {
        let chunk = &self.pool[index].chunk;
        self.pool[index].pool_deps().find(|dep| {
            let dep = &self.pool[*dep].chunk;
            dep.actor() == chunk.actor() && dep.seq() + 1 == chunk.seq()
        })
    }

    /// Checks every entry, dependencies first.
    fn judge(&mut self) {
        for index in std::mem::take(&mut self.order) {
            self.order.push(index);
            let fate = self.judge_one(index);
            self.pool[index].fate = fate;
        }
    }

    fn judge_one(&mut self, index: usize) -> Fate {
        let entry = &self.pool[index];
        if entry.yields {
            return Fate::Held;
        }
        if let Err(error) = check_form(&entry.chunk) {
            return Fate::Refused(error);
        }
        if let Some(seq) = self.contested.get(entry.chunk.actor()).filter(|first| entry.chunk.seq() >= **first) {
            return Fate::Refused(IngestError::Contested { actor: entry.chunk.actor().clone(), seq: *seq });
        }
        let refused = entry.pool_deps().find(|dep| matches!(self.pool[*dep].fate, Fate::Refused(_)));
        if let Some(dep) = refused {
            return Fate::Refused(IngestError::DependsOnRefused { dep: self.pool[dep].chunk.hash() });
        }
        let covered = entry.group.is_some() || entry.chunk.is_layer();
        let ready = entry.deps.iter().all(|dep| match dep {
            Dep::Log(_) => true,
            Dep::Pool(dep) => matches!(self.pool[*dep].fate, Fate::Good),
            Dep::Unknown(_) => false,
        });
        if !covered || !ready {
            return Fate::Held;
        }
        match self.check_place(index) {
            Ok((actor, ancestry)) => {
                self.by_seq.insert((actor, self.pool[index].chunk.seq()), index);
                self.pool[index].ancestry = ancestry;
                Fate::Good
            }
            Err(error) => Fate::Refused(error),
        }
    }

    /// The checks of a change against its ancestry. Returns the author's number and the actors in the ancestry.
    fn check_place(&mut self, index: usize) -> Result<(u32, ActorSet), IngestError> {
        let actor = self.actor_number(index);
        let entry = &self.pool[index];
        let chunk = &entry.chunk;
        self.check_unique(chunk, actor)?;
        self.check_chained(index)?;
        let mut ancestry = ActorSet::default();
        let mut after = 0;
        for dep in &entry.deps {
            match dep {
                Dep::Log(row) => {
                    let row = self.log.at(*row);
                    after = after.max(row.max_op());
                    ancestry.union(self.log.ancestry_of(row));
                }
                Dep::Pool(dep) => {
                    after = after.max(self.pool[*dep].chunk.max_op());
                    ancestry.union(&self.pool[*dep].ancestry);
                }
                Dep::Unknown(_) => {}
            }
        }
        let start_op = chunk.start_op();
        if start_op <= after || start_op > after + MAX_OP_GAP {
            return Err(IngestError::StartOp { start_op, after });
        }
        for other in chunk.other_actors() {
            let number = self.log.actor_number(other).or_else(|| self.new_actors.get(other).copied());
            if !number.is_some_and(|number| ancestry.contains(number)) {
                return Err(IngestError::UnknownActor { actor: other.clone() });
            }
        }
        ancestry.insert(actor);
        match ancestry.len() {
            count if count > MAX_ACTORS => Err(IngestError::TooManyActors { count }),
            _ => Ok((actor, ancestry)),
        }
    }

    fn check_unique(&self, chunk: &Chunk, actor: u32) -> Result<(), IngestError> {
        let known = match self.log.by_seq(chunk.actor(), chunk.seq()) {
            Some(row) => row.hash(),
            None => match self.by_seq.get(&(actor, chunk.seq())) {
                Some(index) => self.pool[*index].chunk.hash(),
                None => return Ok(()),
            },
        };
        let (actor, seq, other) = (chunk.actor().clone(), chunk.seq(), chunk.hash());
        Err(IngestError::Equivocation { actor, seq, known, other })
    }

    fn check_chained(&self, index: usize) -> Result<(), IngestError> {
        let entry = &self.pool[index];
        let chunk = &entry.chunk;
        let chained = chunk.seq() == 1
            || self.previous_in_log(index)
            || self.previous(index).is_some()
            || (entry.single && self.previous_is_ancestor(index));
        if chained { Ok(()) } else { Err(IngestError::NotChained { actor: chunk.actor().clone(), seq: chunk.seq() }) }
    }

    /// For a change that is endorsed singly: whether its predecessor is anywhere below it.
    fn previous_is_ancestor(&self, index: usize) -> bool {
        let chunk = &self.pool[index].chunk;
        let in_log = self.log.by_seq(chunk.actor(), chunk.seq() - 1).and_then(|row| self.log.index_of(&row.hash()));
        let mut seen = vec![false; self.pool.len()];
        let mut open = vec![index];
        while let Some(at) = open.pop() {
            let below = &self.pool[at].chunk;
            if below.actor() == chunk.actor() && below.seq() + 1 == chunk.seq() {
                return true;
            }
            for dep in &self.pool[at].deps {
                match dep {
                    Dep::Log(row) if in_log.is_some_and(|low| self.log.reaches(*row, low)) => return true,
                    Dep::Pool(dep) if !std::mem::replace(&mut seen[*dep], true) => open.push(*dep),
                    _ => {}
                }
            }
        }
        false
    }

    fn actor_number(&mut self, index: usize) -> u32 {
        let actor = self.pool[index].chunk.actor();
        if let Some(number) = self.log.actor_number(actor).or_else(|| self.new_actors.get(actor).copied()) {
            return number;
        }
        let number = self.log.actor_count() + self.new_actors.len() as u32;
        self.new_actors.insert(actor.clone(), number);
        number
    }

    /// Holds back every chain that is not good as a whole, and whatever depends on it.
    fn hold_incomplete_chains(&mut self) {
        let mut open: Vec<usize> =
            (0..self.pool.len()).filter(|index| !matches!(self.pool[*index].fate, Fate::Good)).collect();
        while let Some(index) = open.pop() {
            let chain = self.pool[index].group.map(|group| std::mem::take(&mut self.groups[group]));
            let children = self.pool[index].children.clone();
            for fallen in chain.into_iter().flatten().chain(children) {
                if matches!(self.pool[fallen].fate, Fate::Good) {
                    self.pool[fallen].fate = Fate::Held;
                    open.push(fallen);
                }
            }
        }
    }

    /// A change that was refused because another one of the batch has its place, and that one waits after all: what waits
    /// may wait for ever, and must not keep out what is complete. `true`: judge once more, without what makes room.
    fn yield_to_complete_chains(&mut self) -> bool {
        let known = self.pool.iter().filter_map(|entry| match &entry.fate {
            Fate::Refused(IngestError::Equivocation { known, .. }) => Some(*known),
            _ => None,
        });
        let places = known.filter_map(|known| self.pool.binary_search_by_key(&known, |entry| entry.chunk.hash()).ok());
        let waiting: Vec<usize> = places.filter(|index| matches!(self.pool[*index].fate, Fate::Held)).collect();
        if waiting.is_empty() {
            return false;
        }
        for index in waiting {
            self.pool[index].yields = true;
        }
        self.by_seq.clear();
        self.new_actors.clear();
        for entry in &mut self.pool {
            (entry.fate, entry.ancestry) = (Fate::Open, ActorSet::default());
        }
        true
    }

    /// A layer comes in only under a change that depends on it.
    fn hold_unused_layers(&mut self) {
        for index in 0..self.pool.len() {
            let entry = &self.pool[index];
            let used = entry.children.iter().any(|child| matches!(self.pool[*child].fate, Fate::Good));
            if matches!(entry.fate, Fate::Good) && entry.group.is_none() && !used {
                self.pool[index].fate = Fate::Held;
            }
        }
    }

    fn finish(self) -> Staged {
        let mut staged = Staged { duplicates: self.duplicates, ..Staged::default() };
        let mut pool: Vec<Option<Entry>> = self.pool.into_iter().map(Some).collect();
        for index in self.order {
            let entry = pool[index].take().expect("the order names each entry once");
            match entry.fate {
                Fate::Good => staged.admitted.push(entry.chunk),
                Fate::Refused(error) => {
                    if let (IngestError::Equivocation { actor, seq, .. }, Some(group)) = (&error, entry.group) {
                        staged.contradicted.push((actor.clone(), *seq, self.tips[group]));
                    }
                    staged.refused.push((entry.chunk.hash(), error));
                }
                Fate::Open | Fate::Held => staged.waiting.push(Waiting {
                    missing: entry.missing(),
                    endorsed: entry.group.is_some(),
                    chunk: entry.chunk,
                }),
            }
        }
        staged
    }
}

impl Entry {
    fn new(chunk: Chunk, deps: SmallVec<[Dep; 2]>) -> Self {
        let (children, ancestry) = (SmallVec::new(), ActorSet::default());
        Self {
            chunk,
            deps,
            children,
            group: None,
            single: false,
            walked: false,
            yields: false,
            fate: Fate::Open,
            ancestry,
        }
    }

    /// Becomes a member of a chain, unless it is one already.
    fn join(&mut self, group: usize) -> bool {
        let free = self.group.is_none();
        self.group.get_or_insert(group);
        free
    }

    fn pool_deps(&self) -> impl Iterator<Item = usize> + use<> {
        // Not borrowed from self, so that the caller may change other entries: dependencies are few.
        let deps: SmallVec<[usize; 2]> =
            self.deps.iter().filter_map(|dep| if let Dep::Pool(index) = dep { Some(*index) } else { None }).collect();
        deps.into_iter()
    }

    fn missing(&self) -> Vec<ChangeHash> {
        self.deps.iter().filter_map(|dep| if let Dep::Unknown(hash) = dep { Some(*hash) } else { None }).collect()
    }
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
