//! An edit on its way: into the store, and to other peers.

use std::pin::pin;
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use super::client::Client;
use crate::engine::{Command, CommandError, Reply};
use crate::id::{ChangeHash, DocumentId, Path, SpaceId};
use crate::session::{Bookmark, BookmarkError};

/// Heads of the documents that a commit touched.
type Outcome = Result<Vec<(DocumentId, Vec<ChangeHash>)>, CommandError>;

/// An edit that was made here. It is visible to this program at once; [`Commit::durable`] says when it is stored, and
/// [`Commit::synced`] when others have stored it too. Dropping it, or its futures, undoes nothing.
#[derive(Clone)]
pub struct Commit {
    client: Arc<Client>,
    space: SpaceId,
    /// What the edit made, by document; empty if it changed nothing.
    made: Arc<[(DocumentId, ChangeHash)]>,
    /// Where the documents are, with their generations.
    places: Arc<[(DocumentId, Path, u32)]>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    outcome: OnceLock<Outcome>,
    done: Notify,
}

impl Shared {
    fn complete(&self, outcome: Outcome) {
        if self.outcome.set(outcome).is_ok() {
            self.done.notify_waiters();
        }
    }
}

/// Completes a commit; dropped without an answer, it says that the peer is gone.
pub(crate) struct Completer(Arc<Shared>);

impl Completer {
    pub(crate) fn complete(self, result: Result<Reply, CommandError>) {
        self.0.complete(match result {
            Ok(Reply::Committed(heads)) => Ok(heads),
            Ok(_) => Ok(Vec::new()),
            Err(error) => Err(error),
        });
    }
}

impl Drop for Completer {
    fn drop(&mut self) {
        self.0.complete(Err(CommandError::Closed));
    }
}

impl Commit {
    /// A commit under way, and what completes it.
    pub(crate) fn begin(
        client: Arc<Client>,
        space: SpaceId,
        made: Vec<(DocumentId, ChangeHash)>,
        places: Vec<(DocumentId, Path, u32)>,
    ) -> (Self, Completer) {
        let shared = Arc::new(Shared::default());
        let completer = Completer(shared.clone());
        (Self { client, space, made: made.into(), places: places.into(), shared }, completer)
    }

    /// The commit of an edit that changed nothing: durable as it is.
    pub(crate) fn nothing(client: Arc<Client>, space: SpaceId, heads: Vec<(DocumentId, Vec<ChangeHash>)>) -> Self {
        let shared = Shared::default();
        shared.complete(Ok(heads));
        Self { client, space, made: Arc::new([]), places: Arc::new([]), shared: Arc::new(shared) }
    }

    /// The change that the edit made, or `None` if it changed nothing. The first one, for a batch.
    pub fn hash(&self) -> Option<ChangeHash> {
        self.made.first().map(|(_, hash)| *hash)
    }

    /// Every document that was changed, with the change made to it.
    pub fn changes(&self) -> &[(DocumentId, ChangeHash)] {
        &self.made
    }

    /// Whether it is stored already.
    pub fn is_durable(&self) -> bool {
        matches!(self.shared.outcome.get(), Some(Ok(_)))
    }

    /// Waits until the edit is stored: it survives a crash from here on. Returns the document's heads right after it;
    /// of the first document, for a batch.
    ///
    /// # Errors
    /// The edit is not stored and will not be; the document shows what is stored again, as soon as it is reopened.
    pub async fn durable(&self) -> Result<Vec<ChangeHash>, CommandError> {
        Ok(self.durable_all().await?.into_iter().next().map(|(_, heads)| heads).unwrap_or_default())
    }

    /// [`Commit::durable`] with the heads of every document of a batch.
    pub async fn durable_all(&self) -> Result<Vec<(DocumentId, Vec<ChangeHash>)>, CommandError> {
        loop {
            let mut done = pin!(self.shared.done.notified());
            // Listening begins before looking: an answer in between is not missed.
            done.as_mut().enable();
            if let Some(outcome) = self.shared.outcome.get() {
                return outcome.clone();
            }
            done.await;
        }
    }

    /// Waits until the edit is stored, and returns a bookmark of it: whoever reads with it, on any peer, is shown a state
    /// that has the edit. See [`Space::read`](super::Space::read). Of an edit that changed nothing it asks for nothing.
    ///
    /// # Errors
    /// As for [`Commit::durable`].
    pub async fn bookmark(&self) -> Result<Bookmark, CommandError> {
        let heads = self.durable_all().await?;
        let mut bookmark = Bookmark::new(self.space).with_hint(self.client.peer);
        if self.made.is_empty() {
            return Ok(bookmark);
        }
        for (document, heads) in heads {
            let Some((_, path, generation)) = self.places.iter().find(|(id, ..)| *id == document) else { continue };
            match bookmark.see(path, *generation, heads) {
                Ok(()) => {}
                // More than is named one by one: a point in this store's log stands for it.
                Err(BookmarkError::TooMany { .. }) => return self.whole_store().await,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(bookmark)
    }

    async fn whole_store(&self) -> Result<Bookmark, CommandError> {
        match self.client.call(Command::Bookmark { space: self.space, paths: Vec::new() }).await? {
            Reply::Bookmark(bookmark) => Ok(*bookmark),
            other => Err(super::space::unexpected(&other)),
        }
    }

    /// Waits until the edit is stored here and, durably, by `peers` others.
    pub async fn synced(&self, peers: usize) -> Result<(), CommandError> {
        self.durable_all().await?;
        for (document, hash) in self.made.iter() {
            let (space, document, heads) = (self.space, *document, vec![*hash]);
            self.client.call(Command::Synced { space, document, heads, peers }).await?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Commit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Commit").field("made", &self.made).field("outcome", &self.shared.outcome.get()).finish()
    }
}
