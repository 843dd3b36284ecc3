//! Strong state for pages: sessions with the space's voters, and what pages hold and ask in them.
//!
//! A page's session is a [`Coordinator`]. What it holds lies here under the page's own numbers, so that one message ends all
//! of it: a page that is gone is closed by whoever notices, and voters give its locks to others at once.
//!
//! **What a page is told.** How each of its sessions stands, at every change and a few times in each lease (`session`): a page
//! that hears nothing of a session for a third of its time stops acting in the name of what it holds there, since whatever ran
//! it may be gone. A grant that was lost (`lost`), once. What happens to what it watches (`changed`).

mod ask;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::time::Duration;

use foreshore::coord::CoordError;
use foreshore::id::DeviceId;
use foreshore::peer::coord::{
    CoordFailure, Coordinator, CoordinatorEvents, EventKind, FencingToken, Leadership, Lock, NodeEvent, Operation,
    SessionState, Watch,
};
use foreshore::peer::{CommandError, MemberInfo, PeerId, peer_text};
use foreshore::trust::Role;
use futures::channel::oneshot;
use futures::future::{Either, join_all, select};
use futures_timer::Delay;
use serde_json::{Value as Json, json};
use wasm_bindgen_futures::spawn_local;

pub(crate) use self::ask::Ask;
use super::{Answer, Inner};
use crate::errors::Failure;
use crate::request::Request;

/// Whoever waits without a deadline is refused when no voter has served the session for so long.
const PATIENCE: Duration = foreshore::peer::coord::DEFAULT_PATIENCE;

/// Sessions that are to be closed with the engine may take so long; those that take longer end by their time.
const CLOSING: Duration = Duration::from_secs(2);

/// How a session stands is told so many times in its time: three times in the third of it after which a page gives up.
const TOLD: u32 = 9;

/// Most devices that are looked at for voters.
const MAX_MEMBERS: usize = 1000;

/// A page's session. Dropping it ends its tasks, takes its wishes back and lets go of what it holds.
pub(super) struct Opened {
    space: String,
    coordinator: Coordinator,
    held: Rc<RefCell<BTreeMap<u32, Held>>>,
    /// Grants that are asked for; dropping one takes the wish back.
    asked: BTreeMap<u32, oneshot::Sender<()>>,
    _gone: oneshot::Sender<()>,
}

/// What a page holds.
enum Held {
    Lock(Lock),
    Leadership(Leadership),
}

impl Inner {
    pub(super) async fn answer_strong(self: &Rc<Self>, request: Request) -> Answer {
        match request {
            Request::OpenSession { space, session, ttl } => {
                let ttl = Duration::from_millis(ttl);
                let coordinator = self.space(&space).await?.coordinator().ttl(ttl).await?;
                let (gone, ended) = oneshot::channel();
                spawn_local(follow(self.clone(), session, coordinator.clone(), ttl / TOLD, ended));
                let opened = Opened { space, coordinator, held: Rc::default(), asked: BTreeMap::new(), _gone: gone };
                self.sessions.borrow_mut().insert(session, opened);
                Ok(Json::Null)
            }
            Request::CloseSession { session } => {
                let opened = self.sessions.borrow_mut().remove(&session);
                if let Some(Opened { coordinator, held, .. }) = opened {
                    held.borrow_mut().clear();
                    coordinator.close().await?;
                }
                Ok(Json::Null)
            }
            Request::Strong { session, ask } => self.answer_ask(session, ask).await,
            Request::Coordination { space } => self.coordination(&space).await,
            Request::ChangeVoters { space, change, peer } => {
                self.change_voters(&space, &change, &peer).await?;
                Ok(Json::Null)
            }
            other => Err(Failure::invalid("request", format!("{other:?}"))),
        }
    }

    /// A session whose engine lost it, or that was closed meanwhile.
    fn coordinator(&self, session: u32) -> Result<Coordinator, Failure> {
        let found = self.sessions.borrow().get(&session).map(|opened| opened.coordinator.clone());
        found.ok_or_else(|| Failure::new("SESSION_EXPIRED", "the session is closed").retryable())
    }

    async fn answer_ask(self: &Rc<Self>, session: u32, ask: Ask) -> Answer {
        let coordinator = self.coordinator(session)?;
        match ask {
            Ask::Acquire { .. } => self.acquire(session, coordinator, ask).await,
            Ask::Release { held } => self.release(session, held).await,
            other => ask::answer(&coordinator, other).await,
        }
    }

