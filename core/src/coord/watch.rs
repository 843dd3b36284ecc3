//! Watches: who is told of which change.
//!
//! Each voter has its own, for the clients that it serves; they are in no snapshot and no digest. Kinds and rules are
//! ZooKeeper's: one-shot watches on a node's data, its existence or its children, persistent ones on all three, and recursive
//! ones on the data and existence of a whole subtree.
//!
//! **The event comes first.** [`Watches::feed`] is called with each output before anything reads the state after that entry,
//! and what it returns is sent to a client before any such answer. A watch is set in the same step as the read that it belongs
//! to, at the same index. An event carries the index of its change.
//!
//! **No silent gap.** A client that reconnects names the last index that it saw ([`Watches::rearm`]). One-shot watches fire at
//! once if `mzxid` (for children `pzxid`) is newer, as ZooKeeper's `setWatches`; persistent and recursive ones get what they
//! missed from a ring of recent changes, or [`EventKind::Resync`] if the ring does not reach back that far. The same happens
//! when a voter jumps ahead by a snapshot ([`Watches::jump`]).
//!
//! A change is told to nobody whom the node's list does not let read it (for changed children the parent's).

mod ring;

use std::collections::{BTreeMap, BTreeSet};

use super::acl::{Acl, Identity, Perms};
use super::error::{Bounded, CoordError};
use super::path::NodePath;
use super::reply::Change;
use super::session::SessionId;
use super::tree::Tree;

use ring::Ring;

/// Most watches of one session.
pub const MAX_WATCHES_OF_SESSION: usize = 65_536;

/// Most watches of one voter.
pub const MAX_WATCHES: usize = 1 << 20;

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watch {
    /// A node that is there: one change of its data, or its deletion.
    Data,
    /// A node that is not there: its creation.
    Exists,
    /// A node's children: one creation or deletion, or its own deletion.
    Children,
    /// All of these, again and again.
    Persistent,
    /// Creations, changes and deletions of a node and everything below it, again and again.
    Recursive,
    /// Who leads an election and what it says of itself, again and again.
    Leader,
    /// A queue that gets items to claim, again and again.
    Queue,
}

/// A set of [`Watch`]es on one path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kinds(u8);

impl Kinds {
    const ONCE_ON_NODE: Self = Self(Self::of(Watch::Data).0 | Self::of(Watch::Exists).0);
    const ON_NODE: Self = Self(Self::ONCE_ON_NODE.0 | Self::of(Watch::Persistent).0 | Self::of(Watch::Recursive).0);
    const ON_CHILDREN: Self = Self(Self::of(Watch::Children).0 | Self::of(Watch::Persistent).0);
    const ONCE: Self = Self(Self::ONCE_ON_NODE.0 | Self::of(Watch::Children).0);

    const fn of(watch: Watch) -> Self {
        Self(1 << watch as u8)
    }

    fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    fn iter(self) -> impl Iterator<Item = Watch> {
        ALL.into_iter().filter(move |watch| self.meets(Self::of(*watch)))
    }
}

const ALL: [Watch; 7] =
    [Watch::Data, Watch::Exists, Watch::Children, Watch::Persistent, Watch::Recursive, Watch::Leader, Watch::Queue];

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// The node was created.
    Created,
    /// Its data was set.
    Changed,
    /// It was deleted.
    Deleted,
    /// A child was created or deleted.
    Children,
    /// An election has another leader, another value, or none.
    Leader,
    /// A queue has an item to claim.
    Ready,
    /// Something may have happened that can no longer be told: read again.
    Resync,
}

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// To whom.
    pub session: SessionId,
    /// The entry that made the change; for what is told when a watch is set again, the newest one, and after a jump of the
    /// voter the first that it did not see: nothing above was told.
    pub zxid: u64,
    /// What happened.
    pub kind: EventKind,
    /// To which node, election or queue.
    pub path: NodePath,
}

#[derive(Default)]
struct Watcher {
    identities: Vec<Identity>,
    paths: BTreeSet<NodePath>,
    count: usize,
}

