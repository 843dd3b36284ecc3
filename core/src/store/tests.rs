//! What every backend answers alike, and the storage thread.

use std::sync::mpsc;

use super::*;
use crate::io::{Input, StorageReply, StorageTask, StorageWork, Table, Ticket};

fn put(table: Table, key: &str, value: &str) -> WriteOp {
    WriteOp::Put(table, key.into(), value.into())
}

fn scan(table: Table, from: &str, to: Option<&str>, limit: usize) -> ReadOp {
    ReadOp::Scan { table, from: from.into(), to: to.map(Into::into), limit }
}

fn keys(rows: &Rows) -> Vec<String> {
    rows.iter().map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect()
}

/// Runs `check` on every backend of this build.
fn each_backend(check: impl Fn(&mut dyn Backend)) {
    check(&mut Memory::new([7; 16]));
    #[cfg(feature = "redb")]
    {
        let directory = tempfile::tempdir().unwrap();
        check(&mut Redb::open(directory.path()).unwrap());
    }
}

#[test]
fn reads_see_what_was_written_in_key_order() {
    each_backend(|store| {
        let ops = [put(Table::Chunks, "b", "2"), put(Table::Chunks, "a", "1"), put(Table::Facts, "c", "3")];
        assert_eq!(store.write(&[(&ops, None)]), [Ok(())]);
        let reads = [
            ReadOp::Get(Table::Chunks, b"a".to_vec()),
            ReadOp::Get(Table::Chunks, b"c".to_vec()),
            scan(Table::Chunks, "", None, 10),
        ];
        let rows = store.read(&reads).unwrap();
        assert_eq!(rows[0].row(0), Some((&b"a"[..], &b"1"[..])));
        assert!(rows[1].is_empty());
        assert_eq!(keys(&rows[2]), ["a", "b"]);
    });
}

#[test]
fn scans_respect_bounds_and_limit() {
    each_backend(|store| {
        let ops = ["a", "b", "c", "d"].map(|key| put(Table::Index, key, key));
        store.write(&[(&ops, None)]);
        let reads = [
            scan(Table::Index, "b", Some("d"), 10),
            scan(Table::Index, "b", None, 2),
            scan(Table::Index, "c", Some("c"), 10),
            scan(Table::Index, "d", Some("a"), 10),
            scan(Table::Roots, "", None, 10),
        ];
        let rows = store.read(&reads).unwrap();
        assert_eq!(rows.iter().map(keys).collect::<Vec<_>>(), [vec!["b", "c"], vec!["b", "c"], vec![], vec![], vec![]]);
    });
}

#[test]
fn a_range_is_deleted_without_its_end() {
    each_backend(|store| {
        let ops = ["a", "b", "c", "d"].map(|key| put(Table::Chunks, key, key));
        store.write(&[(&ops, None)]);
        let delete = |from: &str, to: &str| WriteOp::DeleteRange(Table::Chunks, from.into(), to.into());
        let ops = [delete("b", "d"), delete("d", "a"), WriteOp::Delete(Table::Chunks, b"zz".to_vec())];
        assert_eq!(store.write(&[(&ops, None)]), [Ok(())]);
        assert_eq!(keys(&store.read(&[scan(Table::Chunks, "", None, 9)]).unwrap()[0]), ["a", "d"]);
    });
}

#[test]
fn a_former_host_writes_nothing() {
    each_backend(|store| {
        let first = [put(Table::Meta, "epoch", "one")];
        let mine = [put(Table::Chunks, "k", "mine")];
        // The epoch set by an earlier batch of the same group counts.
        assert_eq!(store.write(&[(&first, None), (&mine, Some(b"one"))]), [Ok(()), Ok(())]);
        let second = [put(Table::Meta, "epoch", "two")];
        let stale = [put(Table::Chunks, "k", "stale"), put(Table::Chunks, "l", "stale")];
        let answers = store.write(&[(&second, None), (&stale, Some(b"one")), (&mine, Some(b"two"))]);
        assert_eq!(answers, [Ok(()), Err(StorageFailure::HostEpochChanged), Ok(())]);
        let rows = store.read(&[scan(Table::Chunks, "", None, 9)]).unwrap();
        assert_eq!(rows[0].iter().collect::<Vec<_>>(), [(&b"k"[..], &b"mine"[..])]);
    });
}

