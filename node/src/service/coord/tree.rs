//! The tree of nodes.

use std::time::Duration;

use foreshore::coord::watch::{EventKind, Watch};
use foreshore::coord::{CoordError, NodePath};
use foreshore::peer::coord::{Life, NodeEvent, Stat, Tree};

use super::super::{Service, give, refused};
use super::{session_over, stopped};
use crate::control::Items;
use crate::failure::{Code, Failure};
use crate::request::{Blob, NodeEventLine, NodeLife, NodeLine, StatLine};

impl Service {
    async fn tree(&self, space: &str, stale: bool) -> Result<Tree, Failure> {
        let tree = self.shared_session(space).await?.tree();
        Ok(if stale { tree } else { tree.linear() })
    }

    pub(in crate::service) async fn tree_get(&self, space: &str, path: &str, stale: bool) -> Result<NodeLine, Failure> {
        check(path)?;
        let found = self.tree(space, stale).await?.get(path).await.map_err(refused)?;
        let found = found.ok_or_else(|| no_node(path))?;
        Ok(NodeLine { path: path.into(), data: Some(found.data.into()), stat: Some(stat_line(&found.stat)) })
    }

    pub(in crate::service) async fn tree_set(
        &self,
        space: &str,
        path: &str,
        data: &Blob,
        version: Option<i32>,
    ) -> Result<NodeLine, Failure> {
        let stat = self.tree(space, true).await?.set(path, data.bytes(), version).await.map_err(refused)?;
        Ok(NodeLine { path: path.into(), data: None, stat: Some(stat_line(&stat)) })
    }

    pub(in crate::service) async fn tree_create(
        &self,
        space: &str,
        path: &str,
        data: &Blob,
        (sequential, life): (bool, NodeLife),
        items: &Items,
    ) -> Result<Option<NodeLine>, Failure> {
        let session = match life {
            NodeLife::Ephemeral => self.own_session(space, None).await?,
            _ => self.shared_session(space).await?,
        };
        let create = session.tree().create(path, data.bytes());
        let create = match life {
            NodeLife::Persistent => create,
            NodeLife::Ephemeral => create.ephemeral(),
            NodeLife::Container => create.container(),
            NodeLife::TtlMillis(ttl) => create.ttl(Duration::from_millis(ttl)),
        };
        let create = if sequential { create.sequential() } else { create };
        let line = NodeLine { path: create.await.map_err(refused)?, data: None, stat: None };
        if life != NodeLife::Ephemeral {
            return Ok(Some(line));
        }
        give(items, line).await?;
        // Until the caller hangs up, and this is dropped.
        tokio::select! {
            () = session.over() => Err(session_over()),
            () = self.until_stopping() => Err(stopped()),
        }
    }

    pub(in crate::service) async fn tree_delete(
        &self,
        space: &str,
        path: &str,
        version: Option<i32>,
    ) -> Result<NodeLine, Failure> {
        self.tree(space, true).await?.delete(path, version).await.map_err(refused)?;
        Ok(NodeLine { path: path.into(), data: None, stat: None })
    }

    pub(in crate::service) async fn tree_list(
        &self,
        space: &str,
        path: &str,
        stale: bool,
    ) -> Result<Vec<String>, Failure> {
        check(path)?;
        self.tree(space, stale).await?.children(path).await.map_err(refused)
    }

    pub(in crate::service) async fn tree_watch(
        &self,
        space: &str,
        path: &str,
        recursive: bool,
        count: Option<u64>,
        items: &Items,
    ) -> Result<(), Failure> {
        let session = self.own_session(space, None).await?;
        let mut events = session.events();
        let watch = if recursive { Watch::Recursive } else { Watch::Persistent };
        session.watch(watch, path).await.map_err(refused)?;
        give(items, NodeEventLine { kind: "watching".into(), path: path.into(), zxid: 0 }).await?;
        for _ in 0..count.unwrap_or(u64::MAX) {
            let event = tokio::select! {
                event = events.next() => event.ok_or_else(stopped)?,
                () = session.over() => return Err(session_over()),
                () = self.until_stopping() => return Err(stopped()),
            };
            give(items, event_line(event)).await?;
        }
        Ok(())
    }
}

/// What is no path is no missing node either.
fn check(path: &str) -> Result<(), Failure> {
    NodePath::parse(path).map(drop).map_err(|problem| refused(CoordError::from(problem).into()))
}

fn no_node(path: &str) -> Failure {
    Failure::new(Code::NotFound, format_args!("no such node: {path}"))
}

fn event_line(event: NodeEvent) -> NodeEventLine {
    let kind = match event.kind {
        EventKind::Created => "created",
        EventKind::Changed => "changed",
        EventKind::Deleted => "deleted",
        EventKind::Children => "children",
        EventKind::Leader => "leader",
        EventKind::Ready => "ready",
        EventKind::Resync => "resync",
    };
    NodeEventLine { kind: kind.into(), path: event.path, zxid: event.zxid }
}

fn stat_line(stat: &Stat) -> StatLine {
    let (life, owner) = match stat.life {
        Life::Persistent => (NodeLife::Persistent, None),
        Life::Ephemeral(session) => (NodeLife::Ephemeral, Some(session.to_string())),
        Life::Container => (NodeLife::Container, None),
        Life::Ttl(millis) => (NodeLife::TtlMillis(millis), None),
    };
    StatLine {
        version: stat.version,
        cversion: stat.cversion,
        aversion: stat.aversion,
        czxid: stat.czxid,
        mzxid: stat.mzxid,
        pzxid: stat.pzxid,
        ctime: stat.ctime,
        mtime: stat.mtime,
        data_length: stat.data_length,
        num_children: stat.num_children,
        owner,
        life,
    }
}
