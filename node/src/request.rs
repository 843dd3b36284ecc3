//! What a command asks of a peer, and what it is told: one vocabulary for the control socket and for a peer inside the
//! command's own process.

mod coord;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

pub use self::coord::{
    Blob, Claimed, Grant, Holder, Item, LeaderLine, LockLine, NodeEventLine, NodeLife, NodeLine, QueueLine, Queued,
    StatLine, Strong, VoterChange, Voting,
};
use crate::failure::Failure;

/// How a value is put into a document.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PutMode {
    /// The place becomes equal to the value by the smallest set of edits.
    #[default]
    Diff,
    /// The place is written anew.
    Replace,
    /// JSON Merge Patch (RFC 7396).
    Merge,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the variants mirror the subcommands, whose help documents them")]
pub enum Request {
    /// → [`Written`].
    Put { space: String, path: String, at: String, value: Json, mode: PutMode, synced: usize },
    /// → [`Document`].
    Get { space: String, path: String, at: String, tagged: bool, at_least: Option<String>, wait_millis: u64 },
    /// → [`Reached`].
    Wait { space: String, bookmark: String, wait_millis: u64 },
    /// Items: [`Listed`]; → [`Page`].
    List { space: String, prefix: String, after: Option<String>, limit: usize },
    /// Items: [`Change`], until the caller goes away or `count` is reached.
    Watch { space: String, prefix: String, values: bool, count: Option<u64> },
    /// → [`Removed`].
    Delete { space: String, path: String },
    /// Items: [`Revision`], newest first.
    History { space: String, path: String, limit: usize },
    /// → [`SoftSet`].
    SoftSet { space: String, path: String, value: Json },
    /// → [`SoftRemoved`].
    SoftDelete { space: String, path: String },
    /// Items: [`SoftLine`].
    SoftGet { space: String, path: String },
    /// Items: [`SoftLine`].
    SoftList { space: String, prefix: String },
    /// Items: [`SoftEvent`], until the caller goes away or `count` is reached.
    SoftWatch { space: String, prefix: String, count: Option<u64> },
    /// Items: [`ServiceLine`].
    Services { space: String, service: Option<String> },
    /// Items: [`ServiceEvent`], beginning with what is there, until the caller goes away or `count` is reached.
    ServicesWatch { space: String, service: Option<String>, count: Option<u64> },
    /// One item, [`Registered`]; then nothing until the caller goes away, which takes the offer back.
    ServiceRegister { space: String, service: String, endpoint: String, metadata: BTreeMap<String, String> },
    /// → [`Published`].
    Publish { space: String, path: String, value: Json },
    /// Items: [`SignalLine`], until the caller goes away or `count` is reached.
    Subscribe { space: String, prefix: String, count: Option<u64> },
    /// Items: [`Grant`], the first one when the lock is held. Takes `{"end":true}`, which gives it back. → null.
    Lock {
        space: String,
        path: String,
        shared: bool,
        /// How long to wait: 0 not at all, nothing for ever.
        wait_millis: Option<u64>,
        ttl_millis: u64,
        delay_millis: u64,
    },
    /// → [`LockLine`].
    LockHolders { space: String, path: String },
    /// As [`Request::Lock`], for a leadership.
    Campaign { space: String, path: String, value: String, wait_millis: Option<u64>, ttl_millis: u64 },
    /// Items: [`LeaderLine`], beginning with who leads now, until the caller goes away or `count` is reached.
    Observe { space: String, path: String, count: Option<u64> },
    /// → [`NodeLine`].
    TreeGet { space: String, path: String, stale: bool },
    /// → [`NodeLine`] without data.
    TreeSet { space: String, path: String, data: Blob, version: Option<i32> },
    /// → [`NodeLine`] without data. An ephemeral one is an item instead, and stays until the caller goes away.
    TreeCreate { space: String, path: String, data: Blob, sequential: bool, life: NodeLife },
    /// → [`NodeLine`] without data.
    TreeDelete { space: String, path: String, version: Option<i32> },
    /// → names of children.
    TreeList { space: String, path: String, stale: bool },
    /// Items: [`NodeEventLine`], the first one when the watch is set, until the caller goes away or `count` others.
    TreeWatch { space: String, path: String, recursive: bool, count: Option<u64> },
    /// → [`Queued`].
    QueuePut { space: String, path: String, body: Blob, attempts: u32 },
    /// → [`Claimed`].
    QueueClaim { space: String, path: String, visibility_millis: u64 },
    /// → [`Queued`].
    QueueSettle { space: String, path: String, item: u64, token: u64, done: bool },
    /// → [`QueueLine`].
    QueueState { space: String, path: String },
    /// → [`Item`].
    QueueItem { space: String, path: String, item: u64 },
    /// → [`Queued`].
    QueueRevive { space: String, path: String, item: u64 },
    /// → [`Queued`].
    QueueDiscard { space: String, path: String, item: u64 },
    /// Items: [`Grant`] with an item. Takes a page for each item, `ack` or `nack`, and then hands out the next one. → null.
    QueueWork { space: String, path: String, visibility_millis: u64, ttl_millis: u64, count: Option<u64> },
    /// → [`Strong`].
    Voters { space: String },
    /// → [`Strong`], when the change is there.
    ChangeVoters { space: String, change: VoterChange },
    /// → [`TokenLine`] with the secret.
    TokenCreate { space: String, name: String, prefix: String, write: bool, expires_seconds: Option<u64> },
    /// → a list of [`TokenLine`].
    Tokens,
    /// → [`TokenLine`].
    TokenRevoke { token: String },
    /// → a list of [`SpaceLine`].
    Spaces,
    /// → [`SpaceLine`].
    CreateSpace { name: String },
    /// → [`RootKeyLine`].
    RootKey { space: String },
    /// → [`Invitation`].
    Invite { space: String, role: String, prefix: String, expires_seconds: Option<u64>, addresses: Vec<String> },
    /// → [`SpaceLine`].
    Join { invitation: String, name: Option<String> },
    /// Items: [`Member`].
    Members { space: String },
    /// → [`Revoked`].
    Revoke { space: String, device: String, grants: Vec<String>, keep_nothing: bool },
    /// → [`Revoked`].
    RevokeExpired { space: String },
    /// → [`Rotated`].
    RotateRoot { space: String },
    /// Items: [`EvictedLine`].
    Evicted { space: String, prefix: String },
    /// → [`RebasedLine`].
    RebaseEvicted { space: String, path: String, others: bool },
    /// → null.
    DiscardEvicted { space: String, path: String },
    /// → a list of [`Neighbour`].
    Peers,
    /// → [`Status`].
    Status,
    /// Items: [`Page64`]; → [`Transferred`].
    Export { space: String },
    /// Takes [`Page64`] lines; → [`Transferred`].
    Import { space: String },
    /// Gives space back to the file system. → null.
    Compact,
}

