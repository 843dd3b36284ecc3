//! Anti-entropy: what two peers' item sets of one domain differ in, for bytes in proportion to the difference.

mod item;
mod lthash;
pub mod riblt;
mod sketch;
mod summary;

pub use item::{IdKey, Item, KeyName, Root};
pub use lthash::LtHash;
pub use sketch::{Sketch, SketchDigest};
pub use summary::Summary;
