use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::failure::Code;
use crate::request::SpaceStatus;

#[derive(Clone)]
struct Fixed(Result<Status, Failure>);

impl Figures for Fixed {
    async fn status(&self) -> Result<Status, Failure> {
        self.0.clone()
    }
}

impl Doors for Fixed {
    async fn door(&self, grant: bool) -> Result<Door, Failure> {
        self.0.clone()?;
        let grant = grant.then(|| "fsi1q".to_owned());
        Ok(Door { space: "fs1q".into(), peers: vec!["/ip4/127.0.0.1/tcp/1/ws".into()], relay: false, grant })
    }
}

/// One request over a real socket; the answer's head and body.
async fn ask(figures: Fixed, path: &str, headers: &str) -> String {
    send(figures, &format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n")).await
}

async fn send(figures: Fixed, request: &str) -> String {
    send_to(figures, Access::default(), request).await
}

async fn send_to(figures: Fixed, access: Access, request: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, figures, access, More::default(), async {
        let _ = stopped.await;
    }));
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
    answer
}

fn healthy() -> Fixed {
    let space = SpaceStatus { name: "default".into(), id: "fs1q".into(), documents: 3, ..SpaceStatus::default() };
    Fixed(Ok(Status { version: "9.9".into(), spaces: vec![space], ..Status::default() }))
}

const LOCAL: &str = "Host: localhost\r\n";

#[tokio::test]
async fn health_readiness_and_status_are_told() {
    assert!(ask(healthy(), "/healthz", LOCAL).await.starts_with("HTTP/1.1 200"));
    assert!(ask(healthy(), "/readyz", LOCAL).await.ends_with("ready\n"));
    assert!(ask(healthy(), "/status", LOCAL).await.contains("\"version\":\"9.9\""));
    assert!(ask(healthy(), "/nothing", LOCAL).await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn the_demo_is_served_or_how_to_get_it() {
    let page = ask(healthy(), "/", LOCAL).await;
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("content-type: text/html"), "{page}");
    assert!(page.contains("content-security-policy: default-src 'self'"), "{page}");
    match has_demo() {
        true => {
            let script = page.split("src=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a script");
            let plain = ask(healthy(), script, LOCAL).await;
            assert!(plain.contains("text/javascript") && plain.contains("immutable"), "{script}");
            assert!(!plain.contains("content-encoding"), "unpacked for who does not take gzip");
        }
        false => assert!(page.contains("cargo xtask demo"), "{page}"),
    }
    for path in ["/assets/nothing.js", "/assets/", "/assets/../index.html", "/index.html"] {
        assert!(ask(healthy(), path, LOCAL).await.starts_with("HTTP/1.1 404"), "{path}");
    }
    assert!(ask(healthy(), STAGE, LOCAL).await.starts_with("HTTP/1.1 204"), "a peer by itself is on no stage");
}

#[tokio::test]
async fn a_peer_that_cannot_write_is_alive_and_not_ready() {
    let full = Fixed(Ok(Status { trouble: Some("the disk is full".into()), ..Status::default() }));
    let answer = ask(full.clone(), "/readyz", LOCAL).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("the disk is full"), "{answer}");
    assert!(ask(full, "/healthz", LOCAL).await.starts_with("HTTP/1.1 200"));
    let closing = Fixed(Err(Failure::new(Code::Failed, "the peer is closing")));
    assert!(ask(closing, "/readyz", LOCAL).await.starts_with("HTTP/1.1 503"));
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let answer = ask(healthy(), "/metrics", LOCAL).await;
    for line in [
        "foreshore_documents{space=\"fs1q\"} 3",
        "foreshore_storage_writes_total 0",
        "foreshore_build_info{version=\"9.9\"} 1",
        "# TYPE foreshore_resident_bytes gauge",
        "# EOF",
    ] {
        assert!(answer.contains(line), "{line} is missing in {answer}");
    }
}

#[tokio::test]
async fn another_page_is_refused() {
    for headers in ["Host: evil.example\r\n", "Host: localhost\r\nOrigin: http://evil.example\r\n"] {
        let answer = ask(healthy(), "/status", headers).await;
        assert!(answer.starts_with("HTTP/1.1 403") && !answer.contains("version"), "{answer}");
    }
}

