//! What local programs ask of the engine, and what it tells them.

use std::time::Duration;

use crate::document::hot::HotCell;
use crate::document::local::LocalChange;
use crate::document::template::Template;
use crate::document::value::Value;
use crate::id::{ChangeHash, DeviceId, DocumentId, FactHash, Incarnation, Path, PeerId, Prefix, SpaceId};
use crate::io::{LinkId, RequestId, StorageFailure};
use crate::session::Bookmark;
use crate::time::WallTime;
use crate::trust::{Role, RootKey};
use crate::wire::v1::exchange::PeerAddresses;

#[cfg(feature = "coord")]
pub use super::coord::{
    ClientId, CoordCommand, CoordEvent, CoordFailure, CoordReply, CoordStatus, LineId, MAX_DIGEST_BYTES, Operation,
};
pub use super::failure::{CommandError, OpenError, RefusedChange};
pub use crate::soft::{OwnerId, Shown as SoftInfo, SoftChange, SoftError, SoftEvent};
pub use crate::topic::{TopicError, TopicEvent};

/// What a local program asks for. Every command is answered by exactly one [`Event::Reply`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Command {
    /// Makes a space with this store's device as its first member. → [`Reply::Space`], durable.
    CreateSpace {
        /// A local name, e.g. `default`; at most 64 bytes, unique in the store.
        name: String,
    },
    /// Becomes a member by an invitation (its text form). → [`Reply::Space`], durable; needs no network.
    Join {
        /// The text of the invitation.
        invitation: String,
        /// A local name; `None`: derived from the space id.
        name: Option<String>,
    },
    /// The spaces of this store. → [`Reply::Spaces`].
    Spaces,
    /// Opens the live document at a path, hydrated. Never writes. → [`Reply::Document`].
    Open {
        /// The space.
        space: SpaceId,
        /// Where.
        path: Path,
        /// What the document is before anyone writes; the empty template asks for nothing.
        template: Template,
    },
    /// Stores edits made through hot documents: all or nothing. → [`Reply::Committed`] once durable.
    Commit {
        /// The space.
        space: SpaceId,
        /// In the order they were made.
        changes: Vec<LocalChange>,
    },
    /// The value at a path, read cold: hydrated for this read only unless it is hot anyway. → [`Reply::Value`].
    Read {
        /// The space.
        space: SpaceId,
        /// Where.
        path: Path,
    },
    /// The value at a path, by a store that covers a bookmark: it waits until it does, and asks the peers that may have
    /// what is missing. → [`Reply::Read`], or [`CommandError::NotYet`].
    ReadAtLeast {
        /// The space.
        space: SpaceId,
        /// Where.
        path: Path,
        /// What the reader has seen; an empty one asks for nothing.
        bookmark: Bookmark,
        /// How long to wait for what is not here; `None`: until [`Command::Cancel`].
        wait: Option<Duration>,
    },
    /// Waits until this store covers a bookmark. → [`Reply::Bookmark`], folded if it was long, or [`CommandError::NotYet`].
    Reach {
        /// The space.
        space: SpaceId,
        /// What the caller has seen.
        bookmark: Bookmark,
        /// How long to wait for what is not here; `None`: until [`Command::Cancel`].
        wait: Option<Duration>,
    },
    /// A bookmark of what this store has durably at these paths; of everything, if there is none. → [`Reply::Bookmark`].
    Bookmark {
        /// The space.
        space: SpaceId,
        /// At most [`MAX_DOCUMENTS`](crate::session::MAX_DOCUMENTS).
        paths: Vec<Path>,
    },
    /// Documents under a prefix in path order, from the index alone. → [`Reply::List`].
    List {
        /// The space.
        space: SpaceId,
        /// Under here.
        prefix: Prefix,
        /// Only paths after this one.
        after: Option<Path>,
        /// At most this many, at most [`MAX_LIST`].
        limit: usize,
    },
    /// Deletes the live document at a path by a tombstone. → [`Reply::Deleted`] once durable.
    Delete {
        /// The space.
        space: SpaceId,
        /// Where.
        path: Path,
    },
    /// Makes an invitation. → [`Reply::Invitation`].
    Invite {
        /// The space.
        space: SpaceId,
        /// The role it hands out.
        role: Role,
        /// Where the role holds.
        prefix: Prefix,
        /// Until when it can be accepted and its grant opens handshakes.
        not_after: Option<WallTime>,
        /// Addresses of peers to dial, as multiaddr text.
        addresses: Vec<String>,
    },
    /// The root key of a space that this store made, for safe keeping. → [`Reply::RootKey`].
    RootKey {
        /// The space.
        space: SpaceId,
    },
    /// Members of a space. → [`Reply::Members`].
    Members {
        /// The space.
        space: SpaceId,
        /// Only devices after this one.
        after: Option<DeviceId>,
        /// At most this many.
        limit: usize,
    },
    /// Takes rights from a device, for everybody and for good; see [`crate::trust`]. → [`Reply::Revoked`], durable.
    Revoke {
        /// The space.
        space: SpaceId,
        /// Whose. For an invitation: the device that its grants name.
        device: DeviceId,
        /// Which of its grants ([`MemberInfo::grants`]); none: the device is removed, and no grant brings it back.
        grants: Vec<FactHash>,
        /// What it wrote that stays.
        keep: Keep,
    },
    /// Revokes every grant of the space that has ended by this store's clock and that it may revoke. → [`Reply::Revoked`],
    /// durable.
    RevokeExpired {
        /// The space.
        space: SpaceId,
    },
    /// Hands the space to another root key, where this store has the present one. → [`Reply::RootKey`], the new one, durable.
    RotateRoot {
        /// The space.
        space: SpaceId,
        /// The new root; `None`: one is made.
        successor: Option<Box<RootKey>>,
    },
    /// Documents out of which facts took changes that are still kept aside. → [`Reply::Evicted`].
    Evicted {
        /// The space.
        space: SpaceId,
        /// Under here.
        prefix: Prefix,
    },
    /// What was taken out of the live document at a path. → [`Reply::EvictedChanges`].
    EvictedChanges {
        /// The space.
        space: SpaceId,
        /// Where.
        path: Path,
    },
    /// Forgets changes that were taken out of the live document at a path, in this store. → [`Reply::Done`], durable.
    DiscardEvicted {
        /// The space.
        space: SpaceId,
        /// Where.
        path: Path,
        /// Which; none: all.
        changes: Vec<ChangeHash>,
    },
    /// What this store replicates of a space, from now on. Default: all it may read. → [`Reply::Done`], durable.
    Interest {
        /// The space.
        space: SpaceId,
        /// Prefixes; an empty list replicates nothing by itself.
        prefixes: Vec<Prefix>,
    },
    /// Waits until `peers` other peers have stored these heads durably. → [`Reply::Done`]. No deadline of its own:
    /// see [`Command::Cancel`].
    Synced {
        /// The space.
        space: SpaceId,
        /// The document.
        document: DocumentId,
        /// Heads that must be covered.
        heads: Vec<ChangeHash>,
        /// How many other peers.
        peers: usize,
    },
    /// Gives up waiting for an earlier command; that command is answered with [`CommandError::Cancelled`].
    Cancel {
        /// The command.
        target: RequestId,
    },
    /// Starts anti-entropy on every link now (the network came back, the page is visible again). → [`Reply::Done`].
    Reconcile,
    /// Values of edits set aside by a deletion that was concurrent to them. → [`Reply::SetAside`].
    SetAside {
        /// The space.
        space: SpaceId,
        /// Where.
        path: Path,
    },
    /// Discards locally what [`Command::SetAside`] lists. → [`Reply::Done`]. (Restoring is an edit of the live
    /// generation with the listed value.)
    DiscardSetAside {
        /// The space.
        space: SpaceId,
        /// Where.
        path: Path,
    },
    /// One page of a portable copy: facts first, then documents in path order. → [`Reply::Exported`].
    Export {
        /// The space.
        space: SpaceId,
        /// Where the previous page ended.
        after: Option<Path>,
    },
    /// Takes in one page of a portable copy, with the same checks as for a peer's bytes. → [`Reply::Imported`], durable.
    Import {
        /// The space.
        space: SpaceId,
        /// A page from [`Reply::Exported`].
        page: Vec<u8>,
    },
    /// Lets in changes of actors that are no devices: this device vouches for them, with its right to write. What cannot be
    /// admitted now is refused and not kept: a change whose dependencies are not here, one of an actor that a device has
    /// signed for as its own, one that the ingest checks refuse. → [`Reply::Imported`], durable.
    Admit {
        /// The space.
        space: SpaceId,
        /// Where.
        path: Path,
        /// Of which generation of the path; it must be the live one.
        generation: u32,
        /// Automerge's change chunks, at most [`MAX_ADMITTED`](super::MAX_ADMITTED) and
        /// [`MAX_ADMITTED_BYTES`](super::MAX_ADMITTED_BYTES) together.
        chunks: Vec<Vec<u8>>,
    },
    /// The live document's changes as chunks, from the store, without hydrating it. → [`Reply::Changes`].
    Changes {
        /// The space.
        space: SpaceId,
        /// Where.
        path: Path,
        /// Only what came after this: [`StoredChanges::last`] of an earlier answer, or 0.
        after: u64,
    },
    /// Writes an own soft entry: it lives with this peer's lease and is gone everywhere soon after this peer is.
    /// → [`Reply::SoftWritten`], at once.
    SoftSet {
        /// The space.
        space: SpaceId,
        /// Where; other peers may have entries of their own there.
        path: Path,
        /// What.
        value: Vec<u8>,
    },
    /// Deletes an own soft entry. → [`Reply::Deleted`], at once.
    SoftDelete {
        /// The space.
        space: SpaceId,
        /// Where.
        path: Path,
    },
    /// The soft entries at a path, one an owner. → [`Reply::SoftList`].
    SoftGet {
        /// The space.
        space: SpaceId,
        /// Where.
        path: Path,
    },
    /// Soft entries under a prefix in path order. → [`Reply::SoftList`].
    SoftList {
        /// The space.
        space: SpaceId,
        /// Under here.
        prefix: Prefix,
        /// Only paths after this one.
        after: Option<Path>,
        /// At most this many, at most [`MAX_LIST`], but for those that share the last one's path.
        limit: usize,
    },
    /// For drivers: tells a peer on a link where members of a space are, if it proved to be one. → [`Reply::Done`].
    TellPeers {
        /// The stream.
        link: LinkId,
        /// The space.
        space: SpaceId,
        /// Peers and their addresses; what is over a message's bounds is left out.
        peers: Vec<PeerAddresses>,
    },
    /// For drivers: keeps the address book, for [`Event::PeersKept`] at the next start. → [`Reply::Done`].
    KeepPeers {
        /// In the driver's own encoding.
        book: Vec<u8>,
    },
    /// Publishes a signal at a path: handed to everybody connected who may read it, best effort, and kept nowhere.
    /// → [`Reply::Published`], at once.
    Publish {
        /// The space.
        space: SpaceId,
        /// Where.
        path: Path,
        /// What.
        payload: Vec<u8>,
    },
    /// Something of the strong path. → [`Reply::Coord`].
    #[cfg(feature = "coord")]
    Coord(CoordCommand),
    /// Compacts what is due, now. → [`Reply::Done`].
    Compact,
    /// Figures for people and metrics. → [`Reply::Status`].
    Status,
    /// Flushes, writes the seal, and closes every link. → [`Reply::Done`]; afterwards everything is refused.
    Close,
}

