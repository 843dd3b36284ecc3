//! Locks, elections and queues over the wire: order, deadlines, giving up, delays, redelivery.

use super::*;
use crate::coord::error::CoordError;

#[test]
fn locks_are_granted_in_the_order_in_which_they_were_asked_for() {
    let mut bench = Bench::new();
    let clients: Vec<usize> = (0..4).map(|n| bench.client_at(n % 3)).collect();
    let mut calls = Vec::new();
    for c in &clients {
        let call = bench.lock(*c, "/l", Wait::Forever);
        let ahead = match bench.told(*c, "an answer", |output| match output {
            Output::Reply { call: name, reply, .. } if *name == call => Some(reply.clone()),
            _ => None,
        }) {
            Ok(Answer::Queued { ahead }) => ahead,
            Ok(Answer::Granted(token)) => {
                assert_eq!(calls.len(), 0);
                calls.push((call, Some(token)));
                continue;
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(ahead as usize, calls.len());
        calls.push((call, None));
    }
    let mut last = None;
    for (c, (call, token)) in clients.into_iter().zip(calls) {
        let token = token.unwrap_or_else(|| bench.granted(c, call));
        assert!(last < Some(token), "tokens grow");
        last = Some(token);
        assert_eq!(bench.release(c, "/l", token), Ok(Answer::Done));
        assert_eq!(bench.release(c, "/l", token), Err(CoordError::NotHeld));
    }
}

#[test]
fn shared_holders_come_together_and_keep_out_who_wants_to_be_alone() {
    let mut bench = Bench::new();
    let [a, b, c] = [0, 1, 2].map(|seat| bench.client_at(seat));
    let shared = |wait| acquire("/l", Share::Shared, wait, 0);
    let (first, second) = (bench.call(a, shared(Wait::Try)), bench.call(b, shared(Wait::Forever)));
    let tokens = [bench.granted(a, first), bench.granted(b, second)];
    assert_eq!(bench.ask(c, acquire("/l", Share::Exclusive, Wait::Try, 0)), Err(CoordError::NotAvailable));
    let alone = bench.lock(c, "/l", Wait::Forever);
    assert!(matches!(bench.reply(c, alone), Ok(Answer::Queued { ahead: 2 })));
    assert_eq!(bench.ask(b, shared(Wait::Try)), Err(CoordError::NotAvailable), "not past one that waits");
    bench.release(a, "/l", tokens[0]).unwrap();
    bench.release(b, "/l", tokens[1]).unwrap();
    assert!(bench.granted(c, alone) > tokens[0]);
}

#[test]
fn a_deadline_ends_a_wait_and_not_a_hold() {
    let mut bench = Bench::new();
    let (a, b) = (bench.client_at(0), bench.client_at(1));
    let held = bench.lock(a, "/l", Wait::Deadline(500));
    let token = bench.granted(a, held);
    let waits = bench.lock(b, "/l", Wait::Deadline(700));
    let begun = bench.now();
    assert!(matches!(bench.reply(b, waits), Ok(Answer::Queued { .. })));
    assert_eq!(bench.reply(b, waits), Err(CoordError::DeadlinePassed));
    assert!(bench.now() >= begun + 700);
    assert_eq!(bench.release(a, "/l", token), Ok(Answer::Done));
}

/// Whoever gives up gets nothing, and leaves nothing taken behind, wherever the grant is at that moment.
#[test]
fn giving_up_while_the_grant_is_on_its_way_leaves_nothing_taken() {
    for wait_ms in 0..12 {
        let mut bench = Bench::new();
        let (a, b, third) = (bench.client_at(0), bench.client_at(1), bench.client_at(2));
        let held = bench.lock(a, "/l", Wait::Forever);
        let token = bench.granted(a, held);
        let waits = bench.lock(b, "/l", Wait::Forever);
        assert!(matches!(bench.reply(b, waits), Ok(Answer::Queued { .. })));
        bench.call(a, Command::Release { kind: Kind::Lock, path: "/l".into(), token });
        bench.pass(wait_ms);
        let now = bench.world.client_ms(b);
        let _ = bench.world.clients[b].give_up(now, waits);
        bench.world.pump_client(b).unwrap();
        let call = bench.lock(third, "/l", Wait::Deadline(10_000));
        // It was told before it gave up, or its session releases it by the cancellation.
        let told = bench.world.told[b].iter().any(
            |output| matches!(output, Output::Reply { call, reply: Ok(Answer::Granted(_)), .. } if *call == waits),
        );
        if !told {
            bench.granted(third, call);
        }
    }
}

#[test]
fn a_request_that_was_not_sent_is_taken_back_at_once() {
    use crate::coord::serve::client::CallError;
    let mut bench = Bench::new();
    let c = bench.client_at(0);
    bench.op(c, create("/s", ""));
    let party = bench.world.party_of(c);
    bench.cut_off(party, 1_000);
    let calls: Vec<u64> = (0..65).map(|n| bench.call(c, append("/s/n-", &n.to_string()))).collect();
    let now = bench.world.client_ms(c);
    assert_eq!(bench.world.clients[c].give_up(now, calls[64]), Some(CallError::NotSent));
    assert_eq!(bench.world.clients[c].give_up(now, calls[64]), None);
    assert_eq!(bench.world.clients[c].give_up(now, calls[63]), Some(CallError::Unknown));
    for call in &calls[..63] {
        bench.reply(c, *call).unwrap();
    }
    let Ok(Found::Children(names, _)) = bench.read(c, Query::Children("/s".into()), true) else { panic!("no list") };
    assert_eq!(names.len(), 64);
}

#[test]
fn a_lock_of_an_expired_session_is_granted_after_the_delay_that_it_asked_for() {
    let mut bench = Bench::new();
    let (a, b) = (bench.client_at(0), bench.client_at(1));
    let held = bench.call(a, acquire("/l", Share::Exclusive, Wait::Forever, 3_000));
    let token = bench.granted(a, held);
    let waits = bench.lock(b, "/l", Wait::Forever);
    let party = bench.world.party_of(a);
    bench.cut_off(party, 10 * TTL_MS);
    bench.becomes(a, State::Lapsed);
    bench.until("the expiry", |bench| bench.world.report.expired == 1);
    let expired = bench.now();
    assert!(bench.granted(b, waits) > token);
    assert!(bench.now() >= expired + 3_000);
}

/// The holder's voter dies, its session lives on: nobody else gets the lock.
#[test]
fn a_lock_is_kept_through_a_change_of_voters() {
    let mut bench = Bench::new();
    let seat = bench.follower();
    let (a, b) = (bench.client_at(seat), bench.client_at(bench.leader()));
    let held = bench.lock(a, "/l", Wait::Forever);
    let token = bench.granted(a, held);
    let waits = bench.lock(b, "/l", Wait::Forever);
    bench.world.crash(seat);
    bench.becomes(a, State::Suspended);
    bench.becomes(a, State::Connected);
    bench.pass(3 * TTL_MS);
    assert!(
        !bench.world.told[b].iter().any(|output| matches!(output, Output::Reply { reply: Ok(Answer::Granted(_)), .. }))
    );
    assert_eq!(bench.release(a, "/l", token), Ok(Answer::Done));
    bench.granted(b, waits);
}

/// The waiter's voter dies before it can tell of the grant: the next one does.
#[test]
fn a_grant_that_a_dead_voter_did_not_tell_is_told_by_the_next() {
    let mut bench = Bench::new();
    let (seat, leader) = (bench.follower(), bench.leader());
    let (a, b) = (bench.client_at(leader), bench.client_at(seat));
    let held = bench.lock(a, "/l", Wait::Forever);
    let token = bench.granted(a, held);
    let waits = bench.lock(b, "/l", Wait::Forever);
    assert!(matches!(bench.reply(b, waits), Ok(Answer::Queued { .. })));
    // Acknowledges the answer that it waits, so that no reply is kept.
    bench.op(b, create("/x", ""));
    bench.op(b, create("/y", ""));
    bench.world.crash(seat);
    bench.release(a, "/l", token).unwrap();
    assert!(bench.granted(b, waits) > token);
}

#[test]
fn an_election_has_one_leader_that_everybody_can_watch() {
    let mut bench = Bench::new();
    let [a, b, watcher] = [0, 1, 2].map(|seat| bench.client_at(seat));
    bench.watch(watcher, Watch::Leader, "/e");
    let campaign = |value: &str| Command::Acquire {
        kind: Kind::Election,
        path: "/e".into(),
        share: Share::Exclusive,
        wait: Wait::Forever,
        delay_ms: 0,
        value: bytes(value),
    };
    let leads = bench.call(a, campaign("a"));
    let token = bench.granted(a, leads);
    assert_eq!(bench.event(watcher), (token.index, EventKind::Leader, "/e".to_owned()));
    let next = bench.call(b, campaign("b"));
    let leader = |bench: &mut Bench| match bench.read(watcher, Query::Leader("/e".into()), true) {
        Ok(Found::Leader(leading)) => leading.map(|leading| (leading.token, leading.value)),
        other => panic!("{other:?}"),
    };
    assert_eq!(leader(&mut bench), Some((token, bytes("a"))));
    let proclaim = |token, value: &str| Command::Proclaim { path: "/e".into(), token, value: bytes(value) };
    assert_eq!(bench.ask(a, proclaim(token, "ready")), Ok(Answer::Done));
    assert_eq!(bench.ask(b, proclaim(token, "me")), Err(CoordError::NotHeld));
    assert_eq!(leader(&mut bench), Some((token, bytes("ready"))));
    let resign = Command::Release { kind: Kind::Election, path: "/e".into(), token };
    bench.ask(a, resign).unwrap();
    let newer = bench.granted(b, next);
    assert!(newer > token);
    assert_eq!(leader(&mut bench), Some((newer, bytes("b"))));
}

#[test]
fn an_item_that_nobody_acknowledges_is_given_to_another_and_then_put_aside() {
    let mut bench = Bench::new();
    let (a, b) = (bench.client_at(0), bench.client_at(1));
    let enqueue = Command::Enqueue { path: "/q".into(), body: bytes("work"), max_attempts: 2 };
    let Ok(Answer::Enqueued { item }) = bench.ask(a, enqueue) else { panic!("no number") };
    bench.watch(b, Watch::Queue, "/q");
    let claim = |ms| Command::Claim { path: "/q".into(), visibility_ms: ms };
    let Ok(Answer::Claimed { item: claimed, attempt: 1, token }) = bench.ask(a, claim(500)) else { panic!("no item") };
    assert_eq!(claimed, item);
    assert_eq!(bench.ask(b, claim(500)), Err(CoordError::QueueEmpty));
    assert_eq!(bench.read(b, Query::Item("/q".into(), item), true), Ok(Found::Item(bytes("work"), 1)));
    // Not acknowledged in time: it is ready again, which whoever watches is told.
    assert_eq!(bench.event(b).1, EventKind::Ready);
    let Ok(Answer::Claimed { attempt: 2, token: second, .. }) = bench.ask(b, claim(60_000)) else { panic!("no item") };
    assert!(second > token);
    let late = bench.ask(a, Command::Ack { path: "/q".into(), item, token });
    assert!(matches!(late, Err(CoordError::NotHeld | CoordError::WrongToken { .. })), "{late:?}");
    bench.ask(b, Command::Nack { path: "/q".into(), item, token: second }).unwrap();
    let aside = Found::Queue { ready: 0, claimed: 0, dead: vec![item] };
    assert_eq!(bench.read(b, Query::Queue("/q".into()), true), Ok(aside));
    bench.ask(b, Command::Revive { path: "/q".into(), item }).unwrap();
    let Ok(Answer::Claimed { token, .. }) = bench.ask(a, claim(60_000)) else { panic!("no item") };
    bench.ask(a, Command::Ack { path: "/q".into(), item, token }).unwrap();
    let empty = Found::Queue { ready: 0, claimed: 0, dead: vec![] };
    assert_eq!(bench.read(a, Query::Queue("/q".into()), true), Ok(empty));
}
