//! Random lives of a whole machine, with what must hold after every entry: one exclusive holder, rising tokens, a fair queue,
//! nothing held by who is gone, first answers repeated, equal replicas, and a leader that counts what there is to count.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::model::any_op;
use super::*;
use crate::coord::duty::Duties;
use crate::coord::watch::{Event, Watch, Watches};
use crate::wire::Codec;

const SLOTS: usize = 4;
const NAMES: [(Kind, &str); 3] = [(Kind::Lock, "/l"), (Kind::Lock, "/m"), (Kind::Election, "/l")];

#[derive(Clone, Debug)]
enum Step {
    Reopen(usize, bool),
    Op(usize, Op),
    Multi(usize, Vec<Op>),
    Timed(usize, u64),
    Acquire { slot: usize, name: usize, share: Share, wait: Wait, delay_ms: u64 },
    Release { slot: usize, name: usize, wrong: bool },
    Cancel(usize, u64),
    Retry(usize),
    Enqueue(usize, u32),
    Claim(usize, u64),
    Finish(usize, bool),
    Pass(u64),
    NewLeader,
    Snapshot,
    Generation,
    Noise(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    let slot = 0..SLOTS;
    let share = prop::sample::select(vec![Share::Exclusive, Share::Shared]);
    let wait = prop_oneof![1 => Just(Wait::Try), 3 => Just(Wait::Forever), 1 => (1..900u64).prop_map(Wait::Deadline)];
    let acquire = (slot.clone(), 0..NAMES.len(), share, wait, prop::sample::select(vec![0, 400]));
    prop_oneof![
        1 => (slot.clone(), any::<bool>()).prop_map(|(slot, clean)| Step::Reopen(slot, clean)),
        3 => (slot.clone(), any_op()).prop_map(|(slot, op)| Step::Op(slot, op)),
        1 => (slot.clone(), prop::collection::vec(any_op(), 0..4)).prop_map(|(slot, ops)| Step::Multi(slot, ops)),
        1 => (slot.clone(), 1..900u64).prop_map(|(slot, ms)| Step::Timed(slot, ms)),
        8 => acquire.prop_map(|(slot, name, share, wait, delay_ms)| {
            Step::Acquire { slot, name, share, wait, delay_ms }
        }),
        5 => (slot.clone(), 0..NAMES.len(), prop::bool::weighted(0.2))
            .prop_map(|(slot, name, wrong)| Step::Release { slot, name, wrong }),
        2 => (slot.clone(), 1..5u64).prop_map(|(slot, back)| Step::Cancel(slot, back)),
        2 => slot.clone().prop_map(Step::Retry),
        2 => (slot.clone(), 1..3u32).prop_map(|(slot, attempts)| Step::Enqueue(slot, attempts)),
        2 => (slot.clone(), 1..900u64).prop_map(|(slot, ms)| Step::Claim(slot, ms)),
        2 => (slot, any::<bool>()).prop_map(|(slot, done)| Step::Finish(slot, done)),
        3 => (1..4_000u64).prop_map(Step::Pass),
        1 => Just(Step::NewLeader),
        1 => Just(Step::Snapshot),
        1 => Just(Step::Generation),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Step::Noise),
    ]
}

/// What an onlooker knows from answers alone.
#[derive(Default)]
struct Onlooker {
    asked: BTreeMap<(SessionId, u64), (usize, Share, u64)>,
    pending: [Vec<(SessionId, u64)>; NAMES.len()],
    held: [BTreeMap<(SessionId, u64), FencingToken>; NAMES.len()],
    newest: [Option<(FencingToken, Share)>; NAMES.len()],
    delayed: [Option<Share>; NAMES.len()],
}

