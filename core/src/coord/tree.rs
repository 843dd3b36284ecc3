//! The tree: nodes with data, versions and lists, changed as ZooKeeper changes its own.
//!
//! The order in which an operation is judged, and so which of several errors is told, is ZooKeeper 3.8's; so is what a change
//! does to `Stat`. Source: its Programmer's Guide, and its behaviour. The suffix of a sequential node is the count of
//! children that its parent ever had, which never runs back; `Stat.cversion` is twice that less the children that are there,
//! which is the number of creations and deletions.
//!
//! Several operations are one change or none: each step writes down how to undo it.
//!
//! Not here: `/zookeeper` and its quotas, and the difference between no data and empty data.

mod change;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::acl::{Acl, Identity, Perms};
use super::command::Body;
use super::duty::{Duty, DutyKey};
use super::error::CoordError;
use super::op::{Op, OpAnswer};
use super::path::NodePath;
use super::reply::Change;
use super::session::SessionId;
use super::stat::{Life, Stat};

use change::Changing;

/// Most bytes of all nodes together, each counted with its path, its data, its list and [`NODE_BYTES`].
pub const MAX_TREE_BYTES: usize = 512 << 20;

/// What a node counts for beyond its path, data and list.
pub const NODE_BYTES: usize = 256;

/// How long a container stays after its last child, in milliseconds: ZooKeeper's interval of looking for them.
pub const CONTAINER_MS: u64 = 60_000;

/// What a node holds, children apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Core {
    pub(crate) data: Arc<[u8]>,
    pub(crate) acl: Acl,
    pub(crate) life: Life,
    pub(crate) czxid: u64,
    pub(crate) mzxid: u64,
    pub(crate) pzxid: u64,
    pub(crate) ctime: i64,
    pub(crate) mtime: i64,
    pub(crate) version: i32,
    pub(crate) aversion: i32,
    /// Children ever created. It wraps as ZooKeeper's does.
    pub(crate) created: i32,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) core: Core,
    pub(crate) children: BTreeSet<Box<str>>,
}

impl Node {
    fn stat(&self) -> Stat {
        let core = &self.core;
        Stat {
            czxid: core.czxid,
            mzxid: core.mzxid,
            pzxid: core.pzxid,
            ctime: core.ctime,
            mtime: core.mtime,
            version: core.version,
            cversion: core.created.wrapping_mul(2).wrapping_sub(self.children.len() as i32),
            aversion: core.aversion,
            life: core.life,
            data_length: core.data.len() as u32,
            num_children: self.children.len() as u32,
        }
    }
}

/// Who changes the tree, and in which entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Actor<'a> {
    pub(crate) zxid: u64,
    pub(crate) time: i64,
    pub(crate) session: SessionId,
    pub(crate) identities: &'a [Identity],
}

/// All nodes.
#[derive(Clone, PartialEq, Eq)]
pub struct Tree {
    nodes: BTreeMap<NodePath, Node>,
    ephemerals: BTreeMap<SessionId, BTreeSet<NodePath>>,
    /// Containers and TTL nodes.
    timed: BTreeSet<NodePath>,
    bytes: usize,
}

impl Default for Tree {
    fn default() -> Self {
        let mut tree = Self::without_root();
        tree.insert(NodePath::root(), Core::new(Arc::new([]), Acl::open(), Life::Persistent, 0, 0));
        tree
    }
}

impl Core {
    fn new(data: Arc<[u8]>, acl: Acl, life: Life, zxid: u64, time: i64) -> Self {
        Self {
            data,
            acl,
            life,
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime: time,
            mtime: time,
            version: 0,
            aversion: 0,
            created: 0,
        }
    }
}

impl Tree {
    /// A node's data and `Stat`.
    pub fn get(&self, path: &str, identities: &[Identity]) -> Result<(Arc<[u8]>, Stat), CoordError> {
        let node = self.permitted(path, Perms::READ, identities)?;
        Ok((node.core.data.clone(), node.stat()))
    }

    /// A node's `Stat`, which everybody may see.
    pub fn stat(&self, path: &str) -> Result<Stat, CoordError> {
        self.node(path).map(Node::stat)
    }

    /// The names of a node's children, in the order of their bytes, and its `Stat`.
    pub fn children(
        &self,
        path: &str,
        identities: &[Identity],
    ) -> Result<(impl ExactSizeIterator<Item = &str> + use<'_>, Stat), CoordError> {
        let node = self.permitted(path, Perms::READ, identities)?;
        Ok((node.children.iter().map(|name| &**name), node.stat()))
    }

    /// A node's access control list, to whoever may read or administer it.
    pub fn acl(&self, path: &str, identities: &[Identity]) -> Result<(Acl, Stat), CoordError> {
        let node = self.permitted(path, Perms::READ.and(Perms::ADMIN), identities)?;
        Ok((node.core.acl.clone(), node.stat()))
    }

    /// A session's ephemeral nodes, in the order of their paths.
    pub fn ephemerals(&self, session: SessionId) -> impl Iterator<Item = &NodePath> {
        self.ephemerals.get(&session).into_iter().flatten()
    }

    /// How many nodes end with a session.
    pub fn ephemeral_count(&self) -> usize {
        self.ephemerals.values().map(BTreeSet::len).sum()
    }

    /// How many nodes there are, the root among them.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Always `false`: there is a root.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// What all nodes count for, at most [`MAX_TREE_BYTES`].
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Nodes below a path, itself not among them. Costs a walk over the subtree.
    pub fn descendants(&self, path: &NodePath) -> usize {
        self.nodes
            .range::<NodePath, _>(path..)
            .skip(1)
            .map(|(p, _)| p)
            .take_while(|p| near(path, p))
            .filter(|p| path.covers(p))
            .count()
    }

