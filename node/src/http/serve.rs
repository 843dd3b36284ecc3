//! The port's connections: HTTP/1.1, HTTP/2 by prior knowledge, upgrades; each bounded in what it may keep waiting.
//!
//! At most `connections` at once, and of one address that is not trusted `per_address`; further ones are closed at once. A
//! request's head arrives within [`HEAD_TIME`], an answer that nobody reads is given up after [`STALL`], and a peer that is gone
//! without a word is found out within [`SILENCE`].

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, Request, StatusCode, Version, header};
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt as _;

/// How long the head of a request may take to arrive, and how long a connection may do nothing between two requests.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// How long an answer may wait for a client that does not read.
const STALL: Duration = Duration::from_secs(30);

/// How long a peer that does not answer on its connection is believed to be there.
#[cfg(target_os = "linux")]
const SILENCE: u32 = 30_000;

/// Requests of one HTTP/2 connection at once.
const MAX_STREAMS: u32 = 64;

/// Bytes that a connection may buffer.
const MAX_BUFFER: usize = 64 << 10;

/// Between two tries to accept a connection where the system has no room for one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections there may be.
#[derive(Debug, Clone)]
pub struct Limits {
    /// At once.
    pub connections: usize,
    /// Of one address.
    pub per_address: usize,
    /// Addresses, of proxies, that this does not bind.
    pub trusted: Vec<IpAddr>,
}

impl Default for Limits {
    fn default() -> Self {
        let trusted = vec![[127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()];
        Self { connections: 256, per_address: 32, trusted }
    }
}

/// Who is connected.
#[derive(Debug, Default)]
struct Guests {
    all: usize,
    by_address: BTreeMap<IpAddr, usize>,
}

/// A place that is given back when it is dropped.
struct Place {
    guests: Arc<Mutex<Guests>>,
    address: IpAddr,
}

impl Place {
    fn take(guests: &Arc<Mutex<Guests>>, limits: &Limits, address: IpAddr) -> Option<Self> {
        let address = address.to_canonical();
        let mut now = guests.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = now.by_address.get(&address).copied().unwrap_or_default();
        let bound = !limits.trusted.iter().any(|trusted| trusted.to_canonical() == address);
        if now.all >= limits.connections || (bound && of_address >= limits.per_address) {
            return None;
        }
        now.all += 1;
        *now.by_address.entry(address).or_default() += 1;
        Some(Self { guests: guests.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut now = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        now.all -= 1;
        if let Some(count) = now.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                now.by_address.remove(&self.address);
            }
        }
    }
}

/// Serves a router until `stop` resolves, and then what is under way.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: impl Future<Output = ()> + Send,
) -> std::io::Result<()> {
    let guests = Arc::new(Mutex::new(Guests::default()));
    let graceful = GracefulShutdown::new();
    let builder = builder();
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "HTTP: a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = Place::take(&guests, &limits, from.ip()) else {
            tracing::debug!(%from, "HTTP: too many connections");
            continue;
        };
        watch_over(&stream);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(STALL));
        let router = router.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let router = router.clone();
            async move { Ok::<_, std::convert::Infallible>(answer(router, from, request).await) }
        });
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(Box::pin(stream)), service).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%from, %error, "HTTP: a connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    graceful.shutdown().await;
    Ok(())
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(MAX_BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(32 << 10)
        .keep_alive_interval(Some(Duration::from_secs(10)))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

/// Has the system find out about peers that are gone without a word.
fn watch_over(stream: &TcpStream) {
    use rustix::net::sockopt;
    // Where one of these cannot be had, the connection still works; what it holds is held for longer.
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(stream, true);
    #[cfg(target_os = "linux")]
    {
        let _ = sockopt::set_tcp_keepidle(stream, Duration::from_secs(10));
        let _ = sockopt::set_tcp_keepintvl(stream, Duration::from_secs(5));
        let _ = sockopt::set_tcp_user_timeout(stream, SILENCE);
    }
}

async fn answer(router: Router, from: SocketAddr, request: Request<Incoming>) -> Response {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(from));
    // HTTP/2 names the host in the target. What looks at hosts looks at one place.
    let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
    if let Some(authority) = authority {
        let named = request.headers().get(header::HOST).map(|host| host.as_bytes() == authority.as_bytes());
        match (named, HeaderValue::from_str(&authority)) {
            (Some(true), _) => {}
            (None, Ok(host)) if request.version() == Version::HTTP_2 => {
                request.headers_mut().insert(header::HOST, host);
            }
            _ => return (StatusCode::BAD_REQUEST, "the request names two hosts\n").into_response(),
        }
    }
    match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_given_back() {
        let limits = Limits { connections: 3, per_address: 1, trusted: vec![[127, 0, 0, 1].into()] };
        let guests = Arc::new(Mutex::new(Guests::default()));
        let take = |last: u8| Place::take(&guests, &limits, [127, 0, 0, last].into());
        let first = take(2).unwrap();
        assert!(take(2).is_none(), "one an address");
        let trusted = [take(1).unwrap(), take(1).unwrap()];
        assert!(take(3).is_none(), "three in all");
        drop(trusted);
        assert!(take(3).is_some() && take(2).is_none());
        drop(first);
        assert!(take(2).is_some());
        assert!(guests.lock().unwrap().by_address.is_empty());
    }
}
