//! Who is in the group: learners, promotion, removal, replacement, one at a time; and snapshots that bring newcomers up.

use super::*;
use crate::coord::raft::message::{self, Body};

/// A group of `n` that has compacted, its leader, and a newcomer that waits.
fn with_newcomer(n: u8) -> (Table, u8, Member) {
    let mut table = Table::found(n, small());
    let leader = table.elect();
    for byte in 0..60 {
        table.at(leader).group.propose(vec![byte]).expect("it leads");
        table.settle();
    }
    let me = member(9);
    table.join(me);
    (table, leader, me)
}

fn id_of(table: &mut Table, leader: u8, me: Member) -> MemberId {
    table.at(leader).group.membership().id_of(&me).expect("it is a member")
}

#[test]
fn a_newcomer_gets_a_snapshot_then_entries_then_a_vote() {
    let (mut table, leader, me) = with_newcomer(3);
    table.at(leader).group.add_learner(me).expect("nothing is under way");
    table.settle();
    table.ticks(10);
    assert_eq!(table.at(9).installed.len(), 1);
    assert_eq!(table.at(9).group.role().standing, Standing::Learner);
    let id = id_of(&mut table, leader, me);
    assert_eq!(id, MemberId(4), "the next id that was never given");
    table.at(leader).group.promote(id).expect("it has caught up");
    table.settle();
    table.ticks(3);
    assert!(table.at(9).group.membership().voters.contains(&id));
    assert_eq!(replicated_digest(&table.at(9).group), replicated_digest(&table.at(leader).group));
    assert_eq!(table.refused, []);
}

#[test]
fn a_newcomer_remembers_who_it_is() {
    let (mut table, leader, me) = with_newcomer(3);
    table.at(leader).group.add_learner(me).expect("nothing is under way");
    table.settle();
    table.ticks(10);
    table.reopen(9);
    let id = id_of(&mut table, leader, me);
    assert_eq!(table.at(9).group.identity().id, Some(id));
    table.ticks(10);
    assert_eq!(replicated_digest(&table.at(9).group), replicated_digest(&table.at(leader).group));
}

#[test]
fn a_dead_voter_is_replaced_in_one_step() {
    let (mut table, leader, me) = with_newcomer(3);
    let dead = (1..=3).find(|n| *n != leader).expect("there are three");
    let dead_id = table.at(dead).group.identity().id.expect("a founder has one");
    table.cut.push(member(dead).peer);
    table.at(leader).group.add_learner(me).expect("nothing is under way");
    table.ticks(10);
    let id = id_of(&mut table, leader, me);
    table.at(leader).group.replace(dead_id, id).expect("it has caught up");
    table.ticks(5);
    let membership = table.at(leader).group.membership().clone();
    assert!(!membership.is_joint() && membership.voters.contains(&id) && !membership.members.contains_key(&dead_id));
    // It comes back, asks for votes, and is told.
    table.cut.clear();
    table.ticks(60);
    assert_eq!(table.at(dead).group.role().standing, Standing::Removed);
    assert_eq!(table.leader(), Some(leader), "and it disturbed nobody");
    assert_eq!(table.at(leader).group.add_learner(member(dead)), Err(ChangeError::Former));
}

/// A leader that stopped once asked the first voter by its id to lead in its place, dead or not, and was then gone itself.
#[test]
fn the_best_successor_is_one_that_answers() {
    for dead in 1..=3 {
        let mut table = Table::found(3, small());
        let leader = table.elect();
        if dead == leader {
            continue;
        }
        assert!(table.at(leader).group.successor().is_some());
        assert_eq!(table.at(dead).group.successor(), None, "only a leader has one");
        table.cut.push(member(dead).peer);
        // What is appended meanwhile only one of them has.
        table.at(leader).group.propose(vec![1]).expect("it leads");
        table.settle();
        let alive = (1..=3).find(|n| *n != leader && *n != dead).expect("there are three");
        let alive_id = table.at(alive).group.identity().id;
        assert_eq!(table.at(leader).group.successor(), alive_id);
        assert_eq!(table.at(leader).group.progress().count(), 3);
        let id = alive_id.expect("a founder has one");
        table.at(leader).group.transfer_leadership(id).expect("it leads");
        table.settle();
        assert_eq!(table.leader(), Some(alive));
    }
}

#[test]
fn changes_that_make_no_sense_are_refused_by_name() {
    let (mut table, leader, me) = with_newcomer(3);
    let own = table.at(leader).group.identity().id.expect("a founder has one");
    let follower = (1..=3).find(|n| *n != leader).expect("there are three");
    let group = &mut table.at(leader).group;
    let stranger = MemberId(99);
    assert_eq!(group.promote(stranger), Err(ChangeError::Unknown { id: stranger }));
    assert_eq!(group.remove(stranger), Err(ChangeError::Unknown { id: stranger }));
    assert_eq!(group.remove(own), Err(ChangeError::Leader));
    assert_eq!(group.add_learner(member(leader)), Err(ChangeError::Member { id: own }));
    group.add_learner(me).expect("nothing is under way");
    assert_eq!(group.add_learner(member(8)), Err(ChangeError::Pending));
    let refused = table.at(follower).group.add_learner(member(8));
    assert_eq!(refused, Err(ChangeError::NotLeader { leader: Some(own) }));
    table.cut.push(me.peer);
    table.settle();
    let id = id_of(&mut table, leader, me);
    let behind = table.at(leader).group.promote(id);
    assert!(matches!(behind, Err(ChangeError::Behind { .. })), "{behind:?}");
}

