//! The HTTP door: JSON at `/v1` for programs that are no peers, beside what the HTTP port has for operators and browsers.
//!
//! | room | what it holds |
//! |---|---|
//! | `documents`, `transient`, `tree`, `locks`, `queues` | what each kind of state answers |
//! | `hold` | what is held by a request, for as long as its answer lasts |
//! | `live` | several paths of different kinds in one answer, and kept up to date on one stream |
//! | `ask`, `problem`, `event` | parts of requests, refusals, events |
//! | `pass` | who may do what |
//! | `openapi`, `docs` | the description, and the page that shows it |
//!
//! Requests are carried out by the [`Service`] that serves commands; nothing here knows how a document is read. Every path of
//! state stands at the end of a URL as it is, `/v1/documents/lists/food`, so an address has nothing to be escaped but what URLs
//! themselves ask for.
//!
//! Bounds: [`MAX_BODY_BYTES`] a body, [`MAX_REQUESTS`](super::MAX_REQUESTS) answered at once, [`MAX_STREAMS`] streams at once,
//! half a minute for a request to arrive and be answered, streams and waits for locks excepted; and what `live` bounds.

mod ask;
mod documents;
mod event;
mod hold;
mod live;
mod locks;
mod openapi;
mod pass;
mod problem;
mod queues;
mod transient;
mod tree;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request as HttpRequest, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodRouter, any, get, post};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tower_http::cors::{AllowOrigin, CorsLayer};

pub(crate) use self::pass::Pass;
use self::pass::{bearer, unauthorized};
use self::problem::Problem;
use super::guard::{self, Stranger, is_local};
use super::token::Token;
use crate::control::{Handler, QUEUE};
use crate::failure::{Code, Failure};
use crate::request::Request;
use crate::service::Service;

/// Largest body in bytes. What is being read of all bodies at once is so many times [`MAX_REQUESTS`](super::MAX_REQUESTS).
pub const MAX_BODY_BYTES: usize = 4 << 20;

/// Streams at once: live reads, and what is held. Half of the connections that there are by default, so that health and metrics
/// are still to be had.
pub const MAX_STREAMS: usize = 128;

/// Most items of one answer.
const MAX_LIST: usize = 1000;

/// Most bytes of one answer of several items.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Longest wait of a read for what its bookmark stands for.
const MAX_WAIT_MS: u64 = 20_000;

/// How long a request may take: longer than the strong path waits for a majority, and than [`MAX_WAIT_MS`].
const TIMEOUT: Duration = Duration::from_secs(30);

/// Between two looks whether a token still opens a stream.
const RECHECK: Duration = Duration::from_secs(5);

/// Who is served without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Whoever asks from this machine itself.
    Local,
    /// Nobody.
    Token,
}

/// How the door is open.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who is served without a token.
    pub admission: Admission,
    /// Host names that the port answers to, besides IP addresses and `localhost`.
    pub hosts: Vec<String>,
    /// What opens everything from anywhere.
    pub token: Option<Token>,
    /// Origins whose pages may ask, each with a token. `*`: every one.
    pub origins: Vec<String>,
}

/// What every handler works with.
#[derive(Clone)]
pub(super) struct Api {
    service: Service,
    settings: Arc<Settings>,
    requests: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    feeds: live::Feeds,
}

/// Routes that answer at once.
fn short() -> Vec<(&'static str, MethodRouter<Api>)> {
    vec![
        ("/v1/documents", get(documents::list)),
        (
            "/v1/documents/{*path}",
            get(documents::read).put(documents::put).patch(documents::patch).delete(documents::delete),
        ),
        ("/v1/history/{*path}", get(documents::history)),
        ("/v1/soft", get(transient::list)),
        ("/v1/soft/{*path}", get(transient::read).put(transient::set).delete(transient::delete)),
        ("/v1/topics/{*path}", post(transient::publish)),
        ("/v1/tree/{*path}", get(tree::read).put(tree::set).post(tree::create).delete(tree::delete)),
        ("/v1/children", get(tree::children_of_root)),
        ("/v1/children/{*path}", get(tree::children)),
        ("/v1/queues/{*path}", get(queues::state).post(queues::put)),
        ("/v1/claims/{*path}", post(queues::claim).delete(queues::settle)),
        ("/v1/read", get(live::read)),
    ]
}

