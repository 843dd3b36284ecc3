//! What the driver needs of an async runtime: tasks and timers. Tokio natively, the event loop in a browser.

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod web;

use std::future::Future;
use std::pin::Pin;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use self::native::Runtime;
#[cfg(target_arch = "wasm32")]
pub(crate) use self::web::Runtime;

impl libp2p::swarm::Executor for Runtime {
    fn exec(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.spawn(task);
    }
}
