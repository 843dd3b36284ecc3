//! The host: one peer, asked in JSON and answering in JSON.
//!
//! Documents are served by one task each, so that a page's edits are made in the order in which they were sent; everything
//! else is answered as it comes.

mod archive;
mod batch;
mod document;
mod live;
mod soft;
mod strong;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use foreshore::document::Template;
use foreshore::document::value::Value;
use foreshore::id::{ChangeHash, DeviceId};
use foreshore::peer::{Bookmark, Keep, Peer, PeerEvent, PeerId, Space, peer_text};
use foreshore::time::WallTime;
use foreshore::trust::{Invitation, Role};
use js_sys::Function;
use serde_json::{Value as Json, json};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::spawn_local;

use self::document::Served;
pub(crate) use self::strong::Ask;
use crate::errors::Failure;
use crate::patches;
use crate::request::Request;
use crate::store::{self, JsStore, Store};

/// A dead WebSocket wakes nobody; a sign of life is asked for this often.
const PING: Duration = Duration::from_secs(5);

/// Redials begin this soon, since a page is often waiting for exactly this.
const REDIAL: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// A page that is closed says no goodbye: it is gone for the others when its lease is, which is to be while somebody looks.
/// It counts as away after 2.5 renewals that are missing.
const SOFT_TTL: Duration = Duration::from_millis(2500);
const SOFT_PERIOD: Duration = Duration::from_millis(500);

type Answer = Result<Json, Failure>;

/// A running peer.
#[wasm_bindgen]
pub struct Host(Rc<Inner>);

pub(crate) struct Inner {
    peer: Peer,
    notify: Function,
    documents: RefCell<BTreeMap<u32, Served>>,
    undos: RefCell<BTreeMap<u32, foreshore::peer::Undo>>,
    softs: RefCell<BTreeMap<u32, soft::Followed>>,
    lives: RefCell<BTreeMap<u32, live::Followed>>,
    copies: RefCell<BTreeMap<u32, archive::Copy>>,
    sessions: RefCell<BTreeMap<u32, strong::Opened>>,
    /// Devices that may vote, by the ids of spaces; forgotten when members change.
    voters: RefCell<BTreeMap<String, Rc<[DeviceId]>>>,
    /// By the ids of spaces.
    wanted: RefCell<BTreeMap<String, live::Wanted>>,
    /// Whether the page wants to be cut off, and who has been cut off for it.
    offline: RefCell<Option<BTreeSet<PeerId>>>,
    /// Single peers that are cut off, by their names.
    cut: RefCell<BTreeMap<String, PeerId>>,
}

/// Opens a peer over a store (none: in memory). `identity` is fresh random bytes: a browser's store may be copied or
/// rolled back unseen, so every opening is a life of its own. `notify` is called with JSON text for every event. `listen` is
/// an address in memory, and `votes` makes a voter of a peer without a store; both are for tests.
///
/// # Errors
/// A JSON text of a [`Failure`].
#[wasm_bindgen]
pub async fn open(
    store: Option<JsStore>,
    identity: Vec<u8>,
    notify: Function,
    listen: Option<String>,
    votes: bool,
) -> Result<Host, JsValue> {
    report_panics(&notify);
    let builder = Peer::builder().redial(REDIAL.0, REDIAL.1).network(|net| net.ping_interval = PING);
    let builder = builder.engine(|engine| (engine.soft_ttl, engine.soft_period) = (SOFT_TTL, SOFT_PERIOD));
    let builder = match &listen {
        Some(address) => builder.listen(address),
        None => builder,
    };
    let builder = match store {
        None => builder.in_memory().engine(|engine| engine.votes = votes),
        Some(js) => {
            let (store, queue) = Store::pair();
            let (give, take) = futures::channel::oneshot::channel();
            spawn_local(async move {
                if let Ok(answers) = take.await {
                    store::serve(js, queue, answers).await;
                }
            });
            builder.task_store(identity, move |answers| {
                let _ = give.send(answers);
                store
            })
        }
    };
    let peer = builder.spawn().await.map_err(|error| fail(error.into()))?;
    let inner = Rc::new(Inner {
        peer,
        notify,
        documents: RefCell::default(),
        undos: RefCell::default(),
        softs: RefCell::default(),
        lives: RefCell::default(),
        copies: RefCell::default(),
        sessions: RefCell::default(),
        voters: RefCell::default(),
        wanted: RefCell::default(),
        offline: RefCell::default(),
        cut: RefCell::default(),
    });
    spawn_local(follow_peer(inner.clone()));
    Ok(Host(inner))
}

