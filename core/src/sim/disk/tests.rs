use super::*;
use crate::io::{ReadOp, Rows};

fn put(n: u8) -> WriteOp {
    WriteOp::Put(Table::Facts, vec![n], vec![n])
}

fn write(ticket: u64, ops: Vec<WriteOp>) -> StorageTask {
    StorageTask { ticket: Ticket(ticket), work: StorageWork::Write { ops, epoch: None } }
}

fn keys(disk: &Disk) -> Vec<u8> {
    disk.durable().table(Table::Facts).map(|(k, _)| k[0]).collect()
}

fn finish(disk: &mut Disk, until: Timestamp, dice: &mut Dice) -> Vec<Finished> {
    std::iter::from_fn(|| disk.complete(until, dice)).collect()
}

#[test]
fn an_answered_write_survives_and_the_rest_is_a_prefix() {
    let mut kept = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let mut dice = Dice::new(seed);
        let mut disk = Disk::new(DiskProfile::SSD, &mut dice);
        let due = disk.submit(Timestamp::ZERO, 1, write(1, vec![put(1)]), &mut dice);
        let answered = finish(&mut disk, due, &mut dice).len();
        for n in 2..6 {
            disk.submit(due, 1, write(u64::from(n), vec![put(n), put(n + 100)]), &mut dice);
        }
        disk.crash(&mut dice);
        assert_eq!(answered, 1);
        let got = keys(&disk);
        let survivors = got.iter().filter(|n| **n < 100).count();
        assert_eq!(got.len() - 1, (survivors - 1) * 2, "a task is whole or absent: {got:?}");
        assert_eq!(got[..survivors], [1, 2, 3, 4, 5][..survivors]);
        kept.insert(survivors);
    }
    assert_eq!(kept.len(), 5, "every length of prefix occurs");
}

#[test]
fn a_read_sees_every_earlier_write() {
    let mut dice = Dice::new(1);
    let mut disk = Disk::new(DiskProfile::CARD, &mut dice);
    disk.submit(Timestamp::ZERO, 1, write(1, vec![put(7)]), &mut dice);
    let look = StorageWork::Read { ops: vec![ReadOp::Get(Table::Facts, vec![7])] };
    let due = disk.submit(Timestamp::ZERO, 1, StorageTask { ticket: Ticket(2), work: look }, &mut dice);
    let finished = finish(&mut disk, due, &mut dice);
    let mut rows = Rows::default();
    rows.push(&[7], &[7]);
    assert_eq!(finished[1].result, Ok(StorageReply::Read(vec![rows])));
}

#[test]
fn a_full_disk_refuses_until_there_is_room() {
    let mut dice = Dice::new(1);
    let mut disk = Disk::new(DiskProfile::SSD, &mut dice);
    let later = Timestamp::from_micros(5_000_000);
    disk.fill_until(later);
    let due = disk.submit(Timestamp::ZERO, 1, write(1, vec![put(1)]), &mut dice);
    assert_eq!(finish(&mut disk, due, &mut dice)[0].result, Err(StorageFailure::Full));
    let due = disk.submit(later, 1, write(2, vec![put(2)]), &mut dice);
    assert_eq!(finish(&mut disk, due, &mut dice)[0].result, Ok(StorageReply::Written));
    assert_eq!(keys(&disk), [2]);
}

#[test]
fn a_planted_early_answer_loses_an_answered_write() {
    let mut dice = Dice::new(1);
    let mut disk = Disk::new(DiskProfile::SSD, &mut dice);
    disk.plant(DiskBug::AckBeforeDurable(Duration::from_secs(1)));
    let due = disk.submit(Timestamp::ZERO, 1, write(1, vec![put(1)]), &mut dice);
    assert_eq!(finish(&mut disk, due, &mut dice)[0].result, Ok(StorageReply::Written));
    disk.crash(&mut dice);
    assert!(keys(&disk).is_empty());
}
