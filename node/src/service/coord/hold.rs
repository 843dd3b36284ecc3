//! What a command holds while it runs a program: a lock, a leadership, a claimed item.
//!
//! ```text
//!   peer     ── grant, until T1 ──▶ command   starts the program
//!            ── grant, until T2 ──▶           goes on                     T: a clock that both read
//!            ── grant, lost ──────▶           ends the program
//!            ◀───────────── end ──            the program has ended: only now is anything given back
//! ```
//!
//! **Nothing is given back before the program has ended.** A session that lapsed may be found alive again, and a peer that is
//! told to stop would release what its sessions hold: either would let the next holder in while the program of the last one has
//! its moment to end in order. So the peer waits for the command's word. Where the command is gone, so is its program. Where the
//! peer cannot wait any longer, it leaves the session to its time instead of ending it.
//!
//! A peer that is stopped or dead says nothing; the command knows from the last grant until when it may go on.

use std::time::Duration;

use foreshore::coord::CoordError;
use foreshore::coord::serve::client::State;
use foreshore::coord::session::{MAX_TTL_MS, MIN_TTL_MS};
use foreshore::coord::watch::Watch;
use foreshore::engine::CoordFailure;
use foreshore::peer::CommandError;
use foreshore::peer::coord::{ClaimedItem, Coordinator, CoordinatorEvents, Leadership, Lock, Queue};
use tokio::sync::watch;
use tokio::time::sleep;

use super::super::{Service, give, refused};
use super::{session_over, stopped};
use crate::clock::now_millis;
use crate::control::{Items, Pages};
use crate::failure::Failure;
use crate::request::{Grant, Item};

/// How often a grant is said again, as a part of the session's time.
const RENEWALS: u32 = 12;

/// How much of a session's time counts when the peer stops: what a third of it leaves has to fit into the time that a peer
/// has to stop.
const STOP_MARGIN: Duration = Duration::from_secs(12);

/// Between looks at a queue that says nothing.
const QUEUE_LOOK: Duration = Duration::from_secs(10);

/// A lock or a leadership.
enum Held {
    Lock(Lock),
    Leadership(Leadership),
}

impl Held {
    fn token(&self) -> u64 {
        match self {
            Held::Lock(lock) => lock.token().as_u64(),
            Held::Leadership(leadership) => leadership.token().as_u64(),
        }
    }

    fn is_lost(&self) -> bool {
        match self {
            Held::Lock(lock) => lock.is_lost(),
            Held::Leadership(leadership) => leadership.is_lost(),
        }
    }

    async fn lost(&self) {
        match self {
            Held::Lock(lock) => lock.lost().await,
            Held::Leadership(leadership) => leadership.lost().await,
        }
    }

    async fn release(self) -> Result<(), CommandError> {
        match self {
            Held::Lock(lock) => lock.release().await,
            Held::Leadership(leadership) => leadership.resign().await,
        }
    }
}

/// A session and what it holds. Dropped while the peer stops, both are left to their time.
struct Kept {
    parts: Option<(Option<Held>, Coordinator)>,
    stopping: watch::Receiver<bool>,
}

impl Kept {
    fn parts(&self) -> (&Option<Held>, &Coordinator) {
        let (held, session) = self.parts.as_ref().expect("the parts are taken at the end only");
        (held, session)
    }

    fn session(&self) -> &Coordinator {
        self.parts().1
    }

    /// The program has ended: what is held may be given back.
    fn into_parts(mut self) -> (Option<Held>, Coordinator) {
        self.parts.take().expect("the parts are taken at the end only")
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if *self.stopping.borrow()
            && let Some(parts) = self.parts.take()
        {
            // Dropped, they would ask for a release on the way out, while a program may still be ending.
            std::mem::forget(parts);
        }
    }
}

/// What the command says next.
enum Word {
    End,
    Settled { done: bool },
}

/// Waits for a command's word. An error: it is gone, and its program with it.
async fn word(pages: &mut Pages) -> Result<Word, Failure> {
    match pages.recv().await {
        None => Ok(Word::End),
        Some(page) => match page?.as_slice() {
            b"ack" => Ok(Word::Settled { done: true }),
            b"nack" => Ok(Word::Settled { done: false }),
            _ => Err(Failure::invalid("page", "it is `ack` or `nack`")),
        },
    }
}