/// Most documents that one [`Command::List`] returns.
pub const MAX_LIST: usize = 10_000;

/// The answer to a [`Command`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Reply {
    /// Nothing but success.
    Done,
    /// A space of this store.
    Space(SpaceInfo),
    /// All spaces of this store.
    Spaces(Vec<SpaceInfo>),
    /// An open document.
    Document {
        /// Its id.
        document: DocumentId,
        /// The generation of the path.
        generation: u32,
        /// The hydrated document.
        cell: HotCell,
    },
    /// Durable heads of each document that the commit touched.
    Committed(Vec<(DocumentId, Vec<ChangeHash>)>),
    /// A value and its heads, or nothing where no document lives.
    Value(Option<(Value, Vec<ChangeHash>)>),
    /// A value and its heads, or nothing where no document lives; and a bookmark of what was read and of all that was
    /// asked for.
    Read {
        /// The value and its heads, all durable.
        value: Option<(Value, Vec<ChangeHash>)>,
        /// What the reader has seen now.
        bookmark: Box<Bookmark>,
    },
    /// A bookmark that this store covers.
    Bookmark(Box<Bookmark>),
    /// A page of documents, and where the next one starts.
    List {
        /// The page.
        items: Vec<DocumentInfo>,
        /// Pass as `after` for the next page; `None`: this was the last.
        next: Option<Path>,
    },
    /// Deleted; `false`: nothing was there.
    Deleted(bool),
    /// An own soft entry was written.
    SoftWritten {
        /// The version it got.
        version: u64,
    },
    /// Soft entries, and where the next page starts.
    SoftList {
        /// The page.
        items: Vec<SoftInfo>,
        /// Pass as `after` for the next page; `None`: this was the last.
        next: Option<Path>,
    },
    /// A signal was published.
    Published {
        /// Its number among this peer's signals at the path, in this life of the peer.
        seq: u64,
        /// Linked peers that it goes to first.
        peers: usize,
    },
    /// To [`Command::Coord`].
    #[cfg(feature = "coord")]
    Coord(CoordReply),
    /// The text of an invitation. A secret.
    Invitation(String),
    /// The root key; `None`: the space was made elsewhere. A secret.
    RootKey(Option<Box<RootKey>>),
    /// Members.
    Members(Vec<MemberInfo>),
    /// Documents out of which changes were taken.
    Evicted(Vec<EvictedDocument>),
    /// Changes that were taken out of a document.
    EvictedChanges(Vec<EvictedChange>),
    /// Devices of which something was revoked.
    Revoked(Vec<DeviceId>),
    /// Values of what was set aside, with their heads.
    SetAside(Vec<(Value, Vec<ChangeHash>)>),
    /// A page of a portable copy.
    Exported {
        /// The page.
        page: Vec<u8>,
        /// Pass as `after` for the next page; `None`: this was the last.
        next: Option<Path>,
    },
    /// What an import page brought.
    Imported {
        /// Changes that were new.
        changes: u64,
        /// Changes refused by the ingest checks.
        refused: u64,
    },
    /// Changes of a document.
    Changes(Box<StoredChanges>),
    /// Figures.
    Status(Box<StatusReport>),
}