/// Routes whose answers last, or wait for long.
fn long() -> Vec<(&'static str, MethodRouter<Api>)> {
    vec![
        ("/v1/locks/{*path}", get(locks::holders).post(locks::lock)),
        ("/v1/elections/{*path}", get(locks::leader).post(locks::campaign)),
        ("/v1/ephemeral/{*path}", post(tree::ephemeral)),
        ("/v1/live", get(live::live)),
    ]
}

/// The door's routes, behind its gate.
pub fn router(service: Service, settings: Settings) -> Router {
    let requests = Arc::new(Semaphore::new(super::MAX_REQUESTS));
    let streams = Arc::new(Semaphore::new(MAX_STREAMS));
    let cors = cors(&settings.origins);
    let settings = Arc::new(settings);
    let api = Api { service, settings, requests, streams, feeds: live::Feeds::default() };
    let routes = |routes: Vec<(&'static str, MethodRouter<Api>)>| {
        routes.into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods))
    };
    let short = routes(short()).route_layer(middleware::from_fn_with_state(api.clone(), in_time));
    let behind_gate = Router::new()
        .merge(short)
        .merge(routes(long()))
        .route("/v1", get(openapi::entrance))
        .route("/v1/{*path}", any(nothing))
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this is not done here")
        })
        .layer(middleware::from_fn_with_state(api.clone(), gate))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES));
    let router = behind_gate.merge(openapi::router()).with_state(api);
    match cors {
        Some(cors) => router.layer(cors),
        None => router,
    }
}

async fn nothing() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no_route", "there is nothing at this address")
        .hint("see /docs for what there is")
}

fn cors(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let allowed = match origins.iter().any(|origin| origin == "*") {
        true => AllowOrigin::any(),
        false => AllowOrigin::list(origins.iter().filter_map(|origin| origin.parse().ok())),
    };
    let last_event_id = HeaderName::from_static("last-event-id");
    Some(
        CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods([Method::GET, Method::PUT, Method::PATCH, Method::POST, Method::DELETE])
            .allow_headers([
                header::AUTHORIZATION,
                header::CONTENT_TYPE,
                header::IF_MATCH,
                header::IF_NONE_MATCH,
                ask::BOOKMARK,
                last_event_id,
            ])
            .expose_headers([header::ETAG, ask::BOOKMARK])
            .max_age(Duration::from_secs(600)),
    )
}

/// Lets a request by with a [`Pass`], or says why not.
async fn gate(
    State(api): State<Api>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    mut request: HttpRequest<Body>,
    next: Next,
) -> Result<Response, Problem> {
    let pass = api.admit(&from, &request)?;
    request.extensions_mut().insert(pass);
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// A place among those that are answered, and a bound to how long that takes.
async fn in_time(State(api): State<Api>, request: HttpRequest<Body>, next: Next) -> Result<Response, Problem> {
    let Ok(_place) = api.requests.try_acquire() else {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "too many requests are being answered"));
    };
    tokio::time::timeout(TIMEOUT, next.run(request)).await.map_err(|_| {
        let detail = "the request was not answered in time, or did not arrive in time";
        Problem::new(StatusCode::GATEWAY_TIMEOUT, "timeout", detail).hint("what it asked for may have been done: look")
    })
}

impl Settings {
    /// What a request may do that says so by `token`.
    fn admit(
        &self,
        service: &Service,
        from: SocketAddr,
        headers: &HeaderMap,
        token: Option<&str>,
        own_pages: impl Fn(&str) -> bool,
    ) -> Result<Pass, Problem> {
        let forbidden = |why: String| Problem::new(StatusCode::FORBIDDEN, "forbidden_origin", why);
        let host = guard::host(headers, &self.hosts).map_err(forbidden)?;
        let foreign = match guard::origin(headers, host) {
            Ok(()) => false,
            Err(Stranger { origin: Some(origin), .. }) if own_pages(&origin) => false,
            // A page elsewhere has no part in what this machine is trusted with: it brings a token.
            Err(Stranger { origin: Some(origin), .. }) if self.is_allowed(&origin) => true,
            Err(Stranger { why, .. }) => {
                return Err(forbidden(why).hint("`http_cors` names the origins whose pages may ask"));
            }
        };
        match token {
            Some(token) if self.token.is_some_and(|own| own.is(token)) => Ok(Pass::All),
            Some(token) => match service.token(token)? {
                Some(grant) => Ok(Pass::Grant(grant)),
                None => Err(unauthorized("this token opens nothing: it is no token of this peer, expired or revoked")),
            },
            None if self.admission == Admission::Local && !foreign && is_local(from.ip(), headers) => Ok(Pass::All),
            None => Err(unauthorized("this takes a token")),
        }
    }

