//! What is said of the strong path.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

/// Bytes: as text where they are text, else in base64.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// The bytes, if they are UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The bytes in base64, if they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self { text: Some(text), base64: None },
            Err(error) => Self { text: None, base64: Some(BASE64.encode(error.as_bytes())) },
        }
    }
}

impl Blob {
    /// The bytes; none of what is malformed.
    pub fn bytes(&self) -> Vec<u8> {
        match (&self.text, &self.base64) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(text)) => BASE64.decode(text).unwrap_or_default(),
            (None, None) => Vec::new(),
        }
    }
}

/// A grant that is held; said again and again while it is, each time with a later `until_ms`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct Grant {
    pub path: String,
    pub token: u64,
    /// Until when the holder may act if it hears nothing more: milliseconds of the machine's clock since it was started, sleep
    /// included.
    pub until_ms: u64,
    /// For how long after that nobody else can have it: what may be used to end in order.
    pub margin_ms: u64,
    /// Why it is not held any more. The holder has to end now; it says so when it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
    /// Of a queue: what is claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<Item>,
}

/// An item of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct Item {
    pub item: u64,
    /// How often it was claimed, this time included.
    pub attempt: u32,
    pub body: Blob,
}

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct LockLine {
    pub path: String,
    pub holders: Vec<Holder>,
    pub waiting: u32,
}

/// One holder of a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct Holder {
    pub session: String,
    pub shared: bool,
    pub token: u64,
}

/// Who leads an election.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct LeaderLine {
    pub path: String,
    /// `false`: no majority answers, and who leads is not known.
    pub known: bool,
    /// The leader's session; absent: nobody leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Blob>,
}

/// How long a node stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "named by what they are")]
pub enum NodeLife {
    #[default]
    Persistent,
    Ephemeral,
    Container,
    TtlMillis(u64),
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct NodeLine {
    pub path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Blob>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stat: Option<StatLine>,
}

/// What is known of a node, in ZooKeeper's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct StatLine {
    pub version: i32,
    pub cversion: i32,
    pub aversion: i32,
    pub czxid: u64,
    pub mzxid: u64,
    pub pzxid: u64,
    /// Milliseconds since 1970.
    pub ctime: i64,
    pub mtime: i64,
    pub data_length: u32,
    pub num_children: u32,
    /// The session that an ephemeral node belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    pub life: NodeLife,
}

/// Something that happened to a node, or `watching`: the watch is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct NodeEventLine {
    pub kind: String,
    pub path: String,
    pub zxid: u64,
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct QueueLine {
    pub path: String,
    pub ready: u32,
    pub claimed: u32,
    /// Numbers of items that were put aside, oldest first, at most 1,024.
    pub dead: Vec<u64>,
}

/// An item that was put into a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct Queued {
    pub path: String,
    pub item: u64,
}

/// An item that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct Claimed {
    pub path: String,
    pub token: u64,
    #[serde(flatten)]
    pub item: Item,
}

/// A change of the group of voters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the variants mirror the subcommands, whose help documents them")]
pub enum VoterChange {
    Add { peer: String, learner: bool },
    Promote { peer: String },
    Remove { peer: String },
    Replace { voter: String, newcomer: String },
    Transfer { peer: Option<String> },
}

/// How the group of voters stands, as a peer sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct Strong {
    /// `leader`, `follower`, `candidate`, `learner`, `joining`, or `none`: this peer has no replica.
    pub role: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    pub term: u64,
    pub generation: u64,
    /// The newest entry that is known to be committed.
    pub committed: u64,
    /// The newest entry that was applied here.
    pub applied: u64,
    /// The newest entry of the log here.
    pub last: u64,
    pub members: Vec<Voting>,
    pub sessions: u64,
    pub nodes: u64,
    /// Entries that this peer appended as the leader, since it was started.
    pub proposals: u64,
    /// BLAKE3 of the state at `applied`; absent where the state is too large to be hashed in passing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Why the replica of this peer is not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
}

impl Strong {
    /// How many vote.
    pub fn voters(&self) -> usize {
        self.members.iter().filter(|member| member.votes).count()
    }
}

/// A member of the group of voters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct Voting {
    pub peer: String,
    pub votes: bool,
    pub leads: bool,
    /// Whether this is the peer that was asked.
    pub me: bool,
    /// Entries that it lacks. Only the peer that leads knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
}
