//! automerge-repo's door: the WebSocket protocol of its clients, on the documents under one prefix of one space.
//!
//! | room | what it holds |
//! |---|---|
//! | [`message`] | the messages of the protocol, from and to CBOR |
//! | [`sync`] | Automerge's sync messages, from and to bytes |
//! | [`graph`] | which changes a document has, without their content |
//! | [`exchange`] | one document with one client: what is missing on either side |
//! | [`shelf`] | the documents that clients have open |
//! | `connection` | a client's conversation |
//! | `hub` | what connections hear of each other and of the space |
//!
//! A document with the id `4NMNnk…` is the one at `PREFIX/4NMNnk…`: any peer of the space reads and edits it there. What clients
//! write is let in by this peer's device, which vouches for it with its own right to write ([`Space::admit`]). No document is
//! hydrated for any of this: a sync needs the hashes of changes and what stands on what, and that is what an open document
//! costs, some 100 bytes a change, once for all who have it open.
//!
//! Every buffer has a bound: [`MAX_CONNECTIONS`], [`MAX_MESSAGE_BYTES`], [`MAX_OPEN`] documents of a client, and
//! what waits for something that has not come.

mod connection;
pub mod exchange;
pub mod graph;
mod hub;
pub mod message;
pub mod shelf;
pub mod sync;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use foreshore::id::{Path, PeerId, Prefix};
use foreshore::peer::Space;
use tokio::net::TcpListener;
use tokio::sync::{OnceCell, Semaphore, watch};

use self::hub::Hub;
use self::shelf::Shelf;
use super::FindSpace;
use crate::http::api::{Pass, Settings};
use crate::service::Service;

/// Clients at once.
pub const MAX_CONNECTIONS: usize = 1_000;

/// Longest message of a client: its whole document, the first time.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// Most documents that one client has open.
pub const MAX_OPEN: usize = 4_096;

/// What a door is made of.
#[derive(Clone)]
pub struct Plan {
    /// Finds the space, or says why there is none.
    pub space: FindSpace,
    /// Under which documents are.
    pub prefix: Prefix,
    /// Who this peer is.
    pub peer: PeerId,
    /// Who may come in.
    pub settings: Settings,
}

/// A door.
#[derive(Clone)]
pub struct Door {
    inner: Arc<Inner>,
}

struct Inner {
    service: Service,
    plan: Plan,
    /// What this peer is called, and its storage: both are its id in other clothes.
    me: String,
    storage: String,
    prefix: String,
    shelf: Shelf,
    hub: Hub,
    room: Arc<Semaphore>,
    found: OnceCell<Space>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("prefix", &self.inner.plan.prefix).finish_non_exhaustive()
    }
}

impl Door {
    /// A door to the documents of a service's peer.
    pub fn new(service: Service, plan: Plan) -> Self {
        let prefix = plan.prefix.to_string();
        let (me, storage) = (format!("foreshore-{}", plan.peer), storage_id(&plan.peer));
        let (shelf, hub) = (Shelf::default(), Hub::new());
        let (room, found) = (Arc::new(Semaphore::new(MAX_CONNECTIONS)), OnceCell::new());
        Self { inner: Arc::new(Inner { service, plan, me, storage, prefix, shelf, hub, room, found }) }
    }

    /// Serves until `stop` resolves; then every connection is closed.
    pub async fn serve(
        self,
        listener: TcpListener,
        limits: crate::http::Limits,
        stop: impl Future<Output = ()> + Send + 'static,
    ) {
        let (stopping, stopped) = watch::channel(false);
        let router = Router::new().fallback(any(enter)).with_state((self, stopped));
        let stop = async move {
            stop.await;
            let _ = stopping.send(true);
        };
        if let Err(error) = crate::http::serve_router(listener, router, limits, stop).await {
            tracing::error!(%error, "automerge-repo's door");
        }
    }
}

impl Inner {
    fn path_of(&self, document: &str) -> Option<Path> {
        connection::path_of(&self.prefix, document)
    }

    /// The space, and from the first time on news of it.
    async fn space(self: &Arc<Self>) -> Result<Space, String> {
        let find = || async {
            let space = (self.plan.space)().await?;
            let (inner, watched) = (Arc::downgrade(self), space.clone());
            let prefix = self.plan.prefix.clone();
            tokio::spawn(async move {
                let Some(inner) = inner.upgrade() else { return };
                if let Err(error) = inner.hub.watch(watched, prefix).await {
                    tracing::error!(%error, "automerge-repo: nobody tells of changes any more");
                }
            });
            Ok(space)
        };
        self.found.get_or_try_init(find).await.cloned()
    }

    /// Whether what let a client in still does.
    fn recheck(&self, pass: &Pass) -> Result<(), String> {
        let Some(token) = pass.token() else { return Ok(()) };
        match self.service.token_grant(token) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err("the token has expired, or was revoked".into()),
            Err(failure) => Err(failure.message),
        }
    }
}

/// Lets a client in by its WebSocket, or says what this port is.
async fn enter(
    State((door, stopped)): State<(Door, watch::Receiver<bool>)>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let inner = door.inner;
    let token = query.as_deref().and_then(token_of);
    let pass = match inner.plan.settings.admit_socket(&inner.service, from, &headers, token.as_deref()) {
        Ok(pass) => pass,
        Err(problem) => {
            tracing::info!(%from, why = problem.detail(), "automerge-repo: a client is not let in");
            return problem.into_response();
        }
    };
    let Ok(socket) = socket else {
        let text = "This is the door for clients of automerge-repo: give its address to a WebSocketClientAdapter.\n";
        return (StatusCode::UPGRADE_REQUIRED, text).into_response();
    };
    let refused = |why: String| (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response();
    let space = match inner.space().await {
        Ok(space) => space,
        Err(why) => return refused(why),
    };
    if pass.space_id().is_some_and(|granted| granted != space.id().to_bech32()) {
        return (StatusCode::FORBIDDEN, "this token is not for the space of this door\n").into_response();
    }
    let Ok(place) = inner.room.clone().try_acquire_owned() else {
        return refused(format!("{MAX_CONNECTIONS} clients are connected"));
    };
    let socket = socket.max_message_size(MAX_MESSAGE_BYTES).max_frame_size(MAX_MESSAGE_BYTES);
    socket.on_upgrade(move |socket| async move {
        connection::serve(&inner, &space, pass, socket, stopped).await;
        drop(place);
    })
}

/// `?token=…`: a WebSocket of a browser takes no header.
fn token_of(query: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "token").map(|(_, value)| value.into_owned())
}

/// A peer's id as a UUID of version 8 (RFC 9562), which is what ids of storages look like.
fn storage_id(peer: &PeerId) -> String {
    let hash = blake3::derive_key("foreshore automerge-repo storage id", peer.to_string().as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
