//! Doors: servers for clients that nobody here wrote, each off until asked for.

pub mod automerge_repo;
pub mod zookeeper;

use std::pin::Pin;
use std::sync::Arc;

use foreshore::peer::Space;

/// Finds the space that a door serves, or says why there is none. The peer may join it later.
pub type FindSpace = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Space, String>> + Send>> + Send + Sync>;