impl Onlooker {
    fn granted(&mut self, by: (SessionId, u64), token: FencingToken) {
        let (name, share, _) = self.asked[&by];
        assert_eq!(self.pending[name].first(), Some(&by), "the head of the queue gets it");
        self.pending[name].remove(0);
        let alone = share == Share::Exclusive;
        let exclusive = self.held[name].keys().any(|holder| self.asked[holder].1 == Share::Exclusive);
        assert!(!exclusive && (!alone || self.held[name].is_empty()), "alone is alone");
        match self.newest[name] {
            Some((newest, Share::Shared)) if !alone => assert!(token >= newest),
            Some((newest, _)) => assert!(token > newest, "{token:?} after {newest:?}"),
            None => {}
        }
        match self.delayed[name] {
            Some(Share::Exclusive) => panic!("granted during a delay"),
            Some(Share::Shared) => assert!(!alone, "alone during a delay"),
            None => {}
        }
        self.newest[name] = Some((token, share));
        self.held[name].insert(by, token);
    }

    fn gone(&mut self, by: (SessionId, u64)) {
        if let Some((name, ..)) = self.asked.get(&by) {
            self.pending[*name].retain(|other| *other != by);
            self.held[*name].remove(&by);
        }
    }

    fn session_ended(&mut self, session: SessionId, expired: bool) {
        for name in 0..NAMES.len() {
            for by in self.held[name].keys().filter(|(holder, _)| *holder == session) {
                let (_, share, delay_ms) = self.asked[by];
                if expired && delay_ms > 0 {
                    self.delayed[name] = Some(self.delayed[name].map_or(share, |earlier| earlier.min(share)));
                }
            }
            self.held[name].retain(|(holder, _), _| *holder != session);
            self.pending[name].retain(|(waiter, _)| *waiter != session);
        }
    }
}

struct World {
    rig: Rig,
    onlooker: Onlooker,
    duties: Duties,
    watches: Watches,
    told: Vec<Event>,
    slots: [u64; SLOTS],
    /// The last request of each slot, and its first answer.
    last: [Option<(u64, Command, Reply)>; SLOTS],
    claimed: [Option<(u64, FencingToken)>; SLOTS],
}

const WATCHER: SessionId = SessionId(99);

impl World {
    fn new() -> Self {
        let rig = Rig::with_sessions(SLOTS as u64);
        let mut watches = Watches::new(rig.index);
        watches.add(WATCHER, Watch::Recursive, &path("/")).unwrap();
        Self {
            duties: Duties::of(&rig.machine),
            onlooker: Onlooker::default(),
            watches,
            told: Vec::new(),
            slots: std::array::from_fn(|slot| slot as u64 + 1),
            last: std::array::from_fn(|_| None),
            claimed: [None; SLOTS],
            rig,
        }
    }

    fn seq(&self, slot: usize) -> u64 {
        self.rig.seqs[&SessionId(self.slots[slot])]
    }

    fn ask(&mut self, slot: usize, command: Command) -> Reply {
        let seq = self.seq(slot);
        let reply = self.rig.ask(self.slots[slot], command.clone());
        self.last[slot] = Some((seq, command, reply.clone()));
        reply
    }

    /// Takes in the last output, in the order in which things came about.
    fn after(&mut self, expired: bool) {
        let output = std::mem::take(&mut self.rig.last);
        for session in &output.ended {
            self.onlooker.session_ended(*session, expired);
            if let Some(slot) = self.slots.iter().position(|id| SessionId(*id) == *session) {
                let id = self.slots[slot] + SLOTS as u64;
                self.slots[slot] = id;
                self.last[slot] = None;
                self.claimed[slot] = None;
                self.duties.observe(&output);
                self.rig.open(id);
                let opened = std::mem::take(&mut self.rig.last);
                self.duties.observe(&opened);
            }
        }
        for settled in &output.settled {
            let by = (settled.session, settled.seq);
            match settled.reply {
                Ok(Answer::Granted(token)) => self.onlooker.granted(by, token),
                _ => self.onlooker.gone(by),
            }
            // The outcome is the answer to the request from now on.
            for slot in 0..SLOTS {
                if SessionId(self.slots[slot]) == settled.session
                    && let Some((seq, _, reply)) = &mut self.last[slot]
                    && *seq == settled.seq
                {
                    *reply = settled.reply.clone();
                }
            }
        }
        if output.ended.is_empty() {
            self.duties.observe(&output);
        }
        self.told.extend(self.watches.feed(output.index, &output.changes));
        self.check();
    }

