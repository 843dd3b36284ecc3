//! Several paths of different kinds in one answer, and the same kept up to date on one stream.
//!
//! ```text
//!   GET /v1/read?document=/profiles/ada&documents=/todo&soft=/online&node=/conf     one answer
//!   GET /v1/live?document=/profiles/ada&documents=/todo&soft=/online&topic=/bell    the same, and then what happens
//! ```
//!
//! Events of a stream, over Server-Sent Events or a WebSocket:
//!
//! | event | what it says |
//! |---|---|
//! | `state` | what `read` answers; it begins the stream, and comes again where something was missed |
//! | `change` | one of the results anew |
//! | `entry` | one document under a prefix, or one entry of soft state |
//! | `signal` | a signal of a topic |
//! | `problem` | why the stream ends |
//!
//! **What is watched is watched before it is read**, so nothing falls between the two; what is read twice alike is told once.
//!
//! **Coming back.** A `feed` keeps what it has told for a while, also when nobody reads: an event's id names the feed and its
//! number, and who comes back with it in `Last-Event-ID` gets what came since, signals included. Where that is not to be had any
//! more (another peer, a restart, too long away, too much missed), a new feed begins with `state`, which says all but the signals
//! that were missed. So a reader that takes `state` for the truth is never wrong.
//!
//! **A reader that is too slow** finds that what it should hear next is not kept any more. It is told so (`problem`, `too_slow`),
//! and dropped; it may come back.

mod feed;
mod source;
mod wish;

use axum::Json;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt as _, stream};

pub(super) use self::feed::Feeds;
use self::feed::Reader;
use self::wish::{Course, Wishes};
pub(super) use self::wish::{KINDS, MAX_OF_KIND};
use super::Api;
use super::ask::{BOOKMARK, text};
use super::event::{Told, for_at_most, sse};
use super::hold::HEARTBEAT;
use super::pass::Pass;
use super::problem::Problem;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// How long a message may take to be taken by a WebSocket.
const STALL: std::time::Duration = std::time::Duration::from_secs(30);

/// Bytes of a WebSocket's messages: it has nothing to say.
const MAX_MESSAGE: usize = 4 << 10;

pub(super) async fn read(
    State(api): State<Api>,
    pass: Pass,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (wishes, course) = Wishes::parse(query.as_deref().unwrap_or_default())?;
    if course != Course::default() {
        return Err(Problem::invalid("last_event_id, for_ms: these are for streams"));
    }
    let wishes = wishes.allowed(&api, &pass).await?;
    let state = source::state(&api, &wishes, text(&headers, &BOOKMARK)?).await?;
    let bookmark = state.bookmark.clone();
    let mut response = Json(state).into_response();
    if let Ok(bookmark) = HeaderValue::from_str(&bookmark) {
        response.headers_mut().insert(BOOKMARK, bookmark);
    }
    Ok(response)
}

pub(super) async fn live(
    State(api): State<Api>,
    pass: Pass,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    socket: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let (wishes, course) = Wishes::parse(query.as_deref().unwrap_or_default())?;
    let wishes = wishes.allowed(&api, &pass).await?;
    let resume = match text(&headers, &LAST_EVENT_ID)? {
        Some(id) => Some(id.to_owned()),
        None => course.resume,
    };
    let bookmark = text(&headers, &BOOKMARK)?.map(str::to_owned);
    let place = api.stream_place()?;
    let reader = match resume.as_deref().and_then(|id| api.feeds.rejoin(id, &pass, &wishes)) {
        Some(reader) => reader,
        None => api.feeds.begin(&api, &pass, wishes, bookmark).await?,
    };
    let events = for_at_most(course.for_ms, events(api, pass, reader, place));
    match socket {
        Ok(socket) => {
            let socket = socket.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE);
            Ok(socket.on_upgrade(|socket| speak(socket, events)))
        }
        Err(_) if headers.contains_key("upgrade") => Err(Problem::new(
            StatusCode::UPGRADE_REQUIRED,
            "upgrade_required",
            "what is upgraded to here is a WebSocket of version 13",
        )),
        Err(_) => Ok(sse(events)),
    }
}

/// What a reader is told, until its feed ends or its token does.
fn events(
    api: Api,
    pass: Pass,
    reader: Reader,
    place: tokio::sync::OwnedSemaphorePermit,
) -> impl Stream<Item = Told> + Send + 'static {
    let recheck = tokio::time::interval_at(tokio::time::Instant::now() + super::RECHECK, super::RECHECK);
    stream::unfold(Some((api, pass, reader, place, recheck)), |state| async move {
        let (api, pass, mut reader, place, mut recheck) = state?;
        loop {
            tokio::select! {
                told = reader.next() => return match told {
                    Ok(told) => Some((told, Some((api, pass, reader, place, recheck)))),
                    Err(problem) => Some((Told::problem(&problem), None)),
                },
                _ = recheck.tick() => if let Err(problem) = api.recheck(&pass) {
                    return Some((Told::problem(&problem), None));
                },
            }
        }
    })
}

/// Tells a WebSocket. What it says is not listened to, but its end is.
async fn speak(socket: WebSocket, events: impl Stream<Item = Told>) {
    let (mut to, mut from) = socket.split();
    let mut events = std::pin::pin!(events);
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    loop {
        let message = tokio::select! {
            told = events.next() => match told {
                Some(told) => Message::Text(told.message().into()),
                None => break,
            },
            _ = heartbeat.tick() => Message::Ping(Vec::new().into()),
            said = from.next() => match said {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
        };
        let sent = tokio::time::timeout(STALL, futures::SinkExt::send(&mut to, message)).await;
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
    // 1000: all was said; what was wrong has been told as an event.
    let close = Message::Close(Some(CloseFrame { code: 1000, reason: "".into() }));
    let _ = tokio::time::timeout(STALL, futures::SinkExt::send(&mut to, close)).await;
}
