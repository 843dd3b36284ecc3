//! Between ZooKeeper's requests and the tree's: what is asked becomes operations and queries, what is found becomes answers.

use foreshore::coord::acl::{MAX_ACL, MAX_IDENTITY_BYTES};
use foreshore::coord::command::MAX_OPS;
use foreshore::coord::error::CoordError;
use foreshore::coord::path::MAX_PATH_BYTES;
use foreshore::coord::reply::{Answer, Reply};
use foreshore::coord::serve::talk::{Found, MAX_QUERIES, Query};
use foreshore::coord::stat::MAX_NODE_TTL_MS;
use foreshore::coord::watch::Watch;
use foreshore::peer::coord::{Acl, AclEntry, Identity, Mode, Op, OpAnswer, Perms, Stat};

use super::jute::Writer;
use super::reply::{self, Code};
use super::request::{self, Change, Create, Look, code};

/// Longest text that is passed on as a path. It names nothing, and the tree says so in its order of errors.
const MAX_TEXT: usize = 2 * MAX_PATH_BYTES;

/// What the answer to a request looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// A path, and with it perhaps a `Stat`.
    Created {
        /// Whether the `Stat` is told.
        with_stat: bool,
    },
    /// A header and nothing else.
    Nothing,
    /// A zero.
    Zero,
    /// A `Stat`.
    Stat,
    /// Data and a `Stat`.
    Data,
    /// Names, and perhaps a `Stat`.
    Children {
        /// Whether the `Stat` is told.
        with_stat: bool,
    },
    /// A list and a `Stat`.
    Acl,
    /// Paths.
    Paths,
    /// A number.
    Count,
    /// The path that was asked about.
    Path(String),
    /// Whether such watches are there; `check` only looks.
    Watches {
        /// Where.
        path: String,
        /// `WatcherType`'s number.
        kind: i32,
        /// Whether they stay.
        check: bool,
    },
    /// One answer for each part.
    Multi(Vec<Expect>),
    /// One answer for each part.
    Looks(Vec<Look>),
    /// Nothing that can be read.
    Unreadable,
    /// The session is closed.
    Closed,
}

impl Expect {
    /// What a change answers.
    pub fn of(change: &Change) -> Self {
        match change {
            Change::Create(create) => Expect::Created { with_stat: create.with_stat },
            Change::Set { .. } => Expect::Stat,
            Change::Delete { .. } | Change::Check { .. } => Expect::Nothing,
            Change::Timeless { .. } => Expect::Unreadable,
        }
    }
}

/// Whether text is too long to be passed on as a path.
pub fn is_long(path: &str) -> bool {
    path.len() > MAX_TEXT
}

/// A query of the empty path as one of the root.
pub fn of_no_name(query: &Query) -> Option<Query> {
    let root = || "/".to_owned();
    match query {
        Query::Data(path) if path.is_empty() => Some(Query::Data(root())),
        Query::Exists(path) if path.is_empty() => Some(Query::Exists(root())),
        Query::Children(path) if path.is_empty() => Some(Query::Children(root())),
        Query::Acl(path) if path.is_empty() => Some(Query::Acl(root())),
        _ => None,
    }
}

/// Whether a query's path is too long to be passed on.
pub fn is_too_long(query: &Query) -> bool {
    match query {
        Query::Data(path)
        | Query::Exists(path)
        | Query::Children(path)
        | Query::Acl(path)
        | Query::Ephemerals(path)
        | Query::Descendants(path) => is_long(path),
        _ => false,
    }
}

fn path(text: &str) -> Result<String, Code> {
    if is_long(text) { Err(Code::BadArguments) } else { Ok(text.to_owned()) }
}

fn list(entries: &[request::AclEntry]) -> Result<Acl, Code> {
    let long = |entry: &request::AclEntry| entry.scheme.len().max(entry.id.len()) > MAX_IDENTITY_BYTES;
    if entries.len() > MAX_ACL || entries.iter().any(long) {
        return Err(Code::InvalidAcl);
    }
    let entries = entries.iter().map(|entry| AclEntry {
        // The five bits that permit something.
        perms: Perms::from_bits((entry.perms & 31) as u8),
        who: Identity::new(&entry.scheme, &entry.id),
    });
    Ok(Acl::new(entries.collect()))
}

/// How long a node stays, and whether it is numbered.
fn mode(create: &Create) -> Option<(Mode, bool)> {
    let ttl = || u64::try_from(create.ttl_ms).ok().filter(|ms| (1..=MAX_NODE_TTL_MS).contains(ms)).map(Mode::Ttl);
    let (mode, sequential, timed) = match create.flags {
        0 => (Mode::Persistent, false, false),
        1 => (Mode::Ephemeral, false, false),
        2 => (Mode::Persistent, true, false),
        3 => (Mode::Ephemeral, true, false),
        4 => (Mode::Container, false, false),
        5 => (ttl()?, false, true),
        6 => (ttl()?, true, true),
        _ => return None,
    };
    let mode = if create.container && !timed { Mode::Container } else { mode };
    // A time for what has none is refused too.
    (timed || create.ttl_ms < 0).then_some((mode, sequential))
}

