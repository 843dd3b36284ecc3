//! What a disk holds, and what a bad day leaves of it.

use super::*;
use crate::coord::raft::rows::PART_BYTES;
use crate::coord::replicated::Replicated;

/// The rows of a replica that has committed `n` entries of one group and compacted nothing.
fn written(n: u8) -> (MemoryLog, u64, [u8; 32]) {
    let mut table = Table::found(1, config());
    table.elect();
    for byte in 0..n {
        table.at(1).group.propose(vec![byte]).expect("it leads");
        table.settle();
    }
    let last = table.at(1).group.last_index();
    let digest = replicated_digest(&table.at(1).group);
    (table.seats.remove(&member(1).peer).expect("a seat").disk, last, digest)
}

fn open(disk: &MemoryLog) -> Result<Stored, OpenError> {
    let Ok(rows) = disk.rows();
    Stored::open(rows)
}

#[test]
fn a_store_gives_back_what_was_written() {
    let (disk, last, digest) = written(20);
    let stored = open(&disk).expect("whole");
    assert_eq!((stored.last().index, stored.dropped()), (last, 0));
    let group = Group::open(config(), stored, Register::default(), 1).expect("our own snapshot");
    let mut table = Table::found(1, config());
    table.sit(member(1), group, disk);
    table.elect();
    assert_eq!(replicated_digest(&table.at(1).group), digest);
}

#[test]
fn an_empty_store_says_so() {
    assert_eq!(open(&MemoryLog::new()).expect_err("empty"), OpenError::Empty);
}

/// Damage of anything that was acknowledged is found, whichever row and byte it strikes.
#[test]
fn every_damaged_row_is_found() {
    let (mut disk, ..) = written(5);
    let keys: Vec<Vec<u8>> = disk.durable_mut().keys().cloned().collect();
    for key in keys {
        let row = disk.durable_mut().get(&key).cloned().expect("a row");
        for byte in [0, row.len() / 2, row.len() - 1] {
            let mut damaged = row.clone();
            damaged[byte] ^= 0x10;
            disk.durable_mut().insert(key.clone(), damaged);
            assert!(matches!(open(&disk), Err(OpenError::Corrupt { .. })), "row {key:?} byte {byte}");
        }
        disk.durable_mut().remove(&key);
        assert!(matches!(open(&disk), Err(OpenError::Corrupt { .. })), "row {key:?} is gone");
        disk.durable_mut().insert(key, row);
    }
    assert!(open(&disk).is_ok());
}

#[test]
fn a_corrupt_store_says_how_to_replace_the_voter() {
    let (mut disk, last, _) = written(5);
    let key = disk.durable_mut().keys().rfind(|key| key[0] == 0x10).cloned().expect("an entry");
    disk.durable_mut().remove(&key);
    let error = open(&disk).expect_err("an acknowledged entry is gone");
    assert_eq!(error, OpenError::Corrupt { what: "entry", index: last });
    assert!(error.to_string().contains("voters replace"), "{error}");
}

/// A write that power cut off anywhere leaves what was before it, and the replica goes on.
#[test]
fn a_torn_write_is_cut_off_and_nothing_else() {
    let mut table = Table::found(1, config());
    table.elect();
    (0..5).for_each(|byte| {
        table.at(1).group.propose(vec![byte]).expect("it leads");
        table.settle();
    });
    let last = table.at(1).group.last_index();
    let digest = replicated_digest(&table.at(1).group);
    let group = &mut table.at(1).group;
    (0..3).for_each(|byte| {
        group.propose(vec![byte]).expect("it leads");
    });
    let writes = std::iter::from_fn(|| group.poll()).find_map(|output| match output {
        Output::Persist { writes, .. } => Some(writes),
        _ => None,
    });
    let writes = writes.expect("the proposals are written");
    for rows in 0..=writes.len() {
        let mut disk = table.at(1).disk.clone();
        disk.submit(writes.clone());
        disk.crash(0, rows);
        let stored = open(&disk).expect("nothing that was acknowledged is missing");
        let kept = if rows == writes.len() { 3 } else { 0 };
        assert_eq!(stored.last().index, last + kept, "{rows} rows");
        let mut other = Table::found(1, config());
        let group = Group::open(config(), stored, Register::default(), 1).expect("our own snapshot");
        other.sit(member(1), group, disk);
        other.elect();
        other.at(1).group.propose(b"on".to_vec()).expect("it leads");
        other.settle();
        if kept == 0 {
            assert_ne!(replicated_digest(&other.at(1).group), digest, "and it went on");
        }
        other.reopen(1);
        other.elect();
    }
}

/// The first write of `to` that is `wanted`, on its way while `leader` speaks to it; those before it are done.
fn caught(table: &mut Table, leader: u8, to: u8, wanted: impl Fn(&[Write]) -> bool) -> Option<Vec<Write>> {
    for _ in 0..40 {
        table.at(leader).group.tick();
        table.pump(member(leader).peer);
        while let Some((from, peer, bytes)) = table.wires.pop_front() {
            let _ = table.seats.get_mut(&peer).map(|seat| seat.group.message(from, &bytes));
            if peer != member(to).peer {
                table.pump(peer);
                continue;
            }
            while let Some(output) = table.at(to).group.poll() {
                match output {
                    Output::Send { to: other, bytes } => table.wires.push_back((peer, other, bytes)),
                    Output::Persist { writes, .. } if wanted(&writes) => return Some(writes),
                    Output::Persist { ticket, writes } => {
                        let Ok(()) = table.at(to).disk.write(&writes);
                        table.at(to).group.persisted(ticket);
                    }
                    _ => {}
                }
            }
        }
    }
    None
}

