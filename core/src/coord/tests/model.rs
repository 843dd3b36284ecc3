//! The tree against a model that is as plain as can be: a map of records that is copied for each change, with counts of
//! creations and deletions in the place of versions that are computed.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::coord::acl::{AclEntry, Perms};
use crate::coord::stat::Life;

#[derive(Clone, Debug, PartialEq)]
struct Record {
    data: String,
    open: bool,
    owner: u64,
    created: (u64, i64),
    modified: (u64, i64),
    sets: i32,
    acl_sets: i32,
    births: i32,
    deaths: i32,
    children_changed: u64,
}

type Records = BTreeMap<String, Record>;

/// Says what an operation answers, in words, and what the records are then.
fn model(records: &mut Records, op: &Op, zxid: u64, time: i64, session: u64) -> Result<String, &'static str> {
    fn parent(path: &str) -> Result<String, &'static str> {
        let at = path.rfind('/').ok_or("path")?;
        Ok(if at == 0 { "/".into() } else { path[..at].into() })
    }
    fn valid(path: &str) -> bool {
        path == "/" || (path.starts_with('/') && !path[1..].split('/').any(|part| ["", ".", ".."].contains(&part)))
    }
    fn versions(found: i32, wanted: i32) -> Result<(), &'static str> {
        if wanted == -1 || wanted == found { Ok(()) } else { Err("version") }
    }
    match op {
        Op::Create { path, data, acl, mode, sequential } => {
            let above = parent(path)?;
            let within = records.get(&above).ok_or("no node")?.clone();
            if !within.open {
                return Err("auth");
            }
            let path = if *sequential { format!("{path}{:0>10}", within.births) } else { path.clone() };
            if !valid(&path) {
                return Err("path");
            }
            if records.contains_key(&path) {
                return Err("exists");
            }
            if within.owner != 0 {
                return Err("ephemeral");
            }
            let owner = if *mode == Mode::Ephemeral { session } else { 0 };
            let record = Record {
                data: String::from_utf8(data.to_vec()).unwrap(),
                open: *acl == Acl::open(),
                owner,
                created: (zxid, time),
                modified: (zxid, time),
                sets: 0,
                acl_sets: 0,
                births: 0,
                deaths: 0,
                children_changed: zxid,
            };
            records.insert(path.clone(), record);
            let within = records.get_mut(&above).unwrap();
            within.births += 1;
            within.children_changed = zxid;
            Ok(format!("created {path}"))
        }
        Op::Set { path, data, version } => {
            if !valid(path) {
                return Err("path");
            }
            let record = records.get_mut(path).ok_or("no node")?;
            if !record.open {
                return Err("auth");
            }
            versions(record.sets, *version)?;
            record.sets += 1;
            record.modified = (zxid, time);
            record.data = String::from_utf8(data.to_vec()).unwrap();
            Ok("set".into())
        }
        Op::Delete { path, version } => {
            let above = parent(path)?;
            if path == "/" {
                return Err("path");
            }
            if !records.get(&above).ok_or("no node")?.open {
                return Err("auth");
            }
            versions(records.get(path).ok_or("no node")?.sets, *version)?;
            if records.keys().any(|other| other != path && other.starts_with(&format!("{path}/"))) {
                return Err("not empty");
            }
            bury(records, path, zxid);
            Ok("deleted".into())
        }
        Op::Check { path, version } => {
            if !valid(path) {
                return Err("path");
            }
            versions(records.get(path).ok_or("no node")?.sets, *version)?;
            Ok("checked".into())
        }
        Op::SetAcl { path, acl, version } => {
            if !valid(path) {
                return Err("path");
            }
            let record = records.get_mut(path).ok_or("no node")?;
            if !record.open {
                return Err("auth");
            }
            versions(record.acl_sets, *version)?;
            record.acl_sets += 1;
            record.open = *acl == Acl::open();
            Ok("acl set".into())
        }
    }
}

fn bury(records: &mut Records, path: &str, zxid: u64) {
    records.remove(path);
    let above = match path.rfind('/') {
        Some(0) => "/",
        Some(at) => &path[..at],
        None => unreachable!("only valid paths are in the records"),
    };
    let above = records.get_mut(above).unwrap();
    above.deaths += 1;
    above.children_changed = zxid;
}

fn word(error: &CoordError) -> &'static str {
    match error {
        CoordError::NoNode => "no node",
        CoordError::NodeExists => "exists",
        CoordError::BadVersion { .. } => "version",
        CoordError::NotEmpty => "not empty",
        CoordError::NoChildrenForEphemerals => "ephemeral",
        CoordError::NoAuth => "auth",
        CoordError::BadPath(_) => "path",
        other => panic!("the model knows no {other:?}"),
    }
}

fn words(answer: &OpAnswer) -> String {
    match answer {
        OpAnswer::Created { path, .. } => format!("created {path}"),
        OpAnswer::Set(_) => "set".into(),
        OpAnswer::Deleted => "deleted".into(),
        OpAnswer::Checked => "checked".into(),
        OpAnswer::AclSet(_) => "acl set".into(),
    }
}

