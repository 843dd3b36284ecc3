//! What a request holds: a lock, a leadership, an ephemeral node. Its answer is a stream of events that begins when it is held;
//! when the stream ends, it is given back.
//!
//! ```text
//!   held      path, token, for how long it is certainly this request's if nothing more is heard
//!   renewed   the same again, with more time                                  every second or two
//!   lost      why: whoever hears it has to stop
//!   problem   the stream cannot go on
//! ```

use std::pin::Pin;
use std::time::Duration;

use axum::response::Response;
use futures::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, Interval, interval_at};

use super::event::{Told, for_at_most, life, sse};
use super::pass::Pass;
use super::problem::Problem;
use super::{Api, RECHECK};
use crate::clock::now_millis;
use crate::control::{Handler, QUEUE};
use crate::failure::{Code, Failure};
use crate::request::{Grant, Request};

/// Kinds of what is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// A lock or a leadership: items are [`Grant`]s.
    Grant,
    /// A node: one item.
    Node,
}

/// Parameters of what is held.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HoldParams {
    pub(super) space: Option<String>,
    /// For how long at most.
    pub(super) for_ms: Option<u64>,
}

/// A grant as a program elsewhere can use it: it does not know this machine's clock.
#[derive(Debug, Serialize)]
struct GrantEvent<'a> {
    path: &'a str,
    token: u64,
    /// For how long it is certainly held if nothing more is heard.
    lease_ms: u64,
    /// Why it is not held any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
}

type Call = Pin<Box<dyn Future<Output = Result<Json, Failure>> + Send>>;

/// A call under way. Dropped, it gives back what it holds.
struct Holding {
    api: Api,
    pass: Pass,
    held: Held,
    call: Call,
    items: mpsc::Receiver<Json>,
    recheck: Interval,
    /// Whether `held` was told.
    told: bool,
    ended: bool,
    /// Ends the call when it goes.
    _word: mpsc::Sender<Result<Vec<u8>, Failure>>,
    _place: OwnedSemaphorePermit,
}

/// Asks for something to hold, and answers once it is held.
pub(super) async fn start(
    api: &Api,
    pass: &Pass,
    request: Request,
    held: Held,
    for_ms: Option<u64>,
) -> Result<Response, Problem> {
    let for_ms = for_ms.map(life).transpose()?;
    let place = api.stream_place()?;
    let (queue, items) = mpsc::channel(QUEUE);
    let (word, pages) = mpsc::channel(1);
    let service = api.service.clone();
    let call: Call = Box::pin(async move { service.call(request, pages, queue).await });
    let recheck = interval_at(Instant::now() + RECHECK, RECHECK);
    let (api, pass) = (api.clone(), pass.clone());
    let mut holding =
        Holding { api, pass, held, call, items, recheck, told: false, ended: false, _word: word, _place: place };
    let first = match holding.next().await {
        Some(Ok(told)) => told,
        Some(Err(problem)) => return Err(problem),
        None => return Err(Failure::new(Code::Failed, "nothing came of it").into()),
    };
    let rest = stream::unfold(holding, |mut holding| async move {
        let told = holding.next().await?;
        let told = told.unwrap_or_else(|problem| {
            holding.ended = true;
            Told::problem(&problem)
        });
        Some((told, holding))
    });
    Ok(sse(for_at_most(for_ms, stream::iter([first]).chain(rest))))
}

impl Holding {
    async fn next(&mut self) -> Option<Result<Told, Problem>> {
        if self.ended {
            return None;
        }
        loop {
            tokio::select! {
                biased;
                Some(item) = self.items.recv() => return Some(self.tell(item)),
                result = &mut self.call => {
                    self.ended = true;
                    return match result {
                        Ok(_) => None,
                        Err(failure) => Some(Err(failure.into())),
                    };
                }
                _ = self.recheck.tick() => if let Err(problem) = self.api.recheck(&self.pass) {
                    return Some(Err(problem));
                }
            }
        }
    }

    fn tell(&mut self, item: Json) -> Result<Told, Problem> {
        if self.held == Held::Node {
            return Ok(Told::new("held", &item));
        }
        let grant: Grant = serde_json::from_value(item).map_err(|error| Failure::new(Code::Failed, error))?;
        let name = match (&grant.lost, std::mem::replace(&mut self.told, true)) {
            (Some(_), _) => "lost",
            (None, false) => "held",
            (None, true) => "renewed",
        };
        self.ended = grant.lost.is_some();
        let lease_ms = grant.until_ms.saturating_sub(now_millis());
        let event = GrantEvent { path: &grant.path, token: grant.token, lease_ms, why: grant.lost.as_deref() };
        Ok(Told::new(name, &event))
    }
}

/// Between two events at most; what keeps proxies from giving up.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(10);
