//! Topics for programs: publish, and subscribe.

use std::future::IntoFuture;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::client::Client;
use super::hub::{Mail, TopicBox};
use super::space::{IntoPath, IntoPrefix, Space, unexpected};
use crate::engine::{Command, CommandError, OwnerId, Reply, TopicEvent};
use crate::id::{Path, Prefix, SpaceId};

/// A topic: signals of a type, handed to whoever subscribes at the path when they are published, and kept nowhere. Cheap to
/// clone.
///
/// Best effort: at most once a subscriber, in the order of their sender. A subscriber is told with the next signal what it
/// missed. What must arrive belongs into a document, whose path a signal can name.
///
/// ```no_run
/// # use foreshore::peer::Space;
/// #[derive(serde::Serialize, serde::Deserialize)]
/// enum Signal { Doorbell, Refresh { path: String } }
///
/// # async fn f(space: Space) -> Result<(), Box<dyn std::error::Error>> {
/// let topic = space.topic::<Signal>("/signals")?;
/// let mut heard = topic.subscribe();
/// topic.publish(&Signal::Doorbell)?.await?;
/// while let Some(signal) = heard.next().await {
///     println!("from {:?}, {} missed before it", signal.sender.peer, signal.missed + signal.dropped);
/// }
/// # Ok(()) }
/// ```
pub struct Topic<T> {
    client: Arc<Client>,
    space: SpaceId,
    path: Path,
    content: PhantomData<fn() -> T>,
}

impl<T> Clone for Topic<T> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), space: self.space, path: self.path.clone(), content: PhantomData }
    }
}

impl<T> std::fmt::Debug for Topic<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topic").field("path", &self.path).finish()
    }
}

/// A signal as a subscriber gets it.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard<T> {
    /// Where it was published.
    pub path: Path,
    /// What it says.
    pub value: T,
    /// Who published it.
    pub sender: OwnerId,
    /// Whether this peer did.
    pub mine: bool,
    /// The sender's count of its signals at the path, in its present life.
    pub seq: u64,
    /// How many of the sender's signals at the path did not reach this peer, since the one before; 0 with the first that is
    /// heard of a life of the sender.
    pub missed: u64,
    /// How many signals, of whatever sender and path, this subscription dropped before this one, since it was not read in
    /// time.
    pub dropped: u64,
}

/// What became of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Its number among this peer's signals at the path, in this life of the peer.
    pub seq: u64,
    /// Linked peers that it goes to first; 0: nobody else will hear it.
    pub peers: usize,
}

/// A publication on its way. It happens whether or not it is awaited; awaiting it says whether it was refused.
pub struct Publish(oneshot::Receiver<Result<Reply, CommandError>>);

impl IntoFuture for Publish {
    type Output = Result<Published, CommandError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            match self.0.await.unwrap_or(Err(CommandError::Closed))? {
                Reply::Published { seq, peers } => Ok(Published { seq, peers }),
                other => Err(unexpected(&other)),
            }
        })
    }
}

impl Space {
    /// The topic at a path. What this peer publishes outside of its interests ([`Space::interest`]) nobody else hears, and it
    /// hears nothing there.
    pub fn topic<T: Serialize + DeserializeOwned>(&self, path: impl IntoPath) -> Result<Topic<T>, CommandError> {
        Ok(Topic { client: self.client.clone(), space: self.id, path: path.into_path()?, content: PhantomData })
    }

    /// The signals of every topic at and under a prefix, from now on.
    pub fn signals<T: DeserializeOwned>(&self, prefix: impl IntoPrefix) -> Result<Signals<T>, CommandError> {
        let prefix = prefix.into_prefix()?;
        Ok(Signals::new(self.client.hub.watch_topics(self.id, prefix, false)))
    }
}

impl<T: Serialize + DeserializeOwned> Topic<T> {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Publishes to everybody who is connected, directly or through others, may read the path and wants it; this peer's own
    /// subscribers among them. Refused with a [`TopicError`](super::TopicError) when it is too large or too fast, or without
    /// a write grant.
    pub fn publish(&self, value: &T) -> Result<Publish, CommandError> {
        let payload = serde_json::to_vec(value)
            .map_err(|error| CommandError::Invalid { what: "value", why: error.to_string() })?;
        let command = Command::Publish { space: self.space, path: self.path.clone(), payload };
        self.client.send(command).map(Publish)
    }

    /// The topic's signals, from now on. Bounded by [`MAX_WAITING_SIGNALS`](super::MAX_WAITING_SIGNALS): over it the oldest
    /// are dropped, and the next one says how many. Signals that are no `T` are left out.
    pub fn subscribe(&self) -> Signals<T> {
        Signals::new(self.client.hub.watch_topics(self.space, Prefix::from(&self.path), true))
    }
}

/// Signals, from [`Topic::subscribe`] or [`Space::signals`]. Ends with the peer.
pub struct Signals<T> {
    mail: Arc<TopicBox>,
    /// Dropped, and not told yet.
    dropped: u64,
    content: PhantomData<fn() -> T>,
}

impl<T> std::fmt::Debug for Signals<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signals").field("dropped", &self.dropped).finish_non_exhaustive()
    }
}

impl<T: DeserializeOwned> Signals<T> {
    fn new(mail: Arc<TopicBox>) -> Self {
        Self { mail, dropped: 0, content: PhantomData }
    }

    /// The next signal; `None` once the peer is closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<Heard<T>> {
        std::future::poll_fn(|cx| self.poll_signal(cx)).await
    }

    fn poll_signal(&mut self, cx: &mut Context<'_>) -> Poll<Option<Heard<T>>> {
        loop {
            match std::task::ready!(self.mail.mail.poll_mail(cx)) {
                None => return Poll::Ready(None),
                Some(Mail::Missed(count)) => self.dropped += count,
                Some(Mail::Item(event)) => {
                    if let Ok(value) = serde_json::from_slice(&event.payload) {
                        let TopicEvent { path, sender, seq, missed, mine, .. } = event;
                        let dropped = std::mem::take(&mut self.dropped);
                        return Poll::Ready(Some(Heard { path, value, sender, mine, seq, missed, dropped }));
                    }
                }
            }
        }
    }
}

impl<T: DeserializeOwned> Stream for Signals<T> {
    type Item = Heard<T>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_signal(cx)
    }
}

#[cfg(test)]
mod tests;
