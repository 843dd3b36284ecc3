//! One peer's topics of one space.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::bucket::{Bucket, Rate};
use super::message::Message;
use super::peering::Peering;
use super::recent::{Parcel, Recent};
use super::signal::{Signal, StreamTag, stream_tag};
use super::streams::Streams;
use super::{GRAFT_AFTER, MAX_LEAD, MAX_OWN_PATHS, MAX_PAYLOAD, PUBLISH};
use crate::id::{Incarnation, Path, PeerId, Prefix, SpaceId};
use crate::io::LinkId;
use crate::soft::OwnerId;
use crate::time::{Now, Timestamp, WallTime};
use crate::trust::DeviceKey;
use crate::trust::device::Signature;
use crate::wire::Codec;

/// Why a signal was not published. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TopicError {
    /// The payload is too long; put it into a document and signal its path.
    #[error("a signal carries at most {max} bytes, this one has {bytes}")]
    PayloadTooLarge {
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// This device has no write grant for the path, so nobody would take its signals there.
    #[error("this device may not publish at {path}")]
    NoGrant {
        /// Where.
        path: Path,
    },
    /// This peer publishes faster than others would take from it.
    #[error("this peer publishes too fast; wait {wait:?}")]
    RateExceeded {
        /// After so long there is room for this signal.
        wait: Duration,
    },
}

/// A signal, as programs see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicEvent {
    /// Where.
    pub path: Path,
    /// Who published it.
    pub sender: OwnerId,
    /// Its number among the sender's signals at the path, in the sender's present life.
    pub seq: u64,
    /// How many of the sender's signals at the path were missed since the one before; 0 with the first that is heard of a
    /// life.
    pub missed: u64,
    /// What.
    pub payload: Arc<[u8]>,
    /// Whether this peer published it.
    pub mine: bool,
}

/// Figures for people and metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Streams of others that have marks.
    pub streams: u64,
    /// Bytes that are kept or wait for links.
    pub bytes: u64,
    /// Signals handed to programs, own ones included.
    pub delivered: u64,
    /// Signals dropped since links were too slow.
    pub dropped: u64,
    /// Signals of others not taken: over a rate, too old, or without the right.
    pub refused: u64,
}

/// This peer as a sender.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) sender: OwnerId,
    pub(super) incarnation: u64,
    /// The last number at each path.
    streams: BTreeMap<Path, (u64, StreamTag)>,
    tags: BTreeMap<StreamTag, Path>,
    bucket: Bucket,
    /// Issue times never go back within an incarnation.
    issue: WallTime,
}

impl Own {
    /// The last number published at a path.
    pub(super) fn mark(&self, path: &Path) -> u64 {
        self.streams.get(path).map_or(0, |(seq, _)| *seq)
    }

    fn mark_of(&self, tag: &StreamTag) -> Option<u64> {
        self.tags.get(tag).map(|path| self.mark(path))
    }
}

/// One peer's topics of one space.
#[derive(Debug)]
pub struct State {
    pub(super) space: SpaceId,
    pub(super) own: Own,
    pub(super) streams: Streams,
    pub(super) links: BTreeMap<LinkId, Peering>,
    pub(super) recent: Recent,
    pub(super) busy: BTreeSet<LinkId>,
    pub(super) events: Vec<TopicEvent>,
    pub(super) delivered: u64,
    pub(super) dropped: u64,
    pub(super) refused: u64,
}

impl State {
    /// Nothing is known. `sender` is this peer, `incarnation` its present life, above all former ones.
    pub fn new(space: SpaceId, sender: OwnerId, incarnation: u64, now: Timestamp) -> Self {
        let own = Own {
            sender,
            incarnation,
            streams: BTreeMap::new(),
            tags: BTreeMap::new(),
            bucket: Bucket::new(PUBLISH, now),
            issue: WallTime(i64::MIN),
        };
        Self {
            space,
            own,
            streams: Streams::default(),
            links: BTreeMap::new(),
            recent: Recent::default(),
            busy: BTreeSet::new(),
            events: Vec::new(),
            delivered: 0,
            dropped: 0,
            refused: 0,
        }
    }

