//! Handles of soft state: [`Soft`] and [`Presence`].
//!
//! Values travel as JSON, so any type with serde's two traits will do, and a program in another language reads them.

use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::client::Client;
use super::hub::{Mail, SoftBox};
use super::space::{IntoPath, IntoPrefix, Space, unexpected};
use crate::engine::{Command, CommandError, MAX_LIST, OwnerId, Reply, SoftChange, SoftEvent, SoftInfo};
use crate::id::{Path, Prefix, SpaceId};

/// Soft entries under a path, as values of a type: a service registry, cursors, load. Cheap to clone.
///
/// An entry belongs to (owner, key): several peers may hold one key, and each sets and deletes its own only. What this
/// peer sets lives with the peer's lease, not with this handle: it is renewed while the peer runs, and gone everywhere
/// soon after the peer is. Nothing is stored.
///
/// Entries of others that are no `T` are left out; `Soft<serde_json::Value>` sees everything.
///
/// ```no_run
/// # use foreshore::peer::Space;
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Service { url: String }
///
/// # async fn f(space: Space) -> Result<(), Box<dyn std::error::Error>> {
/// let services = space.soft::<Service>("/services")?;
/// services.set("api", &Service { url: "http://10.0.0.7/".into() })?.await?;
/// for entry in services.get("api").await? {
///     println!("{} by {:?}", entry.value.url, entry.owner.peer);
/// }
/// # Ok(()) }
/// ```
pub struct Soft<T> {
    client: Arc<Client>,
    space: SpaceId,
    base: Prefix,
    content: PhantomData<fn() -> T>,
}

impl<T> Clone for Soft<T> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), space: self.space, base: self.base.clone(), content: PhantomData }
    }
}

impl<T> std::fmt::Debug for Soft<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Soft").field("path", &self.base).finish()
    }
}

/// A soft entry.
#[derive(Debug, Clone, PartialEq)]
pub struct SoftItem<T> {
    /// Where it is.
    pub path: Path,
    /// The path below the handle's own; empty for an entry at the handle's path itself.
    pub key: String,
    /// What its owner says.
    pub value: T,
    /// Whose it is.
    pub owner: OwnerId,
    /// Whether it is this peer's own.
    pub mine: bool,
    /// Whether its owner has missed a renewal; it may come back.
    pub away: bool,
    /// When it lapses unless a renewal comes.
    pub expires_in: Duration,
}

/// What happened to soft entries.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum SoftNews<T> {
    /// An owner set an entry.
    Set {
        /// Where.
        path: Path,
        /// The key.
        key: String,
        /// The value.
        value: T,
        /// Whose.
        owner: OwnerId,
        /// Whether it is this peer's own.
        mine: bool,
    },
    /// An entry is gone: its owner deleted it or said goodbye, or, if `expired`, was not heard of for too long.
    Gone {
        /// Where it was.
        path: Path,
        /// The key.
        key: String,
        /// Whose.
        owner: OwnerId,
        /// Whether its owner's lease lapsed.
        expired: bool,
        /// Whether it was this peer's own.
        mine: bool,
    },
    /// More happened than was kept: list the entries again.
    Resync,
}

/// An own write. It happens whether or not it is awaited; awaiting it says whether it was refused.
pub struct SoftWrite(oneshot::Receiver<Result<Reply, CommandError>>);

impl IntoFuture for SoftWrite {
    /// Whether anything was there to change; always, for a set.
    type Output = Result<bool, CommandError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            match self.0.await.unwrap_or(Err(CommandError::Closed))? {
                Reply::SoftWritten { .. } => Ok(true),
                Reply::Deleted(there) => Ok(there),
                other => Err(unexpected(&other)),
            }
        })
    }
}

