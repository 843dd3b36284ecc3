//! The async face of a peer: [`Peer`], [`Space`], [`Document`], [`Soft`], [`Presence`], [`Topic`].
//!
//! ```no_run
//! use foreshore::peer::Peer;
//! # async fn f() -> Result<(), Box<dyn std::error::Error>> {
//! let peer = Peer::builder().in_memory().listen("/ip4/127.0.0.1/tcp/0").spawn().await?;
//! let space = peer.create_space("home").await?;
//! let food = space.document("/lists/food").await?;
//! food.edit(|d| d.put("bread", 2))?.durable().await?;
//! peer.shutdown().await?;
//! # Ok(()) }
//! ```
//!
//! Every handle is `Clone + Send + Sync`. Dropping a future gives up waiting and nothing else: what was asked for
//! happens or not, whole. Reading and editing a document touches that document's lock only and never waits for the
//! driver, the disk or the network. Programs without a runtime use `blocking`.

mod archive;
mod batch;
#[cfg(not(target_arch = "wasm32"))]
pub mod blocking;
mod builder;
mod client;
mod commit;
#[cfg(feature = "coord")]
pub mod coord;
mod document;
mod hub;
mod services;
mod session;
mod soft;
mod space;
mod topic;
mod typed;
mod undo;
mod watch;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use autosurgeon;

use self::client::Client;
use self::space::unexpected;
use crate::engine::{Command, Reply, StatusReport};
use crate::id::{DeviceId, Incarnation, SpaceId};
use crate::net::{self, NetStatus, Request};

pub use self::archive::{ArchiveError, ArchiveItem, ArchiveReader, ArchiveWriter, MAX_PAGE};
pub use self::batch::Batch;
pub use self::builder::{Builder, SpawnError};
pub use self::client::{MAX_COMMANDS, MAX_UNSTORED_BYTES, MAX_UNSTORED_EDITS};
pub use self::commit::Commit;
pub use self::document::{Document, DocumentError};
pub use self::hub::{DocumentChange, MAX_WAITING_EVENTS, MAX_WAITING_SIGNALS};
#[cfg(feature = "tower")]
pub use self::services::Discovered;
pub use self::services::{
    Endpoint, EndpointChange, EndpointKey, Endpoints, MAX_ENDPOINT, MAX_ENDPOINTS, MAX_METADATA, MAX_METADATA_BYTES,
    MAX_SERVICE_NAME, Metadata, Offer, Registration, ServiceError,
};
pub use self::session::{DEFAULT_WAIT, Fresh, Reach, Read};
pub use self::soft::{Presence, PresenceWatch, Soft, SoftItem, SoftNews, SoftWatch, SoftWrite};
pub use self::space::{ExportPage, Imported, IntoPath, IntoPrefix, Invite, List, Page, Rebased, Snapshot, Space};
pub use self::topic::{Heard, Publish, Published, Signals, Topic};
pub use self::typed::Content;
pub use self::undo::Undo;
pub use self::watch::{Change, DocumentWatch, PeerEvent, PeerEvents, SpaceChange, SpaceWatch, Window};
pub use crate::engine::{
    CommandError, DocumentInfo, EvictedChange, EvictedDocument, Keep, MemberInfo, OwnerId, SoftError, SpaceInfo,
    StoredChanges, TopicError,
};
pub use crate::id::PeerId;
pub use crate::net::{
    Address, AddressError, Backoff, KnownPeer, MAX_DIALLED, NetConfig, RelayLimits, Standing, peer_text,
};
#[cfg(feature = "sim")]
pub use crate::net::{Lies, LyingSets};
pub use crate::session::{Bookmark, BookmarkError, Missing, MissingDocument, Why};

/// A running peer. Cheap to clone; it runs until [`Peer::shutdown`], or until the last handle of it, of its spaces and of
/// its documents is dropped.
#[derive(Clone)]
pub struct Peer {
    client: Arc<Client>,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("peer_id", &self.peer_id_text()).finish()
    }
}

/// Figures of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Of the engine: spaces, links, memory, storage.
    pub engine: StatusReport,
    /// Of the network: listeners, connections, refusals.
    pub network: NetStatus,
}

/// What [`Peer::space`] finds a space by: its id, its name, or its id as text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpaceKey {
    /// By id.
    Id(SpaceId),
    /// By local name, or by id in its `fs1…` form.
    Name(String),
}

impl From<SpaceId> for SpaceKey {
    fn from(id: SpaceId) -> Self {
        SpaceKey::Id(id)
    }
}

impl From<&str> for SpaceKey {
    fn from(name: &str) -> Self {
        SpaceKey::Name(name.into())
    }
}

impl From<&String> for SpaceKey {
    fn from(name: &String) -> Self {
        SpaceKey::Name(name.clone())
    }
}

impl SpaceKey {
    fn matches(&self, info: &SpaceInfo) -> bool {
        match self {
            SpaceKey::Id(id) => info.id == *id,
            SpaceKey::Name(name) => info.name == *name || SpaceId::from_bech32(name).is_ok_and(|id| id == info.id),
        }
    }
}

impl Peer {
    /// Begins a peer: say where it keeps data, then [`Builder::spawn`] it.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Who this peer is on the network: the public key of its libp2p identity.
    pub fn peer_id(&self) -> PeerId {
        self.client.peer
    }

    /// [`Peer::peer_id`] as people and addresses write it: `12D3KooW…`.
    pub fn peer_id_text(&self) -> String {
        net::peer_text(&self.client.peer)
    }

    /// The device that signs what this peer writes.
    pub fn device(&self) -> DeviceId {
        self.client.device
    }

