//! What goes wrong, as `application/problem+json` (RFC 9457): a status, a code for programs, a sentence, and what to do.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::failure::{Code, Failure};

/// A problem. Its `type` leads to the list in the rendered documentation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    /// For programs.
    pub(super) code: String,
    /// What is wrong here.
    detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &str, detail: impl std::fmt::Display) -> Self {
        Self {
            kind: format!("/docs#{code}"),
            title: status.canonical_reason().unwrap_or("Problem"),
            status: status.as_u16(),
            code: code.to_owned(),
            detail: detail.to_string(),
            hint: None,
        }
    }

    /// What a request says is not what it may say.
    pub(super) fn invalid(detail: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", detail)
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Codes of [`Failure::reason`] that have a status of their own.
fn status_of(failure: &Failure) -> StatusCode {
    match failure.reason.as_deref() {
        Some("precondition_failed" | "other_version") => return StatusCode::PRECONDITION_FAILED,
        Some("no_quorum") => return StatusCode::SERVICE_UNAVAILABLE,
        Some("too_large") => return StatusCode::PAYLOAD_TOO_LARGE,
        Some("still_taken") => return StatusCode::CONFLICT,
        _ => {}
    }
    match failure.code {
        Code::Invalid => StatusCode::BAD_REQUEST,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Denied => StatusCode::FORBIDDEN,
        Code::Conflict => StatusCode::CONFLICT,
        Code::Timeout | Code::Unknown => StatusCode::GATEWAY_TIMEOUT,
        Code::Store | Code::Interrupted => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let code = match (&failure.reason, failure.code) {
            (Some(reason), _) => reason.as_ref(),
            (None, Code::Invalid) => "invalid",
            (None, Code::NotFound) => "not_found",
            (None, Code::Denied) => "denied",
            (None, Code::Conflict) => "conflict",
            (None, Code::Timeout) => "timeout",
            (None, Code::Unknown) => "unknown_outcome",
            (None, Code::Store) => "store",
            (None, Code::Damaged) => "damaged",
            (None, Code::Interrupted) => "stopping",
            (None, _) => "failed",
        };
        let problem = Self::new(status_of(&failure), code, &failure.message);
        Self { hint: failure.hint, ..problem }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
