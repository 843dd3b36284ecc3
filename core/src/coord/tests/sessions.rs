//! Sessions, and requests that are done exactly once and in order.

use super::*;
use crate::coord::error::{Argument, Bounded};
use crate::coord::session::{ENDED_REMEMBERED, MAX_IN_FLIGHT, MAX_TTL_MS, MIN_TTL_MS};

fn attach(session: u64, password: [u8; PASSWORD_LEN]) -> Body {
    Body::Attach { session: SessionId(session), password, nonce: 9 }
}

fn moved(session: u64, attachment: u64, seq: u64, command: Command) -> Body {
    let session = SessionId(session);
    Body::Request(Request { session, attachment, seq, acked_below: 0, identities: vec![], command })
}

#[test]
fn a_ttl_is_brought_within_bounds() {
    let mut rig = Rig::new();
    for (id, asked, given) in [(1, 0, MIN_TTL_MS), (2, u64::MAX, MAX_TTL_MS), (3, 5_000, 5_000)] {
        assert_eq!(rig.apply(open(id, asked)).reply, Some(Ok(Answer::Opened { ttl_ms: given })));
    }
}

#[test]
fn ids_that_mark_other_nodes_are_refused() {
    let mut rig = Rig::new();
    for id in [0, 0xff << 56, 0x80 << 56, u64::MAX] {
        assert_eq!(rig.apply(open(id, 5_000)).reply, Some(Err(Argument::SessionId.into())), "{id:x}");
    }
}

#[test]
fn opening_twice_is_opening_once_and_an_ended_session_is_not_opened_again() {
    let mut rig = Rig::with_sessions(1);
    let before = rig.machine.sessions().find(SessionId(1)).unwrap().clone();
    assert_eq!(rig.apply(open(1, 10_000)).reply, Some(Ok(Answer::Opened { ttl_ms: 10_000 })));
    assert!(*rig.machine.sessions().find(SessionId(1)).unwrap() == before);
    let other = Body::Open { session: SessionId(1), password: [0; 16], ttl_ms: 10_000, owner: data("you") };
    assert_eq!(rig.apply(other).reply, Some(Err(CoordError::WrongPassword)));
    assert_eq!(rig.machine.sessions().find(SessionId(1)).unwrap().owner(), b"me");
    assert_eq!(rig.ask(1, Command::Close), Ok(Answer::Closed));
    assert_eq!(rig.apply(open(1, 10_000)).reply, Some(Err(CoordError::SessionExpired)));
    assert_eq!(rig.request(1, 1, 0, Command::Close), Err(CoordError::SessionExpired));
}

#[test]
fn only_so_many_ended_sessions_are_remembered() {
    let mut rig = Rig::new();
    for id in 1..=ENDED_REMEMBERED as u64 + 1 {
        rig.apply(open(id, 5_000));
        rig.expire(id);
    }
    assert_eq!(rig.machine.sessions().ended.len(), ENDED_REMEMBERED);
    assert!(rig.apply(open(1, 5_000)).reply.unwrap().is_ok());
    assert!(rig.apply(open(2, 5_000)).reply.unwrap().is_err());
}

#[test]
fn an_expiry_that_a_renewal_overtook_has_no_effect() {
    let mut rig = Rig::with_sessions(1);
    let renewal = rig.machine.sessions().find(SessionId(1)).unwrap().renewal();
    let expire = Body::Expire { session: SessionId(1), renewal };
    for renews in [
        Body::Renew { session: SessionId(1) },
        attach(1, PASSWORD),
        moved(1, 1, 0, Command::Op(check("/", -1))),
        moved(1, 1, 0, Command::Op(check("/", -1))),
    ] {
        assert!(rig.apply(renews.clone()).reply.unwrap().is_ok(), "{renews:?}");
        assert!(rig.apply(expire.clone()).ended.is_empty(), "{renews:?}");
    }
    assert_eq!(rig.expire(1).ended, [SessionId(1)]);
    assert_eq!(rig.apply(Body::Renew { session: SessionId(1) }).reply, Some(Err(CoordError::SessionExpired)));
    assert!(rig.apply(expire).ended.is_empty());
}

#[test]
fn a_retry_gets_the_first_answer_and_changes_nothing() {
    let mut rig = Rig::with_sessions(1);
    let commands = [
        Command::Op(sequential("/n", Mode::Persistent)),
        Command::Op(delete("/missing", -1)),
        Command::Op(set("/", "x", 0)),
    ];
    for (seq, command) in commands.into_iter().enumerate() {
        let first = rig.request(1, seq as u64, 0, command.clone());
        let tree = rig.machine.tree().clone();
        assert_eq!(rig.request(1, seq as u64, 0, command.clone()), first);
        rig.restore_twin();
        assert_eq!(rig.request(1, seq as u64, 0, command), first);
        assert!(rig.machine.tree() == &tree);
    }
    assert_eq!(rig.machine.tree().len(), 2);
}

