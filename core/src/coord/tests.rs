//! A machine and its twin, which is fed the same entries, now and then by way of a snapshot.

mod claims;
mod codec;
mod duties;
mod model;
mod queues;
mod random;
mod sessions;
mod snapshots;
mod trees;
mod vectors;
mod watches;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::acl::{Acl, Identity};
use super::claim::{Kind, Share, Wait};
use super::command::{Body, Command, Entry, Request};
use super::op::{Mode, Op, OpAnswer};
use super::reply::{Answer, Output, Reply, Settled};
use super::session::PASSWORD_LEN;
use super::stat::Stat;
use super::*;
use crate::time::WallTime;

const PASSWORD: [u8; PASSWORD_LEN] = [7; PASSWORD_LEN];

struct Rig {
    machine: Machine,
    twin: Machine,
    index: u64,
    seqs: BTreeMap<SessionId, u64>,
    identities: Vec<Identity>,
    last: Output,
}

impl Rig {
    fn new() -> Self {
        Self {
            machine: Machine::new(),
            twin: Machine::new(),
            index: 0,
            seqs: BTreeMap::new(),
            identities: Vec::new(),
            last: Output::default(),
        }
    }

    /// With sessions 1, 2, … of 10 s each.
    fn with_sessions(count: u64) -> Self {
        let mut rig = Self::new();
        (1..=count).for_each(|id| rig.open(id));
        rig
    }

    fn apply(&mut self, body: Body) -> Output {
        self.index += 1;
        let entry = Entry { stamp: WallTime(1_000 + self.index as i64), body }.to_log().unwrap();
        let output = self.machine.apply(self.index, &entry);
        assert_eq!(self.twin.apply(self.index, &entry), output);
        self.last = output.clone();
        output
    }

    fn open(&mut self, id: u64) {
        let opened = self.apply(open(id, 10_000));
        assert_eq!(opened.reply, Some(Ok(Answer::Opened { ttl_ms: 10_000 })));
        self.seqs.insert(SessionId(id), 0);
    }

    fn request(&mut self, id: u64, seq: u64, acked_below: u64, command: Command) -> Reply {
        let identities = self.identities.clone();
        let request = Request { session: SessionId(id), attachment: 0, seq, acked_below, identities, command };
        self.apply(Body::Request(request)).reply.expect("a request has an answer")
    }

    /// The session's next request; all earlier ones are acknowledged.
    fn ask(&mut self, id: u64, command: Command) -> Reply {
        let seq = self.seqs[&SessionId(id)];
        self.seqs.insert(SessionId(id), seq + 1);
        self.request(id, seq, seq, command)
    }

    fn op(&mut self, id: u64, op: Op) -> Result<OpAnswer, CoordError> {
        self.ask(id, Command::Op(op)).map(|answer| match answer {
            Answer::Op(answer) => answer,
            other => panic!("an operation answered {other:?}"),
        })
    }

    fn create(&mut self, path: &str) -> Stat {
        match self.op(1, create(path, Mode::Persistent)) {
            Ok(OpAnswer::Created { stat, .. }) => stat,
            other => panic!("creating {path} gave {other:?}"),
        }
    }

    fn stat(&self, path: &str) -> Stat {
        self.machine.tree().stat(path).unwrap()
    }

    fn acquire(&mut self, id: u64, path: &str, share: Share, wait: Wait) -> Reply {
        self.ask(id, acquire(Kind::Lock, path, share, wait, 0))
    }

    /// Gets an exclusive lock that is free.
    fn lock(&mut self, id: u64, path: &str) -> FencingToken {
        token(&self.acquire(id, path, Share::Exclusive, Wait::Try))
    }

    fn release(&mut self, id: u64, path: &str, token: FencingToken) -> Reply {
        self.ask(id, Command::Release { kind: Kind::Lock, path: path.into(), token })
    }

    fn expire(&mut self, id: u64) -> Output {
        let session = SessionId(id);
        let renewal = self.machine.sessions().find(session).map_or(0, |session| session.renewal());
        self.apply(Body::Expire { session, renewal })
    }

    /// Brings the twin to the state of the machine by a snapshot, and compares.
    fn restore_twin(&mut self) {
        let mut twin = Machine::new();
        twin.restore(&self.machine.snapshot()).unwrap();
        assert!(twin == self.machine);
        assert_eq!(twin.digest(), self.machine.digest());
        self.twin = twin;
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.machine.digest(), self.twin.digest());
            self.restore_twin();
        }
    }
}

fn open(session: u64, ttl_ms: u64) -> Body {
    Body::Open { session: SessionId(session), password: PASSWORD, ttl_ms, owner: data("me") }
}

fn data(text: &str) -> Arc<[u8]> {
    text.as_bytes().into()
}

fn create(path: &str, mode: Mode) -> Op {
    Op::Create { path: path.into(), data: data(""), acl: Acl::open(), mode, sequential: false }
}

fn sequential(path: &str, mode: Mode) -> Op {
    Op::Create { path: path.into(), data: data(""), acl: Acl::open(), mode, sequential: true }
}

fn set(path: &str, text: &str, version: i32) -> Op {
    Op::Set { path: path.into(), data: data(text), version }
}

fn delete(path: &str, version: i32) -> Op {
    Op::Delete { path: path.into(), version }
}

fn check(path: &str, version: i32) -> Op {
    Op::Check { path: path.into(), version }
}

fn acquire(kind: Kind, path: &str, share: Share, wait: Wait, delay_ms: u64) -> Command {
    Command::Acquire { kind, path: path.into(), share, wait, delay_ms, value: data("") }
}

fn path(text: &str) -> NodePath {
    NodePath::parse(text).unwrap()
}

fn token(reply: &Reply) -> FencingToken {
    match reply {
        Ok(Answer::Granted(token)) => *token,
        other => panic!("not granted: {other:?}"),
    }
}

fn granted(session: u64, seq: u64, index: u64) -> Settled {
    let token = FencingToken::new(0, index).unwrap();
    Settled { session: SessionId(session), seq, reply: Ok(Answer::Granted(token)) }
}
