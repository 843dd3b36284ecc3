//! What a peer does for commands: one [`Service`] answers over the control socket, in a command's own process, and, for
//! its figures, on the HTTP port.

mod coord;
mod documents;
mod edits;
mod local;
mod pages;
mod services;
mod soft;
mod spaces;
mod standing;
mod status;
mod tokens;
mod topic;
mod transfer;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use foreshore::document::{EditError, HotError};
use foreshore::id::PeerId;
use foreshore::io::StorageFailure;
use foreshore::peer::{CommandError, DocumentError, Missing, Peer, PeerEvent, SoftError, Space, TopicError};
use serde::Serialize;
use serde_json::Value as Json;
use tokio::sync::watch;

use self::coord::LockWish;
pub(crate) use self::edits::{Edit, Precondition};
pub use self::local::{Local, LocalError, Opening, open_failure};
use self::services::Offers;
pub(crate) use self::tokens::TokenGrant;
use crate::control::{Handler, Items, Pages};
use crate::failure::{Code, Failure};
use crate::http::Figures;
use crate::request::{Request, Status};

/// Answers requests with a peer. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

struct Shared {
    peer: Peer,
    data: PathBuf,
    started: Instant,
    http: Mutex<Option<SocketAddr>>,
    zookeeper: Mutex<Option<SocketAddr>>,
    automerge_repo: Mutex<Option<SocketAddr>>,
    /// Commands that hold an endpoint each.
    offers: Offers,
    /// Sessions of the strong path that short requests share.
    sessions: coord::Sessions,
    /// Whether the peer is about to stop: what commands hold is not given back in passing.
    stopping: watch::Sender<bool>,
    /// Tokens of the HTTP door.
    tokens: tokens::Kept,
    /// What keeps writes from succeeding, as the peer last said.
    trouble: watch::Sender<Option<String>>,
}

impl Service {
    /// A service over a running peer that keeps its data in `data`. Needs a runtime.
    #[allow(clippy::disallowed_methods, reason = "a process measures its own age")]
    pub fn new(peer: Peer, data: PathBuf) -> Self {
        let tokens = tokens::Kept::new(&data);
        let shared = Shared {
            peer,
            data,
            started: Instant::now(),
            http: Mutex::default(),
            zookeeper: Mutex::default(),
            automerge_repo: Mutex::default(),
            offers: Offers::default(),
            sessions: coord::Sessions::default(),
            stopping: watch::Sender::default(),
            tokens,
            trouble: watch::Sender::default(),
        };
        let service = Self { shared: Arc::new(shared) };
        service.follow_trouble();
        service
    }

    /// This peer's id.
    pub fn peer_id(&self) -> PeerId {
        self.shared.peer.peer_id()
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.shared.peer
    }

    /// Says where the HTTP port is, for the status.
    pub fn set_http(&self, address: SocketAddr) {
        *self.shared.http.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
    }

    /// Says where clients of ZooKeeper are served, for the status.
    pub fn set_zookeeper(&self, address: SocketAddr) {
        *self.shared.zookeeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
    }

    /// Says where clients of automerge-repo are served, for the status.
    pub fn set_automerge_repo(&self, address: SocketAddr) {
        *self.shared.automerge_repo.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
    }

    /// The peer is about to stop: whoever holds something for a program is told to end it.
    pub(crate) fn stopping(&self) {
        self.shared.stopping.send_replace(true);
    }

    /// The peer's figures.
    pub async fn figures(&self) -> Result<Status, Failure> {
        self.status_now().await
    }

    /// Whether writes fail now.
    pub(crate) fn in_trouble(&self) -> bool {
        self.shared.trouble.borrow().is_some()
    }

    /// Waits until writes fail; what fails them.
    pub(crate) async fn trouble(&self) -> String {
        let mut trouble = self.shared.trouble.subscribe();
        match trouble.wait_for(Option::is_some).await.map(|trouble| trouble.clone()) {
            Ok(Some(trouble)) => trouble,
            _ => std::future::pending().await,
        }
    }