    /// Publishes at another rate than [`PUBLISH`].
    pub(crate) fn publishing(mut self, rate: Rate, now: Timestamp) -> Self {
        self.own.bucket = Bucket::new(rate, now);
        self
    }

    /// Publishes. Whether the device may is for the caller to ask. Returns the signal's number, and to how many links it goes.
    pub fn publish(
        &mut self,
        now: Now,
        key: &DeviceKey,
        path: Path,
        payload: Arc<[u8]>,
    ) -> Result<(u64, usize), TopicError> {
        if payload.len() > MAX_PAYLOAD {
            return Err(TopicError::PayloadTooLarge { bytes: payload.len(), max: MAX_PAYLOAD });
        }
        let (sender, signature) = (self.own.sender, Signature([0; 64]));
        let mut signal = Signal { sender, incarnation: 0, seq: 0, issue: now.wall, path, payload, signature };
        self.own.bucket.take(now.mono, signal.cost()).map_err(|wait| TopicError::RateExceeded { wait })?;
        self.own.issue = self.own.issue.max(now.wall);
        signal.issue = self.own.issue;
        let tag = self.number(&mut signal);
        let signal = signal.signed(key, &self.space);
        self.emit(&signal, 0, true);
        let links = self.forward(now.mono, &signal, tag, None);
        Ok((signal.seq, links))
    }

    /// Gives an own signal its number and incarnation.
    fn number(&mut self, signal: &mut Signal) -> StreamTag {
        if self.own.streams.len() >= MAX_OWN_PATHS && !self.own.streams.contains_key(&signal.path) {
            // Numbers that were forgotten must not be used again; those of another incarnation may.
            self.begin(self.own.incarnation + 1);
        }
        let (path, incarnation) = (&signal.path, self.own.incarnation);
        let fresh = || (0, stream_tag(&self.own.sender, incarnation, path));
        let (seq, tag) = self.own.streams.get(path).copied().unwrap_or_else(fresh);
        (signal.incarnation, signal.seq) = (incarnation, seq + 1);
        self.own.streams.insert(path.clone(), (seq + 1, tag));
        self.own.tags.insert(tag, path.clone());
        tag
    }

    /// Publishes under another incarnation from here on.
    fn begin(&mut self, incarnation: u64) {
        self.own.incarnation = incarnation;
        self.own.streams.clear();
        let gone: Vec<StreamTag> = std::mem::take(&mut self.own.tags).into_keys().collect();
        self.forget(&gone);
    }

    /// A peer has heard this one under an incarnation that it does not know of: its store was put back from a copy, and its
    /// clock was, too, or it would have begun above that. What says so is not signed, so it leads no further than a clock that
    /// is wrong by [`MAX_LEAD`] would.
    pub(super) fn on_former(&mut self, now: Now, incarnation: u64) {
        let most =
            crate::soft::incarnation(WallTime(now.wall.0.saturating_add(MAX_LEAD.as_millis() as i64)), Incarnation(0));
        if incarnation > self.own.incarnation && incarnation < most {
            self.begin(((incarnation >> 16) + 1) << 16);
        }
    }

    pub(super) fn emit(&mut self, signal: &Signal, missed: u64, mine: bool) {
        self.delivered += 1;
        self.events.push(TopicEvent {
            path: signal.path.clone(),
            sender: signal.sender,
            seq: signal.seq,
            missed,
            payload: signal.payload.clone(),
            mine,
        });
    }

    /// Hands a signal to every link that wants it, but for where it came from and to its sender.
    pub(super) fn forward(&mut self, now: Timestamp, signal: &Signal, tag: StreamTag, from: Option<LinkId>) -> usize {
        let parcel = Arc::new(Parcel {
            tag,
            seq: signal.seq,
            device: signal.sender.device,
            path: signal.path.clone(),
            bytes: Message::Signal(Box::new(signal.clone())).to_bytes(),
        });
        self.recent.keep(parcel.clone());
        let mut links = 0;
        for (id, peering) in &mut self.links {
            if Some(*id) == from || peering.peer == signal.sender.peer || !peering.covers(&signal.path) {
                continue;
            }
            links += 1;
            self.dropped += peering.offer(now, parcel.clone());
            self.busy.insert(*id);
        }
        links
    }