/// A change as an operation, or why it is none.
pub fn op(change: &Change) -> Result<Op, Code> {
    Ok(match change {
        Change::Create(create) => {
            // What no tree can have is the tree's to refuse, before it looks at anything else.
            let (mode, sequential) = mode(create).unwrap_or((Mode::Ttl(0), false));
            let (path, acl) = (path(&create.path)?, list(&create.acl)?);
            Op::Create { path, data: create.data.as_slice().into(), acl, mode, sequential }
        }
        Change::Delete { path: text, version } => Op::Delete { path: path(text)?, version: *version },
        Change::Set { path: text, data, version } => {
            Op::Set { path: path(text)?, data: data.as_slice().into(), version: *version }
        }
        Change::Check { path: text, version } => Op::Check { path: path(text)?, version: *version },
        Change::Timeless { path: text } => Op::Create {
            path: path(text)?,
            data: Default::default(),
            acl: Acl::open(),
            mode: Mode::Ttl(0),
            sequential: false,
        },
    })
}

/// Changes as operations; or which of them is none, and why; or nothing, if there are too many.
pub fn multi(changes: &[Change]) -> Result<Vec<Op>, Option<(usize, Code)>> {
    if changes.len() > MAX_OPS {
        return Err(None);
    }
    let ops = changes.iter().enumerate().map(|(at, change)| op(change).map_err(|code| Some((at, code))));
    ops.collect()
}

/// A new list as an operation.
pub fn set_acl(text: String, acl: &[request::AclEntry], version: i32) -> Result<Op, Code> {
    Ok(Op::SetAcl { path: path(&text)?, acl: list(acl)?, version })
}

/// Reads as queries; `None`: too many, or of what cannot be named.
pub fn queries(looks: &[Look]) -> Option<Vec<Query>> {
    let queries = looks.iter().map(|look| match look {
        Look::Data(path) => Query::Data(path.clone()),
        Look::Children(path) => Query::Children(path.clone()),
    });
    let queries: Vec<Query> = queries.collect();
    (queries.len() <= MAX_QUERIES && !queries.iter().any(is_too_long)).then_some(queries)
}

/// Whether a `WatcherType` means a watch. One that stays is among the data watches and among the children's.
pub fn is_meant(kind: i32, watch: Watch) -> bool {
    const CHILDREN: i32 = 1;
    const DATA: i32 = 2;
    match watch {
        Watch::Data | Watch::Exists => kind != CHILDREN,
        Watch::Children => kind != DATA,
        Watch::Persistent | Watch::Recursive => true,
        Watch::Leader | Watch::Queue => false,
    }
}

/// Who a client is, as it is told itself.
pub fn who_am_i(identities: &[Identity]) -> Vec<u8> {
    let mut w = Writer::default();
    w.list(identities, |w, identity| {
        let user = match identity.scheme.as_str() {
            "digest" => identity.id.split(':').next().unwrap_or_default(),
            _ => &identity.id,
        };
        w.string(&identity.scheme).string(user);
    });
    w.finish()
}

/// The answer to a change. `None`: it was done, and its answer is not known any more.
pub fn reply(xid: i32, zxid: u64, expect: &Expect, reply: Reply) -> Option<Vec<u8>> {
    let frame = |body: &dyn Fn(&mut Writer)| reply::answer(xid, zxid, Code::Ok, |w| body(w));
    Some(match (expect, reply) {
        (_, Ok(Answer::Elided { .. })) => return None,
        (Expect::Multi(parts), Ok(Answer::Multi(answers))) => frame(&|w| {
            for (part, answer) in parts.iter().zip(&answers) {
                write_part(w, part, answer);
            }
            end_of_parts(w);
        }),
        (Expect::Multi(parts), Err(CoordError::Multi { at, .. }))
            if parts.get(at as usize) == Some(&Expect::Unreadable) =>
        {
            reply::answer(xid, zxid, Code::MarshallingError, |_| ())
        }
        (Expect::Multi(parts), Err(CoordError::Multi { at, error })) => {
            let body = failed_multi(parts.len(), at as usize, Code::of(&error));
            frame(&|w| {
                w.raw(&body);
            })
        }
        (_, Err(error)) => reply::answer(xid, zxid, Code::of(&error), |_| ()),
        (expect, Ok(Answer::Op(answer))) => frame(&|w| write_answer(w, expect, &answer)),
        (_, Ok(_)) => frame(&|_| ()),
    })
}