#[wasm_bindgen]
impl Host {
    /// Answers a request.
    ///
    /// # Errors
    /// A JSON text of a [`Failure`].
    pub async fn call(&self, request: String) -> Result<String, JsValue> {
        let inner = self.0.clone();
        let request: Request =
            serde_json::from_str(&request).map_err(|error| fail(Failure::invalid("request", error)))?;
        inner.answer(request).await.map(|json| json.to_string()).map_err(fail)
    }

    /// Who this peer is, as JSON.
    pub fn me(&self) -> String {
        let peer = &self.0.peer;
        json!({ "peer": peer.peer_id_text(), "device": peer.device().to_string() }).to_string()
    }
}

thread_local! {
    /// Who is told of panics; the newest host, if there are several.
    static ON_PANIC: RefCell<Option<Function>> = const { RefCell::new(None) };
}

/// Tells the page of a panic, of which there should be none: the instance is dead after it.
fn report_panics(notify: &Function) {
    ON_PANIC.with(|on_panic| *on_panic.borrow_mut() = Some(notify.clone()));
    std::panic::set_hook(Box::new(|info| {
        let event = json!({ "event": "panic", "message": info.to_string() }).to_string();
        ON_PANIC.with(|on_panic| {
            if let Ok(Some(notify)) = on_panic.try_borrow().as_deref() {
                let _ = notify.call1(&JsValue::NULL, &event.into());
            }
        });
    }));
}

fn fail(failure: Failure) -> JsValue {
    failure.to_json().to_string().into()
}

async fn follow_peer(inner: Rc<Inner>) {
    let mut events = inner.peer.events();
    while let Some(event) = events.next().await {
        match event {
            PeerEvent::Linked { peer, .. } => {
                let cut = inner.offline.borrow_mut().as_mut().map(|cut| cut.insert(peer));
                if cut.is_some() {
                    let _ = inner.peer.block(peer).await;
                }
                inner.tell(&json!({ "event": "status" }));
            }
            PeerEvent::StorageTrouble(trouble) => {
                let failure = trouble.map(|failure| Failure::from(failure).to_json());
                inner.tell(&json!({ "event": "storage", "failure": failure }));
            }
            PeerEvent::MembersChanged { space } => {
                inner.voters.borrow_mut().remove(&space.to_bech32());
                inner.tell(&json!({ "event": "members", "space": space.to_bech32() }));
            }
            PeerEvent::InStep { stats, .. } => {
                let stats = json!({
                    "bytes": stats.bytes_sent + stats.bytes_received,
                    "roundTrips": stats.round_trips,
                    "ms": stats.micros as f64 / 1e3,
                });
                inner.tell(&json!({ "event": "status", "lastSync": stats }));
            }
            PeerEvent::Closed => inner.tell(&json!({ "event": "closed" })),
            _ => inner.tell(&json!({ "event": "status" })),
        }
    }
}

impl Inner {
    /// Tells the page.
    pub(crate) fn tell(&self, event: &Json) {
        // A listener that throws is the page's own affair; it is reported there.
        let _ = self.notify.call1(&JsValue::NULL, &event.to_string().into());
    }

    async fn space(&self, key: &str) -> Result<Space, Failure> {
        let found = self.peer.space(key).await?;
        found.ok_or_else(|| Failure::new("NOT_A_MEMBER", format!("this device has no space {key}")))
    }

