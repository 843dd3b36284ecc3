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

/// One request over a real socket; the answer's head and body.
async fn ask(figures: Fixed, path: &str, headers: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, figures, vec![], async {
        let _ = stopped.await;
    }));
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
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
