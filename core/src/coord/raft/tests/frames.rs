//! The bytes between members: frozen, bounded, and refused by name where they do not fit.

use proptest::prelude::*;

use super::*;
use crate::coord::raft::entry::{LogEntry, Payload};
use crate::coord::raft::message::{self, Body, Header};
use crate::wire::{Codec, DecodeError};

fn header() -> Header {
    Header {
        generation: Generation { number: 1, tag: *b"tagtagta" },
        from: MemberId(1),
        from_store: StoreId(0x1111),
        to: MemberId(2),
        to_store: StoreId(0x2222),
    }
}

fn at(index: u64, term: u64) -> Position {
    Position { index, term }
}

fn bodies() -> Vec<(&'static str, Body)> {
    let change = Change::AddLearner { id: MemberId(4), member: member(4) };
    let entries = vec![
        LogEntry { term: 2, payload: Payload::Data(vec![]) },
        LogEntry { term: 2, payload: Payload::Data(b"set".to_vec()) },
        LogEntry { term: 3, payload: Payload::Change(change) },
        LogEntry { term: 3, payload: Payload::Leave },
    ];
    vec![
        ("append", Body::Append { term: 3, after: at(7, 2), commit: 6, entries }),
        ("accepted", Body::Accepted { term: 3, index: 9, commit: 6 }),
        ("rejected", Body::Rejected { term: 3, index: 9, hint: at(5, 2), commit: 4 }),
        ("vote", Body::Vote { pre: true, transfer: false, term: 4, last: at(9, 3), committed: at(6, 2) }),
        ("vote reply", Body::VoteReply { pre: false, term: 4, reject: true, committed: at(0, 0) }),
        ("heartbeat", Body::Heartbeat { term: 3, commit: 6, round: Some([9; 16]) }),
        ("heartbeat reply", Body::HeartbeatReply { term: 3, commit: 6, round: None }),
        ("timeout now", Body::TimeoutNow { term: 3 }),
        ("read", Body::Read { round: [8; 16] }),
        ("read reply", Body::ReadReply { term: 3, index: 9, round: [8; 16] }),
        ("offer", Body::Offer { term: 3, at: at(9, 3), size: 70_000, hash: [7; 32] }),
        ("want", Body::Want { index: 9, offset: 65_536 }),
        ("chunk", Body::Chunk { index: 9, offset: 65_536, bytes: vec![1, 2, 3] }),
        ("unfit", Body::Unfit { index: 9 }),
        ("gone", Body::Gone),
    ]
}

