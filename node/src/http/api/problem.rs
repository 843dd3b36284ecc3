//! What goes wrong, as `application/problem+json` (RFC 9457): a status, a code for programs, a sentence, and what to do.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::failure::{Code, Failure};

/// A problem. Its `type` leads to the list in the rendered documentation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
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

    /// What is wrong, for a log.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
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
        Some("still_taken" | "full") => return StatusCode::CONFLICT,
        Some("too_fast") => return StatusCode::TOO_MANY_REQUESTS,
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

/// Every code, with its usual status, what it means and what to do. The page at `/docs` lists them.
pub(super) const CODES: [(&str, u16, &str, &str); 34] = [
    (
        "invalid",
        400,
        "A parameter, header or body is not what it may be.",
        "Change the request; `detail` names the part.",
    ),
    ("not_an_object", 400, "A patch would make the document something else than an object.", "Change the patch."),
    (
        "unauthorized",
        401,
        "No token, or one that opens nothing.",
        "Send `Authorization: Bearer` and a token that is good.",
    ),
    (
        "denied",
        403,
        "The token, or the peer itself, may not do that.",
        "Use a token of more rights, or have the peer given a role.",
    ),
    (
        "forbidden_origin",
        403,
        "The request's `Host` or `Origin` is not one that this port answers to.",
        "Set `http_hosts` or `http_cors`.",
    ),
    ("not_found", 404, "Nothing is there.", "Make it, or ask elsewhere."),
    ("no_route", 404, "The address is none of this door's.", "Look at the addresses above."),
    ("method_not_allowed", 405, "This is not done at this address.", "Look at the methods above."),
    ("too_late", 408, "The body of the request did not arrive in time.", "Send it again, faster."),
    ("conflict", 409, "What is there stands against it.", "Look at what is there."),
    ("exists", 409, "The node is there already.", "Set its data instead, or take another name."),
    ("has_children", 409, "A node with children is not deleted.", "Delete the children first."),
    ("taken", 409, "Another holds it.", "Wait with `wait_ms`, or come again."),
    ("still_taken", 409, "Another held it until the wait was over.", "Come again."),
    ("not_held", 409, "It is not held under this token any more.", "Stop: it may be another's by now."),
    (
        "patch_does_not_fit",
        409,
        "A JSON Patch names a place that is not there, or its `test` failed.",
        "Read again, and decide again.",
    ),
    ("empty_document", 409, "A document begins with at least one key.", "Put a key into it."),
    ("full", 409, "This peer has as many entries of soft state as it may have.", "Delete some."),
    (
        "precondition_failed",
        412,
        "The document is not at the entity tag that the request names.",
        "Read again, and decide again.",
    ),
    ("other_version", 412, "The node has another version.", "Read again, and decide again."),
    ("too_large", 413, "A body or value is over its bound.", "Send less; `detail` has the bound."),
    ("unsupported_media_type", 415, "The body's content type is not one that this takes.", "See the types above."),
    (
        "upgrade_required",
        426,
        "The upgrade that was asked for is not a WebSocket of version 13.",
        "Ask for one, or for none.",
    ),
    ("too_fast", 429, "Signals are published faster than peers take them.", "Wait a moment."),
    ("failed", 500, "Something that has no code of its own.", "Read `detail`, and the peer's log."),
    ("damaged", 500, "Something stored is damaged.", "`foreshore doctor` says what."),
    ("busy", 503, "As many requests or streams are open as may be.", "Come again after `Retry-After`."),
    (
        "no_quorum",
        503,
        "No majority of the voters answers. Documents, soft state and topics work on.",
        "Come again; `foreshore voters` shows who is missing.",
    ),
    ("store", 503, "The store cannot be written: full, or read-only.", "Make room; the peer goes on by itself."),
    ("stopping", 503, "The peer stops.", "Come again in a moment."),
    (
        "too_slow",
        503,
        "A stream's reader was too slow, and missed something.",
        "Connect again: the stream begins with the state.",
    ),
    (
        "not_yet",
        504,
        "What the bookmark stands for is not here, and did not come in time.",
        "Come again, ask the peer that has it, or go on without the bookmark.",
    ),
    ("timeout", 504, "It was not done, or not answered, in time.", "Look whether it was done, and come again."),
    (
        "unknown_outcome",
        504,
        "It was sent to the voters, and no answer came: it was done, or it was not.",
        "Look before you ask again.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_a_code_that_is_listed() {
        let codes = [
            Code::Failed,
            Code::Invalid,
            Code::NotFound,
            Code::Denied,
            Code::Store,
            Code::Damaged,
            Code::Timeout,
            Code::Unknown,
            Code::Conflict,
            Code::Interrupted,
        ];
        for code in codes {
            let problem = Problem::from(Failure::new(code, "x"));
            let listed = CODES.iter().find(|(name, ..)| *name == problem.code);
            assert_eq!(listed.map(|(_, status, ..)| *status), Some(problem.status), "{code:?}");
        }
        for reason in [
            "not_an_object",
            "exists",
            "has_children",
            "taken",
            "still_taken",
            "not_held",
            "patch_does_not_fit",
            "empty_document",
            "full",
            "precondition_failed",
            "other_version",
            "too_large",
            "too_fast",
            "no_quorum",
            "not_yet",
        ] {
            let code = match reason {
                "no_quorum" | "not_yet" => Code::Timeout,
                "not_an_object" | "too_large" => Code::Invalid,
                _ => Code::Conflict,
            };
            let problem = Problem::from(Failure::new(code, "x").reason(reason));
            let listed = CODES.iter().find(|(name, ..)| *name == problem.code);
            assert_eq!(listed.map(|(_, status, ..)| *status), Some(problem.status), "{reason}");
        }
    }
}