/// Changes of a document, as they are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredChanges {
    /// The generation that lives, or would.
    pub generation: u32,
    /// Whether a document lives at the path.
    pub exists: bool,
    /// Automerge's change chunks. Some may have been in an earlier answer. What is hidden from the view is left out.
    pub chunks: Vec<Vec<u8>>,
    /// How many changes of the document are kept aside since facts took them out. Where this differs from an earlier answer,
    /// changes of that answer may be in the document no more.
    pub evicted: u32,
    /// To be passed as `after` next time.
    pub last: u64,
}

/// A space of this store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceInfo {
    /// Its id.
    pub id: SpaceId,
    /// Its local name.
    pub name: String,
    /// Live documents.
    pub documents: u64,
    /// Whether this store holds the space's root key.
    pub root: bool,
    /// Addresses learnt from the invitation, as multiaddr text: the driver dials them.
    pub addresses: Vec<String>,
}

/// A document, from the index alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentInfo {
    /// Where.
    pub path: Path,
    /// Its id.
    pub document: DocumentId,
    /// The path's generation.
    pub generation: u32,
    /// Heads.
    pub heads: Vec<ChangeHash>,
    /// Bytes of changes stored.
    pub bytes: u64,
    /// When this store last admitted a change to it, by the local wall clock, to the second.
    pub changed_at: WallTime,
}