/// Frames of one version stay readable: what these bytes say must never change.
#[test]
fn frames_are_frozen() {
    let bytes: Vec<String> =
        bodies().iter().map(|(name, body)| format!("{name} {}", hex(&message::encode(&header(), body)))).collect();
    assert_eq!(bytes.join("\n"), include_str!("frames.txt").trim_end());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn frames_survive_the_wire_and_consensus() {
    for (name, body) in bodies() {
        let bytes = message::encode(&header(), &body);
        assert_eq!(message::decode(&bytes), Ok((header(), body.clone())), "{name}");
        if let Some(message) = message::into_raft(&header(), body.clone()) {
            assert_eq!(message::from_raft(message), [body], "{name}");
        }
    }
}

#[test]
fn a_long_append_is_several_frames_that_fit_each_other() {
    let entries: Vec<LogEntry> =
        (0..40).map(|n| LogEntry { term: 3, payload: Payload::Data(vec![n; 30_000]) }).collect();
    let body = Body::Append { term: 3, after: at(7, 2), commit: 6, entries: entries.clone() };
    let frames = message::from_raft(message::into_raft(&header(), body).expect("consensus knows appends"));
    assert!(frames.len() > 3, "{}", frames.len());
    let mut next = at(7, 2);
    let mut all = Vec::new();
    for frame in frames {
        assert!(message::encode(&header(), &frame).len() < message::APPEND_BYTES + 4_096);
        let Body::Append { after, entries, .. } = frame else { panic!("an append") };
        assert_eq!(after, next);
        next = at(after.index + entries.len() as u64, 3);
        all.extend(entries);
    }
    assert_eq!(all, entries);
}

#[test]
fn what_consensus_would_choke_on_does_not_parse() {
    let refused = |body: &Body| message::decode(&message::encode(&header(), body)).expect_err("has to be refused");
    let entry = |term| LogEntry { term, payload: Payload::Leave };
    // A term of 0 matches whatever is not there, so entries would be put behind a gap.
    let gap = Body::Append { term: 3, after: at(7, 0), commit: 0, entries: vec![] };
    assert_eq!(refused(&gap), DecodeError::Invalid { field: "term" });
    let falling = Body::Append { term: 3, after: at(7, 2), commit: 0, entries: vec![entry(3), entry(2)] };
    assert_eq!(refused(&falling), DecodeError::Invalid { field: "entry term" });
    let future = Body::Append { term: 3, after: at(7, 2), commit: 0, entries: vec![entry(4)] };
    assert_eq!(refused(&future), DecodeError::Invalid { field: "entry term" });
    let local = Body::Heartbeat { term: 0, commit: 0, round: None };
    assert_eq!(refused(&local), DecodeError::Invalid { field: "term" });
    let endless = Body::TimeoutNow { term: u64::MAX };
    assert!(matches!(refused(&endless), DecodeError::TooLarge { field: "term", .. }));
    assert!(matches!(message::decode(&vec![1; message::MAX_FRAME_BYTES + 1]), Err(DecodeError::TooLarge { .. })));
}

/// The leader of a settled group of three, the table, and the header its frames to `to` have.
fn settled() -> (Table, u8, u8, Header) {
    let mut table = Table::found(3, config());
    let leader = table.elect();
    table.ticks(3);
    let to = (1..=3).find(|n| *n != leader).expect("there are three");
    let id = |table: &mut Table, n: u8| table.at(n).group.identity().id.expect("a founder has one");
    let header = Header {
        generation: table.at(leader).group.identity().generation,
        from: id(&mut table, leader),
        from_store: member(leader).store,
        to: id(&mut table, to),
        to_store: member(to).store,
    };
    (table, leader, to, header)
}

#[test]
fn frames_that_do_not_belong_are_refused_by_name() {
    let (mut table, leader, to, header) = settled();
    let from = member(leader).peer;
    let term = table.at(leader).group.role().term;
    let beat = Body::Heartbeat { term, commit: 1, round: None };
    let mut say =
        |from: PeerId, header: &Header, body: &Body| table.at(to).group.message(from, &message::encode(header, body));
    assert_eq!(say(from, &header, &beat), Ok(()));
    assert_eq!(say(member(9).peer, &header, &beat), Err(Refused::Impostor));
    let other = Header { from_store: StoreId(5), ..header };
    assert_eq!(say(from, &other, &beat), Err(Refused::Impostor));
    let other = Header { to_store: StoreId(5), ..header };
    assert_eq!(say(from, &other, &beat), Err(Refused::Recipient));
    let other = Header { generation: Generation { number: 2, ..header.generation }, ..header };
    assert_eq!(say(from, &other, &beat), Err(Refused::Generation { theirs: 2, ours: 1 }));
    let beyond = Body::Heartbeat { term, commit: 1_000, round: None };
    assert!(matches!(say(from, &header, &beyond), Err(Refused::BeyondLog { index: 1_000, .. })));
    let early = Body::TimeoutNow { term: term + 1 };
    assert_eq!(say(from, &header, &early), Err(Refused::NotLeader));
    assert!(matches!(table.at(to).group.message(from, b"\x01nonsense"), Err(Refused::Malformed(_))));
    let counters = table.at(to).group.counters();
    assert_eq!((counters.malformed, counters.refused), (1, 6));
    table.ticks(30);
    assert_eq!(table.leader(), Some(leader), "nobody was disturbed");
}

#[test]
fn a_second_leader_of_a_term_is_refused() {
    let (mut table, leader, to, header) = settled();
    let third = (1..=3).find(|n| *n != leader && *n != to).expect("there are three");
    let term = table.at(leader).group.role().term;
    let id = table.at(third).group.identity().id.expect("a founder has one");
    let header = Header { from: id, from_store: member(third).store, ..header };
    let beat = Body::Heartbeat { term, commit: 1, round: None };
    let result = table.at(to).group.message(member(third).peer, &message::encode(&header, &beat));
    assert_eq!(result, Err(Refused::SecondLeader));
}

fn any_position() -> impl Strategy<Value = Position> {
    prop_oneof![Just(at(0, 0)), (1u64..40, 1u64..8).prop_map(|(index, term)| at(index, term))]
}

fn any_payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Payload::Data),
        (1u64..9).prop_map(|id| Payload::Change(Change::Promote { id: MemberId(id) })),
        Just(Payload::Leave),
    ]
}