impl Space {
    /// Soft entries at and under a path, or all of them for `/`. What this peer sets outside of its interests
    /// ([`Space::interest`]) nobody else hears of.
    pub fn soft<T: Serialize + DeserializeOwned>(&self, path: impl IntoPrefix) -> Result<Soft<T>, CommandError> {
        let base = path.into_prefix()?;
        Ok(Soft { client: self.client.clone(), space: self.id, base, content: PhantomData })
    }

    /// Enters a place where peers show themselves to each other: `mine` is what this one shows at first.
    pub fn presence<T>(&self, path: impl IntoPath, mine: T) -> Result<Presence<T>, CommandError>
    where
        T: Serialize + DeserializeOwned,
    {
        let place = Prefix::from(&path.into_path()?);
        let presence = Presence { soft: self.soft(place)?, mine: Mutex::new(Arc::new(mine)) };
        presence.publish()?;
        Ok(presence)
    }
}

impl<T: Serialize + DeserializeOwned> Soft<T> {
    /// Sets this peer's entry under a key, which is one or more segments of a path. Visible to this peer's own reads once
    /// awaited, to others within a network delay or two.
    pub fn set(&self, key: &str, value: &T) -> Result<SoftWrite, CommandError> {
        let path = self.path(key)?;
        let value = serde_json::to_vec(value)
            .map_err(|error| CommandError::Invalid { what: "value", why: error.to_string() })?;
        self.client.send(Command::SoftSet { space: self.space, path, value }).map(SoftWrite)
    }

    /// Deletes this peer's entry under a key.
    pub fn delete(&self, key: &str) -> Result<SoftWrite, CommandError> {
        let path = self.path(key)?;
        self.client.send(Command::SoftDelete { space: self.space, path }).map(SoftWrite)
    }

    /// Every entry, in the order of their keys.
    pub async fn entries(&self) -> Result<Vec<SoftItem<T>>, CommandError> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let list = Command::SoftList { space: self.space, prefix: self.base.clone(), after, limit: MAX_LIST };
            match self.client.call(list).await? {
                Reply::SoftList { items, next } => {
                    found.extend(items.into_iter().filter_map(|item| self.item(item)));
                    after = next;
                }
                other => return Err(unexpected(&other)),
            }
            if after.is_none() {
                return Ok(found);
            }
        }
    }

    /// The entries under a key, one an owner.
    pub async fn get(&self, key: &str) -> Result<Vec<SoftItem<T>>, CommandError> {
        let path = self.path(key)?;
        match self.client.call(Command::SoftGet { space: self.space, path }).await? {
            Reply::SoftList { items, .. } => Ok(items.into_iter().filter_map(|item| self.item(item)).collect()),
            other => Err(unexpected(&other)),
        }
    }

    /// What happens to entries, from now on. Bounded: several changes of one entry may have been folded into the last.
    pub fn watch(&self) -> SoftWatch<T> {
        let mail = self.client.hub.watch_soft(self.space, self.base.clone());
        SoftWatch { soft: self.clone(), mail }
    }

    fn path(&self, key: &str) -> Result<Path, CommandError> {
        let base = self.base.as_str().trim_end_matches('/');
        let path = if key.is_empty() { base.to_owned() } else { format!("{base}/{key}") };
        path.as_str().into_path()
    }

    pub(super) fn key(&self, path: &Path) -> String {
        let below = path.as_str().strip_prefix(self.base.as_str()).unwrap_or_default();
        below.trim_start_matches('/').to_owned()
    }

    fn item(&self, info: SoftInfo) -> Option<SoftItem<T>> {
        let SoftInfo { path, owner, value, mine, away, expires_in, .. } = info;
        let value = serde_json::from_slice(&value).ok()?;
        Some(SoftItem { key: self.key(&path), path, value, owner, mine, away, expires_in })
    }

    fn news(&self, event: SoftEvent) -> Option<SoftNews<T>> {
        let SoftEvent { path, owner, change, mine } = event;
        let key = self.key(&path);
        Some(match change {
            SoftChange::Set(value) => {
                let value = serde_json::from_slice(&value).ok()?;
                SoftNews::Set { path, key, value, owner, mine }
            }
            SoftChange::Deleted => SoftNews::Gone { path, key, owner, expired: false, mine },
            SoftChange::Expired => SoftNews::Gone { path, key, owner, expired: true, mine },
        })
    }
}

