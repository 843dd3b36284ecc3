//! Undo and redo of one's own changes, and of nobody else's.
//!
//! The inverse of a change is computed at the change's own heads: what leads from there back to its dependencies, in
//! terms of elements and operations rather than positions. It is then carried out at the present heads on whatever of
//! that is still the author's to take back:
//!
//! - a character or element that the change inserted is deleted, wherever it has moved; nobody else's ever is;
//! - what the change deleted is inserted again where its neighbour is now;
//! - a key or element that the change wrote gets its earlier value back unless somebody else has written it since;
//! - an object that the change made is removed unless somebody else has put something into it;
//! - a counter is moved back by what the change moved it;
//! - marks of what is left of the range become what they were.
//!
//! Committing at the present heads keeps to one actor; isolating every inverse at the old heads would need a fresh actor
//! for each. What was deleted comes back as new elements, so the manager remembers which new element stands for which
//! old one; undoing further back then finds them.
//!
//! **Bounds**: [`MAX_ENTRIES`] steps, the oldest are forgotten; [`MAX_REBORN`] remembered elements.
//!
//! Not here: clocks. The capture window is compared with times that the caller gives.

mod again;
mod carry;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use automerge::ObjId;

pub use again::Again;

use super::hot::{EditOptions, HotDocument, HotError};
use super::local::LocalChange;
use super::patch::{At, Step};
use crate::id::ChangeHash;

/// Most steps that can be undone.
pub const MAX_ENTRIES: usize = 1000;
/// Most elements that came back and are remembered; past it the oldest names are forgotten, and undoing further back
/// leaves those characters alone. About 100 bytes each.
pub const MAX_REBORN: usize = 100_000;

/// A run of own changes, each depending on the one before alone.
#[derive(Debug, Clone)]
struct Span {
    base: Vec<ChangeHash>,
    tip: ChangeHash,
}

/// What one undo takes back.
#[derive(Debug, Clone)]
struct Entry {
    spans: Vec<Span>,
    last_ms: u64,
}

/// Undo and redo for one view of one document.
#[derive(Debug)]
pub struct UndoManager {
    scope: At,
    capture_ms: u64,
    undo: VecDeque<Entry>,
    redo: Vec<Entry>,
    /// The next change begins an entry of its own.
    closed: bool,
    memory: Memory,
}

/// What the manager knows beyond its stacks.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Whoever wrote something, it may be written over.
    all_ours: bool,
    /// Operations of recorded changes: by actor, ranges of counters.
    ours: BTreeMap<Vec<u8>, Vec<(u64, u64)>>,
    /// Elements that came back: old name to new name and the object that holds it.
    reborn: BTreeMap<String, (String, ObjId)>,
    /// Objects that came back.
    objects: BTreeMap<ObjId, ObjId>,
}

impl Memory {
    fn record(&mut self, change: &LocalChange) {
        let ranges = self.ours.entry(change.actor.as_bytes().to_vec()).or_default();
        match ranges.last_mut() {
            Some(last) if change.start_op == last.1 + 1 => last.1 = change.max_op,
            _ => ranges.push((change.start_op, change.max_op)),
        }
    }

    fn is_ours(&self, id: &ObjId) -> bool {
        if self.all_ours {
            return true;
        }
        let ObjId::Id(counter, actor, _) = id else { return false };
        self.ours.get(actor.to_bytes()).is_some_and(|ranges| {
            let after = ranges.partition_point(|(start, _)| start <= counter);
            after > 0 && *counter <= ranges[after - 1].1
        })
    }

    fn remember(&mut self, old: &str, new: String, holder: &ObjId) {
        if *old != new {
            if self.reborn.len() >= MAX_REBORN {
                self.reborn.pop_first();
            }
            self.reborn.insert(old.to_owned(), (new, holder.clone()));
        }
    }

    /// The present name of an element that `obj` held; `None` if what stands for `obj` now does not hold it. Automerge
    /// panics over an element of another object.
    fn element(&self, obj: &ObjId, name: &str) -> Option<String> {
        let mut now = (name, obj);
        // Every step leads to an operation made later, so this ends.
        while let Some((next, holder)) = self.reborn.get(now.0) {
            now = (next, holder);
        }
        (*now.1 == self.object(obj)).then(|| now.0.to_owned())
    }

    /// The present name of an object.
    fn object(&self, obj: &ObjId) -> ObjId {
        let mut obj = obj;
        while let Some(next) = self.objects.get(obj) {
            obj = next;
        }
        obj.clone()
    }
}

