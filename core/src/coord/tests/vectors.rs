//! Frozen bytes: what this version writes is read and understood by every later one.

use super::snapshots::full;
use super::*;
use crate::coord::acl::{AclEntry, Perms};
use crate::wire::Codec;

/// One entry of each kind, by name.
pub(super) fn entries() -> Vec<(&'static str, Entry)> {
    let session = SessionId(1);
    let token = FencingToken { generation: 1, index: 300 };
    let at = || "/a/b".to_owned();
    let acl = Acl::new(vec![AclEntry { perms: Perms::READ, who: Identity::new("ip", "10.0.0.0/8") }]);
    let ops = vec![
        Op::Create { path: at(), data: data("x"), acl: Acl::open(), mode: Mode::Ttl(300), sequential: false },
        set("/a/b", "y", 1),
        delete("/a/b", -1),
        check("/a/b", 2),
        Op::SetAcl { path: at(), acl, version: 0 },
    ];
    let (kind, share, delay_ms, value) = (Kind::Election, Share::Exclusive, 9, data("me"));
    let bodies = vec![
        ("open", Body::Open { session, password: PASSWORD, ttl_ms: 10_000 }),
        ("attach", Body::Attach { session, password: PASSWORD }),
        ("renew", Body::Renew { session }),
        ("expire", Body::Expire { session, renewal: 5 }),
        ("collect", Body::Collect { path: path("/a"), mzxid: 5, pzxid: 300 }),
        ("timeout", Body::Timeout { kind: Kind::Lock, path: path("/a"), session, seq: 6 }),
        ("end delay", Body::EndDelay { kind, path: path("/a"), since: 300 }),
        ("redeliver", Body::Redeliver { path: path("/a"), item: 7, claim: 300 }),
        ("generation", Body::Generation { generation: 2 }),
    ];
    let commands = vec![
        ("create", Command::Op(sequential("/a/n-", Mode::Ephemeral))),
        ("multi", Command::Multi(ops)),
        ("acquire", Command::Acquire { kind, path: at(), share, wait: Wait::Deadline(300), delay_ms, value }),
        ("release", Command::Release { kind: Kind::Lock, path: at(), token }),
        ("cancel", Command::Cancel { seq: 2 }),
        ("proclaim", Command::Proclaim { path: at(), token, value: data("v") }),
        ("enqueue", Command::Enqueue { path: at(), body: data("work"), max_attempts: 3 }),
        ("claim", Command::Claim { path: at(), visibility_ms: 300 }),
        ("ack", Command::Ack { path: at(), item: 7, token }),
        ("nack", Command::Nack { path: at(), item: 7, token }),
        ("revive", Command::Revive { path: at(), item: 7 }),
        ("discard", Command::Discard { path: at(), item: 7 }),
        ("close", Command::Close),
    ];
    let identities = vec![Identity::new("ip", "::1")];
    let requests = commands.into_iter().enumerate().map(|(seq, (name, command))| {
        let request = Request {
            session,
            attachment: 1,
            seq: seq as u64,
            acked_below: seq as u64 / 2,
            identities: identities.clone(),
            command,
        };
        (name, Body::Request(request))
    });
    let stamp = WallTime(1_790_000_000_000);
    bodies.into_iter().chain(requests).map(|(name, body)| (name, Entry { stamp, body })).collect()
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn entries_are_written_as_ever() {
    let entries = entries();
    let written: Vec<_> = entries.iter().map(|(name, entry)| format!("{name} {}", text(&entry.to_bytes()))).collect();
    let frozen: Vec<_> = ENTRIES.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(written, frozen);
    for (_, entry) in entries {
        assert_eq!(Entry::from_bytes(&entry.to_log().unwrap()).unwrap(), entry);
    }
}

#[test]
fn a_snapshot_is_written_as_ever_and_still_read() {
    let rig = full();
    let frozen: String = SNAPSHOT.split_whitespace().collect();
    let written = text(&rig.machine.snapshot());
    assert_eq!(written, frozen);
    let bytes: Vec<u8> =
        frozen.as_bytes().chunks(2).map(|b| u8::from_str_radix(std::str::from_utf8(b).unwrap(), 16).unwrap()).collect();
    let mut machine = Machine::new();
    machine.restore(&bytes).unwrap();
    assert!(machine == rig.machine);
}

const ENTRIES: &str = "";

const SNAPSHOT: &str = "";
