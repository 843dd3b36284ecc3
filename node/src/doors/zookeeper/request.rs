//! What clients ask, read from frames. Names and numbers are those of ZooKeeper 3.8's `zookeeper.jute` and `ZooDefs`.

use super::jute::{JuteError, Reader};

/// Numbers of operations.
#[allow(missing_docs, reason = "ZooKeeper's own names")]
pub mod code {
    pub const CREATE: i32 = 1;
    pub const DELETE: i32 = 2;
    pub const EXISTS: i32 = 3;
    pub const GET_DATA: i32 = 4;
    pub const SET_DATA: i32 = 5;
    pub const GET_ACL: i32 = 6;
    pub const SET_ACL: i32 = 7;
    pub const GET_CHILDREN: i32 = 8;
    pub const SYNC: i32 = 9;
    pub const PING: i32 = 11;
    pub const GET_CHILDREN2: i32 = 12;
    pub const CHECK: i32 = 13;
    pub const MULTI: i32 = 14;
    pub const CREATE2: i32 = 15;
    pub const CHECK_WATCHES: i32 = 17;
    pub const REMOVE_WATCHES: i32 = 18;
    pub const CREATE_CONTAINER: i32 = 19;
    pub const CREATE_TTL: i32 = 21;
    pub const MULTI_READ: i32 = 22;
    pub const AUTH: i32 = 100;
    pub const SET_WATCHES: i32 = 101;
    pub const GET_EPHEMERALS: i32 = 103;
    pub const GET_ALL_CHILDREN_NUMBER: i32 = 104;
    pub const SET_WATCHES2: i32 = 105;
    pub const ADD_WATCH: i32 = 106;
    pub const WHO_AM_I: i32 = 107;
    pub const CLOSE: i32 = -11;
    pub const ERROR: i32 = -1;
}

/// The first frame of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// The newest entry that the client has seen.
    pub last_zxid: i64,
    /// How long its session is to live, in milliseconds.
    pub timeout_ms: i32,
    /// An earlier session; 0: none.
    pub session: i64,
    /// Its password.
    pub password: Vec<u8>,
    /// Whether a server without a majority will do. `None`: a client of before 3.4, which wants no such flag back either.
    pub read_only: Option<bool>,
}

impl Connect {
    /// Reads one.
    pub fn parse(frame: &[u8]) -> Result<Self, JuteError> {
        let mut r = Reader::new(frame);
        let _version = r.i32("version of the protocol")?;
        Ok(Self {
            last_zxid: r.i64("last zxid")?,
            timeout_ms: r.i32("timeout")?,
            session: r.i64("session")?,
            password: r.buffer("password")?.unwrap_or_default().to_vec(),
            read_only: if r.remaining() > 0 { Some(r.bool("read only")?) } else { None },
        })
    }
}

/// An entry of an access control list, as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclEntry {
    /// ZooKeeper's bits.
    pub perms: i32,
    /// The scheme.
    pub scheme: String,
    /// The id.
    pub id: String,
}

/// A node to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    /// Its path, or the beginning of it.
    pub path: String,
    /// Its data.
    pub data: Vec<u8>,
    /// Its list.
    pub acl: Vec<AclEntry>,
    /// `CreateMode`'s number.
    pub flags: i32,
    /// Milliseconds; −1 where the operation has none.
    pub ttl_ms: i64,
    /// Whether the answer holds the `Stat`.
    pub with_stat: bool,
    /// Whether the operation makes containers, whatever the flags say.
    pub container: bool,
}

/// A change of the tree, or what a change depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named by what they hold")]
pub enum Change {
    Create(Create),
    Delete {
        path: String,
        version: i32,
    },
    Set {
        path: String,
        data: Vec<u8>,
        version: i32,
    },
    Check {
        path: String,
        version: i32,
    },
    /// A TTL node that is given no time: what ZooKeeper stumbles over when it comes to it.
    Timeless {
        path: String,
    },
}

