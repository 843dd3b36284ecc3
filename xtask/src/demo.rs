//! `cargo xtask demo`: builds and runs the demo.

use crate::cargo::{self, cargo};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Do not wait for a key; exit 0 only when all peers ended byte-identical
    #[arg(long)]
    once: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut command = cargo("run --quiet --package foreshore-tests --bin demo --");
    if options.once {
        command.arg("--once");
    }
    cargo::run(command)
}
