//! Locks and elections: one holder, a fair queue, tokens that rise, and no grant to who is gone.

use super::*;
use crate::coord::claim::{Delay, MAX_DELAY_MS, MAX_WAITERS};
use crate::coord::error::{Argument, Bounded};
use crate::coord::reply::Change;

const EXCLUSIVE: Share = Share::Exclusive;
const SHARED: Share = Share::Shared;

fn queued(ahead: u32) -> Reply {
    Ok(Answer::Queued { ahead })
}

#[test]
fn a_free_lock_is_granted_under_its_entrys_token() {
    let mut rig = Rig::with_sessions(2);
    let token = rig.lock(1, "/l");
    assert_eq!(token, FencingToken { generation: 0, index: 3 });
    assert_eq!(rig.acquire(2, "/l", EXCLUSIVE, Wait::Try), Err(CoordError::NotAvailable));
    assert_eq!(rig.acquire(2, "/l", SHARED, Wait::Try), Err(CoordError::NotAvailable));
    assert_eq!(rig.release(1, "/l", token), Ok(Answer::Done));
    assert!(rig.machine.claims().find(Kind::Lock, &path("/l")).is_none(), "nothing is left of it");
    assert!(rig.lock(2, "/l") > token);
    // A lock and a node at one path have nothing to do with each other, and neither has an election.
    assert!(rig.machine.tree().stat("/l").is_err());
    token_of_campaign(&mut rig, 1, "/l");
}

fn token_of_campaign(rig: &mut Rig, id: u64, path: &str) -> FencingToken {
    token(&rig.ask(id, acquire(Kind::Election, path, EXCLUSIVE, Wait::Try, 0)))
}

#[test]
fn a_release_needs_the_token_of_the_grant_that_stands() {
    let mut rig = Rig::with_sessions(2);
    let first = rig.lock(1, "/l");
    rig.release(1, "/l", first).unwrap();
    let second = rig.lock(1, "/l");
    // A late release of the first grant does not let go of the second.
    assert_eq!(rig.release(1, "/l", first), Err(CoordError::WrongToken { held: second }));
    assert_eq!(rig.release(2, "/l", second), Err(CoordError::NotHeld));
    assert_eq!(rig.release(1, "/m", second), Err(CoordError::NotHeld));
    assert_eq!(rig.machine.claims().find(Kind::Lock, &path("/l")).unwrap().holders().len(), 1);
}

#[test]
fn waiters_get_it_in_the_order_in_which_they_asked() {
    let mut rig = Rig::with_sessions(4);
    let first = rig.lock(1, "/l");
    for (id, ahead) in [(3, 1), (2, 2), (4, 3)] {
        assert_eq!(rig.acquire(id, "/l", EXCLUSIVE, Wait::Forever), queued(ahead));
    }
    rig.release(1, "/l", first).unwrap();
    assert_eq!(rig.last.settled, [granted(3, 0, rig.index)]);
    // The grant is the answer to the request that waited, from now on.
    let at = rig.index;
    assert_eq!(rig.request(3, 0, 0, Command::Close), Ok(Answer::Granted(FencingToken { generation: 0, index: at })));
    let output = rig.expire(3);
    assert_eq!(output.settled, [granted(2, 0, output.index)]);
    assert_eq!(rig.ask(2, Command::Close), Ok(Answer::Closed));
    assert_eq!(rig.last.settled, [granted(4, 0, rig.index)]);
}

