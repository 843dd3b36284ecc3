//! The threads that a peer's process runs on.

use tokio::runtime::{Builder, Runtime};

/// A runtime with a worker for every two processors, and at least one; `TOKIO_WORKER_THREADS` says otherwise.
///
/// All of a peer's decisions are made in one task, beside which there are only its connections, and storage has a thread of its
/// own: a worker for every processor spends much of its time on waking the others. On two processors, writes of 64 clients
/// through the doors of three voters against ZooKeeper's own servers were 1.42 with two workers each, 1.62 with one and without
/// frames to a voter's own door (means of five runs of the bench `door`).
///
/// # Errors
/// The system gives no threads.
pub fn runtime() -> std::io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.enable_all();
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        builder.worker_threads((processors / 2).max(1));
    }
    builder.build()
}
