//! The tree's rules, one by one, by ZooKeeper's documentation and behaviour.

use super::*;
use crate::coord::acl::{AclEntry, Perms};
use crate::coord::error::{Argument, Bounded};
use crate::coord::op::MAX_DATA_BYTES;
use crate::coord::path::PathProblem;
use crate::coord::stat::{Life, MAX_NODE_TTL_MS};

#[test]
fn a_new_node_has_the_stat_of_its_entry() {
    let mut rig = Rig::with_sessions(1);
    let Ok(OpAnswer::Created { path: at, stat }) = rig.op(
        1,
        Op::Create {
            path: "/a".into(),
            data: data("xyz"),
            acl: Acl::open(),
            mode: Mode::Persistent,
            sequential: false,
        },
    ) else {
        panic!("not created")
    };
    let expected = Stat {
        czxid: 2,
        mzxid: 2,
        pzxid: 2,
        ctime: 1_002,
        mtime: 1_002,
        version: 0,
        cversion: 0,
        aversion: 0,
        life: Life::Persistent,
        data_length: 3,
        num_children: 0,
    };
    assert_eq!((at, stat), (path("/a"), expected));
    let root = rig.stat("/");
    assert_eq!((root.czxid, root.pzxid, root.cversion, root.num_children, root.version), (0, 2, 1, 1, 0));
}

#[test]
fn setting_data_moves_mzxid_and_version_only() {
    let mut rig = Rig::with_sessions(1);
    let before = rig.create("/a");
    let Ok(OpAnswer::Set(after)) = rig.op(1, set("/a", "12", 0)) else { panic!("not set") };
    assert_eq!(after, Stat { mzxid: 3, mtime: 1_003, version: 1, data_length: 2, ..before });
    assert_eq!(rig.op(1, set("/a", "3", 0)), Err(CoordError::BadVersion { found: 1 }));
    assert!(rig.op(1, set("/a", "3", -1)).is_ok());
    assert_eq!(rig.op(1, set("/b", "", -1)), Err(CoordError::NoNode));
    assert!(rig.op(1, set("/", "root", -1)).is_ok());
    assert_eq!(&*rig.machine.tree().get("/", &[]).unwrap().0, b"root");
}

#[test]
fn cversion_counts_creations_and_deletions_and_pzxid_follows_both() {
    let mut rig = Rig::with_sessions(1);
    rig.create("/a");
    rig.create("/a/1");
    rig.create("/a/2");
    rig.op(1, delete("/a/1", -1)).unwrap();
    let stat = rig.stat("/a");
    assert_eq!((stat.cversion, stat.num_children, stat.pzxid, stat.mzxid, stat.version), (3, 1, 5, 2, 0));
    // A grandchild is no child.
    rig.create("/a/2/x");
    assert_eq!(rig.stat("/a").cversion, 3);
}

#[test]
fn deletion_asks_for_parent_node_version_and_children_in_this_order() {
    let mut rig = Rig::with_sessions(1);
    rig.create("/a");
    rig.create("/a/b");
    for (op, error) in [
        (delete("/x/y", -1), CoordError::NoNode),
        (delete("/a/c", -1), CoordError::NoNode),
        (delete("/a", 5), CoordError::BadVersion { found: 0 }),
        (delete("/a", 0), CoordError::NotEmpty),
        (delete("/", -1), CoordError::BadPath(PathProblem::Root)),
        (delete("", -1), CoordError::BadPath(PathProblem::Empty)),
        (delete("a", -1), CoordError::BadPath(PathProblem::NoLeadingSlash)),
        (delete("/a/", -1), CoordError::NoNode),
    ] {
        assert_eq!(rig.op(1, op.clone()), Err(error), "{op:?}");
    }
    assert_eq!(rig.op(1, delete("/a/b", 0)), Ok(OpAnswer::Deleted));
    assert_eq!(rig.op(1, delete("/a", 0)), Ok(OpAnswer::Deleted));
}

