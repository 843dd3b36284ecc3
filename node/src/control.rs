//! The control socket: how a command reaches the running peer of its data directory.
//!
//! A Unix socket `control.sock` in the data directory, mode 0600, that also checks the caller's user id with the
//! system. One connection carries one request: a line of JSON ([`Request`]), for an import
//! followed by lines of pages and `{"end":true}`; back come any number of item lines and one last line
//! ([`Answer`](crate::request::Answer)). Hanging up cancels.
//!
//! Bounds: [`MAX_LINE`] a line, [`MAX_CONNECTIONS`] at once, [`REQUEST_TIMEOUT`] for the request to arrive; items wait
//! in a queue of [`QUEUE`] until the caller reads them, and the peer's work waits with them.

mod client;
mod server;

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use serde_json::Value as Json;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};
use tokio::sync::mpsc;

pub use self::client::{Call, Connection};
pub use self::server::Server;
use crate::failure::Failure;
use crate::request::Request;

/// Longest line in bytes, either way. A document of 100 MB fits as JSON with its quotes escaped.
pub const MAX_LINE: usize = 256 << 20;

/// Most connections at once; further callers wait to be accepted.
pub const MAX_CONNECTIONS: usize = 64;

/// How long a request may take to arrive.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Items or pages that wait between the peer and a slow caller.
pub const QUEUE: usize = 64;

/// Name of the socket in the data directory.
pub const SOCKET: &str = "control.sock";

/// Items on their way to the caller. Sending fails once the caller is gone.
pub type Items = mpsc::Sender<Json>;

/// Pages on their way in. A page that could not be read ends the stream with the reason.
pub type Pages = mpsc::Receiver<Result<Vec<u8>, Failure>>;

/// Carries out requests.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Carries out one request: items go to `items` as they come, the return value is the last line. Dropping the future
    /// cancels.
    fn call(&self, request: Request, pages: Pages, items: Items) -> impl Future<Output = Result<Json, Failure>> + Send;
}

/// Runs `with` on a path to the socket that is short enough for a socket address (108 bytes on Linux): a longer one is
/// reached through an open descriptor of its directory.
fn with_short_path<T>(directory: &Path, with: impl FnOnce(&Path) -> std::io::Result<T>) -> std::io::Result<T> {
    let path = directory.join(SOCKET);
    if path.as_os_str().len() < 100 {
        return with(&path);
    }
    let directory = std::fs::File::open(directory)?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&directory);
    with(&Path::new("/proc/self/fd").join(number.to_string()).join(SOCKET))
}

/// Reads one line of at most [`MAX_LINE`] bytes; `None` at the end of the stream. What of it has come stays in `line` where the
/// future is dropped, and the next call goes on from there.
async fn read_line(
    reader: &mut (impl AsyncBufRead + Unpin + Send),
    line: &mut Vec<u8>,
) -> std::io::Result<Option<Vec<u8>>> {
    let room = (MAX_LINE as u64 + 1).saturating_sub(line.len() as u64);
    reader.take(room).read_until(b'\n', line).await?;
    let mut line = std::mem::take(line);
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) if line.len() >= MAX_LINE => {
            Err(std::io::Error::new(std::io::ErrorKind::InvalidData, format!("a line has more than {MAX_LINE} bytes")))
        }
        Some(_) => Err(std::io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests;
