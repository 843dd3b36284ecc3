//! Handles of spaces.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::batch::Batch;
use super::client::Client;
use super::commit::Commit;
use super::document::{Core, Document, DocumentError};
use super::session::{Reach, Read};
use super::typed::Content;
use super::watch::{SpaceWatch, Window};
use crate::document::{Template, Value};
use crate::engine::{
    Command, CommandError, DocumentInfo, EvictedChange, EvictedDocument, Keep, MAX_LIST, MemberInfo, Reply, SpaceInfo,
    StoredChanges,
};
use crate::id::{ChangeHash, DeviceId, FactHash, Path, Prefix, SpaceId};
use crate::session::Bookmark;
use crate::time::WallTime;
use crate::trust::{Role, RootKey};

/// A space of this store: a tree of documents and the devices that may use it. Cheap to clone.
///
/// Where a path or prefix is asked for, text does: it is parsed, and what is wrong with it comes back as
/// [`CommandError::Invalid`].
#[derive(Clone)]
pub struct Space {
    pub(crate) client: Arc<Client>,
    pub(crate) id: SpaceId,
    name: Arc<str>,
}

impl std::fmt::Debug for Space {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Space").field("id", &self.id).field("name", &self.name).finish()
    }
}

/// A page of documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The documents, in path order.
    pub items: Vec<DocumentInfo>,
    /// Pass it to [`List::after`] for the next page; `None`: this was the last.
    pub next: Option<Path>,
}

/// A value as it stood at its heads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The value.
    pub value: Value,
    /// The heads.
    pub heads: Vec<ChangeHash>,
}

/// A page of a portable copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportPage {
    /// Its bytes, for [`Space::import`] elsewhere.
    pub page: Vec<u8>,
    /// Pass it to [`Space::export`] for the next page; `None`: this was the last.
    pub next: Option<Path>,
}

/// What an import brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// Changes that were new.
    pub changes: u64,
    /// Changes that the ingest checks refused.
    pub refused: u64,
}

/// Text, or something parsed already, that names a path.
pub trait IntoPath {
    /// Parses it.
    fn into_path(self) -> Result<Path, CommandError>;
}

/// Text, or something parsed already, that names a prefix.
pub trait IntoPrefix {
    /// Parses it.
    fn into_prefix(self) -> Result<Prefix, CommandError>;
}

impl IntoPath for Path {
    fn into_path(self) -> Result<Path, CommandError> {
        Ok(self)
    }
}

impl IntoPath for &Path {
    fn into_path(self) -> Result<Path, CommandError> {
        Ok(self.clone())
    }
}

impl IntoPath for &str {
    fn into_path(self) -> Result<Path, CommandError> {
        Path::parse(self).map_err(|error| CommandError::Invalid { what: "path", why: error.to_string() })
    }
}

impl IntoPath for &String {
    fn into_path(self) -> Result<Path, CommandError> {
        self.as_str().into_path()
    }
}

impl IntoPrefix for Prefix {
    fn into_prefix(self) -> Result<Prefix, CommandError> {
        Ok(self)
    }
}

impl IntoPrefix for &Prefix {
    fn into_prefix(self) -> Result<Prefix, CommandError> {
        Ok(self.clone())
    }
}

impl IntoPrefix for &str {
    fn into_prefix(self) -> Result<Prefix, CommandError> {
        Prefix::parse(self).map_err(|error| CommandError::Invalid { what: "prefix", why: error.to_string() })
    }
}

impl IntoPrefix for &String {
    fn into_prefix(self) -> Result<Prefix, CommandError> {
        self.as_str().into_prefix()
    }
}

/// A reply of another kind than the command asks for: the engine and this file disagree.
pub(crate) fn unexpected(reply: &Reply) -> CommandError {
    CommandError::Invalid { what: "reply", why: format!("the engine answered with {reply:?}") }
}

pub(crate) async fn list_page(
    client: &Arc<Client>,
    space: SpaceId,
    prefix: &Prefix,
    after: Option<Path>,
    limit: usize,
) -> Result<Page, CommandError> {
    match client.call(Command::List { space, prefix: prefix.clone(), after, limit }).await? {
        Reply::List { items, next } => Ok(Page { items, next }),
        other => Err(unexpected(&other)),
    }
}

