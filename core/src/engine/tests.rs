//! Engines wired to each other and to stores in memory, on virtual time.

use std::collections::{BTreeMap, VecDeque};

mod ahead;
#[cfg(feature = "coord")]
mod newcomers;
mod points;
mod sessions;

use super::*;
use crate::document::{EditOptions, HotCell, LocalChange, Template, Value};
use crate::id::{ChangeHash, Path, Prefix};
use crate::io::{ReadOp, StorageTask, StorageWork, Table, WriteOp};
use crate::store::Backend;
use crate::store::Memory;
use crate::time::WallTime;
use crate::trust::Role;

mod guests;
mod memory;
mod pushes;
mod resume;
mod revocations;
mod rounds;
mod soft;
mod topics;
mod transfers;

/// One engine with its store.
struct Node {
    engine: Engine,
    store: Memory,
    events: Vec<Event>,
    inbox: VecDeque<Input>,
    peer: Option<PeerId>,
    next_request: u64,
    /// Milliseconds by which the wall clock is off.
    skew: i64,
    /// When the engine wants to be woken, as a driver keeps it.
    wake: Option<Timestamp>,
    /// How often rows of documents were read.
    scans: usize,
    /// Writes that a slow disk has not begun; `None`: it is not slow.
    held: Option<Vec<StorageTask>>,
    /// Hears nothing of the strong path.
    #[cfg(feature = "coord")]
    deaf: bool,
}

/// Engines and the links between them; every step takes a millisecond.
struct Net {
    nodes: Vec<Node>,
    /// (node, link) → (node, link) at the other end.
    wires: BTreeMap<(usize, LinkId), (usize, LinkId)>,
    next_link: u64,
    micros: u64,
}

impl Net {
    fn new(count: usize) -> Self {
        Self::with(count, |_| EngineConfig { store_identity: b"test".to_vec(), ..EngineConfig::default() })
    }

    fn with(count: usize, config: impl Fn(usize) -> EngineConfig) -> Self {
        let node = |n: usize| Node {
            engine: Engine::new(config(n), [n as u8 + 1; 32]),
            store: Memory::new([n as u8; 16]),
            events: Vec::new(),
            inbox: VecDeque::from([Input::Wake]),
            peer: None,
            next_request: 0,
            skew: 0,
            wake: None,
            scans: 0,
            held: None,
            #[cfg(feature = "coord")]
            deaf: false,
        };
        let mut net =
            Self { nodes: (0..count).map(node).collect(), wires: BTreeMap::new(), next_link: 0, micros: 1_000_000 };
        net.settle();
        net
    }

    fn now(&self) -> Now {
        Now { mono: Timestamp::from_micros(self.micros), wall: WallTime(1_000_000 + self.micros as i64 / 1000) }
    }

    /// Runs until nothing happens but waiting.
    fn settle(&mut self) {
        for _ in 0..200_000 {
            if !self.step() {
                return;
            }
        }
        panic!("the engines never come to rest");
    }

    fn step(&mut self) -> bool {
        self.micros += 100;
        let now = self.now();
        let mut moved = false;
        for n in 0..self.nodes.len() {
            let now = Now { wall: WallTime(now.wall.0 + self.nodes[n].skew), ..now };
            while let Some(input) = self.nodes[n].inbox.pop_front() {
                moved = true;
                self.nodes[n].engine.handle(now, input);
            }
            while let Some(output) = self.nodes[n].engine.poll() {
                moved |= !matches!(output, Output::Wake { .. });
                self.carry_out(n, output);
            }
        }
        moved
    }

    /// Lets time pass, waking engines as they asked.
    fn run_for(&mut self, millis: u64) {
        let end = self.micros + millis * 1000;
        while self.micros < end {
            for node in &mut self.nodes {
                node.inbox.push_back(Input::Wake);
            }
            self.step();
            self.micros += 5_000;
        }
        self.settle();
    }

