//! The threads that a peer's process runs on.

use tokio::runtime::{Builder, Runtime};

/// A runtime with a worker for every two processors, and at least one; `TOKIO_WORKER_THREADS` says otherwise.
///
/// All of a peer's decisions are made in one task, beside which there are only its connections. A worker for every processor
/// spends much of its time on waking the others: three voters and their clients on two processors acknowledged an eighth more
/// writes for the same work of a client with one worker each (bench `lock`, 64 clients through doors). Storage has a thread of
/// its own.
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
