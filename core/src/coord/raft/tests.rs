//! Groups of replicas over a perfect network, one behaviour a test. Faults are the simulator's.

use std::collections::{BTreeMap, VecDeque};

use super::group::{ChangeError, ProposeError, ReadFailure, Refused};
use super::sim::machine::Register;
use super::*;
use crate::id::PeerId;

mod changes;
mod frames;
mod rebuilds;
mod stores;

pub(super) fn member(n: u8) -> Member {
    Member { peer: PeerId([n; 32]), store: StoreId(u64::from(n) * 1_000) }
}

/// A replica with its disk.
pub(super) struct Seat {
    pub(super) group: Group<Register>,
    pub(super) disk: MemoryLog,
    pub(super) applied: Vec<(Position, u64)>,
    pub(super) reads: Vec<Result<(u64, u64), (u64, ReadFailure)>>,
    pub(super) halted: Option<Halt>,
    pub(super) installed: Vec<Position>,
}

/// Replicas that hear each other at once. A write is durable when it is handed over.
pub(super) struct Table {
    pub(super) seats: BTreeMap<PeerId, Seat>,
    wires: VecDeque<(PeerId, PeerId, Vec<u8>)>,
    pub(super) cut: Vec<PeerId>,
    pub(super) refused: Vec<Refused>,
    pub(super) config: Config,
}

impl Table {
    pub(super) fn found(n: u8, config: Config) -> Self {
        let founders: Vec<Member> = (1..=n).map(member).collect();
        let mut table =
            Self { seats: BTreeMap::new(), wires: VecDeque::new(), cut: Vec::new(), refused: Vec::new(), config };
        for me in &founders {
            let config = table.config.clone();
            let group = Group::found(config, *me, &founders, Register::default(), me.store.0).expect("a founder");
            table.sit(*me, group, MemoryLog::new());
        }
        table.settle();
        table
    }

    pub(super) fn sit(&mut self, me: Member, group: Group<Register>, disk: MemoryLog) {
        let seat = Seat { group, disk, applied: vec![], reads: vec![], halted: None, installed: vec![] };
        self.seats.insert(me.peer, seat);
    }

    pub(super) fn join(&mut self, me: Member) {
        let generation = self.seats.values().next().expect("a seat").group.identity().generation;
        let group = Group::join(self.config.clone(), me, generation, Register::default(), me.store.0);
        self.sit(me, group, MemoryLog::new());
    }

    pub(super) fn at(&mut self, n: u8) -> &mut Seat {
        self.seats.get_mut(&PeerId([n; 32])).expect("a seat")
    }

    /// Carries messages and writes until nobody says anything.
    pub(super) fn settle(&mut self) {
        for _ in 0..10_000 {
            let peers: Vec<PeerId> = self.seats.keys().copied().collect();
            peers.iter().for_each(|peer| self.pump(*peer));
            let Some((from, to, bytes)) = self.wires.pop_front() else { return };
            if self.cut.contains(&from) || self.cut.contains(&to) {
                continue;
            }
            if let Some(seat) = self.seats.get_mut(&to)
                && let Err(why) = seat.group.message(from, &bytes)
            {
                self.refused.push(why);
            }
        }
        panic!("the group never falls silent");
    }

    fn pump(&mut self, peer: PeerId) {
        let Some(seat) = self.seats.get_mut(&peer) else { return };
        while let Some(output) = seat.group.poll() {
            match output {
                Output::Send { to, bytes } => self.wires.push_back((peer, to, bytes)),
                Output::Persist { ticket, writes } => {
                    let Ok(()) = seat.disk.write(&writes);
                    assert!(seat.group.persisted(ticket));
                }
                Output::Applied { at, output } => seat.applied.push((at, output)),
                Output::ReadReady { ctx, index } => seat.reads.push(Ok((ctx, index))),
                Output::ReadFailed { ctx, why } => seat.reads.push(Err((ctx, why))),
                Output::Halted(why) => seat.halted = Some(why),
                Output::Installed { at } => seat.installed.push(at),
                Output::Role(_) | Output::Membership(_) => {}
            }
        }
    }

    pub(super) fn tick(&mut self) {
        for seat in self.seats.values_mut() {
            seat.group.tick();
        }
        self.settle();
    }