#[test]
fn requests_are_done_in_order_and_none_is_skipped() {
    let mut rig = Rig::with_sessions(1);
    let make = |name: &str| Command::Op(create(name, Mode::Persistent));
    assert_eq!(rig.request(1, 1, 0, make("/b")), Err(CoordError::OutOfOrder { expected: 0 }));
    assert!(rig.request(1, 0, 0, make("/a")).is_ok());
    assert!(rig.request(1, 1, 0, make("/b")).is_ok());
    // An acknowledgement drops answers, and says so to who asks again.
    assert!(rig.request(1, 2, 2, make("/c")).is_ok());
    assert_eq!(rig.request(1, 1, 0, make("/b")), Err(CoordError::AnswerForgotten));
    assert_eq!(rig.request(1, 2, 3, make("/c")), Err(Argument::Acknowledged.into()));
    let session = rig.machine.sessions().find(SessionId(1)).unwrap();
    assert_eq!((session.next_seq(), session.replies.len()), (3, 1));
}

#[test]
fn a_request_that_was_given_up_is_done_or_what_took_its_place_is() {
    let mut rig = Rig::with_sessions(1);
    let made = rig.request(1, 0, 0, Command::Op(create("/instead", Mode::Persistent)));
    // The lost one arrives after all.
    assert_eq!(rig.request(1, 0, 0, Command::Op(create("/lost", Mode::Persistent))), made);
    assert!(rig.machine.tree().stat("/lost").is_err());
}

#[test]
fn an_acknowledgement_of_what_was_never_done_acknowledges_nothing_of_the_future() {
    let mut rig = Rig::with_sessions(1);
    assert_eq!(rig.request(1, 9, 9, Command::Close), Err(CoordError::OutOfOrder { expected: 0 }));
    assert!(rig.request(1, 0, 0, Command::Op(create("/a", Mode::Persistent))).is_ok());
}

#[test]
fn the_window_of_unacknowledged_answers_is_bounded() {
    let mut rig = Rig::with_sessions(1);
    for seq in 0..MAX_IN_FLIGHT {
        assert!(rig.request(1, seq, 0, Command::Op(check("/", -1))).is_ok());
    }
    let full = CoordError::TooLarge { what: Bounded::InFlight, max: MAX_IN_FLIGHT };
    assert!(full.is_retryable());
    assert_eq!(rig.request(1, MAX_IN_FLIGHT, 0, Command::Close), Err(full));
    assert_eq!(rig.request(1, MAX_IN_FLIGHT, 1, Command::Close), Ok(Answer::Closed));
}

#[test]
fn an_answer_that_is_too_long_is_kept_as_a_note_that_it_was_done() {
    let mut rig = Rig::with_sessions(1);
    let many: Vec<Op> = (0..200).map(|n| create(&format!("/a-long-name-of-a-node-{n}"), Mode::Persistent)).collect();
    let first = rig.request(1, 0, 0, Command::Multi(many.clone()));
    assert!(matches!(&first, Ok(Answer::Multi(answers)) if answers.len() == 200));
    let done = rig.index;
    assert_eq!(rig.request(1, 0, 0, Command::Multi(many)), Ok(Answer::Elided { index: done }));
    assert_eq!(rig.machine.tree().len(), 201);
}

#[test]
fn a_session_that_moved_does_not_hear_its_old_connection() {
    let mut rig = Rig::with_sessions(1);
    let make = |name: &str| Command::Op(create(name, Mode::Persistent));
    assert!(rig.apply(moved(1, 0, 0, make("/a"))).reply.unwrap().is_ok());
    assert_eq!(rig.apply(attach(1, [9; 16])).reply, Some(Err(CoordError::WrongPassword)));
    assert_eq!(rig.apply(attach(2, PASSWORD)).reply, Some(Err(CoordError::SessionExpired)));
    let attached = Answer::Attached { attachment: 1, next_seq: 1, ttl_ms: 10_000 };
    assert_eq!(rig.apply(attach(1, PASSWORD)).reply, Some(Ok(attached)));
    // What the old connection had sent comes late, under the number that the new one uses.
    assert_eq!(rig.apply(moved(1, 0, 1, make("/late"))).reply, Some(Err(CoordError::SessionMoved)));
    assert!(rig.apply(moved(1, 1, 1, make("/new"))).reply.unwrap().is_ok());
    assert!(rig.machine.tree().stat("/late").is_err());
}

#[test]
fn an_entry_that_cannot_be_read_or_is_old_changes_nothing() {
    let mut rig = Rig::with_sessions(1);
    rig.create("/a");
    let (digest, index) = (rig.machine.digest(), rig.index);
    let valid = Entry { stamp: WallTime(5), body: Body::Renew { session: SessionId(1) } }.to_log().unwrap();
    let mut newer = valid.clone();
    newer[0] += 1;
    for entry in [&[][..], &[1], &newer, &[&valid[..], &[0]].concat()] {
        assert_eq!(rig.machine.apply(index + 1, entry), Output { index: index + 1, ..Output::default() });
    }
    assert_eq!(rig.machine.apply(index, &valid), Output { index, ..Output::default() });
    assert_eq!(rig.machine.digest(), digest);
}
