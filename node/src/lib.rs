//! A native Foreshore peer: the `foreshore` binary's parts, as a library so that tests reach them.
//!
//! | room | what it holds |
//! |---|---|
//! | [`args`], [`config`] | what can be asked for; flags over environment over file over defaults |
//! | [`cli`] | carries out a command: finds a peer, asks it, prints what it says |
//! | [`request`], [`control`] | the vocabulary between a command and a peer, and the socket between them |
//! | [`service`] | what a peer does for commands, over `foreshore::peer` |
//! | [`run`](cli), [`http`] | the long-running peer; its health, metrics and status |
//! | `clock` | the clock that a peer and its commands share |
//! | [`doors`] | servers for clients of other systems: ZooKeeper's, automerge-repo's |
//! | [`runtime()`] | the threads of a peer's process |
//! | [`doctor`] | checks a store that no peer has open |
//! | [`failure`], [`output`], [`banner`], [`progress`], [`logging`] | what people and shells see |

pub mod args;
pub mod banner;
pub mod cli;
mod clock;
pub mod config;
pub mod control;
pub mod doctor;
pub mod doors;
pub mod failure;
pub mod http;
pub mod logging;
pub mod output;
pub mod progress;
pub mod request;
mod run;
mod runtime;
pub mod service;

pub use runtime::runtime;
