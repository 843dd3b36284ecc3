//! What clients are told, as frames.

use foreshore::coord::CoordError;
use foreshore::coord::error::Bounded;
use foreshore::coord::watch::EventKind;
use foreshore::peer::coord::{Acl, Identity, Life, Perms, Stat};

use super::jute::Writer;

/// The number of a notification, in place of a request's.
const NOTIFICATION: i32 = -1;
/// The number of a ping, and of its answer.
pub const PING: i32 = -2;
/// The number of an authentication, and of its answer.
pub const AUTH: i32 = -4;

/// ZooKeeper's numbers of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
#[allow(missing_docs, reason = "ZooKeeper's own names")]
pub enum Code {
    Ok = 0,
    SystemError = -1,
    RuntimeInconsistency = -2,
    MarshallingError = -5,
    Unimplemented = -6,
    BadArguments = -8,
    NoNode = -101,
    NoAuth = -102,
    BadVersion = -103,
    NoChildrenForEphemerals = -108,
    NodeExists = -110,
    NotEmpty = -111,
    SessionExpired = -112,
    InvalidAcl = -114,
    AuthFailed = -115,
    SessionMoved = -118,
    NoWatcher = -121,
    QuotaExceeded = -125,
}

impl Code {
    /// The number that says an error of the tree.
    pub fn of(error: &CoordError) -> Self {
        match error {
            CoordError::NoNode => Code::NoNode,
            CoordError::NodeExists => Code::NodeExists,
            CoordError::BadVersion { .. } => Code::BadVersion,
            CoordError::NotEmpty => Code::NotEmpty,
            CoordError::NoChildrenForEphemerals => Code::NoChildrenForEphemerals,
            CoordError::InvalidAcl => Code::InvalidAcl,
            CoordError::NoAuth => Code::NoAuth,
            CoordError::BadPath(_) | CoordError::BadArguments { .. } => Code::BadArguments,
            CoordError::SessionExpired => Code::SessionExpired,
            CoordError::SessionMoved => Code::SessionMoved,
            CoordError::TooLarge { what: Bounded::Tree, .. } => Code::QuotaExceeded,
            CoordError::TooLarge { what: Bounded::Data, .. } => Code::MarshallingError,
            CoordError::Multi { error, .. } => Code::of(error),
            _ => Code::SystemError,
        }
    }
}

/// The answer to a client's first frame.
pub fn connected(timeout_ms: i32, session: i64, password: &[u8], with_read_only: bool) -> Vec<u8> {
    let mut w = Writer::default();
    w.i32(0).i32(timeout_ms).i64(session).buffer(password);
    if with_read_only {
        w.bool(false);
    }
    w.frame()
}

/// An answer; `body` writes what follows the header where there is no error.
pub fn answer(xid: i32, zxid: u64, code: Code, body: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut w = Writer::default();
    w.i32(xid).i64(zxid.cast_signed()).i32(code as i32);
    if code == Code::Ok {
        body(&mut w);
    }
    w.frame()
}

/// An error of a request that no server counts.
pub fn answer_without_zxid(xid: i32, code: Code) -> Vec<u8> {
    let mut w = Writer::default();
    w.i32(xid).i64(-1).i32(code as i32);
    w.frame()
}

/// Something that is watched happened. `None`: clients have no name for it.
pub fn notification(kind: EventKind, path: &str) -> Option<Vec<u8>> {
    let number = match kind {
        EventKind::Created => 1,
        EventKind::Deleted => 2,
        EventKind::Changed => 3,
        EventKind::Children => 4,
        EventKind::Leader | EventKind::Ready | EventKind::Resync => return None,
    };
    let mut w = Writer::default();
    w.i32(NOTIFICATION).i64(-1).i32(0);
    // The state: connected.
    w.i32(number).i32(3).string(path);
    Some(w.frame())
}

/// A node's `Stat`.
pub fn stat(w: &mut Writer, stat: &Stat) {
    w.i64(stat.czxid.cast_signed()).i64(stat.mzxid.cast_signed()).i64(stat.ctime).i64(stat.mtime);
    // Containers and TTL nodes are told apart by numbers in this field only within a server.
    let owner = match stat.life {
        Life::Ephemeral(session) => session.0,
        _ => 0,
    };
    w.i32(stat.version).i32(stat.cversion).i32(stat.aversion).i64(owner.cast_signed());
    w.i32(stat.data_length.cast_signed()).i32(stat.num_children.cast_signed()).i64(stat.pzxid.cast_signed());
}

/// Names.
pub fn names(w: &mut Writer, names: &[String]) {
    w.list(names, |w, name| {
        w.string(name);
    });
}

/// A node's list. Whoever may not administer it does not learn the hashes of passwords.
pub fn acl(w: &mut Writer, acl: &Acl, client: &[Identity]) {
    let whole = acl.permits(Perms::ADMIN, client);
    w.list(acl.entries(), |w, entry| {
        w.i32(entry.perms.bits().into()).string(&entry.who.scheme);
        match entry.who.id.split_once(':') {
            Some((user, _)) if !whole && entry.who.scheme == "digest" => w.string(&format!("{user}:x")),
            _ => w.string(&entry.who.id),
        };
    });
}