    /// Lets time pass, waking engines only when they asked for it.
    fn wait(&mut self, millis: u64) {
        let end = self.micros + millis * 1000;
        while self.micros < end {
            let now = Timestamp::from_micros(self.micros);
            for node in &mut self.nodes {
                if node.wake.is_some_and(|at| at <= now) {
                    node.wake = None;
                    node.inbox.push_back(Input::Wake);
                }
            }
            self.step();
        }
    }

    fn carry_out(&mut self, n: usize, output: Output) {
        match output {
            Output::Send { link, bytes } => {
                if let Some((to, far)) = self.wires.get(&(n, link)) {
                    self.nodes[*to].inbox.push_back(Input::Frame { link: *far, bytes });
                }
            }
            Output::Close { link, reason } => {
                if let Some((to, far)) = self.wires.remove(&(n, link)) {
                    self.wires.remove(&(to, far));
                    self.nodes[to].inbox.push_back(Input::Unlinked { link: far });
                }
                assert!(!matches!(reason, crate::io::CloseReason::Protocol { .. }), "{reason:?}");
            }
            Output::Storage(task) => {
                let node = &mut self.nodes[n];
                if let (Some(held), StorageWork::Write { .. }) = (&mut node.held, &task.work) {
                    return held.push(task);
                }
                let result = match &task.work {
                    StorageWork::Write { ops, epoch } => {
                        let mut results = node.store.write(&[(ops.as_slice(), epoch.as_deref())]);
                        results.pop().expect("one result a batch").map(|()| StorageReply::Written)
                    }
                    StorageWork::Read { ops } => {
                        let chunks = |op: &&ReadOp| matches!(op, ReadOp::Scan { table: Table::Chunks, .. });
                        node.scans += ops.iter().filter(chunks).count();
                        node.store.read(ops).map(StorageReply::Read)
                    }
                };
                node.inbox.push_back(Input::StorageDone { ticket: task.ticket, result });
            }
            Output::Event(event) => {
                if let Event::Opened { peer_seed, .. } = &event {
                    self.nodes[n].peer = Some(PeerId(DeviceKey::from_seed(peer_seed).device().0));
                }
                self.nodes[n].events.push(event);
            }
            Output::Wake { at } => self.nodes[n].wake = Some(at),
            // Tests say who is linked with whom.
            Output::Link { .. } | Output::Surplus { .. } => {}
            #[cfg(feature = "coord")]
            Output::Coord { peer, bytes } => {
                let to = self.nodes.iter().position(|node| node.peer == Some(peer)).expect("peers of this test");
                if !self.nodes[to].deaf {
                    let peer = self.nodes[n].peer.expect("its store is open");
                    self.nodes[to].inbox.push_back(Input::Coord { peer, bytes });
                }
            }
            #[cfg(feature = "coord")]
            Output::Reach { .. } => {}
        }
    }

    fn connect(&mut self, a: usize, b: usize) {
        self.connect_without_settling(a, b);
        self.settle();
    }

    fn connect_without_settling(&mut self, a: usize, b: usize) {
        let (near, far) = (LinkId(self.next_link), LinkId(self.next_link + 1));
        self.next_link += 2;
        self.wires.insert((a, near), (b, far));
        self.wires.insert((b, far), (a, near));
        let (pa, pb) = (self.nodes[a].peer.unwrap(), self.nodes[b].peer.unwrap());
        self.nodes[a].inbox.push_back(Input::Linked { link: near, peer: pb, initiator: true });
        self.nodes[b].inbox.push_back(Input::Linked { link: far, peer: pa, initiator: false });
    }

    fn cut(&mut self, a: usize, b: usize) {
        let ends: Vec<_> =
            self.wires.iter().filter(|((n, _), (m, _))| (*n, *m) == (a, b)).map(|(k, v)| (*k, *v)).collect();
        for (near, far) in ends {
            self.wires.remove(&near);
            self.wires.remove(&far);
            self.nodes[near.0].inbox.push_back(Input::Unlinked { link: near.1 });
            self.nodes[far.0].inbox.push_back(Input::Unlinked { link: far.1 });
        }
        self.settle();
    }