impl Request {
    /// Whether the caller goes on to say something: [`Page64`] lines, and `{"end":true}`.
    pub fn takes_pages(&self) -> bool {
        use Request::{Campaign, Import, Lock, QueueWork};
        matches!(self, Import { .. } | Lock { .. } | Campaign { .. } | QueueWork { .. })
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct Written {
    pub path: String,
    pub document: String,
    pub heads: Vec<String>,
    /// `false`: the document was that way already.
    pub changed: bool,
    /// Stands for the document as it is now.
    pub bookmark: String,
}

/// A document's value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct Document {
    pub path: String,
    pub heads: Vec<String>,
    pub value: Json,
    /// Stands for what was read, and for what it had to be at least.
    pub bookmark: String,
}

/// A bookmark that the peer has reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct Reached {
    pub space: String,
    /// Stands for the same, and may be shorter.
    pub bookmark: String,
}

/// A line of a listing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct Listed {
    pub path: String,
    pub document: String,
    pub heads: Vec<String>,
    pub bytes: u64,
    /// Milliseconds since 1970.
    pub changed_at: i64,
}

/// Where the next page starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// Pass as `after`; absent: that was all.
    pub next: Option<String>,
}

/// A change that a watcher is told of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct Change {
    pub path: String,
    pub kind: String,
    /// Whether a peer's bytes caused it.
    pub remote: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Json>,
}

