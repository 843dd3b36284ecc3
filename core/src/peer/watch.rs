//! Streams of what changes: a document, a prefix, a window over a prefix, the peer.
//!
//! All of them are bounded and none holds anybody up: a reader that sleeps finds one item for all that happened, or is
//! told that it missed something.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::Stream;

use super::client::Client;
use super::document::{Core, DocumentError};
use super::hub::{DocumentChange, Flag, Mail, Mailbox, PrefixBox};
use super::space::list_page;
use crate::document::{At, HotDocument, HotError, Patch};
use crate::engine::{CommandError, DocumentInfo, Event, SyncStats};
use crate::id::{ChangeHash, DeviceId, Path, PeerId, Prefix, SpaceId};
use crate::io::{LinkId, StorageFailure};
use crate::net::{Address, Notice};

/// What happened to a watched document since the last item.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// Heads before.
    pub from: Vec<ChangeHash>,
    /// Heads now.
    pub to: Vec<ChangeHash>,
    /// What leads from the value before to the value now, where it is known: after a failed write the document is read
    /// anew, and so is it then by whoever watches.
    pub patches: Option<Vec<Patch>>,
    /// Whether the document was deleted; nothing follows then.
    pub deleted: bool,
}

/// Changes of one document, from [`Document::watch`](super::Document::watch). Ends with a deletion or with the peer.
pub struct DocumentWatch {
    core: Arc<Core>,
    flag: Arc<Flag>,
    scope: At,
    heads: Vec<ChangeHash>,
    ended: bool,
}

impl DocumentWatch {
    pub(crate) fn new(core: Arc<Core>, scope: At) -> Result<Self, DocumentError> {
        // The flag comes first: what happens between the two is reported rather than lost.
        let flag = core.client.hub.watch_document(core.space, &core.path, core.document);
        if core.is_deleted() {
            flag.set_deleted();
            flag.raise();
        }
        let heads = core.with(HotDocument::heads)?;
        Ok(Self { core, flag, scope, heads, ended: false })
    }

    /// The next change; `None` once nothing follows. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Change, DocumentError>> {
        std::future::poll_fn(|cx| self.poll_change(cx)).await
    }

    /// Waits until the document may have changed, for who reads it anew and needs no patches, which cost half as much as
    /// applying a small change does. `false` once nothing follows: the document was deleted, which is told once, or the peer
    /// is closed. What is told here is told once; the patches of [`next`](Self::next) still start where its last ones ended.
    /// Cancel-safe.
    pub async fn changed(&mut self) -> bool {
        if self.ended {
            return false;
        }
        let raised = std::future::poll_fn(|cx| self.flag.poll_raised(cx)).await.is_some();
        self.ended = !raised || self.flag.is_deleted();
        raised
    }

    fn poll_change(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Change, DocumentError>>> {
        while !self.ended {
            if ready!(self.flag.poll_raised(cx)).is_none() {
                self.ended = true;
                break;
            }
            let deleted = self.flag.is_deleted();
            let (to, patches) = match self.core.with(|hot| self.look(hot)) {
                Ok(found) => found,
                Err(error) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
            };
            self.ended = deleted;
            let changed = to != self.heads && patches.as_ref().is_none_or(|patches| !patches.is_empty());
            let from = std::mem::replace(&mut self.heads, to.clone());
            if changed || deleted {
                return Poll::Ready(Some(Ok(Change { from, to, patches, deleted })));
            }
        }
        Poll::Ready(None)
    }

    /// The heads now, and what led there within the scope.
    fn look(&self, hot: &mut HotDocument) -> Result<(Vec<ChangeHash>, Option<Vec<Patch>>), HotError> {
        let now = hot.heads()?;
        match hot.patches_within(&self.scope, &self.heads) {
            Ok(patches) => Ok((now, Some(patches))),
            Err(HotError::UnknownHeads { .. }) => Ok((now, None)),
            Err(error) => Err(error),
        }
    }
}

impl Stream for DocumentWatch {
    type Item = Result<Change, DocumentError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_change(cx)
    }
}

/// What happened under a watched prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpaceChange {
    /// A document changed or was deleted; several changes of one path may have been folded.
    Document(DocumentChange),
    /// More happened than was kept: list the prefix again.
    Resync,
}

/// Changes under a prefix, from [`Space::watch`](super::Space::watch). Ends with the peer.
pub struct SpaceWatch(pub(crate) Arc<PrefixBox>);

impl SpaceWatch {
    /// The next change; `None` once the peer is closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<SpaceChange> {
        std::future::poll_fn(|cx| self.poll_change(cx)).await
    }

    fn poll_change(&mut self, cx: &mut Context<'_>) -> Poll<Option<SpaceChange>> {
        self.0.mail.poll_mail(cx).map(|mail| {
            mail.map(|mail| match mail {
                Mail::Item(change) => SpaceChange::Document(change),
                Mail::Missed(_) => SpaceChange::Resync,
            })
        })
    }
}

impl Stream for SpaceWatch {
    type Item = SpaceChange;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_change(cx)
    }
}

