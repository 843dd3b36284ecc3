//! A program's side: one session, kept alive over whichever voter answers.
//!
//! Time comes in as milliseconds of a clock that goes on during sleep. The session is opened with the first voter that
//! answers. When a voter is gone or silent the next one is tried, the session attached there, and whatever has no answer
//! sent again under its number: the machine does it once.
//!
//! **When to stop acting.** A voter acknowledges a sign of life only after a majority has confirmed that the leader counted
//! it, so the session lives for its whole time after the sign was *sent*. At two thirds of that without another
//! acknowledgement the client says [`State::Lapsed`]: from then on nothing may be done in the name of a lock, whatever comes
//! later. The third that is left covers clocks that run at different speeds.
//!
//! **Lost is lost.** An expired session is never replaced in silence: [`State::Lost`] is the last thing that a client says.

mod link;
mod session;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

use super::talk::{Ask, Found, Frame, Query, Refusal, Standing};
use crate::coord::acl::{MAX_IDENTITIES, MAX_IDENTITY_BYTES};
use crate::coord::command::{Command, MAX_ENTRY_BYTES};
use crate::coord::error::{Bounded, CoordError};
use crate::coord::path::NodePath;
use crate::coord::reply::{Answer, Reply};
use crate::coord::session::{MAX_TTL_MS, MIN_TTL_MS, PASSWORD_LEN, SessionId};
use crate::coord::watch::{EventKind, Watch};
use crate::id::PeerId;
use crate::wire::Codec;

/// Requests that may wait for their turn; beyond it a new one is refused.
pub const MAX_CALLS: usize = 16_384;

/// Reads that may wait.
pub const MAX_READS: usize = 4_096;

/// What a client is told at its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long the session outlives its last sign of life, in milliseconds; brought within the group's bounds.
    pub ttl_ms: u64,
    /// Its channel, different from those of other clients of the same peer.
    pub channel: u64,
}

/// How the session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No voter answered yet.
    Opening,
    /// A voter serves it.
    Connected,
    /// No voter serves it at the moment. What it holds it holds still.
    Suspended,
    /// No sign of life was acknowledged for two thirds of its time. Whatever it held has to be taken for lost for good,
    /// even if the session itself is found alive later.
    Lapsed,
    /// It ended.
    Lost,
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// It was never sent: no voter answered, or none with a majority behind it.
    #[error("not done: no quorum answers")]
    NotSent,
    /// The session ended before the answer came: it was done, or it was not.
    #[error("the outcome is unknown: the session ended before the answer came")]
    Unknown,
    /// Too many wait already.
    #[error("too many requests wait already")]
    Busy,
    /// The session is over.
    #[error("the session is over")]
    Lost,
    /// It does not fit into a frame, or holds what no voter would read.
    #[error("it does not fit into a frame")]
    TooLarge,
}

/// Why a read has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The state says so.
    #[error(transparent)]
    Coord(#[from] CoordError),
    /// A voter does not do it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The session is over.
    #[error("the session is over")]
    Lost,
}

/// What a driver has to do or a program is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// Have a link to this peer, and say so by [`Client::linked`].
    Reach(PeerId),
    /// Send a [`Frame`].
    Send {
        /// To whom.
        to: PeerId,
        /// The frame.
        bytes: Vec<u8>,
    },
    /// What a request came to. One that waits has [`Answer::Queued`] first and its outcome later.
    Reply {
        /// Which.
        call: u64,
        /// The entry that brought it about; 0 if that is not known any more.
        zxid: u64,
        /// The outcome.
        reply: Reply,
    },
    /// A request has no answer and will have none.
    Failed {
        /// Which.
        call: u64,
        /// Why.
        why: CallError,
    },
    /// What was read.
    Read {
        /// Which.
        read: u64,
        /// The state that it is of.
        zxid: u64,
        /// What.
        found: Result<Found, ReadError>,
    },
    /// Something that is watched happened.
    Event {
        /// At which entry.
        zxid: u64,
        /// What.
        kind: EventKind,
        /// Where.
        path: NodePath,
    },
    /// The session stands differently.
    State(State),
}

#[derive(Debug)]
struct Call {
    command: Command,
    /// Its number, once it was sent.
    seq: Option<u64>,
    /// It waits for a lock or for leadership.
    waits: bool,
    /// The program does not want the outcome any more.
    dropped: bool,
}

#[derive(Debug)]
struct Wanted {
    ask: Want,
    sent: bool,
}

#[derive(Clone, Debug)]
enum Want {
    Read {
        query: Query,
        linear: bool,
        watch: bool,
        after: u64,
    },
    Watch {
        watch: Watch,
        path: NodePath,
        on: bool,
    },
    Authenticate {
        scheme: String,
        secret: Vec<u8>,
    },
    /// Where the request of this name stands.
    Standing {
        call: u64,
        seq: u64,
    },
    /// Whether watches are set again: what is told from the answer on is new.
    Rearmed,
}

