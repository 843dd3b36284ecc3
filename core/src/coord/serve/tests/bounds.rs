//! Bounds, and what comes after them.

use super::*;
use crate::coord::raft::{Group, Member, StoreId};
use crate::coord::serve::talk::{Ask, Frame, Query, Refusal, Subject, Tell};
use crate::coord::serve::voter::{self, MAX_CHANNELS_OF_PEER, MAX_READS, Rejected, Voter};
use crate::id::PeerId;
use crate::time::WallTime;
use crate::wire::Codec;

/// More than a voter holds for one client is refused, sent again, and done in order all the same.
#[test]
fn requests_beyond_what_a_voter_holds_are_done_later_in_order() {
    let mut bench = Bench::new();
    let c = bench.client_at(bench.follower());
    bench.op(c, create("/a", ""));
    let large = "x".repeat(300_000);
    let calls: Vec<u64> = (0..64).map(|_| bench.call(c, Command::Op(set("/a", &large)))).collect();
    for (n, call) in calls.into_iter().enumerate() {
        match bench.reply(c, call) {
            Ok(Answer::Op(OpAnswer::Set(stat))) => assert_eq!(stat.version, n as i32 + 1),
            other => panic!("{other:?}"),
        }
    }
}

/// A voter of its own, to be spoken to by hand.
struct Alone {
    voter: Voter,
}

const CLIENT: PeerId = PeerId([9; 32]);

impl Alone {
    fn new() -> Self {
        let me = Member { peer: PeerId([1; 32]), store: StoreId(1) };
        let config = Config::default().build().unwrap();
        let group = Group::found(config, me, &[me], crate::coord::Machine::new(), 5).unwrap();
        let mut alone = Self { voter: Voter::new(me.peer, group, [3; 32], WallTime(0)) };
        while !alone.leads() {
            alone.voter.tick(100, WallTime(0));
            alone.told();
        }
        alone
    }

    fn leads(&self) -> bool {
        self.voter.group().role().standing == crate::coord::raft::Standing::Leader
    }

    /// What the client is told, by channel. Writes are durable at once.
    fn told(&mut self) -> Vec<(u64, Tell)> {
        let mut told = Vec::new();
        while let Some(output) = self.voter.poll() {
            match output {
                voter::Output::Persist { ticket, .. } => self.voter.persisted(ticket),
                voter::Output::Send { to: CLIENT, bytes } => match Frame::parse(&bytes) {
                    Ok(Frame::Tell(channel, tell)) => told.push((channel, tell)),
                    other => panic!("{other:?}"),
                },
                voter::Output::Told { channel, tell } => told.push((channel, tell)),
                _ => {}
            }
        }
        told
    }

    fn ask(&mut self, channel: u64, ask: Ask) -> Vec<Tell> {
        self.voter.frame(CLIENT, false, &Frame::Ask(channel, ask).to_bytes()).unwrap();
        let mut told = self.told();
        told.retain(|(to, _)| *to == channel);
        told.into_iter().map(|(_, tell)| tell).collect()
    }
}

/// A door of the voter's own peer hears the same, in the same order, as a client elsewhere, and no frame is made for it.
#[test]
fn a_door_of_its_own_peer_is_told_what_others_are_told_by_frames() {
    let large = "x".repeat(1 << 20);
    let read = |id, query| Ask::Read { id, after: 0, linear: id % 2 == 0, query, watch: false };
    let data = |path: &str| Query::Data(path.into());
    let asks = [
        Ask::Open { nonce: 1, ttl_ms: 10_000 },
        Ask::Call { seq: 0, acked_below: 0, command: Command::Op(create("/a", &large)) },
        Ask::Call { seq: 1, acked_below: 0, command: Command::Op(create("/a", "again")) },
        read(1, data("/a")),
        read(2, Query::Many(vec![data("/a"), data("/b")])),
        read(3, Query::Many(vec![data("/a"), data("/a"), data("/a")])),
        read(4, data("/b")),
        Ask::Ping { n: 1 },
    ];
    let known = |told: Vec<(u64, Tell)>| -> Vec<Tell> {
        assert!(told.iter().all(|(channel, _)| *channel == 5), "{told:?}");
        // Sessions and passwords are drawn.
        told.into_iter().map(|(_, tell)| tell).filter(|tell| !matches!(tell, Tell::Opened { .. })).collect()
    };
    let (mut elsewhere, mut here) = (Alone::new(), Alone::new());
    let mut told = [Vec::new(), Vec::new()];
    for ask in asks {
        elsewhere.voter.frame(CLIENT, false, &Frame::Ask(5, ask.clone()).to_bytes()).unwrap();
        told[0].extend(known(elsewhere.told()));
        here.voter.ask(5, ask);
        told[1].extend(known(here.told()));
    }
    for (alone, told) in [&mut elsewhere, &mut here].into_iter().zip(&mut told) {
        alone.voter.tick(100, WallTime(0));
        told.extend(known(alone.told()));
    }
    assert_eq!(told[0], told[1]);
    let too_large = Tell::Refused { of: Subject::Read(3), why: Refusal::TooLarge };
    assert!(told[1].contains(&too_large) && told[1].len() >= 8, "{} were told", told[1].len());
}

