//! Frames: written as ever, read back, and any bytes are a frame or an error.

use proptest::prelude::*;

use super::*;
use crate::coord::acl::AclEntry;
use crate::coord::command::Body;
use crate::coord::error::CoordError;
use crate::coord::serve::client::{Client, Options};
use crate::coord::serve::talk::{Ask, Frame, Holding, Leading, Pass, Passed, Refusal, Standing, Subject, Tell};
use crate::coord::session::SessionId;
use crate::coord::stat::Life;
use crate::id::PeerId;
use crate::wire::Codec;

const SESSION: SessionId = SessionId(0x0102_0304_0506_0708);
const PASSWORD: [u8; 16] = [7; 16];
const TOKEN: FencingToken = FencingToken { generation: 1, index: 300 };

fn stat() -> Stat {
    Stat {
        czxid: 5,
        mzxid: 300,
        pzxid: 6,
        ctime: 1_000,
        mtime: 2_000,
        version: 1,
        cversion: 2,
        aversion: 0,
        life: Life::Persistent,
        data_length: 2,
        num_children: 1,
    }
}

fn asks() -> Vec<Ask> {
    let read = |query| Ask::Read { id: 3, after: 4, linear: true, query, watch: true };
    let at = || "/a".to_owned();
    vec![
        Ask::Open { nonce: 1, ttl_ms: 10_000 },
        Ask::Attach { nonce: 2, session: SESSION, password: PASSWORD, seen: 300 },
        Ask::Call { seq: 5, acked_below: 4, command: Command::Cancel { seq: 3 } },
        read(Query::Nothing),
        read(Query::Data(at())),
        read(Query::Exists(at())),
        read(Query::Children(at())),
        read(Query::Acl(at())),
        read(Query::Leader(at())),
        read(Query::Lock(at())),
        read(Query::Queue(at())),
        read(Query::Item(at(), 7)),
        read(Query::Many(vec![Query::Nothing, Query::Data(at())])),
        read(Query::Standing(9)),
        Ask::Watch { id: 6, watch: Watch::Recursive, path: at() },
        Ask::Unwatch { id: 7, watch: Watch::Data, path: at() },
        Ask::Rearm { seen: 300, watches: vec![(Watch::Children, path("/a")), (Watch::Queue, path("/b"))] },
        Ask::Authenticate { id: 8, scheme: "digest".into(), secret: b"joe:x".to_vec() },
        Ask::Ping { n: 300 },
        read(Query::Watches(at())),
        read(Query::Ephemerals(at())),
        read(Query::Descendants(at())),
    ]
}

fn tells() -> Vec<Tell> {
    let read = |found| Tell::Read { id: 3, zxid: 300, found };
    let ok = |found| read(Ok(found));
    let leading = Leading { session: SESSION, owner: bytes("who"), token: TOKEN, value: bytes("me") };
    let holding = Holding { session: SESSION, owner: bytes("who"), share: Share::Shared, token: TOKEN };
    let who = crate::coord::acl::Identity::anyone();
    let acl = Acl::new(vec![AclEntry { perms: crate::coord::acl::Perms::READ, who }]);
    let refused = |of, why| Tell::Refused { of, why };
    vec![
        Tell::Opened { nonce: 1, session: SESSION, password: PASSWORD, ttl_ms: 10_000, zxid: 300 },
        Tell::Attached { nonce: 2, next_seq: 5, ttl_ms: 10_000, zxid: 300 },
        Tell::Failed { nonce: 3, error: CoordError::WrongPassword },
        Tell::Lost,
        Tell::Moved,
        Tell::Reply { seq: 4, zxid: 300, reply: Ok(Answer::Granted(TOKEN)) },
        Tell::Reply { seq: 5, zxid: 300, reply: Err(CoordError::NoNode) },
        ok(Found::Nothing),
        ok(Found::Data(bytes("xy"), stat())),
        ok(Found::Exists(stat())),
        ok(Found::Children(vec!["b".into(), "c".into()], stat())),
        ok(Found::Acl(acl, stat())),
        ok(Found::Leader(Some(leading))),
        ok(Found::Leader(None)),
        ok(Found::Lock(vec![holding], 2)),
        ok(Found::Queue { ready: 1, claimed: 2, dead: vec![3, 300] }),
        ok(Found::Item(bytes("work"), 2)),
        ok(Found::Many(vec![Ok(Found::Nothing), Err(CoordError::NoAuth)])),
        ok(Found::Standing(Standing::Holds(TOKEN))),
        ok(Found::Standing(Standing::Waits)),
        ok(Found::Standing(Standing::Over)),
        read(Err(CoordError::NoNode)),
        refused(Subject::Entry(1), Refusal::Busy),
        refused(Subject::Call(2), Refusal::NoSession),
        refused(Subject::Read(3), Refusal::NoQuorum),
        refused(Subject::Read(4), Refusal::Scheme),
        refused(Subject::Ping(5), Refusal::NotServing),
        refused(Subject::Rearm, Refusal::TooLarge),
        Tell::Event { zxid: 300, kind: EventKind::Resync, path: path("/a") },
        Tell::Pong { n: 300, zxid: 301 },
        Tell::Status { led: true, voters: vec![PeerId([1; 32])] },
        Tell::Skipped,
        ok(Found::Watches(vec![Watch::Data, Watch::Recursive])),
        ok(Found::Paths(vec!["/a/b".into(), "/a/c".into()])),
        ok(Found::Count(300)),
    ]
}