    pub(super) fn ticks(&mut self, n: usize) {
        (0..n).for_each(|_| self.tick());
    }

    /// Ticks until somebody leads whom the others follow.
    pub(super) fn elect(&mut self) -> u8 {
        for _ in 0..500 {
            self.tick();
            if let Some(leader) = self.leader() {
                return leader;
            }
        }
        panic!("nobody leads");
    }

    pub(super) fn leader(&self) -> Option<u8> {
        let open = |peer: &PeerId| !self.cut.contains(peer);
        let mut seats = self.seats.iter().filter(|(peer, _)| open(peer));
        seats.find(|(_, seat)| seat.group.role().standing == Standing::Leader).map(|(peer, _)| peer.0[0])
    }

    pub(super) fn reopen(&mut self, n: u8) {
        let peer = PeerId([n; 32]);
        let seat = self.seats.remove(&peer).expect("a seat");
        let Ok(rows) = seat.disk.rows();
        let stored = Stored::open(rows).expect("a store that was written whole opens");
        let me = stored.identity().me;
        let group = Group::open(self.config.clone(), stored, Register::default(), 77 + u64::from(n))
            .expect("its snapshot is our own");
        self.sit(me, group, seat.disk);
    }
}

pub(super) fn config() -> Config {
    Config::default().build().expect("the defaults are in bounds")
}

/// Compacts after every few entries.
pub(super) fn small() -> Config {
    Config::default().compaction(8, 1 << 20, 2).build().expect("in bounds")
}

#[test]
fn three_founders_elect_a_leader_and_commit() {
    let mut table = Table::found(3, config());
    let leader = table.elect();
    let at = table.at(leader).group.propose(b"one".to_vec()).expect("the leader takes it");
    table.settle();
    table.ticks(3);
    for n in 1..=3 {
        let seat = table.at(n);
        assert_eq!(seat.applied.last().map(|(at, _)| *at), Some(at), "replica {n}");
    }
    let digests: Vec<[u8; 32]> = table.seats.values().map(|seat| replicated_digest(&seat.group)).collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]));
    assert_eq!(table.refused, []);
}

fn replicated_digest(group: &Group<Register>) -> [u8; 32] {
    crate::coord::replicated::Replicated::digest(group.machine())
}

#[test]
fn a_replica_can_live_in_a_thread_of_its_driver() {
    fn is_send<T: Send>(_: &T) -> bool {
        true
    }
    assert!(is_send(&Table::found(1, config()).at(1).group));
}

#[test]
fn only_the_leader_takes_proposals_and_says_who_leads() {
    let mut table = Table::found(3, config());
    let leader = table.elect();
    let follower = (1..=3).find(|n| *n != leader).expect("there are three");
    let id = table.at(leader).group.identity().id;
    let refused = table.at(follower).group.propose(b"x".to_vec());
    assert_eq!(refused, Err(ProposeError::NotLeader { leader: id }));
    assert_eq!(table.at(leader).group.propose(vec![]), Err(ProposeError::Size { bytes: 0 }));
    let large = vec![0; entry::MAX_ENTRY_BYTES + 1];
    assert_eq!(table.at(leader).group.propose(large.clone()), Err(ProposeError::Size { bytes: large.len() }));
}

#[test]
fn an_entry_of_the_largest_size_reaches_everybody() {
    let mut table = Table::found(3, config());
    let leader = table.elect();
    let at = table.at(leader).group.propose(vec![7; entry::MAX_ENTRY_BYTES]).expect("within the bound");
    table.settle();
    table.ticks(3);
    assert!((1..=3).all(|n| table.at(n).applied.last().map(|(at, _)| *at) == Some(at)));
    assert_eq!(table.refused, []);
}

#[test]
fn proposals_made_while_one_write_is_under_way_are_one_write() {
    let mut table = Table::found(1, config());
    table.elect();
    let group = &mut table.at(1).group;
    group.propose(vec![1]).expect("it leads");
    let Some(Output::Persist { ticket, .. }) = group.poll() else { panic!("the first proposal is written") };
    for n in 2..100 {
        group.propose(vec![n]).expect("it leads");
        assert_eq!(group.poll(), None, "one write is under way");
    }
    assert!(group.persisted(ticket));
    let applied = std::iter::from_fn(|| group.poll()).collect::<Vec<_>>();
    let writes = applied.iter().filter(|output| matches!(output, Output::Persist { .. })).count();
    assert_eq!(writes, 1, "{applied:?}");
}