#[test]
fn a_group_keeps_one_voter() {
    let mut table = Table::found(2, config());
    let leader = table.elect();
    table.ticks(3);
    let other = if leader == 1 { 2 } else { 1 };
    let id = table.at(other).group.identity().id.expect("a founder has one");
    table.at(leader).group.remove(id).expect("nothing is under way");
    table.settle();
    table.ticks(3);
    assert_eq!(table.at(leader).group.remove(id), Err(ChangeError::Unknown { id }));
    table.at(leader).group.propose(b"alone".to_vec()).expect("it leads");
    table.settle();
    assert_eq!(table.at(leader).group.membership().voters.len(), 1);
    assert_eq!(table.at(leader).applied.len(), 1);
}

/// Runs until the newcomer has part of its snapshot.
fn half_way(table: &mut Table, leader: u8, me: Member) {
    table.at(leader).group.add_learner(me).expect("nothing is under way");
    for _ in 0..20 {
        for seat in table.seats.values_mut() {
            seat.group.tick();
        }
        for _ in 0..10_000 {
            let peers: Vec<PeerId> = table.seats.keys().copied().collect();
            peers.iter().for_each(|peer| table.pump(*peer));
            let Some((from, to, bytes)) = table.wires.pop_front() else { break };
            let chunk = matches!(message::decode(&bytes), Ok((_, Body::Chunk { offset, .. })) if offset > 0);
            let _ = table.seats.get_mut(&to).map(|seat| seat.group.message(from, &bytes));
            if chunk {
                return;
            }
        }
    }
    panic!("no chunk was sent");
}

#[test]
fn a_snapshot_goes_on_where_it_stopped() {
    let (mut table, leader, me) = with_newcomer(3);
    half_way(&mut table, leader, me);
    // What is on the wires is lost, for a while.
    table.wires.clear();
    table.ticks(1);
    let mut offsets = Vec::new();
    for _ in 0..40 {
        for seat in table.seats.values_mut() {
            seat.group.tick();
        }
        for _ in 0..10_000 {
            let peers: Vec<PeerId> = table.seats.keys().copied().collect();
            peers.iter().for_each(|peer| table.pump(*peer));
            let Some((from, to, bytes)) = table.wires.pop_front() else { break };
            if let Ok((_, Body::Want { offset, .. })) = message::decode(&bytes) {
                offsets.push(offset);
            }
            let _ = table.seats.get_mut(&to).map(|seat| seat.group.message(from, &bytes));
        }
    }
    assert_eq!(table.at(9).installed.len(), 1, "{offsets:?}");
    assert!(offsets.first().is_some_and(|offset| *offset >= 2 * message::CHUNK_BYTES as u64), "{offsets:?}");
}

#[test]
fn a_damaged_snapshot_is_refused_and_sent_again() {
    let (mut table, leader, me) = with_newcomer(3);
    table.at(leader).group.add_learner(me).expect("nothing is under way");
    let mut damaged = false;
    for _ in 0..60 {
        for seat in table.seats.values_mut() {
            seat.group.tick();
        }
        for _ in 0..10_000 {
            let peers: Vec<PeerId> = table.seats.keys().copied().collect();
            peers.iter().for_each(|peer| table.pump(*peer));
            let Some((from, to, bytes)) = table.wires.pop_front() else { break };
            let bytes = match message::decode(&bytes) {
                Ok((header, Body::Chunk { index, offset, bytes: mut chunk })) if !damaged => {
                    damaged = true;
                    chunk[5] ^= 1;
                    message::encode(&header, &Body::Chunk { index, offset, bytes: chunk })
                }
                _ => bytes,
            };
            let _ = table.seats.get_mut(&to).map(|seat| seat.group.message(from, &bytes));
        }
    }
    assert!(damaged);
    let counters = table.at(9).group.counters();
    assert_eq!((counters.snapshots_refused, counters.snapshots_installed), (1, 1));
    assert_eq!(table.at(9).installed.len(), 1);
    assert_eq!(replicated_digest(&table.at(9).group), replicated_digest(&table.at(leader).group));
}

/// A follower stored entries and was cut off before it said so, and before it heard that they are committed. The leader, which
/// has dropped them for a snapshot by then, offered that for ever: it was not needed, and the answer said nothing new.
#[test]
fn a_follower_that_has_what_a_snapshot_stands_for_learns_that_it_is_committed() {
    let mut table = Table::found(3, small());
    let leader = table.elect();
    table.ticks(3);
    let behind = (1..=3).find(|n| *n != leader).expect("another one");
    let peer = member(behind).peer;
    for byte in 0..8 {
        table.at(leader).group.propose(vec![byte]).expect("it leads");
    }
    table.pump(member(leader).peer);
    let (mine, others): (Vec<_>, Vec<_>) = table.wires.drain(..).partition(|(_, to, _)| *to == peer);
    for (from, _, bytes) in mine {
        table.at(behind).group.message(from, &bytes).expect("it is a follower");
    }
    table.pump(peer);
    table.wires = others.into();
    table.cut.push(peer);
    table.settle();
    let snapshot = table.at(leader).group.applied();
    assert_eq!(table.at(behind).group.last_index(), snapshot.index, "it has what the snapshot stands for");
    assert!(table.at(behind).group.applied().index < snapshot.index);
    assert_eq!(table.at(leader).group.counters().snapshots_taken, 1);
    // One more, which is lost: what comes next does not follow for the other end.
    table.at(leader).group.propose(vec![9]).expect("it leads");
    table.settle();
    table.cut.clear();
    table.ticks(40);
    let last = table.at(leader).group.applied();
    assert!(last.index > snapshot.index);
    assert_eq!(table.at(behind).group.applied(), last);
    assert_eq!(table.at(behind).installed, [], "nothing had to be sent");
}