#[test]
fn shared_requests_are_granted_together_up_to_the_first_exclusive_one() {
    let mut rig = Rig::with_sessions(5);
    let first = rig.lock(1, "/l");
    for (id, share) in [(2, SHARED), (3, SHARED), (4, EXCLUSIVE), (5, SHARED)] {
        rig.acquire(id, "/l", share, Wait::Forever).unwrap();
    }
    rig.release(1, "/l", first).unwrap();
    let batch = rig.index;
    assert_eq!(rig.last.settled, [granted(2, 0, batch), granted(3, 0, batch)]);
    // Fair: who comes now does not pass the exclusive one that waits.
    assert_eq!(rig.acquire(1, "/l", SHARED, Wait::Try), Err(CoordError::NotAvailable));
    let token = FencingToken { generation: 0, index: batch };
    rig.release(2, "/l", token).unwrap();
    assert!(rig.last.settled.is_empty());
    rig.release(3, "/l", token).unwrap();
    assert_eq!(rig.last.settled, [granted(4, 0, rig.index)]);
    let exclusive = FencingToken { generation: 0, index: rig.index };
    assert!(exclusive > token);
    rig.release(4, "/l", exclusive).unwrap();
    assert_eq!(rig.last.settled, [granted(5, 0, rig.index)]);
    // Now that no one waits, others join, under newer tokens.
    let joined = rig.acquire(1, "/l", SHARED, Wait::Try);
    assert_eq!(joined, Ok(Answer::Granted(FencingToken { generation: 0, index: rig.index })));
}

#[test]
fn a_waiter_whose_session_ended_is_never_granted() {
    let mut rig = Rig::with_sessions(3);
    let first = rig.lock(1, "/l");
    rig.acquire(2, "/l", EXCLUSIVE, Wait::Forever).unwrap();
    rig.acquire(3, "/l", EXCLUSIVE, Wait::Forever).unwrap();
    rig.expire(2);
    rig.release(1, "/l", first).unwrap();
    assert_eq!(rig.last.settled, [granted(3, 0, rig.index)]);
}

#[test]
fn a_session_that_ends_as_holder_and_waiter_of_one_lock_leaves_it_to_the_next() {
    let mut rig = Rig::with_sessions(2);
    rig.lock(1, "/l");
    rig.acquire(1, "/l", EXCLUSIVE, Wait::Forever).unwrap();
    rig.acquire(2, "/l", SHARED, Wait::Forever).unwrap();
    let output = rig.expire(1);
    assert_eq!(output.settled, [granted(2, 0, output.index)]);
}

#[test]
fn a_deadline_ends_the_wait_unless_the_grant_came_first() {
    let mut rig = Rig::with_sessions(3);
    let first = rig.lock(1, "/l");
    rig.acquire(2, "/l", EXCLUSIVE, Wait::Deadline(50)).unwrap();
    rig.acquire(3, "/l", SHARED, Wait::Forever).unwrap();
    let time_out = |session| Body::Timeout { kind: Kind::Lock, path: path("/l"), session: SessionId(session), seq: 0 };
    // Not one that set no deadline.
    assert!(rig.apply(time_out(3)).settled.is_empty());
    let passed = Settled { session: SessionId(2), seq: 0, reply: Err(CoordError::DeadlinePassed) };
    assert_eq!(rig.apply(time_out(2)).settled, [passed]);
    assert_eq!(rig.request(2, 0, 0, Command::Close), Err(CoordError::DeadlinePassed));
    assert!(rig.apply(time_out(2)).settled.is_empty());
    rig.release(1, "/l", first).unwrap();
    assert_eq!(rig.last.settled, [granted(3, 0, rig.index)]);
    // The grant came first.
    rig.acquire(1, "/l", EXCLUSIVE, Wait::Deadline(50)).unwrap();
    let shared = FencingToken { generation: 0, index: rig.index - 1 };
    rig.release(3, "/l", shared).unwrap();
    let late = Body::Timeout { kind: Kind::Lock, path: path("/l"), session: SessionId(1), seq: 2 };
    assert!(rig.apply(late).settled.is_empty());
    assert_eq!(rig.machine.claims().find(Kind::Lock, &path("/l")).unwrap().holders()[0].session, SessionId(1));
}

#[test]
fn a_timed_out_exclusive_waiter_lets_the_shared_ones_behind_it_in() {
    let mut rig = Rig::with_sessions(3);
    let held = token(&rig.acquire(1, "/l", SHARED, Wait::Try));
    rig.acquire(2, "/l", EXCLUSIVE, Wait::Deadline(50)).unwrap();
    rig.acquire(3, "/l", SHARED, Wait::Forever).unwrap();
    let output = rig.apply(Body::Timeout { kind: Kind::Lock, path: path("/l"), session: SessionId(2), seq: 0 });
    assert_eq!(output.settled[1..], [granted(3, 0, output.index)]);
    assert!(output.index > held.index);
}