/// A voter whose client, or whose fellow voter, is broken or hostile.
pub(super) fn voter_hears(bytes: &[u8]) {
    let mut alone = Alone::new();
    alone.ask(300, Ask::Open { nonce: 1, ttl_ms: 10_000 });
    let _ = alone.voter.frame(CLIENT, false, bytes);
    alone.told();
    let fellow = alone.voter.group().identity().me.peer;
    let _ = alone.voter.frame(fellow, true, bytes);
    for _ in 0..3 {
        alone.voter.tick(100, WallTime(0));
        alone.told();
    }
    assert!(alone.leads());
}

#[test]
fn channels_of_a_peer_are_bounded_and_free_again_when_its_link_ends() {
    let mut alone = Alone::new();
    let open = |nonce| Ask::Open { nonce, ttl_ms: 10_000 };
    for channel in 0..MAX_CHANNELS_OF_PEER as u64 {
        let told = alone.ask(channel, open(channel));
        assert!(told.iter().any(|tell| matches!(tell, Tell::Opened { .. })), "{channel}: {told:?}");
    }
    let busy = Tell::Refused { of: Subject::Entry(7), why: Refusal::Busy };
    assert_eq!(alone.ask(9_999, open(7)), [busy]);
    assert_eq!(alone.voter.clients(), (MAX_CHANNELS_OF_PEER, MAX_CHANNELS_OF_PEER));
    alone.voter.gone(CLIENT);
    assert_eq!(alone.voter.clients(), (0, 0));
    assert!(alone.ask(9_999, open(7)).iter().any(|tell| matches!(tell, Tell::Opened { .. })));
}

/// A peer that opened and closed as many sessions as it may have channels had no channel left.
#[test]
fn channels_are_forgotten_with_their_sessions() {
    let mut alone = Alone::new();
    for channel in 0..MAX_CHANNELS_OF_PEER as u64 + 10 {
        let told = alone.ask(channel, Ask::Open { nonce: channel, ttl_ms: 10_000 });
        assert!(told.iter().any(|tell| matches!(tell, Tell::Opened { .. })), "{channel}: {told:?}");
        let told = alone.ask(channel, Ask::Call { seq: 0, acked_below: 0, command: Command::Close });
        assert_eq!(told.last(), Some(&Tell::Lost));
        assert_eq!(alone.voter.clients(), (0, 0));
    }
}

#[test]
fn a_channel_that_gets_no_session_is_forgotten_after_a_minute() {
    let mut alone = Alone::new();
    alone.ask(1, Ask::Ping { n: 1 });
    alone.ask(2, Ask::Open { nonce: 2, ttl_ms: 600_000 });
    assert_eq!(alone.voter.clients(), (2, 1));
    for _ in 0..600 {
        assert!(alone.voter.clients().0 <= 2);
        alone.voter.tick(100, WallTime(0));
        alone.told();
    }
    assert_eq!(alone.voter.clients(), (1, 1));
}

#[test]
fn a_session_that_moves_to_another_channel_leaves_none_behind() {
    let mut alone = Alone::new();
    let told = alone.ask(1, Ask::Open { nonce: 1, ttl_ms: 10_000 });
    let opened = told.iter().find_map(|tell| match tell {
        Tell::Opened { session, password, .. } => Some((*session, *password)),
        _ => None,
    });
    let (session, password) = opened.expect("a session");
    let told = alone.ask(2, Ask::Attach { nonce: 2, session, password, seen: 0 });
    assert!(told.iter().any(|tell| matches!(tell, Tell::Attached { next_seq: 0, .. })), "{told:?}");
    assert_eq!(alone.voter.clients(), (1, 1));
}

#[test]
fn reads_of_a_channel_are_bounded() {
    let mut alone = Alone::new();
    alone.ask(1, Ask::Open { nonce: 1, ttl_ms: 10_000 });
    let read = |id| Ask::Read { id, after: 99, linear: false, query: Query::Nothing, watch: false };
    for id in 0..MAX_READS as u64 {
        assert_eq!(alone.ask(1, read(id)), []);
    }
    let busy = Tell::Refused { of: Subject::Read(1_000), why: Refusal::Busy };
    assert_eq!(alone.ask(1, read(1_000)), [busy]);
}