fn any_body() -> impl Strategy<Value = Body> {
    let term = 1u64..8;
    let index = 0u64..40;
    let round = proptest::option::of(any::<[u8; 16]>());
    prop_oneof![
        (term.clone(), any_position(), index.clone(), proptest::collection::vec(any_payload(), 0..5)).prop_map(
            |(term, after, commit, payloads)| {
                let term = term.max(after.term);
                let entries = payloads.into_iter().map(|payload| LogEntry { term, payload }).collect();
                Body::Append { term, after, commit, entries }
            }
        ),
        (term.clone(), index.clone(), index.clone()).prop_map(|(term, index, commit)| Body::Accepted {
            term,
            index,
            commit
        }),
        (term.clone(), 1u64..40, any_position(), index.clone()).prop_map(|(term, index, hint, commit)| {
            let hint = if hint.index > index { at(0, 0) } else { hint };
            Body::Rejected { term, index, hint, commit }
        }),
        (any::<bool>(), any::<bool>(), term.clone(), any_position(), any_position())
            .prop_map(|(pre, transfer, term, last, committed)| Body::Vote { pre, transfer, term, last, committed }),
        (any::<bool>(), term.clone(), any::<bool>(), any_position())
            .prop_map(|(pre, term, reject, committed)| Body::VoteReply { pre, term, reject, committed }),
        (term.clone(), index.clone(), round.clone()).prop_map(|(term, commit, round)| Body::Heartbeat {
            term,
            commit,
            round
        }),
        (term.clone(), index.clone(), round).prop_map(|(term, commit, round)| Body::HeartbeatReply {
            term,
            commit,
            round
        }),
        term.clone().prop_map(|term| Body::TimeoutNow { term }),
        any::<[u8; 16]>().prop_map(|round| Body::Read { round }),
        (term.clone(), index.clone(), any::<[u8; 16]>()).prop_map(|(term, index, round)| Body::ReadReply {
            term,
            index,
            round
        }),
        (term, any_position(), 1u64..300, any::<[u8; 32]>()).prop_map(|(term, at, size, hash)| Body::Offer {
            term,
            at,
            size,
            hash
        }),
        (index.clone(), 0u64..300).prop_map(|(index, offset)| Body::Want { index, offset }),
        (index.clone(), 0u64..300, proptest::collection::vec(any::<u8>(), 0..300))
            .prop_map(|(index, offset, bytes)| Body::Chunk { index, offset, bytes }),
        index.prop_map(|index| Body::Unfit { index }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_body_has_one_spelling(body in any_body()) {
        let bytes = message::encode(&header(), &body);
        prop_assert_eq!(message::decode(&bytes), Ok((header(), body)));
    }

    /// A member that lies within the format cannot make another one panic, whatever it says and in whatever order.
    #[test]
    fn lies_of_a_member_never_panic(lies in proptest::collection::vec((any_body(), any::<bool>()), 1..40)) {
        let (mut table, leader, to, header) = settled();
        for (body, ticks) in lies {
            let _ = table.at(to).group.message(member(leader).peer, &message::encode(&header, &body));
            // The liar's victim goes on as it would: it writes, answers and lets time pass.
            table.pump(member(to).peer);
            if ticks {
                table.at(to).group.tick();
            }
            table.pump(member(to).peer);
        }
    }

    /// The same to a leader.
    #[test]
    fn lies_to_a_leader_never_panic(lies in proptest::collection::vec(any_body(), 1..40)) {
        let (mut table, leader, to, header) = settled();
        let header = Header {
            from: header.to, from_store: header.to_store, to: header.from, to_store: header.from_store, ..header
        };
        for body in lies {
            let _ = table.at(leader).group.message(member(to).peer, &message::encode(&header, &body));
            table.at(leader).group.tick();
            table.pump(member(leader).peer);
        }
    }

    #[test]
    fn damaged_frames_never_panic(body in any_body(), at in any::<proptest::sample::Index>(), byte: u8, cut: bool) {
        let mut bytes = message::encode(&header(), &body);
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        if let Ok((header, body)) = message::decode(&bytes) {
            prop_assert_eq!(message::encode(&header, &body), bytes, "two spellings");
        }
    }

    #[test]
    fn random_membership_bytes_never_panic(bytes: Vec<u8>) {
        let _ = Membership::from_bytes(&bytes);
        let _ = rows::Snapshot::parse(&bytes);
    }
}
