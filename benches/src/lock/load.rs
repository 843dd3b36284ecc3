//! Clients at work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Client;
use crate::measure::percentile;

/// Bytes of a value.
const VALUE: usize = 100;
/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// What every client does, again and again.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    OwnLock,
    OneLock,
    Write,
    Read,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    pub(super) per_second: f64,
    pub(super) p99_ms: f64,
}

/// The key of a client.
pub(super) fn key(n: usize) -> String {
    format!("/keys/{n}")
}

/// The lock of a client, and the one that all want.
pub(super) fn lock(n: usize) -> String {
    format!("/locks/{n}")
}

pub(super) const ONE_LOCK: &str = "/locks/one";

/// Has every client do it one after the other for a time.
pub(super) async fn drive(clients: &mut Vec<Client>, act: Act, span: Duration) -> anyhow::Result<Rates> {
    let began = Instant::now();
    let tasks: Vec<JoinHandle<anyhow::Result<(Client, Vec<f64>)>>> = std::mem::take(clients)
        .into_iter()
        .enumerate()
        .map(|(n, client)| tokio::spawn(work(client, n, act, began + span)))
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        let (client, took) = task.await??;
        clients.push(client);
        times.extend(took);
    }
    ensure!(!times.is_empty(), "nothing was done in {span:?}");
    let per_second = times.len() as f64 / began.elapsed().as_secs_f64();
    Ok(Rates { per_second, p99_ms: percentile(&mut times, 99.0) })
}

async fn work(mut client: Client, n: usize, act: Act, until: Instant) -> anyhow::Result<(Client, Vec<f64>)> {
    let (key, own, value) = (key(n), lock(n), [n as u8; VALUE]);
    let mut times = Vec::new();
    while Instant::now() < until {
        let began = Instant::now();
        let done = async {
            match act {
                Act::OwnLock => client.cycle(&own).await,
                Act::OneLock => client.cycle(ONE_LOCK).await,
                Act::Write => client.write(&key, &value).await,
                Act::Read => {
                    let read = client.read(&key).await?;
                    ensure!(read.len() == VALUE, "{} bytes came back", read.len());
                    Ok(())
                }
            }
        };
        tokio::time::timeout(PATIENCE, done).await.with_context(|| format!("{act:?} is not answered"))??;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok((client, times))
}

/// Clients that write on and on, whatever fails.
pub(super) struct Writers {
    /// When each had the last write acknowledged that it has, and when that one was begun.
    done: Vec<watch::Receiver<Option<(Instant, Instant)>>>,
    /// What each was refused with last.
    refused: Vec<Arc<Mutex<Option<anyhow::Error>>>>,
    tasks: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Writers {
    pub(super) fn start(clients: Vec<Client>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut done, mut refused, mut tasks) = (Vec::new(), Vec::new(), Vec::new());
        for (n, mut client) in clients.into_iter().enumerate() {
            let (told, seen) = watch::channel(None);
            done.push(seen);
            let last = Arc::new(Mutex::new(None));
            refused.push(last.clone());
            let stop = stop.clone();
            tasks.push(tokio::spawn(async move {
                let (key, value) = (key(n), [n as u8; VALUE]);
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    match client.write(&key, &value).await {
                        Ok(()) => drop(told.send(Some((began, Instant::now())))),
                        // Whoever refuses at once is asked again soon, not at once.
                        Err(error) => {
                            *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                    }
                }
            }));
        }
        Self { done, refused, tasks, stop }
    }

    /// Waits until every client has written something now.
    pub(super) async fn settle(&self) -> anyhow::Result<()> {
        self.gaps(Instant::now()).await.map(drop)
    }

    /// For each client: from then until it has a write acknowledged that it began after, in milliseconds.
    pub(super) async fn gaps(&self, from: Instant) -> anyhow::Result<Vec<f64>> {
        let mut gaps = Vec::new();
        for (n, done) in self.done.iter().enumerate() {
            let mut done = done.clone();
            let wait = done.wait_for(|done| done.is_some_and(|(began, _)| began >= from));
            let seen = tokio::time::timeout(PATIENCE, wait).await.with_context(|| {
                let last = self.refused[n].lock().unwrap_or_else(PoisonError::into_inner);
                format!("client {n} never writes again; it was refused with {last:?}")
            });
            let seen = *seen??;
            let (_, at) = seen.context("it has written")?;
            gaps.push(at.duration_since(from).as_secs_f64() * 1e3);
        }
        Ok(gaps)
    }

    pub(super) async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            // A write that is under way towards a server that is gone is not waited for.
            task.abort();
            let _ = task.await;
        }
    }
}
