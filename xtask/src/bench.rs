//! `cargo xtask bench`: builds the benches in release and runs them.

use crate::cargo::{self, cargo};
use crate::{browser, npm};

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
    if options.name.as_deref().is_none_or(|name| name == "wasm") {
        match browser::chromium() {
            Ok(chromium) => _ = command.env("FORESHORE_PACKAGE", npm::build(false)?).env("CHROMIUM", chromium),
            Err(error) => println!("`wasm` is not measured: {error}"),
        }
    }
    cargo::run(command)
}