fn frames() -> Vec<Frame> {
    let mut frames = vec![
        Frame::Raft(vec![1, 2, 3]),
        Frame::Pass(Pass::Propose(Body::Renew { session: SESSION })),
        Frame::Pass(Pass::Touch { round: 300, sessions: vec![SESSION] }),
        Frame::Passed(Passed::Again),
        Frame::Passed(Passed::Touched { round: 300, index: 301, renewed: vec![SESSION] }),
    ];
    frames.extend(asks().into_iter().map(|ask| Frame::Ask(300, ask)));
    frames.extend(tells().into_iter().map(|tell| Frame::Tell(300, tell)));
    frames
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_kind_of_frame_is_written_as_ever_and_read_back() {
    let written: Vec<String> = frames().iter().map(|frame| text(&frame.to_bytes())).collect();
    for frame in frames() {
        assert_eq!(Frame::parse(&frame.to_bytes()), Ok(frame));
    }
    let frozen: Vec<&str> = FROZEN.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(written, frozen, "\n{}\n", written.join("\n"));
}

#[test]
fn a_frame_that_is_too_long_is_not_looked_at() {
    let long = vec![0; crate::coord::serve::talk::MAX_FRAME_BYTES + 1];
    assert!(Frame::parse(&long).is_err());
}

/// A client of a voter that is broken or hostile.
fn client_hears(bytes: &[u8]) {
    let voter = PeerId([1; 32]);
    let mut client = Client::new(Options { ttl_ms: 5_000, channel: 300 }, [voter], [1; 32], 0);
    client.linked(0, voter);
    let mut nonce = 0;
    while let Some(output) = client.poll() {
        if let Output::Send { bytes, .. } = output
            && let Ok(Frame::Ask(_, Ask::Open { nonce: own, .. })) = Frame::parse(&bytes)
        {
            nonce = own;
        }
    }
    let _ = client.frame(1, voter, bytes);
    let opened = Tell::Opened { nonce, session: SESSION, password: PASSWORD, ttl_ms: 5_000, zxid: 3 };
    client.frame(2, voter, &Frame::Tell(300, opened).to_bytes()).expect("a frame");
    let _ = client.call(2, acquire("/l", Share::Exclusive, Wait::Forever, 0));
    let _ = client.frame(3, voter, bytes);
    client.tick(2_000);
    let _ = client.frame(2_001, voter, bytes);
    while client.poll().is_some() {}
}

/// Whatever decodes has this spelling and no other.
fn one_spelling(bytes: &[u8]) {
    if let Ok(frame) = Frame::parse(bytes) {
        assert_eq!(frame.to_bytes(), bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes_are_a_frame_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0..5u8, sort in 0..12u8) {
        one_spelling(&bytes);
        one_spelling(&[&[kind, 0, sort], &bytes[..]].concat());
        one_spelling(&[&[kind, sort], &bytes[..]].concat());
    }

    #[test]
    fn changed_frames_break_neither_clients_nor_voters(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = which.get(&frames()).to_bytes();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        one_spelling(&bytes);
        one_spelling(&bytes[..cut.index(bytes.len())]);
        client_hears(&bytes);
        super::bounds::voter_hears(&bytes);
    }
}

const FROZEN: &str = "
    00010203
    0300020807060504030201
    0301ac02010807060504030201
    0400
    0401ac02ad02010807060504030201
    01ac02000100000000000000904e
    01ac02010200000000000000080706050403020107070707070707070707070707070707ac02
    01ac020205040503
    01ac02030304010100
    01ac02030304010101022f61
    01ac02030304010102022f61
    01ac02030304010103022f61
    01ac02030304010104022f61
    01ac02030304010105022f61
    01ac02030304010106022f61
    01ac02030304010107022f61
    01ac02030304010108022f6107
    01ac02030304010109020001022f61
    01ac0203030401010a09
    01ac02040604022f61
    01ac02050700022f61
    01ac0206ac020202022f6106022f62
    01ac02070806646967657374056a6f653a78
    01ac0208ac02
    01ac0203030401010b022f61
    01ac0203030401010c022f61
    01ac0203030401010d022f61
    02ac02000100000000000000080706050403020107070707070707070707070707070707904eac02
    02ac0201020000000000000005904eac02
    02ac020203000000000000000a
    02ac0203
    02ac0204
    02ac020504ac02000601ac02
    02ac020505ac020100
    02ac020603ac020000
    02ac020603ac02000102787905ac0206d00fa01f020400000201
    02ac020603ac02000205ac0206d00fa01f020400000201
    02ac020603ac020003020162016305ac0206d00fa01f020400000201
    02ac020603ac02000401010105776f726c6406616e796f6e6505ac0206d00fa01f020400000201
    02ac020603ac0200050108070605040302010377686f01ac02026d65
    02ac020603ac02000500
    02ac020603ac0200060108070605040302010377686f01ac020102
    02ac020603ac02000701020203ac02
    02ac020603ac02000804776f726b02
    02ac020603ac0200090200000106
    02ac020603ac02000a0001ac02
    02ac020603ac02000a01
    02ac020603ac02000a02
    02ac020603ac020100
    02ac0207000101
    02ac0207010202
    02ac0207020300
    02ac0207020404
    02ac0207030505
    02ac0207040003
    02ac0208ac0206022f61
    02ac0209ac02ad02
    02ac020a01010101010101010101010101010101010101010101010101010101010101010101
    02ac020b
    02ac020603ac02000b020004
    02ac020603ac02000c02042f612f62042f612f63
    02ac020603ac02000dac02
";
