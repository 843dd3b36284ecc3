//! The HTTP port: `/healthz`, `/readyz`, `/metrics` (Prometheus) and `/status` (JSON), on loopback unless told otherwise.
//!
//! A port on loopback is reachable from every page that a browser on this machine shows. So a request is answered only
//! if its `Host` is an IP address, `localhost` or a configured name (a page that points its own name at 127.0.0.1 has
//! none of these), and, where a browser adds an `Origin`, only if that is the port's own.
//!
//! Nothing here changes anything, but for `well_known`, which lets pages of this machine in. At most [`MAX_REQUESTS`] are answered at once, the rest are told to come back.
//!
//! `/` is the demo, where the binary was built with it, and otherwise a page that says how to get it (`site`).

mod guard;
mod metrics;
mod site;
mod well_known;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, body::Body};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub use self::guard::is_local;
pub use self::site::{STAGE, has_demo};
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

#[derive(Clone)]
struct Port<F> {
    figures: F,
    hosts: Arc<[String]>,
    room: Arc<Semaphore>,
}

/// Serves until `stop` resolves. `stage`: what the demo's own program has at [`STAGE`], behind the same checks.
pub async fn serve(
    listener: TcpListener,
    figures: impl Figures + Doors,
    hosts: Vec<String>,
    stage: Option<Router>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let service = router(figures, hosts, stage).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(stop).await
}

fn router<F: Figures + Doors>(figures: F, hosts: Vec<String>, stage: Option<Router>) -> Router {
    let port = Port { figures, hosts: hosts.into(), room: Arc::new(Semaphore::new(MAX_REQUESTS)) };
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready::<F>))
        .route("/metrics", get(scrape::<F>))
        .route("/status", get(status::<F>))
        .route("/.well-known/foreshore", get(well_known::tell::<F>).post(well_known::admit::<F>))
        .merge(site::router())
        .with_state(port.clone())
        .merge(stage.unwrap_or_else(|| Router::new().route(STAGE, get(site::no_stage))))
        .layer(middleware::from_fn_with_state(port.clone(), admit::<F>))
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
