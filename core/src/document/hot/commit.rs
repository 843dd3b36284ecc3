//! Edits of a hot document: choosing the actor, the transaction, and what it leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use automerge::transaction::{CommitOptions, OwnedTransaction, Transactable};
use automerge::{ActorId, Automerge, Change, ReadDoc};

use super::apply::panic_text;
use super::keystroke::{self, Caret, Frame, Last};
use super::{ACTORS, HotDocument, HotError, MADE, MADE_BYTES, Made, own_hash, their_hash};
use crate::document::edit::{EditError, MAX_OP, MapDraft, Op, Splice, Tx, Written};
use crate::document::local::LocalChange;
use crate::id::{Actor, ChangeHash};
use crate::time::WallTime;

/// Furthest that a change's first operation may lie beyond its dependencies; ingest refuses more, because Automerge
/// allocates such gaps when it reads a document back.
const MAX_GAP: u64 = 1 << 16;

/// How an edit is labelled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EditOptions {
    /// Wall time. Changes keep it in whole seconds, as Automerge's convention is and as it compresses.
    pub time: WallTime,
    /// A message for the history.
    pub message: Option<String>,
}

impl EditOptions {
    /// An edit made at `time`.
    pub fn at(time: WallTime) -> Self {
        Self { time, message: None }
    }

    fn seconds(&self) -> i64 {
        self.time.0.div_euclid(1000)
    }

    fn commit(&self) -> CommitOptions {
        let options = CommitOptions::default().with_time(self.seconds());
        match &self.message {
            Some(message) => options.with_message(message.clone()),
            None => options,
        }
    }
}

/// Where a change goes: its actor, and its heads when they are not the present.
struct Plan {
    n: u32,
    actor: Actor,
    heads: Option<Vec<automerge::ChangeHash>>,
    /// The present heads, sorted, when they are what the change stands on.
    present: Option<Vec<automerge::ChangeHash>>,
    /// The greatest operation counter that the change's first one follows.
    top: u64,
    fork: bool,
}

/// What an edit did, before it is kept or discarded.
#[cfg(feature = "net")]
pub(crate) struct Draft {
    tx: Tx,
    plan: Plan,
}