#[test]
fn creation_is_refused_for_each_reason() {
    let mut rig = Rig::with_sessions(1);
    rig.create("/a");
    rig.op(1, create("/e", Mode::Ephemeral)).unwrap();
    let no_acl = Op::Create {
        path: "/b".into(),
        data: data(""),
        acl: Acl::new(vec![]),
        mode: Mode::Persistent,
        sequential: false,
    };
    for (op, error) in [
        (create("/a", Mode::Persistent), CoordError::NodeExists),
        (create("/", Mode::Persistent), CoordError::NodeExists),
        (create("/b/c", Mode::Persistent), CoordError::NoNode),
        (create("/e/c", Mode::Persistent), CoordError::NoChildrenForEphemerals),
        (create("/a/", Mode::Persistent), CoordError::BadPath(PathProblem::TrailingSlash)),
        (create("/a/../c", Mode::Persistent), CoordError::NoNode),
        (create("/a/..", Mode::Persistent), CoordError::BadPath(PathProblem::DotSegment)),
        (create("/a\0", Mode::Persistent), CoordError::BadPath(PathProblem::Character)),
        (create("/t", Mode::Ttl(0)), Argument::NodeTtl.into()),
        (no_acl, CoordError::InvalidAcl),
    ] {
        assert_eq!(rig.op(1, op.clone()), Err(error), "{op:?}");
    }
    assert_eq!(rig.machine.tree().len(), 3);
}

#[test]
fn sequential_names_come_from_the_parents_own_count() {
    let mut rig = Rig::with_sessions(1);
    rig.create("/q");
    let mut made = |op| match rig.op(1, op) {
        Ok(OpAnswer::Created { path, .. }) => path.as_str().to_owned(),
        Ok(OpAnswer::Deleted) => String::new(),
        other => panic!("{other:?}"),
    };
    assert_eq!(made(sequential("/q/n-", Mode::Persistent)), "/q/n-0000000000");
    assert_eq!(made(create("/q/other", Mode::Persistent)), "/q/other");
    assert_eq!(made(sequential("/q/", Mode::Ephemeral)), "/q/0000000002");
    made(delete("/q/n-0000000000", -1));
    assert_eq!(made(sequential("/q/n-", Mode::Persistent)), "/q/n-0000000003");
    assert_eq!(made(sequential("/q/n-", Mode::Ttl(5))), "/q/n-0000000004");
}

#[test]
fn what_zookeeper_calls_ephemeral_owner_tells_all_lives() {
    let mut rig = Rig::with_sessions(1);
    for (path, mode, owner) in [
        ("/p", Mode::Persistent, 0),
        ("/e", Mode::Ephemeral, 1),
        ("/c", Mode::Container, 0x8000_0000_0000_0000),
        ("/t", Mode::Ttl(5), 0xff00_0000_0000_0005),
        ("/u", Mode::Ttl(MAX_NODE_TTL_MS), 0xff00_00ff_ffff_ffff),
    ] {
        rig.op(1, create(path, mode)).unwrap();
        assert_eq!(rig.stat(path).life.ephemeral_owner(), owner, "{path}");
    }
}

#[test]
fn ephemeral_nodes_go_with_their_session_in_one_entry() {
    let mut rig = Rig::with_sessions(2);
    rig.create("/a");
    rig.op(2, create("/a/mine", Mode::Ephemeral)).unwrap();
    rig.op(2, create("/top", Mode::Ephemeral)).unwrap();
    rig.op(1, create("/a/yours", Mode::Ephemeral)).unwrap();
    assert_eq!(rig.machine.tree().ephemerals(SessionId(2)).count(), 2);
    let output = rig.expire(2);
    assert_eq!(output.ended, [SessionId(2)]);
    assert_eq!(output.changes.len(), 2);
    assert_eq!(rig.machine.tree().children("/a", &[]).unwrap().0.collect::<Vec<_>>(), ["yours"]);
    assert_eq!(rig.stat("/a").pzxid, output.index);
    assert_eq!(rig.stat("/").pzxid, output.index);
    assert_eq!(rig.machine.tree().ephemerals(SessionId(2)).count(), 0);
}

