//! Doors: servers for clients that nobody here wrote, each off until asked for.

pub mod zookeeper;
