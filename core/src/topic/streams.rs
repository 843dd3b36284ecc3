//! Marks: how far each stream has come, and what may still begin one.
//!
//! Invariant: no signal is fresh twice. A mark rises only; where one goes, the floor of its device, or of all unknown
//! devices, rises to the newest issue time that the mark had seen.

use std::collections::BTreeMap;

use super::bucket::Bucket;
use super::signal::{Signal, StreamTag};
use super::{DEVICE, MAX_AGE, MAX_DEVICE_STREAMS, MAX_DEVICES, MAX_STREAMS};
use crate::id::{DeviceId, Path, PeerId};
use crate::io::LinkId;
use crate::time::{Timestamp, WallTime};

/// How far a stream has come.
#[derive(Debug)]
pub(super) struct Stream {
    incarnation: u64,
    seq: u64,
    pub(super) tag: StreamTag,
    /// The newest issue time it has shown.
    newest: WallTime,
    /// When it was last heard, as a count.
    heard: u64,
    /// The link that brought the latest signal first.
    pub(super) parent: Option<LinkId>,
}

#[derive(Debug)]
struct Device {
    streams: BTreeMap<(PeerId, Path), Stream>,
    /// Nothing issued at or before this begins a stream.
    floor: WallTime,
    bucket: Bucket,
}

impl Device {
    fn newest(&self) -> WallTime {
        self.streams.values().map(|stream| stream.newest).max().unwrap_or(self.floor).max(self.floor)
    }
}

/// What a signal is to who has a stream's mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Above the mark, with so many numbers between, or of a stream or incarnation that begins.
    Fresh { missed: u64 },
    /// At or below the mark.
    Duplicate,
    /// Of an incarnation that is over, or too old to begin a stream.
    Old,
}

/// The streams of a space, but for this peer's own.
#[derive(Debug)]
pub(super) struct Streams {
    devices: BTreeMap<DeviceId, Device>,
    tags: BTreeMap<StreamTag, (DeviceId, PeerId, Path)>,
    count: usize,
    serial: u64,
    /// The floor of devices that are not known.
    floor: WallTime,
}

impl Default for Streams {
    fn default() -> Self {
        let floor = WallTime(i64::MIN);
        Self { devices: BTreeMap::new(), tags: BTreeMap::new(), count: 0, serial: 0, floor }
    }
}

impl Streams {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    fn of(&self, signal: &Signal) -> Option<&Stream> {
        let device = self.devices.get(&signal.sender.device)?;
        device.streams.get(&(signal.sender.peer, signal.path.clone()))
    }

    /// What a signal is here.
    pub(super) fn place(&self, signal: &Signal) -> Place {
        match self.of(signal) {
            Some(stream) if signal.incarnation < stream.incarnation => Place::Old,
            Some(stream) if signal.incarnation > stream.incarnation => Place::Fresh { missed: 0 },
            Some(stream) if signal.seq <= stream.seq => Place::Duplicate,
            Some(stream) => Place::Fresh { missed: signal.seq - stream.seq - 1 },
            None => {
                let floor = self.devices.get(&signal.sender.device).map_or(self.floor, |device| device.floor);
                if signal.issue > floor { Place::Fresh { missed: 0 } } else { Place::Old }
            }
        }
    }

    /// The incarnation under which a sender was last heard, if that is above the signal's.
    pub(super) fn outlived(&self, signal: &Signal) -> Option<u64> {
        self.of(signal).map(|stream| stream.incarnation).filter(|heard| *heard > signal.incarnation)
    }

    /// The latest incarnation under which a peer was heard.
    pub(super) fn incarnation(&self, peer: &PeerId) -> Option<u64> {
        let streams = self.devices.values().flat_map(|device| &device.streams);
        streams.filter(|((of, _), _)| of == peer).map(|(_, stream)| stream.incarnation).max()
    }

    /// Where a stream lies, by its tag.
    pub(super) fn path(&self, tag: &StreamTag) -> Option<&Path> {
        self.tags.get(tag).map(|(.., path)| path)
    }

    fn by_tag(&self, tag: &StreamTag) -> Option<&Stream> {
        let (device, peer, path) = self.tags.get(tag)?;
        self.devices.get(device)?.streams.get(&(*peer, path.clone()))
    }

    /// How far a stream has come, by its tag.
    pub(super) fn mark(&self, tag: &StreamTag) -> Option<u64> {
        self.by_tag(tag).map(|stream| stream.seq)
    }