    /// What the client of a WebSocket may do, which in a browser can set no header: its token comes in the address. Pages that
    /// this machine itself serves count as programs of this machine.
    pub(crate) fn admit_socket(
        &self,
        service: &Service,
        from: SocketAddr,
        headers: &HeaderMap,
        token: Option<&str>,
    ) -> Result<Pass, Problem> {
        let token = match token {
            Some(token) => Some(token),
            None => bearer(headers)?,
        };
        self.admit(service, from, headers, token, |origin| is_local(from.ip(), headers) && guard::is_loopback(origin))
    }

    fn is_allowed(&self, origin: &str) -> bool {
        self.origins.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin))
    }
}

impl Api {
    /// What a request may do.
    fn admit(&self, from: &SocketAddr, request: &HttpRequest<Body>) -> Result<Pass, Problem> {
        let headers = request.headers();
        let pass = self.settings.admit(&self.service, *from, headers, bearer(headers)?, |_| false)?;
        // A picture or script tag of any page asks without an origin; browsers say so themselves.
        let site = headers.get("sec-fetch-site").and_then(|site| site.to_str().ok());
        let named = headers.contains_key(header::ORIGIN);
        if !named && site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
            return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden_origin", "a page of another origin asks"));
        }
        Ok(pass)
    }

    /// Whether a pass is still good.
    fn recheck(&self, pass: &Pass) -> Result<(), Problem> {
        let Pass::Grant(grant) = pass else { return Ok(()) };
        match self.service.token_grant(grant.hash)? {
            Some(now) if now == *grant => Ok(()),
            _ => Err(unauthorized("the token has expired or was revoked")),
        }
    }

    /// A place among the streams.
    fn stream_place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.streams.clone().try_acquire_owned().map_err(|_| {
            let detail = format_args!("{MAX_STREAMS} streams are open");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail)
        })
    }

    /// Carries out a request that has one answer.
    async fn one<T: DeserializeOwned>(&self, request: Request) -> Result<T, Problem> {
        let (items, _) = mpsc::channel(1);
        let (_, pages) = mpsc::channel(1);
        let answer = self.service.call(request, pages, items).await?;
        read(answer)
    }

    /// Carries out a request with items, and its last word.
    async fn items<I: DeserializeOwned, T: DeserializeOwned>(&self, request: Request) -> Result<(Vec<I>, T), Problem> {
        let (queue, mut items) = mpsc::channel::<Json>(QUEUE);
        let (_, pages) = mpsc::channel(1);
        let call = self.service.call(request, pages, queue);
        let gather = async move {
            let (mut found, mut bytes) = (Vec::new(), 0);
            while let Some(item) = items.recv().await {
                bytes += item.to_string().len();
                if bytes > MAX_ANSWER_BYTES {
                    return Err(too_much(MAX_ANSWER_BYTES));
                }
                found.push(read(item)?);
            }
            Ok(found)
        };
        // Whoever has had enough drops the items, and the call ends by that.
        let (answer, found) = tokio::join!(call, gather);
        let found = found?;
        Ok((found, read(answer?)?))
    }
}

fn too_much(most: usize) -> Problem {
    let detail = format_args!("the answer has more than {most} bytes");
    Problem::invalid(detail).hint("ask for less: a longer prefix, a smaller limit")
}

fn read<T: DeserializeOwned>(answer: Json) -> Result<T, Problem> {
    serde_json::from_value(answer).map_err(|error| Failure::new(Code::Failed, error).into())
}

#[cfg(test)]
mod tests;
