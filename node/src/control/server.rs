//! The peer's end of the control socket.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value as Json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::{Handler, MAX_CONNECTIONS, Pages, QUEUE, REQUEST_TIMEOUT, SOCKET, read_line, with_short_path};
use crate::failure::{Code, Failure};
use crate::request::{Answer, Page64, Request};

/// How long callers have to finish once the peer shuts down. Well inside the ten seconds of the whole shutdown.
const DRAIN: Duration = Duration::from_secs(3);

/// A listening control socket.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Listens in a data directory. The caller holds the directory's lock, so a socket file found there is a left-over
    /// and is replaced.
    pub fn bind(directory: &Path) -> std::io::Result<Self> {
        let path = directory.join(SOCKET);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = with_short_path(directory, |short| UnixListener::bind(short))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Serves until `stop` resolves, then gives callers a moment to finish.
    pub async fn serve(self, handler: impl Handler, stop: impl Future<Output = ()>) {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        tokio::pin!(stop);
        loop {
            let permit = room.clone().acquire_owned();
            let accepted = async { (permit.await, self.listener.accept().await) };
            tokio::select! {
                () = &mut stop => break,
                (permit, accepted) = accepted => match accepted {
                    Ok((stream, _)) => {
                        let handler = handler.clone();
                        connections.spawn(async move {
                            serve_one(stream, handler).await;
                            drop(permit);
                        });
                    }
                    Err(error) => {
                        // Out of descriptors, most likely: wait for some to be freed.
                        tracing::warn!(%error, "control socket");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
            while connections.try_join_next().is_some() {}
        }
        let _ = std::fs::remove_file(&self.path);
        let drained = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(DRAIN, drained).await;
    }
}

async fn serve_one(stream: UnixStream, handler: impl Handler) {
    let own = rustix::process::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(caller) if caller.uid() == own || caller.uid() == 0 => {}
        caller => {
            tracing::warn!(?caller, "control socket: refused another user");
            return;
        }
    }
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let answer = match tokio::time::timeout(REQUEST_TIMEOUT, read_request(&mut read)).await {
        Ok(Ok(Some(request))) => run(request, handler, read, &mut write).await,
        Ok(Ok(None)) => return,
        Ok(Err(failure)) => Some(Answer::Failed(failure)),
        Err(_) => Some(Answer::Failed(Failure::new(Code::Timeout, "no request arrived"))),
    };
    if let Some(answer) = answer {
        let _ = send(&mut write, &answer).await;
    }
}

async fn read_request(read: &mut BufReader<OwnedReadHalf>) -> Result<Option<Request>, Failure> {
    let Some(line) = read_line(read, &mut Vec::new()).await? else { return Ok(None) };
    serde_json::from_slice(&line).map(Some).map_err(|e| Failure::invalid("request", e))
}

/// Carries out a request, forwarding items; `None` when the caller hung up.
async fn run(
    request: Request,
    handler: impl Handler,
    read: BufReader<OwnedReadHalf>,
    write: &mut OwnedWriteHalf,
) -> Option<Answer> {
    let (items, mut queue) = mpsc::channel(QUEUE);
    let (pages, incoming) = mpsc::channel(QUEUE);
    let takes_pages = request.takes_pages();
    let call = handler.call(request, Pages::from(incoming), items);
    // The caller's end of the stream: pages where the request takes some, and in any case its hanging up.
    let caller = async move {
        let mut read = read;
        if takes_pages {
            forward_pages(&mut read, pages).await;
        } else {
            drop(pages);
        }
        let mut rest = [0; 64];
        while !matches!(read.read(&mut rest).await, Ok(0) | Err(_)) {}
    };
    tokio::pin!(call, caller);
    loop {
        tokio::select! {
            biased;
            Some(item) = queue.recv() => send(write, &Answer::Item(item)).await.ok()?,
            result = &mut call => {
                while let Ok(item) = queue.try_recv() {
                    send(write, &Answer::Item(item)).await.ok()?;
                }
                return Some(result.map_or_else(Answer::Failed, Answer::Done));
            }
            () = &mut caller => return None,
        }
    }
}

/// Reads pages until `{"end":true}`. A stream that ends without it was cut, and says so.
async fn forward_pages(read: &mut BufReader<OwnedReadHalf>, pages: mpsc::Sender<Result<Vec<u8>, Failure>>) {
    loop {
        let page = match read_line(read, &mut Vec::new()).await {
            Ok(Some(line)) if is_end(&line) => return,
            Ok(Some(line)) => parse_page(&line),
            Ok(None) => Err(Failure::new(Code::Failed, "the stream of pages was cut")),
            Err(e) => Err(e.into()),
        };
        let last = page.is_err();
        if pages.send(page).await.is_err() || last {
            return;
        }
    }
}

fn is_end(line: &[u8]) -> bool {
    serde_json::from_slice::<Json>(line).is_ok_and(|line| line.get("end") == Some(&Json::Bool(true)))
}

fn parse_page(line: &[u8]) -> Result<Vec<u8>, Failure> {
    let page: Page64 = serde_json::from_slice(line).map_err(|e| Failure::invalid("page", e))?;
    BASE64.decode(page.page).map_err(|e| Failure::invalid("page", e))
}

async fn send(write: &mut OwnedWriteHalf, answer: &Answer) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(answer).map_err(std::io::Error::other)?;
    line.push(b'\n');
    write.write_all(&line).await
}