/// What was removed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct Removed {
    pub path: String,
    pub deleted: bool,
    /// Stands for its being gone.
    pub bookmark: String,
}

/// A soft entry that was set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct SoftSet {
    pub path: String,
    /// The peer that it belongs to: the running one.
    pub owner: String,
}

/// A soft entry that was deleted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct SoftRemoved {
    pub path: String,
    /// `false`: this peer had none there.
    pub deleted: bool,
}

/// A soft entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct SoftLine {
    pub path: String,
    pub owner: String,
    pub device: String,
    pub mine: bool,
    /// Whether its owner has missed a renewal.
    pub away: bool,
    /// When it lapses unless a renewal comes.
    pub expires_ms: u64,
    pub value: Json,
}

/// A change of a soft entry that a watcher is told of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct SoftEvent {
    pub path: String,
    pub kind: String,
    pub owner: String,
    pub mine: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Json>,
}

/// An endpoint of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct ServiceLine {
    pub service: String,
    pub endpoint: String,
    pub metadata: BTreeMap<String, String>,
    pub instance: String,
    pub owner: String,
    pub device: String,
    pub mine: bool,
    /// Whether its peer has missed a renewal.
    pub away: bool,
    /// When it lapses unless a renewal comes.
    pub expires_ms: u64,
}

/// What happened to an endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct ServiceEvent {
    /// `offered`, `changed` or `gone`.
    pub kind: String,
    pub service: String,
    pub endpoint: String,
    pub metadata: BTreeMap<String, String>,
    pub instance: String,
    pub owner: String,
    pub mine: bool,
}

/// A service that is offered from now on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct Registered {
    pub service: String,
    pub endpoint: String,
    pub instance: String,
    /// The peer that offers it: the running one.
    pub owner: String,
}

/// A signal that was published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct Published {
    pub path: String,
    /// The peer's count of its signals at the path.
    pub seq: u64,
    /// Connected peers that it goes to first.
    pub peers: u64,
}

/// A signal that was heard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct SignalLine {
    pub path: String,
    pub sender: String,
    pub device: String,
    pub mine: bool,
    pub seq: u64,
    /// Signals of the sender at the path that did not reach the peer, since the one before.
    pub missed: u64,
    /// Signals that this command was too slow to print, before this one.
    pub dropped: u64,
    pub value: Json,
}

/// One change of a document's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct Revision {
    pub hash: String,
    pub actor: String,
    pub seq: u64,
    /// Milliseconds since 1970, as its author's clock had it; 0: none.
    pub time: i64,
    pub ops: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A space's root key. A secret: it is never printed.
#[derive(Serialize, Deserialize)]
pub struct RootKeyLine {
    /// The space.
    pub space: String,
    /// 32 bytes in hexadecimal.
    pub root_key: String,
}

/// A space of this store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct SpaceLine {
    pub name: String,
    pub id: String,
    pub documents: u64,
    pub root: bool,
}

/// A token of the HTTP door: what it opens, and, once, the token itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct TokenLine {
    /// What it is listed and revoked by; no secret.
    pub id: String,
    pub name: String,
    pub space: String,
    pub prefix: String,
    /// `false`: it reads only.
    pub write: bool,
    /// Milliseconds since 1970; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// The token. It is shown when it is made, and kept nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// An invitation. The link is a secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct Invitation {
    pub link: String,
    pub role: String,
    pub prefix: String,
    pub expires_at: Option<i64>,
}