    pub(super) fn parent_mut(&mut self, signal: &Signal) -> Option<&mut Option<LinkId>> {
        let device = self.devices.get_mut(&signal.sender.device)?;
        let stream = device.streams.get_mut(&(signal.sender.peer, signal.path.clone()))?;
        Some(&mut stream.parent)
    }

    /// Forgets a link that is gone; the streams that came by it, with their marks.
    pub(super) fn orphaned(&mut self, link: LinkId) -> Vec<(StreamTag, u64)> {
        let streams = self.devices.values_mut().flat_map(|device| device.streams.values_mut());
        let orphaned = streams.filter(|stream| stream.parent == Some(link)).map(|stream| {
            stream.parent = None;
            (stream.tag, stream.seq)
        });
        orphaned.collect()
    }

    /// Makes room for a device; `None`: there is none. Returns tags that mean nothing any more.
    fn admit_device(&mut self, id: DeviceId, now: (Timestamp, WallTime)) -> Option<Vec<StreamTag>> {
        let mut gone = Vec::new();
        if self.devices.contains_key(&id) {
            return Some(gone);
        }
        if self.devices.len() >= MAX_DEVICES {
            let age = MAX_AGE.as_millis() as i64;
            let passed = |device: &Device| device.newest().0.saturating_add(age) < now.1.0;
            let past = self.devices.iter().find(|(_, device)| passed(device)).map(|(id, _)| *id)?;
            let device = self.devices.remove(&past).expect("found above");
            self.floor = self.floor.max(device.newest());
            self.count -= device.streams.len();
            gone.extend(device.streams.values().map(|stream| stream.tag));
            gone.iter().for_each(|tag| drop(self.tags.remove(tag)));
        }
        let bucket = Bucket::new(DEVICE, now.0);
        self.devices.insert(id, Device { streams: BTreeMap::new(), floor: self.floor, bucket });
        Some(gone)
    }

    /// Takes so much of what the device may send; `None`: it has sent too much. Returns tags that mean nothing any more.
    pub(super) fn take(&mut self, id: DeviceId, now: (Timestamp, WallTime), cost: u64) -> Option<Vec<StreamTag>> {
        let gone = self.admit_device(id, now)?;
        self.devices.get_mut(&id)?.bucket.take(now.0, cost).ok()?;
        Some(gone)
    }

    /// Raises the mark to a fresh signal of a device that was let in. Returns tags that mean nothing any more.
    pub(super) fn advance(&mut self, signal: &Signal, tag: StreamTag, link: LinkId) -> Vec<StreamTag> {
        let mut gone = Vec::new();
        if self.of(signal).is_none() {
            gone.extend(self.make_room(&signal.sender.device));
            self.count += 1;
        }
        self.serial += 1;
        let key = (signal.sender.peer, signal.path.clone());
        let Some(device) = self.devices.get_mut(&signal.sender.device) else { return gone };
        let before = device.streams.get(&key).map(|stream| (stream.newest, stream.tag));
        if let Some((_, former)) = before.filter(|(_, former)| *former != tag) {
            self.tags.remove(&former);
            gone.push(former);
        }
        let stream = Stream {
            incarnation: signal.incarnation,
            seq: signal.seq,
            tag,
            newest: before.map_or(signal.issue, |(newest, _)| newest.max(signal.issue)),
            heard: self.serial,
            parent: Some(link),
        };
        device.streams.insert(key, stream);
        self.tags.insert(tag, (signal.sender.device, signal.sender.peer, signal.path.clone()));
        gone
    }

    /// Forgets a stream where one more would be too many.
    fn make_room(&mut self, for_device: &DeviceId) -> Option<StreamTag> {
        let own = self.devices.get(for_device).map_or(0, |device| device.streams.len());
        let from = if own >= MAX_DEVICE_STREAMS {
            *for_device
        } else if self.count >= MAX_STREAMS {
            *self.devices.iter().max_by_key(|(_, device)| device.streams.len())?.0
        } else {
            return None;
        };
        let device = self.devices.get_mut(&from)?;
        let key = device.streams.iter().min_by_key(|(_, stream)| stream.heard)?.0.clone();
        let stream = device.streams.remove(&key)?;
        device.floor = device.floor.max(stream.newest);
        self.tags.remove(&stream.tag);
        self.count -= 1;
        Some(stream.tag)
    }
}
