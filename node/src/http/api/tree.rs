//! The strong tree: nodes by version, their children, and nodes that live as long as the request that made them.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::Api;
use super::ask::{At, Body, Bytes, Params, version, version_tag, whole};
use super::documents::SpaceParams;
use super::hold::{self, Held, HoldParams};
use super::pass::{Pass, Want};
use super::problem::Problem;
use crate::request::{Blob, NodeLife, NodeLine, Request};

/// Longest time to live of a node, as ZooKeeper has it.
const MAX_TTL_MS: u64 = foreshore::coord::stat::MAX_NODE_TTL_MS;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadParams {
    space: Option<String>,
    #[serde(default)]
    stale: bool,
}

pub(super) async fn read(
    State(api): State<Api>,
    pass: Pass,
    At(path): At,
    Params(params): Params<ReadParams>,
) -> Result<Response, Problem> {
    pass.check(Want::Read, &path)?;
    let space = pass.space(&api, params.space).await?;
    let node: NodeLine = api.one(Request::TreeGet { space, path, stale: params.stale }).await?;
    Ok(answer(StatusCode::OK, node))
}

/// A node, with its version as the entity tag.
fn answer(status: StatusCode, node: NodeLine) -> Response {
    let tag = node.stat.as_ref().map(|stat| version_tag(stat.version));
    let mut response = (status, Json(node)).into_response();
    if let Some(tag) = tag {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// New data of a node.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetBody {
    data: Bytes,
}

pub(super) async fn set(
    State(api): State<Api>,
    pass: Pass,
    At(path): At,
    Params(params): Params<SpaceParams>,
    headers: HeaderMap,
    Body(body): Body<SetBody>,
) -> Result<Response, Problem> {
    pass.check(Want::Write, &path)?;
    let (data, version) = (Blob::try_from(body.data)?, version(&headers)?);
    let space = pass.space(&api, params.space).await?;
    let node: NodeLine = api.one(Request::TreeSet { space, path, data, version }).await?;
    Ok(answer(StatusCode::OK, node))
}

/// A node that is to be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateBody {
    #[serde(default = "no_bytes")]
    data: Bytes,
    #[serde(default)]
    sequential: bool,
    #[serde(default)]
    container: bool,
    #[serde(default, deserialize_with = "whole")]
    ttl_ms: Option<u64>,
}

fn no_bytes() -> Bytes {
    Bytes::Text(String::new())
}

impl CreateBody {
    fn life(&self) -> Result<NodeLife, Problem> {
        match (self.container, self.ttl_ms) {
            (false, None) => Ok(NodeLife::Persistent),
            (true, None) => Ok(NodeLife::Container),
            (false, Some(ttl @ 1..=MAX_TTL_MS)) => Ok(NodeLife::TtlMillis(ttl)),
            (false, Some(_)) => Err(Problem::invalid(format_args!("ttl_ms: it is 1 to {MAX_TTL_MS}"))),
            (true, Some(_)) => Err(Problem::invalid("a node is a container or has a time to live, not both")),
        }
    }
}

pub(super) async fn create(
    State(api): State<Api>,
    pass: Pass,
    At(path): At,
    Params(params): Params<SpaceParams>,
    Body(body): Body<CreateBody>,
) -> Result<Response, Problem> {
    pass.check(Want::Write, &path)?;
    let (life, data) = (body.life()?, Blob::try_from(body.data)?);
    let space = pass.space(&api, params.space).await?;
    let request = Request::TreeCreate { space, path, data, sequential: body.sequential, life };
    let node: NodeLine = api.one(request).await?;
    Ok(answer(StatusCode::CREATED, node))
}

/// A node that is there for as long as the request that made it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EphemeralBody {
    #[serde(default = "no_bytes")]
    data: Bytes,
    #[serde(default)]
    sequential: bool,
}

pub(super) async fn ephemeral(
    State(api): State<Api>,
    pass: Pass,
    At(path): At,
    Params(params): Params<HoldParams>,
    Body(body): Body<EphemeralBody>,
) -> Result<Response, Problem> {
    pass.check(Want::Write, &path)?;
    let data = Blob::try_from(body.data)?;
    let space = pass.space(&api, params.space).await?;
    let life = NodeLife::Ephemeral;
    let request = Request::TreeCreate { space, path, data, sequential: body.sequential, life };
    hold::start(&api, &pass, request, Held::Node, params.for_ms).await
}

pub(super) async fn delete(
    State(api): State<Api>,
    pass: Pass,
    At(path): At,
    Params(params): Params<SpaceParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    pass.check(Want::Write, &path)?;
    let version = version(&headers)?;
    let space = pass.space(&api, params.space).await?;
    let node: NodeLine = api.one(Request::TreeDelete { space, path, version }).await?;
    Ok(answer(StatusCode::OK, node))
}

/// Names of children.
#[derive(Debug, Serialize)]
struct Children {
    items: Vec<String>,
}

pub(super) async fn children_of_root(
    state: State<Api>,
    pass: Pass,
    params: Params<ReadParams>,
) -> Result<Response, Problem> {
    children(state, pass, At("/".into()), params).await
}

pub(super) async fn children(
    State(api): State<Api>,
    pass: Pass,
    At(path): At,
    Params(params): Params<ReadParams>,
) -> Result<Response, Problem> {
    pass.check(Want::Read, &path)?;
    let space = pass.space(&api, params.space).await?;
    let items = api.one(Request::TreeList { space, path, stale: params.stale }).await?;
    Ok(Json(Children { items }).into_response())
}
