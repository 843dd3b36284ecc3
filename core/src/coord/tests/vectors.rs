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
        ("open", open(1, 10_000)),
        ("attach", Body::Attach { session, password: PASSWORD, nonce: 9 }),
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

const ENTRIES: &str = "
    open 0180b083c5986800010000000000000007070707070707070707070707070707904e026d65
    attach 0180b083c59868010100000000000000070707070707070707070707070707070900000000000000
    renew 0180b083c59868020100000000000000
    expire 0180b083c5986804010000000000000005
    collect 0180b083c5986805022f6105ac02
    timeout 0180b083c598680600022f61010000000000000006
    end delay 0180b083c598680701022f61ac02
    redeliver 0180b083c5986808022f6107ac02
    generation 0180b083c598680902
    create 0180b083c5986803010000000000000001000001026970033a3a310100052f612f6e2d00000101
    multi 0180b083c5986803010000000000000001010001026970033a3a31020500042f612f620178000003ac0201042f612f6201790202042f612f620103042f612f620404042f612f620101010269700a31302e302e302e302f3800
    acquire 0180b083c5986803010000000000000001020101026970033a3a310301042f612f620002ac0209026d65
    release 0180b083c5986803010000000000000001030101026970033a3a310400042f612f6201ac02
    cancel 0180b083c5986803010000000000000001040201026970033a3a310502
    proclaim 0180b083c5986803010000000000000001050201026970033a3a3106042f612f6201ac020176
    enqueue 0180b083c5986803010000000000000001060301026970033a3a3107042f612f6204776f726b03
    claim 0180b083c5986803010000000000000001070301026970033a3a3108042f612f62ac02
    ack 0180b083c5986803010000000000000001080401026970033a3a3109042f612f620701ac02
    nack 0180b083c5986803010000000000000001090401026970033a3a310a042f612f620701ac02
    revive 0180b083c59868030100000000000000010a0501026970033a3a310b042f612f6207
    discard 0180b083c59868030100000000000000010b0501026970033a3a310c042f612f6207
    close 0180b083c59868030100000000000000010c0601026970033a3a3100
";

const SNAPSHOT: &str = "
    6673636f6f7264000116fc0f0001040000000000000003010000000000000007070707070707070707070707070707026d65904e0a000a
    090109000913020000000000000007070707070707070707070707070707026d65904e030003020102000a120100160300000000000000
    07070707070707070707070707070707026d65904e0100010001000006000b06012f0000000000080000000004022f61000000050509da
    0fda0f000006042f612f62046461746101010106646967657374086a6f653a6861736800060606dc0fdc0f000000042f612f6500000102
    00000000000000070707de0fde0f0000000f2f612f742d303030303030303030320000038827090909e20fe20f000000022f6300000208
    0808e00fe00f0000000300022f640000011584070000022f6c0103000000000000000000000b0064020100000000000000050101090000
    020000000000000001000000000001022f6501010000000000000006000010026d6500000001022f71031104646561640101021207636c
    61696d65640103010200000000000000001632130572656164790002007680534096e58250080fd9d9139bde562fcbefd96bbcd33d2055
    dabe0a23fdce
";