    fn ask(&mut self, n: usize, command: Command) -> RequestId {
        let node = &mut self.nodes[n];
        node.next_request += 1;
        let request = RequestId(node.next_request);
        node.inbox.push_back(Input::Command { request, command });
        request
    }

    fn call(&mut self, n: usize, command: Command) -> Result<Reply, CommandError> {
        let request = self.ask(n, command);
        self.settle();
        self.answer(n, request).expect("the command is answered")
    }

    fn answer(&mut self, n: usize, request: RequestId) -> Option<Result<Reply, CommandError>> {
        self.nodes[n].events.iter().find_map(|e| match e {
            Event::Reply { request: r, result } if *r == request => Some(result.clone()),
            _ => None,
        })
    }

    fn create_space(&mut self, n: usize) -> SpaceId {
        match self.call(n, Command::CreateSpace { name: "default".into() }) {
            Ok(Reply::Space(info)) => info.id,
            other => panic!("{other:?}"),
        }
    }

    fn join(&mut self, host: usize, guest: usize, space: SpaceId, role: Role, prefix: &str) {
        let prefix = Prefix::parse(prefix).unwrap();
        let invite = Command::Invite { space, role, prefix, not_after: None, addresses: Vec::new() };
        let Ok(Reply::Invitation(invitation)) = self.call(host, invite) else { panic!("no invitation") };
        self.call(guest, Command::Join { invitation, name: None }).unwrap();
    }

    fn open(&mut self, n: usize, space: SpaceId, path: &str) -> HotCell {
        let path = Path::parse(path).unwrap();
        match self.call(n, Command::Open { space, path, template: Template::default() }) {
            Ok(Reply::Document { cell, .. }) => cell,
            other => panic!("{other:?}"),
        }
    }

    fn put(&mut self, n: usize, space: SpaceId, path: &str, key: &str, value: i64) -> Vec<ChangeHash> {
        let cell = self.open(n, space, path);
        let change = edit(&cell, key, value);
        match self.call(n, Command::Commit { space, changes: vec![change] }) {
            Ok(Reply::Committed(heads)) => heads.into_iter().next().unwrap().1,
            other => panic!("{other:?}"),
        }
    }

    fn value(&mut self, n: usize, space: SpaceId, path: &str) -> Option<Value> {
        match self.call(n, Command::Read { space, path: Path::parse(path).unwrap() }) {
            Ok(Reply::Value(value)) => value.map(|(value, _)| value),
            other => panic!("{other:?}"),
        }
    }

    fn status(&mut self, n: usize) -> StatusReport {
        match self.call(n, Command::Status) {
            Ok(Reply::Status(status)) => *status,
            other => panic!("{other:?}"),
        }
    }

    fn root(&mut self, n: usize) -> String {
        self.status(n).spaces[0].root.clone()
    }

    fn restart(&mut self, n: usize) {
        let config = self.nodes[n].engine.config.clone();
        self.micros += 1;
        let mut seed = [0x55; 32];
        seed[..8].copy_from_slice(&self.micros.to_le_bytes());
        self.nodes[n].engine = Engine::new(config, seed);
        self.nodes[n].events.clear();
        self.nodes[n].inbox = VecDeque::from([Input::Wake]);
        let ends: Vec<_> = self.wires.iter().filter(|((m, _), _)| *m == n).map(|(k, v)| (*k, *v)).collect();
        for (near, far) in ends {
            self.wires.remove(&near);
            self.wires.remove(&far);
            self.nodes[far.0].inbox.push_back(Input::Unlinked { link: far.1 });
        }
        self.settle();
    }
}

fn edit(cell: &HotCell, key: &str, value: i64) -> LocalChange {
    let (_, change) =
        cell.with(|hot| hot.edit(&EditOptions::default(), |draft| draft.put(key, Value::Int(value)))).unwrap().unwrap();
    change.expect("the edit changes something")
}

