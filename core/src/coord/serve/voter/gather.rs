//! A leader's proposals, gathered.
//!
//! Each append costs every voter a message, a write and an acknowledgement, and disks and processors have only so many of
//! those: what is proposed while an append is on its way waits for it, and becomes one append. Alone, a proposal waits for
//! nothing. Where the network is slower than the disk, appends overlap on the way: when the own disk has the last one, what
//! was gathered need not wait any longer once it is as much as what is on its way.

use std::collections::{BTreeSet, VecDeque};

use super::{MAX_PENDING_BYTES, Voter};
use crate::coord::command::{Body, Entry};
use crate::coord::machine::Machine;
use crate::coord::raft::Group;
use crate::coord::serve::talk::{Frame, Passed};
use crate::id::PeerId;

/// Bytes after which the entries of one append are enough; consensus takes all of them or none.
const APPEND: usize = 1 << 20;

/// Entries as they go into the log, each with the voter that passed it on.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    entries: VecDeque<(PeerId, Vec<u8>)>,
    bytes: usize,
}

impl Gathered {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn is_due(&self, group: &Group<Machine>) -> bool {
        let waiting = self.entries.len() as u64;
        waiting > 0 && !group.is_appending() && waiting >= group.uncommitted()
    }
}

impl Voter {
    /// Has an entry appended with those that come with it. An error: it does not lead, or too much waits.
    pub(super) fn propose(&mut self, from: PeerId, body: Body) -> Result<(), ()> {
        let entry = Entry { stamp: self.wall, body }.to_log().map_err(drop)?;
        self.propose_entry(from, entry)
    }

    /// Has an entry appended that is in the log's form.
    pub(super) fn propose_entry(&mut self, from: PeerId, entry: Vec<u8>) -> Result<(), ()> {
        if !self.leads() || self.gathered.bytes + entry.len() > MAX_PENDING_BYTES {
            return Err(());
        }
        self.gathered.bytes += entry.len();
        self.gathered.entries.push_back((from, entry));
        Ok(())
    }

    /// Appends what was gathered, if it need not wait any longer.
    pub(super) fn propose_gathered(&mut self) {
        while self.gathered.is_due(&self.group) {
            let (mut entries, mut from, mut bytes) = (Vec::new(), BTreeSet::new(), 0);
            while bytes < APPEND
                && let Some((peer, entry)) = self.gathered.entries.pop_front()
            {
                bytes += entry.len();
                from.insert(peer);
                entries.push(entry);
            }
            self.gathered.bytes -= bytes;
            if self.group.propose_all(entries).is_err() {
                self.pass_again(from);
                return self.drop_gathered();
            }
        }
    }

    /// Gives up what was gathered: whoever passed it on does so again, to whoever leads by then.
    pub(super) fn drop_gathered(&mut self) {
        let Gathered { entries, .. } = std::mem::take(&mut self.gathered);
        self.pass_again(entries.into_iter().map(|(from, _)| from).collect());
    }

    fn pass_again(&mut self, to: BTreeSet<PeerId>) {
        for peer in to {
            if peer == self.me {
                self.again = true;
            } else {
                self.send(peer, &Frame::Passed(Passed::Again));
            }
        }
    }
}
