//! One session's conversation: requests in, what its voter is asked, answers out. Pure: it is told frames, tells and the time.
//!
//! ```text
//!   frames ──▶ queue ──▶ slots, in order ──▶ frames          a slot: a request that was begun, and its answer
//!                │  asks          ▲
//!                ▼                │ tells
//!              voter of the session
//! ```
//!
//! **Order.** Answers leave in the order of their requests, and the tree is changed and read in it. Changes are under way
//! together, and so are reads; a read waits at the voter for the changes before it, and a change waits here for the reads
//! before it, since the voter would do it first. An event leaves when the voter tells it, which is before it tells anything
//! read after the change.
//!
//! **Bounds.** [`MAX_QUEUED`] requests and [`MAX_QUEUED_BYTES`] wait here, [`MAX_READS`] reads and as many changes as a session
//! may have are under way, and with the answers that wait for their turn there are [`MAX_OUTSTANDING`]; whoever sends more is
//! not read from until there is room.

use std::collections::VecDeque;
use std::time::Duration;

use foreshore::coord::NodePath;
use foreshore::coord::acl::MAX_IDENTITIES;
use foreshore::coord::command::Command;
use foreshore::coord::error::CoordError;
use foreshore::coord::serve::talk::{Ask, Found, MAX_REARM, Query, Refusal, Subject, Tell, identify};
use foreshore::coord::session::MAX_IN_FLIGHT;
use foreshore::coord::watch::{EventKind, Watch};
use foreshore::peer::coord::Identity;
use tokio::time::Instant;

use super::jute::{JuteError, Reader};
use super::reply::{self, Code};
use super::request::{self, Header, Look, Request, SetWatches, code};
use super::translate::{self, Expect};

/// Most requests that wait to be begun.
pub const MAX_QUEUED: usize = 128;

/// Most requests without an answer that was written, those among them that are answered here and wait for their turn.
pub const MAX_OUTSTANDING: usize = 2 * MAX_QUEUED;

/// Bytes of requests after which no more are read.
pub const MAX_QUEUED_BYTES: usize = 2 << 20;

/// Most reads under way. An answer holds a MiB at most, and a quarter.
pub const MAX_READS: usize = 16;

/// Bytes of changes after which no more are begun: well below what a voter holds of one client.
const MAX_CHANGING_BYTES: usize = 4 << 20;

/// How long the voter may know no leader: longer than an election.
const LEADERLESS: Duration = Duration::from_secs(4);

/// The name under which the voter is told who the client is.
const IDENTIFY: u64 = u64::MAX >> 8;

/// How many signs of life are given in a session's time by a client that only reads.
const SIGNS: u32 = 6;

/// Why a conversation is over. What waits to be written still is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// The client closed its session.
    #[error("the session was closed")]
    Closed,
    /// The session ended.
    #[error("the session expired")]
    Expired,
    /// The session is another connection's.
    #[error("the session moved to another connection")]
    Moved,
    /// The voter does not serve it.
    #[error("the voter does not go on: {0}")]
    Refused(Refusal),
    /// No majority.
    #[error("nobody leads the group")]
    Leaderless,
    /// An answer did not come in the session's time.
    #[error("the voter does not answer")]
    Stalled,
    /// The client's authentication failed.
    #[error("the authentication failed")]
    Authentication,
    /// The client asked for an operation that this door does not know.
    #[error("an operation is unknown")]
    Unimplemented,
    /// The client's bytes are not a request.
    #[error("not a request: {0}")]
    Malformed(#[from] JuteError),
    /// A request was done whose answer is not known any more.
    #[error("an answer is not known any more")]
    Elided,
}

/// A request that was begun.
#[derive(Debug)]
struct Slot {
    xid: i32,
    began: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The voter was asked.
    Asked(Expect),
    /// The answer, as a frame.
    Ready(Vec<u8>),
}

/// What a request waits for before it is begun.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// For earlier reads.
    Change,
    /// For nothing here.
    Read,
    /// For everything before it; everything after waits for it.
    Alone,
    /// It is answered here.
    Here,
}

