//! Changes of the tree that can be undone.

use std::sync::Arc;

use super::{Actor, Core, MAX_TREE_BYTES, Tree, cost};
use crate::coord::acl::{Acl, Perms};
use crate::coord::error::{Argument, Bounded, CoordError};
use crate::coord::op::{MAX_DATA_BYTES, Mode, Op, OpAnswer};
use crate::coord::path::{NodePath, PathProblem, split};
use crate::coord::reply::Change;
use crate::coord::stat::{Life, MAX_NODE_TTL_MS};

/// How to take a step back.
enum Undo {
    Remove(NodePath),
    Insert(NodePath, Core),
    Restore(NodePath, Core),
}

/// Operations that are one change: done so far, and how to undo them.
pub(super) struct Changing<'a> {
    tree: &'a mut Tree,
    actor: Actor<'a>,
    undo: Vec<Undo>,
    changes: Vec<Change>,
}

impl<'a> Changing<'a> {
    pub(super) fn new(tree: &'a mut Tree, actor: Actor<'a>) -> Self {
        Self { tree, actor, undo: Vec::new(), changes: Vec::new() }
    }

    /// One operation, judged on what the earlier ones did.
    pub(super) fn apply(&mut self, op: &Op) -> Result<OpAnswer, CoordError> {
        match op {
            Op::Create { path, data, acl, mode, sequential } => self.create(path, data, acl, *mode, *sequential),
            Op::Set { path, data, version } => self.set(path, data, *version),
            Op::Delete { path, version } => self.delete(path, *version),
            Op::Check { path, version } => {
                let path = NodePath::parse(path)?;
                let core = &self.tree.permitted(path.as_str(), Perms::READ, self.actor.identities)?.core;
                next_version(core.version, *version).map(|_| OpAnswer::Checked)
            }
            Op::SetAcl { path, acl, version } => self.set_acl(path, acl, *version),
        }
    }

    /// What watchers are told.
    pub(super) fn done(self) -> Vec<Change> {
        self.changes
    }

    /// Makes the tree what it was.
    pub(super) fn undo(self) {
        for step in self.undo.into_iter().rev() {
            match step {
                Undo::Remove(path) => {
                    self.tree.take(&path);
                }
                Undo::Insert(path, core) => self.tree.insert(path, core),
                Undo::Restore(path, core) => replace(self.tree, &path, core),
            }
        }
    }

    fn create(
        &mut self,
        path: &str,
        data: &Arc<[u8]>,
        acl: &Acl,
        mode: Mode,
        sequential: bool,
    ) -> Result<OpAnswer, CoordError> {
        let life = match mode {
            Mode::Persistent => Life::Persistent,
            Mode::Ephemeral => Life::Ephemeral(self.actor.session),
            Mode::Container => Life::Container,
            Mode::Ttl(ms) if (1..=MAX_NODE_TTL_MS).contains(&ms) => Life::Ttl(ms),
            Mode::Ttl(_) => return Err(Argument::NodeTtl.into()),
        };
        check_data(data)?;
        let parent = parent_of(path)?;
        let acl = acl.resolve(self.actor.identities)?;
        let (parent_path, parent_node) = self.tree.nodes.get_key_value(parent).ok_or(CoordError::NoNode)?;
        if !parent_node.core.acl.permits(Perms::CREATE, self.actor.identities) {
            return Err(CoordError::NoAuth);
        }
        let path = match sequential {
            true => NodePath::parse(&format!("{path}{:010}", parent_node.core.created)),
            false => NodePath::parse(path),
        }?;
        if self.tree.nodes.contains_key(&path) {
            return Err(CoordError::NodeExists);
        }
        if matches!(parent_node.core.life, Life::Ephemeral(_)) {
            return Err(CoordError::NoChildrenForEphemerals);
        }
        let (parent_path, mut parent) = (parent_path.clone(), parent_node.core.clone());
        let core = Core::new(data.clone(), acl, life, self.actor.zxid, self.actor.time);
        self.check_room(cost(&path, &core))?;
        let change = Change::Created { path: path.clone(), acl: core.acl.clone(), parent_acl: parent.acl.clone() };
        parent.created = parent.created.wrapping_add(1);
        parent.pzxid = self.actor.zxid;
        self.restore(&parent_path, parent);
        self.tree.insert(path.clone(), core);
        self.undo.push(Undo::Remove(path.clone()));
        self.changes.push(change);
        let stat = self.tree.node(path.as_str())?.stat();
        Ok(OpAnswer::Created { path, stat })
    }

