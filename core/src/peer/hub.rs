//! Who is told what: watchers of documents, of prefixes, and of the peer.
//!
//! The driver publishes and never waits. A watcher of a document holds one flag: what happened meanwhile is found by
//! comparing heads, so any number of changes is one wake-up. Watchers of a prefix and of the peer hold a bounded queue;
//! past the bound it is emptied and says so. Subscribers of topics lose their oldest signals, and are told how many.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;

#[cfg(feature = "coord")]
use super::coord::{LineBox, NodeEvent, SessionNow};
#[cfg(feature = "coord")]
use crate::coord::serve::client::State;
#[cfg(feature = "coord")]
use crate::coord::serve::talk::Tell;
#[cfg(feature = "coord")]
use crate::engine::{ClientId, CoordEvent, LineId};
use crate::engine::{Event, SoftEvent, TopicEvent};
use crate::id::{DocumentId, Path, Prefix, SpaceId};
use crate::net::Notice;

/// Everybody who watches.
#[derive(Default)]
pub(crate) struct Hub {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    documents: BTreeMap<(SpaceId, Path), Vec<Weak<Flag>>>,
    prefixes: Vec<Weak<PrefixBox>>,
    soft: Vec<Weak<SoftBox>>,
    topics: Vec<Weak<TopicBox>>,
    peers: Vec<Weak<Mailbox<Notice>>>,
    #[cfg(feature = "coord")]
    sessions: Vec<Weak<SessionBox>>,
    #[cfg(feature = "coord")]
    lines: BTreeMap<LineId, Arc<LineBox>>,
    /// How sessions stand whose handles are being made: their first news may come before.
    #[cfg(feature = "coord")]
    standing: BTreeMap<ClientId, SessionNow>,
    closed: bool,
}

/// A wake-up that remembers whether it came.
pub(crate) struct Flag {
    /// Of the generations of its path, the one that it is about.
    document: DocumentId,
    raised: AtomicBool,
    deleted: AtomicBool,
    closed: AtomicBool,
    waker: AtomicWaker,
}

impl Flag {
    fn new(document: DocumentId) -> Self {
        let (raised, deleted, closed) = (AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(false));
        Self { document, raised, deleted, closed, waker: AtomicWaker::new() }
    }

