use serde_json::json;

use super::*;
use crate::failure::Code;
use crate::request::Answer;

/// Answers `List` with numbers, `Import` with the bytes it got, `Watch` never, everything else with a failure.
#[derive(Clone, Default)]
struct Echo {
    cancelled: std::sync::Arc<tokio::sync::Notify>,
}

struct OnDrop(std::sync::Arc<tokio::sync::Notify>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Handler for Echo {
    async fn call(&self, request: Request, mut pages: Pages, items: Items) -> Result<Json, Failure> {
        match request {
            Request::List { limit, .. } => {
                for n in 0..limit {
                    items.send(json!(n)).await.map_err(|e| Failure::new(Code::Failed, e))?;
                }
                Ok(json!({"next": null}))
            }
            Request::Import { .. } => {
                let mut bytes = 0;
                while let Some(page) = pages.recv().await {
                    bytes += page?.len();
                }
                Ok(json!(bytes))
            }
            Request::Watch { .. } => {
                let _guard = OnDrop(self.cancelled.clone());
                std::future::pending().await
            }
            _ => Err(Failure::new(Code::NotFound, "nothing").hint("look elsewhere")),
        }
    }
}

struct Running {
    directory: tempfile::TempDir,
    echo: Echo,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    server: tokio::task::JoinHandle<()>,
}

fn serve() -> Running {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::bind(directory.path()).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let echo = Echo::default();
    let handler = echo.clone();
    let server = tokio::spawn(server.serve(handler, async {
        let _ = stopped.await;
    }));
    Running { directory, echo, stop: Some(stop), server }
}

async fn call(running: &Running, request: Request) -> Call {
    Connection::open(running.directory.path()).await.unwrap().unwrap().call(&request).await.unwrap()
}

fn list(limit: usize) -> Request {
    Request::List { space: "s".into(), prefix: "/".into(), after: None, limit }
}

#[tokio::test]
async fn items_come_before_the_last_answer_here_and_over_the_socket() {
    let running = serve();
    // More than any queue holds.
    let limit = 3 * QUEUE;
    for mut call in [call(&running, list(limit)).await, Call::here(&running.echo, list(limit))] {
        let mut seen = Vec::new();
        let page: crate::request::Page = call
            .drain(|item| {
                seen.push(item);
                Ok(())
            })
            .await
            .unwrap();
        assert_eq!((seen.len(), seen.last(), page.next), (limit, Some(&json!(limit - 1)), None));
    }
}

#[tokio::test]
async fn failures_cross_whole() {
    let running = serve();
    for mut call in [call(&running, Request::Status).await, Call::here(&running.echo, Request::Status)] {
        let failure = call.result::<Json>().await.unwrap_err();
        assert_eq!((failure.code, failure.hint.as_deref()), (Code::NotFound, Some("look elsewhere")));
    }
}

#[tokio::test]
async fn pages_go_in_until_the_end_is_said() {
    let running = serve();
    let import = Request::Import { space: "s".into() };
    for mut call in [call(&running, import.clone()).await, Call::here(&running.echo, import.clone())] {
        for _ in 0..2 * QUEUE {
            assert!(call.page(vec![7; 100]).await);
        }
        call.end().await;
        assert_eq!(call.result::<usize>().await.unwrap(), 200 * QUEUE);
    }
}

#[tokio::test]
async fn hanging_up_cancels() {
    let running = serve();
    let watch = Request::Watch { space: "s".into(), prefix: "/".into(), values: false, count: None };
    drop(call(&running, watch).await);
    running.echo.cancelled.notified().await;
}

#[tokio::test]
async fn malformed_requests_are_answered_and_change_nothing() {
    use tokio::io::AsyncWriteExt;
    let running = serve();
    for line in ["nonsense", "{}", r#"{"op":"fly"}"#, r#"{"op":"get"}"#, "\u{0}"] {
        let mut stream = tokio::net::UnixStream::connect(running.directory.path().join(SOCKET)).await.unwrap();
        stream.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        let answer = read_line(&mut tokio::io::BufReader::new(stream), &mut Vec::new()).await.unwrap().unwrap();
        let Answer::Failed(failure) = serde_json::from_slice(&answer).unwrap() else { panic!("{line} was taken") };
        assert_eq!(failure.code, Code::Invalid, "{line}");
    }
}

#[tokio::test]
async fn the_socket_is_private_and_goes_with_the_server() {
    use std::os::unix::fs::PermissionsExt;
    let mut running = serve();
    let path = running.directory.path().join(SOCKET);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    running.stop.take().unwrap().send(()).unwrap();
    (&mut running.server).await.unwrap();
    assert!(!path.exists());
    assert!(Connection::open(running.directory.path()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_left_over_socket_is_replaced_and_a_long_path_works() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("long".repeat(40));
    std::fs::create_dir(&directory).unwrap();
    drop(Server::bind(&directory).unwrap());
    assert!(Connection::open(&directory).await.unwrap().is_none(), "nobody listens any more");
    let _server = Server::bind(&directory).unwrap();
    assert!(Connection::open(&directory).await.unwrap().is_some());
}
