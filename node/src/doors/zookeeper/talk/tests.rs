use foreshore::coord::reply::Answer;
use foreshore::peer::coord::{OpAnswer, Stat};

use super::super::jute::Writer;
use super::*;

fn talk() -> (Talk, Instant) {
    let now = Instant::now();
    (Talk::new(Duration::from_secs(10), 0, 5, None, now), now)
}

fn frame(xid: i32, code: i32, body: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut w = Writer::default();
    w.i32(xid).i32(code);
    body(&mut w);
    w.finish()
}

fn set(xid: i32) -> Vec<u8> {
    frame(xid, code::SET_DATA, |w| {
        w.string("/a").buffer(b"x").i32(-1);
    })
}

fn get(xid: i32) -> Vec<u8> {
    frame(xid, code::GET_DATA, |w| {
        w.string("/a").bool(true);
    })
}

fn stat() -> Stat {
    Stat {
        czxid: 1,
        mzxid: 2,
        pzxid: 1,
        ctime: 0,
        mtime: 0,
        version: 1,
        cversion: 0,
        aversion: 0,
        life: foreshore::peer::coord::Life::Persistent,
        data_length: 1,
        num_children: 0,
    }
}

fn done(seq: u64) -> Tell {
    Tell::Reply { seq, zxid: 6 + seq, reply: Ok(Answer::Op(OpAnswer::Set(stat()))) }
}

fn found(id: u64) -> Tell {
    Tell::Read { id, zxid: 9, found: Ok(Found::Data(b"x".as_slice().into(), stat())) }
}

/// The xids of the answers that are to be written.
fn answers(talk: &mut Talk) -> Vec<i32> {
    let bytes = std::mem::take(talk.out());
    let (mut r, mut xids) = (Reader::new(&bytes), Vec::new());
    while r.remaining() > 0 {
        let frame = r.buffer("frame").expect("whole frames").expect("not null");
        xids.push(Reader::new(frame).i32("xid").expect("a header"));
    }
    xids
}

fn calls(asks: &[Ask]) -> Vec<&'static str> {
    let name = |ask: &Ask| match ask {
        Ask::Call { .. } => "call",
        Ask::Read { .. } => "read",
        Ask::Ping { .. } => "ping",
        Ask::Watch { .. } => "watch",
        Ask::Unwatch { .. } => "unwatch",
        Ask::Rearm { .. } => "rearm",
        _ => "other",
    };
    asks.iter().map(name).collect()
}

#[tokio::test]
async fn a_change_waits_for_the_reads_before_it_and_a_read_is_asked_after_its_changes() {
    let (mut talk, now) = talk();
    for frame in [set(1), get(2), set(3)] {
        talk.on_frame(now, &frame).expect("a request");
    }
    let asks = talk.take_asks();
    assert_eq!(calls(&asks), ["call", "read"]);
    assert!(matches!(asks[1], Ask::Read { after: 1, watch: true, linear: false, .. }));
    talk.on_tell(now, done(0)).expect("it goes on");
    assert_eq!(answers(&mut talk), [1]);
    assert!(talk.take_asks().is_empty());
    talk.on_tell(now, found(1)).expect("it goes on");
    assert_eq!(answers(&mut talk), [2]);
    assert_eq!(calls(&talk.take_asks()), ["call"]);
}

#[tokio::test]
async fn answers_leave_in_the_order_of_requests_and_events_when_they_are_told() {
    let (mut talk, now) = talk();
    for frame in [get(1), frame(2, code::WHO_AM_I, |_| ()), get(3)] {
        talk.on_frame(now, &frame).expect("a request");
    }
    // What is answered here waits for what was asked before.
    assert!(answers(&mut talk).is_empty());
    let path = NodePath::parse("/a").expect("a path");
    talk.on_tell(now, Tell::Event { zxid: 8, kind: EventKind::Changed, path }).expect("it goes on");
    talk.on_tell(now, found(0)).expect("it goes on");
    talk.on_tell(now, found(2)).expect("it goes on");
    assert_eq!(answers(&mut talk), [-1, 1, 2, 3]);
}

#[tokio::test]
async fn sync_is_linear_and_alone() {
    let (mut talk, now) = talk();
    let sync = frame(2, code::SYNC, |w| {
        w.string("/a");
    });
    for frame in [set(1), sync, get(3)] {
        talk.on_frame(now, &frame).expect("a request");
    }
    assert_eq!(calls(&talk.take_asks()), ["call"]);
    talk.on_tell(now, done(0)).expect("it goes on");
    let asks = talk.take_asks();
    assert!(matches!(asks[..], [Ask::Read { linear: true, query: Query::Nothing, .. }]));
    talk.on_tell(now, Tell::Read { id: 1, zxid: 7, found: Ok(Found::Nothing) }).expect("it goes on");
    assert_eq!(calls(&talk.take_asks()), ["read"]);
    assert_eq!(answers(&mut talk), [1, 2]);
}

