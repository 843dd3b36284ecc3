//! A client alone, told by hand what voters would tell it: above all what comes late.

use super::*;
use crate::coord::error::CoordError;
use crate::coord::serve::client::{Client, Options};
use crate::coord::serve::talk::{Ask, Frame, Refusal, Subject, Tell};
use crate::coord::session::SessionId;
use crate::id::PeerId;
use crate::wire::Codec;

const A: PeerId = PeerId([1; 32]);

struct Lone {
    client: Client,
    now: u64,
    /// What was sent and not looked at yet.
    sent: Vec<Ask>,
    told: Vec<Output>,
}

impl Lone {
    /// Its session is open with the voter `A`.
    fn new() -> Self {
        let options = Options { ttl_ms: TTL_MS, channel: 5 };
        let mut lone = Self { client: Client::new(options, [A], [1; 32], 0), now: 0, sent: vec![], told: vec![] };
        lone.client.linked(0, A);
        let nonce = lone.nonce();
        let (session, password) = (SessionId(9), [2; 16]);
        lone.tell(Tell::Opened { nonce, session, password, ttl_ms: TTL_MS, zxid: 10 });
        assert_eq!(lone.client.state(), State::Connected);
        lone.asked();
        lone
    }

    fn pump(&mut self) {
        while let Some(output) = self.client.poll() {
            match output {
                Output::Send { bytes, .. } => match Frame::parse(&bytes) {
                    Ok(Frame::Ask(5, ask)) => self.sent.push(ask),
                    other => panic!("{other:?}"),
                },
                Output::Reach(_) => {}
                told => self.told.push(told),
            }
        }
    }

    fn asked(&mut self) -> Vec<Ask> {
        self.pump();
        std::mem::take(&mut self.sent)
    }

    /// The nonce with which it enters.
    fn nonce(&mut self) -> u64 {
        match self.asked()[..] {
            [Ask::Open { nonce, .. } | Ask::Attach { nonce, .. }] => nonce,
            ref other => panic!("{other:?}"),
        }
    }

    fn tell(&mut self, tell: Tell) {
        self.client.frame(self.now, A, &Frame::Tell(5, tell).to_bytes()).unwrap();
        self.pump();
    }

    fn attached(&mut self, nonce: u64, zxid: u64) {
        self.tell(Tell::Attached { nonce, next_seq: 0, ttl_ms: TTL_MS, zxid });
    }

    fn call(&mut self) -> u64 {
        let call = self.client.call(self.now, acquire("/l", Share::Exclusive, Wait::Forever, 0)).unwrap();
        self.pump();
        call
    }
}

/// An attempt to attach that the client had given up was carried out late. It took that for the end of its session.
#[test]
fn a_session_that_was_moved_is_taken_back() {
    let mut lone = Lone::new();
    lone.tell(Tell::Moved);
    assert_eq!(lone.client.state(), State::Suspended);
    let nonce = lone.nonce();
    lone.attached(nonce, 12);
    assert_eq!(lone.client.state(), State::Connected);
}

/// What a voter had said to an earlier stay was taken for said to the present one.
#[test]
fn what_was_said_to_an_earlier_stay_with_a_voter_is_not_heard() {
    let mut lone = Lone::new();
    lone.call();
    lone.client.gone(0, A);
    lone.client.linked(0, A);
    lone.asked();
    lone.told.clear();
    let until = lone.client.lease_until();
    lone.now = 3_000;
    lone.tell(Tell::Moved);
    lone.tell(Tell::Pong { n: 1, zxid: 50 });
    lone.tell(Tell::Event { zxid: 50, kind: EventKind::Changed, path: path("/a") });
    lone.tell(Tell::Reply { seq: 0, zxid: 50, reply: Ok(Answer::Done) });
    lone.tell(Tell::Refused { of: Subject::Entry(1), why: Refusal::Busy });
    assert_eq!((lone.told.len(), lone.client.seen(), lone.client.lease_until()), (0, 10, until));
    assert_eq!(lone.client.state(), State::Suspended);
}

/// A late copy of a request that waits was answered by what is answered to requests whose answers are not kept any more; the
/// client took the lock for refused, and it was granted to nobody.
#[test]
fn a_late_copy_of_a_request_that_waits_does_not_end_the_wait() {
    let mut lone = Lone::new();
    let call = lone.call();
    lone.tell(Tell::Reply { seq: 0, zxid: 11, reply: Ok(Answer::Queued { ahead: 1 }) });
    lone.told.clear();
    lone.tell(Tell::Reply { seq: 0, zxid: 12, reply: Err(CoordError::AnswerForgotten) });
    lone.tell(Tell::Reply { seq: 0, zxid: 13, reply: Ok(Answer::Queued { ahead: 1 }) });
    assert_eq!(lone.told, []);
    let token = FencingToken { generation: 1, index: 14 };
    lone.tell(Tell::Reply { seq: 0, zxid: 14, reply: Ok(Answer::Granted(token)) });
    assert_eq!(lone.told, [Output::Reply { call, zxid: 14, reply: Ok(Answer::Granted(token)) }]);
}