    async fn answer(self: Rc<Self>, request: Request) -> Answer {
        match request {
            Request::Open { space, path, layers, doc, standings } => {
                self.open_document(&space, &path, &layers, doc, &standings).await
            }
            Request::CloseDoc { doc } => {
                self.documents.borrow_mut().remove(&doc);
                self.unwant(doc).await?;
                Ok(Json::Null)
            }
            Request::Edit(part) => {
                let answer = self.served(part.doc)?.edit(part.into_edit());
                answer.await.map_err(|_| closed("document"))?
            }
            Request::Batch { space, edits } => self.edit_together(&space, edits).await,
            Request::Export { .. } | Request::Import { .. } => self.answer_archive(request).await,
            Request::Ack { doc, id } => {
                self.served(doc)?.ack(id);
                Ok(Json::Null)
            }
            Request::Shutdown => {
                // Every task that watches ends with its stream; those that hold documents end here.
                self.documents.borrow_mut().clear();
                self.softs.borrow_mut().clear();
                self.lives.borrow_mut().clear();
                self.close_sessions().await;
                self.peer.shutdown().await?;
                Ok(Json::Null)
            }
            Request::Soft { .. } | Request::SoftSet { .. } | Request::SoftDelete { .. } | Request::SoftClose { .. } => {
                self.answer_soft(request).await
            }
            Request::Topic { .. }
            | Request::Publish { .. }
            | Request::Window { .. }
            | Request::Keep { .. }
            | Request::CloseLive { .. } => self.answer_live(request).await,
            Request::OpenSession { .. }
            | Request::CloseSession { .. }
            | Request::Strong { .. }
            | Request::Coordination { .. }
            | Request::ChangeVoters { .. } => self.answer_strong(request).await,
            Request::Status { space } => self.status(&space).await,
            Request::Offline { offline } => self.set_offline(offline).await,
            request @ (Request::Spaces
            | Request::CreateSpace { .. }
            | Request::Join { .. }
            | Request::Inspect { .. }
            | Request::Dial { .. }
            | Request::Relay { .. }
            | Request::Cut { .. }
            | Request::Hurry) => self.answer_peer(request).await,
            request @ (Request::At { .. }
            | Request::Diff { .. }
            | Request::History { .. }
            | Request::Conflicts { .. }
            | Request::Cursor { .. }
            | Request::Locate { .. }
            | Request::Synced { .. }
            | Request::Fence { .. }
            | Request::UndoManager { .. }
            | Request::Undo { .. }
            | Request::UndoBoundary { .. }
            | Request::UndoClose { .. }) => self.answer_document(request).await,
            request => self.answer_space(request).await,
        }
    }

    async fn answer_peer(&self, request: Request) -> Answer {
        match request {
            Request::Spaces => {
                let spaces = self.peer.spaces().await?;
                Ok(spaces.iter().map(|info| json!({ "id": info.id.to_bech32(), "name": info.name })).collect())
            }
            Request::CreateSpace { name } => {
                let space = self.peer.create_space(name).await?;
                Ok(json!({ "id": space.id().to_bech32() }))
            }
            Request::Join { invitation, name } => {
                let joined = match name {
                    Some(name) => self.peer.join_as(&invitation, name).await,
                    None => self.peer.join(&invitation).await,
                };
                Ok(json!({ "id": joined?.id().to_bech32() }))
            }
            Request::Inspect { invitation } => {
                let found = Invitation::parse(&invitation).map_err(|error| Failure::invalid("invitation", error))?;
                Ok(json!({
                    "space": found.space().to_bech32(),
                    "role": found.offers().map(|grant| grant.role).max().map(|role| role.to_string()),
                    "expires": found.expires().map(|at| at.0),
                }))
            }
            Request::Dial { address } => {
                let address = address.parse().map_err(|error| Failure::invalid("peers", error))?;
                Ok(self.peer.dial(address).await?.into())
            }
            Request::Relay { address } => {
                let address = address.parse().map_err(|error| Failure::invalid("relays", error))?;
                Ok(self.peer.relay(address).await?.into())
            }
            Request::Cut { peer, cut } => {
                let status = self.peer.status().await?;
                let link = status.network.links.iter().find(|link| peer_text(&link.peer) == peer);
                match (link.map(|link| link.peer).or_else(|| self.cut.borrow().get(&peer).copied()), cut) {
                    (Some(id), true) => {
                        self.cut.borrow_mut().insert(peer, id);
                        self.peer.block(id).await?;
                    }
                    (Some(id), false) => {
                        self.cut.borrow_mut().remove(&peer);
                        self.peer.unblock(id).await?;
                    }
                    (None, _) => return Err(Failure::new("NOT_FOUND", format!("no link with {peer}"))),
                }
                Ok(Json::Null)
            }
            Request::Hurry => {
                self.peer.hurry();
                Ok(Json::Null)
            }
            other => Err(Failure::invalid("request", format!("{other:?}"))),
        }
    }