fn write_answer(w: &mut Writer, expect: &Expect, answer: &OpAnswer) {
    match answer {
        OpAnswer::Created { path, stat } => {
            w.string(path.as_str());
            if *expect == (Expect::Created { with_stat: true }) {
                reply::stat(w, stat);
            }
        }
        OpAnswer::Set(stat) | OpAnswer::AclSet(stat) => reply::stat(w, stat),
        OpAnswer::Deleted | OpAnswer::Checked => {}
    }
}

fn write_part(w: &mut Writer, expect: &Expect, answer: &OpAnswer) {
    let code = match answer {
        OpAnswer::Created { .. } if *expect == (Expect::Created { with_stat: true }) => code::CREATE2,
        OpAnswer::Created { .. } => code::CREATE,
        OpAnswer::Set(_) => code::SET_DATA,
        OpAnswer::AclSet(_) => code::SET_ACL,
        OpAnswer::Deleted => code::DELETE,
        OpAnswer::Checked => code::CHECK,
    };
    w.i32(code).bool(false).i32(0);
    write_answer(w, expect, answer);
}

fn write_error(w: &mut Writer, code: i32) {
    w.i32(code::ERROR).bool(false).i32(code).i32(code);
}

fn end_of_parts(w: &mut Writer) {
    w.i32(-1).bool(true).i32(-1);
}

/// What is told of a multi-operation that failed: nothing was done, the failed part says why, the ones after it were not
/// tried.
pub fn failed_multi(parts: usize, at: usize, code: Code) -> Vec<u8> {
    let mut w = Writer::default();
    for part in 0..parts {
        let code = match part.cmp(&at) {
            std::cmp::Ordering::Less => Code::Ok,
            std::cmp::Ordering::Equal => code,
            std::cmp::Ordering::Greater => Code::RuntimeInconsistency,
        };
        write_error(&mut w, code as i32);
    }
    end_of_parts(&mut w);
    w.finish()
}

/// The answer to a read, a watch, or a sync. `client`: who it is.
pub fn found(xid: i32, zxid: u64, expect: &Expect, found: Result<Found, CoordError>, client: &[Identity]) -> Vec<u8> {
    let frame = |body: &dyn Fn(&mut Writer)| reply::answer(xid, zxid, Code::Ok, |w| body(w));
    match (expect, found) {
        (Expect::Watches { kind, .. }, Ok(Found::Watches(watches))) => {
            let any = watches.iter().any(|watch| is_meant(*kind, *watch));
            reply::answer(xid, zxid, if any { Code::Ok } else { Code::NoWatcher }, |_| ())
        }
        (_, Err(CoordError::BadPath(_))) if *expect != Expect::Zero => reply::answer(xid, zxid, Code::NoNode, |_| ()),
        (_, Err(error)) => reply::answer(xid, zxid, Code::of(&error), |_| ()),
        (Expect::Stat, Ok(Found::Exists(stat))) => frame(&|w| reply::stat(w, &stat)),
        (Expect::Data, Ok(Found::Data(data, stat))) => frame(&|w| write_data(w, &data, &stat)),
        (Expect::Children { with_stat }, Ok(Found::Children(names, stat))) => frame(&|w| {
            reply::names(w, &names);
            if *with_stat {
                reply::stat(w, &stat);
            }
        }),
        (Expect::Acl, Ok(Found::Acl(acl, stat))) => frame(&|w| {
            reply::acl(w, &acl, client);
            reply::stat(w, &stat);
        }),
        (Expect::Paths, Ok(Found::Paths(paths))) => frame(&|w| reply::names(w, &paths)),
        (Expect::Count, Ok(Found::Count(count))) => frame(&|w| {
            w.i32(i32::try_from(count).unwrap_or(i32::MAX));
        }),
        (Expect::Path(path), Ok(_)) => frame(&|w| {
            w.string(path);
        }),
        (Expect::Zero, Ok(_)) => frame(&|w| {
            w.i32(0);
        }),
        (Expect::Looks(_), Ok(Found::Many(all))) => frame(&|w| {
            all.iter().for_each(|found| write_look(w, found));
            end_of_parts(w);
        }),
        (_, Ok(_)) => frame(&|_| ()),
    }
}

fn write_data(w: &mut Writer, data: &[u8], stat: &Stat) {
    w.buffer(data);
    reply::stat(w, stat);
}

fn write_look(w: &mut Writer, found: &Result<Found, CoordError>) {
    match found {
        Ok(Found::Data(data, stat)) => {
            w.i32(code::GET_DATA).bool(false).i32(0);
            write_data(w, data, stat);
        }
        Ok(Found::Children(names, _)) => {
            w.i32(code::GET_CHILDREN).bool(false).i32(0);
            reply::names(w, names);
        }
        Ok(_) => write_error(w, Code::SystemError as i32),
        Err(CoordError::BadPath(_)) => write_error(w, Code::NoNode as i32),
        Err(error) => write_error(w, Code::of(error) as i32),
    }
}