#[test]
fn a_failed_multi_leaves_no_trace_and_names_the_operation() {
    let mut rig = Rig::with_sessions(1);
    rig.create("/a");
    rig.create("/a/b");
    let before = rig.machine.tree().clone();
    let ops = vec![
        sequential("/a/s", Mode::Ephemeral),
        set("/a/b", "changed", 0),
        delete("/a/b", 1),
        create("/a/b", Mode::Container),
        check("/a", 7),
        create("/never", Mode::Persistent),
    ];
    let error = Box::new(CoordError::BadVersion { found: 0 });
    assert_eq!(rig.ask(1, Command::Multi(ops)), Err(CoordError::Multi { at: 4, error }));
    assert!(rig.machine.tree() == &before);
    assert!(rig.last.changes.is_empty());
    assert!(rig.last.duties.iter().all(|duty| !format!("{duty:?}").contains("Node(")));
}

#[test]
fn a_multi_sees_its_own_changes_under_one_zxid() {
    let mut rig = Rig::with_sessions(1);
    let ops = vec![
        create("/a", Mode::Persistent),
        create("/a/b", Mode::Persistent),
        set("/a", "x", 0),
        check("/a", 1),
        delete("/a/b", 0),
        sequential("/a/", Mode::Persistent),
    ];
    let Ok(Answer::Multi(answers)) = rig.ask(1, Command::Multi(ops)) else { panic!("failed") };
    assert_eq!(answers.len(), 6);
    let stat = rig.stat("/a");
    assert_eq!((stat.czxid, stat.mzxid, stat.pzxid, stat.version, stat.cversion), (2, 2, 2, 1, 3));
    assert_eq!(rig.machine.tree().children("/a", &[]).unwrap().0.collect::<Vec<_>>(), ["0000000001"]);
    assert_eq!(rig.ask(1, Command::Multi(vec![])), Ok(Answer::Multi(vec![])));
}

#[test]
fn lists_guard_each_operation() {
    let mut rig = Rig::with_sessions(1);
    rig.identities = vec![Identity::new("digest", "joe:hash")];
    let list = |perms: Perms| {
        Acl::new(vec![
            AclEntry { perms, who: Identity::anyone() },
            AclEntry { perms: Perms::ALL, who: Identity::new("auth", "") },
        ])
    };
    let op = Op::Create {
        path: "/a".into(),
        data: data("s"),
        acl: list(Perms::from_bits(0)),
        mode: Mode::Persistent,
        sequential: false,
    };
    rig.op(1, op).unwrap();
    rig.op(1, create("/a/b", Mode::Persistent)).unwrap();
    let joe = std::mem::take(&mut rig.identities);
    let set_acl = |acl: Acl, version| Op::SetAcl { path: "/a".into(), acl, version };
    for op in [
        set("/a", "", -1),
        check("/a", -1),
        create("/a/c", Mode::Persistent),
        delete("/a/b", -1),
        set_acl(Acl::open(), -1),
    ] {
        assert_eq!(rig.op(1, op.clone()), Err(CoordError::NoAuth), "{op:?}");
    }
    let tree = rig.machine.tree();
    assert_eq!(tree.get("/a", &[]), Err(CoordError::NoAuth));
    assert!(tree.children("/a", &[]).is_err() && tree.acl("/a", &[]).is_err());
    assert!(tree.get("/a", &joe).is_ok() && tree.children("/a", &joe).is_ok());
    // Everybody may know that it is there.
    assert_eq!(tree.stat("/a").unwrap().data_length, 1);
    // `auth` was written out.
    assert_eq!(tree.acl("/a", &joe).unwrap().0.entries()[1].who, Identity::new("digest", "joe:hash"));
    rig.identities = joe;
    assert_eq!(rig.op(1, set_acl(Acl::open(), 3)), Err(CoordError::BadVersion { found: 0 }));
    assert_eq!(rig.op(1, set_acl(Acl::new(vec![]), 0)), Err(CoordError::InvalidAcl));
    let before = rig.stat("/a");
    let Ok(OpAnswer::AclSet(after)) = rig.op(1, set_acl(list(Perms::READ), 0)) else { panic!("not set") };
    assert_eq!(after, Stat { aversion: 1, ..before });
    assert!(rig.machine.tree().get("/a", &[]).is_ok());
}