    async fn answer_space(&self, request: Request) -> Answer {
        match request {
            Request::Read { space, path, bookmark, wait } => self.read(&space, &path, bookmark, wait).await,
            Request::List { space, prefix, after, limit } => {
                let after = after.map(|text| parse("path", &text)).transpose()?;
                let page = self.space(&space).await?.list(prefix.as_str()).limit(limit).after(after).await?;
                let items = page.items.iter().map(|info| {
                    json!({
                        "path": info.path.to_string(), "heads": patches::heads(&info.heads), "bytes": info.bytes,
                        "changedAt": info.changed_at.0,
                    })
                });
                Ok(json!({ "items": items.collect::<Vec<_>>(), "next": page.next.map(|path| path.to_string()) }))
            }
            Request::Remove { space, path } => Ok(self.space(&space).await?.delete(path.as_str()).await?.into()),
            Request::Invite { space, role, prefix, expires } => {
                let role: Role = parse("role", &role)?;
                let invite = self.space(&space).await?.invite(role).expires(expires.map(WallTime));
                let invite = match &prefix {
                    Some(prefix) => invite.prefix(prefix.as_str()),
                    None => invite,
                };
                Ok(invite.await?.into())
            }
            Request::Revoke { space, member } => {
                let device = parse("member", &member)?;
                self.space(&space).await?.revoke(device, Vec::new(), Keep::Known).await?;
                Ok(Json::Null)
            }
            Request::Members { space } => {
                let members = self.space(&space).await?.members(None, 1000).await?;
                let member = |m: &foreshore::peer::MemberInfo| {
                    let roles = m.roles.iter().map(|(role, prefix, end)| {
                        json!({ "role": role.to_string(), "prefix": prefix.to_string(), "expires": end.map(|at| at.0) })
                    });
                    json!({ "id": m.device.to_string(), "me": m.me, "roles": roles.collect::<Vec<_>>() })
                };
                Ok(members.iter().map(member).collect())
            }
            Request::Bookmark { space } => Ok(self.space(&space).await?.bookmark().await?.to_string().into()),
            Request::Reach { space, bookmark } => {
                let bookmark: Bookmark = parse("bookmark", &bookmark)?;
                Ok(self.space(&space).await?.reach(&bookmark).await?.to_string().into())
            }
            other => Err(Failure::invalid("request", format!("{other:?}"))),
        }
    }

    async fn read(&self, space: &str, path: &str, bookmark: Option<String>, wait: Option<u64>) -> Answer {
        let mut read = self.space(space).await?.read::<Value>(path);
        if let Some(text) = bookmark {
            read = read.at_least(&parse("bookmark", &text)?);
        }
        if let Some(wait) = wait {
            read = read.timeout(Duration::from_millis(wait));
        }
        let fresh = read.await?;
        Ok(json!({ "value": fresh.value.map(|value| value.to_tagged_json()), "heads": patches::heads(&fresh.heads) }))
    }

    async fn status(&self, space: &str) -> Answer {
        let status = self.peer.status().await?;
        let own = status.engine.spaces.iter().find(|s| s.info.id.to_bech32() == space);
        let links = status.network.links.iter().map(|link| {
            let known = status.engine.links.iter().find(|l| l.link == link.link);
            json!({
                "id": peer_text(&link.peer),
                "address": link.address.to_string(),
                "rtt": link.rtt.map(|rtt| rtt.as_secs_f64() * 1e3),
                "inStep": known.is_some_and(|l| l.in_step),
                "member": known.is_some_and(|l| l.spaces.iter().any(|id| id.to_bech32() == space)),
            })
        });
        Ok(json!({
            "pending": own.map_or(0, |s| s.pending),
            "root": own.map(|s| s.root.clone()),
            "links": links.collect::<Vec<_>>(),
            "quorum": self.quorum(space, &status.engine.links).await?,
            "offline": self.offline.borrow().is_some(),
        }))
    }

    async fn set_offline(&self, offline: bool) -> Answer {
        if offline {
            let status = self.peer.status().await?;
            let linked: BTreeSet<PeerId> = status.network.links.iter().map(|link| link.peer).collect();
            self.offline.borrow_mut().get_or_insert_default().extend(linked.iter().copied());
            for peer in linked {
                self.peer.block(peer).await?;
            }
        } else {
            let cut = self.offline.borrow_mut().take();
            for peer in cut.into_iter().flatten() {
                self.peer.unblock(peer).await?;
            }
            self.peer.hurry();
        }
        self.tell(&json!({ "event": "status" }));
        Ok(Json::Null)
    }
}

/// A page asks about what it has closed.
fn closed(what: &str) -> Failure {
    Failure::new("CLOSED", format!("the {what} is closed"))
}

/// The template of a page's layers.
fn template(layers: &[Json]) -> Result<Template, Failure> {
    let mut template = Template::default();
    for layer in layers {
        let value = Value::from_json(layer).map_err(|error| Failure::invalid("template", error))?;
        template = template.extend(&value).map_err(|error| Failure::invalid("template", error))?;
    }
    Ok(template)
}

pub(crate) fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(what: &str, text: &str) -> Result<T, Failure> {
    text.parse().map_err(|error| Failure::invalid(what, error))
}

fn parse_heads(texts: &[String]) -> Result<Vec<ChangeHash>, Failure> {
    texts.iter().map(|text| parse("heads", text)).collect()
}
