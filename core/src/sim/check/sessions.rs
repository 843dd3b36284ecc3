//! What clients that move were shown against what they had seen and written.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checks, CommitId, Violation};
use crate::id::Path;
use crate::sim::movers::Known;
use crate::sim::network::NodeId;

/// Keys of edits that clients knew when they made another one, by its key.
pub(super) type Causes = BTreeMap<String, BTreeSet<String>>;

impl Checks {
    /// A read shows what its client knows of the path, or a later generation that a deletion explains.
    pub(in crate::sim) fn on_session_read(
        &mut self,
        node: NodeId,
        client: usize,
        path: &Path,
        known: &Known,
        generation: u32,
        keys: &BTreeSet<String>,
    ) {
        let path = path.clone();
        let broken = |what: String| Violation::SessionBroken { node, client, path: path.clone(), what };
        if generation < known.generation {
            let what = format!("generation {generation} after generation {}", known.generation);
            return self.fail(broken(what));
        }
        if generation == known.generation {
            if let Some(lost) = known.keys.difference(keys).next() {
                let what = format!("{lost} is not shown, which it knows");
                self.fail(broken(what));
            }
            return;
        }
        let explained = self.deletes.iter().any(|delete| delete.path == path);
        if !explained && !known.keys.is_empty() {
            let what = format!("generation {generation} after {}, and nobody deleted it", known.generation);
            self.fail(broken(what));
        }
    }

    /// A client makes an edit after it has seen others.
    pub(in crate::sim) fn on_session_write(&mut self, key: &str, causes: BTreeSet<String>) {
        if !causes.is_empty() {
            self.causes.insert(key.to_owned(), causes);
        }
    }

    /// Who shows an edit shows what its author had seen.
    pub(in crate::sim) fn check_causes(&mut self, node: NodeId, path: &Path, keys: &BTreeSet<String>) {
        let torn = keys.iter().find_map(|key| {
            let lost = self.causes.get(key)?.difference(keys).next()?;
            Some(format!("{key} is shown without {lost}, which its author had seen"))
        });
        if let Some(what) = torn {
            self.fail(Violation::Uncaused { node, path: path.clone(), what });
        }
    }

    /// The generation that edits were made in.
    pub(in crate::sim) fn generation_of(&self, keys: &BTreeSet<String>) -> Option<u32> {
        let key = keys.first()?;
        let edits = self.commits.iter().flat_map(|commit| &commit.edits);
        edits.filter(|edit| edit.key == *key).map(|edit| edit.generation).next()
    }

    /// The keys of a commit's edits.
    pub(in crate::sim) fn keys_of(&self, commit: CommitId) -> BTreeSet<String> {
        self.commits[commit.0].edits.iter().map(|edit| edit.key.clone()).collect()
    }
}
