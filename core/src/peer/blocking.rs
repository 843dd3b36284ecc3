//! For programs without a runtime: the same peer, waiting where the async one would be awaited.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let peer = foreshore::peer::blocking::spawn(foreshore::peer::Peer::builder().in_memory())?;
//! let space = peer.wait(peer.create_space("home"))?;
//! let food = peer.wait(space.document("/lists/food"))?;
//! peer.wait(food.edit(|d| d.put("bread", 2))?.durable())?;
//! peer.close()?;
//! # Ok(()) }
//! ```
//!
//! The facade is one method, [`Peer::wait`]: every handle of [`crate::peer`] works from any thread, and what returns a
//! future there is given to it.

use std::future::IntoFuture;
use std::ops::Deref;
use std::sync::Arc;

use super::{Builder, CommandError, SpawnError};

/// Threads of the runtime under a blocking peer: one for the engine's loop, one for connections.
const WORKERS: usize = 2;

/// A peer with a runtime of its own. Cheap to clone. Do not use it inside an async runtime: [`Peer::wait`] would block
/// it, and panics where tokio notices.
#[derive(Clone)]
pub struct Peer {
    peer: super::Peer,
    runtime: Arc<Runtime>,
}

struct Runtime(Option<tokio::runtime::Runtime>);

impl Drop for Runtime {
    fn drop(&mut self) {
        // Waiting for tasks here could block an async caller's thread; the driver ends by itself.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Starts a peer on a runtime of its own.
pub fn spawn(builder: Builder) -> Result<Peer, SpawnError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("foreshore")
        .enable_all()
        .build()
        .map_err(SpawnError::System)?;
    let peer = runtime.block_on(builder.spawn())?;
    Ok(Peer { peer, runtime: Arc::new(Runtime(Some(runtime))) })
}

impl Deref for Peer {
    type Target = super::Peer;
    fn deref(&self) -> &super::Peer {
        &self.peer
    }
}

impl Peer {
    /// Waits for what an async method returned.
    pub fn wait<F: IntoFuture>(&self, future: F) -> F::Output {
        let runtime = self.runtime.0.as_ref().expect("the runtime is there until the last handle is dropped");
        runtime.block_on(future.into_future())
    }

    /// Stores what is under way and closes, see [`Peer::shutdown`](super::Peer::shutdown).
    pub fn close(self) -> Result<(), CommandError> {
        self.wait(self.peer.shutdown())
    }
}