impl Want {
    /// The client's own, of which the program is told nothing.
    fn is_own(&self) -> bool {
        matches!(self, Want::Standing { .. } | Want::Rearmed)
    }

    /// What a voter is asked. A read is after no more than was sent.
    fn ask(self, id: u64, sent: u64) -> Ask {
        match self {
            Want::Read { query, linear, watch, after } => {
                Ask::Read { id, after: after.min(sent), linear, query, watch }
            }
            Want::Watch { watch, path, on: true } => Ask::Watch { id, watch, path: path.as_str().into() },
            Want::Watch { watch, path, on: false } => Ask::Unwatch { id, watch, path: path.as_str().into() },
            Want::Authenticate { scheme, secret } => Ask::Authenticate { id, scheme, secret },
            Want::Standing { seq, .. } => {
                Ask::Read { id, after: seq + 1, linear: false, query: Query::Standing(seq), watch: false }
            }
            Want::Rearmed => Ask::Read { id, after: 0, linear: false, query: Query::Nothing, watch: false },
        }
    }
}

#[derive(Clone, Debug)]
struct Session {
    id: SessionId,
    password: [u8; PASSWORD_LEN],
    ttl_ms: u64,
    /// When the newest sign of life was sent that was acknowledged.
    alive: u64,
}

/// How far it is with the voter of the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// Waiting for a link to it.
    Reaching { since: u64 },
    /// Opening or attaching there.
    Entering { since: u64, nonce: u64 },
    /// It serves the session.
    Serving,
}

/// One session of a program.
pub struct Client {
    options: Options,
    dice: ChaCha12Rng,
    voters: BTreeSet<PeerId>,
    /// Voters that were tried in vain since one served.
    tried: BTreeSet<PeerId>,
    at: Option<(PeerId, Link)>,
    /// When the voter was last heard, and when it first did not know a leader.
    heard: u64,
    leaderless: Option<u64>,
    state: State,
    session: Option<Session>,
    next_seq: u64,
    names: u64,
    calls: BTreeMap<u64, Call>,
    numbered: BTreeMap<u64, u64>,
    unsent: VecDeque<u64>,
    wants: BTreeMap<u64, Wanted>,
    staying: BTreeSet<(Watch, NodePath)>,
    once: BTreeSet<(Watch, NodePath)>,
    secrets: Vec<(String, Vec<u8>)>,
    /// Signs of life that were not acknowledged: number, and when it was sent.
    signs: VecDeque<(u64, u64)>,
    signed: u64,
    seen: u64,
    /// The newest entry up to which everything watched was told. It is behind `seen` while watches are set again.
    told: u64,
    /// Whether the voter has set the watches again, and what it told until it has.
    rearmed: bool,
    held: Vec<(u64, EventKind, NodePath)>,
    /// How often each event above `told` was told: the next voter tells them once more.
    ahead: BTreeMap<(u64, EventKind, NodePath), u32>,
    /// What of these this voter has still to tell once more.
    retold: BTreeMap<(u64, EventKind, NodePath), u32>,
    closing: bool,
    /// Requests that a voter had no room for.
    refused: BTreeSet<u64>,
    out: VecDeque<Output>,
}

impl Client {
    /// A client of the group that these peers know of. `seed` comes from the system's randomness.
    pub fn new(options: Options, voters: impl IntoIterator<Item = PeerId>, seed: [u8; 32], now: u64) -> Self {
        let options = Options { ttl_ms: options.ttl_ms.clamp(MIN_TTL_MS, MAX_TTL_MS), ..options };
        let mut client = Self {
            options,
            dice: ChaCha12Rng::from_seed(seed),
            voters: voters.into_iter().collect(),
            tried: BTreeSet::new(),
            at: None,
            heard: now,
            leaderless: None,
            state: State::Opening,
            session: None,
            next_seq: 0,
            names: 0,
            calls: BTreeMap::new(),
            numbered: BTreeMap::new(),
            unsent: VecDeque::new(),
            wants: BTreeMap::new(),
            staying: BTreeSet::new(),
            once: BTreeSet::new(),
            secrets: Vec::new(),
            signs: VecDeque::new(),
            signed: 0,
            seen: 0,
            told: 0,
            rearmed: true,
            held: Vec::new(),
            ahead: BTreeMap::new(),
            retold: BTreeMap::new(),
            closing: false,
            refused: BTreeSet::new(),
            out: VecDeque::new(),
        };
        client.next_voter(now);
        client
    }

    /// Asks for something to be done. Requests are done in the order in which they are asked for. The answer comes under the
    /// name that is returned. What no group would take is refused here.
    pub fn call(&mut self, now: u64, command: Command) -> Result<u64, CallRefused> {
        is_takeable(&command)?;
        if self.state == State::Lost || self.closing {
            return Err(CallError::Lost.into());
        }
        if self.calls.len() >= MAX_CALLS {
            return Err(CallError::Busy.into());
        }
        self.closing = command == Command::Close;
        self.expect(now);
        let name = self.name();
        self.calls.insert(name, Call { command, seq: None, waits: false, dropped: false });
        self.unsent.push_back(name);
        self.flush();
        Ok(name)
    }

