//! Tokio.

use std::future::Future;
use std::time::{Duration, Instant};

/// A handle to the runtime that carries the peer.
#[derive(Debug, Clone)]
pub(crate) struct Runtime(tokio::runtime::Handle);

impl Runtime {
    pub(crate) fn new(handle: tokio::runtime::Handle) -> Self {
        Self(handle)
    }

    /// Starts a task that nobody waits for.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // Detached on purpose: tasks end with the channels they serve.
        drop(self.0.spawn(task));
    }

    /// Runs what may block, off the workers.
    pub(crate) fn spawn_blocking(&self, work: impl FnOnce() + Send + 'static) {
        drop(self.0.spawn_blocking(work));
    }

    /// The future's value, or `None` once `limit` has passed.
    pub(crate) async fn timeout<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        tokio::time::timeout(limit, future).await.ok()
    }

    /// Sleeps until `at`; for ever if there is no such time.
    pub(crate) async fn sleep_until(at: Option<Instant>) {
        match at {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    }
}
