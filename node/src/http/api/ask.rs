//! The parts of a request, each refused as a problem where it is malformed: the path behind the route, parameters, bodies,
//! entity tags and the session's bookmark.

use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use super::problem::Problem;
use crate::request::Blob;
use crate::service::Precondition;

/// Where a session's bookmark travels, both ways.
pub(super) const BOOKMARK: HeaderName = HeaderName::from_static("foreshore-bookmark");

/// Paths of every kind have one bound here, that of documents.
pub(super) fn within(path: &str) -> Result<(), Problem> {
    const MAX: usize = foreshore::id::Path::MAX_LEN;
    match path.len() {
        0..=MAX => Ok(()),
        bytes => Err(Problem::invalid(format_args!("a path has at most {MAX} bytes, this one has {bytes}"))),
    }
}

/// What the wildcard of a route stands for, with its slash in front.
pub(super) struct At(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for At {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let path = path.map_err(Problem::invalid)?.0;
        within(&path)?;
        // Whoever puts a path behind an address that ends in a slash has two of them, and means one.
        Ok(Self(if path.starts_with('/') { path } else { format!("/{path}") }))
    }
}

/// Parameters of the query, of which none may be unknown.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(params)| Self(params)).map_err(|error| Problem::invalid(error.body_text()))
    }
}

/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(20);

/// Kinds of bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Json,
    MergePatch,
    JsonPatch,
}

/// A body and its kind, by its content type.
pub(super) struct Content {
    pub(super) kind: Kind,
    pub(super) bytes: axum::body::Bytes,
}

impl<S: Send + Sync> FromRequest<S> for Content {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let kind = kind(request.headers())?;
        // Whatever is waited for afterwards, the request itself comes in time.
        let arrived = tokio::time::timeout(BODY_TIME, axum::body::Bytes::from_request(request, state)).await;
        let arrived = arrived
            .map_err(|_| Problem::new(StatusCode::REQUEST_TIMEOUT, "too_late", "the body did not arrive in time"))?;
        let bytes = arrived.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                let detail = format_args!("a body has at most {} bytes", super::MAX_BODY_BYTES);
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
            }
            _ => Problem::invalid(rejection.body_text()),
        })?;
        Ok(Self { kind, bytes })
    }
}

fn kind(headers: &HeaderMap) -> Result<Kind, Problem> {
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" => Ok(Kind::Json),
        "application/merge-patch+json" => Ok(Kind::MergePatch),
        "application/json-patch+json" => Ok(Kind::JsonPatch),
        _ => Err(unsupported(format_args!("a body of the type {essence:?} is not understood"))),
    }
}

pub(super) fn unsupported(detail: impl std::fmt::Display) -> Problem {
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
        .hint("a body is application/json; a patch application/merge-patch+json or application/json-patch+json")
}

impl Content {
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_slice(&self.bytes).map_err(|error| Problem::invalid(format_args!("body: {error}")))
    }
}

/// A JSON body, whatever it is.
pub(super) struct AnyBody(pub(super) serde_json::Value);

impl<S: Send + Sync> FromRequest<S> for AnyBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let content = Content::from_request(request, state).await?;
        match content.kind {
            Kind::Json => content.parse().map(Self),
            _ => Err(unsupported("this takes application/json")),
        }
    }
}

/// A JSON object as a body.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let AnyBody(body) = AnyBody::from_request(request, state).await?;
        // A list of the fields' values, which the decoder would take as well, is nobody's interface.
        if !body.is_object() {
            return Err(Problem::invalid("body: it is a JSON object"));
        }
        serde_json::from_value(body).map(Self).map_err(|error| Problem::invalid(format_args!("body: {error}")))
    }
}

/// A whole number of a body, also where it is written with a point, as JSON's numbers may be; `null` is none.
pub(super) fn whole<'de, D: Deserializer<'de>, T: TryFrom<u64>>(from: D) -> Result<Option<T>, D::Error> {
    /// From here on not every number is a double.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let number = serde_json::Number::deserialize(from)?;
    let float = number.as_f64().filter(|float| float.fract() == 0.0 && (0.0..EXACT).contains(float));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole and within bounds")]
    let whole = number.as_u64().or(float.map(|float| float as u64));
    let fitting = whole.and_then(|whole| T::try_from(whole).ok());
    fitting.map(Some).ok_or_else(|| D::Error::custom(format_args!("{number} is not a whole number of its size")))
}

/// Bytes, as text or in base64.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Bytes {
    Text(String),
    Base64(String),
}

impl TryFrom<Bytes> for Blob {
    type Error = Problem;

    fn try_from(bytes: Bytes) -> Result<Self, Problem> {
        match bytes {
            Bytes::Text(text) => Ok(text.into_bytes().into()),
            Bytes::Base64(text) => match STANDARD.decode(&text) {
                Ok(bytes) => Ok(bytes.into()),
                Err(why) => Err(Problem::invalid(format_args!("`base64`: {why}"))),
            },
        }
    }
}

