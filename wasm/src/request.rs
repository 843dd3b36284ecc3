//! What a page asks of a host. One JSON object each, told apart by `do`.

use serde::Deserialize;
use serde_json::Value as Json;

use crate::host::Ask;
use crate::ops::{At, Op};

/// Where a page stands in a document: what it shows after its edits up to `seq`.
#[derive(Debug, Deserialize)]
pub(crate) struct Standing {
    pub(crate) heads: Vec<String>,
    pub(crate) seq: u64,
}

/// A page's edit of one document.
#[derive(Debug, Deserialize)]
pub(crate) struct Part {
    pub(crate) doc: u32,
    pub(crate) seq: u64,
    pub(crate) base: u64,
    pub(crate) ops: Vec<Op>,
    pub(crate) message: Option<String>,
}

/// A request.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "camelCase")]
pub(crate) enum Request {
    /// The spaces of this store.
    Spaces,
    /// Makes a space.
    CreateSpace { name: String },
    /// Becomes a member by an invitation.
    Join { invitation: String, name: Option<String> },
    /// Stays connected to an address.
    Dial { address: String },
    /// Is reachable through a relay.
    Relay { address: String },
    /// Cuts one linked peer off, or lets it in again.
    Cut { peer: String, cut: bool },
    /// The network may be back.
    Hurry,
    /// Cuts every peer off, or lets them in again.
    Offline { offline: bool },
    /// Figures.
    Status { space: String },
    /// What an invitation says.
    Inspect { invitation: String },
    /// Keeps a prefix whole here until `live` is closed.
    Keep { space: String, prefix: String, live: u32 },
    /// Follows the first documents under a prefix; `live` names the window from now on.
    Window { space: String, prefix: String, limit: usize, live: u32 },
    /// Hears what is published at a path; `live` names the topic from now on.
    Topic { space: String, path: String, live: u32 },
    /// Publishes.
    Publish { live: u32, value: Json },
    /// Ends what `live` names.
    CloseLive { live: u32 },
    /// Opens a document for a page; `doc` names it from now on. A page that had it open with another host says where it
    /// may stand, the likeliest first.
    Open {
        space: String,
        path: String,
        layers: Vec<Json>,
        doc: u32,
        #[serde(default)]
        standings: Vec<Standing>,
    },
    /// The page is done with a document.
    CloseDoc { doc: u32 },
    /// The page edited a document. Answered once it is stored.
    Edit(Part),
    /// The page edited several documents as one. Answered once all of it is stored.
    Batch { space: String, edits: Vec<Part> },
    /// The page has applied an event of a document.
    Ack { doc: u32, id: u64 },
    /// The value at earlier heads.
    At { doc: u32, heads: Vec<String> },
    /// What leads from one state to another.
    Diff { doc: u32, from: Vec<String>, to: Vec<String> },
    /// Changes, newest first.
    History { doc: u32, before: Option<String>, limit: usize },
    /// Values at a place that were written concurrently.
    Conflicts { doc: u32, at: Vec<At> },
    /// A cursor in a text.
    Cursor { doc: u32, at: Vec<At>, index: usize, before: bool },
    /// Where cursors are.
    Locate { doc: u32, at: Vec<At>, cursors: Vec<String> },
    /// Answered once the page has been told of everything that the engine has.
    Fence { doc: u32 },
    /// Waits until others have stored what is here.
    Synced { doc: u32, peers: usize },
    /// Takes note of edits from now on.
    UndoManager { doc: u32, undo: u32, scope: Vec<At>, capture: u64 },
    /// One step back, or forth again.
    Undo { undo: u32, redo: bool },
    /// The next edit begins a step.
    UndoBoundary { undo: u32 },
    /// Forgets an undo manager.
    UndoClose { undo: u32 },
    /// Reads a document once.
    Read { space: String, path: String, bookmark: Option<String>, wait: Option<u64> },
    /// Documents under a prefix.
    List { space: String, prefix: String, after: Option<String>, limit: usize },
    /// Deletes a document.
    Remove { space: String, path: String },
    /// Makes an invitation.
    Invite { space: String, role: String, prefix: Option<String>, expires: Option<i64> },
    /// Takes every right from a member. What this store has of its work stays.
    Revoke { space: String, member: String },
    /// The next piece of a portable copy, in base64; null behind the last. `live` names the copy.
    Export { space: String, live: u32 },
    /// The next bytes of a portable copy, in base64; none: it has no more. `live` names the copy.
    Import { space: String, live: u32, bytes: Option<String> },
    /// Members.
    Members { space: String },
    /// What this store has, as text for another client.
    Bookmark { space: String },
    /// Waits until this store covers a bookmark.
    Reach { space: String, bookmark: String },
    /// Follows soft entries under a prefix; `soft` names it from now on.
    Soft { space: String, prefix: String, soft: u32 },
    /// Sets an own entry.
    SoftSet { soft: u32, key: String, value: Json },
    /// Deletes an own entry.
    SoftDelete { soft: u32, key: String },
    /// Follows them no more.
    SoftClose { soft: u32 },
    /// A session with the space's voters, which lives for `ttl` ms after its last sign of life; `session` names it.
    OpenSession { space: String, session: u32, ttl: u64 },
    /// Ends a session: what it holds goes to others at once.
    CloseSession { session: u32 },
    /// Something of the strong path.
    Strong { session: u32, ask: Ask },
    /// How the space's group of voters stands, as seen from here.
    Coordination { space: String },
    /// Changes that group; only its leader does.
    ChangeVoters { space: String, change: String, peer: String },
    /// Stores what is under way and closes.
    Shutdown,
}