    /// This life of the store.
    pub fn incarnation(&self) -> Incarnation {
        self.client.incarnation
    }

    /// Addresses that others can dial, each ending in this peer's id.
    pub fn listen_addresses(&self) -> Vec<Address> {
        self.client.listen_addresses()
    }

    /// Makes a space, with this device as its first member and admin. `name` is local: at most 64 bytes, unique here.
    pub async fn create_space(&self, name: impl Into<String>) -> Result<Space, CommandError> {
        self.space_reply(Command::CreateSpace { name: name.into() }).await
    }

    /// Joins a space by an invitation. Needs no network: documents come as peers are reached, and the addresses in the
    /// invitation are dialled from now on.
    pub async fn join(&self, invitation: &str) -> Result<Space, CommandError> {
        self.space_reply(Command::Join { invitation: invitation.into(), name: None }).await
    }

    /// [`Peer::join`] under a local name of the program's choice.
    pub async fn join_as(&self, invitation: &str, name: impl Into<String>) -> Result<Space, CommandError> {
        self.space_reply(Command::Join { invitation: invitation.into(), name: Some(name.into()) }).await
    }

    async fn space_reply(&self, command: Command) -> Result<Space, CommandError> {
        match self.client.call(command).await? {
            Reply::Space(info) => Ok(Space::new(self.client.clone(), info)),
            other => Err(unexpected(&other)),
        }
    }

    /// A space of this store by its id or name; `None` if there is none.
    pub async fn space(&self, key: impl Into<SpaceKey>) -> Result<Option<Space>, CommandError> {
        let key = key.into();
        let found = self.spaces().await?.into_iter().find(|info| key.matches(info));
        Ok(found.map(|info| Space::new(self.client.clone(), info)))
    }

    /// The spaces of this store.
    pub async fn spaces(&self) -> Result<Vec<SpaceInfo>, CommandError> {
        match self.client.call(Command::Spaces).await? {
            Reply::Spaces(spaces) => Ok(spaces),
            other => Err(unexpected(&other)),
        }
    }

    /// Figures for people and metrics.
    pub async fn status(&self) -> Result<PeerStatus, CommandError> {
        let network = self.client.ask(Request::Status).await?;
        match self.client.call(Command::Status).await? {
            Reply::Status(engine) => Ok(PeerStatus { engine: *engine, network }),
            other => Err(unexpected(&other)),
        }
    }

    /// What happens to this peer, from now on.
    pub fn events(&self) -> PeerEvents {
        PeerEvents(self.client.hub.watch_peer())
    }

    /// Stays connected to whoever is at an address. `false`: too many addresses are known already, or it goes through a relay
    /// and does not say to whom.
    pub async fn dial(&self, address: Address) -> Result<bool, CommandError> {
        self.client.ask(|done| Request::Dial { address, done }).await
    }

    /// Is reachable through a circuit relay from now on, given by an address that ends in `/p2p/` and the relay's id; what
    /// [`Builder::relay`] does at the start. `false`: too many relays, or the address does not say who it is.
    pub async fn relay(&self, address: Address) -> Result<bool, CommandError> {
        self.client.ask(|done| Request::Relay { address, done }).await
    }

    /// The network may be back, or the machine awake: dials everybody now and compares with everybody linked.
    pub fn hurry(&self) {
        self.client.notify(Request::Hurry { probe: false });
    }

    /// The network changed: another interface, another address, awake after sleep. Like [`Peer::hurry`], and links that do
    /// not answer within seconds are given up and dialled anew, where otherwise it takes the system's patience to notice.
    pub fn network_changed(&self) {
        self.client.notify(Request::Hurry { probe: true });
    }

    /// The peers that this one has met, found or heard of.
    pub async fn known_peers(&self) -> Result<Vec<KnownPeer>, CommandError> {
        self.client.ask(Request::Known).await
    }

    /// Dials a known peer now. `false`: no address of it is known.
    pub async fn dial_peer(&self, peer: PeerId) -> Result<bool, CommandError> {
        self.client.ask(|done| Request::DialPeer { peer, done }).await
    }

    /// Drops the links with a peer and does not dial it again by itself, until [`Peer::dial_peer`]; unlike a blocked one it
    /// may dial this peer, and a configured address is dialled all the same. `false`: it is not known.
    pub async fn drop_peer(&self, peer: PeerId) -> Result<bool, CommandError> {
        self.client.ask(|done| Request::DropPeer { peer, done }).await
    }

    /// Cuts a peer off: its connections are closed and new ones refused, until [`Peer::unblock`] or a restart. For
    /// operators, and for tests of partitions.
    pub async fn block(&self, peer: PeerId) -> Result<(), CommandError> {
        self.client.ask(|done| Request::Block { peer, blocked: true, done }).await
    }

    /// Lets a peer in again, and dials it at once if an address of it is known.
    pub async fn unblock(&self, peer: PeerId) -> Result<(), CommandError> {
        self.client.ask(|done| Request::Block { peer, blocked: false, done }).await
    }

    /// Compacts what is due, now.
    pub async fn compact(&self) -> Result<(), CommandError> {
        self.client.call(Command::Compact).await.map(drop)
    }

    /// Stores what is under way, seals the store, says goodbye to peers and closes. Handles that remain answer
    /// [`CommandError::Closed`]; documents that are open can still be read. Nothing acknowledged is lost without it
    /// either, but the next start begins a new incarnation.
    pub async fn shutdown(&self) -> Result<(), CommandError> {
        match self.client.ask(Request::Shutdown).await {
            Ok(result) => result,
            // Somebody else closed it first.
            Err(_) => Ok(()),
        }
    }
}