#[test]
fn a_container_goes_once_it_had_children_and_a_ttl_node_when_nothing_happens() {
    let mut rig = Rig::with_sessions(1);
    rig.op(1, create("/c", Mode::Container)).unwrap();
    rig.op(1, create("/t", Mode::Ttl(50))).unwrap();
    let collect = |rig: &mut Rig, at: &str, stat: Stat| {
        rig.apply(Body::Collect { path: path(at), mzxid: stat.mzxid, pzxid: stat.pzxid });
        rig.machine.tree().stat(at).is_err()
    };
    let never_used = rig.stat("/c");
    assert!(!collect(&mut rig, "/c", never_used));
    rig.create("/c/x");
    rig.create("/t/x");
    let (used, busy) = (rig.stat("/c"), rig.stat("/t"));
    assert!(!collect(&mut rig, "/c", used) && !collect(&mut rig, "/t", busy));
    rig.op(1, delete("/c/x", -1)).unwrap();
    rig.op(1, delete("/t/x", -1)).unwrap();
    let (left, idle) = (rig.stat("/c"), rig.stat("/t"));
    rig.op(1, set("/t", "touched", -1)).unwrap();
    assert!(collect(&mut rig, "/c", left));
    assert!(!collect(&mut rig, "/t", idle));
    let idle = rig.stat("/t");
    assert!(collect(&mut rig, "/t", idle));
    // Not a node that nobody gave a time.
    rig.create("/p");
    let stat = rig.stat("/p");
    assert!(!collect(&mut rig, "/p", stat));
}

#[test]
fn stamps_never_run_backwards() {
    let mut rig = Rig::with_sessions(1);
    rig.create("/a");
    let request = Request {
        session: SessionId(1),
        attachment: 0,
        seq: 1,
        acked_below: 0,
        identities: vec![],
        command: Command::Op(create("/b", Mode::Persistent)),
    };
    let entry = Entry { stamp: WallTime(-5), body: Body::Request(request) }.to_log().unwrap();
    rig.machine.apply(3, &entry);
    rig.twin.apply(3, &entry);
    assert_eq!(rig.stat("/b").ctime, rig.stat("/a").ctime);
}

#[test]
fn what_is_too_large_is_refused_before_the_log() {
    let request = |command| {
        Body::Request(Request {
            session: SessionId(1),
            attachment: 0,
            seq: 0,
            acked_below: 0,
            identities: vec![],
            command,
        })
    };
    let large: Arc<[u8]> = vec![0; MAX_DATA_BYTES + 1].into();
    let op = Op::Set { path: "/a".into(), data: large.clone(), version: 0 };
    for (command, what) in [
        (Command::Op(op.clone()), Bounded::Data),
        (Command::Multi(vec![op]), Bounded::Data),
        (Command::Enqueue { path: "/q".into(), body: large.clone(), max_attempts: 1 }, Bounded::Body),
        (
            Command::Proclaim { path: "/q".into(), token: FencingToken { generation: 0, index: 0 }, value: large },
            Bounded::Value,
        ),
    ] {
        let refused = Entry { stamp: WallTime(0), body: request(command) }.to_log();
        assert!(matches!(&refused, Err(CoordError::TooLarge { what: found, .. }) if *found == what), "{refused:?}");
    }
    let full = Op::Set { path: "/a".into(), data: vec![0; MAX_DATA_BYTES].into(), version: 0 };
    assert!(Entry { stamp: WallTime(0), body: request(Command::Op(full)) }.to_log().is_ok());
    let long = create(&format!("/{}", "x".repeat(3_000)), Mode::Persistent);
    let mut rig = Rig::with_sessions(1);
    assert_eq!(rig.op(1, long), Err(CoordError::BadPath(PathProblem::TooLong)));
}

#[test]
fn descendants_are_counted_by_segments() {
    let mut rig = Rig::with_sessions(1);
    for path in ["/a", "/a-b", "/a/b", "/a/b/c", "/a0", "/b"] {
        rig.create(path);
    }
    let tree = rig.machine.tree();
    assert_eq!([tree.descendants(&path("/a")), tree.descendants(&path("/")), tree.descendants(&path("/b"))], [2, 6, 0]);
}
