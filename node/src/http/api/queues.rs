//! Queues of work: items are put, claimed for a while, and acknowledged or given back.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use foreshore::coord::queue::{MAX_ATTEMPTS, MAX_VISIBILITY_MS};
use serde::Deserialize;

use super::Api;
use super::ask::{At, Body, Bytes, Params, whole};
use super::documents::SpaceParams;
use super::pass::{Pass, Want};
use super::problem::Problem;
use crate::request::{Blob, Claimed, QueueLine, Queued, Request};

/// How long a claim lasts where it is not said.
const DEFAULT_VISIBILITY_MS: u64 = 30_000;

/// How often an item is handed out before it is put aside, where it is not said.
const DEFAULT_ATTEMPTS: u32 = 5;

/// Numbers of items and tokens are below 2⁵³, so that JavaScript can hold them.
pub(super) const MAX_NUMBER: u64 = (1 << 53) - 1;

/// An item that is to be done.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PutBody {
    body: Bytes,
    #[serde(default, deserialize_with = "whole")]
    attempts: Option<u32>,
}

pub(super) async fn put(
    State(api): State<Api>,
    pass: Pass,
    At(path): At,
    Params(params): Params<SpaceParams>,
    Body(put): Body<PutBody>,
) -> Result<Response, Problem> {
    pass.check(Want::Write, &path)?;
    let (body, attempts) = (Blob::try_from(put.body)?, put.attempts.unwrap_or(DEFAULT_ATTEMPTS));
    if !(1..=MAX_ATTEMPTS).contains(&attempts) {
        return Err(Problem::invalid(format_args!("attempts: it is 1 to {MAX_ATTEMPTS}")));
    }
    let space = pass.space(&api, params.space).await?;
    let queued: Queued = api.one(Request::QueuePut { space, path, body, attempts }).await?;
    Ok((StatusCode::CREATED, Json(queued)).into_response())
}

pub(super) async fn state(
    State(api): State<Api>,
    pass: Pass,
    At(path): At,
    Params(params): Params<SpaceParams>,
) -> Result<Response, Problem> {
    pass.check(Want::Read, &path)?;
    let space = pass.space(&api, params.space).await?;
    let queue: QueueLine = api.one(Request::QueueState { space, path }).await?;
    Ok(Json(queue).into_response())
}

/// How long it is claimed for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClaimBody {
    #[serde(default, deserialize_with = "whole")]
    visibility_ms: Option<u64>,
}

pub(super) async fn claim(
    State(api): State<Api>,
    pass: Pass,
    At(path): At,
    Params(params): Params<SpaceParams>,
    Body(body): Body<ClaimBody>,
) -> Result<Response, Problem> {
    pass.check(Want::Write, &path)?;
    let visibility_millis = body.visibility_ms.unwrap_or(DEFAULT_VISIBILITY_MS);
    if !(1..=MAX_VISIBILITY_MS).contains(&visibility_millis) {
        return Err(Problem::invalid(format_args!("visibility_ms: it is 1 to {MAX_VISIBILITY_MS}")));
    }
    let space = pass.space(&api, params.space).await?;
    let claimed: Claimed = api.one(Request::QueueClaim { space, path, visibility_millis }).await?;
    Ok(Json(claimed).into_response())
}

/// Which claim, and what became of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SettleParams {
    space: Option<String>,
    item: u64,
    token: u64,
    /// `false`: it is given back.
    #[serde(default = "done")]
    done: bool,
}

fn done() -> bool {
    true
}

pub(super) async fn settle(
    State(api): State<Api>,
    pass: Pass,
    At(path): At,
    Params(params): Params<SettleParams>,
) -> Result<Response, Problem> {
    pass.check(Want::Write, &path)?;
    let space = pass.space(&api, params.space).await?;
    let SettleParams { item, token, done, .. } = params;
    if item.max(token) > MAX_NUMBER {
        return Err(Problem::invalid(format_args!("item, token: they are at most {MAX_NUMBER}")));
    }
    let settled: Queued = api.one(Request::QueueSettle { space, path, item, token, done }).await?;
    Ok(Json(settled).into_response())
}