#[tokio::test]
async fn a_page_of_this_machine_learns_its_space_and_is_let_in() {
    let told = ask(healthy(), "/.well-known/foreshore", LOCAL).await;
    assert!(told.contains(r#"{"space":"fs1q","peers":["/ip4/127.0.0.1/tcp/1/ws"]}"#), "{told}");
    let device = "ab".repeat(32);
    let post = |kind: &str, headers: &str, device: &str| {
        let body = format!(r#"{{"device":"{device}"}}"#);
        let length = body.len();
        format!(
            "POST /.well-known/foreshore HTTP/1.1\r\nConnection: close\r\nContent-Type: {kind}\r\n\
             Content-Length: {length}\r\n{headers}\r\n{body}"
        )
    };
    let json = "application/json";
    assert!(send(healthy(), &post(json, LOCAL, &device)).await.contains(r#""grant":"fsi1q""#));
    let own = "Host: localhost:1\r\nOrigin: http://localhost:1\r\n";
    assert!(send(healthy(), &post(json, own, &device)).await.contains("grant"));
    for (kind, headers, device, status) in [
        // A form of another page needs no leave to be sent, so it must not be believed.
        ("text/plain", LOCAL, device.as_str(), "415"),
        (json, "Host: localhost\r\nOrigin: http://evil.example\r\n", &device, "403"),
        (json, "Host: localhost\r\nX-Forwarded-For: 203.0.113.1\r\n", &device, "403"),
        (json, LOCAL, "nobody", "400"),
    ] {
        let answer = send(healthy(), &post(kind, headers, device)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && !answer.contains("fsi1q"), "{answer}");
    }
}

/// A request that came through a proxy, so from further away than its socket says.
const ELSEWHERE: &str = "Host: localhost\r\nX-Forwarded-For: 203.0.113.7\r\n";
const TOKEN: &str = "a-token-of-enough-characters";

fn with_token() -> Access {
    Access { token: Some(Token::new(TOKEN).unwrap()), ..Access::default() }
}

async fn get_as(access: Access, path: &str, headers: &str) -> String {
    send_to(healthy(), access, &format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n")).await
}

#[tokio::test]
async fn figures_are_for_the_machine_itself_and_for_whoever_has_the_token() {
    let bearer = format!("{ELSEWHERE}Authorization: Bearer {TOKEN}\r\n");
    let wrong = format!("{ELSEWHERE}Authorization: Bearer {TOKEN}x\r\n");
    for path in ["/status", "/metrics"] {
        assert!(get_as(with_token(), path, LOCAL).await.starts_with("HTTP/1.1 200"), "{path}");
        assert!(get_as(with_token(), path, &bearer).await.starts_with("HTTP/1.1 200"), "{path}");
        for (access, headers) in [(with_token(), ELSEWHERE), (with_token(), &wrong), (Access::default(), &bearer)] {
            let answer = get_as(access, path, headers).await;
            assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("www-authenticate: Bearer"), "{answer}");
            assert!(!answer.contains("fs1q") && !answer.contains(TOKEN), "{answer}");
        }
    }
    for path in ["/healthz", "/readyz", "/"] {
        assert!(get_as(Access::default(), path, ELSEWHERE).await.starts_with("HTTP/1.1 200"), "{path}");
    }
}

#[tokio::test]
async fn a_page_elsewhere_is_let_in_against_the_token() {
    let body = format!("{{\"device\":\"{}\"}}", "ab".repeat(32));
    let ask = |access, more: String| {
        let request = format!(
            "POST /.well-known/foreshore HTTP/1.1\r\nConnection: close\r\n{ELSEWHERE}{more}Content-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        async move { send_to(healthy(), access, &request).await }
    };
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    assert!(ask(with_token(), bearer.clone()).await.contains("fsi1q"));
    for (access, more) in [(with_token(), String::new()), (Access::default(), bearer)] {
        let answer = ask(access, more).await;
        assert!(answer.starts_with("HTTP/1.1 403") && !answer.contains("fsi1q"), "{answer}");
    }
}

/// A page of another site, in a browser on this machine: it reaches the port, and is told nothing.
#[tokio::test]
async fn a_page_of_another_origin_gets_nothing_from_a_port_on_loopback() {
    for headers in [
        "Host: localhost\r\nOrigin: https://evil.example\r\n",
        "Host: evil.example\r\n",
        "Host: localhost\r\nOrigin: null\r\n",
        "Host: localhost\r\nHost: evil.example\r\n",
    ] {
        for path in ["/status", "/metrics", "/.well-known/foreshore", "/healthz"] {
            let answer = get_as(with_token(), path, headers).await;
            assert!(answer.starts_with("HTTP/1.1 403") || answer.starts_with("HTTP/1.1 400"), "{path}: {answer}");
            assert!(!answer.contains("fs1q") && !answer.contains("foreshore_"), "{path}: {answer}");
            assert!(!answer.to_lowercase().contains("access-control-allow-origin"), "{path}: {answer}");
        }
    }
}

#[tokio::test]
async fn metrics_on_a_port_of_their_own_are_on_no_other() {
    let elsewhere = Access { metrics_elsewhere: true, ..Access::default() };
    assert!(get_as(elsewhere.clone(), "/metrics", LOCAL).await.starts_with("HTTP/1.1 404"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(serve_metrics(listener, healthy(), elsewhere, std::future::pending()));
    let get = |path: &'static str, headers: &'static str| async move {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    assert!(get("/metrics", LOCAL).await.contains("foreshore_"));
    assert!(get("/metrics", ELSEWHERE).await.starts_with("HTTP/1.1 401"));
    assert!(get("/metrics", "Host: evil.example\r\n").await.starts_with("HTTP/1.1 403"));
    assert!(get("/status", LOCAL).await.starts_with("HTTP/1.1 404"));
    server.abort();
}

/// Whoever sends a byte now and then takes no more than its place; the others are served.
#[tokio::test]
async fn slow_clients_do_not_keep_others_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(serve(listener, healthy(), Access::default(), More::default(), std::future::pending()));
    let mut slow = Vec::new();
    for _ in 0..2 * MAX_REQUESTS {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /status HTTP/1.1\r\nHo").await.unwrap();
        slow.push(stream);
    }
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET /status HTTP/1.1\r\nConnection: close\r\n{LOCAL}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(slow);
    server.abort();
}
