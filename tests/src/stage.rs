//! What a demo's page is told of the native peers, and how it cuts and heals their links.
//!
//! | | |
//! |---|---|
//! | `GET /demo/stage` | a stream of server-sent events, each the whole scene: the peers' figures and what is cut |
//! | `POST /demo/links` | `{"ends": [PEER, PEER], "cut": true}` cuts a link or heals it; from this machine only |
//! | `POST /demo/kill` | kills the voter that leads for [`DEAD`]: all its links are dead; from this machine only |
//!
//! A cut is made by the peers themselves: each native end refuses the other. So it is a cut for whatever runs between the
//! two, and not one for what is between either and the page's browser over HTTP: the page goes on to be told.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use foreshore::peer::{Peer, PeerId, Space, peer_text};
use foreshore_node::http::{STAGE, is_local};
use foreshore_node::request::Status;
use foreshore_node::service::Service;
use futures::Stream;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

/// Most links that are cut at once.
const MAX_CUT: usize = 256;

/// Figures that no event tells of, round-trip times, are looked at this often.
const LOOK: Duration = Duration::from_secs(1);

/// How long a peer that was killed stays so: long enough for a lease to end and another leader to do things.
pub const DEAD: Duration = Duration::from_secs(8);

/// Events of a burst make one scene.
const GATHER: Duration = Duration::from_millis(15);

/// A native peer on the stage.
#[derive(Clone)]
pub struct Native {
    /// For people.
    pub name: &'static str,
    /// The peer.
    pub peer: Peer,
    /// The space that all share.
    pub space: Space,
    /// What answers for it.
    pub service: Service,
    /// Where it serves the page.
    pub http: SocketAddr,
}

/// The peers that a page may watch.
pub struct Stage {
    /// The peers.
    pub natives: Vec<Arc<Native>>,
    /// Cut links by their ends, ascending as text.
    cut: Mutex<BTreeMap<[String; 2], [PeerId; 2]>>,
    /// Who was killed, and with whom each of them was linked.
    dead: Mutex<BTreeMap<String, Vec<PeerId>>>,
    changed: Notify,
    scene: watch::Sender<Option<Scene>>,
    stopped: watch::Receiver<bool>,
}

/// All that there is to see.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Scene {
    peers: Vec<Seen>,
    cut: Vec<[String; 2]>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Seen {
    name: &'static str,
    /// Of the page that it serves, on whatever host this one was opened.
    port: u16,
    status: Status,
    group: Group,
    /// Whether it was killed, and is not back yet.
    dead: bool,
}

/// How the group of voters stands, as one of them sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Group {
    term: u64,
    leads: bool,
    /// Whether it knows of a leader; without one nothing is granted on its side.
    led: bool,
    voters: usize,
}

/// A scene as one page is told it.
#[derive(Serialize)]
struct Told<'s> {
    /// Whether the page may cut and heal.
    controls: bool,
    #[serde(flatten)]
    scene: &'s Scene,
}

/// What a page asks for.
#[derive(Debug, Deserialize)]
struct Wanted {
    ends: [String; 2],
    cut: bool,
}

impl Stage {
    /// A stage with these peers, which are watched until `stopped`. Needs a runtime.
    pub fn new(natives: Vec<Arc<Native>>, stopped: watch::Receiver<bool>) -> Arc<Self> {
        let stage = Arc::new(Self {
            natives,
            cut: Mutex::default(),
            dead: Mutex::default(),
            changed: Notify::new(),
            scene: watch::Sender::new(None),
            stopped,
        });
        for native in &stage.natives {
            let (mut events, seen) = (native.peer.events(), stage.clone());
            tokio::spawn(async move {
                while events.next().await.is_some() {
                    seen.changed.notify_one();
                }
            });
            let (watch, seen) = (native.space.watch("/"), stage.clone());
            tokio::spawn(async move {
                let Ok(mut watch) = watch else { return };
                while watch.next().await.is_some() {
                    seen.changed.notify_one();
                }
            });
        }
        tokio::spawn(stage.clone().observe());
        stage
    }