/// The first documents under a prefix, kept up to date from the index alone: nothing is hydrated. From
/// [`Space::window`](super::Space::window).
pub struct Window {
    pub(crate) client: Arc<Client>,
    pub(crate) space: SpaceId,
    pub(crate) prefix: Prefix,
    pub(crate) limit: usize,
    pub(crate) watch: SpaceWatch,
    pub(crate) shown: Option<Vec<DocumentInfo>>,
    /// Something happened that no listing has answered yet; kept here, so that a dropped future loses nothing.
    pub(crate) dirty: bool,
}

impl Window {
    /// The window's documents: at once the first time, afterwards whenever they differ from what was last returned.
    /// `None` once the peer is closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Vec<DocumentInfo>, CommandError>> {
        loop {
            if !self.dirty {
                self.watch.next().await?;
                self.dirty = true;
            }
            // One listing for all that waits: a burst costs one.
            let mut cx = Context::from_waker(std::task::Waker::noop());
            while let Poll::Ready(Some(_)) = self.watch.poll_change(&mut cx) {}
            let page = list_page(&self.client, self.space, &self.prefix, None, self.limit).await;
            self.dirty = false;
            match page {
                Ok(page) if self.shown.as_ref() == Some(&page.items) => {}
                Ok(page) => {
                    self.shown = Some(page.items.clone());
                    return Some(Ok(page.items));
                }
                Err(CommandError::Closed) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Something that happened to a peer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum PeerEvent {
    /// A sync stream to another peer is open. Nothing is proved but its identity.
    Linked {
        /// The stream.
        link: LinkId,
        /// The peer.
        peer: PeerId,
        /// Where it is.
        address: Address,
    },
    /// A sync stream is gone. Peers that this one dialled are dialled again.
    Unlinked {
        /// The stream.
        link: LinkId,
        /// The peer.
        peer: PeerId,
        /// Why, for people.
        why: String,
    },
    /// A peer proved that it is a member of a space.
    Joined {
        /// Its stream.
        link: LinkId,
        /// The peer.
        peer: PeerId,
        /// Its device.
        device: DeviceId,
        /// The space.
        space: SpaceId,
    },
    /// A link and a space came back in step after a difference.
    InStep {
        /// The stream.
        link: LinkId,
        /// The space.
        space: SpaceId,
        /// What it took.
        stats: SyncStats,
    },
    /// The members of a space changed.
    MembersChanged {
        /// The space.
        space: SpaceId,
    },
    /// Changes of a document made its view fail; they are hidden from the view and kept.
    Quarantined {
        /// The space.
        space: SpaceId,
        /// Where.
        path: Path,
        /// What is hidden.
        hidden: Vec<ChangeHash>,
    },
    /// Facts took changes out of a document, on every peer alike; see [`Space::evicted_changes`](super::Space::evicted_changes).
    Evicted {
        /// The space.
        space: SpaceId,
        /// Where.
        path: Path,
        /// Which changes.
        changes: Vec<ChangeHash>,
    },
    /// Writing fails (`Some`) or works again (`None`).
    StorageTrouble(Option<StorageFailure>),
    /// The addresses that peers can dial, all of them.
    Listening(Vec<Address>),
    /// So many events were dropped, because nobody read them.
    Missed(u64),
    /// The peer is closed; nothing follows.
    Closed,
}

/// Events of a peer, from [`Peer::events`](super::Peer::events).
pub struct PeerEvents(pub(crate) Arc<Mailbox<Notice>>);

impl PeerEvents {
    /// The next event; `None` after [`PeerEvent::Closed`]. Cancel-safe.
    pub async fn next(&mut self) -> Option<PeerEvent> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<PeerEvent>> {
        loop {
            let event = match ready!(self.0.poll_mail(cx)) {
                None => None,
                Some(Mail::Missed(n)) => Some(PeerEvent::Missed(n)),
                Some(Mail::Item(notice)) => match event(notice) {
                    Some(event) => Some(event),
                    None => continue,
                },
            };
            return Poll::Ready(event);
        }
    }
}

impl Stream for PeerEvents {
    type Item = PeerEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_event(cx)
    }
}

/// A notice as programs see it.
fn event(notice: Notice) -> Option<PeerEvent> {
    Some(match notice {
        Notice::Linked { link, peer, address } => PeerEvent::Linked { link, peer, address },
        Notice::Unlinked { link, peer, why } => PeerEvent::Unlinked { link, peer, why },
        Notice::Listening(addresses) => PeerEvent::Listening(addresses),
        Notice::Closed => PeerEvent::Closed,
        Notice::Engine(event) => match event {
            Event::Joined { link, peer, device, space } => PeerEvent::Joined { link, peer, device, space },
            Event::InStep { link, space, stats } => PeerEvent::InStep { link, space, stats },
            Event::MembersChanged { space } => PeerEvent::MembersChanged { space },
            Event::Quarantined { space, path, hidden } => PeerEvent::Quarantined { space, path, hidden },
            Event::Evicted { space, path, changes, .. } => PeerEvent::Evicted { space, path, changes },
            Event::StorageTrouble(trouble) => PeerEvent::StorageTrouble(trouble),
            // The others are answers, or have watchers of their own.
            _ => return None,
        },
    })
}
