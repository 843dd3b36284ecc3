//! Placeholder.
use axum::Router;
use super::Api;
pub(super) async fn entrance() -> &'static str { "" }
pub(super) fn router(_: &Api) -> Router<Api> { Router::new() }