#[test]
fn an_unset_epoch_matches_no_expectation() {
    each_backend(|store| {
        let ops = [put(Table::Chunks, "k", "v")];
        assert_eq!(store.write(&[(&ops, Some(b""))]), [Err(StorageFailure::HostEpochChanged)]);
    });
}

#[test]
fn the_thread_answers_in_order_and_groups_writes() {
    let (send, answers) = mpsc::channel();
    let thread = StorageThread::spawn(Box::new(Memory::new([0; 16])), move |input| send.send(input).unwrap()).unwrap();
    // Hold the thread, so that everything below is queued when it looks.
    let (release, gate) = mpsc::channel::<()>();
    thread.maintain(move |_| gate.recv().unwrap());
    let write = |ticket, key: &str| {
        let ops = vec![put(Table::Chunks, key, "v")];
        thread.submit(StorageTask { ticket: Ticket(ticket), work: StorageWork::Write { ops, epoch: None } });
    };
    write(1, "a");
    write(2, "b");
    let ops = vec![scan(Table::Chunks, "", None, 9)];
    thread.submit(StorageTask { ticket: Ticket(3), work: StorageWork::Read { ops } });
    write(4, "c");
    assert_eq!(thread.counters().queued(), 5);
    release.send(()).unwrap();
    let counters = thread.counters();
    thread.close();
    let got: Vec<_> = answers
        .iter()
        .map(|input| match input {
            Input::StorageDone { ticket, result } => (ticket.0, result.unwrap()),
            other => panic!("unexpected {other:?}"),
        })
        .collect();
    assert_eq!(got.iter().map(|(ticket, _)| *ticket).collect::<Vec<_>>(), [1, 2, 3, 4]);
    // The read sees the two writes before it and not the one after.
    let StorageReply::Read(rows) = &got[2].1 else { panic!("a read is answered by rows") };
    assert_eq!(keys(&rows[0]), ["a", "b"]);
    assert_eq!((counters.commits(), counters.writes(), counters.queued()), (2, 3, 0));
}

/// The same steps as the browser's store is put through, `tests/vectors/storage.json`.
#[test]
fn every_backend_does_what_the_vectors_say() {
    let cases: serde_json::Value = serde_json::from_str(include_str!("../../../tests/vectors/storage.json")).unwrap();
    for case in cases.as_array().unwrap() {
        each_backend(|store| {
            for step in case["steps"].as_array().unwrap() {
                take_step(store, step);
            }
        });
    }
}

fn take_step(store: &mut dyn Backend, step: &serde_json::Value) {
    let text = |value: &serde_json::Value| value.as_str().unwrap().as_bytes().to_vec();
    let table = |op: &serde_json::Value| Table::ALL.into_iter().find(|table| table.name() == op[1]).unwrap();
    if let Some(ops) = step["write"].as_array() {
        let ops: Vec<WriteOp> = ops
            .iter()
            .map(|op| match op[0].as_str().unwrap() {
                "put" => WriteOp::Put(table(op), text(&op[2]), text(&op[3])),
                "delete" => WriteOp::Delete(table(op), text(&op[2])),
                _ => WriteOp::DeleteRange(table(op), text(&op[2]), text(&op[3])),
            })
            .collect();
        let expected = match step["fails"].is_string() {
            true => Err(StorageFailure::HostEpochChanged),
            false => Ok(()),
        };
        let epoch = step["epoch"].as_str().map(str::as_bytes);
        return assert_eq!(store.write(&[(&ops, epoch)]), [expected], "{step}");
    }
    let ops: Vec<ReadOp> = step["read"]
        .as_array()
        .unwrap()
        .iter()
        .map(|op| match op[0].as_str().unwrap() {
            "get" => ReadOp::Get(table(op), text(&op[2])),
            _ => ReadOp::Scan {
                table: table(op),
                from: text(&op[2]),
                to: op[3].as_str().map(|to| to.as_bytes().to_vec()),
                limit: usize::try_from(op[4].as_u64().unwrap()).unwrap(),
            },
        })
        .collect();
    let found = store.read(&ops).unwrap();
    let found: Vec<Vec<String>> = found
        .iter()
        .map(|rows| rows.iter().flat_map(|(k, v)| [k, v]).map(|b| String::from_utf8_lossy(b).into_owned()).collect())
        .collect();
    assert_eq!(serde_json::json!(found), step["rows"], "{step}");
}