/// A member of a space.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct Member {
    pub device: String,
    pub me: bool,
    pub roles: Vec<MemberRole>,
}

/// One role of a member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct MemberRole {
    pub role: String,
    pub prefix: String,
    pub not_after: Option<i64>,
    /// The fact that gives the role.
    #[serde(default)]
    pub grant: String,
}

/// Devices that lost rights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Revoked {
    /// Which.
    pub devices: Vec<String>,
}

/// A space with another root key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct Rotated {
    pub space: String,
    /// The public half of the new root.
    pub root: String,
}

/// A change that was taken out of a document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct EvictedLine {
    pub path: String,
    pub change: String,
    pub device: Option<String>,
    pub mine: bool,
    /// Whether it left only with what it stood on, and can be made again.
    pub honest: bool,
}

/// What was made again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct RebasedLine {
    pub path: String,
    pub made: u64,
    /// Edits that have no place in the document any more.
    pub lost: Vec<String>,
}

/// A connected peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct Neighbour {
    pub peer: String,
    pub device: Option<String>,
    pub address: Option<String>,
    /// Whether it is reached through a circuit relay.
    #[serde(default)]
    pub relayed: bool,
    pub spaces: Vec<String>,
    pub in_step: bool,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub round_trips: u64,
    /// Milliseconds of the last sign of life, there and back; absent: none has come yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
}

/// Figures of a peer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct Status {
    pub version: String,
    pub peer: String,
    pub device: String,
    pub data: String,
    pub pid: u32,
    pub uptime_seconds: u64,
    pub listen: Vec<String>,
    pub http: Option<String>,
    /// Where clients of ZooKeeper are served.
    #[serde(default)]
    pub zookeeper: Option<String>,
    /// Where clients of automerge-repo are served.
    #[serde(default)]
    pub automerge_repo: Option<String>,
    pub spaces: Vec<SpaceStatus>,
    pub peers: Vec<Neighbour>,
    pub hot_documents: u64,
    pub hot_bytes: u64,
    pub log_bytes: u64,
    pub orphans: u64,
    pub refused_changes: u64,
    pub storage_writes: u64,
    pub storage_bytes: u64,
    pub signatures_checked: u64,
    #[serde(default)]
    pub soft_owners: u64,
    #[serde(default)]
    pub soft_bytes: u64,
    #[serde(default)]
    pub soft_refused: u64,
    #[serde(default)]
    pub topic_streams: u64,
    #[serde(default)]
    pub topic_bytes: u64,
    #[serde(default)]
    pub topic_delivered: u64,
    #[serde(default)]
    pub topic_dropped: u64,
    #[serde(default)]
    pub topic_refused: u64,
    pub connections: u64,
    #[serde(default)]
    pub known_peers: u64,
    #[serde(default)]
    pub relay_reservations: u64,
    pub refused_connections: u64,
    pub violations: u64,
    pub resident_bytes: u64,
    /// What keeps writes from succeeding, if anything.
    pub trouble: Option<String>,
}

/// Figures of a space.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct SpaceStatus {
    pub name: String,
    pub id: String,
    pub documents: u64,
    pub members: u64,
    pub pending: u64,
    pub root: String,
    /// The group of voters.
    #[serde(default)]
    pub strong: Strong,
}

/// One page of a portable copy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Page64 {
    /// The page in base64.
    pub page: String,
}

/// What an export or import moved.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct Transferred {
    pub pages: u64,
    pub bytes: u64,
    pub changes: u64,
    pub refused: u64,
    /// Of an import: stands for all of the space that the peer has now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bookmark: Option<String>,
}

/// One line from the peer to the command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// One of several.
    Item(Json),
    /// The last line of a success.
    Done(Json),
    /// The last line of a failure.
    Failed(Failure),
}