    /// Remembers whether writes fail, and logs what operators should know.
    fn follow_trouble(&self) {
        let mut events = self.shared.peer.events();
        let shared = Arc::downgrade(&self.shared);
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                let Some(shared) = shared.upgrade() else { return };
                match event {
                    PeerEvent::StorageTrouble(trouble) => {
                        match &trouble {
                            Some(trouble) => tracing::error!(%trouble, "writing fails"),
                            None => tracing::info!("writing works again"),
                        }
                        shared.trouble.send_replace(trouble.map(|trouble| trouble.to_string()));
                    }
                    PeerEvent::Quarantined { path, hidden, .. } => {
                        tracing::warn!(%path, changes = hidden.len(), "changes are hidden from the view of a document");
                    }
                    PeerEvent::Evicted { path, changes, .. } => {
                        tracing::warn!(%path, changes = changes.len(), "changes left a document with their author's rights");
                    }
                    PeerEvent::Linked { address, .. } => tracing::info!(%address, "linked"),
                    PeerEvent::Unlinked { why, .. } => tracing::info!(why, "unlinked"),
                    PeerEvent::Joined { device, space, .. } => {
                        tracing::info!(%device, space = space.to_bech32(), "a member is here");
                    }
                    _ => {}
                }
            }
        });
    }

    /// The space that a request names: by name, by id, or, for an empty name, `default` or else the only one.
    pub(crate) async fn space(&self, name: &str) -> Result<Space, Failure> {
        let spaces = self.shared.peer.spaces().await.map_err(refused)?;
        let chosen = match name {
            "" => spaces.iter().find(|s| s.name == "default").or(spaces.first().filter(|_| spaces.len() == 1)),
            name => spaces.iter().find(|s| s.name == name || s.id.to_bech32() == name),
        };
        let names: Vec<_> = spaces.iter().map(|s| s.name.as_str()).collect();
        let Some(chosen) = chosen else {
            let message = match name {
                "" => "say which space".to_owned(),
                name => format!("this store has no space {name:?}"),
            };
            let code = if name.is_empty() { Code::Invalid } else { Code::NotFound };
            let hint = match names.is_empty() {
                true => "`foreshore space create NAME` makes one, `foreshore join` enters one".to_owned(),
                false => format!("--space takes one of: {}", names.join(", ")),
            };
            return Err(Failure::new(code, message).hint(hint));
        };
        let space = self.shared.peer.space(chosen.id).await.map_err(refused)?;
        space.ok_or_else(|| Failure::new(Code::NotFound, "the space is gone"))
    }
}

