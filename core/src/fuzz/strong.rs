//! The strong path: what voters, clients and disks say.

use std::collections::BTreeMap;

use super::{Target, Verdict, join, parts, strict};
use crate::coord::acl::Acl;
use crate::coord::claim::{Kind, Share, Wait};
use crate::coord::command::{Body, Command, Entry, Request};
use crate::coord::op::{Mode, Op};
use crate::coord::raft::{Config, Group, LogStore, Member, MemoryLog, Standing, StoreId, Stored, message};
use crate::coord::replicated::Replicated;
use crate::coord::serve::client::{Client, Options, Output as ClientOutput};
use crate::coord::serve::talk::{Ask, Frame, Query, Tell};
use crate::coord::serve::voter::{self, Voter};
use crate::coord::session::SessionId;
use crate::coord::watch::Watch;
use crate::coord::{Machine, NodePath};
use crate::id::PeerId;
use crate::time::WallTime;
use crate::wire::Codec;

pub(super) const TARGETS: &[Target] = &[
    Target::new("coord", frames, frame),
    Target::new("entry", entries, strict::<Entry>),
    Target::new("machine", histories, machine).room(8 << 20),
    Target::new("state", states, state).repaired(seal).room(8 << 20),
    Target::new("raft", consensus, raft),
    Target::new("voter", to_voter, voter).room(8 << 20),
    Target::new("client", to_client, client).room(4 << 20),
    Target::new("log", logs, log).room(8 << 20),
];

const SESSION: SessionId = SessionId(1);
const PASSWORD: [u8; 16] = [7; 16];
const CLIENT: PeerId = PeerId([9; 32]);
const VOTER: PeerId = PeerId([1; 32]);

fn frame(bytes: &[u8]) -> Verdict {
    match Frame::parse(bytes) {
        Ok(frame) => {
            assert_eq!(frame.to_bytes(), bytes, "a second spelling was taken");
            Verdict::accepted(0)
        }
        Err(error) => Verdict::refused(&error),
    }
}

fn all_entries() -> Vec<Entry> {
    let at = || "/a/b".to_owned();
    let data = |text: &str| text.as_bytes().into();
    let token = crate::coord::FencingToken { generation: 1, index: 8 };
    let create = |path: &str, mode, sequential| {
        Command::Op(Op::Create { path: path.into(), data: data("x"), acl: Acl::open(), mode, sequential })
    };
    let acquire =
        |kind, share, wait| Command::Acquire { kind, path: "/l".into(), share, wait, delay_ms: 5, value: data("me") };
    let commands = vec![
        create("/a", Mode::Persistent, false),
        create("/a/b", Mode::Ttl(300), false),
        create("/a/n-", Mode::Ephemeral, true),
        Command::Multi(vec![
            Op::Set { path: at(), data: data("y"), version: 0 },
            Op::Check { path: at(), version: 1 },
            Op::SetAcl { path: at(), acl: Acl::open(), version: -1 },
        ]),
        Command::Op(Op::Delete { path: at(), version: -1 }),
        acquire(Kind::Lock, Share::Exclusive, Wait::Forever),
        acquire(Kind::Election, Share::Exclusive, Wait::Deadline(300)),
        acquire(Kind::Lock, Share::Shared, Wait::Deadline(9)),
        Command::Release { kind: Kind::Lock, path: "/l".into(), token },
        Command::Proclaim { path: "/l".into(), token, value: data("v") },
        Command::Enqueue { path: "/q".into(), body: data("work"), max_attempts: 1 },
        Command::Claim { path: "/q".into(), visibility_ms: 50 },
        Command::Nack { path: "/q".into(), item: 1, token },
        Command::Ack { path: "/q".into(), item: 1, token },
        Command::Revive { path: "/q".into(), item: 1 },
        Command::Discard { path: "/q".into(), item: 1 },
        Command::Cancel { seq: 2 },
        Command::Close,
    ];
    let request = |(seq, command)| {
        let (session, seq) = (SESSION, seq as u64 + 1);
        Body::Request(Request { session, attachment: 1, seq, acked_below: seq / 2, identities: vec![], command })
    };
    let open = |session| Body::Open { session, password: PASSWORD, owner: data("me"), ttl_ms: 10_000 };
    let path = || NodePath::parse("/a").expect("a path");
    let mut bodies = vec![open(SESSION), open(SessionId(2))];
    bodies.push(Body::Attach { session: SESSION, password: PASSWORD, nonce: 9 });
    bodies.extend(commands.into_iter().enumerate().map(request));
    bodies.push(Body::Renew { session: SESSION });
    bodies.push(Body::Collect { path: path(), mzxid: 5, pzxid: 300 });
    bodies.push(Body::Timeout { kind: Kind::Lock, path: path(), session: SESSION, seq: 6 });
    bodies.push(Body::EndDelay { kind: Kind::Lock, path: path(), since: 300 });
    bodies.push(Body::Redeliver { path: path(), item: 7, claim: 300 });
    bodies.push(Body::Generation { generation: 2 });
    bodies.push(Body::Expire { session: SESSION, renewal: 5 });
    bodies.into_iter().map(|body| Entry { stamp: WallTime(1_790_000_000_000), body }).collect()
}

