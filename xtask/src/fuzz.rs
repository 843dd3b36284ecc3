//! `cargo xtask fuzz`: damaged inputs into every decoder, and into a whole peer.

use std::process::{Command, Stdio};

use anyhow::Context;

use crate::cargo::{self, cargo};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long, over all targets together
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Under valgrind's memcheck, which sees what the compiler's checks and dependencies' unsafe code miss: so many inputs of
    /// each target instead
    #[arg(long, value_name = "INPUTS", conflicts_with_all = ["minutes", "input", "write_corpus"])]
    memcheck: Option<u64>,
    /// One target instead of all
    #[arg(long)]
    target: Option<String>,
    /// What the inputs are drawn from: the same seed gives the same ones
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run one input of a target, and say what becomes of it
    #[arg(long, value_name = "FILE", requires = "target")]
    input: Option<std::path::PathBuf>,
    /// Write the inputs that are made of real encodings to fuzz/corpus, and stop
    #[arg(long)]
    write_corpus: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut command = match options.memcheck {
        Some(inputs) => memcheck(inputs)?,
        None => {
            let mut command = cargo("run --quiet --package foreshore-tests --bin fuzz --");
            command.args(["--minutes", &options.minutes.to_string()]);
            command
        }
    };
    command.args(["--seed", &options.seed.to_string()]);
    if let Some(target) = &options.target {
        command.args(["--target", target]);
    }
    if let Some(input) = &options.input {
        let input = std::path::absolute(input).context("the input's path")?;
        command.arg("--input").arg(input);
    }
    if options.write_corpus {
        command.arg("--write-corpus");
    }
    cargo::run(command).context("a target broke; each finding above names the input that repeats it")
}

/// The same program under valgrind, which ends with 99 where it finds an access that is wrong.
fn memcheck(inputs: u64) -> anyhow::Result<Command> {
    let missing = "cannot start `valgrind`; on Debian `apt-get install valgrind` brings it";
    let probe = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().context(missing)?;
    anyhow::ensure!(probe.success(), missing);
    cargo::run(cargo("build --quiet --package foreshore-tests --bin fuzz"))?;
    let mut command = Command::new("valgrind");
    command.args(["--quiet", "--error-exitcode=99", "--leak-check=no"]).arg(cargo::target_dir().join("debug/fuzz"));
    command.args(["--executions", &inputs.to_string()]).current_dir(cargo::root());
    Ok(command)
}
