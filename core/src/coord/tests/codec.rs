//! Decoders: any bytes, and valid ones with a few changed.

use proptest::prelude::*;

use super::snapshots::{full, sealed};
use super::vectors::entries;
use super::*;
use crate::coord::reply::{decode_reply, encode_reply};
use crate::wire::{Codec, Reader, Writer};

/// Whatever decodes has this spelling and no other.
fn one_spelling(bytes: &[u8]) {
    if let Ok(entry) = Entry::from_bytes(bytes) {
        assert_eq!(entry.to_bytes(), bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn any_bytes_are_an_entry_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0..10u8) {
        one_spelling(&bytes);
        one_spelling(&[&[1, 0, kind], &bytes[..]].concat());
        let mut machine = Machine::new();
        machine.apply(1, &bytes);
        let mut r = Reader::new(&bytes);
        if let Ok(reply) = decode_reply(&mut r) {
            let left = r.remaining();
            let mut w = Writer::new();
            encode_reply(&reply, &mut w);
            assert_eq!(w.finish(), bytes[..bytes.len() - left]);
        }
    }

    #[test]
    fn changed_entries_are_applied_or_not_and_never_break_a_machine(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let all = entries();
        let mut bytes = which.get(&all).1.to_bytes();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        one_spelling(&bytes);
        one_spelling(&bytes[..cut.index(bytes.len())]);
        let mut machine = Machine::new();
        for (at, (_, entry)) in all.iter().enumerate() {
            machine.apply(2 * at as u64 + 1, &bytes);
            machine.apply(2 * at as u64 + 2, &entry.to_bytes());
        }
        let mut twin = Machine::new();
        twin.restore(&machine.snapshot()).unwrap();
        assert!(twin == machine);
    }

    #[test]
    fn changed_snapshots_whose_check_holds_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        thread_local!(static BODY: Vec<u8> = { let mut s = full().machine.snapshot(); s.truncate(s.len() - 32); s });
        let mut body = BODY.with(Clone::clone);
        for (at, value) in changes {
            let at = at.index(body.len());
            body[at] = value;
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len()));
        }
        let snapshot = sealed(body);
        let mut machine = Machine::new();
        if machine.restore(&snapshot).is_ok() {
            assert_eq!(machine.snapshot(), snapshot);
            for id in 1..5 {
                machine.apply(machine.applied() + 1, &Entry {
                    stamp: WallTime(0),
                    body: Body::Expire { session: SessionId(id), renewal: 0 },
                }.to_bytes());
            }
        }
    }

    #[test]
    fn any_bytes_are_a_snapshot_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        assert!(Machine::new().restore(&bytes).is_err());
        let mut body = b"fscoord\0\x01".to_vec();
        body.extend_from_slice(&bytes);
        let _ = Machine::new().restore(&sealed(body));
    }
}

#[test]
fn every_answer_and_error_survives_its_bytes() {
    use crate::coord::error::{Argument, Bounded};
    use crate::coord::path::PathProblem;
    let stat = Rig::new().stat("/");
    let token = FencingToken { generation: 3, index: 4 };
    let multi = CoordError::Multi { at: 3, error: Box::new(CoordError::NoNode) };
    let replies: Vec<Reply> = vec![
        Ok(Answer::Opened { ttl_ms: 1 }),
        Ok(Answer::Attached { attachment: 1, next_seq: 2, ttl_ms: 3 }),
        Ok(Answer::Renewed),
        Ok(Answer::Closed),
        Ok(Answer::Op(OpAnswer::Created { path: path("/a"), stat })),
        Ok(Answer::Multi(vec![OpAnswer::Set(stat), OpAnswer::Deleted, OpAnswer::Checked, OpAnswer::AclSet(stat)])),
        Ok(Answer::Granted(token)),
        Ok(Answer::Queued { ahead: 7 }),
        Ok(Answer::Done),
        Ok(Answer::Enqueued { item: 9 }),
        Ok(Answer::Claimed { item: 9, attempt: 1, token }),
        Ok(Answer::Elided { index: 300 }),
        Err(CoordError::NoNode),
        Err(CoordError::NodeExists),
        Err(CoordError::BadVersion { found: -7 }),
        Err(CoordError::NotEmpty),
        Err(CoordError::NoChildrenForEphemerals),
        Err(CoordError::InvalidAcl),
        Err(CoordError::NoAuth),
        Err(CoordError::BadPath(PathProblem::Root)),
        Err(CoordError::BadArguments { what: Argument::LockDelay }),
        Err(CoordError::SessionExpired),
        Err(CoordError::WrongPassword),
        Err(CoordError::SessionMoved),
        Err(CoordError::OutOfOrder { expected: 5 }),
        Err(CoordError::AnswerForgotten),
        Err(CoordError::TooLarge { what: Bounded::Tokens, max: 5 }),
        Err(CoordError::NotAvailable),
        Err(CoordError::DeadlinePassed),
        Err(CoordError::Cancelled),
        Err(CoordError::NotHeld),
        Err(CoordError::WrongToken { held: token }),
        Err(CoordError::QueueEmpty),
        Err(CoordError::NoItem),
        Err(multi.clone()),
    ];
    for reply in replies {
        let mut w = Writer::new();
        encode_reply(&reply, &mut w);
        let bytes = w.finish();
        let mut r = Reader::new(&bytes);
        assert_eq!(decode_reply(&mut r).unwrap(), reply);
        r.finish().unwrap();
        if let Err(error) = reply {
            assert!(!error.hint().is_empty() && !error.to_string().is_empty());
        }
    }
    // A multi within a multi would let bytes choose the depth of the stack.
    let nested = CoordError::Multi { at: 0, error: Box::new(multi) };
    assert!(CoordError::from_bytes(&nested.to_bytes()).is_err());
}