    /// Something may have changed.
    pub(crate) fn raise(&self) {
        self.raised.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Ready once per time that it was raised since the last answer. `None`: nothing will come any more.
    pub(crate) fn poll_raised(&self, cx: &mut Context<'_>) -> Poll<Option<()>> {
        self.waker.register(cx.waker());
        if self.raised.swap(false, Ordering::AcqRel) {
            Poll::Ready(Some(()))
        } else if self.closed.load(Ordering::Acquire) {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }

    /// Whether the document was deleted.
    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// The document was deleted.
    pub(crate) fn set_deleted(&self) {
        self.deleted.store(true, Ordering::Release);
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.waker.wake();
    }
}

/// A bounded queue with one reader.
pub(crate) struct Mailbox<T> {
    queue: Mutex<Queue<T>>,
    waker: AtomicWaker,
    bound: usize,
}

struct Queue<T> {
    items: VecDeque<T>,
    /// Items dropped since the last answer.
    missed: u64,
    closed: bool,
}

/// What a mailbox gives.
pub(crate) enum Mail<T> {
    Item(T),
    /// So many were dropped before what follows.
    Missed(u64),
}

impl<T> Mailbox<T> {
    pub(crate) fn new(bound: usize) -> Self {
        let queue = Queue { items: VecDeque::new(), missed: 0, closed: false };
        Self { queue: Mutex::new(queue), waker: AtomicWaker::new(), bound }
    }

    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item; `merge` may fold it into one that waits already and says whether it did.
    pub(crate) fn push(&self, item: T, merge: impl FnOnce(&mut VecDeque<T>, &T) -> bool) {
        let mut queue = self.lock();
        if !merge(&mut queue.items, &item) {
            if queue.items.len() >= self.bound {
                queue.missed += queue.items.len() as u64;
                queue.items.clear();
            }
            queue.items.push_back(item);
        }
        drop(queue);
        self.waker.wake();
    }

    /// Adds an item in the place of the oldest where there is no room.
    pub(crate) fn push_newest(&self, item: T) {
        let mut queue = self.lock();
        if queue.items.len() >= self.bound {
            queue.items.pop_front();
            queue.missed += 1;
        }
        queue.items.push_back(item);
        drop(queue);
        self.waker.wake();
    }

    pub(crate) fn poll_mail(&self, cx: &mut Context<'_>) -> Poll<Option<Mail<T>>> {
        self.waker.register(cx.waker());
        let mut queue = self.lock();
        if queue.missed > 0 {
            return Poll::Ready(Some(Mail::Missed(std::mem::take(&mut queue.missed))));
        }
        match queue.items.pop_front() {
            Some(item) => Poll::Ready(Some(Mail::Item(item))),
            None if queue.closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.waker.wake();
    }
}

/// A change under a watched prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentChange {
    /// Where.
    pub path: Path,
    /// Whether the newest change was a deletion.
    pub deleted: bool,
    /// Whether a peer's bytes were among the causes.
    pub remote: bool,
}

/// The queue of one watched prefix. Changes of a path that waits already are folded into one.
pub(crate) struct PrefixBox {
    space: SpaceId,
    prefix: Prefix,
    pub(crate) mail: Mailbox<DocumentChange>,
}

/// The queue of one watched prefix of soft state. Changes of an entry that waits already are folded into one.
pub(crate) struct SoftBox {
    space: SpaceId,
    prefix: Prefix,
    pub(crate) mail: Mailbox<SoftEvent>,
}

/// The queue of one subscriber of topics.
pub(crate) struct TopicBox {
    space: SpaceId,
    prefix: Prefix,
    /// The path that equals the prefix, and none below it.
    exact: bool,
    pub(crate) mail: Mailbox<TopicEvent>,
}

impl TopicBox {
    fn wants(&self, space: SpaceId, path: &Path) -> bool {
        let below = !self.exact || path.as_str() == self.prefix.as_str();
        self.space == space && below && self.prefix.covers(path)
    }
}

/// One watcher of a session of the strong path.
#[cfg(feature = "coord")]
pub(crate) struct SessionBox {
    client: ClientId,
    pub(crate) now: tokio::sync::watch::Sender<SessionNow>,
    pub(crate) mail: Mailbox<NodeEvent>,
}

/// Most signals that wait for a subscriber of topics: about a MiB at most.
pub const MAX_WAITING_SIGNALS: usize = 256;

/// Most paths that wait in the queue of a watched prefix, and most events in that of a peer.
pub const MAX_WAITING_EVENTS: usize = 1024;

impl Hub {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn watch_document(&self, space: SpaceId, path: &Path, document: DocumentId) -> Arc<Flag> {
        let flag = Arc::new(Flag::new(document));
        let mut inner = self.lock();
        if inner.closed {
            flag.close();
        }
        let watchers = inner.documents.entry((space, path.clone())).or_default();
        watchers.retain(|other| other.strong_count() > 0);
        watchers.push(Arc::downgrade(&flag));
        flag
    }

    pub(crate) fn watch_prefix(&self, space: SpaceId, prefix: Prefix) -> Arc<PrefixBox> {
        let watcher = Arc::new(PrefixBox { space, prefix, mail: Mailbox::new(MAX_WAITING_EVENTS) });
        let mut inner = self.lock();
        if inner.closed {
            watcher.mail.close();
        }
        inner.prefixes.retain(|other| other.strong_count() > 0);
        inner.prefixes.push(Arc::downgrade(&watcher));
        watcher
    }

    pub(crate) fn watch_soft(&self, space: SpaceId, prefix: Prefix) -> Arc<SoftBox> {
        let watcher = Arc::new(SoftBox { space, prefix, mail: Mailbox::new(MAX_WAITING_EVENTS) });
        let mut inner = self.lock();
        if inner.closed {
            watcher.mail.close();
        }
        inner.soft.retain(|other| other.strong_count() > 0);
        inner.soft.push(Arc::downgrade(&watcher));
        watcher
    }

    pub(crate) fn watch_topics(&self, space: SpaceId, prefix: Prefix, exact: bool) -> Arc<TopicBox> {
        let watcher = Arc::new(TopicBox { space, prefix, exact, mail: Mailbox::new(MAX_WAITING_SIGNALS) });
        let mut inner = self.lock();
        if inner.closed {
            watcher.mail.close();
        }
        inner.topics.retain(|other| other.strong_count() > 0);
        inner.topics.push(Arc::downgrade(&watcher));
        watcher
    }

    #[cfg(feature = "coord")]
    pub(crate) fn watch_session(&self, client: ClientId) -> Arc<SessionBox> {
        let mut inner = self.lock();
        let now = inner.standing.get(&client).copied().unwrap_or(SessionNow { state: State::Opening, lapses: 0 });
        let now = tokio::sync::watch::Sender::new(now);
        let watcher = Arc::new(SessionBox { client, now, mail: Mailbox::new(MAX_WAITING_EVENTS) });
        if inner.closed {
            watcher.mail.close();
            watcher.now.send_modify(|now| now.state = State::Lost);
        }
        inner.sessions.retain(|other| other.strong_count() > 0);
        inner.sessions.push(Arc::downgrade(&watcher));
        watcher
    }

    #[cfg(feature = "coord")]
    pub(crate) fn watch_line(&self, line: LineId) -> Arc<LineBox> {
        let told = Arc::new(LineBox::default());
        let mut inner = self.lock();
        if inner.closed {
            told.end();
        }
        inner.lines.insert(line, told.clone());
        told
    }

    #[cfg(feature = "coord")]
    pub(crate) fn forget_line(&self, line: LineId) {
        self.lock().lines.remove(&line);
    }

    #[cfg(feature = "coord")]
    fn publish_line(&self, line: LineId, tell: Option<Box<Tell>>) {
        let Some(told) = self.lock().lines.get(&line).cloned() else { return };
        match tell {
            Some(tell) => told.push(*tell),
            None => told.end(),
        }
    }

    #[cfg(feature = "coord")]
    fn publish_coord(&self, event: &CoordEvent) {
        let mut inner = self.lock();
        match event {
            CoordEvent::State { client, state, .. } => {
                let now = inner.standing.entry(*client).or_insert(SessionNow { state: *state, lapses: 0 });
                now.state = *state;
                now.lapses += u64::from(*state == State::Lapsed);
                let now = *now;
                if *state == State::Lost {
                    inner.standing.remove(client);
                }
                let watchers = inner.sessions.iter().filter_map(Weak::upgrade).filter(|found| found.client == *client);
                watchers.for_each(|watcher| {
                    let _ = watcher.now.send_replace(now);
                });
            }
            CoordEvent::Changed { client, zxid, kind, path } => {
                let event = NodeEvent { zxid: *zxid, kind: *kind, path: path.as_str().to_owned() };
                let watchers = inner.sessions.iter().filter_map(Weak::upgrade).filter(|found| found.client == *client);
                watchers.for_each(|watcher| watcher.mail.push(event.clone(), |_, _| false));
            }
            _ => {}
        }
    }

    pub(crate) fn watch_peer(&self) -> Arc<Mailbox<Notice>> {
        let mailbox = Arc::new(Mailbox::new(MAX_WAITING_EVENTS));
        let mut inner = self.lock();
        if inner.closed {
            mailbox.close();
        }
        inner.peers.retain(|other| other.strong_count() > 0);
        inner.peers.push(Arc::downgrade(&mailbox));
        mailbox
    }

    /// Wakes the watchers of a path: it changed here. `deleted`: that document of it is gone.
    pub(crate) fn raise(&self, space: SpaceId, path: &Path, deleted: Option<DocumentId>) {
        let mut inner = self.lock();
        let key = (space, path.clone());
        let Some(watchers) = inner.documents.get_mut(&key) else { return };
        watchers.retain(|watcher| {
            let Some(flag) = watcher.upgrade() else { return false };
            if deleted == Some(flag.document) {
                flag.set_deleted();
            }
            flag.raise();
            true
        });
        if watchers.is_empty() {
            inner.documents.remove(&key);
        }
    }

    /// Tells everybody whom it concerns.
    pub(crate) fn publish(&self, notice: Notice) {
        if let Notice::Engine(Event::DocumentChanged { space, path, document, deleted, remote }) = &notice {
            self.raise(*space, path, deleted.then_some(*document));
            let change = DocumentChange { path: path.clone(), deleted: *deleted, remote: *remote };
            return self.publish_change(*space, &change);
        }
        if let Notice::Engine(Event::DocumentShown { space, path, .. }) = &notice {
            return self.raise(*space, path, None);
        }
        if let Notice::Engine(Event::SoftChanged { space, event }) = &notice {
            return self.publish_soft(*space, event);
        }
        if let Notice::Engine(Event::Signalled { space, event }) = &notice {
            return self.publish_signal(*space, event);
        }
        // Many, and nobody else's business.
        #[cfg(feature = "coord")]
        let notice = match notice {
            Notice::Engine(Event::Coord(CoordEvent::Line { line, tell })) => return self.publish_line(line, tell),
            notice => notice,
        };
        #[cfg(feature = "coord")]
        if let Notice::Engine(Event::Coord(event)) = &notice {
            self.publish_coord(event);
        }
        let closed = matches!(notice, Notice::Closed);
        let mut inner = self.lock();
        inner.closed |= closed;
        inner.peers.retain(|watcher| {
            let Some(mailbox) = watcher.upgrade() else { return false };
            mailbox.push(notice.clone(), |_, _| false);
            if closed {
                mailbox.close();
            }
            true
        });
        if closed {
            inner.documents.values().flatten().filter_map(Weak::upgrade).for_each(|flag| flag.close());
            inner.prefixes.iter().filter_map(Weak::upgrade).for_each(|watcher| watcher.mail.close());
            inner.soft.iter().filter_map(Weak::upgrade).for_each(|watcher| watcher.mail.close());
            inner.topics.iter().filter_map(Weak::upgrade).for_each(|watcher| watcher.mail.close());
            #[cfg(feature = "coord")]
            inner.sessions.iter().filter_map(Weak::upgrade).for_each(|watcher| {
                watcher.mail.close();
                watcher.now.send_modify(|now| now.state = State::Lost);
            });
            #[cfg(feature = "coord")]
            inner.lines.values().for_each(|told| told.end());
        }
    }

    fn publish_soft(&self, space: SpaceId, event: &SoftEvent) {
        let mut inner = self.lock();
        inner.soft.retain(|watcher| {
            let Some(watcher) = watcher.upgrade() else { return false };
            if watcher.space == space && watcher.prefix.covers(&event.path) {
                watcher.mail.push(event.clone(), fold_soft);
            }
            true
        });
    }

    fn publish_signal(&self, space: SpaceId, event: &TopicEvent) {
        let mut inner = self.lock();
        inner.topics.retain(|watcher| {
            let Some(watcher) = watcher.upgrade() else { return false };
            if watcher.wants(space, &event.path) {
                watcher.mail.push_newest(event.clone());
            }
            true
        });
    }

    fn publish_change(&self, space: SpaceId, change: &DocumentChange) {
        let mut inner = self.lock();
        inner.prefixes.retain(|watcher| {
            let Some(watcher) = watcher.upgrade() else { return false };
            if watcher.space == space && watcher.prefix.covers(&change.path) {
                watcher.mail.push(change.clone(), fold);
            }
            true
        });
    }
}

/// Folds a change of a soft entry into the one that waits.
fn fold_soft(waiting: &mut VecDeque<SoftEvent>, new: &SoftEvent) -> bool {
    let same = |old: &&mut SoftEvent| old.path == new.path && old.owner == new.owner;
    let Some(old) = waiting.iter_mut().rev().find(same) else { return false };
    old.change = new.change.clone();
    true
}

/// Folds a change into the one of the same path that waits. The queue is bounded, and bursts hit its end.
fn fold(waiting: &mut VecDeque<DocumentChange>, new: &DocumentChange) -> bool {
    let Some(old) = waiting.iter_mut().rev().find(|old| old.path == new.path) else { return false };
    old.deleted = new.deleted;
    old.remote |= new.remote;
    true
}

#[cfg(test)]
mod tests {
    use futures::task::noop_waker;

    use super::*;

    fn change(path: &str) -> Notice {
        Notice::Engine(Event::DocumentChanged {
            space: SpaceId([1; 32]),
            path: Path::parse(path).unwrap(),
            document: DocumentId([0; 16]),
            deleted: false,
            remote: true,
        })
    }

    fn drain(watcher: &PrefixBox) -> Vec<Result<String, u64>> {
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        let mut out = Vec::new();
        while let Poll::Ready(Some(mail)) = watcher.mail.poll_mail(&mut cx) {
            out.push(match mail {
                Mail::Item(change) => Ok(change.path.to_string()),
                Mail::Missed(n) => Err(n),
            });
        }
        out
    }

    #[test]
    fn changes_of_one_path_are_folded_and_other_prefixes_are_not_told() {
        let hub = Hub::default();
        let watcher = hub.watch_prefix(SpaceId([1; 32]), Prefix::parse("/a").unwrap());
        for path in ["/a/1", "/a/2", "/a/1", "/b/1"] {
            hub.publish(change(path));
        }
        assert_eq!(drain(&watcher), [Ok("/a/1".into()), Ok("/a/2".into())]);
    }

    #[test]
    fn a_watcher_that_sleeps_too_long_is_told_that_it_missed_something() {
        let hub = Hub::default();
        let watcher = hub.watch_prefix(SpaceId([1; 32]), Prefix::root());
        for i in 0..=MAX_WAITING_EVENTS {
            hub.publish(change(&format!("/a/{i}")));
        }
        assert_eq!(drain(&watcher), [Err(MAX_WAITING_EVENTS as u64), Ok(format!("/a/{MAX_WAITING_EVENTS}"))]);
    }

    #[test]
    fn a_flag_coalesces_and_ends_with_the_peer() {
        let hub = Hub::default();
        let flag = hub.watch_document(SpaceId([1; 32]), &Path::parse("/a").unwrap(), DocumentId([0; 16]));
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        hub.publish(change("/a"));
        hub.publish(change("/a"));
        assert_eq!(flag.poll_raised(&mut cx), Poll::Ready(Some(())));
        assert_eq!(flag.poll_raised(&mut cx), Poll::Pending);
        hub.raise(SpaceId([1; 32]), &Path::parse("/a").unwrap(), Some(DocumentId([9; 16])));
        assert!(!flag.is_deleted(), "another generation of the path is gone");
        assert_eq!(flag.poll_raised(&mut cx), Poll::Ready(Some(())));
        hub.publish(Notice::Closed);
        assert_eq!(flag.poll_raised(&mut cx), Poll::Ready(None));
    }
}
