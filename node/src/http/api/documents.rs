//! Documents: read with the entity tag of their heads, written whole, patched, deleted; lists in pages; histories.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ask::{At, BOOKMARK, Content, Kind, Params, etag, is_known, precondition, text};
use super::pass::{Pass, Want};
use super::problem::Problem;
use super::{Api, MAX_LIST, MAX_WAIT_MS};
use crate::request::{Document, Listed, Page, Request, Revision, Written};
use crate::service::Edit;

/// How long a read waits for what its bookmark stands for, where it does not say.
const DEFAULT_WAIT_MS: u64 = 10_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    space: Option<String>,
    prefix: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

/// One page.
#[derive(Debug, Serialize)]
struct Listing {
    items: Vec<Listed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// How many at once: 1 to [`MAX_LIST`].
fn limit(asked: Option<usize>) -> Result<usize, Problem> {
    match asked.unwrap_or(100) {
        limit @ 1..=MAX_LIST => Ok(limit),
        _ => Err(Problem::invalid(format_args!("limit: it is 1 to {MAX_LIST}"))),
    }
}

pub(super) async fn list(
    State(api): State<Api>,
    pass: Pass,
    Params(params): Params<ListParams>,
) -> Result<Response, Problem> {
    let prefix = params.prefix.unwrap_or_else(|| "/".into());
    let limit = limit(params.limit)?;
    pass.check(Want::Read, &prefix)?;
    let space = pass.space(&api, params.space).await?;
    let request = Request::List { space, prefix, after: params.after, limit };
    let (items, page): (Vec<Listed>, Page) = api.items(request).await?;
    Ok(Json(Listing { items, next: page.next }).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadParams {
    space: Option<String>,
    at: Option<String>,
    #[serde(default)]
    tagged: bool,
    heads: Option<String>,
    wait_ms: Option<u64>,
}

pub(super) async fn read(
    State(api): State<Api>,
    pass: Pass,
    At(path): At,
    Params(params): Params<ReadParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    pass.check(Want::Read, &path)?;
    let space = pass.space(&api, params.space).await?;
    let at_least = text(&headers, &BOOKMARK)?;
    let wait = params.wait_ms.unwrap_or(DEFAULT_WAIT_MS);
    if wait > MAX_WAIT_MS {
        return Err(Problem::invalid(format_args!("wait_ms: it is at most {MAX_WAIT_MS}")));
    }
    let at = params.at.unwrap_or_default();
    let found = match params.heads {
        None => {
            let service = &api.service;
            let wait = Duration::from_millis(wait);
            service.get(&space, &path, &at, params.tagged, at_least, wait).await?
        }
        Some(heads) => {
            let heads: Vec<String> = heads.split('.').map(str::to_owned).collect();
            api.service.value_at(&space, &path, &heads, (&at, params.tagged)).await?
        }
    };
    let tag = etag(&found.heads);
    if is_known(&headers, &tag)? {
        return Ok(with_session(StatusCode::NOT_MODIFIED.into_response(), Some(tag), &found.bookmark));
    }
    let Document { value, bookmark, .. } = found;
    Ok(with_session(Json(value).into_response(), Some(tag), &bookmark))
}

/// Adds the entity tag and the bookmark, by which a session goes on anywhere.
fn with_session(mut response: Response, tag: Option<HeaderValue>, bookmark: &str) -> Response {
    let headers = response.headers_mut();
    if let Some(tag) = tag {
        headers.insert(header::ETAG, tag);
    }
    if let Ok(bookmark) = HeaderValue::from_str(bookmark) {
        headers.insert(BOOKMARK, bookmark);
    }
    response
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SpaceParams {
    pub(super) space: Option<String>,
}

pub(super) async fn put(
    State(api): State<Api>,
    pass: Pass,
    At(path): At,
    Params(params): Params<SpaceParams>,
    headers: HeaderMap,
    content: Content,
) -> Result<Response, Problem> {
    if content.kind != Kind::Json {
        return Err(super::ask::unsupported("a document is put as application/json"));
    }
    let value: Value = content.parse()?;
    if !value.is_object() {
        return Err(Problem::invalid("body: a document is a JSON object"));
    }
    write(&api, &pass, &path, params, &headers, Edit::Value(value)).await
}

pub(super) async fn patch(
    State(api): State<Api>,
    pass: Pass,
    At(path): At,
    Params(params): Params<SpaceParams>,
    headers: HeaderMap,
    content: Content,
) -> Result<Response, Problem> {
    let edit = match content.kind {
        Kind::JsonPatch => Edit::Patch(content.parse()?),
        Kind::MergePatch => {
            let patch: Value = content.parse()?;
            if !patch.is_object() {
                return Err(Problem::invalid("body: a merge patch of a document is a JSON object"));
            }
            Edit::Merge(patch)
        }
        Kind::Json => return Err(super::ask::unsupported("what kind of patch this is has to be said")),
    };
    write(&api, &pass, &path, params, &headers, edit).await
}

async fn write(
    api: &Api,
    pass: &Pass,
    path: &str,
    params: SpaceParams,
    headers: &HeaderMap,
    edit: Edit,
) -> Result<Response, Problem> {
    pass.check(Want::Write, path)?;
    let only = precondition(headers)?;
    let space = pass.space(api, params.space).await?;
    let after = text(headers, &BOOKMARK)?;
    let (written, created) = api.service.edit(&space, path, &edit, &only, after).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let Written { heads, bookmark, .. } = &written;
    let (tag, bookmark) = (etag(heads), bookmark.clone());
    Ok(with_session((status, Json(written)).into_response(), Some(tag), &bookmark))
}

pub(super) async fn delete(
    State(api): State<Api>,
    pass: Pass,
    At(path): At,
    Params(params): Params<SpaceParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    pass.check(Want::Write, &path)?;
    let only = precondition(&headers)?;
    let space = pass.space(&api, params.space).await?;
    let removed = api.service.delete_if(&space, &path, &only, text(&headers, &BOOKMARK)?).await?;
    if !removed.deleted {
        return Err(Problem::new(StatusCode::NOT_FOUND, "not_found", format_args!("no document at {path}")));
    }
    let bookmark = removed.bookmark.clone();
    Ok(with_session(Json(removed).into_response(), None, &bookmark))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryParams {
    space: Option<String>,
    limit: Option<usize>,
}

/// Changes, newest first.
#[derive(Debug, Serialize)]
struct History {
    items: Vec<Revision>,
}

pub(super) async fn history(
    State(api): State<Api>,
    pass: Pass,
    At(path): At,
    Params(params): Params<HistoryParams>,
) -> Result<Response, Problem> {
    let limit = limit(params.limit)?;
    pass.check(Want::Read, &path)?;
    let space = pass.space(&api, params.space).await?;
    let (items, ()) = api.items(Request::History { space, path, limit }).await?;
    Ok(Json(History { items }).into_response())
}