/// One voter's watches.
pub struct Watches {
    paths: BTreeMap<NodePath, BTreeMap<SessionId, Kinds>>,
    watchers: BTreeMap<SessionId, Watcher>,
    count: usize,
    ring: Ring,
    /// The newest entry that was fed, or jumped to.
    fed: u64,
}

impl Watches {
    /// No watches, of a voter that has applied everything up to `applied`.
    pub fn new(applied: u64) -> Self {
        Self { paths: BTreeMap::new(), watchers: BTreeMap::new(), count: 0, ring: Ring::new(applied), fed: applied }
    }

    /// What a client is known as from now on.
    pub fn identify(&mut self, session: SessionId, identities: Vec<Identity>) {
        self.watchers.entry(session).or_default().identities = identities;
    }

    /// Watches a path. Over the bounds nothing is watched, and the read that it belongs to should fail.
    pub fn add(&mut self, session: SessionId, watch: Watch, path: &NodePath) -> Result<(), CoordError> {
        let kinds = Kinds::of(watch);
        if self.kinds(session, path).meets(kinds) {
            return Ok(());
        }
        let own = self.watchers.get(&session).map_or(0, |watcher| watcher.count);
        for (count, max) in [(own, MAX_WATCHES_OF_SESSION), (self.count, MAX_WATCHES)] {
            if count >= max {
                return Err(CoordError::TooLarge { what: Bounded::Watches, max: max as u64 });
            }
        }
        let of_path = self.paths.entry(path.clone()).or_default().entry(session).or_default();
        *of_path = of_path.with(kinds);
        let watcher = self.watchers.entry(session).or_default();
        watcher.paths.insert(path.clone());
        watcher.count += 1;
        self.count += 1;
        Ok(())
    }

    /// Whether a session watches a path this way.
    pub fn has(&self, session: SessionId, watch: Watch, path: &NodePath) -> bool {
        self.kinds(session, path).meets(Kinds::of(watch))
    }

    /// How a session watches a path.
    pub fn kinds_of(&self, session: SessionId, path: &NodePath) -> Vec<Watch> {
        self.kinds(session, path).iter().collect()
    }

    /// Watches a path this way no longer; `false` if it did not.
    pub fn remove(&mut self, session: SessionId, watch: Watch, path: &NodePath) -> bool {
        let had = self.has(session, watch, path);
        self.drop_kinds(session, path, Kinds::of(watch));
        had
    }

    /// Forgets a client: its session ended, or its connection did.
    pub fn end(&mut self, session: SessionId) {
        let Some(watcher) = self.watchers.get(&session) else { return };
        for path in watcher.paths.clone() {
            self.drop_kinds(session, &path, Kinds(u8::MAX));
        }
        self.watchers.remove(&session);
    }

    /// How many watches there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many paths are watched, and by how many sessions.
    pub fn spread(&self) -> (usize, usize) {
        (self.paths.len(), self.watchers.values().filter(|watcher| watcher.count > 0).count())
    }

    /// Takes in what an entry changed, and says whom to tell of it, in the order of the changes.
    pub fn feed(&mut self, index: u64, changes: &[Change]) -> Vec<Event> {
        self.fed = index;
        let mut events = Vec::new();
        for change in changes {
            self.tell(index, change, &mut events);
            self.ring.push(index, change);
        }
        events
    }

