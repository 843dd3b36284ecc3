//! Watches: the event before the data, once or again and again, and no gap when voters change.

use super::*;

#[test]
fn the_event_comes_before_the_data_it_is_about() {
    let mut bench = Bench::new();
    let (reader, writer) = (bench.client_at(bench.follower()), bench.client_at(bench.leader()));
    bench.op(writer, create("/a", "0"));
    assert_eq!(data_of(bench.read(reader, Query::Data("/a".into()), true)), "0");
    bench.watch(reader, Watch::Persistent, "/a");
    for n in 1..20 {
        bench.call(writer, Command::Op(set("/a", &n.to_string())));
        loop {
            let name = bench.begin_read(reader, Query::Data("/a".into()), false, false);
            let (zxid, event) = bench.told(reader, "an event or an answer", |output| match output {
                Output::Event { zxid, .. } => Some((*zxid, true)),
                Output::Read { read, found: Ok(Found::Data(_, stat)), .. } if *read == name => {
                    Some((stat.mzxid, false))
                }
                _ => None,
            });
            if event {
                let Ok(Found::Data(data, stat)) = bench.found(reader, name) else { panic!("no data") };
                assert!(stat.mzxid >= zxid || data[..] == (n - 1).to_string().into_bytes());
                break;
            }
        }
    }
    assert!(bench.no_event(reader));
}

#[test]
fn a_one_shot_watch_is_set_with_the_read_and_fires_once() {
    let mut bench = Bench::new();
    let (reader, writer) = (bench.client_at(bench.follower()), bench.client_at(bench.leader()));
    let name = bench.begin_read(reader, Query::Exists("/a".into()), true, true);
    assert!(bench.found(reader, name).is_err());
    let stat = bench.op(writer, create("/a", "0"));
    assert_eq!(bench.event(reader), (stat.czxid, EventKind::Created, "/a".to_owned()));
    let name = bench.begin_read(reader, Query::Data("/a".into()), false, true);
    assert_eq!(data_of(bench.found(reader, name)), "0");
    let stat = bench.op(writer, set("/a", "1"));
    bench.op(writer, set("/a", "2"));
    assert_eq!(bench.event(reader), (stat.mzxid, EventKind::Changed, "/a".to_owned()));
    assert_eq!(data_of(bench.read(reader, Query::Data("/a".into()), true)), "2");
    assert!(bench.no_event(reader));
}

#[test]
fn a_recursive_watch_sees_everything_below_and_can_be_taken_back() {
    let mut bench = Bench::new();
    let (reader, writer) = (bench.client_at(bench.follower()), bench.client_at(bench.leader()));
    bench.watch(reader, Watch::Recursive, "/a");
    let first = bench.op(writer, create("/a", "")).czxid;
    let second = bench.op(writer, create("/a/b", "")).czxid;
    let third = bench.op(writer, set("/a/b", "x")).mzxid;
    let seen: Vec<_> = (0..3).map(|_| bench.event(reader)).collect();
    assert_eq!(
        seen,
        [
            (first, EventKind::Created, "/a".to_owned()),
            (second, EventKind::Created, "/a/b".to_owned()),
            (third, EventKind::Changed, "/a/b".to_owned()),
        ]
    );
    let now = bench.world.client_ms(reader);
    let name = bench.world.clients[reader].watch(now, Watch::Recursive, path("/a"), false).unwrap();
    bench.world.pump_client(reader).unwrap();
    assert_eq!(bench.found(reader, name), Ok(Found::Nothing));
    bench.op(writer, set("/a/b", "y"));
    assert_eq!(data_of(bench.read(reader, Query::Data("/a/b".into()), true)), "y");
    assert!(bench.no_event(reader));
}

/// What changed while the client had no voter is told by the next one, in order and once.
#[test]
fn watches_are_set_again_after_a_change_of_voters_without_a_gap() {
    let mut bench = Bench::new();
    let (seat, leader) = (bench.follower(), bench.leader());
    let (reader, writer) = (bench.client_at(seat), bench.client_at(leader));
    bench.op(writer, create("/a", "0"));
    bench.op(writer, create("/once", "0"));
    assert_eq!(data_of(bench.read(reader, Query::Data("/a".into()), true)), "0");
    bench.watch(reader, Watch::Persistent, "/a");
    let name = bench.begin_read(reader, Query::Data("/once".into()), false, true);
    bench.found(reader, name).unwrap();
    bench.world.crash(seat);
    let changes: Vec<u64> = (1..10).map(|n| bench.op(writer, set("/a", &n.to_string())).mzxid).collect();
    bench.op(writer, set("/once", "1"));
    bench.becomes(reader, State::Connected);
    assert_eq!(data_of(bench.read(reader, Query::Data("/a".into()), true)), "9");
    let told = bench.world.told[reader].iter().filter_map(|output| match output {
        Output::Event { zxid, kind, path } if path.as_str() == "/a" => Some((*zxid, *kind)),
        _ => None,
    });
    let told: Vec<_> = told.collect();
    let expected: Vec<_> = changes.into_iter().map(|zxid| (zxid, EventKind::Changed)).collect();
    assert_eq!(told, expected);
    let once = bench.world.told[reader].iter().filter(
        |output| matches!(output, Output::Event { path, kind: EventKind::Changed, .. } if path.as_str() == "/once"),
    );
    assert_eq!(once.count(), 1);
}

/// A voter that was away too long has a snapshot, not what happened: the client reads again.
#[test]
fn a_voter_that_jumped_ahead_says_that_something_was_missed() {
    let mut bench = Bench::with(Config::default().compaction(20, 1 << 20, 0));
    let (seat, leader) = (bench.follower(), bench.leader());
    let (reader, writer) = (bench.client_at(seat), bench.client_at(leader));
    bench.op(writer, create("/a", "0"));
    assert_eq!(data_of(bench.read(reader, Query::Data("/a".into()), true)), "0");
    bench.watch(reader, Watch::Recursive, "/a");
    let held = bench.lock(writer, "/l", Wait::Forever);
    let token = bench.granted(writer, held);
    let waits = bench.lock(reader, "/l", Wait::Forever);
    assert!(matches!(bench.reply(reader, waits), Ok(Answer::Queued { ahead: 1 })));
    bench.cut_from_voters(seat, 1_500);
    for n in 1..100 {
        bench.op(writer, set("/a", &n.to_string()));
    }
    assert_eq!(bench.release(writer, "/l", token), Ok(Answer::Done));
    // The grant was missed; where the request stands is asked for.
    bench.granted(reader, waits);
    let installed = bench.world.seats[seat].voter.as_ref().unwrap().group().counters().snapshots_installed;
    assert_eq!((bench.seat_of(reader), installed), (seat, 1));
    bench.told(reader, "a resync", |output| {
        matches!(output, Output::Event { kind: EventKind::Resync, path, .. } if path.as_str() == "/a").then_some(())
    });
    assert_eq!(data_of(bench.read(reader, Query::Data("/a".into()), false)), "99");
}
