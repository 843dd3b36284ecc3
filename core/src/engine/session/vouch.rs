//! What equal roots prove of other stores' logs, what this store cannot vouch for, and its former epochs.

use std::collections::BTreeMap;

use super::{LogName, Sessions, Told};
use crate::engine::Engine;
use crate::engine::batch::Draft;
use crate::engine::keys;
use crate::engine::space::Space;
use crate::id::{ChangeHash, PeerId, Prefix, SpaceId};
use crate::io::{LinkId, Table, WriteOp};
use crate::session::{Ranges, Vouched};
use crate::wire::Codec;
use crate::wire::v1::{MAX_FORMER, Message};

/// Logs that a store remembers what is proved of; beyond it one is forgotten, and points in it are proved again by the
/// next equal roots.
const MAX_VOUCHED: usize = 1_024;

/// Former epochs of its own that a store remembers of each space: one for each crash, the latest ones.
const MAX_OWN_EPOCHS: usize = 8;

/// Epochs of one peer that are remembered of each space.
const MAX_PEER_EPOCHS: usize = 2 * MAX_FORMER;

impl Sessions {
    pub(in crate::engine) fn forget_link(&mut self, id: LinkId) {
        self.told.retain(|(link, _), _| *link != id);
        self.heard.retain(|(link, _), _| *link != id);
    }

    /// A peer says what its log's equal roots do and do not vouch for.
    pub(in crate::engine) fn on_vouch(
        &mut self,
        id: LinkId,
        space: SpaceId,
        former: Vec<(u64, u64)>,
        ranges: &[(u64, u64)],
    ) {
        let mut set_aside = Ranges::default();
        ranges.iter().for_each(|(from, to)| set_aside.add(*from, *to));
        self.heard.insert((id, space), Told { former, set_aside });
    }

    /// Something was set aside, and that is durable.
    pub(in crate::engine) fn note_set_aside(&mut self, ranges: Vec<(SpaceId, (u64, u64))>) {
        for (space, (from, to)) in ranges {
            self.set_aside.entry(space).or_default().add(from, to);
        }
    }

    /// What has to be told of this store's log.
    fn own_word(&self, peer: &PeerId, epoch: u64, space: &SpaceId) -> Told {
        let former = self.vouched.range((*peer, 0, SpaceId([0; 32]))..=(*peer, u64::MAX, SpaceId([0xff; 32])));
        let former = former.filter(|((_, e, s), _)| *e != epoch && s == space);
        let mut former: Vec<(u64, u64)> = former.map(|((_, e, _), vouched)| (*e, vouched.furthest())).collect();
        former.sort_unstable_by_key(|(_, reached)| std::cmp::Reverse(*reached));
        former.truncate(MAX_FORMER);
        Told { former, set_aside: self.set_aside.get(space).cloned().unwrap_or_default() }
    }
}

impl Engine {
    /// Tells a peer, ahead of roots, what they will not vouch for, where that has changed.
    pub(in crate::engine) fn tell_vouch(&mut self, id: LinkId) {
        let Some(identity) = &self.identity else { return };
        let Some(link) = self.links.get_mut(&id) else { return };
        for (space, common) in link.spaces.iter().filter(|(_, s)| s.wanted.is_some() && s.device.is_some()) {
            let word = self.sessions.own_word(&identity.peer, identity.log_epoch, space);
            let told = self.sessions.told.entry((id, *space)).or_default();
            if *told != word {
                let (former, set_aside) = (word.former.clone(), word.set_aside.iter().collect());
                link.out.control(Message::Vouch { space: common.tag, former, set_aside });
                *told = word;
            }
        }
    }

