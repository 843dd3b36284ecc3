//! `cargo xtask …`: everything a contributor does, in one place.
//!
//! The commands only arrange what `cargo` and the workspace's own programs do; whatever they run is printed first, so
//! that any step can be repeated by hand.
#![allow(clippy::disallowed_methods, reason = "a program for people reads the clock")]

mod bench;
mod browser;
mod cargo;
mod demo;
mod fuzz;
mod licences;
mod npm;
mod sim;
mod test;
mod web;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Build, prove, measure and show Foreshore")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Formatting, lints, docs, feature combinations, wasm32, and every test
    Test(test::Options),
    /// Run the simulator over many seeds; a failure prints its seed and the command that replays it
    Sim(sim::Options),
    /// Damaged inputs into every decoder and into a whole peer; what breaks is kept as an input that repeats it
    Fuzz(fuzz::Options),
    /// Three native peers and a page in the browser, whose links are cut and healed by a click
    Demo(demo::Options),
    /// Build the demo's page into target/npm/web-demo, for a node with the feature `web`
    Web(web::Options),
    /// Build the npm package into target/npm
    Npm(npm::Options),
    /// Measure: prints a table and writes target/bench/NAME.json
    Bench(bench::Options),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().task {
        Task::Test(options) => test::run(&options),
        Task::Sim(options) => sim::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Npm(options) => npm::run(&options),
        Task::Demo(options) => demo::run(&options),
        Task::Web(options) => web::run(&options),
        Task::Bench(options) => bench::run(&options),
    }
}
