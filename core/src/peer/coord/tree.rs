//! The tree of nodes.

use std::future::IntoFuture;
use std::time::Duration;

use super::{Acl, Boxed, Coordinator, Op, OpAnswer, Stat, is, mismatch};
use crate::coord::command::Command as Call;
use crate::coord::error::CoordError;
use crate::coord::op::Mode;
use crate::coord::reply::Answer;
use crate::coord::serve::talk::{Found, Query};
use crate::engine::CommandError;

/// A node's data, and what else is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeData {
    /// The data.
    pub data: Vec<u8>,
    /// Version, times, owner.
    pub stat: Stat,
}

/// The tree, from [`Coordinator::tree`]. Reads see everything that this session has done and seen; with
/// [`Tree::linear`], everything that was acknowledged to anyone.
#[derive(Debug, Clone)]
pub struct Tree {
    coordinator: Coordinator,
    linear: bool,
    watch: bool,
}

impl Tree {
    pub(super) fn new(coordinator: Coordinator) -> Self {
        Self { coordinator, linear: false, watch: false }
    }

    /// Reads cost a round to a majority, and see everything that was acknowledged to anyone before.
    pub fn linear(mut self) -> Self {
        self.linear = true;
        self
    }

    /// Reads set a one-shot watch on what they read; see [`Coordinator::events`].
    pub fn watching(mut self) -> Self {
        self.watch = true;
        self
    }

    async fn read(&self, query: Query) -> Result<Found, CommandError> {
        self.coordinator.read(query, self.linear, self.watch).await.map(|(_, found)| found)
    }

    /// A node's data; `None` if there is none.
    pub async fn get(&self, path: impl Into<String>) -> Result<Option<NodeData>, CommandError> {
        match self.read(Query::Data(path.into())).await {
            Ok(Found::Data(data, stat)) => Ok(Some(NodeData { data: data.to_vec(), stat })),
            Ok(_) => Err(mismatch()),
            Err(error) if is(&error, &CoordError::NoNode) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What is known of a node; `None` if there is none.
    pub async fn stat(&self, path: impl Into<String>) -> Result<Option<Stat>, CommandError> {
        match self.read(Query::Exists(path.into())).await {
            Ok(Found::Exists(stat)) => Ok(Some(stat)),
            Ok(_) => Err(mismatch()),
            Err(error) if is(&error, &CoordError::NoNode) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Names of a node's children, in the order of their bytes.
    pub async fn children(&self, path: impl Into<String>) -> Result<Vec<String>, CommandError> {
        match self.read(Query::Children(path.into())).await? {
            Found::Children(names, _) => Ok(names),
            _ => Err(mismatch()),
        }
    }

    /// A node to be created.
    pub fn create(&self, path: impl Into<String>, data: impl Into<Vec<u8>>) -> CreateNode {
        let (tree, path, data) = (self.clone(), path.into(), data.into());
        CreateNode { tree, path, data, mode: Mode::Persistent, sequential: false, acl: Acl::open() }
    }

    /// Replaces a node's data, if it has this version.
    pub async fn set(
        &self,
        path: impl Into<String>,
        data: impl Into<Vec<u8>>,
        version: Option<i32>,
    ) -> Result<Stat, CommandError> {
        let op = Op::Set { path: path.into(), data: data.into().into(), version: version.unwrap_or(-1) };
        match self.op(op).await? {
            OpAnswer::Set(stat) => Ok(stat),
            _ => Err(mismatch()),
        }
    }

    /// Deletes a node without children, if it has this version.
    pub async fn delete(&self, path: impl Into<String>, version: Option<i32>) -> Result<(), CommandError> {
        self.op(Op::Delete { path: path.into(), version: version.unwrap_or(-1) }).await.map(drop)
    }

    /// All operations or none; the error names the one that failed.
    pub async fn multi(&self, ops: Vec<Op>) -> Result<Vec<OpAnswer>, CommandError> {
        let wait = Some(self.coordinator.patience());
        match self.coordinator.call(Call::Multi(ops), wait).await?.1 {
            Answer::Multi(answers) => Ok(answers),
            _ => Err(mismatch()),
        }
    }

    async fn op(&self, op: Op) -> Result<OpAnswer, CommandError> {
        let wait = Some(self.coordinator.patience());
        match self.coordinator.call(Call::Op(op), wait).await?.1 {
            Answer::Op(answer) => Ok(answer),
            _ => Err(mismatch()),
        }
    }
}

/// A node to be created when this is awaited: its full path.
#[must_use = "a node is created when this is awaited"]
#[derive(Debug, Clone)]
pub struct CreateNode {
    tree: Tree,
    path: String,
    data: Vec<u8>,
    mode: Mode,
    sequential: bool,
    acl: Acl,
}

impl CreateNode {
    /// It is gone with this session.
    pub fn ephemeral(mut self) -> Self {
        self.mode = Mode::Ephemeral;
        self
    }

    /// It is gone with its last child.
    pub fn container(mut self) -> Self {
        self.mode = Mode::Container;
        self
    }

    /// It is gone when it had no children and was not set for so long.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.mode = Mode::Ttl(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Ten digits are added to its name, counting up under its parent.
    pub fn sequential(mut self) -> Self {
        self.sequential = true;
        self
    }

    /// Who may do what with it. Default: everybody everything.
    pub fn acl(mut self, acl: Acl) -> Self {
        self.acl = acl;
        self
    }
}

impl IntoFuture for CreateNode {
    type Output = Result<String, CommandError>;
    type IntoFuture = Boxed<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self { tree, path, data, mode, sequential, acl } = self;
            match tree.op(Op::Create { path, data: data.into(), acl, mode, sequential }).await? {
                OpAnswer::Created { path, .. } => Ok(path.as_str().to_owned()),
                _ => Err(mismatch()),
            }
        })
    }
}
