//! Sim.

pub mod machine;
/// A broken promise, planted by a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// What depends on a write leaves before it is durable.
    SendBeforeFsync,
    /// A leader answers reads from what it knows, without asking a majority.
    ReadWithoutQuorum,
}