fn map(entries: &[(&str, i64)]) -> Option<Value> {
    Some(Value::Map(entries.iter().map(|(k, v)| ((*k).into(), Value::Int(*v))).collect()))
}

/// Secrets end in logs by way of whatever prints a whole event, row or reply.
#[test]
fn what_is_printed_for_people_shows_no_secret() {
    let mut net = Net::new(1);
    let space = net.create_space(0);
    let Ok(Reply::RootKey(Some(root))) = net.call(0, Command::RootKey { space }) else { panic!("it made the space") };
    let seed = *root.seed();
    let printed = format!("{:?} {:?} {:?}", net.nodes[0].events, root, net.nodes[0].engine.spaces);
    let shown = |seed: &[u8; 32]| {
        let list = format!("{:?}", &seed[..8]);
        let hex: String = seed[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        printed.contains(list.trim_matches(['[', ']'])) || printed.contains(&hex)
    };
    assert!(!shown(&seed), "the root key is printed");
    let stored = |key: &[u8]| net.nodes[0].store.table(Table::Meta).find(|(k, _)| *k == key).map(|(_, v)| v.to_vec());
    for key in [&b"device"[..], b"peer"] {
        let seed: [u8; 32] = stored(key).unwrap().try_into().unwrap();
        assert!(!shown(&seed), "{key:?} is printed");
    }
    assert!(printed.contains("Opened"), "the events are those of a whole life");
}

#[test]
fn a_commit_is_durable_and_survives_a_restart() {
    let mut net = Net::new(1);
    let space = net.create_space(0);
    net.put(0, space, "/a", "x", 1);
    let root = net.root(0);
    net.restart(0);
    assert_eq!(net.value(0, space, "/a"), map(&[("x", 1)]));
    assert_eq!(net.root(0), root);
    net.put(0, space, "/a", "y", 2);
    assert_eq!(net.value(0, space, "/a"), map(&[("x", 1), ("y", 2)]));
}

#[test]
fn two_peers_keep_a_document_in_step() {
    let mut net = Net::new(2);
    let space = net.create_space(0);
    net.put(0, space, "/a", "x", 1);
    net.join(0, 1, space, Role::Writer, "/");
    net.connect(1, 0);
    assert_eq!(net.value(1, space, "/a"), map(&[("x", 1)]));
    net.put(1, space, "/a", "y", 2);
    net.run_for(100);
    assert_eq!(net.value(0, space, "/a"), map(&[("x", 1), ("y", 2)]));
    net.put(0, space, "/a", "z", 3);
    net.run_for(100);
    assert_eq!(net.value(1, space, "/a"), map(&[("x", 1), ("y", 2), ("z", 3)]));
    assert_eq!(net.root(0), net.root(1));
}

#[test]
fn concurrent_edits_behind_a_cut_converge() {
    for (first, second) in [(0, 1), (1, 0)] {
        let mut net = Net::new(2);
        let space = net.create_space(0);
        net.join(0, 1, space, Role::Writer, "/");
        net.connect(first, second);
        net.put(0, space, "/a", "x", 1);
        net.put(0, space, "/only0", "x", 1);
        net.run_for(200);
        assert_eq!(net.root(0), net.root(1));
        net.cut(first, second);
        net.put(0, space, "/a", "y", 2);
        net.put(1, space, "/a", "z", 3);
        net.put(1, space, "/only1", "z", 3);
        net.put(0, space, "/only0", "y", 2);
        net.connect(first, second);
        net.run_for(1000);
        assert_eq!(net.root(0), net.root(1));
        for n in 0..2 {
            assert_eq!(net.value(n, space, "/a"), map(&[("x", 1), ("y", 2), ("z", 3)]), "at {n}");
            assert_eq!(net.value(n, space, "/only1"), map(&[("z", 3)]));
        }
    }
}

#[test]
fn sessions_find_differences_without_cursors() {
    for (first, second) in [(0, 1), (1, 0)] {
        let mut net = Net::new(2);
        let space = net.create_space(0);
        net.join(0, 1, space, Role::Writer, "/");
        for n in 0..50 {
            net.put(0, space, &format!("/zero/{n}"), "x", n);
            net.put(1, space, &format!("/one/{n}"), "x", n);
            net.put((n % 2) as usize, space, &format!("/both/{n}"), "x", n);
        }
        net.put(0, space, "/shared", "a", 1);
        net.put(1, space, "/shared", "b", 2);
        net.connect(first, second);
        net.run_for(2000);
        assert_eq!(net.root(0), net.root(1));
        assert_eq!(net.value(0, space, "/shared"), map(&[("a", 1), ("b", 2)]));
        // Without cursors (as after a restore) the differences have to be found again.
        net.cut(first, second);
        for n in 0..20 {
            net.put(0, space, &format!("/zero/{n}"), "y", n);
            net.put(1, space, &format!("/one/{n}"), "y", n);
            net.put(0, space, &format!("/both/{n}"), "p", n);
            net.put(1, space, &format!("/both/{n}"), "q", n);
        }
        net.nodes.iter_mut().for_each(|n| n.engine.cursors.clear());
        net.connect(first, second);
        net.run_for(2000);
        assert_eq!(net.root(0), net.root(1));
        assert_eq!(net.value(1, space, "/zero/3"), map(&[("x", 3), ("y", 3)]));
        assert_eq!(net.value(1, space, "/both/3"), net.value(0, space, "/both/3"));
    }
}

#[test]
fn a_stranger_is_told_nothing_and_changes_nothing() {
    let mut net = Net::new(2);
    let space = net.create_space(0);
    net.put(0, space, "/a", "x", 1);
    let _other = net.create_space(1);
    net.connect(1, 0);
    net.run_for(100);
    assert!(net.nodes.iter().all(|n| n.events.iter().all(|e| !matches!(e, Event::Joined { .. }))));
    assert_eq!(net.status(1).spaces.len(), 1);
}

#[test]
fn a_reader_receives_and_cannot_write() {
    let mut net = Net::new(2);
    let space = net.create_space(0);
    net.put(0, space, "/a/b", "x", 1);
    net.put(0, space, "/secret", "x", 1);
    net.join(0, 1, space, Role::Reader, "/a");
    net.connect(0, 1);
    net.run_for(500);
    assert_eq!(net.value(1, space, "/a/b"), map(&[("x", 1)]));
    assert_eq!(net.value(1, space, "/secret"), None, "outside the grant");
    let cell = net.open(1, space, "/a/b");
    let change = edit(&cell, "y", 2);
    let refused = net.call(1, Command::Commit { space, changes: vec![change] });
    assert!(matches!(refused, Err(CommandError::Denied { .. })), "{refused:?}");
    assert_eq!(net.value(1, space, "/a/b"), map(&[("x", 1)]), "the refused edit is gone");
}

#[test]
fn interests_limit_what_is_replicated_and_may_change() {
    let mut net = Net::new(2);
    let space = net.create_space(0);
    net.join(0, 1, space, Role::Writer, "/");
    let prefixes = |texts: &[&str]| texts.iter().map(|t| Prefix::parse(t).unwrap()).collect();
    net.call(1, Command::Interest { space, prefixes: prefixes(&["/a"]) }).unwrap();
    net.put(0, space, "/a/1", "x", 1);
    net.put(0, space, "/b/1", "x", 1);
    net.connect(0, 1);
    net.run_for(500);
    assert_eq!(net.value(1, space, "/a/1"), map(&[("x", 1)]));
    assert_eq!(net.value(1, space, "/b/1"), None);
    net.put(0, space, "/b/2", "x", 1);
    net.run_for(500);
    assert_eq!(net.value(1, space, "/b/2"), None);
    net.call(1, Command::Interest { space, prefixes: prefixes(&["/a", "/b"]) }).unwrap();
    net.run_for(1000);
    assert_eq!(net.value(1, space, "/b/1"), map(&[("x", 1)]));
    assert_eq!(net.value(1, space, "/b/2"), map(&[("x", 1)]));
}

#[test]
fn deleted_documents_stay_deleted_and_can_be_made_again() {
    let mut net = Net::new(2);
    let space = net.create_space(0);
    net.join(0, 1, space, Role::Writer, "/");
    net.connect(0, 1);
    net.put(0, space, "/a", "x", 1);
    net.run_for(200);
    net.cut(0, 1);
    let path = Path::parse("/a").unwrap();
    assert!(matches!(net.call(0, Command::Delete { space, path: path.clone() }), Ok(Reply::Deleted(true))));
    net.put(1, space, "/a", "y", 2);
    net.connect(0, 1);
    net.run_for(1000);
    assert_eq!((net.value(0, space, "/a"), net.value(1, space, "/a")), (None, None));
    assert_eq!(net.root(0), net.root(1));
    match net.call(1, Command::SetAside { space, path: path.clone() }) {
        Ok(Reply::SetAside(values)) => assert_eq!(Some(values[0].0.clone()), map(&[("x", 1), ("y", 2)])),
        other => panic!("{other:?}"),
    }
    net.call(1, Command::DiscardSetAside { space, path: path.clone() }).unwrap();
    assert!(matches!(net.call(1, Command::SetAside { space, path }), Ok(Reply::SetAside(v)) if v.is_empty()));
    net.put(0, space, "/a", "z", 3);
    net.run_for(500);
    assert_eq!(net.value(1, space, "/a"), map(&[("z", 3)]));
}

#[test]
fn three_peers_in_a_line_and_in_a_mesh_converge() {
    for mesh in [false, true] {
        let mut net = Net::new(3);
        let space = net.create_space(0);
        net.join(0, 1, space, Role::Writer, "/");
        net.join(0, 2, space, Role::Writer, "/");
        net.connect(0, 1);
        net.connect(1, 2);
        if mesh {
            net.connect(2, 0);
        }
        for round in 0..10 {
            for n in 0..3 {
                net.put(n, space, "/doc", &format!("k{n}-{round}"), round);
            }
            net.run_for(300);
        }
        net.run_for(2000);
        assert_eq!((net.root(0), net.root(1)), (net.root(1), net.root(2)), "mesh: {mesh}");
        assert_eq!(net.value(0, space, "/doc"), net.value(2, space, "/doc"));
    }
}

#[test]
fn synced_waits_for_other_peers_disks() {
    let mut net = Net::new(2);
    let space = net.create_space(0);
    net.join(0, 1, space, Role::Writer, "/");
    let heads = net.put(0, space, "/a", "x", 1);
    let document = DocumentId::derive(&space, &Path::parse("/a").unwrap(), 0);
    let request = net.ask(0, Command::Synced { space, document, heads, peers: 1 });
    net.settle();
    assert!(net.answer(0, request).is_none(), "nobody else has it");
    net.connect(0, 1);
    net.run_for(500);
    assert!(matches!(net.answer(0, request), Some(Ok(Reply::Done))));
}

#[test]
fn exports_import_into_another_store() {
    let mut net = Net::new(2);
    let space = net.create_space(0);
    net.join(0, 1, space, Role::Writer, "/");
    for n in 0..300 {
        net.put(0, space, &format!("/d/{n:03}"), "x", n);
    }
    let (mut after, mut changes) = (None, 0);
    loop {
        let Ok(Reply::Exported { page, next }) = net.call(0, Command::Export { space, after }) else { panic!() };
        match net.call(1, Command::Import { space, page }) {
            Ok(Reply::Imported { changes: new, refused: 0 }) => changes += new,
            other => panic!("{other:?}"),
        }
        after = next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(changes, 300);
    assert_eq!(net.root(0), net.root(1));
}

#[test]
fn a_clean_close_keeps_the_incarnation_and_a_crash_begins_a_new_one() {
    let incarnation = |net: &Net| {
        net.nodes[0].events.iter().find_map(|e| match e {
            Event::Opened { incarnation, .. } => Some(*incarnation),
            _ => None,
        })
    };
    let mut net = Net::new(1);
    let first = incarnation(&net).unwrap();
    net.create_space(0);
    net.call(0, Command::Close).unwrap();
    net.restart(0);
    let second = incarnation(&net).unwrap();
    net.restart(0);
    assert_eq!(first, second);
    assert_ne!(incarnation(&net).unwrap(), second, "no seal: the last end was not a close");
}

#[test]
fn a_former_host_cannot_commit() {
    let mut net = Net::new(1);
    let space = net.create_space(0);
    let cell = net.open(0, space, "/a");
    let op = WriteOp::Put(crate::io::Table::Meta, b"epoch".to_vec(), b"another host".to_vec());
    assert!(net.nodes[0].store.write(&[(&[op], None)])[0].is_ok());
    let change = edit(&cell, "x", 1);
    let refused = net.call(0, Command::Commit { space, changes: vec![change] });
    assert_eq!(refused.unwrap_err(), CommandError::Storage(StorageFailure::HostEpochChanged));
}

#[test]
fn compaction_keeps_heads_history_and_what_peers_need() {
    let mut net = Net::new(3);
    let space = net.create_space(0);
    net.join(0, 1, space, Role::Writer, "/");
    net.join(0, 2, space, Role::Writer, "/");
    net.connect(0, 1);
    for n in 0..200 {
        net.put(0, space, "/doc", &format!("k{}", n % 7), n);
    }
    net.run_for(500);
    net.cut(0, 1);
    net.put(1, space, "/doc", "other", 1);
    let before = (net.root(0), net.value(0, space, "/doc"));
    net.call(0, Command::Compact).unwrap();
    let path = Path::parse("/doc").unwrap();
    let chunks = |net: &Net| net.nodes[0].engine.spaces[&space].index.live_entry(&path).unwrap().chunks;
    assert!(chunks(&net) < 50, "{} chunks", chunks(&net));
    assert_eq!((net.root(0), net.value(0, space, "/doc")), before);
    net.restart(0);
    assert_eq!((net.root(0), net.value(0, space, "/doc")), before);
    net.put(0, space, "/doc", "mine", 2);
    net.connect(0, 1);
    net.connect(0, 2);
    net.run_for(2000);
    assert_eq!((net.root(0), net.root(1)), (net.root(1), net.root(2)));
    assert_eq!(net.value(2, space, "/doc"), net.value(0, space, "/doc"));
}

#[test]
fn an_edit_on_top_of_a_refused_one_is_never_signed() {
    let mut net = Net::new(2);
    let space = net.create_space(0);
    net.join(0, 1, space, Role::Reader, "/");
    let cell = net.open(1, space, "/a");
    let first = edit(&cell, "x", 1);
    assert!(matches!(net.call(1, Command::Commit { space, changes: vec![first] }), Err(CommandError::Denied { .. })));
    net.join(0, 1, space, Role::Writer, "/");
    let second = edit(&cell, "y", 2);
    let refused = net.call(1, Command::Commit { space, changes: vec![second] });
    assert!(matches!(refused, Err(CommandError::Invalid { .. })), "{refused:?}");
    net.put(1, space, "/a", "z", 3);
    assert_eq!(net.value(1, space, "/a"), map(&[("z", 3)]), "a document opened anew goes on from what is admitted");
}

/// Crash markers in a store.
fn markers(net: &Net, n: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let rows = net.nodes[n].store.table(crate::io::Table::Meta);
    rows.filter(|(k, _)| k.starts_with(b"opening/")).map(|(k, v)| (k.to_vec(), v.to_vec())).collect()
}

#[test]
fn a_document_from_elsewhere_is_marked_until_it_has_opened() {
    let mut net = Net::new(2);
    let space = net.create_space(0);
    net.join(0, 1, space, Role::Writer, "/");
    net.put(0, space, "/a", "x", 1);
    net.connect(0, 1);
    net.run_for(200);
    assert!(markers(&net, 1).is_empty());
    let path = Path::parse("/a").unwrap();
    let request = net.ask(1, Command::Open { space, path, template: Template::default() });
    while markers(&net, 1).is_empty() {
        assert!(net.answer(1, request).is_none(), "opened without a marker");
        assert!(net.step(), "no marker was ever written");
    }
    net.settle();
    assert!(matches!(net.answer(1, request), Some(Ok(Reply::Document { .. }))));
    assert!(markers(&net, 1).is_empty(), "it opened well");
}

#[test]
fn a_document_that_keeps_killing_its_process_loses_the_culprit_from_view() {
    let mut net = Net::new(2);
    let space = net.create_space(0);
    net.join(0, 1, space, Role::Writer, "/");
    for n in 0..4 {
        net.put(0, space, "/a", &format!("k{n}"), n);
    }
    net.connect(0, 1);
    net.run_for(500);
    let root = net.root(1);
    let id = DocumentId::derive(&space, &Path::parse("/a").unwrap(), 0);
    let key = [b"opening/".as_slice(), &id.0].concat();
    for (deaths, hidden) in [(1, false), (marker::MAX_ATTEMPTS, true)] {
        let left = marker::Marker::Whole(deaths);
        let op = WriteOp::Put(crate::io::Table::Meta, key.clone(), crate::wire::Codec::to_bytes(&left));
        assert!(net.nodes[1].store.write(&[(&[op], None)])[0].is_ok());
        net.restart(1);
        // Each prefix works when it is tried, so what only the whole has is the culprit.
        let expected = [("k0", 0), ("k1", 1), ("k2", 2), ("k3", 3)];
        let shown = if hidden { &expected[..3] } else { &expected[..] };
        assert_eq!(net.value(1, space, "/a"), map(shown), "after {deaths} deaths");
        let reported = net.nodes[1].events.iter().any(|e| matches!(e, Event::Quarantined { .. }));
        assert_eq!(reported, hidden);
        assert_eq!(net.root(1), root, "what is hidden stays in the heads");
        assert!(markers(&net, 1).is_empty());
    }
    net.restart(1);
    assert_eq!(net.value(1, space, "/a"), map(&[("k0", 0), ("k1", 1), ("k2", 2)]), "it stays hidden");
}

#[test]
fn no_common_version_is_a_typed_refusal() {
    let mut net = Net::new(1);
    net.create_space(0);
    let link = LinkId(77);
    let node = &mut net.nodes[0].engine;
    let now = Now { mono: Timestamp::from_micros(10_000_000), wall: WallTime(0) };
    node.handle(now, Input::Linked { link, peer: PeerId([9; 32]), initiator: false });
    while node.poll().is_some() {}
    let mut frame = Vec::new();
    let hello = crate::wire::v1::Message::Hello { versions: vec![250], nonce: [0; 16], window: 1, epoch: 1 };
    hello.append_to(&mut frame);
    node.handle(now, Input::Frame { link, bytes: frame });
    let outputs: Vec<Output> = std::iter::from_fn(|| node.poll()).collect();
    let refused = outputs.iter().any(|o| match o {
        Output::Send { bytes, .. } => crate::wire::v1::decode_frame(bytes)
            .unwrap()
            .iter()
            .any(|(m, _)| matches!(m, crate::wire::v1::Message::Unsupported { versions } if versions == &[1])),
        _ => false,
    });
    assert!(refused, "{outputs:?}");
    assert!(outputs.iter().any(|o| matches!(o, Output::Close { reason: crate::io::CloseReason::Version, .. })));
}