impl HotDocument {
    /// One edit at the present heads: everything the closure does is one change, or nothing is. `None` when it changed
    /// nothing. A panic of the closure goes on after the edit was rolled back.
    pub fn edit<R>(
        &mut self,
        options: &EditOptions,
        f: impl FnOnce(&mut MapDraft<'_>) -> Result<R, EditError>,
    ) -> Result<(R, Option<LocalChange>), HotError> {
        self.ready()?;
        let plan = self.plan()?;
        self.run(&plan, options, f)
    }

    /// The plan of an edit at the present heads.
    fn plan(&mut self) -> Result<Plan, HotError> {
        let mut heads = self.applied()?.get_heads();
        heads.sort_unstable();
        let n = self.free_actor(None)?;
        let (actor, top) = match &self.last {
            Some(last) if last.n == n => {
                let alone = matches!(&*heads, [head] if head.0 == last.hash.0);
                (last.actor.clone(), if alone { last.max_op } else { max_op(self.applied()?, &heads) })
            }
            _ => (self.author().actor(n), max_op(self.applied()?, &heads)),
        };
        Ok(Plan { n, actor, heads: None, present: Some(heads), top, fork: false })
    }

    /// One edit as seen at `heads`: the closure reads and changes what was there, and the change merges with everything
    /// since. At the present heads it is [`HotDocument::edit`].
    pub fn edit_at<R>(
        &mut self,
        heads: &[ChangeHash],
        options: &EditOptions,
        f: impl FnOnce(&mut MapDraft<'_>) -> Result<R, EditError>,
    ) -> Result<(R, Option<LocalChange>), HotError> {
        let plan = self.plan_at(heads)?;
        self.run(&plan, options, f)
    }

    /// The plan of an edit as seen at `heads`.
    fn plan_at(&mut self, heads: &[ChangeHash]) -> Result<Plan, HotError> {
        // What was seen before needs nothing of what came since, and applying that costs more the longer the history is.
        self.bring(heads)?;
        if self.applied_view_heads(heads)?.is_none() {
            return self.plan();
        }
        let n = self.free_actor(Some(heads))?;
        let own_last = self.own_chains()?.get(&n).copied();
        let mut deps: BTreeSet<ChangeHash> = heads.iter().copied().chain(own_last).collect();
        deps.extend(&self.floating);
        // Layers that changes depend on may still be missing below older heads, and what the page saw had them. Looking
        // takes a walk down to the layer, so it is done once an actor: its next change stands on this one.
        if own_last.is_none() || !self.layered.contains(&n) {
            let layers: Vec<_> = self.template().layers().map(|(hash, _)| hash).collect();
            for layer in layers {
                if !deps.contains(&layer) && !self.covers(heads, &layer)? {
                    deps.insert(layer);
                }
            }
        }
        let heads: Vec<_> = deps.iter().map(their_hash).collect();
        let doc = self.applied()?;
        let (below, above) = (max_op(doc, &heads), max_op(doc, &doc.get_heads()));
        let fork = above + 1 > below + MAX_GAP;
        let top = if fork { below } else { above };
        Ok(Plan { n, actor: self.author().actor(n), heads: Some(heads), present: None, top, fork })
    }

    /// The first half of an edit at `heads` (`None`: the present ones): what the closure did, not yet a change. The document answers
    /// nothing until [`HotDocument::keep`] or [`HotDocument::discard`] has settled it, so settle it under the same lock.
    #[cfg(feature = "net")]
    pub(crate) fn draft<R>(
        &mut self,
        heads: Option<&[ChangeHash]>,
        f: impl FnOnce(&mut MapDraft<'_>) -> Result<R, EditError>,
    ) -> Result<(R, Draft), HotError> {
        let plan = match heads {
            Some(heads) => self.plan_at(heads)?,
            None => {
                self.ready()?;
                self.plan()?
            }
        };
        let (result, tx) = self.attempt(&plan, f)?;
        Ok((result, Draft { tx, plan }))
    }

    /// Makes a draft a change; `None` if it did nothing.
    #[cfg(feature = "net")]
    pub(crate) fn keep(&mut self, draft: Draft, options: &EditOptions) -> Result<Option<LocalChange>, HotError> {
        self.settle(draft.tx, &draft.plan, options)
    }

    /// Undoes a draft.
    #[cfg(feature = "net")]
    pub(crate) fn discard(&mut self, draft: Draft) -> Result<(), HotError> {
        self.roll_back(draft.tx, &draft.plan)
    }

    fn run<R>(
        &mut self,
        plan: &Plan,
        options: &EditOptions,
        f: impl FnOnce(&mut MapDraft<'_>) -> Result<R, EditError>,
    ) -> Result<(R, Option<LocalChange>), HotError> {
        let (result, tx) = self.attempt(plan, f)?;
        Ok((result, self.settle(tx, plan, options)?))
    }

    fn settle(&mut self, tx: Tx, plan: &Plan, options: &EditOptions) -> Result<Option<LocalChange>, HotError> {
        match tx.inner.pending_ops() {
            0 => self.roll_back(tx, plan).map(|()| None),
            _ => self.finish(tx, plan, options).map(Some),
        }
    }

    /// Opens the transaction and runs the closure; when that fails, everything is rolled back.
    fn attempt<R>(
        &mut self,
        plan: &Plan,
        f: impl FnOnce(&mut MapDraft<'_>) -> Result<R, EditError>,
    ) -> Result<(R, Tx), HotError> {
        let actor = ActorId::from(plan.actor.as_bytes());
        let begun = if plan.fork {
            let heads = plan.heads.clone().unwrap_or_default();
            let forked = self.guard(|doc| doc.fork_at(&heads).map(|fork| begin(fork, actor, None)))?;
            forked.map_err(EditError::from)?
        } else {
            let doc = self.take()?;
            catch_unwind(AssertUnwindSafe(|| begin(doc, actor, plan.heads.as_deref())))
                .map_err(|payload| self.quarantine(panic_text(&*payload)))?
        };
        let mut tx = Tx::new(begun);
        tx.written = self.followed(plan);
        let outcome = catch_unwind(AssertUnwindSafe(|| f(&mut MapDraft::root(&mut tx))));
        match outcome {
            Ok(Ok(result)) => Ok((result, tx)),
            Ok(Err(error)) => {
                self.roll_back(tx, plan)?;
                Err(HotError::Edit(error))
            }
            // Automerge's own panic leaves the object in an unknown state; the program's does not.
            Err(payload) if tx.inside.get() => Err(self.quarantine(panic_text(&*payload))),
            Err(payload) => {
                self.roll_back(tx, plan)?;
                resume_unwind(payload)
            }
        }
    }

    /// What is followed of an edit: a splice, where a key press may be proved.
    fn followed(&self, plan: &Plan) -> Written {
        let Some(last) = self.last.as_ref().filter(|last| last.n == plan.n) else { return Written::NotFollowed };
        match plan.present.as_deref() {
            Some([head]) if head.0 == last.hash.0 => Written::Nothing(last.caret.clone()),
            Some(_) => Written::Nothing(None),
            None => Written::NotFollowed,
        }
    }

    fn finish(&mut self, tx: Tx, plan: &Plan, options: &EditOptions) -> Result<LocalChange, HotError> {
        let ops = tx.inner.pending_ops() as u64;
        if plan.top + ops >= MAX_OP {
            self.roll_back(tx, plan)?;
            return Err(EditError::Full.into());
        }
        let Tx { inner, written, .. } = tx;
        let committed = catch_unwind(AssertUnwindSafe(|| {
            let (doc, hash, _) = inner.commit_with(options.commit());
            let hash = hash?;
            let known = self.prove(&written, plan, options, &hash);
            Some(match known {
                Some(fresh) => (doc, fresh, None),
                None => {
                    let mut change = doc.get_change_by_hash(&hash)?;
                    (doc, Fresh::of(&mut change), Some(change))
                }
            })
        }));
        let (doc, fresh, change) = match committed {
            Ok(Some(committed)) => committed,
            Ok(None) => return Err(self.quarantine("a commit left no change".into())),
            Err(payload) => return Err(self.quarantine(panic_text(&*payload))),
        };
        #[cfg(test)]
        if change.is_none() {
            self.proven += 1;
        }
        if plan.fork {
            match self.guard(|doc| doc.apply_changes(change))? {
                Ok(()) => {}
                Err(error) => return Err(self.quarantine(error.to_string())),
            }
        } else {
            self.doc = Some(doc);
        }
        Ok(self.describe(fresh, plan, &written))
    }

    /// A key press without its change; see [`keystroke`].
    fn prove(
        &self,
        written: &Written,
        plan: &Plan,
        options: &EditOptions,
        hash: &automerge::ChangeHash,
    ) -> Option<Fresh> {
        let (Written::Splice(splice), Some(deps)) = (written, &plan.present) else { return None };
        let last = self.last.as_ref().filter(|last| last.n == plan.n)?;
        let (seq, start_op) = (last.seq + 1, plan.top + 1);
        let message = options.message.as_deref().unwrap_or_default();
        let frame = Frame { deps, actor: &plan.actor, seq, start_op, seconds: options.seconds(), message };
        let hash = own_hash(hash);
        let bytes = keystroke::prove(splice, &frame, &hash)?;
        let max_op = plan.top + splice.ops() as u64;
        Some(Fresh { hash, deps: deps.iter().map(own_hash).collect(), seq, start_op, max_op, bytes })
    }

    /// The change as the engine wants it; the layers it brings are committed from here on.
    fn describe(&mut self, fresh: Fresh, plan: &Plan, written: &Written) -> LocalChange {
        let Fresh { hash, deps, seq, start_op, max_op, bytes } = fresh;
        self.own.get_or_insert_default().insert(plan.n, hash);
        self.layered.insert(plan.n);
        let floating = &mut self.floating;
        let layers: Vec<_> = if floating.is_empty() {
            Vec::new()
        } else {
            let brought = |(hash, bytes): (ChangeHash, &[u8])| floating.remove(&hash).then(|| bytes.to_vec());
            self.template.layers().filter(|(hash, _)| deps.contains(hash)).filter_map(brought).collect()
        };
        self.chunk_bytes += bytes.len();
        self.remember(plan.n, hash, layers.iter().chain([&bytes]).cloned().collect());
        let caret = match written {
            Written::Splice(splice) => caret_after(splice, &plan.actor, max_op),
            _ => None,
        };
        self.last = Some(Last { n: plan.n, actor: plan.actor.clone(), hash, seq, max_op, caret });
        LocalChange {
            document: self.author.document,
            actor: plan.actor.clone(),
            actor_n: plan.n,
            hash,
            deps,
            seq,
            start_op,
            max_op,
            bytes,
            layers,
        }
    }

    fn remember(&mut self, n: u32, hash: ChangeHash, chunks: Vec<Vec<u8>>) {
        let weigh = |made: &Made| made.chunks.iter().map(Vec::len).sum::<usize>();
        let made = Made { n, hash, chunks };
        self.made_bytes += weigh(&made);
        self.made.push_back(made);
        while self.made.len() > MADE || (self.made_bytes > MADE_BYTES && self.made.len() > 1) {
            self.made_bytes -= self.made.pop_front().as_ref().map_or(0, weigh);
        }
    }

    fn roll_back(&mut self, tx: Tx, plan: &Plan) -> Result<(), HotError> {
        if plan.fork {
            return Ok(());
        }
        match catch_unwind(AssertUnwindSafe(|| tx.inner.rollback().0)) {
            Ok(doc) => {
                self.doc = Some(doc);
                Ok(())
            }
            Err(payload) => Err(self.quarantine(panic_text(&*payload))),
        }
    }

    fn take(&mut self) -> Result<Automerge, HotError> {
        self.doc.take().ok_or_else(|| HotError::Quarantined { detail: self.quarantined.clone() })
    }

    /// The lowest own actor that can commit at `heads` (`None`: at the present), preferring those in use.
    fn free_actor(&mut self, heads: Option<&[ChangeHash]>) -> Result<u32, HotError> {
        self.own_chains()?;
        let mut fresh = None;
        for n in 0.. {
            if self.blocked.contains(&n) {
                continue;
            }
            let last = self.own.as_ref().and_then(|own| own.get(&n)).copied();
            match (last, heads) {
                (None, _) if fresh.is_none() => fresh = Some(n),
                (None, _) => {}
                (Some(_), None) => return Ok(n),
                (Some(last), Some(heads)) if self.covers(heads, &last)? => return Ok(n),
                _ => {}
            }
            if let Some(fresh) = fresh.filter(|_| n + 1 >= ACTORS) {
                return Ok(fresh);
            }
        }
        unreachable!("a document has fewer actors than 2³²")
    }

    /// The last change of each own actor.
    fn own_chains(&mut self) -> Result<&BTreeMap<u32, ChangeHash>, HotError> {
        if self.own.is_none() {
            let author = self.author;
            // Own changes are applied as they are made: none of them waits.
            let doc = self.applied()?;
            let mut last: BTreeMap<Vec<u8>, (u64, ChangeHash)> = BTreeMap::new();
            for meta in doc.get_changes_meta(&[]) {
                let seen = last.entry(meta.actor.to_bytes().to_vec()).or_insert((0, own_hash(&meta.hash)));
                if meta.seq > seen.0 {
                    *seen = (meta.seq, own_hash(&meta.hash));
                }
            }
            let mut own = BTreeMap::new();
            let mut unused = 0;
            for n in 0.. {
                match last.get(author.actor(n).as_bytes()) {
                    Some((_, hash)) => drop(own.insert(n, *hash)),
                    None => unused += 1,
                }
                if n >= ACTORS && unused > ACTORS {
                    break;
                }
            }
            self.own = Some(own);
        }
        Ok(self.own.get_or_insert_default())
    }

    /// Whether `change` is one of `heads` or an ancestor. Counters grow along dependencies, so nothing below the
    /// change's own counter is visited.
    fn covers(&self, heads: &[ChangeHash], change: &ChangeHash) -> Result<bool, HotError> {
        let doc = self.applied()?;
        let Some(floor) = doc.get_change_meta_by_hash(&their_hash(change)).map(|meta| meta.max_op) else {
            return Ok(false);
        };
        let mut todo: Vec<automerge::ChangeHash> = heads.iter().map(their_hash).collect();
        let mut seen: BTreeSet<automerge::ChangeHash> = BTreeSet::new();
        while let Some(hash) = todo.pop() {
            if hash.0 == change.0 {
                return Ok(true);
            }
            if !seen.insert(hash) {
                continue;
            }
            if let Some(meta) = doc.get_change_meta_by_hash(&hash).filter(|meta| meta.max_op > floor) {
                todo.extend(meta.deps);
            }
        }
        Ok(false)
    }
}

/// A change as it was committed.
struct Fresh {
    hash: ChangeHash,
    deps: Vec<ChangeHash>,
    seq: u64,
    start_op: u64,
    max_op: u64,
    bytes: Vec<u8>,
}

impl Fresh {
    fn of(change: &mut Change) -> Self {
        Self {
            hash: own_hash(&change.hash()),
            deps: change.deps().iter().map(own_hash).collect(),
            seq: change.seq(),
            start_op: change.start_op().get(),
            max_op: change.max_op(),
            bytes: change.bytes().to_vec(),
        }
    }
}

/// Behind what was put in; after a removal the place is known, the element there is not.
fn caret_after(splice: &Splice, actor: &Actor, max_op: u64) -> Option<Caret> {
    if splice.removed.is_some() {
        return None;
    }
    let at = splice.at + splice.inserted.encode_utf16().count();
    let behind = Op { counter: max_op, actor: ActorId::from(actor.as_bytes()) };
    Some(Caret { text: splice.id.clone(), at, behind })
}

/// The greatest operation counter of some changes.
fn max_op(doc: &Automerge, hashes: &[automerge::ChangeHash]) -> u64 {
    hashes.iter().filter_map(|hash| doc.get_change_meta_by_hash(hash)).map(|meta| meta.max_op).max().unwrap_or(0)
}

/// Starts the transaction on one actor.
fn begin(mut doc: Automerge, actor: ActorId, heads: Option<&[automerge::ChangeHash]>) -> OwnedTransaction {
    if *doc.get_actor() != actor {
        doc.set_actor(actor);
    }
    doc.into_transaction(None, heads).expect("a transaction without a patch log has none to mismatch")
}