/// What is told of a grant.
struct Telling<'a> {
    path: &'a str,
    token: u64,
    item: Option<Item>,
    ttl: Duration,
    /// No grant is longer than this, on the clock of [`now_millis`].
    at_most: u64,
}

impl Telling<'_> {
    fn grant(&self, until_ms: u64) -> Grant {
        let margin_ms = millis(self.ttl) / 3;
        Grant { path: self.path.to_owned(), token: self.token, until_ms, margin_ms, lost: None, item: None }
    }

    fn lost(&self, until_ms: u64, margin: Duration, why: &str) -> Grant {
        Grant { lost: Some(why.into()), margin_ms: millis(margin), ..self.grant(until_ms) }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The time to live that a session gets that asks for this.
fn bounded(ttl: Duration) -> Duration {
    ttl.clamp(Duration::from_millis(MIN_TTL_MS), Duration::from_millis(MAX_TTL_MS))
}

/// How long to wait for a lock or a leadership.
#[derive(Clone, Copy)]
pub(in crate::service) enum Patience {
    /// Not at all.
    None,
    /// So long.
    Until(Duration),
    /// For ever.
    Endless,
}

impl From<Option<u64>> for Patience {
    fn from(millis: Option<u64>) -> Self {
        match millis {
            Some(0) => Patience::None,
            Some(millis) => Patience::Until(Duration::from_millis(millis)),
            None => Patience::Endless,
        }
    }
}

/// A lock that is asked for.
pub(in crate::service) struct LockWish {
    pub(in crate::service) path: String,
    pub(in crate::service) shared: bool,
    pub(in crate::service) patience: Patience,
    pub(in crate::service) delay: Duration,
}

impl Service {
    pub(in crate::service) async fn lock(
        &self,
        space: &str,
        wish: LockWish,
        ttl: Duration,
        pages: Pages,
        items: &Items,
    ) -> Result<(), Failure> {
        let (ttl, session) = (bounded(ttl), self.own_session(space, Some(ttl)).await?);
        let lock = session.lock(wish.path.as_str()).lock_delay(wish.delay);
        let lock = if wish.shared { lock.shared() } else { lock };
        let lock = match wish.patience {
            Patience::None => lock.try_once(),
            Patience::Until(wait) => lock.deadline(wait),
            Patience::Endless => lock,
        };
        let acquired = async { lock.await.map(Held::Lock) };
        self.hold(&wish.path, session, acquired, ttl, pages, items).await
    }

    pub(in crate::service) async fn campaign(
        &self,
        space: &str,
        (path, value): (&str, String),
        patience: Patience,
        ttl: Duration,
        pages: Pages,
        items: &Items,
    ) -> Result<(), Failure> {
        let (ttl, session) = (bounded(ttl), self.own_session(space, Some(ttl)).await?);
        let campaign = session.election(path).campaign(value);
        let campaign = match patience {
            // A candidacy that does not wait is one that waits for a moment.
            Patience::None => campaign.deadline(Duration::from_millis(1)),
            Patience::Until(wait) => campaign.deadline(wait),
            Patience::Endless => campaign,
        };
        let elected = async { campaign.await.map(Held::Leadership) };
        self.hold(path, session, elected, ttl, pages, items).await
    }

    async fn hold(
        &self,
        path: &str,
        session: Coordinator,
        acquired: impl Future<Output = Result<Held, CommandError>>,
        ttl: Duration,
        mut pages: Pages,
        items: &Items,
    ) -> Result<(), Failure> {
        let held = tokio::select! {
            held = acquired => held.map_err(refused)?,
            word = word(&mut pages) => return word.map(drop),
            () = self.until_stopping() => return Err(stopped()),
        };
        let telling = Telling { path, token: held.token(), item: None, ttl, at_most: u64::MAX };
        let kept = Kept { parts: Some((Some(held), session)), stopping: self.shared.stopping.subscribe() };
        let ended = keep(&kept, &telling, &mut pages, items).await?;
        if ended.is_none() {
            // It was lost. What there is to give back, if anything, may go now: the program has ended.
            word(&mut pages).await?;
        }
        let (held, session) = kept.into_parts();
        let lost = held.as_ref().is_none_or(Held::is_lost);
        let released = match held {
            Some(held) if !lost => held.release().await.map_err(refused),
            _ => Ok(()),
        };
        drop(session);
        released
    }

    pub(in crate::service) async fn queue_work(
        &self,
        space: &str,
        path: &str,
        visibility: Duration,
        (ttl, count): (Duration, Option<u64>),
        mut pages: Pages,
        items: &Items,
    ) -> Result<(), Failure> {
        let (ttl, session) = (bounded(ttl), self.own_session(space, Some(ttl)).await?);
        let mut events = session.events();
        session.watch(Watch::Queue, path).await.map_err(refused)?;
        let queue = session.queue(path);
        let kept = Kept { parts: Some((None, session)), stopping: self.shared.stopping.subscribe() };
        let mut left = count.unwrap_or(u64::MAX);
        while left > 0 {
            let (asked, claimed) = tokio::select! {
                claimed = next_item(&queue, visibility, &mut events) => claimed?,
                word = word(&mut pages) => return word.map(drop),
                () = kept.session().over() => return Err(session_over()),
                () = self.until_stopping() => return Err(stopped()),
            };
            let item = Item { item: claimed.item, attempt: claimed.attempt, body: claimed.body.clone().into() };
            // The claim's time began after it was asked for. The last tenth is for ending in order.
            let at_most = asked.saturating_add(millis(visibility - visibility / 10));
            let telling = Telling { path, token: claimed.token.as_u64(), item: Some(item), ttl, at_most };
            let ended = match keep(&kept, &telling, &mut pages, items).await? {
                Some(ended) => ended,
                None => word(&mut pages).await?,
            };
            let done = matches!(ended, Word::Settled { done: true });
            let settled = if done { queue.ack(&claimed).await } else { queue.nack(&claimed).await };
            match settled {
                Ok(()) => {}
                // It is another's by now, or will be: that is what at least once means.
                Err(CommandError::Coord(CoordFailure::Coord(CoordError::NotHeld | CoordError::WrongToken { .. }))) => {
                    give(items, telling.lost(now_millis(), Duration::ZERO, "it was settled too late")).await?;
                }
                Err(error) => return Err(refused(error)),
            }
            if matches!(ended, Word::End) {
                break;
            }
            left -= 1;
        }
        drop(kept.into_parts());
        Ok(())
    }
}

/// Waits for an item; when the claim was asked for, on the clock of [`now_millis`].
async fn next_item(
    queue: &Queue,
    visibility: Duration,
    events: &mut CoordinatorEvents,
) -> Result<(u64, ClaimedItem), Failure> {
    loop {
        let asked = now_millis();
        if let Some(claimed) = queue.claim(visibility).await.map_err(refused)? {
            return Ok((asked, claimed));
        }
        tokio::select! {
            event = events.next() => if event.is_none() {
                return Err(stopped());
            },
            () = sleep(QUEUE_LOOK) => {}
        }
    }
}

/// Waits until the peer is told to stop.
async fn told(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Tells a grant again and again until the command says something, or it is lost, which is told, too (`None`).
async fn keep(kept: &Kept, telling: &Telling<'_>, pages: &mut Pages, items: &Items) -> Result<Option<Word>, Failure> {
    let (held, session) = kept.parts();
    let mut stopping = kept.stopping.clone();
    let period = (telling.ttl / RENEWALS).clamp(Duration::from_millis(50), Duration::from_secs(2));
    let lost = async {
        match held {
            Some(held) => held.lost().await,
            None => session.over().await,
        }
    };
    tokio::pin!(lost);
    let (mut until, mut item) = (now_millis(), telling.item.clone());
    loop {
        // The clock is read before the session is asked, so that nothing makes the grant longer than the session's.
        let asked = now_millis();
        let lease = session.lease().await.unwrap_or_default();
        if lease.is_zero() || held.as_ref().is_some_and(Held::is_lost) {
            break;
        }
        until = asked.saturating_add(millis(lease)).min(telling.at_most);
        // What is claimed is said once.
        give(items, Grant { item: item.take(), ..telling.grant(until) }).await?;
        tokio::select! {
            word = word(pages) => return word.map(Some),
            () = &mut lost => break,
            () = told(&mut stopping) => {
                give(items, telling.lost(now_millis(), telling.ttl.min(STOP_MARGIN) / 3, "the peer stops")).await?;
                return Ok(None);
            }
            () = sleep(period) => {}
        }
    }
    // A session that is over leaves nothing to end in order in: somebody else may have it already.
    let margin = if session.state() == State::Lost { Duration::ZERO } else { telling.ttl / 3 };
    give(items, telling.lost(until.min(now_millis()), margin, "the session was not renewed in time")).await?;
    Ok(None)
}