/// A part of a `multiRead`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named by what they hold")]
pub enum Look {
    Data(String),
    Children(String),
}

/// Paths whose watches a client sets again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct SetWatches {
    /// The newest entry that the client has seen.
    pub seen: i64,
    pub data: Vec<String>,
    pub exists: Vec<String>,
    pub children: Vec<String>,
    pub persistent: Vec<String>,
    pub recursive: Vec<String>,
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named by what they hold")]
pub enum Request {
    Change(Change),
    Multi(Vec<Change>),
    SetAcl {
        path: String,
        acl: Vec<AclEntry>,
        version: i32,
    },
    Exists {
        path: String,
        watch: bool,
    },
    Data {
        path: String,
        watch: bool,
    },
    Children {
        path: String,
        watch: bool,
        with_stat: bool,
    },
    Acl(String),
    MultiRead(Vec<Look>),
    Ephemerals(String),
    Descendants(String),
    Sync(String),
    AddWatch {
        path: String,
        recursive: bool,
    },
    /// Take back, or (`check`) only look for it.
    RemoveWatches {
        path: String,
        kind: i32,
        check: bool,
    },
    SetWatches(SetWatches),
    Auth {
        scheme: String,
        secret: Vec<u8>,
    },
    WhoAmI,
    Ping,
    Close,
    /// An operation that this door does not know.
    Unknown(i32),
}

/// What a frame begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The client's number for it.
    pub xid: i32,
    /// Which operation.
    pub code: i32,
}

/// Reads what a frame begins with, and leaves the rest.
pub fn header(r: &mut Reader<'_>) -> Result<Header, JuteError> {
    Ok(Header { xid: r.i32("xid")?, code: r.i32("operation")? })
}

impl Request {
    /// Reads what follows the header.
    pub fn parse(code: i32, r: &mut Reader<'_>) -> Result<Self, JuteError> {
        Ok(match code {
            code::CREATE
            | code::CREATE2
            | code::CREATE_CONTAINER
            | code::CREATE_TTL
            | code::DELETE
            | code::SET_DATA
            | code::CHECK => Request::Change(change(code, r)?),
            code::MULTI => Request::Multi(parts(r, part)?),
            code::MULTI_READ => Request::MultiRead(parts(r, look)?),
            code::EXISTS => Request::Exists { path: path(r)?, watch: r.bool("watch")? },
            code::GET_DATA => Request::Data { path: path(r)?, watch: r.bool("watch")? },
            code::GET_CHILDREN | code::GET_CHILDREN2 => {
                Request::Children { path: path(r)?, watch: r.bool("watch")?, with_stat: code == code::GET_CHILDREN2 }
            }
            code::GET_ACL => Request::Acl(path(r)?),
            code::SET_ACL => Request::SetAcl { path: path(r)?, acl: acl(r)?, version: r.i32("version")? },
            code::SYNC => Request::Sync(path(r)?),
            code::ADD_WATCH => Request::AddWatch {
                path: path(r)?,
                recursive: match r.i32("mode")? {
                    0 => false,
                    1 => true,
                    _ => return Err(JuteError::Kind("a watch")),
                },
            },
            code::CHECK_WATCHES | code::REMOVE_WATCHES => Request::RemoveWatches {
                path: path(r)?,
                kind: match r.i32("kind of watch")? {
                    kind @ 1..=3 => kind,
                    _ => return Err(JuteError::Kind("a watch")),
                },
                check: code == code::CHECK_WATCHES,
            },
            code::SET_WATCHES | code::SET_WATCHES2 => {
                let mut set = SetWatches {
                    seen: r.i64("relative zxid")?,
                    data: paths(r)?,
                    exists: paths(r)?,
                    children: paths(r)?,
                    ..SetWatches::default()
                };
                if code == code::SET_WATCHES2 {
                    set.persistent = paths(r)?;
                    set.recursive = paths(r)?;
                }
                Request::SetWatches(set)
            }
            code::AUTH => {
                let _kind = r.i32("kind")?;
                Request::Auth { scheme: r.string("scheme")?, secret: r.buffer("secret")?.unwrap_or_default().to_vec() }
            }
            code::GET_EPHEMERALS => Request::Ephemerals(r.string("prefix")?),
            code::GET_ALL_CHILDREN_NUMBER => Request::Descendants(path(r)?),
            code::WHO_AM_I => Request::WhoAmI,
            code::PING => Request::Ping,
            code::CLOSE => Request::Close,
            other => Request::Unknown(other),
        })
    }
}

