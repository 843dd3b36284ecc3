//! The event loop of a page, of a worker, or of Node: one thread, tasks as microtasks, timers by `setTimeout`.
//!
//! A hidden page's timers come late, by up to a minute; whoever depends on time compares clocks when it wakes.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};
use futures_timer::Delay;
use web_time::Instant;

/// `setTimeout` counts in 31 bits of milliseconds: later than this it would fire at once.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The event loop; there is only one.
#[derive(Debug, Clone)]
pub(crate) struct Runtime;

impl Runtime {
    /// Starts a task that nobody waits for.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        wasm_bindgen_futures::spawn_local(task);
    }

    /// Runs what blocks natively; in a browser nothing does.
    pub(crate) fn spawn_blocking(&self, work: impl FnOnce() + 'static) {
        work();
    }

    /// The future's value, or `None` once `limit` has passed.
    pub(crate) async fn timeout<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        match select(pin!(future), Delay::new(limit.min(LONGEST))).await {
            Either::Left((value, _)) => Some(value),
            Either::Right(_) => None,
        }
    }

    /// Sleeps until `at`, or shorter than that; for ever if there is no such time.
    pub(crate) async fn sleep_until(at: Option<Instant>) {
        match at {
            // Rounded up: `setTimeout` may fire within the millisecond before, and the driver would spin until then.
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
                Delay::new(left.min(LONGEST)).await;
            }
            None => std::future::pending().await,
        }
    }
}