    /// What the leader counts because of this node: a container without children, or a TTL node without children.
    pub(crate) fn duty(&self, path: &NodePath) -> Option<Duty> {
        let node = self.nodes.get(path).filter(|node| node.children.is_empty())?;
        let period_ms = match node.core.life {
            // One that never had a child stays, as in ZooKeeper: somebody may be about to use it.
            Life::Container if node.core.created != 0 => CONTAINER_MS,
            Life::Ttl(ms) => ms,
            _ => return None,
        };
        let propose = Body::Collect { path: path.clone(), mzxid: node.core.mzxid, pzxid: node.core.pzxid };
        Some(Duty { key: DutyKey::Node(path.clone()), period_ms, propose })
    }

    /// All that the leader counts because of nodes.
    pub(crate) fn duties(&self) -> impl Iterator<Item = Duty> {
        self.timed.iter().filter_map(|path| self.duty(path))
    }

    pub(crate) fn is_timed(&self, path: &NodePath) -> bool {
        self.timed.contains(path)
    }

    /// Does all operations or none.
    pub(crate) fn run(
        &mut self,
        ops: &[Op],
        actor: Actor<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<Vec<OpAnswer>, (usize, CoordError)> {
        let mut changing = Changing::new(self, actor);
        let mut answers = Vec::with_capacity(ops.len());
        for (at, op) in ops.iter().enumerate() {
            match changing.apply(op) {
                Ok(answer) => answers.push(answer),
                Err(error) => {
                    changing.undo();
                    return Err((at, error));
                }
            }
        }
        changes.append(&mut changing.done());
        Ok(answers)
    }

    /// Deletes what a session created for its own time.
    pub(crate) fn end_session(&mut self, session: SessionId, zxid: u64, changes: &mut Vec<Change>) {
        let paths = self.ephemerals.get(&session).cloned().unwrap_or_default();
        let actor = Actor { zxid, time: 0, session, identities: &[] };
        let mut changing = Changing::new(self, actor);
        paths.iter().for_each(|path| changing.remove(path));
        changes.append(&mut changing.done());
    }

    /// Deletes a node whose time has run out, if nothing has happened to it since.
    pub(crate) fn collect(&mut self, path: &NodePath, mzxid: u64, pzxid: u64, zxid: u64, changes: &mut Vec<Change>) {
        if self.duty(path).is_none_or(|duty| duty.propose != Body::Collect { path: path.clone(), mzxid, pzxid }) {
            return;
        }
        let mut changing = Changing::new(self, Actor { zxid, time: 0, session: SessionId(0), identities: &[] });
        changing.remove(path);
        changes.append(&mut changing.done());
    }

    /// The nodes in the order of their paths, parents before children.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&NodePath, &Core)> {
        self.nodes.iter().map(|(path, node)| (path, &node.core))
    }

    /// The sessions that have ephemeral nodes.
    pub(crate) fn owners(&self) -> impl Iterator<Item = SessionId> {
        self.ephemerals.keys().copied()
    }

    /// A tree that holds nothing yet: [`Tree::insert`] the root first.
    pub(crate) fn without_root() -> Self {
        Self { nodes: BTreeMap::new(), ephemerals: BTreeMap::new(), timed: BTreeSet::new(), bytes: 0 }
    }

    /// Adds a node under a parent that is there; counters of the parent stay as they are.
    pub(crate) fn insert(&mut self, path: NodePath, core: Core) {
        if let Some(parent) = path.parent().and_then(|parent| self.nodes.get_mut(&parent)) {
            parent.children.insert(path.name().into());
        }
        match core.life {
            Life::Ephemeral(session) => {
                self.ephemerals.entry(session).or_default().insert(path.clone());
            }
            Life::Container | Life::Ttl(_) => {
                self.timed.insert(path.clone());
            }
            Life::Persistent => {}
        }
        self.bytes += cost(&path, &core);
        self.nodes.insert(path, Node { core, children: BTreeSet::new() });
    }

    /// Removes a node without children; counters of the parent stay as they are.
    fn take(&mut self, path: &NodePath) -> Option<Core> {
        let core = self.nodes.remove(path)?.core;
        if let Some(parent) = path.parent().and_then(|parent| self.nodes.get_mut(&parent)) {
            parent.children.remove(path.name());
        }
        if let Life::Ephemeral(session) = core.life
            && let Some(paths) = self.ephemerals.get_mut(&session)
        {
            paths.remove(path);
            if paths.is_empty() {
                self.ephemerals.remove(&session);
            }
        }
        self.timed.remove(path);
        self.bytes -= cost(path, &core);
        Some(core)
    }

    pub(crate) fn node(&self, path: &str) -> Result<&Node, CoordError> {
        self.nodes.get(path).ok_or(CoordError::NoNode)
    }

    fn permitted(&self, path: &str, perms: Perms, identities: &[Identity]) -> Result<&Node, CoordError> {
        let node = self.node(path)?;
        if node.core.acl.permits(perms, identities) { Ok(node) } else { Err(CoordError::NoAuth) }
    }
}

fn cost(path: &NodePath, core: &Core) -> usize {
    path.as_str().len() + core.data.len() + core.acl.bytes() + NODE_BYTES
}

/// Whether `other` can still be followed by a path under `path`: names that continue `path`'s last segment with a character
/// below the slash sort between a node and its children.
fn near(path: &NodePath, other: &NodePath) -> bool {
    path.is_root() || other.as_str().starts_with(path.as_str())
}
