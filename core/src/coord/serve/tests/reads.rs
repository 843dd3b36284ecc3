//! Reads: after one's own writes, after everybody's, and who may read.

use super::*;
use crate::coord::acl::{AclEntry, Identity, Perms};
use crate::coord::error::CoordError;
use crate::coord::serve::talk::identify;

#[test]
fn a_read_comes_after_the_requests_before_it_on_a_follower_too() {
    let mut bench = Bench::new();
    let c = bench.client_at(bench.follower());
    bench.op(c, create("/a", "0"));
    for n in 1..40 {
        let call = bench.call(c, Command::Op(set("/a", &n.to_string())));
        // Asked for before the answer to the write is here.
        let found = bench.read(c, Query::Data("/a".into()), false);
        assert_eq!(data_of(found), n.to_string());
        assert!(bench.reply(c, call).is_ok());
    }
}

#[test]
fn a_linear_read_sees_what_others_were_told() {
    let mut bench = Bench::new();
    let (writer, reader) = (bench.client_at(bench.leader()), bench.client_at(bench.follower()));
    bench.op(writer, create("/a", "0"));
    for n in 1..40 {
        bench.op(writer, set("/a", &n.to_string()));
        assert_eq!(data_of(bench.read(reader, Query::Data("/a".into()), true)), n.to_string());
    }
}

#[test]
fn several_queries_are_of_one_state() {
    let mut bench = Bench::new();
    let c = bench.client_at(bench.follower());
    bench.ask(c, Command::Multi(vec![create("/a", "1"), create("/b", "1")])).unwrap();
    let writer = bench.client_at(bench.leader());
    for n in 2..10 {
        bench.call(writer, Command::Multi(vec![set("/a", &n.to_string()), set("/b", &n.to_string())]));
        let both = vec![Query::Data("/a".into()), Query::Data("/b".into()), Query::Exists("/none".into())];
        let Ok(Found::Many(found)) = bench.read(c, Query::Many(both), true) else { panic!("no answer") };
        let [Ok(Found::Data(a, _)), Ok(Found::Data(b, _)), Err(CoordError::NoNode)] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!(a, b);
    }
}

#[test]
fn what_cannot_be_asked_is_refused_before_it_is_sent() {
    use crate::coord::serve::client::CallError;
    let mut bench = Bench::new();
    let c = bench.client_at(0);
    let now = bench.world.client_ms(c);
    let client = &mut bench.world.clients[c];
    let long = "/".to_owned() + &"a".repeat(20_000);
    assert!(client.call(now, Command::Op(create(&long, ""))).is_err());
    let many = (0..4_096).map(|n| create(&format!("/{}{n}", "a".repeat(1_000)), "")).collect();
    assert!(client.call(now, Command::Multi(many)).is_err());
    assert_eq!(client.read(now, Query::Data(long), false, false), Err(CallError::TooLarge));
    assert_eq!(client.authenticate(now, "digest", &[b'x'; 2_000]), Err(CallError::TooLarge));
    let nested = Query::Many(vec![Query::Many(vec![Query::Nothing])]);
    assert_eq!(client.read(now, nested, false, false), Err(CallError::TooLarge));
    // None of this stands in the way of what follows.
    bench.op(c, create("/a", "x"));
}

/// A list is judged by what the voter knows of the client, and a voter that takes over knows as much.
#[test]
fn lists_hold_for_clients_by_what_they_authenticated_as() {
    let mut bench = Bench::new();
    let seat = bench.follower();
    let (owner, other) = (bench.client_at(seat), bench.client_at(bench.leader()));
    let now = bench.world.client_ms(owner);
    let name = bench.world.clients[owner].authenticate(now, "digest", b"joe:secret").unwrap();
    bench.world.pump_client(owner).unwrap();
    assert_eq!(bench.found(owner, name), Ok(Found::Nothing));
    let identity = identify("digest", b"joe:secret").unwrap();
    // As ZooKeeper's DigestAuthenticationProvider writes it.
    assert_eq!(identity, Identity::new("digest", "joe:oesAybBun9icKJjQSTRN8OBueSc="));
    let acl = Acl::new(vec![AclEntry { perms: Perms::ALL, who: identity }]);
    let (data, mode) = (bytes("mine"), Mode::Persistent);
    bench.op(owner, Op::Create { path: "/joe".into(), data, acl, mode, sequential: false });
    let denied = Err(ReadError::Coord(CoordError::NoAuth));
    assert_eq!(bench.read(other, Query::Data("/joe".into()), true), denied);
    assert_eq!(bench.ask(other, Command::Op(set("/joe", "taken"))), Err(CoordError::NoAuth));
    bench.world.crash(seat);
    bench.becomes(owner, State::Suspended);
    bench.becomes(owner, State::Connected);
    bench.op(owner, set("/joe", "still mine"));
    assert_eq!(data_of(bench.read(owner, Query::Data("/joe".into()), true)), "still mine");
    let now = bench.world.client_ms(other);
    let name = bench.world.clients[other].authenticate(now, "magic", b"x").unwrap();
    bench.world.pump_client(other).unwrap();
    let refused = ReadError::Refused(crate::coord::serve::talk::Refusal::Scheme);
    assert_eq!(bench.found(other, name), Err(refused));
}

#[test]
fn a_client_finds_what_it_watches_and_what_ends_with_it() {
    let mut bench = Bench::new();
    let (c, other) = (bench.client_at(bench.follower()), bench.client_at(bench.leader()));
    bench.op(c, create("/a", "x"));
    for name in ["/a/b", "/ab", "/b"] {
        let mode = Mode::Ephemeral;
        bench.op(c, Op::Create { path: name.into(), data: bytes(""), acl: Acl::open(), mode, sequential: false });
    }
    bench.watch(c, Watch::Recursive, "/a");
    let read = bench.begin_read(c, Query::Data("/a".into()), false, true);
    bench.found(c, read).expect("the data");
    let watches = Found::Watches(vec![Watch::Data, Watch::Recursive]);
    assert_eq!(bench.read(c, Query::Watches("/a".into()), false), Ok(watches));
    assert_eq!(bench.read(other, Query::Watches("/a".into()), true), Ok(Found::Watches(vec![])));
    let paths = |paths: &[&str]| Ok(Found::Paths(paths.iter().map(|path| (*path).to_owned()).collect()));
    assert_eq!(bench.read(c, Query::Ephemerals("/a".into()), false), paths(&["/a/b", "/ab"]));
    assert_eq!(bench.read(other, Query::Ephemerals("/".into()), true), paths(&[]));
    assert_eq!(bench.read(other, Query::Descendants("/".into()), true), Ok(Found::Count(4)));
    assert_eq!(bench.read(other, Query::Descendants("/a".into()), true), Ok(Found::Count(1)));
    let none = Err(ReadError::Coord(CoordError::NoNode));
    assert_eq!(bench.read(other, Query::Descendants("/none".into()), true), none);
}

/// Whoever could say where it connects from could say that it is somebody else.
#[test]
fn a_voter_believes_an_address_only_its_own_peer() {
    let mut bench = Bench::new();
    let c = bench.client_at(bench.follower());
    let now = bench.world.client_ms(c);
    let name = bench.world.clients[c].authenticate(now, "ip", b"10.0.0.1").unwrap();
    bench.world.pump_client(c).unwrap();
    let refused = ReadError::Refused(crate::coord::serve::talk::Refusal::Scheme);
    assert_eq!(bench.found(c, name), Err(refused));
}
