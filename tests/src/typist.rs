//! Typing a concurrent trace through peers, each agent on a peer of its own.
//!
//! A transaction is typed as its agent saw the text: at the heads of the transaction's parents. So links may deliver as
//! early and as late as they like, and the graph of changes is the trace's own graph. A [`Board`] tells each agent which
//! change became of which transaction; a change itself comes by the network alone, and an agent waits for it.

use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use foreshore::document::{HotError, Template, Value};
use foreshore::id::{ChangeHash, Prefix};
use foreshore::peer::{Commit, Document, DocumentError, Space};
use tokio::sync::{Notify, mpsc};

use crate::traces::{Trace, Txn};

/// The key of the text in a typed document.
pub const BODY: &str = "body";

/// The template of a document that `trace` is typed into: its starting text.
pub fn template(trace: &Trace) -> anyhow::Result<Template> {
    Ok(Template::new(&Value::from_json(&serde_json::json!({ BODY: { "$text": trace.start } }))?)?)
}

/// Which heads became of which transaction: one change, or the parents' heads where a transaction changed nothing.
#[derive(Debug)]
pub struct Board {
    heads: Mutex<Vec<Option<Vec<ChangeHash>>>>,
    posted: Notify,
}

impl Board {
    /// A board on which nothing stands yet.
    pub fn new(trace: &Trace) -> Self {
        Self { heads: Mutex::new(vec![None; trace.txns.len()]), posted: Notify::new() }
    }

    /// Says what became of a transaction.
    pub fn post(&self, txn: usize, heads: Vec<ChangeHash>) {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)[txn] = Some(heads);
        self.posted.notify_waiters();
    }

    /// What became of a transaction, if anybody has said.
    pub fn look(&self, txn: usize) -> Option<Vec<ChangeHash>> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)[txn].clone()
    }

    /// Waits until somebody has said what became of a transaction.
    pub async fn wait(&self, txn: usize) -> Vec<ChangeHash> {
        loop {
            let posted = self.posted.notified();
            if let Some(heads) = self.look(txn) {
                return heads;
            }
            posted.await;
        }
    }

    /// The heads of the merge of several transactions, each of which nobody of the others stands on.
    pub async fn merge(&self, txns: &[usize]) -> Vec<ChangeHash> {
        let mut heads = Vec::new();
        for &txn in txns {
            heads.extend(self.wait(txn).await);
        }
        heads.sort_unstable();
        heads.dedup();
        heads
    }
}

/// What somebody who follows a typist is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// This transaction has been typed, and these are its heads.
    Typed(usize, Vec<ChangeHash>),
    /// This one waits for a change of somebody else.
    Waits(usize),
    /// Everything is typed and durable.
    Done,
}

/// Types every transaction of `agent`, in order. `follow` is told of each step with the agent's number; whoever listens
/// may take their time, and may go away.
pub async fn type_out(
    (space, document): (&Space, &Document),
    trace: &Trace,
    agent: usize,
    board: &Board,
    follow: mpsc::Sender<(usize, Step)>,
) -> anyhow::Result<()> {
    let tell = async |step| drop(follow.send((agent, step)).await);
    let mut last = None;
    for (index, txn) in trace.txns.iter().enumerate().filter(|(_, txn)| txn.agent == agent) {
        if txn.parents.iter().any(|&parent| board.look(parent).is_none()) {
            tell(Step::Waits(index)).await;
        }
        let at = board.merge(&txn.parents).await;
        let mut arrivals = None;
        let commit = loop {
            if let Some(commit) =
                try_typing(document, txn, &at).await.with_context(|| format!("transaction {index}"))?
            {
                break commit;
            }
            match &mut arrivals {
                // The space tells of every change; a watch of the document would keep those to itself that show nothing.
                // Watching begins before the second try, so that what arrives in between is not missed.
                None => {
                    arrivals = Some(space.watch(Prefix::from(document.path()))?);
                    tell(Step::Waits(index)).await;
                }
                Some(watch) => drop(watch.next().await.context("the peer closed")?),
            }
        };
        let heads = commit.hash().map_or(at, |hash| vec![hash]);
        board.post(index, heads.clone());
        tell(Step::Typed(index, heads)).await;
        last = Some(commit);
        // Typing never waits by itself: let links and storage have their turn.
        tokio::task::yield_now().await;
    }
    if let Some(last) = last {
        last.durable().await?;
    }
    tell(Step::Done).await;
    Ok(())
}

/// Types one transaction at `heads` as soon as the store has room; `None` where they are not here yet.
async fn try_typing(document: &Document, txn: &Txn, heads: &[ChangeHash]) -> anyhow::Result<Option<Commit>> {
    loop {
        let typed = document.edit_at(heads, |draft| {
            let mut body = draft.text(BODY)?;
            txn.patches.iter().try_for_each(|patch| body.splice(patch.at..patch.at + patch.deleted, &patch.inserted))
        });
        match typed {
            Ok(commit) => return Ok(Some(commit)),
            Err(DocumentError::Busy) => document.ready().await,
            Err(DocumentError::Hot(HotError::UnknownHeads { .. })) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits until `document` stands at exactly these heads, in what is shown and in the store: what is shown may be ahead of that,
/// and of the roots.
pub async fn arrive(space: &Space, document: &Document, heads: &[ChangeHash]) -> anyhow::Result<()> {
    let place = Prefix::from(document.path());
    let mut arrivals = space.watch(&place)?;
    loop {
        let stored = space.list(&place).await?.items;
        let there = stored.iter().any(|item| item.path == *document.path() && item.heads == heads);
        if there && document.heads()? == heads {
            return Ok(());
        }
        arrivals.next().await.context("the peer closed")?;
    }
}
