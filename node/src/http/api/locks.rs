//! Locks and elections. What is held is held by a request: its answer is a stream of events, the first one with the fencing
//! token, and when the stream ends, by whichever side, it is given back.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::Api;
use super::ask::{At, Body, Params, whole};
use super::documents::SpaceParams;
use super::hold::{self, Held, HoldParams};
use super::pass::{Pass, Want};
use super::problem::Problem;
use crate::request::{LeaderLine, LockLine, Request};

/// Longest wait for a lock or a leadership.
const MAX_WAIT_MS: u64 = 600_000;

/// Longest time to live of what is held.
const MAX_TTL_MS: u64 = 600_000;

/// Longest time that a lock stays taken after its holder was lost.
pub(super) const MAX_DELAY_MS: u64 = foreshore::coord::claim::MAX_DELAY_MS;

/// How long what is held outlives a peer that is not heard of, where it is not said.
const DEFAULT_TTL_MS: u64 = 10_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LockBody {
    #[serde(default)]
    shared: bool,
    #[serde(default, deserialize_with = "whole")]
    wait_ms: Option<u64>,
    #[serde(default, deserialize_with = "whole")]
    ttl_ms: Option<u64>,
    #[serde(default, deserialize_with = "whole")]
    delay_ms: Option<u64>,
}

fn at_most(what: &str, given: u64, most: u64) -> Result<u64, Problem> {
    if given <= most { Ok(given) } else { Err(Problem::invalid(format_args!("{what}: it is at most {most}"))) }
}

pub(super) async fn lock(
    State(api): State<Api>,
    pass: Pass,
    At(path): At,
    Params(params): Params<HoldParams>,
    Body(body): Body<LockBody>,
) -> Result<Response, Problem> {
    pass.check(Want::Write, &path)?;
    let wait_millis = Some(at_most("wait_ms", body.wait_ms.unwrap_or(0), MAX_WAIT_MS)?);
    let ttl_millis = at_most("ttl_ms", body.ttl_ms.unwrap_or(DEFAULT_TTL_MS), MAX_TTL_MS)?;
    let delay_millis = at_most("delay_ms", body.delay_ms.unwrap_or(0), MAX_DELAY_MS)?;
    let space = pass.space(&api, params.space).await?;
    let request = Request::Lock { space, path, shared: body.shared, wait_millis, ttl_millis, delay_millis };
    hold::start(&api, &pass, request, Held::Grant, params.for_ms).await
}

pub(super) async fn holders(
    State(api): State<Api>,
    pass: Pass,
    At(path): At,
    Params(params): Params<SpaceParams>,
) -> Result<Response, Problem> {
    pass.check(Want::Read, &path)?;
    let space = pass.space(&api, params.space).await?;
    let lock: LockLine = api.one(Request::LockHolders { space, path }).await?;
    Ok(Json(lock).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CampaignBody {
    #[serde(default)]
    value: String,
    #[serde(default, deserialize_with = "whole")]
    wait_ms: Option<u64>,
    #[serde(default, deserialize_with = "whole")]
    ttl_ms: Option<u64>,
}

pub(super) async fn campaign(
    State(api): State<Api>,
    pass: Pass,
    At(path): At,
    Params(params): Params<HoldParams>,
    Body(body): Body<CampaignBody>,
) -> Result<Response, Problem> {
    pass.check(Want::Write, &path)?;
    let wait_millis = Some(at_most("wait_ms", body.wait_ms.unwrap_or(0), MAX_WAIT_MS)?);
    let ttl_millis = at_most("ttl_ms", body.ttl_ms.unwrap_or(DEFAULT_TTL_MS), MAX_TTL_MS)?;
    let space = pass.space(&api, params.space).await?;
    let request = Request::Campaign { space, path, value: body.value, wait_millis, ttl_millis };
    hold::start(&api, &pass, request, Held::Grant, params.for_ms).await
}

pub(super) async fn leader(
    State(api): State<Api>,
    pass: Pass,
    At(path): At,
    Params(params): Params<SpaceParams>,
) -> Result<Response, Problem> {
    pass.check(Want::Read, &path)?;
    let space = pass.space(&api, params.space).await?;
    let leader: LeaderLine = api.service.leader(&space, &path).await?;
    Ok(Json(leader).into_response())
}