    /// Asks for a lock or leadership, until it is granted, refused, or not wanted any more.
    async fn acquire(self: &Rc<Self>, session: u32, coordinator: Coordinator, ask: Ask) -> Answer {
        let Ask::Acquire { held, path, election, shared, wait, delay, value } = ask else {
            return Err(Failure::invalid("request", "no acquisition"));
        };
        let (wanted, given_up) = oneshot::channel();
        if let Some(opened) = self.sessions.borrow_mut().get_mut(&session) {
            opened.asked.insert(held, wanted);
        }
        let granted = async {
            if election {
                let campaign = coordinator.election(path).campaign(value);
                let campaign = match wait {
                    Some(wait) => campaign.deadline(Duration::from_millis(wait)),
                    None => campaign,
                };
                return campaign.await.map(Held::Leadership);
            }
            let lock = coordinator.lock(path).lock_delay(Duration::from_millis(delay));
            let lock = if shared { lock.shared() } else { lock };
            let lock = match wait {
                Some(0) => lock.try_once(),
                Some(wait) => lock.deadline(Duration::from_millis(wait)),
                None => lock,
            };
            lock.await.map(Held::Lock)
        };
        let deserted = async {
            match wait {
                None => deserted(&coordinator).await,
                Some(_) => std::future::pending().await,
            }
        };
        let outcome = match select(pin!(granted), select(given_up, pin!(deserted))).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right((Either::Left(_), _)) => Err(CommandError::Cancelled),
            Either::Right((Either::Right(_), _)) => Err(CommandError::Coord(CoordFailure::NoQuorum)),
        };
        let grants = {
            let mut sessions = self.sessions.borrow_mut();
            // The page is gone: what was granted meanwhile is let go of by dropping it.
            let Some(opened) = sessions.get_mut(&session) else {
                drop(outcome);
                return Err(CommandError::Cancelled.into());
            };
            opened.asked.remove(&held);
            opened.held.clone()
        };
        let grant = match outcome {
            Ok(grant) => grant,
            Err(CommandError::Coord(CoordFailure::Coord(CoordError::NotAvailable))) => return Ok(Json::Null),
            Err(error) => return Err(error.into()),
        };
        let (token, loss) = match &grant {
            Held::Lock(lock) => (lock.token(), Either::Left(lock.loss())),
            Held::Leadership(leadership) => (leadership.token(), Either::Right(leadership.loss())),
        };
        spawn_local(watch_over(self.clone(), session, held, loss, Rc::downgrade(&grants)));
        grants.borrow_mut().insert(held, grant);
        Ok(json!({ "token": token.as_u64() }))
    }

    /// Gives back what is held, or takes a wish back.
    async fn release(&self, session: u32, held: u32) -> Answer {
        let (asked, grant) = {
            let mut sessions = self.sessions.borrow_mut();
            let opened = sessions.get_mut(&session);
            let asked = opened.and_then(|opened| opened.asked.remove(&held));
            let grants = sessions.get(&session).map(|opened| opened.held.clone());
            (asked.is_some(), grants.and_then(|grants| grants.borrow_mut().remove(&held)))
        };
        match grant {
            Some(grant) => ask::release(grant).await?,
            None if asked => {}
            None => return Err(Failure::new("NOT_HELD", "it was released or lost").hint("stop acting on it")),
        }
        Ok(Json::Null)
    }

    async fn coordination(&self, space: &str) -> Answer {
        let status = self.space(space).await?.coordination().await?;
        let names = |peers: &[PeerId]| peers.iter().map(peer_text).collect::<Vec<_>>();
        Ok(json!({
            "serves": status.serves, "leads": status.leads, "term": status.term,
            "leader": status.leader.as_ref().map(peer_text),
            "voters": names(&status.voters), "learners": names(&status.learners),
            "applied": status.applied, "committed": status.committed, "digest": status.digest,
            "broken": status.broken,
        }))
    }

    /// A change of the group, by the voter that leads. `peer` is linked here.
    async fn change_voters(&self, space: &str, change: &str, peer: &str) -> Result<(), Failure> {
        let status = self.peer.status().await?;
        let known = status.network.links.iter().map(|link| link.peer).chain([self.peer.peer_id()]);
        let found = known.into_iter().find(|id| peer_text(id) == peer);
        let id = found.ok_or_else(|| Failure::new("NOT_FOUND", format!("no link with {peer}")))?;
        let operation = match change {
            "add" => Operation::Add(id),
            "promote" => Operation::Promote(id),
            "remove" => Operation::Remove(id),
            "transfer" => Operation::Transfer(id),
            other => return Err(Failure::invalid("change", format!("{other} is none"))),
        };
        Ok(self.space(space).await?.change_voters(operation).await?)
    }

    /// How strong state stands for a space, for its figures: `none` without a voter; otherwise `ok` if one serves a session
    /// here, or, while no page has one, if one is linked.
    pub(super) async fn quorum(
        &self,
        space: &str,
        links: &[foreshore::engine::LinkStatus],
    ) -> Result<&'static str, Failure> {
        let known = self.voters.borrow().get(space).cloned();
        let voters = match known {
            Some(voters) => voters,
            None => {
                let members = self.space(space).await?.members(None, MAX_MEMBERS).await?;
                let votes = |member: &&MemberInfo| member.roles.iter().any(|(role, ..)| *role == Role::Voter);
                let voters: Rc<[DeviceId]> = members.iter().filter(votes).map(|member| member.device).collect();
                self.voters.borrow_mut().insert(space.into(), voters.clone());
                voters
            }
        };
        if voters.is_empty() {
            return Ok("none");
        }
        let sessions = self.sessions.borrow();
        let mut states =
            sessions.values().filter(|opened| opened.space == space).map(|o| o.coordinator.state()).peekable();
        let served = match states.peek() {
            Some(_) => states.any(|state| state == SessionState::Connected),
            None => links.iter().any(|link| link.device.is_some_and(|device| voters.contains(&device))),
        };
        Ok(if served { "ok" } else { "lost" })
    }

    /// Ends every session, so that what pages hold goes to others at once.
    pub(super) async fn close_sessions(&self) {
        let sessions = std::mem::take(&mut *self.sessions.borrow_mut());
        let connected = |opened: &&Opened| opened.coordinator.state() == SessionState::Connected;
        let close = sessions.values().filter(connected).map(|opened| opened.coordinator.close());
        let all = join_all(close.collect::<Vec<_>>());
        let _ = select(pin!(all), Delay::new(CLOSING)).await;
    }
}

