//! The latest signals of a space, for neighbours whose tree broke.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::RECENT_BYTES;
use super::signal::StreamTag;
use crate::id::{DeviceId, Path};

/// A signal as it leaves: an encoded [`Message::Signal`](super::Message::Signal), and what has to be known of it.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) tag: StreamTag,
    pub(super) seq: u64,
    pub(super) device: DeviceId,
    pub(super) path: Path,
    pub(super) bytes: Vec<u8>,
}

/// Oldest first.
#[derive(Debug, Default)]
pub(super) struct Recent {
    parcels: VecDeque<Arc<Parcel>>,
    bytes: usize,
}

impl Recent {
    pub(super) fn keep(&mut self, parcel: Arc<Parcel>) {
        self.bytes += parcel.bytes.len();
        self.parcels.push_back(parcel);
        while self.bytes > RECENT_BYTES
            && let Some(oldest) = self.parcels.pop_front()
        {
            self.bytes -= oldest.bytes.len();
        }
    }

    /// Those of some streams above their marks, in the order in which they came.
    pub(super) fn above<'a>(&'a self, marks: &'a BTreeMap<StreamTag, u64>) -> impl Iterator<Item = &'a Arc<Parcel>> {
        self.parcels.iter().filter(|parcel| marks.get(&parcel.tag).is_some_and(|mark| parcel.seq > *mark))
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