#[test]
fn a_channel_without_a_session_gets_nothing() {
    let mut alone = Alone::new();
    let refused = |of| Tell::Refused { of, why: Refusal::NoSession };
    let call = Ask::Call { seq: 3, acked_below: 0, command: Command::Close };
    assert_eq!(alone.ask(1, call).last(), Some(&refused(Subject::Call(3))));
    assert_eq!(alone.ask(1, Ask::Ping { n: 4 }), [refused(Subject::Ping(4))]);
    let read = Ask::Read { id: 5, after: 0, linear: false, query: Query::Nothing, watch: false };
    assert_eq!(alone.ask(1, read), [refused(Subject::Read(5))]);
    let rearm = Ask::Rearm { seen: 0, watches: vec![] };
    assert_eq!(alone.ask(1, rearm), [refused(Subject::Rearm)]);
}

#[test]
fn what_a_client_may_not_say_is_not_taken() {
    use crate::coord::command::Body;
    use crate::coord::serve::talk::{Pass, Passed};
    use crate::coord::session::SessionId;
    let mut alone = Alone::new();
    let expire = Body::Expire { session: SessionId(1), renewal: 0 };
    let frames = [
        Frame::Raft(vec![1, 2, 3]),
        Frame::Tell(1, Tell::Lost),
        Frame::Pass(Pass::Propose(expire)),
        Frame::Pass(Pass::Touch { round: 1, sessions: vec![SessionId(1)] }),
        Frame::Passed(Passed::Again),
    ];
    for frame in frames {
        assert_eq!(alone.voter.frame(CLIENT, false, &frame.to_bytes()), Err(Rejected::Misplaced), "{frame:?}");
    }
    assert!(matches!(alone.voter.frame(CLIENT, false, &[77]), Err(Rejected::Malformed(_))));
    assert_eq!(alone.voter.rejected(), 6);
    assert_eq!(alone.told(), []);
}

/// A copy of the entry that attached a channel comes late: the channel keeps its session, and its requests are done.
#[test]
fn a_second_copy_of_an_attachment_changes_nothing_for_its_client() {
    let mut alone = Alone::new();
    let opened = alone.ask(1, Ask::Open { nonce: 1, ttl_ms: 10_000 });
    let Some(Tell::Opened { session, password, .. }) = opened.last().cloned() else { panic!("{opened:?}") };
    // The voter's own entry, as it would be passed on once more.
    let attached = alone.ask(1, Ask::Attach { nonce: 2, session, password, seen: 0 });
    assert!(matches!(attached.last(), Some(Tell::Attached { next_seq: 0, .. })), "{attached:?}");
    let entry = alone.voter.group().entry_at(alone.voter.group().applied().index).unwrap().1;
    let place = entry.windows(8).position(|bytes| bytes == session.0.to_le_bytes()).unwrap();
    let own: [u8; 8] = entry[place + 24..place + 32].try_into().unwrap();
    let body = crate::coord::command::Body::Attach { session, password, nonce: u64::from_le_bytes(own) };
    let copy = crate::coord::command::Entry { stamp: WallTime(0), body }.to_log().unwrap();
    alone.voter.operate(|group| group.propose(copy)).unwrap();
    assert_eq!(alone.told(), []);
    assert_eq!(alone.voter.group().machine().sessions().find(session).unwrap().attachment(), 2);
    let told = alone.ask(1, Ask::Call { seq: 0, acked_below: 0, command: Command::Op(create("/a", "")) });
    assert!(matches!(told[..], [Tell::Reply { seq: 0, reply: Ok(_), .. }]), "{told:?}");
}

/// What comes while a write is on its way becomes the next one, whole; alone, a request waits for nothing.
#[test]
fn proposals_that_come_together_are_one_write() {
    let mut alone = Alone::new();
    alone.ask(0, Ask::Open { nonce: 1, ttl_ms: 10_000 });
    let call = |seq| {
        let command = Command::Op(create(&format!("/{seq}"), ""));
        Frame::Ask(0, Ask::Call { seq, acked_below: 0, command }).to_bytes()
    };
    let say = |alone: &mut Alone, seqs: std::ops::Range<u64>| {
        seqs.for_each(|seq| alone.voter.frame(CLIENT, false, &call(seq)).unwrap());
        let (mut tickets, mut replies) = (Vec::new(), 0);
        while let Some(output) = alone.voter.poll() {
            match output {
                voter::Output::Persist { ticket, .. } => tickets.push(ticket),
                voter::Output::Send { to: CLIENT, bytes } => {
                    replies += u64::from(matches!(Frame::parse(&bytes), Ok(Frame::Tell(_, Tell::Reply { .. }))));
                }
                _ => {}
            }
        }
        (tickets, replies)
    };
    let (first, replies) = say(&mut alone, 0..1);
    assert_eq!((first.len(), replies), (1, 0));
    assert_eq!(say(&mut alone, 1..40), (Vec::new(), 0), "they wait for the write under way");
    alone.voter.persisted(first[0]);
    let (second, replies) = say(&mut alone, 40..41);
    assert_eq!((second.len(), replies), (1, 1), "all that waited, and what came meanwhile, is one write");
    alone.voter.persisted(second[0]);
    assert_eq!(say(&mut alone, 41..41), (Vec::new(), 40));
}