fn entries() -> Vec<Vec<u8>> {
    all_entries().iter().map(Codec::to_bytes).collect()
}

fn histories() -> Vec<Vec<u8>> {
    let entries = entries();
    let part = |to: usize| join(entries[..to].iter().map(Vec::as_slice));
    vec![part(4), part(12), part(entries.len())]
}

/// Entries of any kind keep a machine whole: what it says of itself is taken back as the same state.
fn machine(bytes: &[u8]) -> Verdict {
    let mut machine = Machine::new();
    for (at, entry) in parts(bytes).into_iter().take(64).enumerate() {
        machine.apply(at as u64 + 1, entry);
    }
    let mut twin = Machine::new();
    twin.restore(&machine.snapshot()).expect("an own snapshot is taken back");
    assert_eq!(twin.digest(), machine.digest(), "another state came back");
    assert_eq!(twin.snapshot(), machine.snapshot(), "another snapshot came back");
    Verdict::accepted(machine.duties().count().min(7) as u64 | (machine.snapshot().len() as u64 / 64) << 3)
}

/// A snapshot is refused, or taken and written again as it was; whatever comes then is applied.
fn state(bytes: &[u8]) -> Verdict {
    let mut machine = Machine::new();
    if let Err(error) = machine.restore(bytes) {
        return Verdict::refused(&error);
    }
    assert_eq!(machine.snapshot(), bytes, "a second spelling was taken");
    for entry in all_entries() {
        let next = machine.applied().saturating_add(1);
        machine.apply(next, &entry.to_bytes());
    }
    Verdict::accepted(0)
}

fn states() -> Vec<Vec<u8>> {
    let mut machine = Machine::new();
    let mut states = vec![machine.snapshot()];
    for (at, entry) in all_entries().iter().enumerate() {
        machine.apply(at as u64 + 1, &entry.to_bytes());
        if at % 7 == 6 {
            states.push(machine.snapshot());
        }
    }
    states
}

/// Puts the right check behind a snapshot.
fn seal(bytes: &mut Vec<u8>) {
    bytes.truncate(bytes.len().saturating_sub(32));
    let check = *blake3::hash(bytes).as_bytes();
    bytes.extend_from_slice(&check);
}

fn raft(bytes: &[u8]) -> Verdict {
    match message::decode(bytes) {
        Ok((header, body)) => {
            assert_eq!(message::encode(&header, &body), bytes, "a second spelling was taken");
            Verdict::accepted(0)
        }
        Err(error) => Verdict::refused(&error),
    }
}

fn consensus() -> Vec<Vec<u8>> {
    let lines = include_str!("../coord/raft/tests/frames.txt").lines();
    lines.filter_map(|line| super::unhex(line.rsplit(' ').next()?)).collect()
}

/// A voter alone, which leads, with one client that is served.
fn leading() -> (Voter, MemoryLog) {
    let me = Member { peer: VOTER, store: StoreId(0x1111) };
    let config = Config::default().build().expect("the defaults hold");
    let group = Group::found(config, me, &[me], Machine::new(), 5).expect("it is a founder");
    let mut voter = Voter::new(me.peer, group, [3; 32], WallTime(0));
    let mut disk = MemoryLog::new();
    for _ in 0..200 {
        voter.tick(100, WallTime(0));
        drain(&mut voter, &mut disk);
        if voter.group().role().standing == Standing::Leader {
            break;
        }
    }
    (voter, disk)
}

