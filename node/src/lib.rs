//! A native Foreshore peer: the `foreshore` binary's parts, as a library so that tests reach them.
//!
//! [`args`] says what can be asked for, [`config`] merges flags, environment and file, [`request`] is the vocabulary
//! between a command and a peer, [`control`] the socket between them, [`failure`] what a command ends with otherwise.
//! [`http`] answers health, metrics and status. [`output`], [`banner`], [`progress`] and [`logging`] talk to people.

pub mod args;
pub mod banner;
pub mod config;
pub mod control;
pub mod failure;
pub mod http;
pub mod logging;
pub mod output;
pub mod progress;
pub mod request;
