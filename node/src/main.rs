//! The `foreshore` binary.

use std::process::ExitCode;

use clap::Parser;
use foreshore_node::args::Cli;
use foreshore_node::cli;
use foreshore_node::output::Output;

/// A voter under load spends a third of its own time in glibc's allocator (`perf`, 64 clients on two cores).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Two providers may be compiled in; whoever asks for TLS first would get neither. Failing means one is set already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::parse();
    let out = Output { json: cli.global.json };
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let runtime = match foreshore_node::runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            out.failure(&error.into());
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(cli::execute(cli, environment));
    // A blocked read of standard input must not hold up the end.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            out.failure(&failure);
            ExitCode::from(failure.code.exit_status())
        }
    }
}
