//! The facade of the pure side.

/// What a local program asks for.
#[derive(Debug)]
pub enum Command {}
/// What local programs are told.
#[derive(Debug)]
pub enum Event {}
