//! Soft state and topics: what is alive, and what is heard.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::Api;
use super::ask::{AnyBody, At, Params};
use super::documents::SpaceParams;
use super::pass::{Pass, Want};
use super::problem::Problem;
use crate::request::{Published, Request, SoftLine, SoftRemoved, SoftSet};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PrefixParams {
    space: Option<String>,
    prefix: Option<String>,
}

/// Entries of every owner.
#[derive(Debug, Serialize)]
struct Entries {
    items: Vec<SoftLine>,
}

pub(super) async fn list(
    State(api): State<Api>,
    pass: Pass,
    Params(params): Params<PrefixParams>,
) -> Result<Response, Problem> {
    let prefix = params.prefix.unwrap_or_else(|| "/".into());
    pass.check(Want::Read, &prefix)?;
    let space = pass.space(&api, params.space).await?;
    let (items, ()) = api.items(Request::SoftList { space, prefix }).await?;
    Ok(Json(Entries { items }).into_response())
}

pub(super) async fn read(
    State(api): State<Api>,
    pass: Pass,
    At(path): At,
    Params(params): Params<SpaceParams>,
) -> Result<Response, Problem> {
    pass.check(Want::Read, &path)?;
    let space = pass.space(&api, params.space).await?;
    let (items, ()) = api.items(Request::SoftGet { space, path }).await?;
    Ok(Json(Entries { items }).into_response())
}

pub(super) async fn set(
    State(api): State<Api>,
    pass: Pass,
    At(path): At,
    Params(params): Params<SpaceParams>,
    AnyBody(value): AnyBody,
) -> Result<Response, Problem> {
    pass.check(Want::Write, &path)?;
    let space = pass.space(&api, params.space).await?;
    let set: SoftSet = api.one(Request::SoftSet { space, path, value }).await?;
    Ok(Json(set).into_response())
}

pub(super) async fn delete(
    State(api): State<Api>,
    pass: Pass,
    At(path): At,
    Params(params): Params<SpaceParams>,
) -> Result<Response, Problem> {
    pass.check(Want::Write, &path)?;
    let space = pass.space(&api, params.space).await?;
    let removed: SoftRemoved = api.one(Request::SoftDelete { space, path }).await?;
    match removed.deleted {
        true => Ok(Json(removed).into_response()),
        false => {
            let detail = format_args!("this peer has no entry at {}", removed.path);
            Err(Problem::new(StatusCode::NOT_FOUND, "not_found", detail))
        }
    }
}

pub(super) async fn publish(
    State(api): State<Api>,
    pass: Pass,
    At(path): At,
    Params(params): Params<SpaceParams>,
    AnyBody(value): AnyBody,
) -> Result<Response, Problem> {
    pass.check(Want::Write, &path)?;
    let space = pass.space(&api, params.space).await?;
    let published: Published = api.one(Request::Publish { space, path, value }).await?;
    Ok((StatusCode::ACCEPTED, Json(published)).into_response())
}