/// A voter holds entries that were never committed when a snapshot comes. Of a write that is cut off nothing may say that they
/// were.
#[test]
fn a_torn_snapshot_commits_nothing_of_what_it_replaces() {
    let mut table = Table::found(3, small());
    let leader = table.elect();
    table.ticks(3);
    table.cut.push(member(leader).peer);
    (0..4).for_each(|byte| {
        table.at(leader).group.propose(vec![byte]).expect("it leads");
        table.settle();
    });
    let committed = table.at(leader).group.committed();
    assert!(committed < table.at(leader).group.last_index());
    let next = table.elect();
    // So many that what it lacks is in no log any more.
    (0..200).for_each(|byte| {
        table.at(next).group.propose(vec![9, byte]).expect("it leads");
        table.settle();
    });
    table.cut.clear();
    let has_part = |rows: &[Write]| rows.iter().any(|row| matches!(row, Write::Put(key, _) if key[0] == 0x20));
    let writes = caught(&mut table, next, leader, has_part).expect("a snapshot comes");
    let tail = writes.iter().position(|row| matches!(row, Write::Put(key, _) if key[0] == 0x02)).expect("a tail");
    for rows in 0..=writes.len() {
        let mut disk = table.at(leader).disk.clone();
        disk.submit(writes.clone());
        disk.crash(0, rows);
        let stored = open(&disk).unwrap_or_else(|why| panic!("{rows} rows: {why}"));
        let group = Group::open(small(), stored, Register::default(), 1).expect("our own snapshot");
        assert_eq!(group.committed() > committed, rows > tail, "{rows} of {} rows", writes.len());
    }
}

/// Conflicting entries are replaced by a later leader's; a write that is torn there must not mix the two.
#[test]
fn a_torn_replacement_of_entries_leaves_neither_half() {
    let mut table = Table::found(3, config());
    let leader = table.elect();
    table.ticks(3);
    // The leader writes entries that nobody else gets.
    table.cut.push(member(leader).peer);
    (0..4).for_each(|byte| {
        table.at(leader).group.propose(vec![byte]).expect("it leads");
        table.settle();
    });
    let before = table.at(leader).group.last_index();
    let next = table.elect();
    (0..2).for_each(|byte| {
        table.at(next).group.propose(vec![9, byte]).expect("it leads");
        table.settle();
    });
    table.cut.clear();
    // It hears of the new leader; its write is caught on the way.
    let replaces = |rows: &[Write]| rows.iter().any(|row| matches!(row, Write::Delete(..)));
    let writes = caught(&mut table, next, leader, replaces).expect("it replaces what nobody else has");
    for rows in 0..=writes.len() {
        let mut disk = table.at(leader).disk.clone();
        disk.submit(writes.clone());
        disk.crash(0, rows);
        let stored = open(&disk).unwrap_or_else(|why| panic!("{rows} rows: {why}"));
        assert!(stored.last().index <= before, "{rows} rows");
        assert!(stored.dropped() == 0 || rows < writes.len());
    }
}

#[test]
fn a_newer_format_is_refused() {
    let (mut disk, ..) = written(1);
    let row = disk.durable_mut().get_mut(&vec![0x00]).expect("the identity");
    let mut value = row[..row.len() - 8].to_vec();
    value[0] = 2;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&1u64.to_le_bytes()).update(&[0x00]).update(&value);
    value.extend_from_slice(&hasher.finalize().as_bytes()[..8]);
    *row = value;
    assert_eq!(open(&disk).expect_err("newer"), OpenError::Newer { found: 2, known: 1 });
}

#[test]
fn rows_are_frozen() {
    let (disk, ..) = written(2);
    let Ok(rows) = disk.rows();
    let lines: Vec<String> = rows
        .iter()
        .map(|(key, value)| {
            let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            // The snapshot is large and the simulator's; its row is named by its hash.
            let shown = if key[0] == 0x20 { hex(&blake3::hash(value).as_bytes()[..8]) } else { hex(value) };
            format!("{} {shown}", hex(key))
        })
        .collect();
    assert_eq!(lines.join("\n"), include_str!("rows.txt").trim_end());
    assert!(rows.iter().all(|(_, value)| value.len() <= PART_BYTES + 8));
}

#[test]
fn a_snapshot_of_a_newer_version_is_refused_and_nothing_changes() {
    let mut machine = Register::default();
    machine.apply(1, b"x");
    let before = machine;
    let mut snapshot = machine.snapshot();
    snapshot[0] = 9;
    let refused = machine.restore(&snapshot);
    assert!(matches!(refused, Err(crate::coord::replicated::SnapshotError::Newer { found: 9, known: 1 })));
    assert_eq!(machine, before);
}
