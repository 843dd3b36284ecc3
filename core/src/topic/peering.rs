//! What a link's two ends have agreed on, and what waits to leave.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::bucket::Bucket;
use super::message::{MAX_TAGS, Message};
use super::recent::Parcel;
use super::signal::StreamTag;
use super::{HAVE_EVERY, LINK, MAX_EXPECTED, PRUNE_AGAIN, QUEUE_BYTES, WINDOW};
use crate::id::{DeviceId, Path, PeerId, Prefix};
use crate::time::Timestamp;
use crate::wire::Codec;

/// Bytes after which what was taken in is acknowledged.
const ACK_AFTER: u64 = WINDOW / 4;

/// One link.
#[derive(Debug)]
pub(super) struct Peering {
    pub(super) peer: PeerId,
    /// What both ends replicate.
    pub(super) domains: Vec<Prefix>,
    /// What the peer may still bring.
    pub(super) bucket: Bucket,
    queue: VecDeque<Arc<Parcel>>,
    queued: usize,
    /// Bytes of each device in the queue.
    shares: BTreeMap<DeviceId, usize>,
    /// Bytes sent that the peer has not acknowledged.
    unacknowledged: u64,
    /// Bytes of signals that came since the last acknowledgement.
    taken: u64,
    /// Streams that the peer wants told of, not sent.
    lazy: BTreeSet<StreamTag>,
    /// Streams for which the peer was asked so, and when.
    pruned: BTreeMap<StreamTag, Timestamp>,
    /// How far lazy streams have come since the peer was last told.
    have: BTreeMap<StreamTag, u64>,
    have_at: Option<Timestamp>,
    /// Streams of which the peer has more: when to ask for it, and how far it has come.
    expected: BTreeMap<StreamTag, (Timestamp, u64)>,
    /// No later than the first of them: so that looking at the time costs nothing.
    expected_at: Option<Timestamp>,
    prune: BTreeSet<StreamTag>,
    graft: BTreeMap<StreamTag, u64>,
    /// The peer is to be told under which incarnation it has been heard.
    pub(super) former: Option<u64>,
}

impl Peering {
    pub(super) fn new(peer: PeerId, domains: Vec<Prefix>, now: Timestamp) -> Self {
        Self {
            peer,
            domains,
            bucket: Bucket::new(LINK, now),
            queue: VecDeque::new(),
            queued: 0,
            shares: BTreeMap::new(),
            unacknowledged: 0,
            taken: 0,
            lazy: BTreeSet::new(),
            pruned: BTreeMap::new(),
            have: BTreeMap::new(),
            have_at: None,
            expected: BTreeMap::new(),
            expected_at: None,
            prune: BTreeSet::new(),
            graft: BTreeMap::new(),
            former: None,
        }
    }

    pub(super) fn covers(&self, path: &Path) -> bool {
        self.domains.iter().any(|prefix| prefix.covers(path))
    }

    /// Bytes that wait.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Hands a signal to the link, or lets it be told of. Returns how many were dropped for it.
    pub(super) fn offer(&mut self, now: Timestamp, parcel: Arc<Parcel>) -> u64 {
        if self.lazy.contains(&parcel.tag) {
            self.have.insert(parcel.tag, parcel.seq);
            self.have_at.get_or_insert(now + HAVE_EVERY);
            return 0;
        }
        self.enqueue(parcel)
    }

    /// Queues a signal. Over the bound the oldest of the device that has most in the queue goes: a flood costs its sender.
    pub(super) fn enqueue(&mut self, parcel: Arc<Parcel>) -> u64 {
        self.queued += parcel.bytes.len();
        *self.shares.entry(parcel.device).or_default() += parcel.bytes.len();
        self.queue.push_back(parcel);
        let mut dropped = 0;
        while self.queued > QUEUE_BYTES
            && let Some(heaviest) = self.shares.iter().max_by_key(|(_, bytes)| **bytes).map(|(device, _)| *device)
            && let Some(at) = self.queue.iter().position(|parcel| parcel.device == heaviest)
        {
            self.dequeue(at);
            dropped += 1;
        }
        dropped
    }

    fn dequeue(&mut self, at: usize) -> Option<Arc<Parcel>> {
        let parcel = self.queue.remove(at)?;
        self.queued -= parcel.bytes.len();
        let share = self.shares.get_mut(&parcel.device).expect("counted when it was queued");
        *share -= parcel.bytes.len();
        if *share == 0 {
            self.shares.remove(&parcel.device);
        }
        Some(parcel)
    }

    /// A signal of so many bytes came, whatever becomes of it.
    pub(super) fn took(&mut self, bytes: usize) {
        self.taken += bytes as u64;
    }