/// Changes of soft entries, from [`Soft::watch`]. Ends with the peer.
pub struct SoftWatch<T> {
    soft: Soft<T>,
    mail: Arc<SoftBox>,
}

impl<T: Serialize + DeserializeOwned> SoftWatch<T> {
    /// The next change; `None` once the peer is closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<SoftNews<T>> {
        std::future::poll_fn(|cx| self.poll_news(cx)).await
    }

    fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<Option<SoftNews<T>>> {
        loop {
            return Poll::Ready(match std::task::ready!(self.mail.mail.poll_mail(cx)) {
                None => None,
                Some(Mail::Missed(_)) => Some(SoftNews::Resync),
                Some(Mail::Item(event)) => match self.soft.news(event) {
                    Some(news) => Some(news),
                    None => continue,
                },
            });
        }
    }
}

impl<T: Serialize + DeserializeOwned> Stream for SoftWatch<T> {
    type Item = SoftNews<T>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_news(cx)
    }
}

/// A place where peers show themselves: who is here, and what each says of itself. Made by [`Space::presence`].
///
/// One value a peer. It is shown until [`Presence::leave`] or the peer's end, whatever happens to this handle.
pub struct Presence<T> {
    soft: Soft<T>,
    mine: Mutex<Arc<T>>,
}

impl<T> std::fmt::Debug for Presence<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Presence").field("path", &self.soft.base).finish()
    }
}

impl<T: Serialize + DeserializeOwned> Presence<T> {
    /// What this peer shows.
    pub fn mine(&self) -> Arc<T> {
        self.mine.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows something else from now on.
    pub fn set(&self, value: T) -> Result<SoftWrite, CommandError> {
        *self.mine.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
        self.publish()
    }

    /// Is here no more.
    pub fn leave(&self) -> Result<SoftWrite, CommandError> {
        self.soft.delete("")
    }

    /// The others.
    pub async fn others(&self) -> Result<Vec<SoftItem<T>>, CommandError> {
        let mut here = self.soft.get("").await?;
        here.retain(|item| !item.mine);
        Ok(here)
    }

    /// The others: at once the first time, afterwards whenever somebody came, went or changed.
    pub fn watch(&self) -> PresenceWatch<T> {
        PresenceWatch { watch: self.soft.watch(), dirty: true }
    }

    fn publish(&self) -> Result<SoftWrite, CommandError> {
        self.soft.set("", &self.mine())
    }
}

/// Who else is here, from [`Presence::watch`]. Ends with the peer.
pub struct PresenceWatch<T> {
    watch: SoftWatch<T>,
    /// Something happened that no listing has answered yet; kept here, so that a dropped future loses nothing.
    dirty: bool,
}

impl<T: Serialize + DeserializeOwned> PresenceWatch<T> {
    /// The others now; `None` once the peer is closed. A burst of changes costs one answer. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Vec<SoftItem<T>>, CommandError>> {
        let concerns = |news: &SoftNews<T>| match news {
            SoftNews::Set { key, mine, .. } | SoftNews::Gone { key, mine, .. } => key.is_empty() && !mine,
            SoftNews::Resync => true,
        };
        while !self.dirty {
            self.dirty = concerns(&self.watch.next().await?);
        }
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while let Poll::Ready(Some(_)) = self.watch.poll_news(&mut cx) {}
        let here = self.watch.soft.get("").await;
        self.dirty = false;
        match here {
            Ok(mut here) => {
                here.retain(|item| !item.mine);
                Some(Ok(here))
            }
            Err(CommandError::Closed) => None,
            Err(error) => Some(Err(error)),
        }
    }
}
