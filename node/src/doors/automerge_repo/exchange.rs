//! One document with one client: Automerge's sync protocol, without the document.
//!
//! Each side tells its heads and, by a filter, what it has since the last time both had the same; the other sends what is
//! missing. One message of ours is on its way at a time, so that a burst of changes becomes one message. The rules are those
//! of Automerge's `generate_sync_message` and `receive_sync_message`, on the graph of hashes alone.

use std::collections::{BTreeMap, BTreeSet};

use foreshore::id::ChangeHash;

use super::graph::Graph;
use super::sync::{Filter, Have, SyncMessage};

/// What is known of the other side.
#[derive(Debug, Default)]
pub struct Exchange {
    shared: Vec<ChangeHash>,
    last_sent: Option<Vec<ChangeHash>>,
    sent: BTreeSet<ChangeHash>,
    theirs: Option<Theirs>,
    on_its_way: bool,
}

#[derive(Debug)]
struct Theirs {
    heads: Vec<ChangeHash>,
    need: Vec<ChangeHash>,
    have: Vec<Have>,
    read_only: bool,
}

/// What is to be sent: a message that still lacks the bytes of these changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The message.
    pub message: SyncMessage,
    /// What it is to carry, in order.
    pub changes: Vec<ChangeHash>,
}

impl Exchange {
    /// Takes in a message whose changes are in the graph already, as far as they can be; `before` are the heads from before
    /// that.
    pub fn receive(&mut self, graph: &Graph, before: &[ChangeHash], message: SyncMessage) {
        let SyncMessage { heads, need, have, changes, reset, read_only } = message;
        self.on_its_way = false;
        if reset {
            self.sent.clear();
        }
        let now = graph.heads();
        if !changes.is_empty() {
            let news = now.iter().filter(|head| !before.contains(head));
            let kept = self.shared.iter().filter(|head| now.contains(head));
            let shared: BTreeSet<ChangeHash> = news.chain(kept).copied().collect();
            self.shared = shared.into_iter().collect();
        }
        graph.forget_below(&heads, &mut self.sent);
        if changes.is_empty() && heads == before {
            self.last_sent = Some(heads.clone());
        }
        if heads.iter().all(|head| graph.has(head)) {
            self.shared.clone_from(&heads);
            if heads.is_empty() {
                // It has lost everything, or never had anything.
                self.last_sent = None;
                self.sent.clear();
            }
        } else {
            let known = heads.iter().filter(|head| graph.has(head));
            let shared: BTreeSet<ChangeHash> = self.shared.iter().chain(known).copied().collect();
            self.shared = shared.into_iter().collect();
        }
        self.theirs = Some(Theirs { heads, need, have, read_only });
    }

    /// What to send now, if anything. `waiting`: changes that have come and lack what they stand on, each with that.
    pub fn answer(&mut self, graph: &Graph, waiting: &BTreeMap<ChangeHash, Vec<ChangeHash>>) -> Option<Answer> {
        let heads = graph.heads();
        let their_heads = self.their_heads().unwrap_or_default();
        let need = missing(graph, their_heads, waiting);
        let ours = || Have { last_sync: self.shared.clone(), filter: Filter::of(graph.since(&self.shared).iter()) };
        // Who asks for something below a head has more to come, and says what it has once that is there.
        let have = if need.iter().all(|hash| their_heads.contains(hash)) { vec![ours()] } else { Vec::new() };
        let lost = |theirs: &Theirs| {
            theirs.have.first().is_some_and(|have| !have.last_sync.iter().all(|hash| graph.has(hash)))
        };
        if self.theirs.as_ref().is_some_and(lost) {
            if self.on_its_way {
                return None;
            }
            // It counts on something that this store does not have: both begin again.
            let message = SyncMessage { heads, have: vec![Have::default()], ..SyncMessage::default() };
            self.on_its_way = true;
            return Some(Answer { message, changes: Vec::new() });
        }
        let lacking = match &self.theirs {
            Some(theirs) if !theirs.read_only => graph.lacking(&theirs.have, &theirs.need),
            _ => Vec::new(),
        };
        let changes: Vec<ChangeHash> = lacking.into_iter().filter(|hash| !self.sent.contains(hash)).collect();
        if self.last_sent.as_ref() == Some(&heads) {
            let same = self.theirs.as_ref().is_some_and(|theirs| theirs.heads == heads);
            if (same && changes.is_empty()) || self.on_its_way {
                return None;
            }
        }
        self.last_sent = Some(heads.clone());
        self.sent.extend(&changes);
        self.on_its_way = true;
        Some(Answer { message: SyncMessage { heads, need, have, ..SyncMessage::default() }, changes })
    }

    /// Heads that the other side has, as far as they are known here.
    pub fn their_heads(&self) -> Option<&[ChangeHash]> {
        self.theirs.as_ref().map(|theirs| theirs.heads.as_slice())
    }
}

/// What is missing below some heads: they themselves, or what those stand on that have come and wait.
fn missing(graph: &Graph, heads: &[ChangeHash], waiting: &BTreeMap<ChangeHash, Vec<ChangeHash>>) -> Vec<ChangeHash> {
    let (mut missing, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let mut stack = heads.to_vec();
    while let Some(hash) = stack.pop() {
        if graph.has(&hash) || !seen.insert(hash) {
            continue;
        }
        match waiting.get(&hash) {
            Some(deps) => stack.extend(deps),
            None => _ = missing.insert(hash),
        }
    }
    missing.into_iter().collect()
}
