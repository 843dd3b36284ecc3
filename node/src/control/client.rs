//! The command's end of the control socket, and its stand-in when the peer is in the command's own process.

use std::io::ErrorKind;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::{Handler, QUEUE, read_line, with_short_path};
use crate::failure::{Code, Failure};
use crate::request::{Answer, Page64, Request};

/// A way to a peer: one request each.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
}

impl Connection {
    /// Reaches the running peer of a data directory; `None` if none answers there.
    pub async fn open(directory: &Path) -> Result<Option<Self>, Failure> {
        let connect = with_short_path(directory, |short| std::os::unix::net::UnixStream::connect(short));
        match connect {
            Ok(stream) => {
                stream.set_nonblocking(true)?;
                Ok(Some(Self { stream: UnixStream::from_std(stream)? }))
            }
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                Err(Failure::new(Code::Denied, "the running peer belongs to another user"))
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Sends the request.
    pub async fn call(self, request: &Request) -> Result<Call, Failure> {
        let (read, mut write) = self.stream.into_split();
        send(&mut write, request).await?;
        Ok(Call(Way::Socket { read: BufReader::new(read), write, line: Vec::new() }))
    }
}

/// A request under way.
#[derive(Debug)]
pub struct Call(Way);

#[derive(Debug)]
enum Way {
    Socket {
        read: BufReader<OwnedReadHalf>,
        write: OwnedWriteHalf,
        /// What has come of the next line.
        line: Vec<u8>,
    },
    Here {
        items: mpsc::Receiver<Json>,
        pages: Option<mpsc::Sender<Result<Vec<u8>, Failure>>>,
        result: oneshot::Receiver<Result<Json, Failure>>,
        task: tokio::task::JoinHandle<()>,
    },
}

impl Call {
    /// Starts a request with a handler in this process.
    pub fn here(handler: &impl Handler, request: Request) -> Self {
        let (items, queue) = mpsc::channel(QUEUE);
        let (pages, incoming) = mpsc::channel(QUEUE);
        let (answer, result) = oneshot::channel();
        let handler = handler.clone();
        let task = tokio::spawn(async move {
            let _ = answer.send(handler.call(request, incoming, items).await);
        });
        Call(Way::Here { items: queue, pages: Some(pages), result, task })
    }

    /// Sends one page of an import. `false`: the peer takes no more, [`Call::next`] says why.
    pub async fn page(&mut self, page: Vec<u8>) -> bool {
        match &mut self.0 {
            Way::Socket { write, .. } => send(write, &Page64 { page: BASE64.encode(page) }).await.is_ok(),
            Way::Here { pages: Some(pages), .. } => pages.send(Ok(page)).await.is_ok(),
            Way::Here { pages: None, .. } => false,
        }
    }

    /// Says that there are no more pages.
    pub async fn end(&mut self) {
        match &mut self.0 {
            Way::Socket { write, .. } => {
                let _ = send(write, &serde_json::json!({"end": true})).await;
            }
            Way::Here { pages, .. } => *pages = None,
        }
    }

    /// The next answer: items, then one that is not. Nothing is lost where the future is dropped.
    pub async fn next(&mut self) -> Answer {
        match &mut self.0 {
            Way::Socket { read, line, .. } => match read_line(read, line).await {
                Ok(Some(line)) => serde_json::from_slice(&line)
                    .unwrap_or_else(|e| Answer::Failed(Failure::new(Code::Failed, format_args!("answer: {e}")))),
                Ok(None) => Answer::Failed(Failure::new(Code::Failed, "the peer stopped before it answered")),
                Err(e) => Answer::Failed(e.into()),
            },
            Way::Here { items, result, .. } => match items.recv().await {
                Some(item) => Answer::Item(item),
                None => match result.await {
                    Ok(result) => result.map_or_else(Answer::Failed, Answer::Done),
                    Err(_) => Answer::Failed(Failure::new(Code::Failed, "the request was given up")),
                },
            },
        }
    }

    /// Gives every item to `each` and returns the last answer.
    pub async fn drain<T: DeserializeOwned>(
        &mut self,
        mut each: impl FnMut(Json) -> Result<(), Failure>,
    ) -> Result<T, Failure> {
        loop {
            match self.next().await {
                Answer::Item(item) => each(item)?,
                Answer::Done(value) => {
                    return serde_json::from_value(value).map_err(|e| Failure::new(Code::Failed, e));
                }
                Answer::Failed(failure) => return Err(failure),
            }
        }
    }

    /// The answer of a request that has no items.
    pub async fn result<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        self.drain(|_| Ok(())).await
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Way::Here { task, .. } = &self.0 {
            task.abort();
        }
    }
}

async fn send(write: &mut OwnedWriteHalf, line: &impl serde::Serialize) -> std::io::Result<()> {
    let mut bytes = serde_json::to_vec(line).map_err(std::io::Error::other)?;
    bytes.push(b'\n');
    write.write_all(&bytes).await
}
