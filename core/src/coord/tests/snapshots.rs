//! Snapshots: what is taken back is what was written, and nothing else is taken.

use super::*;
use crate::coord::acl::{AclEntry, Perms};
use crate::coord::snapshot::SNAPSHOT_VERSION;
use crate::wire::DecodeError;

/// Something of everything.
pub(super) fn full() -> Rig {
    let mut rig = Rig::with_sessions(4);
    rig.identities = vec![Identity::new("digest", "joe:hash")];
    let acl = Acl::new(vec![AclEntry { perms: Perms::READ, who: Identity::new("auth", "") }]);
    rig.create("/a");
    rig.op(1, Op::Create { path: "/a/b".into(), data: data("data"), acl, mode: Mode::Persistent, sequential: false })
        .unwrap();
    rig.op(2, create("/a/e", Mode::Ephemeral)).unwrap();
    rig.op(1, create("/c", Mode::Container)).unwrap();
    rig.op(1, sequential("/a/t-", Mode::Ttl(5_000))).unwrap();
    rig.op(1, delete("/nothing", -1)).unwrap_err();
    rig.ask(3, acquire(Kind::Lock, "/l", Share::Exclusive, Wait::Forever, 100)).unwrap();
    rig.ask(1, acquire(Kind::Lock, "/l", Share::Shared, Wait::Deadline(9), 0)).unwrap();
    rig.ask(2, acquire(Kind::Lock, "/l", Share::Exclusive, Wait::Forever, 0)).unwrap();
    rig.ask(4, acquire(Kind::Lock, "/s", Share::Shared, Wait::Forever, 0)).unwrap();
    rig.ask(4, acquire(Kind::Lock, "/d", Share::Exclusive, Wait::Forever, 900)).unwrap();
    let value = data("me");
    let (kind, share, wait) = (Kind::Election, Share::Exclusive, Wait::Forever);
    rig.ask(1, Command::Acquire { kind, path: "/e".into(), share, wait, delay_ms: 0, value }).unwrap();
    for (body, max_attempts) in [("dead", 1), ("claimed", 3), ("ready", 2)] {
        rig.ask(1, Command::Enqueue { path: "/q".into(), body: data(body), max_attempts }).unwrap();
    }
    rig.ask(4, Command::Claim { path: "/q".into(), visibility_ms: 50 }).unwrap();
    rig.expire(4);
    rig.ask(2, Command::Claim { path: "/q".into(), visibility_ms: 50 }).unwrap();
    rig
}

#[test]
fn a_restored_machine_is_the_same_and_goes_on_the_same() {
    let mut rig = full();
    let kept = rig.machine.duties().collect::<Vec<_>>();
    rig.restore_twin();
    assert_eq!(rig.twin.duties().collect::<Vec<_>>(), kept);
    assert_eq!(rig.twin.tree().bytes(), rig.machine.tree().bytes());
    rig.expire(2);
    rig.expire(3);
    rig.create("/z");
}

#[test]
fn every_damaged_or_cut_snapshot_is_refused_and_nothing_has_changed() {
    let rig = full();
    let snapshot = rig.machine.snapshot();
    let mut machine = rig.machine.clone();
    for at in 0..snapshot.len() {
        let mut damaged = snapshot.clone();
        damaged[at] ^= 0x10;
        assert!(machine.restore(&damaged).is_err(), "byte {at}");
        assert!(machine.restore(&snapshot[..at]).is_err(), "cut at {at}");
    }
    assert!(machine == rig.machine);
    assert_eq!(machine.restore(&[]), Err(SnapshotError::Malformed(DecodeError::Invalid { field: "magic" })));
}

#[test]
fn a_newer_snapshot_says_so() {
    let mut snapshot = Machine::new().snapshot();
    snapshot[8] = SNAPSHOT_VERSION as u8 + 1;
    let newer = SnapshotError::Newer { found: SNAPSHOT_VERSION + 1, known: SNAPSHOT_VERSION };
    assert_eq!(Machine::new().restore(&snapshot), Err(newer));
}

/// A snapshot whose check holds, so that its content is judged.
pub(super) fn sealed(mut body: Vec<u8>) -> Vec<u8> {
    let check = blake3::hash(&body);
    body.extend_from_slice(check.as_bytes());
    body
}

#[test]
fn what_cannot_have_come_about_is_refused_though_its_check_holds() {
    let rig = full();
    let snapshot = rig.machine.snapshot();
    let body = &snapshot[..snapshot.len() - 32];
    let mut refused = 0;
    for at in 0..body.len() {
        for flip in [0x01, 0x80] {
            let mut changed = body.to_vec();
            changed[at] ^= flip;
            let mut machine = Machine::new();
            match machine.restore(&sealed(changed.clone())) {
                // What is taken is spelled in the one way there is.
                Ok(()) => assert_eq!(machine.snapshot(), sealed(changed), "byte {at}"),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > body.len() / 4, "{refused} of {}", 2 * body.len());
}