#[test]
fn cancelling_takes_back_a_wait_or_a_grant_that_raced_it() {
    let mut rig = Rig::with_sessions(3);
    let first = rig.lock(1, "/l");
    rig.acquire(2, "/l", EXCLUSIVE, Wait::Forever).unwrap();
    rig.acquire(3, "/l", EXCLUSIVE, Wait::Forever).unwrap();
    assert_eq!(rig.ask(2, Command::Cancel { seq: 0 }), Ok(Answer::Done));
    assert_eq!(rig.last.settled, [Settled { session: SessionId(2), seq: 0, reply: Err(CoordError::Cancelled) }]);
    rig.release(1, "/l", first).unwrap();
    assert_eq!(rig.last.settled, [granted(3, 0, rig.index)]);
    // Granted, but its client gave up at the same time.
    assert_eq!(rig.ask(3, Command::Cancel { seq: 0 }), Ok(Answer::Done));
    assert!(rig.machine.claims().find(Kind::Lock, &path("/l")).is_none());
    assert_eq!(rig.ask(3, Command::Cancel { seq: 0 }), Err(CoordError::NotHeld));
    assert_eq!(rig.ask(1, Command::Cancel { seq: 99 }), Err(CoordError::NotHeld));
}

#[test]
fn an_expired_holder_leaves_a_delay_and_a_clean_release_none() {
    let mut rig = Rig::with_sessions(4);
    let hold = |share, delay| acquire(Kind::Lock, "/l", share, Wait::Try, delay);
    assert_eq!(rig.ask(1, hold(EXCLUSIVE, MAX_DELAY_MS + 1)), Err(Argument::LockDelay.into()));
    rig.ask(1, hold(EXCLUSIVE, 500)).unwrap();
    rig.acquire(2, "/l", EXCLUSIVE, Wait::Forever).unwrap();
    let since = rig.expire(1).index;
    assert!(rig.last.settled.is_empty());
    let delay = Delay { since, ms: 500, share: EXCLUSIVE };
    assert_eq!(rig.machine.claims().find(Kind::Lock, &path("/l")).unwrap().delay(), Some(delay));
    assert_eq!(rig.acquire(3, "/l", SHARED, Wait::Try), Err(CoordError::NotAvailable));
    let end = |since| Body::EndDelay { kind: Kind::Lock, path: path("/l"), since };
    assert!(rig.apply(end(since - 1)).settled.is_empty());
    rig.restore_twin();
    let output = rig.apply(end(since));
    assert_eq!(output.settled, [granted(2, 0, output.index)]);
    // Closing is clean.
    rig.ask(2, Command::Close).unwrap();
    rig.ask(3, hold(EXCLUSIVE, 500)).unwrap();
    rig.ask(3, Command::Close).unwrap();
    assert!(rig.lock(4, "/l").index > since);
}

#[test]
fn after_a_shared_holder_expired_others_may_share_but_no_one_is_alone() {
    let mut rig = Rig::with_sessions(3);
    rig.ask(1, acquire(Kind::Lock, "/l", SHARED, Wait::Try, 500)).unwrap();
    let since = rig.expire(1).index;
    rig.acquire(2, "/l", SHARED, Wait::Try).unwrap();
    assert_eq!(rig.acquire(3, "/l", EXCLUSIVE, Wait::Try), Err(CoordError::NotAvailable));
    rig.apply(Body::EndDelay { kind: Kind::Lock, path: path("/l"), since });
    rig.ask(2, Command::Close).unwrap();
    rig.lock(3, "/l");
}