impl Handler for Service {
    async fn call(&self, request: Request, pages: Pages, items: Items) -> Result<Json, Failure> {
        match request {
            Request::Put { space, path, at, value, mode, synced } => {
                answer(self.put(&space, &path, &at, &value, mode, synced).await?)
            }
            Request::Get { space, path, at, tagged, at_least, wait_millis } => {
                let wait = Duration::from_millis(wait_millis);
                answer(self.get(&space, &path, &at, tagged, at_least.as_deref(), wait).await?)
            }
            Request::Wait { space, bookmark, wait_millis } => {
                answer(self.wait(&space, &bookmark, Duration::from_millis(wait_millis)).await?)
            }
            Request::List { space, prefix, after, limit } => {
                answer(self.list(&space, &prefix, after.as_deref(), limit, &items).await?)
            }
            Request::Watch { space, prefix, values, count } => {
                answer(self.watch(&space, &prefix, values, count, &items).await?)
            }
            Request::Delete { space, path } => answer(self.delete(&space, &path).await?),
            Request::History { space, path, limit } => answer(self.history(&space, &path, limit, &items).await?),
            Request::SoftSet { space, path, value } => answer(self.soft_set(&space, &path, &value).await?),
            Request::SoftDelete { space, path } => answer(self.soft_delete(&space, &path).await?),
            Request::SoftGet { space, path } => answer(self.soft_get(&space, &path, &items).await?),
            Request::SoftList { space, prefix } => answer(self.soft_list(&space, &prefix, &items).await?),
            Request::SoftWatch { space, prefix, count } => {
                answer(self.soft_watch(&space, &prefix, count, &items).await?)
            }
            Request::Services { space, service } => answer(self.services(&space, service.as_deref(), &items).await?),
            Request::ServicesWatch { space, service, count } => {
                answer(self.services_watch(&space, service.as_deref(), count, &items).await?)
            }
            Request::ServiceRegister { space, service, endpoint, metadata } => {
                answer(self.service_register(&space, &service, &endpoint, metadata, &items).await?)
            }

            Request::Publish { space, path, value } => answer(self.publish(&space, &path, &value).await?),
            Request::Subscribe { space, prefix, count } => {
                answer(self.subscribe(&space, &prefix, count, &items).await?)
            }
            Request::Lock { space, path, shared, wait_millis, ttl_millis, delay_millis } => {
                let [ttl, delay] = [ttl_millis, delay_millis].map(Duration::from_millis);
                let wish = LockWish { path, shared, patience: wait_millis.into(), delay };
                answer(self.lock(&space, wish, ttl, pages, &items).await?)
            }
            Request::LockHolders { space, path } => answer(self.lock_holders(&space, &path).await?),
            Request::Campaign { space, path, value, wait_millis, ttl_millis } => {
                let ttl = Duration::from_millis(ttl_millis);
                answer(self.campaign(&space, (&path, value), wait_millis.into(), ttl, pages, &items).await?)
            }
            Request::Observe { space, path, count } => answer(self.observe(&space, &path, count, &items).await?),
            Request::TreeGet { space, path, stale } => answer(self.tree_get(&space, &path, stale).await?),
            Request::TreeSet { space, path, data, version } => {
                answer(self.tree_set(&space, &path, &data, version).await?)
            }
            Request::TreeCreate { space, path, data, sequential, life } => {
                answer(self.tree_create(&space, &path, &data, (sequential, life), &items).await?)
            }
            Request::TreeDelete { space, path, version } => answer(self.tree_delete(&space, &path, version).await?),
            Request::TreeList { space, path, stale } => answer(self.tree_list(&space, &path, stale).await?),
            Request::TreeWatch { space, path, recursive, count } => {
                answer(self.tree_watch(&space, &path, recursive, count, &items).await?)
            }
            Request::QueuePut { space, path, body, attempts } => {
                answer(self.queue_put(&space, &path, &body, attempts).await?)
            }
            Request::QueueClaim { space, path, visibility_millis } => {
                answer(self.queue_claim(&space, &path, Duration::from_millis(visibility_millis)).await?)
            }
            Request::QueueSettle { space, path, item, token, done } => {
                answer(self.queue_settle(&space, &path, (item, token), done).await?)
            }
            Request::QueueState { space, path } => answer(self.queue_state(&space, &path).await?),
            Request::QueueItem { space, path, item } => answer(self.queue_item(&space, &path, item).await?),
            Request::QueueRevive { space, path, item } => answer(self.queue_revive(&space, &path, item).await?),
            Request::QueueDiscard { space, path, item } => answer(self.queue_discard(&space, &path, item).await?),
            Request::QueueWork { space, path, visibility_millis, ttl_millis, count } => {
                let [visibility, ttl] = [visibility_millis, ttl_millis].map(Duration::from_millis);
                answer(self.queue_work(&space, &path, visibility, (ttl, count), pages, &items).await?)
            }
            Request::Voters { space } => answer(self.voters(&space).await?),
            Request::ChangeVoters { space, change } => answer(self.change_voters(&space, change).await?),
            Request::TokenCreate { space, name, prefix, write, expires_seconds } => {
                answer(self.token_create(&space, name, &prefix, write, expires_seconds).await?)
            }
            Request::Tokens => answer(self.tokens()?),
            Request::TokenRevoke { token } => answer(self.token_revoke(&token)?),
            Request::Spaces => answer(self.spaces().await?),
            Request::CreateSpace { name } => answer(self.create_space(name).await?),
            Request::RootKey { space } => answer(self.root_key(&space).await?),
            Request::Invite { space, role, prefix, expires_seconds, addresses } => {
                answer(self.invite(&space, &role, &prefix, expires_seconds, addresses).await?)
            }
            Request::Join { invitation, name } => answer(self.join(&invitation, name).await?),
            Request::Members { space } => answer(self.members(&space, &items).await?),
            Request::Revoke { space, device, grants, keep_nothing } => {
                answer(self.revoke(&space, &device, &grants, keep_nothing).await?)
            }
            Request::RevokeExpired { space } => answer(self.revoke_expired(&space).await?),
            Request::RotateRoot { space } => answer(self.rotate_root(&space).await?),
            Request::Evicted { space, prefix } => answer(self.evicted(&space, &prefix, &items).await?),
            Request::RebaseEvicted { space, path, others } => answer(self.rebase_evicted(&space, &path, others).await?),
            Request::DiscardEvicted { space, path } => answer(self.discard_evicted(&space, &path).await?),
            Request::Peers => answer(self.status_now().await?.peers),
            Request::Status => answer(self.status_now().await?),
            Request::Export { space } => answer(self.export(&space, &items).await?),
            Request::Import { space } => answer(self.import(&space, pages).await?),
            Request::Compact => answer(self.shared.peer.compact().await.map_err(refused)?),
        }
    }
}