/// Carries a voter's outputs out; how many frames it sent.
fn drain(voter: &mut Voter, disk: &mut MemoryLog) -> usize {
    let (mut sent, mut outputs) = (0, 0);
    while let Some(output) = voter.poll() {
        outputs += 1;
        assert!(outputs < 20_000, "endless outputs");
        match output {
            voter::Output::Persist { ticket, writes } => {
                let Ok(()) = disk.write(&writes);
                voter.persisted(ticket);
            }
            voter::Output::Send { .. } => sent += 1,
            _ => {}
        }
    }
    sent
}

/// Whoever speaks, a client or a fellow voter, a voter goes on leading and its log opens again.
fn voter(bytes: &[u8]) -> Verdict {
    let (mut voter, mut disk) = leading();
    let mut kind = 0u64;
    for part in parts(bytes).into_iter().take(48) {
        let Some((&how, body)) = part.split_first() else { continue };
        let from = [CLIENT, PeerId([8; 32]), VOTER][usize::from(how % 3)];
        let heard = voter.frame(from, how & 4 != 0, body);
        let sent = drain(&mut voter, &mut disk);
        kind = (kind << 3) ^ (u64::from(heard.is_ok()) << 2 | sent.min(3) as u64);
        if how & 8 != 0 {
            voter.tick(u64::from(how) * 10, WallTime(0));
            drain(&mut voter, &mut disk);
        }
        if how & 128 != 0 {
            voter.gone(from);
        }
    }
    let stopped = voter.group().role().standing != Standing::Leader;
    assert!(!stopped, "a voter alone was talked out of leading");
    let Ok(rows) = disk.rows();
    Stored::open(rows).expect("what it wrote opens");
    Verdict::accepted(kind)
}

fn asks() -> Vec<Frame> {
    let at = || "/a".to_owned();
    let read = |query| Ask::Read { id: 3, after: 0, linear: true, query, watch: true };
    let call = |seq, command| Ask::Call { seq, acked_below: 0, command };
    let commands = all_entries().into_iter().filter_map(|entry| match entry.body {
        Body::Request(request) => Some(request.command),
        _ => None,
    });
    let mut asks = vec![Ask::Open { nonce: 1, ttl_ms: 10_000 }];
    asks.extend(commands.zip(1..).map(|(command, seq)| call(seq, command)));
    asks.extend([
        Ask::Attach { nonce: 2, session: SESSION, password: PASSWORD, seen: 300 },
        read(Query::Nothing),
        read(Query::Children(at())),
        read(Query::Many(vec![Query::Data(at()), Query::Lock("/l".into()), Query::Queue("/q".into())])),
        read(Query::Standing(9)),
        Ask::Watch { id: 6, watch: Watch::Recursive, path: at() },
        Ask::Rearm { seen: 300, watches: vec![(Watch::Children, NodePath::parse("/a").expect("a path"))] },
        Ask::Authenticate { id: 8, scheme: "digest".into(), secret: b"joe:x".to_vec() },
        Ask::Ping { n: 300 },
    ]);
    asks.into_iter().map(|ask| Frame::Ask(300, ask)).collect()
}

fn frames() -> Vec<Vec<u8>> {
    let mut frames: Vec<Vec<u8>> = asks().iter().map(Codec::to_bytes).collect();
    frames.extend(told());
    frames.push(Frame::Raft(vec![1, 2, 3]).to_bytes());
    frames
}

fn how(how: u8, body: &[u8]) -> Vec<u8> {
    [&[how], body].concat()
}

fn to_voter() -> Vec<Vec<u8>> {
    let asks: Vec<Vec<u8>> = asks().iter().map(|frame| how(0, &frame.to_bytes())).collect();
    let raft: Vec<Vec<u8>> = consensus().into_iter().map(|body| how(6, &Frame::Raft(body).to_bytes())).collect();
    let alone = |part: &Vec<u8>| join([part.as_slice()]);
    let mut seeds = vec![join(asks.iter().map(Vec::as_slice)), join(raft.iter().map(Vec::as_slice))];
    seeds.extend(asks.iter().skip(1).step_by(3).map(alone));
    seeds
}