impl UndoManager {
    /// Takes back changes at and below `scope` (empty: all of the document). Changes within `capture_ms` of the one
    /// before are one step.
    pub fn new(scope: At, capture_ms: u64) -> Self {
        Self { scope, capture_ms, undo: VecDeque::new(), redo: Vec::new(), closed: true, memory: Memory::default() }
    }

    /// Whether there is something to undo.
    pub fn can_undo(&self) -> bool {
        !self.undo.is_empty()
    }

    /// Whether there is something to redo.
    pub fn can_redo(&self) -> bool {
        !self.redo.is_empty()
    }

    /// The next change begins a step of its own.
    pub fn boundary(&mut self) {
        self.closed = true;
    }

    /// Takes note of an own change, made at `now_ms` by the caller's clock. `false`: it is outside the scope. What was
    /// undone before can no longer be redone.
    pub fn record(&mut self, hot: &mut HotDocument, change: &LocalChange, now_ms: u64) -> Result<bool, HotError> {
        let inside = self.scope.is_empty() || {
            let patches = hot.diff(&change.deps, &[change.hash])?;
            patches.iter().any(|patch| patch.at().starts_with(&self.scope) || self.scope.starts_with(patch.at()))
        };
        if !inside {
            return Ok(false);
        }
        self.memory.record(change);
        self.redo.clear();
        let span = Span { base: change.deps.clone(), tip: change.hash };
        match self.undo.back_mut() {
            Some(entry) if !self.closed && now_ms.saturating_sub(entry.last_ms) <= self.capture_ms => {
                entry.last_ms = now_ms;
                match entry.spans.last_mut() {
                    Some(last) if change.deps == [last.tip] => last.tip = change.hash,
                    _ => entry.spans.push(span),
                }
            }
            _ => self.undo.push_back(Entry { spans: vec![span], last_ms: now_ms }),
        }
        if self.undo.len() > MAX_ENTRIES {
            self.undo.pop_front();
        }
        self.closed = false;
        Ok(true)
    }

    /// Takes the last step back. `None`: there was none, or nothing of it is left to take back.
    pub fn undo(&mut self, hot: &mut HotDocument, options: &EditOptions) -> Result<Option<LocalChange>, HotError> {
        let Some(entry) = self.undo.back().cloned() else { return Ok(None) };
        let change = self.invert(hot, &entry, options)?;
        self.undo.pop_back();
        self.closed = true;
        self.redo.extend(change.as_ref().map(|change| Entry::of(change, entry.last_ms)));
        Ok(change)
    }

    /// Takes the last undo back. `None`: there was none, or nothing of it is left to take back.
    pub fn redo(&mut self, hot: &mut HotDocument, options: &EditOptions) -> Result<Option<LocalChange>, HotError> {
        let Some(entry) = self.redo.last().cloned() else { return Ok(None) };
        let change = self.invert(hot, &entry, options)?;
        self.redo.pop();
        self.closed = true;
        self.undo.extend(change.as_ref().map(|change| Entry::of(change, entry.last_ms)));
        Ok(change)
    }

    /// Makes the inverse of an entry, newest span first, as one change.
    fn invert(
        &mut self,
        hot: &mut HotDocument,
        entry: &Entry,
        options: &EditOptions,
    ) -> Result<Option<LocalChange>, HotError> {
        let mut plans = Vec::new();
        for span in entry.spans.iter().rev() {
            let tip = hot.heads_for_diff(&[span.tip])?;
            let base = hot.heads_for_diff(&span.base)?;
            let scope = self.scope.clone();
            plans.push(hot.guard(|doc| plan::invert(doc, &tip, &base, &scope))?);
        }
        let mut memory = std::mem::take(&mut self.memory);
        let result =
            hot.edit(options, |draft| plans.iter().try_for_each(|plan| carry::out(draft.tx, plan, &mut memory)));
        self.memory = memory;
        let (_, change) = result?;
        if let Some(change) = &change {
            self.memory.record(change);
        }
        Ok(change)
    }
}

impl Entry {
    fn of(change: &LocalChange, last_ms: u64) -> Self {
        Self { spans: vec![Span { base: change.deps.clone(), tip: change.hash }], last_ms }
    }
}

/// Whether a place lies in a scope.
fn within(scope: &[Step], at: &[Step]) -> bool {
    at.starts_with(scope)
}
