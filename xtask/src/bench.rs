//! `cargo xtask bench`: builds the benches in release and runs them.

use crate::cargo::{self, cargo};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Which bench; all of them when left out
    name: Option<String>,
    /// Sizes cut by ten, for a smoke run
    #[arg(long)]
    quick: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut command = cargo("run --quiet --release --package foreshore-bench --");
    command.arg("--out").arg(cargo::target_dir().join("bench"));
    if options.quick {
        command.arg("--quick");
    }
    command.args(&options.name);
    cargo::run(command)
}