/// What a voter answers to an honest client.
fn told() -> Vec<Vec<u8>> {
    let (mut voter, mut disk) = leading();
    let mut told = Vec::new();
    for ask in asks() {
        let _ = voter.frame(CLIENT, false, &ask.to_bytes());
        while let Some(output) = voter.poll() {
            match output {
                voter::Output::Persist { ticket, writes } => {
                    let Ok(()) = disk.write(&writes);
                    voter.persisted(ticket);
                }
                voter::Output::Send { to: CLIENT, bytes } => told.push(bytes),
                _ => {}
            }
        }
    }
    told
}

/// A client of a voter that lies.
fn client(bytes: &[u8]) -> Verdict {
    let mut client = Client::new(Options { ttl_ms: 5_000, channel: 300 }, [VOTER], [1; 32], 0);
    client.linked(0, VOTER);
    let mut kind = 0u64;
    let mut nonce = outputs(&mut client).1.unwrap_or(0);
    for (at, part) in parts(bytes).into_iter().take(48).enumerate() {
        let Some((&how, body)) = part.split_first() else { continue };
        let now = 1 + at as u64 * (1 + u64::from(how));
        if how & 1 != 0 {
            let opened = Tell::Opened { nonce, session: SESSION, password: PASSWORD, ttl_ms: 5_000, zxid: 3 };
            let _ = client.frame(now, VOTER, &Frame::Tell(300, opened).to_bytes());
        }
        if how & 2 != 0 {
            let _ = client.call(now, Command::Cancel { seq: 1 });
            let _ = client.read(now, Query::Nothing, true, false);
        }
        let _ = client.frame(now, VOTER, body);
        client.tick(now);
        let (said, asked) = outputs(&mut client);
        nonce = asked.unwrap_or(nonce);
        kind = (kind << 2) ^ said.min(3) as u64;
    }
    Verdict::accepted(kind)
}

/// How much a client says, and under which name it asked for a session.
fn outputs(client: &mut Client) -> (usize, Option<u64>) {
    let (mut said, mut nonce) = (0, None);
    while let Some(output) = client.poll() {
        said += 1;
        assert!(said < 20_000, "endless outputs");
        if let ClientOutput::Send { bytes, .. } = output
            && let Ok(Frame::Ask(_, Ask::Open { nonce: own, .. })) = Frame::parse(&bytes)
        {
            nonce = Some(own);
        }
    }
    (said, nonce)
}

fn to_client() -> Vec<Vec<u8>> {
    let told = told();
    let part = |flags: u8| told.iter().map(|body| how(flags, body)).collect::<Vec<_>>();
    let all = |flags| join(part(flags).iter().map(Vec::as_slice));
    vec![all(0), all(1), all(3), join(part(3).iter().rev().map(Vec::as_slice))]
}

/// Rows of a log that were altered: it opens or says what is wrong, and a group goes on with what opened.
fn log(bytes: &[u8]) -> Verdict {
    let parts = parts(bytes);
    let rows: BTreeMap<Vec<u8>, Vec<u8>> =
        parts.chunks_exact(2).map(|row| (row[0].to_vec(), row[1].to_vec())).collect();
    let stored = match Stored::open(rows) {
        Ok(stored) => stored,
        Err(error) => return Verdict::refused(&error),
    };
    let config = Config::default().build().expect("the defaults hold");
    match Group::open(config, stored, Machine::new(), 7) {
        Ok(mut group) => {
            (0..40).for_each(|_| group.tick());
            while group.poll().is_some() {}
            Verdict::accepted(group.last_index().min(60))
        }
        Err(error) => Verdict::refused(&error),
    }
}

fn logs() -> Vec<Vec<u8>> {
    let (mut voter, mut disk) = leading();
    let mut logs = Vec::new();
    for ask in asks() {
        let _ = voter.frame(CLIENT, false, &ask.to_bytes());
        drain(&mut voter, &mut disk);
        let Ok(rows) = disk.rows();
        let parts: Vec<Vec<u8>> = rows.into_iter().flat_map(|(key, value)| [key, value]).collect();
        if logs.len() < 6 {
            logs.push(join(parts.iter().map(Vec::as_slice)));
        }
    }
    logs
}
