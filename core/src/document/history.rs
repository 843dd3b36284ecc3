//! The changes of a document, and the values that were written concurrently.
//!
//! The history is in one order that every peer agrees on and that extends causality: by greatest operation counter, then
//! by hash, newest first. Template layers are not part of it.

use std::collections::BTreeSet;

use automerge::ReadDoc;

use super::edit::EditError;
use super::hot::{HotDocument, HotError, own_hash, resolve};
use super::patch::Step;
use super::value::{MAX_DEPTH, Value, from_scalar, read_object};
use crate::id::{Actor, ChangeHash};
use crate::time::WallTime;

/// One change of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeInfo {
    /// Its hash; `[hash]` are heads at which the document can be read.
    pub hash: ChangeHash,
    /// Who made it.
    pub actor: Actor,
    /// Its number on the actor.
    pub seq: u64,
    /// When, by the author's clock, in whole seconds.
    pub time: WallTime,
    /// What the author said about it.
    pub message: Option<String>,
    /// What it follows.
    pub deps: Vec<ChangeHash>,
    /// How many operations it has.
    pub ops: u64,
}

/// One of the values at a place that was written concurrently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The value.
    pub value: Value,
    /// The change that wrote it.
    pub change: ChangeHash,
    /// Who made that change.
    pub actor: Actor,
    /// When, by the author's clock.
    pub time: WallTime,
}

impl HotDocument {
    /// At most `limit` changes, newest first, from the one after `before` on; `None`: from the newest.
    /// Costs a walk over all changes.
    pub fn history(&mut self, before: Option<ChangeHash>, limit: usize) -> Result<Vec<ChangeInfo>, HotError> {
        let layers: BTreeSet<ChangeHash> = self.template().layers().map(|(hash, _)| hash).collect();
        let doc = self.ready()?;
        let mut order: Vec<(u64, ChangeHash)> = doc
            .get_changes_meta(&[])
            .iter()
            .map(|meta| (meta.max_op, own_hash(&meta.hash)))
            .filter(|(_, hash)| !layers.contains(hash))
            .collect();
        order.sort_unstable_by(|a, b| b.cmp(a));
        let start = match before {
            None => 0,
            Some(hash) => {
                let at = order.iter().position(|(_, other)| *other == hash);
                1 + at.ok_or(HotError::UnknownHeads { hash })?
            }
        };
        let page = order.into_iter().skip(start).take(limit);
        let mut infos = Vec::new();
        for (_, hash) in page {
            infos.extend(self.change_info(&hash)?);
        }
        Ok(infos)
    }

    /// What is known of one change; `None` if it is not here.
    pub fn change_info(&mut self, hash: &ChangeHash) -> Result<Option<ChangeInfo>, HotError> {
        let meta = self.ready()?.get_change_meta_by_hash(&super::hot::their_hash(hash));
        Ok(meta.and_then(|meta| {
            Some(ChangeInfo {
                hash: *hash,
                actor: Actor::from_bytes(meta.actor.to_bytes())?,
                seq: meta.seq,
                time: wall(meta.timestamp),
                message: meta.message.as_deref().filter(|message| !message.is_empty()).map(str::to_owned),
                deps: meta.deps.iter().map(own_hash).collect(),
                ops: meta.max_op + 1 - meta.start_op.min(meta.max_op),
            })
        }))
    }

    /// All values at a place that were written concurrently, the one that shows first. One means that there is no
    /// conflict.
    pub fn conflicts(&mut self, at: &[Step]) -> Result<Vec<Conflict>, HotError> {
        self.ready()?;
        let found = self.guard(|doc| {
            let (obj, prop) = resolve(doc, at)?;
            let all = doc.get_all(&obj, prop).ok()?;
            let conflicts = all.into_iter().rev().filter_map(|(value, id)| {
                let change = doc.hash_for_opid(&id)?;
                let meta = doc.get_change_meta_by_hash(&change)?;
                let value = match value {
                    automerge::Value::Object(kind) => read_object(doc, &id, kind, None, MAX_DEPTH),
                    automerge::Value::Scalar(scalar) => from_scalar(&scalar),
                };
                let actor = Actor::from_bytes(meta.actor.to_bytes())?;
                Some(Conflict { value, change: own_hash(&change), actor, time: wall(meta.timestamp) })
            });
            Some(conflicts.collect::<Vec<_>>())
        })?;
        found.ok_or_else(|| EditError::NotFound { at: format!("{at:?}") }.into())
    }
}

/// Changes keep whole seconds.
fn wall(seconds: i64) -> WallTime {
    WallTime(seconds.saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::hot::EditOptions;
    use crate::document::hot::tests::Desk;

    #[test]
    fn history_is_one_order_on_every_peer() {
        let (mut a, mut b) = (Desk::new(1), Desk::new(2));
        let options = EditOptions { time: WallTime(12_345), message: Some("first".into()) };
        let (_, one) = a.hot.edit(&options, |d| d.put("k", 1)).unwrap();
        let one = one.unwrap();
        let two = b.edit(|d| d.put("k", 2));
        let three = a.edit(|d| d.put("k", 3));
        a.take(&[&two]);
        b.take(&[&one, &three]);
        let all = a.hot.history(None, 10).unwrap();
        assert_eq!(all, b.hot.history(None, 10).unwrap());
        assert_eq!((all.len(), all[0].hash), (3, three.hash));
        let first = all.iter().find(|info| info.hash == one.hash).unwrap();
        assert_eq!((first.message.as_deref(), first.time), (Some("first"), WallTime(12_000)));
        let paged: Vec<_> = [a.hot.history(None, 2).unwrap(), a.hot.history(Some(all[1].hash), 2).unwrap()].concat();
        assert_eq!(paged, all);
    }

    #[test]
    fn a_conflict_shows_every_value_and_its_author() {
        let (mut a, mut b) = (Desk::new(1), Desk::new(2));
        let one = a.edit(|d| d.put("k", "a"));
        let two = b.edit(|d| d.put("k", "b"));
        a.take(&[&two]);
        let conflicts = a.hot.conflicts(&["k".into()]).unwrap();
        let mut by: Vec<_> = conflicts.iter().map(|c| (c.actor.clone(), c.value.clone())).collect();
        by.sort_by_key(|(_, value)| value.as_str().map(str::to_owned));
        assert_eq!(by, [(one.actor, "a".into()), (two.actor, "b".into())]);
        assert_eq!(a.hot.value().unwrap().get("k"), Some(&conflicts[0].value));
        a.edit(|d| d.put("k", "a"));
        assert_eq!(a.hot.conflicts(&["k".into()]).unwrap().len(), 1, "writing the same value settles a conflict");
        assert!(a.hot.conflicts(&["no".into(), "where".into()]).is_err());
    }
}
