//! A group that lost its quorum for good goes on from its best survivor, and never mixes with what it was.

use super::*;
use crate::coord::raft::rebuild::{best, rebuild};

fn stored(table: &mut Table, n: u8) -> Stored {
    let Ok(rows) = table.at(n).disk.rows();
    Stored::open(rows).expect("whole")
}

/// Three voters of five are lost; one of the two left has entries that the other lacks.
fn two_left() -> (Table, u8, u8) {
    let mut table = Table::found(5, small());
    let leader = table.elect();
    (0..30).for_each(|byte| {
        table.at(leader).group.propose(vec![byte]).expect("it leads");
        table.settle();
    });
    table.ticks(3);
    let behind = (1..=5).find(|n| *n != leader).expect("there are five");
    table.cut.push(member(behind).peer);
    (0..3).for_each(|byte| {
        table.at(leader).group.propose(vec![7, byte]).expect("it leads");
        table.settle();
    });
    table.ticks(3);
    (table, leader, behind)
}

#[test]
fn the_best_survivor_goes_on_with_everything_it_has() {
    let (mut table, ahead, behind) = two_left();
    let digest = replicated_digest(&table.at(ahead).group);
    let survivors = [stored(&mut table, behind), stored(&mut table, ahead)];
    assert_eq!(best(&survivors), Some(1));
    let me = Member { peer: member(ahead).peer, store: StoreId(4_711) };
    let mut machine = Register::default();
    let rebuilt = rebuild(&survivors[1], me, 0, &mut machine, &[]).expect("whole");
    assert_eq!((rebuilt.record.digest, rebuilt.record.from.number), (digest, 1));
    assert_eq!(rebuilt.membership.generation.number, 2);
    assert_eq!(rebuilt.membership.rebuilds, std::slice::from_ref(&rebuilt.record));
    let mut disk = table.at(ahead).disk.clone();
    let Ok(()) = disk.write(&rebuilt.writes);
    let Ok(rows) = disk.rows();
    let opened = Stored::open(rows).expect("what was written opens");
    let id = opened.identity().id.expect("the survivor has a new one");
    assert_eq!(id, MemberId(6), "no id is given twice");
    let group = Group::open(small(), opened, Register::default(), 5).expect("our own snapshot");
    let mut new = Table::found(1, small());
    new.seats.clear();
    new.sit(me, group, disk);
    new.elect();
    assert_eq!(replicated_digest(&new.at(ahead).group), digest);
    // Others join the new life with empty logs.
    let newcomer = Member { peer: member(behind).peer, store: StoreId(4_712) };
    new.join(newcomer);
    new.at(ahead).group.add_learner(newcomer).expect("it leads");
    new.ticks(15);
    let learner = new.at(ahead).group.membership().id_of(&newcomer).expect("it was added");
    new.at(ahead).group.promote(learner).expect("it has caught up");
    new.ticks(5);
    assert_eq!(new.at(behind).group.membership().voters.len(), 2);
    assert_eq!(replicated_digest(&new.at(behind).group), digest);
}

#[test]
fn a_voter_of_the_old_life_is_refused() {
    let (mut table, ahead, behind) = two_left();
    let survivor = stored(&mut table, ahead);
    let me = Member { peer: member(ahead).peer, store: StoreId(4_711) };
    let rebuilt = rebuild(&survivor, me, 0, &mut Register::default(), &[]).expect("whole");
    let mut disk = MemoryLog::new();
    let Ok(()) = disk.write(&rebuilt.writes);
    let Ok(rows) = disk.rows();
    let opened = Stored::open(rows).expect("what was written opens");
    let mut group = Group::open(small(), opened, Register::default(), 5).expect("our own snapshot");
    // The old voter comes back and asks for votes.
    let old = &mut table.at(behind).group;
    let frames: Vec<Vec<u8>> = (0..60)
        .flat_map(|_| {
            old.tick();
            let outputs: Vec<_> = std::iter::from_fn(|| old.poll()).collect();
            outputs.into_iter().filter_map(|output| match output {
                Output::Send { bytes, .. } => Some(bytes),
                _ => None,
            })
        })
        .collect();
    assert!(!frames.is_empty());
    for bytes in frames {
        let refused = group.message(member(behind).peer, &bytes);
        assert_eq!(refused, Err(Refused::Generation { theirs: 1, ours: 2 }));
    }
}

#[test]
fn two_rebuilds_of_one_number_are_two_groups() {
    let (mut table, ahead, behind) = two_left();
    let generation = |table: &mut Table, n: u8| {
        let survivor = stored(table, n);
        let me = Member { peer: member(n).peer, store: StoreId(4_711) };
        rebuild(&survivor, me, 0, &mut Register::default(), &[]).expect("whole").membership.generation
    };
    let (one, two) = (generation(&mut table, ahead), generation(&mut table, behind));
    assert_eq!((one.number, two.number), (2, 2));
    assert_ne!(one.tag, two.tag);
}
