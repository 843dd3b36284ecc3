//! A link: one open sync stream, with a task that reads frames off it and a task that writes frames to it.
//!
//! Bounds: the reader holds one unfinished frame ([`frame`](super::frame)) and what one read completed, and waits while
//! the driver's queue is full, so that a flood stops at the peer's flow-control window. The writer's queue is bounded
//! in bytes; the engine keeps far below by credits, so a link at the bound is broken and is closed. A peer that takes
//! nothing for the write timeout is gone, whatever its connection says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures::future::{AbortHandle, Abortable};
use futures::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc::{Sender, UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::clock::Clock;
use super::frame::{self, Decoder, FrameError};
use super::limits::PeerLimits;
use super::runtime::Runtime;
use super::{CLOSE_TIMEOUT, WRITE_TIMEOUT};
use crate::io::LinkId;
use crate::topic::{Bucket, Rate};

/// Bytes that may wait to be written to one link: twice the default credit window and a half, so an honest engine
/// never comes near. Worst-case memory is this times the number of links.
pub(crate) const MAX_QUEUED: usize = 16 << 20;

/// Frames are gathered up to about this size into one write.
const WRITE_CHUNK: usize = 64 * 1024;

/// How fast links are read, and how often one was too fast.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes: Rate,
    frames: Rate,
    clock: Clock,
    throttled: Arc<AtomicU64>,
}

/// What the reader of one link needs to know.
#[derive(Debug)]
pub(crate) struct Reading {
    /// Longest frame.
    max: usize,
    bytes: (Bucket, Rate),
    frames: (Bucket, Rate),
    clock: Clock,
    throttled: Arc<AtomicU64>,
}

impl Pace {
    pub(crate) fn new(limits: &PeerLimits, clock: Clock) -> Self {
        Self { bytes: limits.bytes, frames: limits.frames, clock, throttled: Arc::default() }
    }

    /// For one more link, of frames of at most `max` bytes.
    pub(crate) fn reader(&self, max: usize) -> Reading {
        let now = self.clock.mono();
        let full = |rate: Rate| (Bucket::new(rate, now), rate);
        let throttled = self.throttled.clone();
        Reading { max, bytes: full(self.bytes), frames: full(self.frames), clock: self.clock, throttled }
    }

    /// Times that the reading of a link paused.
    pub(crate) fn throttled(&self) -> u64 {
        self.throttled.load(Ordering::Relaxed)
    }
}

impl Reading {
    /// Takes what was read into account, and pauses until that much may be read. Meanwhile the peer's own flow control fills.
    async fn pause(&mut self, bytes: usize, frames: usize) {
        for ((bucket, rate), cost) in [(&mut self.bytes, bytes), (&mut self.frames, frames)] {
            let mut left = cost as u64;
            // What one read brings may be more than a small limit holds at once.
            while left > 0 {
                let next = left.min(rate.burst.max(1));
                match bucket.take(self.clock.mono(), next) {
                    Ok(()) => left -= next,
                    Err(wait) => {
                        self.throttled.fetch_add(1, Ordering::Relaxed);
                        Runtime::sleep_until(Some(self.clock.instant(self.clock.mono() + wait))).await;
                    }
                }
            }
        }
    }
}

/// What a link's tasks tell the driver.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// Whole frames, in order.
    Frames { link: LinkId, frames: Vec<Vec<u8>> },
    /// The link is over.
    Ended { link: LinkId, why: Ended },
}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("the peer closed it")]
    Closed,
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("everything was sent, and the peer had time to take it")]
    Drained,
    #[error("the peer took nothing for {WRITE_TIMEOUT:?}")]
    Slow,
}

