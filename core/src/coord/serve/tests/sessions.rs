//! Opening, attaching, expiry, loss.

use super::*;
use crate::coord::serve::client::CallError;

#[test]
fn a_session_is_opened_by_any_voter_and_survives_it() {
    for seat in 0..3 {
        let mut bench = Bench::new();
        let c = bench.client_at(seat);
        let session = bench.world.clients[c].session().unwrap();
        assert_eq!(bench.seat_of(c), seat);
        bench.world.crash(seat);
        bench.becomes(c, State::Suspended);
        bench.becomes(c, State::Connected);
        assert_eq!(bench.world.clients[c].session(), Some(session));
        assert_ne!(bench.seat_of(c), seat);
        bench.op(c, create("/a", "x"));
    }
}

#[test]
fn signs_of_life_keep_a_silent_session() {
    let mut bench = Bench::new();
    let c = bench.client_at(bench.follower());
    bench.pass(10 * TTL_MS);
    assert_eq!(bench.world.clients[c].state(), State::Connected);
    assert_eq!(bench.world.report.expired, 0);
}

/// Two thirds of the time after the last acknowledged sign of life the client stops; the group waits for the whole of it.
#[test]
fn a_client_that_hears_nothing_stops_before_its_session_ends() {
    let mut bench = Bench::new();
    let c = bench.client_at(bench.follower());
    bench.pass(2_000);
    let until = bench.world.clients[c].lease_until().unwrap();
    let begun = bench.now();
    let party = bench.world.party_of(c);
    bench.cut_off(party, 4 * TTL_MS);
    bench.becomes(c, State::Lapsed);
    assert!(bench.world.client_ms(c) >= until && bench.world.report.expired == 0);
    assert_eq!(bench.world.clients[c].lease_until(), None);
    bench.until("the expiry", |bench| bench.world.report.expired == 1);
    let alive = until - TTL_MS * 2 / 3;
    assert!(bench.world.client_ms(c) >= alive + TTL_MS, "a time to live is a lower bound");
    assert!(bench.now() < begun + 2 * TTL_MS, "and it ends");
    bench.becomes(c, State::Lost);
}

#[test]
fn a_lapsed_client_may_find_its_session_alive() {
    let mut bench = Bench::new();
    let c = bench.client_at(bench.follower());
    let party = bench.world.party_of(c);
    bench.cut_off(party, 5_000);
    bench.becomes(c, State::Lapsed);
    bench.becomes(c, State::Connected);
    assert_eq!(bench.world.report.expired, 0);
}

#[test]
fn a_new_leader_gives_every_session_its_full_time() {
    let mut bench = Bench::new();
    let follower = bench.follower();
    let c = bench.client_at(follower);
    let party = bench.world.party_of(c);
    bench.cut_off(party, 20 * TTL_MS);
    bench.pass(4_000);
    let old = bench.leader();
    bench.world.crash(old);
    bench.until("another leader", |bench| bench.world.leader().is_some_and(|leader| leader != old));
    let elected = bench.now();
    bench.until("the expiry", |bench| bench.world.report.expired == 1);
    assert!(bench.now() >= elected + TTL_MS);
}

#[test]
fn what_has_no_answer_when_the_session_ends_is_unknown_and_what_was_not_sent_is_not_done() {
    let mut bench = Bench::new();
    let c = bench.client_at(bench.follower());
    let party = bench.world.party_of(c);
    bench.cut_off(party, 3 * TTL_MS);
    let calls: Vec<u64> = (0..70).map(|n| bench.call(c, Command::Op(create(&format!("/n{n}"), "")))).collect();
    bench.becomes(c, State::Lost);
    for (n, call) in calls.into_iter().enumerate() {
        let why = bench.told(c, "a failure", |output| match output {
            Output::Failed { call: name, why } if *name == call => Some(*why),
            _ => None,
        });
        assert_eq!(why, if n < 64 { CallError::Unknown } else { CallError::Lost });
    }
}

/// Sixty-four requests are on their way when the leader dies, several times: each is done once, in order.
#[test]
fn pipelined_requests_are_done_once_each_in_order_whatever_leader_dies() {
    let mut bench = Bench::new();
    let c = bench.client_at(bench.follower());
    bench.op(c, create("/s", ""));
    for round in 0..4 {
        let calls: Vec<u64> = (0..64).map(|n| bench.call(c, append("/s/n-", &format!("{round} {n}")))).collect();
        bench.pass(1 + round);
        let leader = bench.leader();
        bench.world.crash(leader);
        let names: Vec<String> = calls
            .into_iter()
            .map(|call| match bench.reply(c, call) {
                Ok(Answer::Op(OpAnswer::Created { path, .. })) => path.as_str().to_owned(),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected: Vec<String> = (0..64).map(|n| format!("/s/n-{:010}", 64 * round + n)).collect();
        assert_eq!(names, expected);
        bench.world.restart(leader).unwrap();
    }
    let Ok(Found::Children(names, _)) = bench.read(c, Query::Children("/s".into()), true) else { panic!("no list") };
    assert_eq!(names.len(), 256);
    for (at, name) in names.iter().enumerate() {
        let data = data_of(bench.read(c, Query::Data(format!("/s/{name}")), false));
        assert_eq!(data, format!("{} {}", at / 64, at % 64));
    }
}

#[test]
fn a_closed_session_is_over_at_once_and_takes_no_more() {
    let mut bench = Bench::new();
    let (c, other) = (bench.client_at(bench.follower()), bench.client_at(bench.leader()));
    let acl = Acl::open();
    let ephemeral = Op::Create { path: "/e".into(), data: bytes(""), acl, mode: Mode::Ephemeral, sequential: false };
    bench.op(c, ephemeral);
    bench.world.checks.close(c);
    assert_eq!(bench.ask(c, Command::Close), Ok(Answer::Closed));
    bench.becomes(c, State::Lost);
    assert!(bench.read(other, Query::Exists("/e".into()), true).is_err());
    let now = bench.world.client_ms(c);
    assert!(bench.world.clients[c].call(now, Command::Close).is_err());
}

#[test]
fn the_minority_side_refuses_linear_reads_and_its_sessions_move_over() {
    let mut bench = Bench::new();
    let leader = bench.leader();
    let c = bench.client_at(leader);
    bench.op(c, create("/a", "old"));
    let session = bench.world.clients[c].session();
    bench.cut_from_voters(leader, 30_000);
    let name = bench.begin_read(c, Query::Data("/a".into()), true, false);
    // Whoever moves in time gets the answer from the other side.
    let found = bench.found(c, name);
    assert!(found == Err(ReadError::Refused(crate::coord::serve::talk::Refusal::NoQuorum)) || data_of(found) == "old");
    bench.until("the other side", |bench| bench.world.clients[c].voter().is_some() && bench.seat_of(c) != leader);
    assert_eq!(bench.world.clients[c].session(), session);
    bench.op(c, set("/a", "new"));
    assert_eq!(data_of(bench.read(c, Query::Data("/a".into()), true)), "new");
}