fn same(rig: &Rig, records: &Records) {
    let tree = rig.machine.tree();
    assert_eq!(tree.len(), records.len());
    for (path, record) in records {
        let stat = tree.stat(path).unwrap();
        let children: Vec<&str> = records
            .keys()
            .filter(|other| *other != "/" && *other != path)
            .filter_map(|other| other.strip_prefix(if path == "/" { "" } else { path })?.strip_prefix('/'))
            .filter(|name| !name.contains('/'))
            .collect();
        let expected = Stat {
            czxid: record.created.0,
            mzxid: record.modified.0,
            pzxid: record.children_changed,
            ctime: record.created.1,
            mtime: record.modified.1,
            version: record.sets,
            cversion: record.births + record.deaths,
            aversion: record.acl_sets,
            life: if record.owner == 0 { Life::Persistent } else { Life::Ephemeral(SessionId(record.owner)) },
            data_length: record.data.len() as u32,
            num_children: children.len() as u32,
        };
        assert_eq!(stat, expected, "{path}");
        assert_eq!(&*tree.get(path, &[]).unwrap().0, record.data.as_bytes());
        assert_eq!(tree.children(path, &[]).unwrap().0.collect::<Vec<_>>(), children, "{path}");
    }
    let bytes = rig.machine.tree().bytes();
    let mut again = Machine::new();
    again.restore(&rig.machine.snapshot()).unwrap();
    assert_eq!(again.tree().bytes(), bytes, "bytes are counted rightly");
}

#[derive(Clone, Debug)]
enum Step {
    Ops(u64, Vec<Op>),
    End(u64, bool),
}

fn read_only() -> Acl {
    Acl::new(vec![AclEntry { perms: Perms::READ, who: Identity::anyone() }])
}

pub(super) fn any_op() -> impl Strategy<Value = Op> {
    let paths = ["/a", "/b", "/a/x", "/a/y", "/a/x/z", "/b/x", "/", "/a/", "//", "a", "/b/..", "/e", "/e/x"];
    let path = prop::sample::select(paths.to_vec()).prop_map(str::to_owned);
    let version = prop_oneof![3 => Just(-1), 1 => 0..3i32];
    let text = prop::sample::select(vec!["", "x", "four"]);
    let acl = prop_oneof![9 => Just(Acl::open()), 1 => Just(read_only())];
    let mode = prop_oneof![3 => Just(Mode::Persistent), 1 => Just(Mode::Ephemeral)];
    prop_oneof![
        4 => (path.clone(), text.clone(), acl.clone(), mode, prop::bool::weighted(0.2)).prop_map(
            |(path, text, acl, mode, sequential)| Op::Create { path, data: data(text), acl, mode, sequential }
        ),
        2 => (path.clone(), text, version.clone())
            .prop_map(|(path, text, version)| Op::Set { path, data: data(text), version }),
        3 => (path.clone(), version.clone()).prop_map(|(path, version)| Op::Delete { path, version }),
        1 => (path.clone(), version.clone()).prop_map(|(path, version)| Op::Check { path, version }),
        1 => (path, acl, version).prop_map(|(path, acl, version)| Op::SetAcl { path, acl, version }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let session = 0..3u64;
    prop_oneof![
        6 => (session.clone(), any_op()).prop_map(|(session, op)| Step::Ops(session, vec![op])),
        3 => (session.clone(), prop::collection::vec(any_op(), 0..6)).prop_map(|(s, ops)| Step::Ops(s, ops)),
        1 => (session, any::<bool>()).prop_map(|(session, clean)| Step::End(session, clean)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_tree_is_what_a_plain_model_says(steps in prop::collection::vec(step(), 1..40)) {
        let mut rig = Rig::with_sessions(3);
        let mut open: Vec<u64> = vec![1, 2, 3];
        let root = Record {
            data: String::new(), open: true, owner: 0, created: (0, 0), modified: (0, 0), sets: 0, acl_sets: 0, births: 0,
            deaths: 0, children_changed: 0,
        };
        let mut records = Records::from([("/".to_owned(), root)]);
        for step in steps {
            let (zxid, time) = (rig.index + 1, 1_001 + rig.index as i64);
            match step {
                Step::Ops(slot, ops) => {
                    let session = open[slot as usize];
                    let mut next = records.clone();
                    let mut answers = Vec::new();
                    let failed = ops.iter().enumerate().find_map(|(at, op)| {
                        match model(&mut next, op, zxid, time, session) {
                            Ok(answer) => { answers.push(answer); None }
                            Err(error) => Some((at, error)),
                        }
                    });
                    if failed.is_none() {
                        records = next;
                    }
                    let reply = match <[Op; 1]>::try_from(ops) {
                        Ok([op]) => rig.ask(session, Command::Op(op)).map_err(|error| (0, word(&error))),
                        Err(ops) => rig.ask(session, Command::Multi(ops)).map_err(|error| match error {
                            CoordError::Multi { at, error } => (at as usize, word(&error)),
                            other => panic!("{other:?}"),
                        }),
                    };
                    match reply {
                        Ok(Answer::Op(answer)) => assert_eq!((vec![words(&answer)], None), (answers, failed)),
                        Ok(Answer::Multi(all)) => {
                            assert_eq!((all.iter().map(words).collect::<Vec<_>>(), None), (answers, failed));
                        }
                        Err(error) => assert_eq!(Some(error), failed),
                        other => panic!("{other:?}"),
                    }
                }
                Step::End(slot, clean) => {
                    let session = open[slot as usize];
                    if clean {
                        rig.ask(session, Command::Close).unwrap();
                    } else {
                        rig.expire(session);
                    }
                    let gone: Vec<String> =
                        records.iter().filter(|(_, r)| r.owner == session).map(|(path, _)| path.clone()).collect();
                    gone.iter().for_each(|path| bury(&mut records, path, zxid));
                    open[slot as usize] = session + 3;
                    rig.open(session + 3);
                }
            }
            same(&rig, &records);
        }
    }
}