    /// The program does not want a request any more. One that was not sent is taken back; one that waits, or may have been
    /// granted meanwhile, is cancelled, and an ephemeral node that it made is deleted. Its outcome is not told.
    pub fn give_up(&mut self, now: u64, call: u64) -> Option<CallError> {
        let found = self.calls.get_mut(&call)?;
        let Some(seq) = found.seq else {
            self.calls.remove(&call);
            self.unsent.retain(|unsent| *unsent != call);
            return Some(CallError::NotSent);
        };
        found.dropped = true;
        let cancels = matches!(found.command, Command::Acquire { .. });
        if cancels && let Ok(cancel) = self.call(now, Command::Cancel { seq }) {
            self.calls.entry(cancel).and_modify(|call| call.dropped = true);
        }
        Some(CallError::Unknown)
    }

    /// Reads. It sees everything that this client has done or seen before; with `linear`, everything that was acknowledged to
    /// anyone before now. `watch` sets a one-shot watch with it.
    pub fn read(&mut self, now: u64, query: Query, linear: bool, watch: bool) -> Result<u64, CallError> {
        let after = self.next_seq + self.unsent.len() as u64;
        self.want(now, Want::Read { query, linear, watch, after })
    }

    /// Sets or takes back a watch that stays.
    pub fn watch(&mut self, now: u64, watch: Watch, path: NodePath, on: bool) -> Result<u64, CallError> {
        self.want(now, Want::Watch { watch, path, on })
    }

    /// Says who the client is, for access control lists. It is said again to every voter.
    pub fn authenticate(&mut self, now: u64, scheme: &str, secret: &[u8]) -> Result<u64, CallError> {
        let (scheme, secret) = (scheme.to_owned(), secret.to_vec());
        self.want(now, Want::Authenticate { scheme, secret })
    }

    fn want(&mut self, now: u64, ask: Want) -> Result<u64, CallError> {
        if self.state == State::Lost || self.closing {
            return Err(CallError::Lost);
        }
        if self.wants.len() >= MAX_READS {
            return Err(CallError::Busy);
        }
        if Frame::parse(&Frame::Ask(self.options.channel, ask.clone().ask(0, 0)).to_bytes()).is_err() {
            return Err(CallError::TooLarge);
        }
        self.expect(now);
        let name = self.name();
        self.wants.insert(name, Wanted { ask, sent: false });
        self.flush();
        Ok(name)
    }

    /// Something is about to be asked: if nothing was, the voter's silence begins now.
    fn expect(&mut self, now: u64) {
        if self.signs.is_empty() && self.numbered.is_empty() {
            self.heard = self.heard.max(now);
        }
    }

    fn name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    /// The next thing to do or to know.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// How the session stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// The session, once it is open.
    pub fn session(&self) -> Option<SessionId> {
        self.session.as_ref().map(|session| session.id)
    }

    /// The voter that serves it.
    pub fn voter(&self) -> Option<PeerId> {
        self.at.filter(|(_, link)| *link == Link::Serving).map(|(peer, _)| peer)
    }

    /// Until when the program may act in the name of what it holds, if nothing more is heard: two thirds of the session's
    /// time after the newest acknowledged sign of life was sent. `None` without a session, or after it lapsed.
    pub fn lease_until(&self) -> Option<u64> {
        let session = self.session.as_ref().filter(|_| !matches!(self.state, State::Lapsed | State::Lost))?;
        Some(session.alive + session.ttl_ms * 2 / 3)
    }

    /// The newest entry whose effect was seen.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The effect of an entry was seen, after all that it and those before it tell.
    fn see(&mut self, zxid: u64) {
        self.seen = self.seen.max(zxid);
        if self.rearmed && zxid > self.told {
            self.told = zxid;
            self.ahead.clear();
        }
    }

    fn set_state(&mut self, state: State) {
        if self.state != state && self.state != State::Lost {
            self.state = state;
            self.out.push_back(Output::State(state));
        }
    }

    fn send(&mut self, to: PeerId, ask: Ask) {
        let bytes = Frame::Ask(self.options.channel, ask).to_bytes();
        self.out.push_back(Output::Send { to, bytes });
    }
}

/// Whether a voter can read a request and put it into the log, whoever the client is known as.
fn is_takeable(command: &Command) -> Result<(), CoordError> {
    command.check()?;
    let bytes = command.to_bytes();
    let rest = MAX_IDENTITIES * 2 * (MAX_IDENTITY_BYTES + 2) + 64;
    if bytes.len() + rest > MAX_ENTRY_BYTES || Command::from_bytes(&bytes).is_err() {
        return Err(CoordError::TooLarge { what: Bounded::Entry, max: MAX_ENTRY_BYTES as u64 });
    }
    Ok(())
}

/// Why a request was not taken. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallRefused {
    /// No group would take it.
    #[error(transparent)]
    Coord(#[from] CoordError),
    /// The client is over, or has too much to do.
    #[error(transparent)]
    Call(#[from] CallError),
}
