//! Healthy stores, and one finding for each kind of damage.

use super::*;
use crate::config::EngineConfig;
use crate::document::{EditOptions, Template};
use crate::engine::{Command, Engine, Event, Reply};
use crate::id::Path;
use crate::io::{Input, Output, RequestId, StorageReply, StorageTask, StorageWork, WriteOp};
use crate::store::Memory;
use crate::time::{Now, WallTime};

/// An engine on a store in memory, worked by hand.
struct Bench {
    engine: Engine,
    store: Memory,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self { engine: Engine::new(EngineConfig::default(), [7; 32]), store: Memory::new([1; 16]) };
        bench.work();
        bench
    }

    /// Carries out everything that is asked for; the replies.
    fn work(&mut self) -> Vec<Reply> {
        let mut replies = Vec::new();
        self.engine.handle(Now::default(), Input::Wake);
        while let Some(output) = self.engine.poll() {
            match output {
                Output::Storage(StorageTask { ticket, work }) => {
                    let result = match work {
                        StorageWork::Read { ops } => self.store.read(&ops).map(StorageReply::Read),
                        StorageWork::Write { ops, epoch } => {
                            let answer = self.store.write(&[(&ops, epoch.as_deref())]).remove(0);
                            answer.map(|()| StorageReply::Written)
                        }
                    };
                    self.engine.handle(Now::default(), Input::StorageDone { ticket, result });
                }
                Output::Event(Event::Reply { result, .. }) => replies.push(result.unwrap()),
                _ => {}
            }
        }
        replies
    }

    fn ask(&mut self, command: Command) -> Reply {
        self.engine.handle(Now::default(), Input::Command { request: RequestId(1), command });
        self.work().pop().expect("every command is answered")
    }

    fn put(&mut self, space: SpaceId, path: &str, value: i64) {
        let path = Path::parse(path).unwrap();
        let Reply::Document { cell, .. } = self.ask(Command::Open { space, path, template: Template::default() })
        else {
            panic!("a document opens")
        };
        let edit = |hot: &mut crate::document::HotDocument| {
            hot.edit(&EditOptions::at(WallTime(1_000)), |draft| draft.put("n", value))
        };
        let (_, change) = cell.with(edit).unwrap().unwrap();
        self.ask(Command::Commit { space, changes: change.into_iter().collect() });
    }

    fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        check(&self.store, &mut |told| {
            if let Told::Finding(finding) = told {
                findings.push(finding);
            }
        })
        .unwrap();
        findings
    }

    /// What the doctor says after one row was changed.
    fn after(&self, table: Table, change: impl FnOnce(&mut Vec<(Vec<u8>, Vec<u8>)>)) -> Vec<Finding> {
        let mut rows: Vec<_> = self.store.table(table).map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
        let clear = WriteOp::DeleteRange(table, vec![], vec![0xff; 200]);
        change(&mut rows);
        let mut damaged = Self { engine: Engine::new(EngineConfig::default(), [0; 32]), store: self.store.clone() };
        let puts = rows.into_iter().map(|(key, value)| WriteOp::Put(table, key, value));
        let ops: Vec<_> = std::iter::once(clear).chain(puts).collect();
        damaged.store.write(&[(&ops, None)]);
        damaged.findings()
    }
}

/// Five documents, one of them deleted, after a clean close, so that roots are persisted.
fn bench() -> Bench {
    let mut bench = Bench::new();
    let Reply::Space(info) = bench.ask(Command::CreateSpace { name: "home".into() }) else { panic!("a space is made") };
    for n in 0..5 {
        bench.put(info.id, &format!("/docs/{n}"), n);
        bench.put(info.id, &format!("/docs/{n}"), n + 10);
    }
    bench.ask(Command::Delete { space: info.id, path: Path::parse("/docs/4").unwrap() });
    bench.ask(Command::Close);
    bench
}

#[test]
fn a_healthy_store_has_no_finding() {
    let bench = bench();
    assert_eq!(bench.findings(), []);
    let counts = check(&bench.store, &mut |_| {}).unwrap();
    assert_eq!((counts.spaces, counts.documents, counts.hidden), (1, 5, 0));
    assert!(counts.changes >= 8 && counts.endorsements >= 4 && counts.facts > 0);
}

#[test]
fn an_empty_store_has_no_finding() {
    let store = Memory::new([0; 16]);
    assert_eq!(check(&store, &mut |told| panic!("{told:?}")).unwrap(), Counts::default());
}

fn damage_in(findings: &[Finding], table: Table) -> bool {
    findings.iter().any(|finding| finding.table == table && finding.severity == Severity::Damage)
}

#[test]
fn each_kind_of_damage_is_found_where_it_is() {
    let bench = bench();
    let flip = |rows: &mut Vec<(Vec<u8>, Vec<u8>)>| *rows[0].1.last_mut().unwrap() ^= 1;
    let lose = |rows: &mut Vec<(Vec<u8>, Vec<u8>)>| drop(rows.remove(0));
    for table in [Table::Chunks, Table::Endorsements, Table::Facts, Table::Index] {
        assert!(damage_in(&bench.after(table, flip), table), "{table:?}: {:?}", bench.after(table, flip));
    }
    // A lost first change leaves the second without what it depends on, or the index with heads of nothing.
    assert!(damage_in(&bench.after(Table::Chunks, lose), Table::Chunks));
    let all = |rows: &mut Vec<(Vec<u8>, Vec<u8>)>| rows.clear();
    assert!(damage_in(&bench.after(Table::Chunks, all), Table::Index));
    assert!(damage_in(&bench.after(Table::Endorsements, lose), Table::Endorsements));
    assert!(damage_in(&bench.after(Table::Index, lose), Table::Chunks));
    let shorten = |rows: &mut Vec<(Vec<u8>, Vec<u8>)>| rows.iter_mut().for_each(|row| row.1.truncate(3));
    for table in [Table::Chunks, Table::Endorsements, Table::Facts, Table::Index] {
        assert!(damage_in(&bench.after(table, shorten), table), "{table:?}");
    }
}

#[test]
fn a_root_that_is_not_that_of_the_index_is_found() {
    let bench = bench();
    if bench.store.table(Table::Roots).next().is_none() {
        return;
    }
    let other = |rows: &mut Vec<(Vec<u8>, Vec<u8>)>| rows[0].1 = Summary::new().to_bytes();
    assert!(damage_in(&bench.after(Table::Roots, other), Table::Roots));
}