impl Figures for Service {
    async fn status(&self) -> Result<Status, Failure> {
        self.status_now().await
    }
}

fn answer(value: impl Serialize) -> Result<Json, Failure> {
    serde_json::to_value(value).map_err(|e| Failure::new(Code::Failed, e))
}

/// Hands an item to the caller; an error means that nobody waits for the rest.
async fn give(items: &Items, item: impl Serialize) -> Result<(), Failure> {
    let item = answer(item)?;
    items.send(item).await.map_err(|_| Failure::new(Code::Interrupted, "the caller is gone"))
}

/// A refused command, sorted into the codes that shells see.
pub(crate) fn refused(error: CommandError) -> Failure {
    let code = match &error {
        CommandError::UnknownSpace(_) | CommandError::NotFound(_) => Code::NotFound,
        CommandError::SpaceExists(_) | CommandError::Invalid { .. } => Code::Invalid,
        CommandError::Bookmark(_) => Code::Invalid,
        CommandError::Coord(failure) => return coord::refused_coord(failure),
        CommandError::NotYet { missing } => return not_yet(missing, &error),
        CommandError::Topic(TopicError::PayloadTooLarge { .. })
        | CommandError::Soft(SoftError::ValueTooLarge { .. }) => {
            return Failure::new(Code::Invalid, error).reason("too_large");
        }
        CommandError::Topic(TopicError::RateExceeded { .. }) => {
            return Failure::new(Code::Failed, error).reason("too_fast");
        }
        CommandError::Soft(_) => {
            let hint = "delete entries of this peer that nobody needs";
            return Failure::new(Code::Invalid, error).hint(hint).reason("full");
        }
        CommandError::Denied { .. }
        | CommandError::Revoked { .. }
        | CommandError::Topic(TopicError::NoGrant { .. }) => Code::Denied,
        CommandError::Quarantined(_) => Code::Damaged,
        CommandError::Storage(StorageFailure::Corrupt { .. }) => Code::Damaged,
        CommandError::Storage(_) => Code::Store,
        CommandError::Cancelled => Code::Interrupted,
        _ => Code::Failed,
    };
    Failure::new(code, error)
}

/// What a bookmark stands for is not here.
fn not_yet(missing: &Missing, error: &CommandError) -> Failure {
    let hint = match missing.may_come() {
        true => "it travels on when peers can be reached: `foreshore peers` shows which are",
        false => "waiting does not bring it here: ask another peer, or go on without the bookmark",
    };
    Failure::new(Code::Timeout, error).hint(hint).reason("not_yet")
}

fn refused_document(error: DocumentError) -> Failure {
    match error {
        DocumentError::Command(error) => refused(error),
        DocumentError::Hot(HotError::Edit(error)) => refused_edit(error),
        DocumentError::Hot(HotError::UnknownHeads { hash }) => {
            Failure::new(Code::NotFound, format_args!("the change {hash} is not in this document here"))
        }
        DocumentError::Hot(error @ HotError::Quarantined { .. }) => Failure::new(Code::Damaged, error),
        error => Failure::new(Code::Failed, error),
    }
}

fn refused_edit(error: EditError) -> Failure {
    // An edit that gave itself up says why.
    let error = match error {
        EditError::Aborted(why) => match why.downcast::<Failure>() {
            Ok(failure) => return *failure,
            Err(why) => EditError::Aborted(why),
        },
        error => error,
    };
    let code = match &error {
        EditError::NotFound { .. } => Code::NotFound,
        EditError::TooLarge { .. } => return Failure::new(Code::Invalid, error).reason("too_large"),
        EditError::Full | EditError::Refused { .. } | EditError::Aborted(_) => Code::Failed,
        _ => Code::Invalid,
    };
    Failure::new(code, error)
}