/// The driver's end of a link. Dropping it stops reading at once and lets what is queued leave; [`Ended::Drained`]
/// follows when the peer has had [`CLOSE_TIMEOUT`] to take it.
#[derive(Debug)]
pub(crate) struct Link {
    frames: UnboundedSender<Vec<u8>>,
    queued: Arc<AtomicUsize>,
    reader: AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Link {
    /// Starts both tasks on an open stream.
    pub(crate) fn spawn<S>(
        runtime: &Runtime,
        link: LinkId,
        stream: S,
        reading: Reading,
        events: Sender<LinkEvent>,
    ) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (read, write) = stream.split();
        let (reader, registration) = AbortHandle::new_pair();
        let (frames, queue) = unbounded_channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let to_driver = events.clone();
        let writer = Writer { write, queue, queued: queued.clone(), runtime: runtime.clone() };
        runtime.spawn(async move {
            let reading = async {
                let why = read_frames(link, read, reading, &to_driver).await;
                let _ = to_driver.send(LinkEvent::Ended { link, why }).await;
            };
            let _ = Abortable::new(reading, registration).await;
        });
        runtime.spawn(async move {
            let why = writer.run().await.err().unwrap_or(Ended::Drained);
            let _ = events.send(LinkEvent::Ended { link, why }).await;
        });
        Self { frames, queued, reader }
    }

    /// Queues a frame. `false`: the queue is at its bound or the writer is gone; close the link.
    pub(crate) fn send(&self, frame: Vec<u8>) -> bool {
        let before = self.queued.fetch_add(frame.len(), Ordering::Relaxed);
        before <= MAX_QUEUED && self.frames.send(frame).is_ok()
    }

    /// Bytes that wait to be written.
    pub(crate) fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }
}

async fn read_frames(
    link: LinkId,
    mut read: impl AsyncRead + Unpin,
    mut reading: Reading,
    events: &Sender<LinkEvent>,
) -> Ended {
    let mut decoder = Decoder::new(reading.max);
    loop {
        let taken = match read.read(decoder.space()).await {
            Ok(0) => return Ended::Closed,
            Ok(n) => n,
            Err(error) => return error.into(),
        };
        decoder.advance(taken);
        let mut frames = Vec::new();
        let broken = loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        reading.pause(taken, frames.len()).await;
        if !frames.is_empty() && events.send(LinkEvent::Frames { link, frames }).await.is_err() {
            return Ended::Closed;
        }
        if let Some(error) = broken {
            return error.into();
        }
    }
}

struct Writer<W> {
    write: W,
    queue: UnboundedReceiver<Vec<u8>>,
    queued: Arc<AtomicUsize>,
    runtime: Runtime,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// Writes until the driver drops its end and the queue is empty, then closes the stream.
    async fn run(mut self) -> Result<(), Ended> {
        let mut chunk = Vec::with_capacity(WRITE_CHUNK);
        while let Some(first) = self.queue.recv().await {
            let mut taken = first.len();
            append(&mut chunk, &first);
            while chunk.len() < WRITE_CHUNK
                && let Ok(frame) = self.queue.try_recv()
            {
                taken += frame.len();
                append(&mut chunk, &frame);
            }
            let write = async {
                self.write.write_all(&chunk).await?;
                self.write.flush().await
            };
            self.runtime.timeout(WRITE_TIMEOUT, write).await.ok_or(Ended::Slow)??;
            self.queued.fetch_sub(taken, Ordering::Relaxed);
            chunk.clear();
            chunk.shrink_to(2 * WRITE_CHUNK);
        }
        // A peer that does not take the goodbye changes nothing: the link is over here.
        let _ = self.runtime.timeout(CLOSE_TIMEOUT, self.write.close()).await;
        // It closes the connection once it has read to the end; closing it from here at once could overtake the last
        // frames (QUIC drops what is not acknowledged).
        let _ = self.runtime.timeout(CLOSE_TIMEOUT, std::future::pending::<()>()).await;
        Ok(())
    }
}

fn append(chunk: &mut Vec<u8>, bytes: &[u8]) {
    frame::push_prefix(chunk, bytes.len());
    chunk.extend_from_slice(bytes);
}