    /// Roots over a link's domains were equal.
    pub(in crate::engine) fn on_equal_roots(&mut self, id: LinkId, ours: u64, theirs: u64) {
        let Some(link) = self.links.get(&id) else { return };
        let Some(epoch) = link.hello.map(|hello| hello.epoch) else { return };
        let peer = link.peer;
        let ready = link.spaces.iter().filter(|(_, s)| s.wanted.is_some() && s.device.is_some());
        let ready: Vec<(SpaceId, Vec<Prefix>)> = ready.map(|(space, s)| (*space, s.domains.clone())).collect();
        for (space, domains) in ready {
            let told = self.sessions.heard.get(&(id, space)).cloned().unwrap_or_default();
            self.vouch((peer, epoch, space), &domains, theirs, ours, &told.set_aside);
            for (former, reached) in told.former {
                self.vouch((peer, former, space), &domains, reached, ours, &told.set_aside);
            }
            let waiting = self.sessions.waits.iter().filter(|(_, w)| w.space == space && !w.reading);
            let waiting = waiting.filter(|(_, w)| w.bookmark.points().any(|point| point.peer == peer));
            let waiting: Vec<_> = waiting.map(|(request, _)| *request).collect();
            waiting.into_iter().for_each(|request| self.look(request));
        }
    }

    fn vouch(&mut self, log: LogName, domains: &[Prefix], theirs: u64, ours: u64, set_aside: &Ranges) {
        let (peer, epoch, space) = log;
        let Some(number) = self.spaces.get(&space).map(|s| s.number) else { return };
        if !self.sessions.vouched.contains_key(&log) {
            self.make_room(&peer, &space);
        }
        let vouched = self.sessions.vouched.entry(log).or_default();
        let before = vouched.clone();
        vouched.record(domains, theirs, ours, set_aside);
        if *vouched != before {
            let bytes = vouched.to_bytes();
            // Not worth a write of its own: it goes with the next one, and what it speaks of is durable already.
            self.pending.lazy_ops.insert(keys::vouched(&peer, epoch, number), bytes);
        }
    }

    /// Makes room for another log of `peer`: its own oldest one goes, so that a peer that keeps beginning epochs pushes
    /// nobody else's out; or, where there are too many of all, whichever comes first.
    fn make_room(&mut self, peer: &PeerId, space: &SpaceId) {
        let own = self.identity().peer;
        let of_peer = self.sessions.vouched.iter().filter(|((p, _, s), _)| p == peer && s == space);
        let of_peer: Vec<(u64, LogName)> = of_peer.map(|(log, vouched)| (vouched.furthest(), *log)).collect();
        let others = || self.sessions.vouched.keys().find(|(peer, ..)| *peer != own).copied();
        let victim = match of_peer.len() > MAX_PEER_EPOCHS {
            true => of_peer.into_iter().min().map(|(_, log)| log),
            false => (self.sessions.vouched.len() >= MAX_VOUCHED).then(others).flatten(),
        };
        let Some(log) = victim else { return };
        self.sessions.vouched.remove(&log);
        if let Some(number) = self.spaces.get(&log.2).map(|s| s.number) {
            let key = keys::vouched(&log.0, log.1, number);
            self.pending.lazy_ops.remove(&key);
            self.pending.ops.push(WriteOp::Delete(Table::Meta, key));
        }
    }

    /// Takes over what the store remembers.
    pub(in crate::engine) fn load_sessions(&mut self, meta: &BTreeMap<Vec<u8>, Vec<u8>>, spaces: &[Space]) {
        let space_of = |number: u32| spaces.iter().find(|s| s.number == number).map(Space::id);
        for (key, value) in meta.range(keys::VOUCHED.to_vec()..) {
            let Some((peer, epoch, number)) = keys::parse_vouched(key) else { break };
            // A row that does not read proves nothing.
            if let (Some(space), Ok(vouched)) = (space_of(number), Vouched::from_bytes(value)) {
                self.sessions.vouched.insert((peer, epoch, space), vouched);
            }
        }
        let last = spaces.iter().map(|s| s.index.last_arrival()).max().unwrap_or(0);
        for space in spaces {
            let Some(row) = meta.get(&keys::set_aside(space.number)) else { continue };
            // One that does not read vouches for nothing up to now.
            let ranges = Ranges::from_bytes(row).unwrap_or_else(|_| {
                let mut everything = Ranges::default();
                everything.add(0, last + 1);
                everything
            });
            self.sessions.set_aside.insert(space.id(), ranges);
        }
        let identity = self.identity();
        let (peer, epoch) = (identity.peer, identity.log_epoch);
        let last = spaces.iter().map(|s| s.index.last_arrival()).max().unwrap_or(0);
        let former =
            meta.get(b"log-epoch".as_slice()).and_then(|v| v.as_slice().try_into().ok()).map(u64::from_le_bytes);
        if let Some(former) = former.filter(|former| *former != epoch) {
            for space in spaces {
                self.sessions.vouched.insert((peer, former, space.id()), whole_log(last));
            }
        }
        self.forget_old_epochs(&peer, spaces);
    }

