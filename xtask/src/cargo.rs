//! Running programs: always from the workspace root, always shown, never through a shell.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, bail};

/// The workspace root.
pub(crate) fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().expect("xtask lies directly under the workspace root").to_path_buf()
}

/// Where cargo puts what it builds: by the environment, by its configuration, or in `target`.
pub(crate) fn target_dir() -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let ask = || {
        let metadata = output(cargo("metadata --format-version 1 --no-deps")).ok()?;
        let metadata: serde_json::Value = serde_json::from_slice(&metadata).ok()?;
        Some(PathBuf::from(metadata["target_directory"].as_str()?))
    };
    DIRECTORY.get_or_init(|| ask().unwrap_or_else(|| root().join("target"))).clone()
}

/// A cargo command, its words split at white space.
pub(crate) fn cargo(words: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Cargo sets these for the program it runs; a cargo started from it must not take them for its own.
    command.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_PKG_NAME").env_remove("CARGO_MANIFEST_PATH");
    command.args(words.split_whitespace()).current_dir(root());
    command
}

/// How a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let envs = command
        .get_envs()
        .filter_map(|(key, value)| value.map(|value| format!("{}={}", key.to_string_lossy(), value.to_string_lossy())));
    let args = command.get_args().map(|arg| arg.to_string_lossy().into_owned());
    envs.chain([program]).chain(args).collect::<Vec<_>>().join(" ")
}

/// Runs to the end; an exit code other than 0 is an error that shows the command.
pub(crate) fn run(mut command: Command) -> anyhow::Result<()> {
    println!("$ {}", shown(&command));
    let status = command.status().with_context(|| format!("cannot start `{}`", shown(&command)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", shown(&command));
    }
    Ok(())
}

/// Runs to the end and gives back what it printed.
pub(crate) fn output(mut command: Command) -> anyhow::Result<Vec<u8>> {
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start `{}`", shown(&command)))?;
    if !output.status.success() {
        bail!("`{}` ended with {}", shown(&command), output.status);
    }
    Ok(output.stdout)
}

/// Whether `cargo NAME` is there.
pub(crate) fn has(subcommand: &str) -> bool {
    let mut probe = cargo(subcommand);
    probe.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}

/// The browser's target.
pub(crate) const WASM: &str = "wasm32-unknown-unknown";

/// Has the toolchain's part for the browser, which rustup brings where it is not there.
pub(crate) fn have_wasm() -> anyhow::Result<()> {
    let mut sysroot = Command::new("rustc");
    sysroot.args(["--print", "target-libdir", "--target", WASM]).current_dir(root());
    let libdir = String::from_utf8(output(sysroot)?)?;
    if Path::new(libdir.trim()).exists() {
        return Ok(());
    }
    let mut add = Command::new("rustup");
    add.args(["target", "add", WASM]).current_dir(root());
    run(add).context("the toolchain lacks the wasm32-unknown-unknown target")
}