/// A document out of which facts took changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvictedDocument {
    /// Where.
    pub path: Path,
    /// The path's generation.
    pub generation: u32,
    /// The document.
    pub document: DocumentId,
    /// How many changes are kept aside.
    pub changes: u32,
}

/// A change that facts took out of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvictedChange {
    /// Its hash.
    pub change: ChangeHash,
    /// Its number among its actor's.
    pub seq: u64,
    /// Who signed it, where that is known.
    pub device: Option<DeviceId>,
    /// Whether that is this store's own device.
    pub mine: bool,
    /// Whether it left only with what it stood on: its author counts, and it can be made again.
    pub honest: bool,
    /// The change chunk.
    pub bytes: Vec<u8>,
}

/// What of a revoked device's work stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Keep {
    /// All that this store has of it. The store has to replicate everything that the ended grants cover.
    #[default]
    Known,
    /// Nothing. Edits of others on top of it are set aside, too.
    Nothing,
}

/// A member of a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberInfo {
    /// The device.
    pub device: DeviceId,
    /// Its roles, each with its prefix and end.
    pub roles: Vec<(Role, Prefix, Option<WallTime>)>,
    /// The facts that give it these roles, in the same order: what [`Command::Revoke`] names.
    pub grants: Vec<FactHash>,
    /// Whether it is this store's own device.
    pub me: bool,
}