/// A header that is given once, if at all, as text.
pub(super) fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Problem::invalid(format_args!("{name} is given twice")));
    }
    first.map(|value| value.to_str().map_err(|_| Problem::invalid(format_args!("{name} is not text")))).transpose()
}

/// A document's entity tag: its heads, sorted.
pub(super) fn etag(heads: &[String]) -> HeaderValue {
    let mut heads = heads.to_vec();
    heads.sort_unstable();
    HeaderValue::from_str(&format!("\"{}\"", heads.join("."))).expect("heads are hexadecimal")
}

/// A number as an entity tag.
pub(super) fn version_tag(version: i32) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).expect("a number is text")
}

/// The tags of `If-Match` or `If-None-Match`; `None`: there is no such header. A `*` comes as `*`.
fn tags(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Vec<String>>, Problem> {
    let Some(text) = text(headers, name)? else { return Ok(None) };
    if text.trim() == "*" {
        return Ok(Some(vec!["*".into()]));
    }
    let tag = |text: &str| {
        let text = text.trim();
        let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        let inner =
            inner.filter(|inner| inner.len() <= 8192 && inner.bytes().all(|b| b.is_ascii_graphic() && b != b'"'));
        inner.map(str::to_owned).ok_or_else(|| {
            Problem::invalid(format_args!("{name}: {text:?} is no entity tag"))
                .hint("it is `*`, or what an `ETag` said, with its quotes")
        })
    };
    text.split(',').map(tag).collect::<Result<_, _>>().map(Some)
}

/// What `If-Match` and `If-None-Match` say of a document that is to be written.
pub(super) fn precondition(headers: &HeaderMap) -> Result<Precondition, Problem> {
    let mut only = Precondition::default();
    match tags(headers, &header::IF_MATCH)? {
        Some(tags) if tags == ["*"] => only.exists = true,
        Some(tags) => {
            only.heads = Some(tags.iter().map(|tag| tag.split('.').map(str::to_owned).collect()).collect());
        }
        None => {}
    }
    match tags(headers, &header::IF_NONE_MATCH)? {
        Some(tags) if tags == ["*"] => only.absent = true,
        Some(_) => {
            return Err(Problem::invalid("If-None-Match: a write takes `*`, which is: only where nothing is"));
        }
        None => {}
    }
    Ok(only)
}

/// Whether a reader has this already.
pub(super) fn is_known(headers: &HeaderMap, tag: &HeaderValue) -> Result<bool, Problem> {
    let known = tags(headers, &header::IF_NONE_MATCH)?;
    let tag = tag.to_str().unwrap_or_default().trim_matches('"');
    Ok(known.is_some_and(|known| known.iter().any(|one| one == "*" || one == tag)))
}

/// The version of a node that `If-Match` names.
pub(super) fn version(headers: &HeaderMap) -> Result<Option<i32>, Problem> {
    match tags(headers, &header::IF_MATCH)?.as_deref() {
        None => Ok(None),
        Some([tag]) if tag == "*" => Ok(None),
        Some([tag]) => tag
            .parse::<i32>()
            .ok()
            .filter(|version| *version >= 0)
            .map(Some)
            .ok_or_else(|| Problem::invalid(format_args!("If-Match: {tag:?} is no version of a node"))),
        Some(_) => Err(Problem::invalid("If-Match: a node is at one version")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn tags_are_heads_in_any_order_and_nothing_else() {
        let one = etag(&["b".into(), "a".into()]);
        assert_eq!(one, "\"a.b\"");
        assert!(is_known(&headers(&[(header::IF_NONE_MATCH, "\"x\", \"a.b\"")]), &one).unwrap());
        assert!(is_known(&headers(&[(header::IF_NONE_MATCH, "*")]), &one).unwrap());
        assert!(!is_known(&headers(&[(header::IF_NONE_MATCH, "\"a\"")]), &one).unwrap());
        assert!(!is_known(&HeaderMap::new(), &one).unwrap());
        for bad in ["a.b", "\"a", "\"a\"b\"", "W/\"a\"", "", "\"a\",", "\"a b\""] {
            assert!(precondition(&headers(&[(header::IF_MATCH, bad)])).is_err(), "{bad}");
        }
        assert!(precondition(&headers(&[(header::IF_NONE_MATCH, "\"a\"")])).is_err());
        assert_eq!(version(&headers(&[(header::IF_MATCH, "\"7\"")])).unwrap(), Some(7));
        for bad in ["\"-1\"", "\"x\"", "\"1\", \"2\"", "7"] {
            assert!(version(&headers(&[(header::IF_MATCH, bad)])).is_err(), "{bad}");
        }
    }
}