/// Only a sign of life that was acknowledged proves that the session lives; an answer may be to an earlier copy.
#[test]
fn answers_prove_nothing_signs_of_life_do() {
    let mut lone = Lone::new();
    assert_eq!(lone.client.lease_until(), Some(TTL_MS * 2 / 3));
    lone.now = 1_000;
    lone.client.tick(1_000);
    let [Ask::Ping { n }] = lone.asked()[..] else { panic!("no sign of life") };
    lone.now = 1_500;
    lone.call();
    lone.tell(Tell::Reply { seq: 0, zxid: 11, reply: Ok(Answer::Done) });
    assert_eq!(lone.client.lease_until(), Some(TTL_MS * 2 / 3));
    lone.tell(Tell::Pong { n, zxid: 11 });
    assert_eq!(lone.client.lease_until(), Some(1_000 + TTL_MS * 2 / 3), "from when it was sent");
    lone.client.tick(1_000 + TTL_MS * 2 / 3 - 1);
    assert_ne!(lone.client.state(), State::Lapsed);
    lone.client.tick(1_000 + TTL_MS * 2 / 3);
    assert_eq!(lone.client.state(), State::Lapsed);
}

/// A voter died between attaching the session and setting its watches again. The next one was told that everything up to
/// the attachment had been seen, and what had happened before it was never told.
#[test]
fn watches_are_set_again_from_where_everything_was_told() {
    let mut lone = Lone::new();
    let now = lone.now;
    let id = lone.client.watch(now, Watch::Persistent, path("/a"), true).unwrap();
    lone.asked();
    lone.tell(Tell::Read { id, zxid: 20, found: Ok(Found::Nothing) });
    for zxid in [30, 40] {
        lone.client.gone(0, A);
        lone.client.linked(0, A);
        let nonce = lone.nonce();
        lone.attached(nonce, zxid);
        let asked = lone.asked();
        assert!(matches!(asked[..], [Ask::Rearm { seen: 20, .. }, Ask::Read { .. }]), "{asked:?}");
        lone.told.clear();
        lone.tell(Tell::Event { zxid: 25, kind: EventKind::Changed, path: path("/a") });
        assert_eq!(lone.told, [], "until all is told");
    }
    // From the answer on, everything was told.
    lone.client.gone(0, A);
    lone.client.linked(0, A);
    let nonce = lone.nonce();
    lone.attached(nonce, 41);
    let Some(Ask::Read { id, .. }) = lone.asked().pop() else { panic!("nothing is asked") };
    lone.told.clear();
    lone.tell(Tell::Event { zxid: 25, kind: EventKind::Changed, path: path("/a") });
    lone.tell(Tell::Read { id, zxid: 42, found: Ok(Found::Nothing) });
    assert_eq!(lone.told, [Output::Event { zxid: 25, kind: EventKind::Changed, path: path("/a") }]);
    lone.client.gone(0, A);
    lone.client.linked(0, A);
    let nonce = lone.nonce();
    lone.attached(nonce, 50);
    assert!(matches!(lone.asked()[0], Ask::Rearm { seen: 42, .. }));
}

/// The way back to a voter that serves the session still, from before it was left: what that one tells comes after all that
/// was not heard meanwhile. It was taken for everything up to there, and the changes before it were never told.
#[test]
fn what_a_voter_tells_while_it_is_being_reached_again_is_no_ground_to_go_on_from() {
    let mut lone = Lone::new();
    let id = lone.client.watch(0, Watch::Persistent, path("/a"), true).unwrap();
    lone.asked();
    lone.tell(Tell::Read { id, zxid: 20, found: Ok(Found::Nothing) });
    lone.client.gone(0, A);
    lone.asked();
    lone.told.clear();
    lone.tell(Tell::Event { zxid: 30, kind: EventKind::Changed, path: path("/a") });
    lone.tell(Tell::Pong { n: 1, zxid: 31 });
    lone.tell(Tell::Reply { seq: 0, zxid: 32, reply: Ok(Answer::Done) });
    assert_eq!((lone.told.len(), lone.client.seen()), (0, 20));
    lone.client.linked(0, A);
    let nonce = lone.nonce();
    lone.attached(nonce, 40);
    let asked = lone.asked();
    assert!(matches!(asked[0], Ask::Rearm { seen: 20, .. }), "{asked:?}");
}