/// What the engine tells local programs.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// The store is open: links and commands are welcome.
    Opened {
        /// This store's device.
        device: DeviceId,
        /// Seed of the Ed25519 key of this store's libp2p identity. A secret.
        peer_seed: crate::id::Seed,
        /// This life of the store.
        incarnation: Incarnation,
        /// Spaces found.
        spaces: Vec<SpaceInfo>,
    },
    /// The store cannot be opened; nothing was changed.
    OpenFailed(OpenError),
    /// The answer to a command.
    Reply {
        /// Which.
        request: RequestId,
        /// What came of it.
        result: Result<Reply, CommandError>,
    },
    /// Changes of a document were admitted (and are durable), or it was deleted.
    DocumentChanged {
        /// The space.
        space: SpaceId,
        /// Where.
        path: Path,
        /// Which.
        document: DocumentId,
        /// Whether this was a deletion.
        deleted: bool,
        /// Whether a peer's bytes caused it.
        remote: bool,
    },
    /// A hydrated document shows what peers sent, which is not durable yet: [`Event::DocumentChanged`] follows.
    DocumentShown {
        /// The space.
        space: SpaceId,
        /// Where.
        path: Path,
        /// Which.
        document: DocumentId,
    },
    /// A soft entry was set or deleted, or lapsed with its owner.
    SoftChanged {
        /// The space.
        space: SpaceId,
        /// What happened.
        event: SoftEvent,
    },
    /// A signal came, or was published here.
    Signalled {
        /// The space.
        space: SpaceId,
        /// The signal.
        event: TopicEvent,
    },
    /// Of the strong path.
    #[cfg(feature = "coord")]
    Coord(CoordEvent),
    /// The members of a space changed.
    MembersChanged {
        /// The space.
        space: SpaceId,
    },
    /// A peer proved that it is a member.
    Joined {
        /// Its stream.
        link: LinkId,
        /// The running peer.
        peer: PeerId,
        /// Its device.
        device: DeviceId,
        /// The space.
        space: SpaceId,
    },
    /// For drivers: what [`Command::KeepPeers`] kept; ahead of [`Event::Opened`].
    PeersKept {
        /// In the driver's own encoding.
        book: Vec<u8>,
    },
    /// For drivers: a member tells where members are. Nothing of it is checked but its bounds.
    PeersTold {
        /// Its stream.
        link: LinkId,
        /// Who tells.
        peer: PeerId,
        /// Its device.
        device: DeviceId,
        /// The space.
        space: SpaceId,
        /// What it tells.
        peers: Vec<PeerAddresses>,
    },
    /// For drivers: a member was told that these are members too; it may be told where they are.
    PeersNamed {
        /// Its stream.
        link: LinkId,
        /// The space.
        space: SpaceId,
        /// The peers.
        peers: Vec<PeerId>,
    },
    /// A link and a space came back in step after a difference.
    InStep {
        /// Its stream.
        link: LinkId,
        /// The space.
        space: SpaceId,
        /// What it took.
        stats: SyncStats,
    },
    /// A document's changes made the view fail; the culprits are hidden from the view and reported, never dropped.
    Quarantined {
        /// The space.
        space: SpaceId,
        /// Where.
        path: Path,
        /// Hidden changes.
        hidden: Vec<ChangeHash>,
    },
    /// A change was refused that its sender should not have sent.
    Refused {
        /// The space.
        space: SpaceId,
        /// Where.
        path: Path,
        /// The change.
        change: ChangeHash,
        /// What is wrong with it.
        why: RefusedChange,
    },
    /// Facts took changes out of a document, on every peer alike: a device that made some of them was revoked or contradicted
    /// itself, or they were made on top of such. They are set aside: see [`Command::Evicted`].
    Evicted {
        /// The space.
        space: SpaceId,
        /// Where.
        path: Path,
        /// Which document.
        document: DocumentId,
        /// The changes.
        changes: Vec<ChangeHash>,
    },
    /// Writing fails (`Some`) or works again (`None`). Reads go on; commits wait.
    StorageTrouble(Option<StorageFailure>),
}