    /// Keeps the latest of this store's former epochs.
    fn forget_old_epochs(&mut self, own: &PeerId, spaces: &[Space]) {
        for space in spaces {
            let logs = self.sessions.vouched.iter().filter(|((peer, _, of), _)| peer == own && *of == space.id());
            let mut logs: Vec<(u64, LogName)> = logs.map(|(log, vouched)| (vouched.furthest(), *log)).collect();
            logs.sort_unstable_by_key(|(reached, _)| std::cmp::Reverse(*reached));
            for (_, log) in logs.into_iter().skip(MAX_OWN_EPOCHS) {
                self.sessions.vouched.remove(&log);
                let key = keys::vouched(&log.0, log.1, space.number);
                self.pending.ops.push(WriteOp::Delete(Table::Meta, key));
            }
        }
    }

    /// The arrival numbers in which a draft sets something aside: from the first edit that its tombstones do not cover to
    /// its deletion. `None`: nothing.
    pub(in crate::engine) fn range_set_aside(&self, draft: &Draft) -> Option<(u64, u64)> {
        let entry = &draft.entry;
        let known = self.spaces.get(&draft.space).and_then(|s| s.index.by_id(&entry.id));
        // Later tombstones set nothing aside: since the first one nobody counts those edits as covered.
        if draft.tombstones.is_empty() || known.is_some_and(|e| e.deleted()) || draft.covered_by_tombstones() {
            return None;
        }
        let named: Vec<ChangeHash> = super::cover::named_by_tombstones(entry).into_iter().collect();
        let log = self.documents.get(&entry.id).and_then(|w| w.log.as_ref());
        let stored = log.map_or(0, |log| {
            let arrival = |row: &crate::document::log::Row| {
                if row.is_packed() { log.snapshot_arrival().unwrap_or(0) } else { row.arrival() }
            };
            log.missing(&named).map(arrival).min().unwrap_or(entry.arrival)
        });
        let fresh = draft.fresh.iter().filter(|f| !named.contains(&f.hash)).map(|f| f.arrival).min();
        Some((fresh.map_or(stored, |fresh| fresh.min(stored)), entry.arrival))
    }

    /// Rows that keep ranges in which something is set aside, with the tombstones that do it.
    pub(in crate::engine) fn put_set_aside(&self, fresh: &[(SpaceId, (u64, u64))]) -> Vec<WriteOp> {
        let mut ranges: BTreeMap<SpaceId, Ranges> = BTreeMap::new();
        for (space, (from, to)) in fresh {
            let known = || self.sessions.set_aside.get(space).cloned().unwrap_or_default();
            ranges.entry(*space).or_insert_with(known).add(*from, *to);
        }
        let row = |(space, ranges): (SpaceId, Ranges)| {
            let number = self.spaces.get(&space)?.number;
            Some(WriteOp::Put(Table::Meta, keys::set_aside(number), ranges.to_bytes()))
        };
        ranges.into_iter().filter_map(row).collect()
    }
}

/// A log that ended here: everything of it up to `last` is in this store.
fn whole_log(last: u64) -> Vouched {
    let mut vouched = Vouched::default();
    vouched.record(&[Prefix::root()], last, last, &Ranges::default());
    vouched
}

/// Rows that say how far a former epoch of this store's log reached.
pub(in crate::engine) fn put_former_epoch(peer: &PeerId, epoch: u64, last: u64, spaces: &[Space]) -> Vec<WriteOp> {
    let bytes = whole_log(last).to_bytes();
    let row = |s: &Space| WriteOp::Put(Table::Meta, keys::vouched(peer, epoch, s.number), bytes.clone());
    spaces.iter().map(row).collect()
}