    /// Sets a client's watches again, after it was away since it had seen `seen`, and says what it missed, oldest first. `tree`
    /// is the state at `applied`, which is not below `seen`: a voter that is behind its client waits. Over the bounds nothing
    /// is watched.
    pub fn rearm(
        &mut self,
        session: SessionId,
        watches: &[(Watch, NodePath)],
        seen: u64,
        tree: &Tree,
        applied: u64,
    ) -> Result<Vec<Event>, CoordError> {
        let own = self.watchers.get(&session).map_or(0, |watcher| watcher.count);
        if own + watches.len() > MAX_WATCHES_OF_SESSION {
            return Err(CoordError::TooLarge { what: Bounded::Watches, max: MAX_WATCHES_OF_SESSION as u64 });
        }
        if self.count + watches.len() > MAX_WATCHES {
            return Err(CoordError::TooLarge { what: Bounded::Watches, max: MAX_WATCHES as u64 });
        }
        let mut events = Vec::new();
        for (watch, path) in watches {
            if let Some(kind) = overtaken(*watch, path, seen, tree) {
                events.push(Event { session, zxid: applied, kind, path: path.clone() });
                if Kinds::of(*watch).meets(Kinds::ONCE) {
                    continue;
                }
            }
            self.add(session, *watch, path)?;
        }
        self.replay(session, watches, seen, applied, &mut events);
        events.sort_by_key(|event| event.zxid);
        Ok(events)
    }

    /// The voter's state was replaced by a snapshot's: sets all watches again, as of the index that it was at before.
    pub fn jump(&mut self, tree: &Tree, applied: u64) -> Vec<Event> {
        let seen = std::mem::replace(&mut self.fed, applied);
        self.ring = Ring::new(applied);
        let mut events = Vec::new();
        let all: Vec<SessionId> = self.watchers.keys().copied().collect();
        for session in all {
            let watches = self.of(session);
            for (watch, path) in &watches {
                self.drop_kinds(session, path, Kinds::of(*watch));
            }
            // There is room: they were all there a moment ago.
            events.extend(self.rearm(session, &watches, seen, tree, applied).unwrap_or_default());
        }
        // Whoever hears the first and not the others goes on from before all of them.
        events.iter_mut().for_each(|event| event.zxid = event.zxid.min(seen + 1));
        events
    }

    fn of(&self, session: SessionId) -> Vec<(Watch, NodePath)> {
        let paths = self.watchers.get(&session).into_iter().flat_map(|watcher| &watcher.paths);
        paths.flat_map(|path| self.kinds(session, path).iter().map(move |watch| (watch, path.clone()))).collect()
    }

    /// What persistent and recursive watches missed.
    fn replay(
        &self,
        session: SessionId,
        watches: &[(Watch, NodePath)],
        seen: u64,
        applied: u64,
        events: &mut Vec<Event>,
    ) {
        let again: Vec<_> =
            watches.iter().filter(|(watch, _)| matches!(watch, Watch::Persistent | Watch::Recursive)).collect();
        match self.ring.since(seen) {
            None => events.extend(again.into_iter().map(|(_, path)| Event {
                session,
                zxid: applied,
                kind: EventKind::Resync,
                path: path.clone(),
            })),
            Some(missed) if !again.is_empty() => {
                let mut only: BTreeMap<&NodePath, Kinds> = BTreeMap::new();
                for (watch, path) in again {
                    let kinds = only.entry(path).or_default();
                    *kinds = kinds.with(Kinds::of(*watch));
                }
                let identities = self.watchers.get(&session).map_or(&[][..], |watcher| &watcher.identities);
                for (index, change) in missed {
                    for (path, kinds, kind, acl) in targets(change) {
                        let told = only.get(&path).is_some_and(|own| own.meets(kinds))
                            || below_recursive(&path, kind, |above| {
                                only.get(above).is_some_and(|own| own.meets(Kinds::of(Watch::Recursive)))
                            });
                        if told && acl.is_none_or(|acl| acl.permits(Perms::READ, identities)) {
                            events.push(Event { session, zxid: index, kind, path });
                        }
                    }
                }
            }
            Some(_) => {}
        }
    }

    fn tell(&mut self, index: u64, change: &Change, events: &mut Vec<Event>) {
        for (path, kinds, kind, acl) in targets(change) {
            let mut told: BTreeSet<SessionId> = BTreeSet::new();
            if let Some(watchers) = self.paths.get(&path) {
                told.extend(watchers.iter().filter(|(_, own)| own.meets(kinds)).map(|(session, _)| *session));
            }
            below_recursive(&path, kind, |above| {
                let watchers = self.paths.get(above).into_iter().flatten();
                let recursive = watchers.filter(|(_, own)| own.meets(Kinds::of(Watch::Recursive)));
                told.extend(recursive.map(|(session, _)| *session));
                false
            });
            for session in told {
                self.drop_kinds(session, &path, Kinds(kinds.0 & Kinds::ONCE.0));
                let identities = self.watchers.get(&session).map_or(&[][..], |watcher| &watcher.identities);
                if acl.is_none_or(|acl| acl.permits(Perms::READ, identities)) {
                    events.push(Event { session, zxid: index, kind, path: path.clone() });
                }
            }
        }
    }