    fn set(&mut self, path: &str, data: &Arc<[u8]>, version: i32) -> Result<OpAnswer, CoordError> {
        check_data(data)?;
        let path = NodePath::parse(path)?;
        let mut core = self.tree.permitted(path.as_str(), Perms::WRITE, self.actor.identities)?.core.clone();
        core.version = next_version(core.version, version)?;
        self.check_room(data.len().saturating_sub(core.data.len()))?;
        core.data = data.clone();
        core.mzxid = self.actor.zxid;
        core.mtime = self.actor.time;
        self.changes.push(Change::Set { path: path.clone(), acl: core.acl.clone() });
        self.restore(&path, core);
        Ok(OpAnswer::Set(self.tree.node(path.as_str())?.stat()))
    }

    fn set_acl(&mut self, path: &str, acl: &Acl, version: i32) -> Result<OpAnswer, CoordError> {
        let path = NodePath::parse(path)?;
        let acl = acl.resolve(self.actor.identities)?;
        let mut core = self.tree.permitted(path.as_str(), Perms::ADMIN, self.actor.identities)?.core.clone();
        core.aversion = next_version(core.aversion, version)?;
        self.check_room(acl.bytes().saturating_sub(core.acl.bytes()))?;
        core.acl = acl;
        self.restore(&path, core);
        Ok(OpAnswer::AclSet(self.tree.node(path.as_str())?.stat()))
    }

    fn delete(&mut self, path: &str, version: i32) -> Result<OpAnswer, CoordError> {
        let parent = parent_of(path)?;
        if path == "/" {
            return Err(PathProblem::Root.into());
        }
        self.tree.permitted(parent, Perms::DELETE, self.actor.identities)?;
        let (path, node) = self.tree.nodes.get_key_value(path).ok_or(CoordError::NoNode)?;
        next_version(node.core.version, version)?;
        if !node.children.is_empty() {
            return Err(CoordError::NotEmpty);
        }
        let path = path.clone();
        self.remove(&path);
        Ok(OpAnswer::Deleted)
    }

    /// Removes a node that is there and has no children, whoever asks.
    pub(super) fn remove(&mut self, path: &NodePath) {
        let Some(parent_path) = path.parent() else { return };
        let Some(core) = self.tree.take(path) else { return };
        let parent = self.tree.nodes.get(&parent_path).map(|node| node.core.clone());
        let mut parent = parent.expect("a node's parent stays as long as it has children");
        let change = Change::Deleted { path: path.clone(), acl: core.acl.clone(), parent_acl: parent.acl.clone() };
        self.undo.push(Undo::Insert(path.clone(), core));
        parent.pzxid = self.actor.zxid;
        self.restore(&parent_path, parent);
        self.changes.push(change);
    }

    fn restore(&mut self, path: &NodePath, core: Core) {
        if let Some(node) = self.tree.nodes.get(path) {
            self.undo.push(Undo::Restore(path.clone(), node.core.clone()));
            replace(self.tree, path, core);
        }
    }

    fn check_room(&self, more: usize) -> Result<(), CoordError> {
        if self.tree.bytes + more > MAX_TREE_BYTES {
            return Err(CoordError::TooLarge { what: Bounded::Tree, max: MAX_TREE_BYTES as u64 });
        }
        Ok(())
    }
}

/// Gives a node another content. Its life never changes, so no index does.
fn replace(tree: &mut Tree, path: &NodePath, core: Core) {
    if let Some(node) = tree.nodes.get_mut(path) {
        tree.bytes = tree.bytes - cost(path, &node.core) + cost(path, &core);
        node.core = core;
    }
}

fn check_data(data: &[u8]) -> Result<(), CoordError> {
    if data.len() > MAX_DATA_BYTES {
        return Err(CoordError::TooLarge { what: Bounded::Data, max: MAX_DATA_BYTES as u64 });
    }
    Ok(())
}

/// What ZooKeeper looks for first. The path itself is not judged yet.
fn parent_of(path: &str) -> Result<&str, CoordError> {
    if path.contains('\0') {
        return Err(PathProblem::Character.into());
    }
    let problem = if path.is_empty() { PathProblem::Empty } else { PathProblem::NoLeadingSlash };
    split(path).map(|(parent, _)| parent).ok_or(problem.into())
}

/// The version after a change, if the node has the expected one. It passes over −1, which means any.
fn next_version(found: i32, expected: i32) -> Result<i32, CoordError> {
    match expected {
        -1 => {}
        expected if expected == found => {}
        _ => return Err(CoordError::BadVersion { found }),
    }
    Ok(match found.wrapping_add(1) {
        -1 => 0,
        next => next,
    })
}