    pub(super) fn on_ack(&mut self, bytes: u64) {
        self.unacknowledged = self.unacknowledged.saturating_sub(bytes);
    }

    pub(super) fn on_prune(&mut self, tag: StreamTag) {
        self.lazy.insert(tag);
    }

    /// The peer wants a stream sent again.
    pub(super) fn on_graft(&mut self, tag: &StreamTag) {
        self.lazy.remove(tag);
        self.have.remove(tag);
    }

    /// Asks the peer to be silent about a stream, unless that was just done.
    pub(super) fn ask_silence(&mut self, tag: StreamTag, now: Timestamp) {
        if self.pruned.get(&tag).is_none_or(|at| *at + PRUNE_AGAIN <= now) {
            self.pruned.insert(tag, now);
            self.prune.insert(tag);
            self.graft.remove(&tag);
        }
    }

    pub(super) fn is_silent(&self, tag: &StreamTag) -> bool {
        self.pruned.contains_key(tag)
    }

    /// Asks the peer to send a stream again, from behind a mark.
    pub(super) fn ask_again(&mut self, tag: StreamTag, mark: u64) {
        self.pruned.remove(&tag);
        self.prune.remove(&tag);
        self.expected.remove(&tag);
        self.graft.insert(tag, mark);
    }

    pub(super) fn expect(&mut self, tag: StreamTag, at: Timestamp, seq: u64) {
        if let Some((_, known)) = self.expected.get_mut(&tag) {
            *known = seq.max(*known);
        } else if self.expected.len() < MAX_EXPECTED {
            self.expected.insert(tag, (at, seq));
            self.expected_at = Some(self.expected_at.map_or(at, |first| first.min(at)));
        }
    }

    /// What should have come by now, with how far it has come there. It is expected no more.
    pub(super) fn take_overdue(&mut self, now: Timestamp) -> Vec<(StreamTag, u64)> {
        if self.expected_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        let overdue = self.expected.extract_if(.., |_, (at, _)| *at <= now);
        let overdue = overdue.map(|(tag, (_, seq))| (tag, seq)).collect();
        self.expected_at = self.expected.values().map(|(at, _)| *at).min();
        overdue
    }

    /// A stream is forgotten.
    pub(super) fn forget(&mut self, tag: &StreamTag) {
        self.lazy.remove(tag);
        self.pruned.remove(tag);
        self.have.remove(tag);
        self.prune.remove(tag);
    }

    /// Whether something may leave now.
    pub(super) fn is_busy(&self, now: Timestamp) -> bool {
        !self.prune.is_empty()
            || !self.graft.is_empty()
            || self.former.is_some()
            || self.taken >= ACK_AFTER
            || self.have_at.is_some_and(|at| at <= now)
            || (!self.queue.is_empty() && self.unacknowledged < WINDOW)
    }

    pub(super) fn next_timer(&self) -> Option<Timestamp> {
        self.expected_at.into_iter().chain(self.have_at).min()
    }

    /// Messages that may leave now, encoded. `path` says where a stream lies that is still known.
    pub(super) fn poll<'a>(&mut self, now: Timestamp, path: impl Fn(&StreamTag) -> Option<&'a Path>) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        if self.taken >= ACK_AFTER {
            let bytes = std::mem::take(&mut self.taken);
            messages.push(Message::Ack { bytes }.to_bytes());
        }
        messages.extend(self.former.take().map(|incarnation| Message::Former { incarnation }.to_bytes()));
        let prune: Vec<StreamTag> = std::mem::take(&mut self.prune).into_iter().collect();
        messages.extend(prune.chunks(MAX_TAGS).map(|tags| Message::Prune(tags.to_vec()).to_bytes()));
        let graft: Vec<(StreamTag, u64)> = std::mem::take(&mut self.graft).into_iter().collect();
        messages.extend(graft.chunks(MAX_TAGS).map(|marks| Message::Graft(marks.to_vec()).to_bytes()));
        if self.have_at.is_some_and(|at| at <= now) {
            self.have_at = None;
            let have = std::mem::take(&mut self.have).into_iter();
            let have: Vec<_> = have.filter(|(tag, _)| path(tag).is_some_and(|path| self.covers(path))).collect();
            messages.extend(have.chunks(MAX_TAGS).map(|marks| Message::Have(marks.to_vec()).to_bytes()));
        }
        while self.unacknowledged < WINDOW
            && let Some(parcel) = self.dequeue(0)
        {
            // What the peer may see can have changed while it waited.
            if self.covers(&parcel.path) {
                self.unacknowledged += parcel.bytes.len() as u64;
                messages.push(parcel.bytes.clone());
            }
        }
        messages
    }
}