impl Space {
    pub(crate) fn new(client: Arc<Client>, info: SpaceInfo) -> Self {
        Self { client, id: info.id, name: info.name.into() }
    }

    /// Its id: the same wherever it is.
    pub fn id(&self) -> SpaceId {
        self.id
    }

    /// Its name in this store.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The live document at a path, in memory from here on. Opening writes nothing: a document comes into being with
    /// its first edit.
    pub async fn document(&self, path: impl IntoPath) -> Result<Document<Value>, CommandError> {
        self.document_with(path, &Template::default()).await
    }

    /// [`Space::document`] with a template, which is what the document is before anybody has written: two peers that
    /// open the same template offline edit the same texts, lists and counters.
    pub async fn document_with<T>(
        &self,
        path: impl IntoPath,
        template: &Template,
    ) -> Result<Document<T>, CommandError> {
        let path = path.into_path()?;
        let open = Command::Open { space: self.id, path: path.clone(), template: template.clone() };
        match self.client.call(open).await? {
            Reply::Document { document, generation, cell } => {
                let opened = (document, generation, cell);
                Ok(Document::from_core(Core::new(self.client.clone(), self.id, path, template.clone(), opened)))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Edits several documents of this space as one: all of it is stored, in one write, or nothing is. The closure names
    /// the edits; they run when it returns, and when one of them fails, none has happened. What others see may still
    /// arrive one document after the other.
    ///
    /// ```no_run
    /// # use foreshore::peer::{Document, Space};
    /// # fn f(space: Space, from: Document, to: Document) -> Result<(), Box<dyn std::error::Error>> {
    /// let commit = space.batch(|b| {
    ///     b.edit(&from, |d| d.counter("stock")?.add(-1));
    ///     b.edit(&to, |d| d.counter("stock")?.add(1));
    /// })?;
    /// # Ok(()) }
    /// ```
    pub fn batch<'e>(&self, edits: impl FnOnce(&mut Batch<'e>)) -> Result<Commit, DocumentError> {
        let mut batch = Batch::new(self.client.clone(), self.id);
        edits(&mut batch);
        batch.commit()
    }

    /// What is at a path, read from the store for this once, with a bookmark of what was read:
    /// `space.read::<Value>("/x").at_least(&bookmark).timeout(second).await?`.
    pub fn read<T: Content>(&self, path: impl IntoPath) -> Read<T> {
        Read::new(self.clone(), path.into_path())
    }

    /// Waits until this peer covers a bookmark; what comes back stands for the same and may be shorter.
    pub fn reach(&self, bookmark: &Bookmark) -> Reach {
        Reach::new(self.clone(), bookmark.clone())
    }

    /// A bookmark of all that this peer has of the space now, durably.
    pub async fn bookmark(&self) -> Result<Bookmark, CommandError> {
        self.bookmark_of(Vec::new()).await
    }

    /// A bookmark of what this peer has durably at some paths, deletions included; of everything for none.
    pub async fn bookmark_of(&self, paths: Vec<Path>) -> Result<Bookmark, CommandError> {
        match self.client.call(Command::Bookmark { space: self.id, paths }).await? {
            Reply::Bookmark(bookmark) => Ok(*bookmark),
            other => Err(unexpected(&other)),
        }
    }

    /// Documents under a prefix in path order, from the index alone: `space.list("/lists").limit(100).await?`. A page
    /// has at most [`MAX_LIST`] documents.
    pub fn list(&self, prefix: impl IntoPrefix) -> List {
        List { space: self.clone(), prefix: prefix.into_prefix(), after: None, limit: 1000 }
    }

    /// Deletes the document at a path, here and, as they hear of it, everywhere. `false`: nothing was there. Edits that
    /// others made without knowing are set aside, see [`Space::set_aside`].
    pub async fn delete(&self, path: impl IntoPath) -> Result<bool, CommandError> {
        match self.client.call(Command::Delete { space: self.id, path: path.into_path()? }).await? {
            Reply::Deleted(deleted) => Ok(deleted),
            other => Err(unexpected(&other)),
        }
    }

    /// Changes under a prefix from now on.
    pub fn watch(&self, prefix: impl IntoPrefix) -> Result<SpaceWatch, CommandError> {
        Ok(SpaceWatch(self.client.hub.watch_prefix(self.id, prefix.into_prefix()?)))
    }

    /// The first `limit` documents under a prefix, kept up to date without hydrating any.
    pub fn window(&self, prefix: impl IntoPrefix, limit: usize) -> Result<Window, CommandError> {
        let prefix = prefix.into_prefix()?;
        let watch = self.watch(&prefix)?;
        let limit = limit.clamp(1, MAX_LIST);
        Ok(Window { client: self.client.clone(), space: self.id, prefix, limit, watch, shown: None, dirty: true })
    }

    /// An invitation: `space.invite(Role::Writer).expires_in(day).await?`. It carries the addresses that this peer
    /// listens on. The text is a secret: whoever has it can join.
    pub fn invite(&self, role: Role) -> Invite {
        Invite { space: self.clone(), role, prefix: Ok(Prefix::root()), not_after: None, addresses: None }
    }

    /// The space's root key, to be kept somewhere safe: it alone can restore an admin that was lost. `None` where the space
    /// was made by another store.
    pub async fn root_key(&self) -> Result<Option<RootKey>, CommandError> {
        match self.client.call(Command::RootKey { space: self.id }).await? {
            Reply::RootKey(key) => Ok(key.map(|key| *key)),
            other => Err(unexpected(&other)),
        }
    }

    /// Members in the order of their devices, at most `limit`, only those after `after`.
    pub async fn members(&self, after: Option<DeviceId>, limit: usize) -> Result<Vec<MemberInfo>, CommandError> {
        match self.client.call(Command::Members { space: self.id, after, limit }).await? {
            Reply::Members(members) => Ok(members),
            other => Err(unexpected(&other)),
        }
    }

    /// Takes rights from a device, for everybody and for good; durable when it returns. `grants` are of [`Space::members`];
    /// none removes the device, and no later grant brings it back. With [`Keep::Known`] what this peer has of the device's
    /// work stays, so it has to replicate all that the grants cover.
    pub async fn revoke(&self, device: DeviceId, grants: Vec<FactHash>, keep: Keep) -> Result<(), CommandError> {
        self.client.call(Command::Revoke { space: self.id, device, grants, keep }).await.map(drop)
    }

    /// Revokes every grant that has ended by this peer's clock, so that its end binds history too. Returns the devices.
    pub async fn revoke_expired(&self) -> Result<Vec<DeviceId>, CommandError> {
        match self.client.call(Command::RevokeExpired { space: self.id }).await? {
            Reply::Revoked(devices) => Ok(devices),
            other => Err(unexpected(&other)),
        }
    }

    /// Hands the space to another root key: a new one, or `successor`. The old key can do nothing afterwards. Comes back with
    /// the new one, which this store has kept.
    pub async fn rotate_root(&self, successor: Option<RootKey>) -> Result<RootKey, CommandError> {
        let successor = successor.map(Box::new);
        match self.client.call(Command::RotateRoot { space: self.id, successor }).await? {
            Reply::RootKey(Some(key)) => Ok(*key),
            other => Err(unexpected(&other)),
        }
    }

    /// Documents under a prefix out of which facts took changes that this store keeps aside.
    pub async fn evicted(&self, prefix: impl IntoPrefix) -> Result<Vec<EvictedDocument>, CommandError> {
        match self.client.call(Command::Evicted { space: self.id, prefix: prefix.into_prefix()? }).await? {
            Reply::Evicted(documents) => Ok(documents),
            other => Err(unexpected(&other)),
        }
    }

    /// What facts took out of the document at a path.
    pub async fn evicted_changes(&self, path: impl IntoPath) -> Result<Vec<EvictedChange>, CommandError> {
        match self.client.call(Command::EvictedChanges { space: self.id, path: path.into_path()? }).await? {
            Reply::EvictedChanges(changes) => Ok(changes),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes honest edits again that left the document at a path with what they stood on, each where it was made as far as
    /// that place is still there, and forgets them: this device's own, or with `others` everybody's. One peer is to do that
    /// for the others', or they are made twice. Durable when it returns.
    pub async fn rebase_evicted(&self, path: impl IntoPath, others: bool) -> Result<Rebased, DocumentError> {
        let path = path.into_path()?;
        let evicted = self.evicted_changes(path.clone()).await?;
        let picked = evicted.iter().filter(|change| change.honest && (change.mine || others));
        let picks: std::collections::BTreeSet<ChangeHash> = picked.map(|change| change.change).collect();
        if picks.is_empty() {
            return Ok(Rebased::default());
        }
        let document = self.document(path.clone()).await?;
        let aside: Vec<Vec<u8>> = evicted.into_iter().map(|change| change.bytes).collect();
        let (commit, lost) = document.make_again(&aside, &picks)?;
        let made = commit.is_some();
        if let Some(commit) = commit {
            commit.durable().await?;
        }
        let rebased = Rebased { made: picks.len() - lost.len(), lost: lost.clone() };
        let changes = picks.into_iter().filter(|change| !lost.contains(change)).collect::<Vec<_>>();
        if made {
            self.client.call(Command::DiscardEvicted { space: self.id, path, changes }).await?;
        }
        Ok(rebased)
    }

    /// Forgets everything that facts took out of the document at a path, in this store.
    pub async fn discard_evicted(&self, path: impl IntoPath) -> Result<(), CommandError> {
        let (path, changes) = (path.into_path()?, Vec::new());
        self.client.call(Command::DiscardEvicted { space: self.id, path, changes }).await.map(drop)
    }

    /// What this store replicates of the space, from now on and after a restart. Default: all it may read. An empty
    /// list replicates nothing by itself.
    pub async fn interest(&self, prefixes: Vec<Prefix>) -> Result<(), CommandError> {
        self.client.call(Command::Interest { space: self.id, prefixes }).await.map(drop)
    }

    /// What was edited at a path while somebody else deleted it, newest deletion first.
    pub async fn set_aside(&self, path: impl IntoPath) -> Result<Vec<Snapshot>, CommandError> {
        match self.client.call(Command::SetAside { space: self.id, path: path.into_path()? }).await? {
            Reply::SetAside(found) => Ok(found.into_iter().map(|(value, heads)| Snapshot { value, heads }).collect()),
            other => Err(unexpected(&other)),
        }
    }

    /// Forgets what [`Space::set_aside`] lists, in this store.
    pub async fn discard_set_aside(&self, path: impl IntoPath) -> Result<(), CommandError> {
        self.client.call(Command::DiscardSetAside { space: self.id, path: path.into_path()? }).await.map(drop)
    }

    /// One page of a portable copy: begin with `None`, go on with what the page says.
    pub async fn export(&self, after: Option<Path>) -> Result<ExportPage, CommandError> {
        match self.client.call(Command::Export { space: self.id, after }).await? {
            Reply::Exported { page, next } => Ok(ExportPage { page, next }),
            other => Err(unexpected(&other)),
        }
    }

    /// Lets in Automerge's change chunks of actors that are no devices of the space; this device vouches for them, with its
    /// right to write. `generation` is [`StoredChanges::generation`]. What cannot be admitted now (its dependencies are not
    /// here, its actor is a device's own, the ingest checks refuse it) is counted as refused and not kept.
    ///
    /// # Errors
    /// [`CommandError::Deleted`] for another generation than the live one, [`CommandError::Invalid`] for more than
    /// [`MAX_ADMITTED`](crate::engine::MAX_ADMITTED) changes or
    /// [`MAX_ADMITTED_BYTES`](crate::engine::MAX_ADMITTED_BYTES), [`CommandError::Denied`] without the right.
    pub async fn admit(
        &self,
        path: impl IntoPath,
        generation: u32,
        chunks: Vec<Vec<u8>>,
    ) -> Result<Imported, CommandError> {
        let admit = Command::Admit { space: self.id, path: path.into_path()?, generation, chunks };
        match self.client.call(admit).await? {
            Reply::Imported { changes, refused } => Ok(Imported { changes, refused }),
            other => Err(unexpected(&other)),
        }
    }

    /// The changes of the live document at a path as Automerge's chunks, read from the store without hydrating anything:
    /// all for `after` 0, otherwise those that came after [`StoredChanges::last`] of an earlier answer, perhaps with some
    /// that are known.
    pub async fn changes(&self, path: impl IntoPath, after: u64) -> Result<StoredChanges, CommandError> {
        match self.client.call(Command::Changes { space: self.id, path: path.into_path()?, after }).await? {
            Reply::Changes(changes) => Ok(*changes),
            other => Err(unexpected(&other)),
        }
    }

    /// Takes in one page of a portable copy, with the checks that a peer's bytes get.
    pub async fn import(&self, page: Vec<u8>) -> Result<Imported, CommandError> {
        match self.client.call(Command::Import { space: self.id, page }).await? {
            Reply::Imported { changes, refused } => Ok(Imported { changes, refused }),
            other => Err(unexpected(&other)),
        }
    }
}

/// What came of [`Space::rebase_evicted`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rebased {
    /// How many edits were made again.
    pub made: usize,
    /// Edits that have no place in the document any more. They are still listed.
    pub lost: Vec<ChangeHash>,
}

pub(crate) type Answer<T> = Pin<Box<dyn Future<Output = Result<T, CommandError>> + Send>>;

/// A listing to be awaited, from [`Space::list`].
#[must_use = "a listing does nothing until it is awaited"]
#[derive(Debug, Clone)]
pub struct List {
    space: Space,
    prefix: Result<Prefix, CommandError>,
    after: Option<Path>,
    limit: usize,
}

impl List {
    /// At most this many documents. Default 1,000, at most [`MAX_LIST`].
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Only paths after this one.
    pub fn after(mut self, path: impl Into<Option<Path>>) -> Self {
        self.after = path.into();
        self
    }
}

impl IntoFuture for List {
    type Output = Result<Page, CommandError>;
    type IntoFuture = Answer<Page>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(
            async move { list_page(&self.space.client, self.space.id, &self.prefix?, self.after, self.limit).await },
        )
    }
}

/// An invitation to be awaited, from [`Space::invite`].
#[must_use = "an invitation is made when it is awaited"]
#[derive(Debug, Clone)]
pub struct Invite {
    space: Space,
    role: Role,
    prefix: Result<Prefix, CommandError>,
    not_after: Option<WallTime>,
    addresses: Option<Vec<String>>,
}

impl Invite {
    /// Where the role holds. Default: the whole space.
    pub fn prefix(mut self, prefix: impl IntoPrefix) -> Self {
        self.prefix = prefix.into_prefix();
        self
    }

    /// It can be accepted until then. Default: for ever.
    pub fn expires(mut self, at: impl Into<Option<WallTime>>) -> Self {
        self.not_after = at.into();
        self
    }

    /// It can be accepted for this long from now.
    pub fn expires_in(self, time: Duration) -> Self {
        let now = self.space.client.wall();
        let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        self.expires(WallTime(now.0.saturating_add(millis)))
    }

    /// The addresses that it carries. Default: those that this peer listens on or advertises, the farthest-reaching first,
    /// as many as an invitation holds.
    pub fn addresses(mut self, addresses: Vec<String>) -> Self {
        self.addresses = Some(addresses);
        self
    }
}

impl IntoFuture for Invite {
    type Output = Result<String, CommandError>;
    type IntoFuture = Answer<String>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Space { client, id, .. } = self.space;
            let listen = || crate::net::invited(client.listen_addresses());
            let command = Command::Invite {
                space: id,
                role: self.role,
                prefix: self.prefix?,
                not_after: self.not_after,
                addresses: self.addresses.unwrap_or_else(listen),
            };
            match client.call(command).await? {
                Reply::Invitation(text) => Ok(text),
                other => Err(unexpected(&other)),
            }
        })
    }
}
