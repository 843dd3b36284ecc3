//! The CP side: one group of voters that agree on one log, and what is built on it.
//!
//! [`replicated`] is the seam: consensus ([`raft`]) orders entries and knows nothing of what they mean; a machine gives
//! them their meaning and knows nothing of voters. Neither imports the other.

pub mod raft;
pub mod replicated;
