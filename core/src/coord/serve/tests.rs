//! Clients and voters in a small world: three voters, nothing going wrong but what a test does.

mod bounds;
mod client;
mod frames;
mod locks;
mod reads;
mod sessions;
mod watches;

use std::sync::Arc;
use std::time::Duration;

use super::client::{Output, ReadError, State};
use super::sim::net::Wires;
use super::sim::world::World;
use super::talk::{Found, Query};
use crate::coord::acl::Acl;
use crate::coord::claim::{Kind, Share, Wait};
use crate::coord::command::Command;
use crate::coord::op::{Mode, Op, OpAnswer};
use crate::coord::path::NodePath;
use crate::coord::raft::Config;
use crate::coord::reply::{Answer, Reply};
use crate::coord::stat::Stat;
use crate::coord::token::FencingToken;
use crate::coord::watch::{EventKind, Watch};
use crate::sim::dice::Dice;

const TTL_MS: u64 = 6_000;

/// Longest that a test waits, in virtual time.
const PATIENCE_MS: u64 = 60_000;

struct Bench {
    world: World,
}

impl Bench {
    /// Three voters and a leader, no clients.
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let mut world = World::new(Dice::new(7), Wires::CALM, config, None, false);
        world.found(3, 0, false);
        let mut bench = Self { world };
        bench.until("a leader", |bench| bench.world.leader().is_some());
        bench
    }

    fn step(&mut self) {
        let end = self.world.queue.now() + Duration::from_millis(PATIENCE_MS);
        let (_, event) = self.world.queue.next_until(end).expect("there is always a tick");
        self.world.step(event).unwrap();
    }

    fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = self.now() + PATIENCE_MS;
        while !holds(self) {
            assert!(self.now() < end, "waited in vain for {what}");
            self.step();
        }
    }

    fn pass(&mut self, ms: u64) {
        let end = self.now() + ms;
        while self.now() < end {
            self.step();
        }
    }

    /// True time in milliseconds; no clock drifts here.
    fn now(&self) -> u64 {
        self.world.queue.now().as_micros() / 1_000
    }

    fn leader(&self) -> usize {
        self.world.leader().expect("somebody leads")
    }

    fn follower(&self) -> usize {
        (self.leader() + 1) % 3
    }

    /// A client whose first voter is this one.
    fn client_at(&mut self, seat: usize) -> usize {
        let c = self.world.add_client_of(&[seat], TTL_MS, false);
        self.world.pump_client(c).unwrap();
        self.until("a session", |bench| bench.world.clients[c].state() == State::Connected);
        self.world.told[c].clear();
        c
    }

    fn call(&mut self, c: usize, command: Command) -> u64 {
        let now = self.world.client_ms(c);
        let call = self.world.clients[c].call(now, command).unwrap();
        self.world.pump_client(c).unwrap();
        call
    }

    /// Waits for something that a client is told.
    fn told<T>(&mut self, c: usize, what: &str, mut find: impl FnMut(&Output) -> Option<T>) -> T {
        let end = self.now() + PATIENCE_MS;
        loop {
            let found = self.world.told[c].iter().enumerate().find_map(|(at, output)| Some((at, find(output)?)));
            if let Some((at, found)) = found {
                self.world.told[c].remove(at);
                return found;
            }
            assert!(self.now() < end, "client {c} waited in vain for {what}");
            self.step();
        }
    }

    fn reply(&mut self, c: usize, name: u64) -> Reply {
        self.told(c, "a reply", |output| match output {
            Output::Reply { call, reply, .. } if *call == name => Some(reply.clone()),
            _ => None,
        })
    }

    fn ask(&mut self, c: usize, command: Command) -> Reply {
        let call = self.call(c, command);
        self.reply(c, call)
    }

    fn op(&mut self, c: usize, op: Op) -> Stat {
        match self.ask(c, Command::Op(op)) {
            Ok(Answer::Op(OpAnswer::Created { stat, .. } | OpAnswer::Set(stat))) => stat,
            other => panic!("{other:?}"),
        }
    }

    fn read(&mut self, c: usize, query: Query, linear: bool) -> Result<Found, ReadError> {
        let name = self.begin_read(c, query, linear, false);
        self.found(c, name)
    }

    fn begin_read(&mut self, c: usize, query: Query, linear: bool, watch: bool) -> u64 {
        let now = self.world.client_ms(c);
        let name = self.world.clients[c].read(now, query, linear, watch).unwrap();
        self.world.pump_client(c).unwrap();
        name
    }

    fn found(&mut self, c: usize, name: u64) -> Result<Found, ReadError> {
        self.told(c, "an answer", |output| match output {
            Output::Read { read, found, .. } if *read == name => Some(found.clone()),
            _ => None,
        })
    }

    fn watch(&mut self, c: usize, watch: Watch, at: &str) {
        let now = self.world.client_ms(c);
        let name = self.world.clients[c].watch(now, watch, path(at), true).unwrap();
        self.world.pump_client(c).unwrap();
        assert_eq!(self.found(c, name), Ok(Found::Nothing));
    }

    /// The next event, and of which entry.
    fn event(&mut self, c: usize) -> (u64, EventKind, String) {
        self.told(c, "an event", |output| match output {
            Output::Event { zxid, kind, path } => Some((*zxid, *kind, path.as_str().to_owned())),
            _ => None,
        })
    }

    /// No event is there.
    fn no_event(&self, c: usize) -> bool {
        !self.world.told[c].iter().any(|output| matches!(output, Output::Event { .. }))
    }

    fn becomes(&mut self, c: usize, state: State) {
        self.told(c, &format!("state {state:?}"), |output| (*output == Output::State(state)).then_some(()));
    }

    fn lock(&mut self, c: usize, at: &str, wait: Wait) -> u64 {
        self.call(c, acquire(at, Share::Exclusive, wait, 0))
    }

    fn granted(&mut self, c: usize, call: u64) -> FencingToken {
        self.told(c, "a grant", |output| match output {
            Output::Reply { call: name, reply: Ok(Answer::Granted(token)), .. } if *name == call => Some(*token),
            Output::Reply { call: name, reply: Err(error), .. } if *name == call => panic!("{error}"),
            _ => None,
        })
    }

    fn release(&mut self, c: usize, at: &str, token: FencingToken) -> Reply {
        self.ask(c, Command::Release { kind: Kind::Lock, path: at.to_owned(), token })
    }

    fn seat_of(&self, c: usize) -> usize {
        let peer = self.world.clients[c].voter().expect("a voter serves it");
        self.world.seats.iter().position(|seat| seat.member.peer == peer).expect("a seat")
    }

    /// Nobody hears a party, nor is heard by it, for so long.
    fn cut_off(&mut self, n: usize, ms: u64) {
        for other in (0..self.world.parties.len()).filter(|other| *other != n) {
            self.world.cut(n, other, ms);
            self.world.cut(other, n, ms);
        }
    }

    /// A voter hears no other voter.
    fn cut_from_voters(&mut self, n: usize, ms: u64) {
        for other in (0..3).filter(|other| *other != n) {
            self.world.cut(n, other, ms);
            self.world.cut(other, n, ms);
        }
    }
}

fn path(text: &str) -> NodePath {
    NodePath::parse(text).unwrap()
}

fn bytes(text: &str) -> Arc<[u8]> {
    text.as_bytes().into()
}

fn create(path: &str, data: &str) -> Op {
    Op::Create { path: path.into(), data: bytes(data), acl: Acl::open(), mode: Mode::Persistent, sequential: false }
}

fn append(path: &str, data: &str) -> Command {
    let (path, data, acl, mode) = (path.into(), bytes(data), Acl::open(), Mode::Persistent);
    Command::Op(Op::Create { path, data, acl, mode, sequential: true })
}

fn set(path: &str, data: &str) -> Op {
    Op::Set { path: path.into(), data: bytes(data), version: -1 }
}

fn acquire(at: &str, share: Share, wait: Wait, delay_ms: u64) -> Command {
    let value = Arc::default();
    Command::Acquire { kind: Kind::Lock, path: at.into(), share, wait, delay_ms, value }
}

fn data_of(found: Result<Found, ReadError>) -> String {
    match found {
        Ok(Found::Data(data, _)) => String::from_utf8(data.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}