#[tokio::test]
async fn whoever_sends_more_than_there_is_room_for_is_not_read_from() {
    let (mut talk, now) = talk();
    let mut taken = 0;
    while talk.has_room() {
        talk.on_frame(now, &set(taken)).expect("a request");
        taken += 1;
    }
    assert_eq!(taken as usize, MAX_QUEUED + MAX_IN_FLIGHT as usize);
    assert_eq!(talk.take_asks().len(), MAX_IN_FLIGHT as usize);
    talk.on_tell(now, done(0)).expect("it goes on");
    assert!(talk.has_room());
}

#[tokio::test]
async fn removing_watches_takes_back_those_that_are_meant() {
    let (mut talk, now) = talk();
    let remove = frame(1, code::REMOVE_WATCHES, |w| {
        w.string("/a").i32(2);
    });
    talk.on_frame(now, &remove).expect("a request");
    talk.take_asks();
    let watches = Found::Watches(vec![Watch::Data, Watch::Children, Watch::Exists]);
    talk.on_tell(now, Tell::Read { id: 0, zxid: 9, found: Ok(watches) }).expect("it goes on");
    let asks = talk.take_asks();
    let taken: Vec<Watch> =
        asks.iter().filter_map(|ask| if let Ask::Unwatch { watch, .. } = ask { Some(*watch) } else { None }).collect();
    assert_eq!(taken, [Watch::Data, Watch::Exists]);
    talk.on_tell(now, Tell::Read { id: 0, zxid: 9, found: Ok(Found::Nothing) }).expect("it goes on");
    assert_eq!(answers(&mut talk), [1]);
}

#[tokio::test]
async fn a_ping_is_answered_when_a_majority_has_confirmed_it() {
    let (mut talk, now) = talk();
    for _ in 0..2 {
        talk.on_frame(now, &frame(-2, code::PING, |_| ())).expect("a request");
    }
    assert_eq!(calls(&talk.take_asks()), ["ping", "ping"]);
    assert!(answers(&mut talk).is_empty());
    talk.on_tell(now, Tell::Pong { n: 2, zxid: 9 }).expect("it goes on");
    assert_eq!(answers(&mut talk), [-2, -2]);
}

#[tokio::test]
async fn a_client_that_only_reads_gives_signs_of_life() {
    let (mut talk, now) = talk();
    talk.on_frame(now, &get(1)).expect("a request");
    assert_eq!(calls(&talk.take_asks()), ["read"]);
    talk.on_frame(now + Duration::from_secs(3), &get(2)).expect("a request");
    assert_eq!(calls(&talk.take_asks()), ["ping", "read"]);
}

#[tokio::test]
async fn nothing_waits_for_ever() {
    let (mut talk, now) = talk();
    talk.on_frame(now, &get(1)).expect("a request");
    assert_eq!(talk.on_tick(now + Duration::from_secs(9)), Ok(()));
    assert_eq!(talk.on_tick(now + Duration::from_secs(10)), Err(End::Stalled));
    let (mut talk, now) = self::talk();
    talk.on_tell(now, Tell::Status { led: false, voters: Vec::new() }).expect("it goes on");
    assert_eq!(talk.on_tick(now + LEADERLESS), Err(End::Leaderless));
    talk.on_tell(now, Tell::Status { led: true, voters: Vec::new() }).expect("it goes on");
    assert_eq!(talk.on_tick(now + LEADERLESS), Ok(()));
}

#[tokio::test]
async fn failed_authentication_is_told_and_ends_the_conversation() {
    let (mut talk, now) = talk();
    let auth = |scheme: &str| {
        frame(-4, code::AUTH, |w| {
            w.i32(0).string(scheme).buffer(b"joe:x");
        })
    };
    assert!(talk.on_frame(now, &auth("digest")).is_ok());
    assert_eq!(talk.on_frame(now, &auth("kerberos")), Err(End::Authentication));
    assert_eq!(answers(&mut talk), [-4, -4]);
}

#[tokio::test]
async fn frames_that_are_no_requests_are_answered_and_those_without_a_header_end_it() {
    let (mut talk, now) = talk();
    talk.on_frame(now, &frame(7, code::GET_DATA, |_| ())).expect("a header");
    let bytes = std::mem::take(talk.out());
    let mut r = Reader::new(&bytes);
    let frame = r.buffer("frame").expect("a frame").expect("not null");
    let mut r = Reader::new(frame);
    assert_eq!((r.i32("xid"), r.i64("zxid"), r.i32("error")), (Ok(7), Ok(5), Ok(Code::MarshallingError as i32)));
    assert!(matches!(talk.on_frame(now, &[0; 7]), Err(End::Malformed(_))));
}

#[tokio::test]
async fn answers_that_wait_for_their_turn_are_bounded() {
    let (mut talk, now) = talk();
    talk.on_frame(now, &get(1)).unwrap();
    let who = frame(2, code::WHO_AM_I, |_| ());
    let taken = (0..10_000).take_while(|_| talk.has_room() && talk.on_frame(now, &who).is_ok()).count();
    assert_eq!(taken, MAX_OUTSTANDING - 1);
    // The read that all of them wait for.
    talk.on_tell(now, found(0)).unwrap();
    assert_eq!(answers(&mut talk).len(), MAX_OUTSTANDING);
    assert!(talk.has_room());
}
