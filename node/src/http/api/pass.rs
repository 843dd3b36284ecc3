//! Who may do what: this machine itself, the port's own token, or a token that is a grant.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use foreshore::id::Prefix;

use super::Api;
use super::problem::Problem;
use crate::service::TokenGrant;

/// What a request may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Everything that the peer itself may.
    All,
    /// What a token grants.
    Grant(TokenGrant),
}

/// What a request wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Read,
    Write,
}

impl Pass {
    /// Whether it opens a path for reading.
    pub(crate) fn may_read(&self, path: &str) -> bool {
        self.check(Want::Read, path).is_ok()
    }

    /// Whether it opens a path for writing.
    pub(crate) fn may_write(&self, path: &str) -> bool {
        self.check(Want::Write, path).is_ok()
    }

    /// The hash of the token that it is by.
    pub(crate) fn token(&self) -> Option<blake3::Hash> {
        match self {
            Pass::All => None,
            Pass::Grant(grant) => Some(grant.hash),
        }
    }

    /// The space that it is for, if it is for one alone.
    pub(crate) fn space_id(&self) -> Option<&str> {
        match self {
            Pass::All => None,
            Pass::Grant(grant) => Some(&grant.space),
        }
    }

    /// Checks a path, or everything under a prefix.
    pub(super) fn check(&self, want: Want, path: &str) -> Result<(), Problem> {
        let Pass::Grant(grant) = self else { return Ok(()) };
        if want == Want::Write && !grant.write {
            return Err(denied("this token reads only").hint("make one with `foreshore token create --write`"));
        }
        let all = grant.prefix == Prefix::root();
        if all || Prefix::parse(path).is_ok_and(|asked| grant.prefix.contains(&asked)) {
            return Ok(());
        }
        Err(denied(format_args!("this token is for {}, and {path:?} is not under it", grant.prefix)))
    }

    /// The space to work in, as requests name it. One that is not the token's is refused.
    pub(super) async fn space(&self, api: &Api, asked: Option<String>) -> Result<String, Problem> {
        match (self, asked) {
            (Pass::All, asked) => Ok(asked.unwrap_or_default()),
            (Pass::Grant(grant), None) => Ok(grant.space.clone()),
            (Pass::Grant(grant), Some(asked)) => match api.service.space(&asked).await {
                Ok(space) if space.id().to_bech32() == grant.space => Ok(grant.space.clone()),
                // Which spaces there are is nobody's business who may see one.
                _ => Err(denied(format_args!("this token is not for the space {asked:?}"))),
            },
        }
    }
}

fn denied(detail: impl std::fmt::Display) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "denied", detail)
}

/// What stands behind `Authorization: Bearer`; `None`: there is no such header.
pub(super) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (first, second) = (values.next(), values.next());
    let Some(value) = first else { return Ok(None) };
    let given = value.to_str().ok().and_then(|text| text.split_once(' '));
    match given {
        Some((scheme, token)) if second.is_none() && scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim())),
        _ => Err(unauthorized("`Authorization` takes one `Bearer` and a token")),
    }
}

pub(super) fn unauthorized(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
        .hint("`foreshore token create` makes a token; send it as `Authorization: Bearer …`")
}

impl<S: Sync> FromRequestParts<S> for Pass {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // The gate has put it there; without one, nothing is allowed.
        parts.extensions.get::<Self>().cloned().ok_or_else(|| unauthorized("no one was let in"))
    }
}