    /// Streams that are known no more.
    pub(super) fn forget(&mut self, gone: &[StreamTag]) {
        for peering in self.links.values_mut() {
            gone.iter().for_each(|tag| peering.forget(tag));
        }
    }

    /// How far a stream has come, an own one or another's.
    pub(super) fn mark(&self, tag: &StreamTag) -> Option<u64> {
        self.own.mark_of(tag).or_else(|| self.streams.mark(tag))
    }

    /// A link's two ends know what both replicate, or know it anew.
    pub fn connect(&mut self, link: LinkId, peer: PeerId, domains: Vec<Prefix>, now: Timestamp) {
        match self.links.get_mut(&link) {
            Some(peering) => peering.domains = domains,
            None => {
                let mut peering = Peering::new(peer, domains, now);
                peering.former = self.streams.incarnation(&peer);
                if peering.former.is_some() {
                    self.busy.insert(link);
                }
                self.links.insert(link, peering);
            }
        }
    }

    /// A link is gone: the streams that came by it are asked for wherever they were not wanted.
    pub fn disconnect(&mut self, link: LinkId) {
        self.busy.remove(&link);
        if self.links.remove(&link).is_none() {
            return;
        }
        for (tag, mark) in self.streams.orphaned(link) {
            for (id, peering) in &mut self.links {
                if peering.is_silent(&tag) {
                    peering.ask_again(tag, mark);
                    self.busy.insert(*id);
                }
            }
        }
    }

    /// Lets pass what time alone brings about: streams that are behind are asked for, silent links tell.
    pub fn tick(&mut self, now: Timestamp) {
        let due = |peering: &Peering| peering.next_timer().is_some_and(|at| at <= now);
        let links: Vec<LinkId> = self.links.iter().filter(|(_, peering)| due(peering)).map(|(id, _)| *id).collect();
        let mut asked = BTreeSet::new();
        for id in links {
            self.busy.insert(id);
            let overdue = self.links.get_mut(&id).expect("listed above").take_overdue(now);
            for (tag, seq) in overdue {
                let mark = self.mark(&tag).unwrap_or(0);
                let peering = self.links.get_mut(&id).expect("listed above");
                if mark >= seq {
                    continue;
                }
                if asked.insert(tag) {
                    peering.ask_again(tag, mark);
                } else {
                    // Somebody else was asked just now.
                    peering.expect(tag, now + GRAFT_AFTER, seq);
                }
            }
        }
    }

    /// When [`State::tick`] has something to do.
    pub fn next_timer(&self) -> Option<Timestamp> {
        self.links.values().filter_map(Peering::next_timer).min()
    }

    /// Links that may have something to send since this was last asked.
    pub fn take_busy(&mut self) -> BTreeSet<LinkId> {
        std::mem::take(&mut self.busy)
    }

    /// Messages that may leave on a link now, encoded.
    pub fn poll_link(&mut self, link: LinkId, now: Timestamp) -> Vec<Vec<u8>> {
        let (own, streams) = (&self.own, &self.streams);
        let Some(peering) = self.links.get_mut(&link).filter(|peering| peering.is_busy(now)) else { return Vec::new() };
        peering.poll(now, |tag| own.tags.get(tag).or_else(|| streams.path(tag)))
    }

    /// What has come since this was last asked.
    pub fn take_events(&mut self) -> Vec<TopicEvent> {
        std::mem::take(&mut self.events)
    }

    /// Figures.
    pub fn figures(&self) -> Figures {
        let queued: usize = self.links.values().map(Peering::queued).sum();
        Figures {
            streams: self.streams.len() as u64,
            bytes: (self.recent.bytes() + queued) as u64,
            delivered: self.delivered,
            dropped: self.dropped,
            refused: self.refused,
        }
    }
}