/// What one reconciliation took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SyncStats {
    /// Bytes of frames sent since the difference showed.
    pub bytes_sent: u64,
    /// Bytes of frames received since the difference showed.
    pub bytes_received: u64,
    /// Messages of ours that had to be answered before we could go on.
    pub round_trips: u32,
    /// Microseconds from the difference showing to equal roots.
    pub micros: u64,
}

/// Figures of an engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatusReport {
    /// Spaces.
    pub spaces: Vec<SpaceStatus>,
    /// Links.
    pub links: Vec<LinkStatus>,
    /// Hydrated documents.
    pub hot_documents: u64,
    /// Estimated bytes of hydrated documents.
    pub hot_bytes: u64,
    /// Estimated bytes of loaded logs.
    pub log_bytes: u64,
    /// Changes that wait for their dependencies.
    pub orphans: u64,
    /// Changes refused by the ingest checks since the start.
    pub refused_changes: u64,
    /// Facts refused since the start because their signers had made too many.
    pub refused_facts: u64,
    /// Storage writes since the start.
    pub storage_writes: u64,
    /// Signatures checked since the start.
    pub signatures_checked: u64,
    /// Owners of soft state that live, this peer included.
    pub soft_owners: u64,
    /// Bytes of paths and values of soft entries.
    pub soft_bytes: u64,
    /// News of soft state dropped since the start: over a bound, too old, or without the right.
    pub soft_refused: u64,
    /// Streams of signals by others that are kept track of.
    pub topic_streams: u64,
    /// Bytes of signals that wait for links, or are kept a moment for neighbours.
    pub topic_bytes: u64,
    /// Signals handed to programs since the start, own ones included.
    pub topic_delivered: u64,
    /// Signals dropped since the start because a link was too slow.
    pub topic_dropped: u64,
    /// Signals of others not taken since the start: over a rate, too old, or without the right.
    pub topic_refused: u64,
}

/// Figures of a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceStatus {
    /// The space.
    pub info: SpaceInfo,
    /// Root of the item set of `/`, hexadecimal.
    pub root: String,
    /// Known members.
    pub members: u64,
    /// Documents with own changes that no other peer is known to have stored.
    pub pending: u64,
}

/// Figures of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// The stream.
    pub link: LinkId,
    /// The peer.
    pub peer: PeerId,
    /// Its device, once it proved one.
    pub device: Option<DeviceId>,
    /// Spaces in common.
    pub spaces: Vec<SpaceId>,
    /// Whether every domain's roots were equal when last compared.
    pub in_step: bool,
    /// Whether fresh changes go over it: in a space of many peers only some links are neighbours.
    pub neighbour: bool,
    /// Bytes of frames sent.
    pub bytes_sent: u64,
    /// Bytes of frames received.
    pub bytes_received: u64,
    /// Reconciliation round trips so far.
    pub round_trips: u64,
    /// Changes received that were here already.
    pub duplicates: u64,
}