/// A voter died in the middle of what one entry had to tell. The first event was taken for all of them.
#[test]
fn what_one_entry_tells_is_told_whole_and_once_by_two_voters() {
    let mut lone = Lone::new();
    let id = lone.client.watch(0, Watch::Persistent, path("/a"), true).unwrap();
    lone.asked();
    lone.tell(Tell::Read { id, zxid: 20, found: Ok(Found::Nothing) });
    lone.told.clear();
    let event = |zxid, kind| Tell::Event { zxid, kind, path: path("/a") };
    // Two of the same are two changes in one entry.
    let of_entry = || [event(30, EventKind::Children), event(30, EventKind::Changed), event(30, EventKind::Changed)];
    lone.tell(event(25, EventKind::Changed));
    of_entry().into_iter().take(2).for_each(|event| lone.tell(event));
    assert_eq!((lone.told.len(), lone.client.seen()), (3, 30));
    lone.client.gone(0, A);
    lone.client.linked(0, A);
    let nonce = lone.nonce();
    lone.attached(nonce, 40);
    let asked = lone.asked();
    let [Ask::Rearm { seen: 29, .. }, Ask::Read { id, .. }] = asked[..] else { panic!("{asked:?}") };
    lone.told.clear();
    of_entry().into_iter().for_each(|event| lone.tell(event));
    lone.tell(Tell::Read { id, zxid: 41, found: Ok(Found::Nothing) });
    assert_eq!(lone.told, [Output::Event { zxid: 30, kind: EventKind::Changed, path: path("/a") }]);
    lone.client.gone(0, A);
    lone.client.linked(0, A);
    let nonce = lone.nonce();
    lone.attached(nonce, 50);
    assert!(matches!(lone.asked()[0], Ask::Rearm { seen: 41, .. }));
}

/// A voter that knew only that something was missed died after the first that it told. The next one remembered all of it, and
/// told it behind.
#[test]
fn what_was_missed_is_told_by_one_voter_and_in_order() {
    let mut lone = Lone::new();
    let id = lone.client.watch(0, Watch::Recursive, path("/a"), true).unwrap();
    lone.asked();
    lone.tell(Tell::Read { id, zxid: 20, found: Ok(Found::Nothing) });
    let mut last = None;
    for (zxid, kind, at) in [(30, EventKind::Resync, 30), (40, EventKind::Changed, 25)] {
        lone.client.gone(0, A);
        lone.client.linked(0, A);
        let nonce = lone.nonce();
        lone.attached(nonce, zxid);
        last = lone.asked().pop();
        lone.told.clear();
        lone.tell(Tell::Event { zxid: at, kind, path: path("/a") });
    }
    let Some(Ask::Read { id, .. }) = last else { panic!("nothing is asked") };
    lone.tell(Tell::Read { id, zxid: 41, found: Ok(Found::Nothing) });
    assert_eq!(lone.told, [Output::Event { zxid: 25, kind: EventKind::Changed, path: path("/a") }]);
}

/// A voter opened a session for a client that had given it up and opened another elsewhere. When the first one ended there,
/// the client took that for the end of the session that it has.
#[test]
fn the_end_of_a_session_that_was_given_up_is_not_the_end_of_the_present_one() {
    let mut lone = Lone::new();
    lone.client.gone(0, A);
    lone.tell(Tell::Lost);
    lone.client.linked(0, A);
    lone.tell(Tell::Lost);
    let nonce = lone.nonce();
    lone.attached(nonce, 40);
    assert_eq!(lone.client.state(), State::Connected);
    lone.tell(Tell::Lost);
    assert_eq!(lone.client.state(), State::Lost);
}

#[test]
fn a_voter_that_does_not_serve_is_left_and_one_that_has_no_room_for_watches_too() {
    let mut lone = Lone::new();
    lone.tell(Tell::Refused { of: Subject::Rearm, why: Refusal::Busy });
    assert_eq!((lone.client.state(), lone.client.voter()), (State::Suspended, None));
    let mut lone = Lone::new();
    lone.tell(Tell::Refused { of: Subject::Ping(1), why: Refusal::NotServing });
    assert_eq!((lone.client.state(), lone.client.voter()), (State::Suspended, None));
    lone.client.linked(0, A);
    assert_eq!(lone.asked().len(), 0, "it is not tried again");
    lone.client.know_voters(0, [A]);
    lone.client.linked(0, A);
    assert_eq!(lone.asked().len(), 1);
}