#[test]
fn what_waits_to_be_committed_is_bounded() {
    let config = Config::default().uncommitted_bytes(2 << 20).build().expect("in bounds");
    let mut table = Table::found(3, config);
    let leader = table.elect();
    table.cut = (1..=3).filter(|n| *n != leader).map(|n| PeerId([n; 32])).collect();
    let group = &mut table.at(leader).group;
    let results: Vec<_> = (0..30).map(|_| group.propose(vec![0; 100_000])).collect();
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 20);
    assert_eq!(results.last(), Some(&Err(ProposeError::Busy)));
}

#[test]
fn reads_see_what_was_committed_before_they_were_asked_for() {
    let mut table = Table::found(3, config());
    let leader = table.elect();
    let at = table.at(leader).group.propose(b"one".to_vec()).expect("the leader takes it");
    table.settle();
    for n in 1..=3 {
        table.at(n).group.read(u64::from(n)).expect("there is room");
    }
    table.settle();
    table.ticks(5);
    for n in 1..=3 {
        let reads = table.at(n).reads.clone();
        assert!(matches!(reads[..], [Ok((ctx, index))] if ctx == u64::from(n) && index >= at.index), "{reads:?}");
    }
}

#[test]
fn a_read_asked_for_before_the_leader_has_committed_is_answered_later() {
    let mut table = Table::found(1, config());
    table.at(1).group.read(9).expect("there is room");
    table.elect();
    assert!(matches!(table.at(1).reads[..], [Ok((9, _))]));
}

#[test]
fn a_read_without_a_quorum_fails_in_bounded_time() {
    let mut table = Table::found(3, config());
    let leader = table.elect();
    table.cut = (1..=3).filter(|n| *n != leader).map(|n| PeerId([n; 32])).collect();
    table.at(leader).group.read(1).expect("there is room");
    table.ticks(39);
    assert_eq!(table.at(leader).reads, []);
    table.ticks(1);
    assert_eq!(table.at(leader).reads, [Err((1, ReadFailure::NoQuorum))]);
    assert_ne!(table.at(leader).group.role().standing, Standing::Leader, "check-quorum deposed it");
}

#[test]
fn a_group_goes_on_after_all_its_replicas_were_restarted() {
    let mut table = Table::found(3, small());
    let leader = table.elect();
    for n in 0..50 {
        table.at(leader).group.propose(vec![n]).expect("the leader takes it");
        table.settle();
    }
    table.ticks(3);
    let before = replicated_digest(&table.at(1).group);
    (1..=3).for_each(|n| table.reopen(n));
    table.elect();
    table.ticks(3);
    assert!((1..=3).all(|n| replicated_digest(&table.at(n).group) == before));
}

#[test]
fn a_failed_write_stops_the_replica_and_the_others_go_on() {
    let mut table = Table::found(3, config());
    let leader = table.elect();
    let group = &mut table.at(leader).group;
    group.propose(b"lost".to_vec()).expect("the leader takes it");
    let ticket = std::iter::from_fn(|| group.poll()).find_map(|output| match output {
        Output::Persist { ticket, .. } => Some(ticket),
        _ => None,
    });
    group.persist_failed(ticket.expect("it writes"));
    table.settle();
    assert_eq!(table.at(leader).halted, Some(Halt::Storage));
    assert_eq!(table.at(leader).group.propose(b"x".to_vec()), Err(ProposeError::Stopped));
    table.seats.remove(&PeerId([leader; 32]));
    let next = table.elect();
    assert_ne!(next, leader);
}

#[test]
fn leadership_moves_where_it_is_sent() {
    let mut table = Table::found(3, config());
    let leader = table.elect();
    table.ticks(3);
    let target = (1..=3).find(|n| *n != leader).expect("there are three");
    let id = table.at(target).group.identity().id.expect("a founder has one");
    table.at(leader).group.transfer_leadership(id).expect("it leads");
    table.settle();
    assert_eq!(table.leader(), Some(target));
    let stranger = MemberId(40);
    let refused = table.at(target).group.transfer_leadership(stranger);
    assert_eq!(refused, Err(ChangeError::Unknown { id: stranger }));
}