/// What is known of a conversation, for whoever looks at the door.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// Answers and events that were sent.
    pub sent: u64,
    /// Answers, and how long they took: all together, and the longest.
    pub answers: u64,
    /// Milliseconds of all answers.
    pub total_ms: u64,
    /// Milliseconds of the slowest answer.
    pub slowest_ms: u64,
    /// The newest entry that the client was told of.
    pub zxid: u64,
}

/// A conversation.
#[derive(Debug)]
pub struct Talk {
    ttl: Duration,
    identities: Vec<Identity>,
    queue: VecDeque<(i32, Request, usize)>,
    queued_bytes: usize,
    slots: VecDeque<Slot>,
    /// The number of the first slot: they are named by it towards the voter.
    first: u64,
    next_seq: u64,
    /// Changes under way: their numbers, their slots, their bytes.
    changes: VecDeque<(u64, u64, usize)>,
    changing_bytes: usize,
    reads: usize,
    alone: bool,
    closing: bool,
    zxid: u64,
    pings: VecDeque<u64>,
    signs: u64,
    signed: Instant,
    leaderless: Option<Instant>,
    answered: Answered,
    asks: Vec<Ask>,
    out: Vec<u8>,
}

impl Talk {
    /// A conversation of a session that lives for `ttl`, whose next request has the number `next_seq`, and whose client
    /// connects from `address`, if that counts here.
    pub fn new(ttl: Duration, next_seq: u64, zxid: u64, address: Option<Identity>, now: Instant) -> Self {
        Self {
            ttl,
            identities: address.into_iter().collect(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            slots: VecDeque::new(),
            first: 0,
            next_seq,
            changes: VecDeque::new(),
            changing_bytes: 0,
            reads: 0,
            alone: false,
            closing: false,
            zxid,
            pings: VecDeque::new(),
            signs: 0,
            signed: now,
            leaderless: None,
            answered: Answered { zxid, ..Answered::default() },
            asks: Vec::new(),
            out: Vec::new(),
        }
    }

    /// Whether another frame may be taken in.
    pub fn has_room(&self) -> bool {
        let few = self.queue.len() < MAX_QUEUED && self.outstanding() < MAX_OUTSTANDING;
        !self.closing && few && self.queued_bytes < MAX_QUEUED_BYTES
    }

    /// What the voter is to be asked, in order.
    pub fn take_asks(&mut self) -> Vec<Ask> {
        std::mem::take(&mut self.asks)
    }

    /// What is to be written to the client.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Requests that have no answer.
    pub fn outstanding(&self) -> usize {
        self.queue.len() + self.slots.len()
    }

    /// Figures.
    pub fn answered(&self) -> Answered {
        Answered { zxid: self.zxid, ..self.answered }
    }

    /// A frame came.
    pub fn on_frame(&mut self, now: Instant, frame: &[u8]) -> Result<Header, End> {
        let mut r = Reader::new(frame);
        let header = request::header(&mut r)?;
        if now.duration_since(self.signed) * SIGNS >= self.ttl && header.code != code::PING {
            self.sign(now);
        }
        match Request::parse(header.code, &mut r) {
            Ok(Request::Ping) => {
                self.sign(now);
                self.pings.push_back(self.signs);
                // Nobody waits for so many; the newest answers for all.
                if self.pings.len() > MAX_QUEUED {
                    self.pings.pop_front();
                }
            }
            Ok(Request::Auth { scheme, secret }) => self.authenticate(header.xid, &scheme, &secret)?,
            Ok(request) => {
                self.queued_bytes += frame.len();
                self.queue.push_back((header.xid, request, frame.len()));
            }
            Err(_) => self.here(now, header.xid, Code::MarshallingError, Vec::new()),
        }
        self.pump(now);
        self.ended()?;
        Ok(header)
    }

    fn sign(&mut self, now: Instant) {
        self.signed = now;
        self.signs += 1;
        self.asks.push(Ask::Ping { n: self.signs });
    }

    /// Who the client is counts from now on, also for what it asked before and what has not been begun.
    fn authenticate(&mut self, xid: i32, scheme: &str, secret: &[u8]) -> Result<(), End> {
        // An address is what it is, whatever a client says.
        if scheme == "ip" {
            self.send(&reply::answer(xid, 0, Code::Ok, |_| ()));
            return Ok(());
        }
        let identity = identify(scheme, secret).filter(|found| {
            self.identities.contains(found) || self.identities.len() < MAX_IDENTITIES && secret.len() <= 1_024
        });
        let Some(identity) = identity else {
            self.send(&reply::answer(xid, 0, Code::AuthFailed, |_| ()));
            return Err(End::Authentication);
        };
        if !self.identities.contains(&identity) {
            self.identities.push(identity);
            self.asks.push(Ask::Authenticate { id: IDENTIFY, scheme: scheme.to_owned(), secret: secret.to_vec() });
        }
        self.send(&reply::answer(xid, 0, Code::Ok, |_| ()));
        Ok(())
    }

    /// The voter says something.
    pub fn on_tell(&mut self, now: Instant, tell: Tell) -> Result<(), End> {
        match tell {
            Tell::Reply { seq, zxid, reply } => {
                self.zxid = self.zxid.max(zxid);
                let Some(at) = self.changes.iter().position(|(other, ..)| *other == seq) else { return Ok(()) };
                let Some((_, slot, bytes)) = self.changes.remove(at) else { return Ok(()) };
                self.changing_bytes -= bytes;
                let closes = self.expects(slot, |expect| *expect == Expect::Closed);
                let answer = self.settle(slot, |xid, expect| translate::reply(xid, zxid, &expect, reply));
                answer.ok_or(End::Elided)?;
                self.flush(now);
                if closes {
                    return Err(End::Closed);
                }
            }
            Tell::Read { id: IDENTIFY, .. } | Tell::Skipped => {}
            Tell::Read { id, zxid, found } => {
                self.zxid = self.zxid.max(zxid);
                self.on_read(now, id, zxid, found);
            }
            Tell::Event { zxid, kind, path } => {
                self.zxid = self.zxid.max(zxid);
                self.notify(kind, &path);
            }
            Tell::Pong { n, zxid } => {
                self.zxid = self.zxid.max(zxid);
                while self.pings.front().is_some_and(|ping| *ping <= n) {
                    self.pings.pop_front();
                    self.send(&reply::answer(reply::PING, zxid, Code::Ok, |_| ()));
                }
            }
            Tell::Status { led, .. } => self.leaderless = if led { None } else { self.leaderless.or(Some(now)) },
            Tell::Lost => return Err(End::Expired),
            Tell::Moved => return Err(End::Moved),
            Tell::Refused { of: Subject::Read(id), why: Refusal::TooLarge } => {
                self.on_read(now, id, self.zxid, Err(too_large()));
            }
            Tell::Refused { of: Subject::Ping(_), .. } => {}
            Tell::Refused { why, .. } => return Err(End::Refused(why)),
            Tell::Opened { .. } | Tell::Attached { .. } | Tell::Failed { .. } => {}
        }
        self.pump(now);
        self.ended()
    }

    /// Whether the last answer was given after which nothing follows.
    fn ended(&self) -> Result<(), End> {
        if self.closing && self.slots.is_empty() { Err(End::Unimplemented) } else { Ok(()) }
    }

    /// Time went by.
    pub fn on_tick(&mut self, now: Instant) -> Result<(), End> {
        if self.leaderless.is_some_and(|since| now.duration_since(since) >= LEADERLESS) {
            return Err(End::Leaderless);
        }
        let oldest = self.slots.front().map(|slot| slot.began);
        if oldest.is_some_and(|began| now.duration_since(began) >= self.ttl) {
            return Err(End::Stalled);
        }
        Ok(())
    }

    fn notify(&mut self, kind: EventKind, path: &NodePath) {
        // What can no longer be told: whoever reads again misses nothing.
        let kinds: &[EventKind] = match kind {
            EventKind::Resync => &[EventKind::Changed, EventKind::Children],
            _ => &[kind],
        };
        for frame in kinds.iter().filter_map(|kind| reply::notification(*kind, path.as_str())) {
            self.send(&frame);
        }
    }

    fn on_read(&mut self, now: Instant, slot: u64, zxid: u64, found: Result<Found, CoordError>) {
        // The first half of a removal: which watches there are.
        let removal = self.slot(slot).and_then(|slot| match &slot.state {
            State::Asked(Expect::Watches { path, kind, check: false }) => Some((path.clone(), *kind)),
            _ => None,
        });
        if let (Some((path, kind)), Ok(Found::Watches(watches))) = (removal, &found) {
            let meant: Vec<Watch> = watches.iter().copied().filter(|watch| translate::is_meant(kind, *watch)).collect();
            if let Some((last, others)) = meant.split_last() {
                let unwatch = |id, watch: Watch| Ask::Unwatch { id, watch, path: path.clone() };
                self.asks.extend(others.iter().map(|watch| unwatch(IDENTIFY, *watch)));
                self.asks.push(unwatch(slot, *last));
                if let Some(slot) = self.slot(slot) {
                    slot.state = State::Asked(Expect::Nothing);
                }
                return;
            }
        }
        if self.alone {
            self.alone = false;
        } else if self.slot(slot).is_some_and(|slot| matches!(slot.state, State::Asked(_))) {
            self.reads -= 1;
        }
        let identities = std::mem::take(&mut self.identities);
        self.settle(slot, |xid, expect| Some(translate::found(xid, zxid, &expect, found, &identities)));
        self.identities = identities;
        self.flush(now);
    }

    fn slot(&mut self, number: u64) -> Option<&mut Slot> {
        self.slots.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    fn expects(&mut self, number: u64, is: impl FnOnce(&Expect) -> bool) -> bool {
        self.slot(number).is_some_and(|slot| matches!(&slot.state, State::Asked(expect) if is(expect)))
    }

    /// A slot has its answer; `None`: there is none to be given.
    fn settle(&mut self, number: u64, answer: impl FnOnce(i32, Expect) -> Option<Vec<u8>>) -> Option<()> {
        let slot = self.slot(number)?;
        if let State::Asked(expect) = std::mem::replace(&mut slot.state, State::Ready(Vec::new())) {
            slot.state = State::Ready(answer(slot.xid, expect)?);
        }
        Some(())
    }

    /// Sends the answers whose turn it is.
    fn flush(&mut self, now: Instant) {
        while let Some(Slot { state: State::Ready(frame), began, .. }) = self.slots.front_mut() {
            let (frame, took) = (std::mem::take(frame), now.duration_since(*began));
            let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            self.answered.answers += 1;
            self.answered.total_ms += took;
            self.answered.slowest_ms = self.answered.slowest_ms.max(took);
            self.send(&frame);
            self.slots.pop_front();
            self.first += 1;
        }
    }

    fn send(&mut self, frame: &[u8]) {
        self.answered.sent += 1;
        self.out.extend_from_slice(frame);
    }

    /// Begins what may be begun.
    fn pump(&mut self, now: Instant) {
        while let Some((_, request, bytes)) = self.queue.front() {
            let may = match turn(request) {
                Turn::Change => {
                    let room = self.changes.is_empty() || self.changing_bytes + bytes <= MAX_CHANGING_BYTES;
                    self.reads == 0 && !self.alone && (self.changes.len() as u64) < MAX_IN_FLIGHT && room
                }
                Turn::Read => self.reads < MAX_READS && !self.alone,
                Turn::Alone => self.reads == 0 && self.changes.is_empty() && !self.alone,
                Turn::Here => true,
            };
            if !may {
                return;
            }
            let Some((xid, request, bytes)) = self.queue.pop_front() else { return };
            self.queued_bytes -= bytes;
            self.begin(now, xid, request, bytes);
        }
    }

    fn begin(&mut self, now: Instant, xid: i32, request: Request, bytes: usize) {
        match request {
            Request::Change(change) => match translate::op(&change) {
                Ok(op) => self.change(now, xid, Command::Op(op), Expect::of(&change), bytes),
                Err(code) => self.here(now, xid, code, Vec::new()),
            },
            Request::Multi(changes) => match translate::multi(&changes) {
                Ok(ops) => {
                    let expect = Expect::Multi(changes.iter().map(Expect::of).collect());
                    self.change(now, xid, Command::Multi(ops), expect, bytes);
                }
                // One that no voter would read fails as one that was tried.
                Err(Some(failed)) => {
                    let body = translate::failed_multi(changes.len(), failed.0, failed.1);
                    self.here(now, xid, Code::Ok, body);
                }
                Err(None) => self.here(now, xid, Code::MarshallingError, Vec::new()),
            },
            Request::SetAcl { path, acl, version } => match translate::set_acl(path, &acl, version) {
                Ok(op) => self.change(now, xid, Command::Op(op), Expect::Stat, bytes),
                Err(code) => self.here(now, xid, code, Vec::new()),
            },
            Request::Close => {
                self.closing = true;
                self.change(now, xid, Command::Close, Expect::Closed, bytes);
            }
            Request::Exists { path, watch } => self.read(now, xid, Query::Exists(path), watch, Expect::Stat),
            Request::Data { path, watch } => self.read(now, xid, Query::Data(path), watch, Expect::Data),
            Request::Children { path, watch, with_stat } => {
                self.read(now, xid, Query::Children(path), watch, Expect::Children { with_stat });
            }
            Request::Acl(path) => self.read(now, xid, Query::Acl(path), false, Expect::Acl),
            Request::Ephemerals(prefix) => {
                self.read(now, xid, Query::Ephemerals(prefix), false, Expect::Paths);
            }
            Request::Descendants(path) => self.read(now, xid, Query::Descendants(path), false, Expect::Count),
            Request::MultiRead(looks) => self.multi_read(now, xid, looks),
            Request::Sync(path) => {
                let slot = self.push(now, xid, State::Asked(Expect::Path(path)));
                self.alone = true;
                self.ask_read(slot, Query::Nothing, true, false);
            }
            Request::AddWatch { path, recursive } => self.add_watch(now, xid, path, recursive),
            Request::RemoveWatches { path, kind, check } => self.remove_watches(now, xid, path, kind, check),
            Request::SetWatches(set) => self.set_watches(now, xid, set),
            Request::WhoAmI => {
                let body = translate::who_am_i(&self.identities);
                self.here(now, xid, Code::Ok, body);
            }
            // Taken where they came in.
            Request::Ping | Request::Auth { .. } => {}
            Request::Unknown(_) => {
                let frame = reply::answer_without_zxid(xid, Code::Unimplemented);
                self.closing = true;
                self.push(now, xid, State::Ready(frame));
                self.flush(now);
            }
        }
    }

    fn push(&mut self, now: Instant, xid: i32, state: State) -> u64 {
        self.slots.push_back(Slot { xid, began: now, state });
        self.first + self.slots.len() as u64 - 1
    }

    /// Answers without the voter.
    fn here(&mut self, now: Instant, xid: i32, code: Code, body: Vec<u8>) {
        let frame = reply::answer(xid, self.zxid, code, |w| {
            w.raw(&body);
        });
        self.push(now, xid, State::Ready(frame));
        self.flush(now);
    }

    fn change(&mut self, now: Instant, xid: i32, command: Command, expect: Expect, bytes: usize) {
        let slot = self.push(now, xid, State::Asked(expect));
        let seq = self.next_seq;
        self.next_seq += 1;
        self.changes.push_back((seq, slot, bytes));
        self.changing_bytes += bytes;
        let acked_below = self.changes.front().map_or(seq, |(first, ..)| *first);
        self.asks.push(Ask::Call { seq, acked_below, command });
    }

    fn read(&mut self, now: Instant, xid: i32, query: Query, watch: bool, expect: Expect) {
        // ZooKeeper finds its root under no name too, and never tells of it under that.
        let (query, watch) = match translate::of_no_name(&query) {
            Some(query) => (query, false),
            None => (query, watch),
        };
        // What is longer than any name is the name of nothing.
        if translate::is_too_long(&query) {
            return self.here(now, xid, Code::NoNode, Vec::new());
        }
        let slot = self.push(now, xid, State::Asked(expect));
        self.reads += 1;
        self.ask_read(slot, query, false, watch);
    }

    fn ask_read(&mut self, slot: u64, query: Query, linear: bool, watch: bool) {
        self.asks.push(Ask::Read { id: slot, after: self.next_seq, linear, query, watch });
    }

    fn multi_read(&mut self, now: Instant, xid: i32, looks: Vec<Look>) {
        match translate::queries(&looks) {
            Some(queries) => self.read(now, xid, Query::Many(queries), false, Expect::Looks(looks)),
            None => self.here(now, xid, Code::MarshallingError, Vec::new()),
        }
    }

    fn add_watch(&mut self, now: Instant, xid: i32, path: String, recursive: bool) {
        let watch = if recursive { Watch::Recursive } else { Watch::Persistent };
        // Nothing can happen to what is no path, and ZooKeeper does not mind.
        if NodePath::parse(&path).is_err() {
            return self.here(now, xid, Code::Ok, vec![0; 4]);
        }
        let slot = self.push(now, xid, State::Asked(Expect::Zero));
        self.alone = true;
        self.asks.push(Ask::Watch { id: slot, watch, path });
    }

    fn remove_watches(&mut self, now: Instant, xid: i32, path: String, kind: i32, check: bool) {
        if NodePath::parse(&path).is_err() {
            let code = if check && !path.starts_with('/') { Code::MarshallingError } else { Code::NoWatcher };
            return self.here(now, xid, code, Vec::new());
        }
        let slot = self.push(now, xid, State::Asked(Expect::Watches { path: path.clone(), kind, check }));
        self.alone = true;
        self.ask_read(slot, Query::Watches(path), false, false);
    }

    /// Events of what was missed come before the answer.
    fn set_watches(&mut self, now: Instant, xid: i32, set: SetWatches) {
        let seen = u64::try_from(set.seen).unwrap_or_default();
        let kinds = [
            (Watch::Data, set.data),
            (Watch::Exists, set.exists),
            (Watch::Children, set.children),
            (Watch::Persistent, set.persistent),
            (Watch::Recursive, set.recursive),
        ];
        let named = kinds.into_iter().flat_map(|(watch, paths)| paths.into_iter().map(move |path| (watch, path)));
        // Nothing can happen to what is no path.
        let watches: Vec<(Watch, NodePath)> =
            named.filter_map(|(watch, path)| Some((watch, NodePath::parse(&path).ok()?))).collect();
        let slot = self.push(now, xid, State::Asked(Expect::Nothing));
        self.alone = true;
        let chunks = watches.chunks(MAX_REARM);
        self.asks.extend(chunks.map(|chunk| Ask::Rearm { seen, watches: chunk.to_vec() }));
        self.ask_read(slot, Query::Nothing, false, false);
    }
}

fn turn(request: &Request) -> Turn {
    match request {
        Request::Change(_) | Request::Multi(_) | Request::SetAcl { .. } => Turn::Change,
        Request::Exists { .. }
        | Request::Data { .. }
        | Request::Children { .. }
        | Request::Acl(_)
        | Request::MultiRead(_)
        | Request::Ephemerals(_)
        | Request::Descendants(_) => Turn::Read,
        Request::Sync(_)
        | Request::AddWatch { .. }
        | Request::RemoveWatches { .. }
        | Request::SetWatches(_)
        | Request::Close => Turn::Alone,
        Request::Auth { .. } | Request::WhoAmI | Request::Ping | Request::Unknown(_) => Turn::Here,
    }
}

fn too_large() -> CoordError {
    use foreshore::coord::error::Bounded;
    CoordError::TooLarge { what: Bounded::Data, max: foreshore::coord::serve::talk::MAX_ANSWER_BYTES as u64 }
}

#[cfg(test)]
mod tests;