    fn check(&self) {
        for (name, (kind, at)) in NAMES.iter().enumerate() {
            let resource = self.rig.machine.claims().find(*kind, &path(at));
            let holders: BTreeMap<_, _> = resource
                .map_or(&[][..], |resource| resource.holders())
                .iter()
                .map(|holder| ((holder.session, holder.seq), holder.token))
                .collect();
            assert_eq!(holders, self.onlooker.held[name]);
            assert!(holders.keys().all(|(session, _)| self.rig.machine.sessions().find(*session).is_some()));
            let waiters: Vec<_> =
                resource.into_iter().flat_map(|resource| resource.waiters()).map(|w| (w.session, w.seq)).collect();
            assert_eq!(waiters, self.onlooker.pending[name]);
        }
        assert_eq!(self.duties.len(), Duties::of(&self.rig.machine).len());
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Reopen(slot, true) => {
                self.ask(slot, Command::Close).unwrap();
                self.after(false);
            }
            Step::Reopen(slot, false) => {
                self.rig.expire(self.slots[slot]);
                self.after(true);
            }
            Step::Op(slot, op) => {
                let _ = self.ask(slot, Command::Op(op));
                self.after(false);
            }
            Step::Multi(slot, ops) => {
                let _ = self.ask(slot, Command::Multi(ops));
                self.after(false);
            }
            Step::Timed(slot, ms) => {
                let made = [create("/t", Mode::Container), create("/t/", Mode::Ttl(ms))].map(|op| match op {
                    Op::Create { path, data, acl, mode, .. } => {
                        let sequential = path.ends_with('/');
                        Op::Create { path, data, acl, mode, sequential }
                    }
                    other => other,
                });
                for op in made {
                    let _ = self.ask(slot, Command::Op(op));
                    self.after(false);
                }
            }
            Step::Acquire { slot, name, share, wait, delay_ms } => {
                let (kind, at) = NAMES[name];
                let by = (SessionId(self.slots[slot]), self.seq(slot));
                let share = if kind == Kind::Election { Share::Exclusive } else { share };
                self.onlooker.asked.insert(by, (name, share, delay_ms));
                self.onlooker.pending[name].push(by);
                match self.ask(slot, acquire(kind, at, share, wait, delay_ms)) {
                    Ok(Answer::Granted(token)) => self.onlooker.granted(by, token),
                    Ok(Answer::Queued { .. }) => assert_ne!(wait, Wait::Try),
                    Err(CoordError::NotAvailable) => {
                        assert_eq!(wait, Wait::Try);
                        self.onlooker.gone(by);
                    }
                    other => panic!("{other:?}"),
                }
                self.after(false);
            }
            Step::Release { slot, name, wrong } => {
                let session = SessionId(self.slots[slot]);
                let held = self.onlooker.held[name].iter().find(|((holder, _), _)| *holder == session);
                let Some((by, token)) = held.map(|(by, token)| (*by, *token)) else { return };
                let (kind, at) = NAMES[name];
                let given = if wrong { FencingToken { index: 0, ..token } } else { token };
                let reply = self.ask(slot, Command::Release { kind, path: at.into(), token: given });
                assert_eq!(reply.is_ok(), !wrong);
                if !wrong {
                    self.onlooker.gone(by);
                }
                self.after(false);
            }
            Step::Cancel(slot, back) => {
                let Some(seq) = self.seq(slot).checked_sub(back) else { return };
                let by = (SessionId(self.slots[slot]), seq);
                if self.ask(slot, Command::Cancel { seq }).is_ok() {
                    self.onlooker.gone(by);
                }
                self.after(false);
            }
            Step::Retry(slot) => {
                let Some((seq, command, reply)) = self.last[slot].clone() else { return };
                let before = self.rig.machine.tree().clone();
                assert_eq!(self.rig.request(self.slots[slot], seq, 0, command), reply, "the first answer");
                assert!(self.rig.machine.tree() == &before);
                assert!(self.rig.last.changes.is_empty() && self.rig.last.settled.is_empty());
                self.after(false);
            }
            Step::Enqueue(slot, max_attempts) => {
                self.ask(slot, Command::Enqueue { path: "/q".into(), body: data("x"), max_attempts }).unwrap();
                self.after(false);
            }
            Step::Claim(slot, visibility_ms) => {
                let first_ready = self.rig.machine.queues().find(&path("/q")).and_then(|queue| {
                    queue.items().find(|(_, item)| item.claimed().is_none() && !item.is_dead()).map(|(item, _)| item)
                });
                match self.ask(slot, Command::Claim { path: "/q".into(), visibility_ms }) {
                    Ok(Answer::Claimed { item, token, .. }) => {
                        assert_eq!(Some(item), first_ready);
                        self.claimed[slot] = Some((item, token));
                    }
                    other => assert_eq!((other, first_ready), (Err(CoordError::QueueEmpty), None)),
                }
                self.after(false);
            }
            Step::Finish(slot, done) => {
                let Some((item, token)) = self.claimed[slot].take() else { return };
                let queue = self.rig.machine.queues().find(&path("/q"));
                let mine = queue.is_some_and(|queue| {
                    queue.items().any(|(number, found)| {
                        number == item && found.claimed() == Some((SessionId(self.slots[slot]), token))
                    })
                });
                let at = "/q".to_owned();
                let command = match done {
                    true => Command::Ack { path: at, item, token },
                    false => Command::Nack { path: at, item, token },
                };
                assert_eq!(self.ask(slot, command).is_ok(), mine, "only the claim that stands counts");
                self.after(false);
            }
            Step::Pass(ms) => {
                for body in self.duties.advance(ms) {
                    if let Body::EndDelay { kind, path: at, since } = &body {
                        let resource = self.rig.machine.claims().find(*kind, at);
                        if resource.and_then(|resource| resource.delay()).is_some_and(|delay| delay.since == *since) {
                            let name = NAMES.iter().position(|(k, p)| k == kind && *p == at.as_str()).unwrap();
                            self.onlooker.delayed[name] = None;
                        }
                    }
                    let expired = matches!(body, Body::Expire { .. });
                    self.rig.apply(body);
                    self.after(expired);
                }
            }
            Step::NewLeader => self.duties = Duties::of(&self.rig.machine),
            Step::Snapshot => self.rig.restore_twin(),
            Step::Generation => {
                let generation = self.rig.machine.generation() + 1;
                self.rig.apply(Body::Generation { generation });
                self.after(false);
            }
            Step::Noise(bytes) => {
                let before = self.rig.machine.digest();
                self.rig.index += 1;
                if Entry::from_bytes(&bytes).is_err() {
                    let output = self.rig.machine.apply(self.rig.index, &bytes);
                    assert_eq!(self.rig.twin.apply(self.rig.index, &bytes), output);
                    assert_eq!(self.rig.machine.digest(), before);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn what_must_hold_holds_after_every_entry(
        steps in prop::collection::vec(step(), 1..80),
        seen in any::<prop::sample::Index>(),
    ) {
        let mut world = World::new();
        let start = world.rig.index;
        for step in steps {
            world.step(step);
        }
        // Whoever was away at any time is told the same, later.
        let seen = start + seen.index((world.rig.index - start + 1) as usize) as u64;
        let live: Vec<Event> = world.told.iter().filter(|event| event.zxid > seen).cloned().collect();
        let again = [(Watch::Recursive, path("/"))];
        let missed = world.watches.rearm(WATCHER, &again, seen, world.rig.machine.tree(), world.rig.index).unwrap();
        assert_eq!(missed, live);
        for id in world.slots {
            world.rig.expire(id);
        }
        let claims = world.rig.machine.claims();
        let left = NAMES.iter().filter_map(|(kind, at)| claims.find(*kind, &path(at)));
        assert!(left.into_iter().all(|resource| resource.holders().is_empty() && resource.waiters().len() == 0));
    }
}