/// Tells the page when a grant is lost, and lets go of it.
async fn watch_over(
    inner: Rc<Inner>,
    session: u32,
    held: u32,
    loss: impl Future<Output = ()>,
    grants: Weak<RefCell<BTreeMap<u32, Held>>>,
) {
    loss.await;
    let lost = grants.upgrade().and_then(|grants| grants.borrow_mut().remove(&held));
    if lost.is_some() {
        inner.tell(&json!({ "event": "lost", "session": session, "held": held }));
    }
}

/// Returns when no voter has served a session for longer than anybody waits.
async fn deserted(coordinator: &Coordinator) {
    loop {
        let state = coordinator.state();
        if state == SessionState::Connected {
            coordinator.changed(state).await;
            continue;
        }
        let served = async {
            let mut seen = state;
            while seen != SessionState::Connected {
                seen = coordinator.changed(seen).await;
            }
        };
        if let Either::Right(_) = select(pin!(served), Delay::new(PATIENCE)).await {
            return;
        }
    }
}

/// Tells a page of its session.
async fn follow(
    inner: Rc<Inner>,
    session: u32,
    coordinator: Coordinator,
    period: Duration,
    mut ended: oneshot::Receiver<()>,
) {
    let mut events: CoordinatorEvents = coordinator.events();
    loop {
        let state = coordinator.state();
        inner.tell(&json!({ "event": "session", "session": session, "state": name(state) }));
        if state == SessionState::Lost {
            return;
        }
        let news = loop {
            let changed = coordinator.changed(state);
            match select(&mut ended, select(pin!(events.next()), select(pin!(changed), Delay::new(period)))).await {
                Either::Left(_) => return,
                Either::Right((Either::Left((event, _)), _)) => match event {
                    Some(event) => inner.tell(&changed_event(session, &event)),
                    None => return,
                },
                Either::Right((Either::Right((Either::Left(_), _)), _)) => break true,
                Either::Right((Either::Right((Either::Right(_), _)), _)) => break false,
            }
        };
        if news {
            // The space's figures say whether there is a quorum.
            inner.tell(&json!({ "event": "status" }));
        }
    }
}

fn name(state: SessionState) -> &'static str {
    match state {
        SessionState::Opening => "opening",
        SessionState::Connected => "connected",
        SessionState::Suspended => "suspended",
        SessionState::Lapsed => "lapsed",
        SessionState::Lost => "lost",
    }
}

fn changed_event(session: u32, event: &NodeEvent) -> Json {
    let kind = match event.kind {
        EventKind::Created => "created",
        EventKind::Changed => "changed",
        EventKind::Deleted => "deleted",
        EventKind::Children => "children",
        EventKind::Leader => "leader",
        EventKind::Ready => "ready",
        EventKind::Resync => "resync",
    };
    json!({ "event": "changed", "session": session, "kind": kind, "path": event.path, "zxid": event.zxid })
}

/// What a page calls a watch.
fn watch(text: &str) -> Result<Watch, Failure> {
    match text {
        "node" => Ok(Watch::Persistent),
        "tree" => Ok(Watch::Recursive),
        "leader" => Ok(Watch::Leader),
        "queue" => Ok(Watch::Queue),
        other => Err(Failure::invalid("watch", format!("{other} is none"))),
    }
}

/// A grant's number, as pages have it.
fn token(token: u64) -> Result<FencingToken, Failure> {
    FencingToken::from_u64(token).ok_or_else(|| Failure::invalid("token", "no grant has it"))
}

/// Bytes, as they cross in JSON.
fn bytes(text: &str) -> Result<Vec<u8>, Failure> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).map_err(|error| Failure::invalid("data", error))
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Whom a session's voter knows its client as.
fn owner(owner: &[u8]) -> String {
    owner.try_into().map_or_else(|_| String::new(), |id| peer_text(&PeerId(id)))
}