/// A path; ZooKeeper's servers cannot read a request without one either.
fn path(r: &mut Reader<'_>) -> Result<String, JuteError> {
    let bytes = r.buffer("path")?.ok_or(JuteError::Null("path"))?;
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

fn paths(r: &mut Reader<'_>) -> Result<Vec<String>, JuteError> {
    r.list("paths", 4, path)
}

fn acl(r: &mut Reader<'_>) -> Result<Vec<AclEntry>, JuteError> {
    r.list("access control list", 12, |r| {
        Ok(AclEntry { perms: r.i32("permissions")?, scheme: r.string("scheme")?, id: r.string("id")? })
    })
}

/// The parts of a multi-operation, each behind a header that says whether it is the end.
fn parts<T>(
    r: &mut Reader<'_>,
    part: impl Fn(i32, &mut Reader<'_>) -> Result<T, JuteError>,
) -> Result<Vec<T>, JuteError> {
    let mut parts = Vec::new();
    loop {
        let (code, done) = (r.i32("operation")?, r.bool("end")?);
        let _error = r.i32("error")?;
        if done {
            return Ok(parts);
        }
        parts.push(part(code, r)?);
    }
}

fn change(code: i32, r: &mut Reader<'_>) -> Result<Change, JuteError> {
    Ok(match code {
        code::CREATE | code::CREATE2 | code::CREATE_CONTAINER | code::CREATE_TTL => Change::Create(Create {
            path: path(r)?,
            data: r.buffer("data")?.unwrap_or_default().to_vec(),
            acl: acl(r)?,
            flags: r.i32("flags")?,
            ttl_ms: if code == code::CREATE_TTL { r.i64("ttl")? } else { -1 },
            with_stat: code != code::CREATE,
            container: code == code::CREATE_CONTAINER,
        }),
        code::DELETE => Change::Delete { path: path(r)?, version: r.i32("version")? },
        code::SET_DATA => Change::Set {
            path: path(r)?,
            data: r.buffer("data")?.unwrap_or_default().to_vec(),
            version: r.i32("version")?,
        },
        code::CHECK => Change::Check { path: path(r)?, version: r.i32("version")? },
        _ => return Err(JuteError::Kind("an operation of a multi")),
    })
}

/// A change as a part of a multi-operation, where ZooKeeper goes by the flags and not by the operation: a container or TTL
/// node is answered with its `Stat`, any other one without it, and a time is dropped that its node does not have.
fn part(code: i32, r: &mut Reader<'_>) -> Result<Change, JuteError> {
    Ok(match change(code, r)? {
        Change::Create(create) => {
            let timed = matches!(create.flags, 5 | 6);
            if timed && code != code::CREATE_TTL {
                return Ok(Change::Timeless { path: create.path });
            }
            let ttl_ms = if timed { create.ttl_ms } else { -1 };
            Change::Create(Create { ttl_ms, with_stat: timed || create.flags == 4, container: false, ..create })
        }
        other => other,
    })
}

fn look(code: i32, r: &mut Reader<'_>) -> Result<Look, JuteError> {
    let look = match code {
        code::GET_DATA => Look::Data(path(r)?),
        code::GET_CHILDREN => Look::Children(path(r)?),
        _ => return Err(JuteError::Kind("a read of a multi")),
    };
    let _watch = r.bool("watch")?;
    Ok(look)
}

#[cfg(test)]
mod tests;