#[test]
fn elections_tell_who_leads_and_what_it_says() {
    let mut rig = Rig::with_sessions(2);
    let campaign = |text| Command::Acquire {
        kind: Kind::Election,
        path: "/e".into(),
        // Leadership is not shared, whatever is asked.
        share: SHARED,
        wait: Wait::Forever,
        delay_ms: 0,
        value: data(text),
    };
    let leads = vec![Change::Leader { path: path("/e") }];
    let token = token(&rig.ask(1, campaign("one")));
    assert_eq!(rig.last.changes, leads);
    assert_eq!(rig.ask(2, campaign("two")), queued(1));
    assert!(rig.last.changes.is_empty());
    let leader = rig.machine.claims().leader(&path("/e")).unwrap();
    assert_eq!((leader.session, leader.token, &*leader.value), (SessionId(1), token, &b"one"[..]));
    let proclaim = |token| Command::Proclaim { path: "/e".into(), token, value: data("more") };
    assert_eq!(rig.ask(2, proclaim(token)), Err(CoordError::NotHeld));
    assert_eq!(rig.ask(1, proclaim(FencingToken { index: 1, ..token })), Err(CoordError::WrongToken { held: token }));
    assert_eq!(rig.ask(1, proclaim(token)), Ok(Answer::Done));
    assert_eq!(rig.last.changes, leads);
    assert_eq!(&*rig.machine.claims().leader(&path("/e")).unwrap().value, b"more");
    rig.ask(1, Command::Release { kind: Kind::Election, path: "/e".into(), token }).unwrap();
    assert_eq!(rig.last.changes, leads);
    let leader = rig.machine.claims().leader(&path("/e")).unwrap();
    assert_eq!((leader.session, &*leader.value), (SessionId(2), &b"two"[..]));
    assert!(leader.token > token);
    rig.expire(2);
    assert_eq!(rig.last.changes, leads);
    assert!(rig.machine.claims().leader(&path("/e")).is_none());
}

#[test]
fn a_rebuilt_groups_tokens_are_above_all_earlier_ones() {
    let mut rig = Rig::with_sessions(2);
    let old = rig.lock(1, "/l");
    rig.apply(Body::Generation { generation: 3 });
    rig.apply(Body::Generation { generation: 2 });
    assert_eq!(rig.machine.generation(), 3);
    // The grant of before stands under the token that it was given.
    rig.release(1, "/l", old).unwrap();
    let new = rig.lock(2, "/l");
    assert_eq!(new.generation, 3);
    assert!(new.as_u64() > old.as_u64());
    rig.apply(Body::Generation { generation: u32::MAX });
    let refused = rig.acquire(1, "/m", EXCLUSIVE, Wait::Forever);
    assert!(matches!(refused, Err(CoordError::TooLarge { what: Bounded::Tokens, .. })), "{refused:?}");
}

#[test]
fn waiters_are_bounded() {
    let mut rig = Rig::with_sessions(3);
    rig.lock(1, "/l");
    for _ in 0..MAX_WAITERS {
        rig.acquire(2, "/l", EXCLUSIVE, Wait::Forever).unwrap();
    }
    let full = CoordError::TooLarge { what: Bounded::Waiters, max: MAX_WAITERS as u64 };
    assert_eq!(rig.acquire(3, "/l", EXCLUSIVE, Wait::Forever), Err(full));
    let full = CoordError::TooLarge { what: Bounded::Holdings, max: MAX_WAITERS as u64 };
    assert_eq!(rig.acquire(2, "/other", EXCLUSIVE, Wait::Forever), Err(full));
    assert_eq!(rig.expire(2).settled, []);
    assert_eq!(rig.acquire(3, "/l", EXCLUSIVE, Wait::Forever), queued(1));
}

#[test]
fn who_holds_and_waits_is_listed_by_path() {
    let mut rig = Rig::with_sessions(1);
    for path in ["/a/x", "/a-b", "/a", "/b"] {
        rig.lock(1, path);
    }
    let prefix = path("/a");
    let listed: Vec<_> = rig.machine.claims().under(Kind::Lock, &prefix).map(|(path, _)| path.as_str()).collect();
    assert_eq!(listed, ["/a", "/a/x"]);
    assert_eq!(rig.machine.claims().under(Kind::Lock, &path("/")).count(), 4);
    assert_eq!(rig.machine.claims().under(Kind::Election, &path("/")).count(), 0);
    assert_eq!(rig.machine.claims().request(SessionId(1), 2), Some((Kind::Lock, &prefix)));
}
