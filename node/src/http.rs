//! The HTTP port: `/healthz`, `/readyz`, `/metrics` (Prometheus) and `/status` (JSON), on loopback unless told otherwise.
//!
//! A port on loopback is reachable from every page that a browser on this machine shows. So a request is answered only
//! if its `Host` is an IP address, `localhost` or a configured name (a page that points its own name at 127.0.0.1 has
//! none of these), and, where a browser adds an `Origin`, only if that is the port's own.
//!
//! What tells of documents, peers and the machine (`/metrics`, `/status`, a grant) is for this machine; from anywhere else it
//! takes a token (`http_token_file`), and without one configured it is not to be had. Health, readiness, the page and where
//! its space is are for whoever reaches the port. Metrics may have a port of their own, under the same rules.
//!
//! Nothing here changes anything, but for `well_known`, which lets pages of this machine in, and the [door](api), where it is
//! open. At most [`MAX_REQUESTS`] are answered at once, the rest are told to come back; `serve` bounds connections.
//!
//! `/` is the demo, where the binary was built with it, and otherwise a page that says how to get it (`site`).

pub mod api;
mod guard;
mod metrics;
mod serve;
mod site;
mod token;
mod well_known;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, body::Body};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub use self::guard::is_local;
pub use self::serve::Limits;
pub use self::site::{STAGE, has_demo};
pub use self::token::Token;
pub use self::well_known::{Door, Doors, GRANT_LIFE};
use crate::failure::Failure;
use crate::request::Status;

/// Requests answered at once.
pub const MAX_REQUESTS: usize = 64;

/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where the figures come from.
pub trait Figures: Clone + Send + Sync + 'static {
    /// The peer's figures now.
    fn status(&self) -> impl Future<Output = Result<Status, Failure>> + Send;
}

/// Who may ask for what.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// How many may ask at once.
    pub limits: Limits,
    /// Host names that the port answers to, besides IP addresses and `localhost`.
    pub hosts: Vec<String>,
    /// What opens everything from anywhere; `None`: nothing but this machine does.
    pub token: Option<Token>,
    /// Whether metrics have a port of their own, and are not to be had at this one.
    pub metrics_elsewhere: bool,
}

#[derive(Clone)]
struct Port<F> {
    figures: F,
    hosts: Arc<[String]>,
    token: Option<Token>,
    room: Arc<Semaphore>,
}

/// What a port has besides its own.
#[derive(Debug, Default)]
pub struct More {
    /// What the demo's own program has at [`STAGE`], behind the port's checks.
    pub stage: Option<Router>,
    /// The [door](api), behind its own.
    pub api: Option<Router>,
}

/// Serves until `stop` resolves.
pub async fn serve(
    listener: TcpListener,
    figures: impl Figures + Doors,
    access: Access,
    more: More,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let limits = access.limits.clone();
    serve::serve(listener, router(figures, access, more), limits, stop).await
}

/// Serves `/metrics` alone until `stop` resolves.
pub async fn serve_metrics(
    listener: TcpListener,
    figures: impl Figures,
    access: Access,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let limits = access.limits.clone();
    let port = Port::new(figures, access);
    let router = guarded(port.clone(), metrics_route(&port).with_state(port));
    serve::serve(listener, router, limits, stop).await
}

/// Serves a router of a door's own port until `stop` resolves.
pub(crate) async fn serve_router(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    serve::serve(listener, router, limits, stop).await
}

impl<F: Figures> Port<F> {
    fn new(figures: F, access: Access) -> Self {
        let room = Arc::new(Semaphore::new(MAX_REQUESTS));
        Self { figures, hosts: access.hosts.into(), token: access.token, room }
    }

    /// Whether a request may see what is not for everybody.
    fn trusts(&self, from: &SocketAddr, headers: &HeaderMap) -> bool {
        is_local(from.ip(), headers) || self.token.is_some_and(|token| token.opens(headers))
    }
}

fn metrics_route<F: Figures>(port: &Port<F>) -> Router<Port<F>> {
    let private = middleware::from_fn_with_state(port.clone(), trusted::<F>);
    Router::new().route("/metrics", get(scrape::<F>)).route_layer(private)
}

/// Every request of a router is looked at first.
fn guarded<F: Figures>(port: Port<F>, router: Router) -> Router {
    router.layer(middleware::from_fn_with_state(port, admit::<F>))
}

/// Lets a request by that comes from this machine or carries the token.
async fn trusted<F: Figures>(
    State(port): State<Port<F>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    request: Request<Body>,
    next: Next,
) -> Response {
    if port.trusts(&from, request.headers()) { next.run(request).await } else { stranger(port.token.is_some()) }
}

/// The answer to who may not see it.
fn stranger(has_token: bool) -> Response {
    let why = match has_token {
        true => "this takes the token, as `Authorization: Bearer …`\n",
        false => "this is for the machine itself; with `http_token_file` set, for whoever has the token\n",
    };
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], why).into_response()
}

fn router<F: Figures + Doors>(figures: F, access: Access, more: More) -> Router {
    let metrics_elsewhere = access.metrics_elsewhere;
    let port = Port::new(figures, access);
    let private = middleware::from_fn_with_state(port.clone(), trusted::<F>);
    let status = Router::new().route("/status", get(status::<F>)).route_layer(private);
    let metrics = if metrics_elsewhere { Router::new() } else { metrics_route(&port) };
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready::<F>))
        .merge(metrics)
        .merge(status)
        .route("/.well-known/foreshore", get(well_known::tell::<F>).post(well_known::admit::<F>))
        .merge(site::router())
        .with_state(port.clone())
        .merge(more.stage.unwrap_or_else(|| Router::new().route(STAGE, get(site::no_stage))));
    let router = guarded(port, router);
    match more.api {
        Some(api) => router.merge(api),
        None => router,
    }
}

/// Lets a request in, or says why not.
async fn admit<F: Figures>(State(port): State<Port<F>>, request: Request<Body>, next: Next) -> Response {
    if let Err(why) = guard::check(request.headers(), &port.hosts) {
        return (StatusCode::FORBIDDEN, format!("{why}\n")).into_response();
    }
    let Ok(_permit) = port.room.try_acquire() else {
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], "busy\n").into_response();
    };
    match tokio::time::timeout(TIMEOUT, next.run(request)).await {
        Ok(mut response) => {
            let headers = response.headers_mut();
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
            headers.entry(header::CACHE_CONTROL).or_insert(header::HeaderValue::from_static("no-store"));
            response
        }
        Err(_) => (StatusCode::GATEWAY_TIMEOUT, "the peer did not answer in time\n").into_response(),
    }
}

/// Ready: the store is open, the driver answers, and writes succeed.
async fn ready<F: Figures>(State(port): State<Port<F>>) -> Response {
    match port.figures.status().await {
        Ok(Status { trouble: None, .. }) => "ready\n".into_response(),
        Ok(Status { trouble: Some(trouble), .. }) => unavailable(&trouble),
        Err(failure) => unavailable(&failure.message),
    }
}

async fn status<F: Figures>(State(port): State<Port<F>>) -> Response {
    match port.figures.status().await {
        Ok(status) => Json(status).into_response(),
        Err(failure) => unavailable(&failure.message),
    }
}

async fn scrape<F: Figures>(State(port): State<Port<F>>) -> Response {
    match port.figures.status().await {
        Ok(status) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text(&status)).into_response(),
        Err(failure) => unavailable(&failure.message),
    }
}

fn unavailable(why: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response()
}

#[cfg(test)]
mod tests;
