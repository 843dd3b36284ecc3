//! `/.well-known/foreshore`: how a page that is served here, or through a proxy that passes this path on, finds its space.
//!
//! `GET` tells `{space, peers}`: the space's id and WebSocket addresses of this peer, and `relay: true` if it relays. `POST {device}` adds `grant`, an
//! invitation with which that device becomes a writer; only a request from this machine itself gets one, or one that carries
//! the port's token. So a page joins
//! with no ceremony where whoever opens it could as well have read the store's files, and nowhere else.
//!
//! A request is from this machine if its socket is, its `Host` names this machine, and no proxy says that it came from
//! further away. `Origin` and `Host` have been checked against each other before it gets here; the content type makes a
//! browser ask first for any page of another origin.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::{Figures, Port};
use crate::failure::Failure;

/// How long a grant can be taken up. A page does so at once; this leaves room for a machine that sleeps meanwhile.
pub const GRANT_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// What a page needs to join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Door {
    /// The space's id.
    pub space: String,
    /// Where a browser reaches this peer.
    pub peers: Vec<String>,
    /// Whether it relays between browsers, which nobody can dial.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub relay: bool,
    /// An invitation, where one is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
}

/// Who lets pages in.
pub trait Doors: Clone + Send + Sync + 'static {
    /// The space and the way to it; with `grant`, also an invitation to it.
    fn door(&self, grant: bool) -> impl Future<Output = Result<Door, Failure>> + Send;
}

/// Who asks for a grant.
#[derive(Debug, Deserialize)]
pub(super) struct Newcomer {
    device: String,
}

/// Answers `GET`.
pub(super) async fn tell<F: Figures + Doors>(State(port): State<Port<F>>) -> Response {
    answer(port.figures.door(false).await)
}

/// Answers `POST`.
pub(super) async fn admit<F: Figures + Doors>(
    State(port): State<Port<F>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    newcomer: Result<Json<Newcomer>, JsonRejection>,
) -> Response {
    let device = match newcomer {
        Ok(Json(newcomer)) => newcomer.device,
        Err(rejection) => return rejection.into_response(),
    };
    if device.len() != 64 || !device.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return (StatusCode::BAD_REQUEST, "a device is named by its key, 64 hexadecimal digits\n").into_response();
    }
    if !port.trusts(&from, &headers) {
        let why = "grants are given on the machine itself, or against its token; ask for an invitation\n";
        return (StatusCode::FORBIDDEN, why).into_response();
    }
    tracing::info!(%device, "a page is let in");
    answer(port.figures.door(true).await)
}

fn answer(door: Result<Door, Failure>) -> Response {
    match door {
        Ok(door) => Json(door).into_response(),
        Err(failure) => super::unavailable(&failure.message),
    }
}
