//! Foreshore's side: a peer with a store on disk.

use std::path::Path;

use anyhow::Context;
use foreshore::peer::{Document, Peer, Space};
use foreshore::store::Redb;
use foreshore::trust::Role;

use super::{KEY, documents_and_rest, nanos, say};

/// Documents made at once.
const AT_ONCE: usize = 500;

/// Where the documents are.
fn path(index: usize) -> String {
    format!("/documents/{index}")
}

/// A peer with documents, the first of them open.
pub(super) struct Source {
    peer: Peer,
    space: Space,
    document: Document,
}

impl Source {
    pub(super) async fn start(directory: &Path, documents: usize) -> anyhow::Result<Self> {
        let peer = Peer::builder().store(Redb::open(directory)?).listen("/ip4/127.0.0.1/tcp/0").spawn().await?;
        let space = peer.create_space("bench").await?;
        for begin in (0..documents).step_by(AT_ONCE) {
            let mut commits = Vec::new();
            for index in begin..documents.min(begin + AT_ONCE) {
                let document = space.document(path(index).as_str()).await?;
                commits.push(document.edit(|d| {
                    d.put(KEY, 0)?;
                    d.put("title", format!("document {index}"))?;
                    d.put("done", false)
                })?);
            }
            for commit in commits {
                commit.durable().await?;
            }
        }
        let document = space.document(path(0).as_str()).await?;
        Ok(Self { peer, space, document })
    }

    pub(super) async fn invitation(&self) -> anyhow::Result<String> {
        Ok(self.space.invite(Role::Writer).await?.to_string())
    }

    pub(super) fn edit(&self, n: i64) -> anyhow::Result<()> {
        self.document.edit(|d| d.put(KEY, n)).map(drop)?;
        Ok(())
    }
}

impl Source {
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        Ok(self.peer.shutdown().await?)
    }
}

/// Joins, and says when which number was seen.
pub(super) async fn watch(directory: &Path, invitation: &str) -> anyhow::Result<()> {
    let peer = Peer::builder().store(Redb::open(directory)?).spawn().await?;
    let space = peer.join(invitation).await?;
    let document: Document = space.document(path(0).as_str()).await?;
    // Told that the document changed, as samod's watcher is.
    let mut watch = document.watch()?;
    let number = || anyhow::Ok(document.read(|d| Ok(d.get(KEY).and_then(|value| value.as_i64())))?);
    while number()?.is_none() {
        anyhow::ensure!(watch.changed().await, "the peer runs");
    }
    say("ready");
    while watch.changed().await {
        if let Some(number) = number()? {
            let at = nanos();
            say(format_args!("{number} {at}"));
        }
    }
    Ok(())
}

/// Joins, and says how long it took until everything was here.
pub(super) async fn sync(directory: &Path, invitation: &str) -> anyhow::Result<()> {
    let (documents, invitation) = documents_and_rest(invitation)?;
    let peer = Peer::builder().store(Redb::open(directory)?).spawn().await?;
    say("ready");
    let began = nanos();
    let space = peer.join(invitation).await?;
    let mut watch = space.watch("/")?;
    loop {
        let status = peer.status().await?;
        let here = status.engine.spaces.iter().find(|s| s.info.id == space.id()).map_or(0, |s| s.info.documents);
        if here >= documents as u64 {
            break;
        }
        // Whatever arrives in a burst is one look; the pause is part of what is measured.
        watch.next().await.context("the peer runs")?;
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    say(format_args!("{}", (nanos() - began) as f64 / 1e9));
    std::future::pending().await
}