    fn kinds(&self, session: SessionId, path: &NodePath) -> Kinds {
        self.paths.get(path).and_then(|watchers| watchers.get(&session)).copied().unwrap_or_default()
    }

    fn drop_kinds(&mut self, session: SessionId, path: &NodePath, kinds: Kinds) {
        let had = self.kinds(session, path);
        let left = had.without(kinds);
        if left == had {
            return;
        }
        self.count -= had.len() - left.len();
        let watcher = self.watchers.entry(session).or_default();
        watcher.count -= had.len() - left.len();
        if left != Kinds::default() {
            self.paths.entry(path.clone()).or_default().insert(session, left);
            return;
        }
        watcher.paths.remove(path);
        if let Some(watchers) = self.paths.get_mut(path) {
            watchers.remove(&session);
            if watchers.is_empty() {
                self.paths.remove(path);
            }
        }
    }
}

/// Whom a change concerns: the path that is watched, how, what its watcher is told, and the list that permits it.
fn targets(change: &Change) -> Vec<(NodePath, Kinds, EventKind, Option<&Acl>)> {
    let parent =
        |path: &NodePath, acl| path.parent().map(|parent| (parent, Kinds::ON_CHILDREN, EventKind::Children, Some(acl)));
    match change {
        Change::Created { path, acl, parent_acl } => {
            let own = (path.clone(), Kinds::ON_NODE, EventKind::Created, Some(acl));
            std::iter::once(own).chain(parent(path, parent_acl)).collect()
        }
        Change::Set { path, acl } => vec![(path.clone(), Kinds::ON_NODE, EventKind::Changed, Some(acl))],
        Change::Deleted { path, acl, parent_acl } => {
            let own = (path.clone(), Kinds::ON_NODE.with(Kinds::of(Watch::Children)), EventKind::Deleted, Some(acl));
            std::iter::once(own).chain(parent(path, parent_acl)).collect()
        }
        Change::Leader { path } => vec![(path.clone(), Kinds::of(Watch::Leader), EventKind::Leader, None)],
        Change::Ready { path } => vec![(path.clone(), Kinds::of(Watch::Queue), EventKind::Ready, None)],
    }
}

/// Asks about each node above `path` until one answers `true`. Recursive watchers are told of nodes, not of lists of children,
/// and neither of elections nor queues.
fn below_recursive(path: &NodePath, kind: EventKind, mut ask: impl FnMut(&NodePath) -> bool) -> bool {
    if !matches!(kind, EventKind::Created | EventKind::Changed | EventKind::Deleted) {
        return false;
    }
    let mut above = path.parent();
    while let Some(path) = above {
        if ask(&path) {
            return true;
        }
        above = path.parent();
    }
    false
}

/// What a watch that is set again missed, by the state alone.
fn overtaken(watch: Watch, path: &NodePath, seen: u64, tree: &Tree) -> Option<EventKind> {
    let stat = tree.stat(path.as_str()).ok();
    match (watch, stat) {
        (Watch::Data | Watch::Children, None) => Some(EventKind::Deleted),
        (Watch::Data, Some(stat)) if stat.mzxid > seen => Some(EventKind::Changed),
        (Watch::Children, Some(stat)) if stat.pzxid > seen => Some(EventKind::Children),
        (Watch::Exists, Some(_)) => Some(EventKind::Created),
        // Cheap to read again, and not in the ring.
        (Watch::Leader, _) => Some(EventKind::Leader),
        (Watch::Queue, _) => Some(EventKind::Ready),
        _ => None,
    }
}