    /// What a peer's HTTP port gets beside its own.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route(STAGE, get(tell))
            .route("/demo/links", post(set_link))
            .route("/demo/kill", post(kill))
            .with_state(self.clone())
    }

    /// Waits until every peer is linked to every other, and all hold the same.
    pub async fn in_step(&self) -> anyhow::Result<()> {
        let others = self.natives.len() - 1;
        let whole = |scene: &Option<Scene>| {
            scene.as_ref().is_some_and(|scene| {
                let roots: Vec<_> =
                    scene.peers.iter().map(|seen| seen.status.spaces.first().map(|s| &s.root)).collect();
                let linked = |seen: &Seen| seen.status.peers.iter().filter(|peer| peer.in_step).count() >= others;
                scene.peers.iter().all(linked) && roots.windows(2).all(|pair| pair[0] == pair[1])
            })
        };
        self.scene.subscribe().wait_for(whole).await.context("the stage is gone").map(drop)
    }

    /// Keeps the scene up to date.
    async fn observe(self: Arc<Self>) {
        loop {
            if *self.stopped.borrow() {
                return;
            }
            if let Some(scene) = self.look().await {
                self.scene.send_if_modified(|shown| {
                    let modified = shown.as_ref() != Some(&scene);
                    *shown = Some(scene);
                    modified
                });
            }
            let _ = tokio::time::timeout(LOOK, self.changed.notified()).await;
            tokio::time::sleep(GATHER).await;
        }
    }

    async fn look(&self) -> Option<Scene> {
        let mut peers = Vec::new();
        for native in &self.natives {
            let mut status = native.service.figures().await.ok()?;
            // What changes by the second and is not on show would be news all the time.
            (status.uptime_seconds, status.resident_bytes, status.storage_bytes) = (0, 0, 0);
            let seen = native.space.coordination().await.ok()?;
            let group =
                Group { term: seen.term, leads: seen.leads, led: seen.leader.is_some(), voters: seen.voters.len() };
            let dead = self.dead().contains_key(&native.peer.peer_id_text());
            peers.push(Seen { name: native.name, port: native.http.port(), status, group, dead });
        }
        let cut = self.cut.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        Some(Scene { peers, cut })
    }

    fn dead(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Vec<PeerId>>> {
        self.dead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills the voter that leads, as far as anybody can tell: nothing reaches it, and nothing comes from it. Its name.
    async fn kill(self: &Arc<Self>) -> anyhow::Result<&'static str> {
        let mut leader = None;
        for native in &self.natives {
            let text = native.peer.peer_id_text();
            if native.space.coordination().await?.leads && !self.dead().contains_key(&text) {
                leader = Some((native.clone(), text));
            }
        }
        let (native, text) = leader.context("nobody leads at the moment")?;
        let links = native.peer.status().await?.network.links;
        let linked: Vec<PeerId> = links.iter().map(|link| link.peer).collect();
        self.dead().insert(text.clone(), linked.clone());
        for other in linked {
            native.peer.block(other).await?;
        }
        self.changed.notify_one();
        let (stage, name) = (self.clone(), native.name);
        tokio::spawn(async move {
            tokio::time::sleep(DEAD).await;
            let linked = stage.dead().remove(&text).unwrap_or_default();
            let own = native.peer.peer_id();
            for other in linked {
                // What was cut by hand meanwhile stays cut.
                let cut = stage
                    .cut
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .values()
                    .any(|ends| ends.contains(&own) && ends.contains(&other));
                if !cut {
                    let _ = native.peer.unblock(other).await;
                }
            }
            stage.changed.notify_one();
        });
        Ok(name)
    }

    /// Who is meant: a native peer, one that is linked to one, or one that has been cut off.
    async fn find(&self, text: &str) -> anyhow::Result<PeerId> {
        let named = |peer: &PeerId| peer_text(peer) == text;
        let mut known: Vec<PeerId> = self.natives.iter().map(|native| native.peer.peer_id()).collect();
        for native in &self.natives {
            known.extend(native.peer.status().await?.network.links.iter().map(|link| link.peer));
        }
        known.extend(self.cut.lock().unwrap_or_else(PoisonError::into_inner).values().flatten());
        known.into_iter().find(named).with_context(|| format!("no peer {text:?} is linked here"))
    }

    async fn set_link(&self, wanted: &Wanted) -> anyhow::Result<()> {
        let mut ends = wanted.ends.clone();
        ends.sort();
        let [a, b] = [self.find(&ends[0]).await?, self.find(&ends[1]).await?];
        ensure!(a != b, "a link has two ends");
        let natives = |end: PeerId| self.natives.iter().filter(move |native| native.peer.peer_id() == end);
        ensure!(natives(a).chain(natives(b)).next().is_some(), "neither end is a native peer");
        {
            let mut cut = self.cut.lock().unwrap_or_else(PoisonError::into_inner);
            match wanted.cut {
                true => {
                    ensure!(cut.len() < MAX_CUT, "so many links are cut already: {MAX_CUT}");
                    cut.insert(ends, [a, b]);
                }
                false => drop(cut.remove(&ends)),
            }
        }
        for (end, other) in [(a, b), (b, a)] {
            for native in natives(end) {
                match wanted.cut {
                    true => native.peer.block(other).await?,
                    false => native.peer.unblock(other).await?,
                }
            }
        }
        self.changed.notify_one();
        Ok(())
    }
}

async fn tell(
    State(stage): State<Arc<Stage>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let controls = is_local(from.ip(), &headers);
    let seen = (stage.scene.subscribe(), stage.stopped.clone());
    let scenes = futures::stream::unfold((seen, true), move |((mut scenes, mut stopped), first)| async move {
        if !first {
            tokio::select! {
                changed = scenes.changed() => changed.ok()?,
                _ = stopped.wait_for(|stopped| *stopped) => return None,
            }
        }
        let event = scenes.borrow_and_update().as_ref().map_or_else(
            || Event::default().comment("soon"),
            |scene| Event::default().json_data(Told { controls, scene }).unwrap_or_default(),
        );
        Some((Ok(event), ((scenes, stopped), false)))
    });
    Sse::new(scenes).keep_alive(KeepAlive::default())
}

async fn set_link(
    State(stage): State<Arc<Stage>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Json(wanted): Json<Wanted>,
) -> Response {
    if !is_local(from.ip(), &headers) {
        return (StatusCode::FORBIDDEN, "links are cut and healed on the machine itself\n").into_response();
    }
    match stage.set_link(&wanted).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error:#}\n")).into_response(),
    }
}

async fn kill(
    State(stage): State<Arc<Stage>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    if !is_local(from.ip(), &headers) {
        return (StatusCode::FORBIDDEN, "peers are killed on the machine itself\n").into_response();
    }
    match stage.kill().await {
        Ok(name) => Json(serde_json::json!({ "killed": name })).into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error:#}\n")).into_response(),
    }
}
