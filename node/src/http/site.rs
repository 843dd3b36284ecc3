//! The page at `/`: the demo, where the binary was built with it (feature `web`), and otherwise how to get it.
//!
//! Files are held packed by gzip and sent so; for a client that does not take that they are unpacked. Names under `/assets/`
//! hold a hash of their content, so browsers keep those. The page may load nothing of any other origin; it connects to peers
//! by WebSocket, wherever they are.

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;

/// Where the demo asks whether it stands on a stage: several peers that it may watch and whose links it may cut. A peer of its
/// own has none and answers 204; the demo's own program has one.
pub const STAGE: &str = "/demo/stage";

struct File {
    /// As it is asked for.
    path: &'static str,
    packed: &'static [u8],
}

static FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/site.rs"));

/// Scripts are the page's own and WebAssembly; CodeMirror sets its styles from script.
const POLICY: &str = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; \
                      connect-src 'self' ws: wss:; img-src 'self' data:; object-src 'none'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

const NO_DEMO: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<title>foreshore</title>
<style>
  :root { color-scheme: light dark; font: 1.0625rem/1.6 system-ui, sans-serif }
  body { max-width: 38rem; margin: 12vh auto; padding: 0 1.5rem }
  code { font: .9375em ui-monospace, monospace }
</style>
<h1>This peer runs</h1>
<p>It was built without the demo. From a clone, <code>cargo xtask demo</code> starts three peers with it; <code>cargo xtask
web</code> and then <code>cargo install --path node --features web</code> make a <code>foreshore</code> that shows it here.
<p>What this port has: <a href="/status">/status</a>, <a href="/metrics">/metrics</a>, <a href="/healthz">/healthz</a>,
<a href="/readyz">/readyz</a>, <a href="/.well-known/foreshore">/.well-known/foreshore</a>.
</html>
"#;

/// Whether the demo is built in.
pub fn has_demo() -> bool {
    !FILES.is_empty()
}

/// The page and its files.
pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/", get(|headers: HeaderMap| async move { index(&headers) })).route(
        "/assets/{name}",
        get(|Path(name): Path<String>, headers: HeaderMap| async move { asset(&name, &headers) }),
    )
}

/// The answer of a peer that is on no stage.
pub(super) async fn no_stage() -> StatusCode {
    StatusCode::NO_CONTENT
}

fn index(headers: &HeaderMap) -> Response {
    let page = FILES.iter().find(|file| file.path == "/index.html");
    let mut response = match page {
        Some(file) => file.answer(headers),
        None => Html(NO_DEMO).into_response(),
    };
    for (name, value) in [(header::CONTENT_SECURITY_POLICY, POLICY), (header::REFERRER_POLICY, "no-referrer")] {
        response.headers_mut().insert(name, header::HeaderValue::from_static(value));
    }
    response
}

fn asset(name: &str, headers: &HeaderMap) -> Response {
    let Some(file) = FILES.iter().find(|file| file.path.strip_prefix("/assets/") == Some(name)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let mut response = file.answer(headers);
    let kept = header::HeaderValue::from_static("public, max-age=31536000, immutable");
    response.headers_mut().insert(header::CACHE_CONTROL, kept);
    response
}

impl File {
    fn answer(&self, headers: &HeaderMap) -> Response {
        let kind = [(header::CONTENT_TYPE, kind(self.path)), (header::VARY, "accept-encoding")];
        if takes_gzip(headers) {
            return (kind, [(header::CONTENT_ENCODING, "gzip")], self.packed).into_response();
        }
        match unpack(self.packed) {
            Some(plain) => (kind, plain).into_response(),
            None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
}

fn kind(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "woff2" => "font/woff2",
        "md" => "text/plain; charset=utf-8",
        "png" => "image/png",
        "json" => "application/json",
        _ => "application/octet-stream",
    }
}

/// Whether the client names gzip and does not rule it out.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let named = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    named.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let none = weight.split_once('=').is_some_and(|(_, q)| q.trim().parse() == Ok(0.0));
        name.trim().eq_ignore_ascii_case("gzip") && !none
    })
}

#[cfg(feature = "web")]
fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    use std::io::Read as _;
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut plain).ok()?;
    Some(plain)
}

#[cfg(not(feature = "web"))]
fn unpack(_: &[u8]) -> Option<Vec<u8>> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_to_those_who_take_it() {
        let takes = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, header::HeaderValue::from_static(value));
            takes_gzip(&headers)
        };
        for value in ["gzip", "br, GZIP;q=0.5", "deflate,gzip ; q=1"] {
            assert!(takes(value), "{value}");
        }
        for value in ["", "br", "gzip;q=0", "gzip; q=0.0", "x-gzip-not"] {
            assert!(!takes(value), "{value}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
