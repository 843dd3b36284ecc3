//! A native Foreshore peer: the `foreshore` binary's parts, as a library so that tests reach them.
//!
//! [`args`] says what can be asked for, [`config`] merges flags, environment and file, [`request`] is the vocabulary
//! between a command and a peer, [`control`] the socket between them, [`failure`] what a command ends with otherwise.

pub mod config;
pub mod control;
pub mod failure;
pub mod request;
