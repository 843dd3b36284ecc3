//! Stores of many tiny documents, and two replicas of them.

use std::path::Path as FilePath;

use anyhow::{Context, bail, ensure};
use foreshore::document::local::LocalChange;
use foreshore::document::template::Template;
use foreshore::engine::{Command, Reply};
use foreshore::id::{Path, Prefix, SpaceId};
use foreshore::io::{Table, WriteOp};
use foreshore::store::Redb;
use foreshore::trust::Role;

use crate::rig::{Node, Pair, Traffic, edit};

/// Documents in one commit while a store is filled.
const BATCH: usize = 1_000;

/// Where document `index` lives.
pub(crate) fn path(index: usize) -> Path {
    Path::parse(&format!("/items/{index:07}")).expect("letters, digits and slashes make a path")
}

/// Opens the store in `directory`.
pub(crate) fn open(directory: &FilePath, seed: u8) -> anyhow::Result<Node> {
    Node::open(Box::new(Redb::open(directory)?), seed)
}

/// A new space.
pub(crate) fn create_space(node: &mut Node) -> anyhow::Result<SpaceId> {
    match node.ask(Command::CreateSpace { name: "bench".into() })? {
        Reply::Space(info) => Ok(info.id),
        other => bail!("unexpected answer {other:?}"),
    }
}

/// Makes `other` a writer of `space`.
pub(crate) fn join(node: &mut Node, other: &mut Node, space: SpaceId) -> anyhow::Result<()> {
    let (role, prefix, addresses) = (Role::Writer, Prefix::root(), Vec::new());
    let invitation = match node.ask(Command::Invite { space, role, prefix, not_after: None, addresses })? {
        Reply::Invitation(text) => text,
        other => bail!("unexpected answer {other:?}"),
    };
    other.ask(Command::Join { invitation, name: None }).map(drop)
}

/// Changes documents `range`, each once and each in its own document, and gives back the bytes of the changes.
pub(crate) fn touch(node: &mut Node, space: SpaceId, range: std::ops::Range<usize>, round: i64) -> anyhow::Result<u64> {
    let template = Template::default();
    let mut bytes = 0;
    let mut changes: Vec<LocalChange> = Vec::with_capacity(BATCH);
    for index in range.clone() {
        let cell = node.document(space, path(index), &template)?;
        let change = edit(&cell, |draft| {
            draft.put("name", format!("item {index}"))?;
            draft.put("count", index as i64 + round)?;
            draft.put("done", round % 2 == 0)
        })?;
        bytes += change.bytes.len() as u64;
        changes.push(change);
        if changes.len() == BATCH || index + 1 == range.end {
            node.commit(space, std::mem::take(&mut changes))?;
        }
    }
    Ok(bytes)
}

/// Two stores, in `a` and `b` under `directory`, that hold the same `documents` tiny documents.
pub(crate) fn replicas(directory: &FilePath, documents: usize) -> anyhow::Result<(Pair, SpaceId)> {
    let mut first = open(&directory.join("a"), 1)?;
    let space = create_space(&mut first)?;
    touch(&mut first, space, 0..documents, 0)?;
    let mut second = open(&directory.join("b"), 2)?;
    join(&mut first, &mut second, space)?;
    let mut pair = Pair::link([first, second], 1)?;
    let traffic = until_equal(&mut pair)?;
    eprintln!("filled two replicas; the first sync took {:.1} MB", traffic.bytes as f64 / 1e6);
    Ok((pair, space))
}

/// Exchanges frames until both roots are equal.
pub(crate) fn until_equal(pair: &mut Pair) -> anyhow::Result<Traffic> {
    pair.exchange_until(|pair| {
        let [a, b] = &mut pair.nodes;
        Ok(root(a)? == root(b)?)
    })
}

/// The root of a node's only space.
pub(crate) fn root(node: &mut Node) -> anyhow::Result<String> {
    match node.ask(Command::Status)? {
        Reply::Status(status) => Ok(status.spaces.first().context("the store has a space")?.root.clone()),
        other => bail!("unexpected answer {other:?}"),
    }
}

/// Both replicas opened anew, as after a restart. `forget`: without the cursors into each other's arrival logs, as if they
/// had never met and had got their documents from somebody else, so that what differs has to be found.
pub(crate) fn reopened(directory: &FilePath, pair: Pair, forget: bool) -> anyhow::Result<[Node; 2]> {
    let nodes = pair.nodes.map(|mut node| node.ask(Command::Close).map(|_| node.into_backend()));
    for backend in nodes {
        let mut backend = backend?;
        if forget {
            let cursors = WriteOp::DeleteRange(Table::Meta, b"cursor/".to_vec(), b"cursor0".to_vec());
            let done = backend.write(&[(&[cursors], None)]).pop();
            ensure!(done == Some(Ok(())), "the cursors stay: {done:?}");
        }
    }
    Ok([open(&directory.join("a"), 3)?, open(&directory.join("b"), 4)?])
}
