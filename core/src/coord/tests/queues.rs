//! Queues: order, retries, time, dead letters.

use super::*;
use crate::coord::error::Argument;
use crate::coord::queue::{MAX_ATTEMPTS, MAX_VISIBILITY_MS};
use crate::coord::reply::Change;

fn enqueue(text: &str, max_attempts: u32) -> Command {
    Command::Enqueue { path: "/q".into(), body: data(text), max_attempts }
}

fn claim() -> Command {
    Command::Claim { path: "/q".into(), visibility_ms: 1_000 }
}

fn put(rig: &mut Rig, text: &str, max_attempts: u32) -> u64 {
    match rig.ask(1, enqueue(text, max_attempts)) {
        Ok(Answer::Enqueued { item }) => item,
        other => panic!("{other:?}"),
    }
}

fn take(rig: &mut Rig, id: u64) -> (u64, u32, FencingToken) {
    match rig.ask(id, claim()) {
        Ok(Answer::Claimed { item, attempt, token }) => (item, attempt, token),
        other => panic!("{other:?}"),
    }
}

fn ack(item: u64, token: FencingToken) -> Command {
    Command::Ack { path: "/q".into(), item, token }
}

fn nack(item: u64, token: FencingToken) -> Command {
    Command::Nack { path: "/q".into(), item, token }
}

fn body(rig: &Rig, item: u64) -> &[u8] {
    rig.machine.queues().body(&path("/q"), item).unwrap()
}

#[test]
fn items_come_in_order_and_go_when_done() {
    let mut rig = Rig::with_sessions(3);
    assert_eq!(rig.ask(2, claim()), Err(CoordError::QueueEmpty));
    let (a, b) = (put(&mut rig, "a", 3), put(&mut rig, "b", 3));
    assert_eq!(rig.last.changes, [Change::Ready { path: path("/q") }]);
    let (first, attempt, token) = take(&mut rig, 2);
    assert_eq!((first, attempt, body(&rig, first)), (a, 1, &b"a"[..]));
    let (second, ..) = take(&mut rig, 3);
    assert_eq!(second, b);
    assert_eq!(rig.ask(2, claim()), Err(CoordError::QueueEmpty));
    assert_eq!(rig.ask(3, ack(a, token)), Err(CoordError::NotHeld));
    assert_eq!(rig.ask(2, ack(a, FencingToken { index: 1, ..token })), Err(CoordError::WrongToken { held: token }));
    assert_eq!(rig.ask(2, ack(a, token)), Ok(Answer::Done));
    assert_eq!(rig.ask(2, ack(a, token)), Err(CoordError::NoItem));
    assert_eq!(rig.machine.queues().find(&path("/q")).unwrap().items().count(), 1);
}

#[test]
fn an_item_that_comes_back_takes_its_old_place() {
    let mut rig = Rig::with_sessions(2);
    let (a, _b) = (put(&mut rig, "a", 5), put(&mut rig, "b", 5));
    let (item, _, token) = take(&mut rig, 1);
    rig.ask(1, nack(item, token)).unwrap();
    assert_eq!(rig.last.changes, [Change::Ready { path: path("/q") }]);
    let (again, attempt, newer) = take(&mut rig, 1);
    assert_eq!((again, attempt), (a, 2));
    assert!(newer > token);
    // A session that ends gives back what it works on.
    rig.expire(1);
    assert_eq!(take(&mut rig, 2).0, a);
}

#[test]
fn a_claim_that_ran_out_is_redelivered_and_its_holder_is_fenced() {
    let mut rig = Rig::with_sessions(2);
    let a = put(&mut rig, "a", 5);
    let (_, _, token) = take(&mut rig, 1);
    let redeliver = |token: FencingToken| Body::Redeliver { path: path("/q"), item: a, claim: token.index };
    rig.apply(redeliver(token));
    let (_, attempt, newer) = take(&mut rig, 2);
    assert_eq!(attempt, 2);
    assert_eq!(rig.ask(1, ack(a, token)), Err(CoordError::NotHeld));
    // The same proposal again is about the earlier claim.
    rig.apply(redeliver(token));
    assert_eq!(rig.ask(2, ack(a, newer)), Ok(Answer::Done));
    assert!(rig.machine.queues().find(&path("/q")).is_none());
}

#[test]
fn an_item_that_fails_too_often_is_put_aside_until_somebody_decides() {
    let mut rig = Rig::with_sessions(1);
    let a = put(&mut rig, "a", 2);
    for _ in 0..2 {
        let (item, _, token) = take(&mut rig, 1);
        rig.ask(1, nack(item, token)).unwrap();
    }
    assert!(rig.last.changes.is_empty());
    assert_eq!(rig.ask(1, claim()), Err(CoordError::QueueEmpty));
    assert!(rig.machine.queues().find(&path("/q")).unwrap().items().all(|(_, item)| item.is_dead()));
    rig.restore_twin();
    let revive = Command::Revive { path: "/q".into(), item: a };
    let discard = Command::Discard { path: "/q".into(), item: a };
    assert_eq!(rig.ask(1, revive.clone()), Ok(Answer::Done));
    assert_eq!(rig.ask(1, revive), Err(CoordError::NoItem));
    assert_eq!(rig.ask(1, discard.clone()), Err(CoordError::NoItem), "only a dead letter is discarded");
    for attempt in 1..=2 {
        let (item, found, token) = take(&mut rig, 1);
        assert_eq!(found, attempt);
        rig.ask(1, nack(item, token)).unwrap();
    }
    assert_eq!(rig.ask(1, discard), Ok(Answer::Done));
    assert_eq!(rig.machine.queues().bytes(), 0);
}

#[test]
fn arguments_out_of_bounds_are_refused() {
    let mut rig = Rig::with_sessions(1);
    for attempts in [0, MAX_ATTEMPTS + 1] {
        assert_eq!(rig.ask(1, enqueue("a", attempts)), Err(Argument::Attempts.into()));
    }
    for visibility_ms in [0, MAX_VISIBILITY_MS + 1] {
        let claim = Command::Claim { path: "/q".into(), visibility_ms };
        assert_eq!(rig.ask(1, claim), Err(Argument::Visibility.into()));
    }
}
