//! `cargo xtask web`: the demo's page, as a node carries it.
//!
//! The page is an app like any other: it gets the npm package as `npm install` of its tarball would lay it out, and what else
//! it needs from npm by its own lock file. Everything happens in `target/npm/web-demo`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::cargo;
use crate::npm;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Quick to build and large: with the dev profile's wasm
    #[arg(long)]
    dev: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let page = build(options.dev)?;
    println!("the page is in {}; `--features web` puts it into the node", page.display());
    Ok(())
}

/// Builds the package and the page; where the page is.
pub(crate) fn build(dev: bool) -> anyhow::Result<PathBuf> {
    let package = npm::build(dev)?;
    let app = cargo::target_dir().join("npm").join("web-demo");
    npm::copy_sources(&cargo::root().join("web-demo"), &app)?;
    npm::install(&app)?;
    lay_out(&package, &app.join("node_modules").join("foreshore"))?;
    for script in [&["node_modules/typescript/bin/tsc", "--noEmit"][..], &["node_modules/vite/bin/vite.js", "build"]] {
        let mut node = Command::new("node");
        node.args(script).current_dir(&app);
        cargo::run(node)?;
    }
    Ok(app.join("dist"))
}

/// What the package's tarball holds, where npm would put it.
fn lay_out(package: &Path, to: &Path) -> anyhow::Result<()> {
    if to.exists() {
        std::fs::remove_dir_all(to).with_context(|| format!("clearing {}", to.display()))?;
    }
    npm::copy_directory(&package.join("dist"), &to.join("dist"))?;
    for file in ["package.json", "README.md"] {
        std::fs::copy(package.join(file), to.join(file)).with_context(|| format!("copying {file}"))?;
    }
    Ok(())
}
