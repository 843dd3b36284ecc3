//! `cargo xtask demo`: builds everything and runs the demo.

use crate::cargo::{self, cargo};
use crate::web;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Check instead: peers type one text on the terminal and must end byte-identical, and the page must be served
    #[arg(long)]
    once: bool,
    /// No page: only the peers that type one text, as a table on the terminal
    #[arg(long, conflicts_with = "share")]
    terminal: bool,
    /// Listen on every interface, so that other devices of the network can open the page and be let in
    #[arg(long)]
    share: bool,
    /// Where the page is served
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// As it ships: optimised, small, and slow to build
    #[arg(long)]
    release: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    if options.terminal || options.once {
        let mut command = cargo("run --quiet --bin demo --");
        if options.once {
            command.arg("--once");
        }
        cargo::run(command)?;
    }
    if options.terminal {
        return Ok(());
    }
    let page = web::build(!options.release)?;
    // The node too: what is shown is what `foreshore run` serves.
    for program in ["build --quiet --bin foreshore", "run --quiet --bin stage"] {
        let mut command = cargo(program);
        command.args(["--features", "foreshore-node/web"]).env("FORESHORE_WEB", &page);
        if options.release {
            command.arg("--release");
        }
        if program.starts_with("run") {
            command.arg("--");
            if options.once {
                command.args(["--once", "--port", "0"]);
            }
            if options.share {
                command.arg("--share");
            }
            if let Some(port) = options.port {
                command.args(["--port", &port.to_string()]);
            }
        }
        cargo::run(command)?;
    }
    Ok(())
}
