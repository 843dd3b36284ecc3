//! The binary as people and scripts use it: real processes, real sockets, real files.
//!
//! Nothing here waits for a time: every wait is for a condition, up to a patience that only a broken build exhausts.
//! Ports are chosen by the system, and every process is ended by the handle that started it.

mod bad_days;
mod bad_input;
mod commands;
mod first_minute;
mod http;
mod lock;
mod mdns;
mod services;
mod serving;
mod sessions;
mod soft;
mod standing;
mod support;
mod topic;
mod tree;
mod voters;
