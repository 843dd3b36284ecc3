//! Events as they travel: Server-Sent Events and messages of a WebSocket say the same.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::{Stream, StreamExt as _};
use serde::Serialize;
use serde_json::value::RawValue;

use super::hold::HEARTBEAT;
use super::problem::Problem;

/// One event.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) name: &'static str,
    /// JSON on one line.
    pub(super) data: Arc<str>,
    /// Where a reader goes on that comes back.
    pub(super) id: Option<String>,
}

/// One message of a WebSocket.
#[derive(Serialize)]
struct Message<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    event: &'a str,
    data: &'a RawValue,
}

impl Told {
    pub(super) fn new(name: &'static str, data: &impl Serialize) -> Self {
        let data = serde_json::to_string(data).expect("what is told has text for keys");
        Self { name, data: data.into(), id: None }
    }

    pub(super) fn problem(problem: &Problem) -> Self {
        Self::new("problem", problem)
    }

    fn sse(&self) -> Event {
        let event = Event::default().event(self.name).data(&*self.data);
        match &self.id {
            Some(id) => event.id(id),
            None => event,
        }
    }

    /// As a text of a WebSocket.
    pub(super) fn message(&self) -> String {
        let data: &RawValue = serde_json::from_str(&self.data).expect("it was written as JSON");
        let message = Message { id: self.id.as_deref(), event: self.name, data };
        serde_json::to_string(&message).expect("it has text for keys")
    }
}

/// Longest life that a stream may be given: a day. One that is given none has no end.
pub(super) const MAX_LIFE_MS: u64 = 86_400_000;

/// Checks what a stream is given to live.
pub(super) fn life(millis: u64) -> Result<u64, Problem> {
    match millis {
        0..=MAX_LIFE_MS => Ok(millis),
        _ => Err(Problem::invalid(format_args!("for_ms: it is at most {MAX_LIFE_MS}"))),
    }
}

/// Ends a stream after so many milliseconds.
pub(super) fn for_at_most(
    millis: Option<u64>,
    events: impl Stream<Item = Told> + Send + 'static,
) -> impl Stream<Item = Told> + Send + 'static {
    let over = async move {
        match millis {
            Some(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
            None => std::future::pending().await,
        }
    };
    events.take_until(Box::pin(over))
}

/// An answer of Server-Sent Events, which a proxy is not to gather.
pub(super) fn sse(events: impl Stream<Item = Told> + Send + 'static) -> Response {
    let events = Sse::new(events.map(|told| Ok::<_, Infallible>(told.sse())));
    let unbuffered = [("x-accel-buffering", "no")];
    (unbuffered, events.keep_alive(KeepAlive::new().interval(HEARTBEAT))).into_response()
}
