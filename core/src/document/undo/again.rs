//! Making edits again that were taken out of a document.
//!
//! Honest edits leave with changes that they stand on. Each one is looked at where it was made, with everything that was
//! there then, in terms of elements and operations; what of it has a place in the present document is done there, as a new
//! edit of whoever asks. So typing in a text that is still there stays where it was typed, and an edit inside of an object
//! that is gone is lost and named.

use std::collections::BTreeSet;

use automerge::Change;

use super::{Memory, carry, plan};
use crate::document::hot::{EditOptions, HotDocument, HotError, own_hash};
use crate::document::local::LocalChange;
use crate::document::quarantine::{self, ApplyError};
use crate::id::ChangeHash;

/// What came of making edits again.
#[derive(Debug, Default)]
pub struct Again {
    /// New edits, to be committed in this order.
    pub changes: Vec<LocalChange>,
    /// Edits that have no place in the present document.
    pub lost: Vec<ChangeHash>,
}

impl HotDocument {
    /// Makes edits again: those of `aside`, which are chunks of changes that were taken out, that `picks` names. Each becomes
    /// one edit at the present heads.
    pub fn make_again(
        &mut self,
        aside: &[Vec<u8>],
        picks: &BTreeSet<ChangeHash>,
        options: &EditOptions,
    ) -> Result<Again, HotError> {
        self.heads()?;
        let refused = |error: ApplyError| HotError::Chunk { index: 0, detail: error.to_string() };
        let mut whole = self.guard(|doc| doc.fork())?;
        let whole = quarantine::guarded(move || {
            quarantine::apply(&mut whole, aside.iter().map(Vec::as_slice))?;
            Ok(whole)
        });
        let whole = whole.map_err(refused)?;
        let picked = |change: &Change| picks.contains(&own_hash(&change.hash()));
        let changes = quarantine::guarded(|| Ok(whole.get_changes(&[]))).map_err(refused)?;
        let mut memory = Memory { all_ours: true, ..Memory::default() };
        let mut again = Again::default();
        for change in changes.into_iter().filter(picked) {
            let (hash, deps) = (change.hash(), change.deps().to_vec());
            let made = quarantine::guarded(|| Ok(plan::invert(&whole, &deps, &[hash], &[])));
            let Ok(steps) = made else {
                again.lost.push(own_hash(&hash));
                continue;
            };
            match self.edit(options, |draft| carry::out(draft.tx, &steps, &mut memory)) {
                Ok((_, Some(change))) => again.changes.push(change),
                Ok((_, None)) | Err(HotError::Edit(_)) => again.lost.push(own_hash(&hash)),
                Err(error) => return Err(error),
            }
        }
        Ok(again)
    }
}
