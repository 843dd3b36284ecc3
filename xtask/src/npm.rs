//! `cargo xtask npm`: the npm package `foreshore`.
//!
//! Everything happens in `target/npm`: sources are copied there, and what the build needs from npm is installed beside them
//! by the committed lock file, so that the clone itself stays clean. The JavaScript around the wasm is made by
//! wasm-bindgen's own library at exactly the version that the wasm was compiled with.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, anyhow};
use wasm_bindgen_cli_support::Bindgen;

use crate::cargo::{self, cargo};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Quick to build and large: the dev profile, not optimised for size
    #[arg(long)]
    dev: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let package = build(options.dev)?;
    let mut pack = npm(&package);
    pack.args(["pack", "--silent", "--pack-destination", ".."]);
    cargo::run(pack)?;
    println!("packed into {}", package.parent().unwrap_or(&package).display());
    Ok(())
}

/// Builds the package and says where it is.
pub(crate) fn build(dev: bool) -> anyhow::Result<PathBuf> {
    let package = cargo::target_dir().join("npm").join("foreshore");
    let wasm = compile(dev)?;
    copy_sources(&cargo::root().join("wasm/js"), &package)?;
    install(&package)?;
    let dist = package.join("dist");
    let mut tsc = Command::new("node");
    tsc.args(["node_modules/typescript/bin/tsc", "-p", "tsconfig.json"]).current_dir(&package);
    cargo::run(tsc)?;
    bind(&wasm, &dist)?;
    if !dev {
        shrink(&package)?;
    }
    Ok(package)
}

fn compile(dev: bool) -> anyhow::Result<PathBuf> {
    const TARGET: &str = "wasm32-unknown-unknown";
    let profile = if dev { "dev" } else { "wasm" };
    cargo::run(cargo(&format!("build --quiet --package foreshore-wasm --target {TARGET} --profile {profile}")))?;
    let directory = if dev { "debug" } else { "wasm" };
    Ok(cargo::target_dir().join(TARGET).join(directory).join("foreshore_wasm.wasm"))
}

/// The JavaScript around the wasm. The package loads the wasm itself, so no path to it is written in.
fn bind(wasm: &Path, dist: &Path) -> anyhow::Result<()> {
    println!("$ wasm-bindgen {} --target web", wasm.display());
    Bindgen::new()
        .input_path(wasm)
        .web(true)?
        .omit_default_module_path(true)
        .typescript(false)
        .out_name("core")
        .generate(dist)
        .map_err(|error| anyhow!("wasm-bindgen: {error:#}"))?;
    std::fs::rename(dist.join("core_bg.wasm"), dist.join("core.wasm")).context("naming the wasm")
}

fn shrink(package: &Path) -> anyhow::Result<()> {
    let mut opt = Command::new("node");
    opt.args(["node_modules/binaryen/bin/wasm-opt", "-Oz", "--all-features", "dist/core.wasm", "-o", "dist/core.wasm"]);
    opt.current_dir(package);
    cargo::run(opt)?;
    // File by file: bundlers still see what imports what, and leave out what is not used.
    let mut minify = Command::new("node");
    minify.args([
        "node_modules/esbuild/bin/esbuild",
        "dist/*.js",
        "--minify",
        "--target=es2022",
        "--log-level=warning",
    ]);
    minify.args(["--outdir=dist", "--allow-overwrite"]).current_dir(package);
    cargo::run(minify)
}

/// What npm has to bring, by the lock file; nothing if that is here already.
pub(crate) fn install(package: &Path) -> anyhow::Result<()> {
    let lock = std::fs::read(package.join("package-lock.json")).context("the package has a lock file")?;
    let stamp = package.join("node_modules/.installed");
    if std::fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    let mut install = npm(package);
    install.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]);
    cargo::run(install)?;
    std::fs::write(stamp, lock).context("noting what is installed")
}

pub(crate) fn npm(package: &Path) -> Command {
    let mut npm = Command::new("npm");
    npm.current_dir(package);
    npm
}

/// Copies what is in the clone; what only the copy has (installed packages, built files) stays.
pub(crate) fn copy_sources(from: &Path, to: &Path) -> anyhow::Result<()> {
    for directory in ["src", "test", "dist"] {
        let old = to.join(directory);
        if old.exists() {
            std::fs::remove_dir_all(&old).with_context(|| format!("clearing {}", old.display()))?;
        }
    }
    copy_directory(from, to)
}

pub(crate) fn copy_directory(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let (source, name) = (entry.path(), entry.file_name());
        if name == "node_modules" || name == "dist" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            copy_directory(&source, &to.join(&name))?;
        } else {
            std::fs::copy(&source, to.join(&name)).with_context(|| format!("copying {}", source.display()))?;
        }
    }
    Ok(())
}
