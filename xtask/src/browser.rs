//! The steps `browser` and `demo` of `cargo xtask test`: the package and the demo in a real Chromium, against real native peers.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use crate::cargo::{self, cargo};
use crate::{npm, web};

/// Where Debian puts it.
const CHROMIUM: &str = "/usr/bin/chromium";

/// Builds the package and a native peer, and runs the tests in `wasm/js/test`. `long`: a tab that hosts is killed more often.
pub(crate) fn test(long: bool) -> anyhow::Result<()> {
    let chromium = chromium()?;
    cargo::run(cargo("build --quiet --package foreshore-node"))?;
    let package = npm::build(true)?;
    let mut types = Command::new("node");
    types.args(["node_modules/typescript/bin/tsc", "-p", "tsconfig.types.json"]).current_dir(&package);
    cargo::run(types).context("the public types, as programs use them")?;
    let mut node = node_tests(&package)?;
    node.env("FORESHORE_BIN", cargo::target_dir().join("debug/foreshore")).env("CHROMIUM", chromium);
    if long {
        node.env("FORESHORE_LONG", "1");
    }
    cargo::run(node)
}

/// Builds the demo and its native peers, and clicks it through. What it looked like is kept.
pub(crate) fn demo() -> anyhow::Result<()> {
    let chromium = chromium()?;
    let page = web::build(true)?;
    // Over the same members as the other steps, so that what they share is compiled once.
    for what in ["clippy --quiet --workspace --all-targets", "build --quiet --bins"] {
        let mut build = cargo(what);
        build.args(["--features", "foreshore-node/web"]).env("FORESHORE_WEB", &page);
        if what.starts_with("clippy") {
            build.args(["--", "-D", "warnings"]);
        }
        cargo::run(build)?;
    }
    let shots = cargo::target_dir().join("demo");
    let mut node = node_tests(page.parent().context("the page lies in its package")?)?;
    let built = cargo::target_dir().join("debug");
    node.env("FORESHORE_STAGE", built.join("stage")).env("FORESHORE_BIN", built.join("foreshore"));
    node.env("CHROMIUM", chromium);
    node.env("FORESHORE_SHOTS", &shots);
    let outcome = cargo::run(node);
    println!("what the demo looked like: {}", shots.display());
    outcome
}

/// Where the browser is; installs it where that is possible.
fn chromium() -> anyhow::Result<String> {
    let chromium = std::env::var("CHROMIUM").unwrap_or_else(|_| CHROMIUM.into());
    if !Path::new(&chromium).exists() && chromium == CHROMIUM {
        install();
    }
    if !Path::new(&chromium).exists() {
        bail!("no browser at {chromium}: install Debian's chromium, or name one in CHROMIUM");
    }
    Ok(chromium)
}

/// Node's own test runner over the tests of a package.
fn node_tests(package: &Path) -> anyhow::Result<Command> {
    let mut files: Vec<_> = std::fs::read_dir(package.join("test"))
        .context("the package has tests")?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(".test.mjs"))
        .collect();
    files.sort();
    let mut node = Command::new("node");
    // One at a time: each starts a browser and native peers.
    node.args(["--experimental-websocket", "--test", "--test-concurrency=1", "--test-reporter=spec"]);
    node.args(files).current_dir(package);
    Ok(node)
}

/// Tries to get the browser from Debian, which takes root; whoever asked looks whether it is there.
fn install() {
    println!("installing Debian's chromium for the tests in a browser");
    for arguments in
        [&["update", "--quiet"][..], &["install", "--yes", "--quiet", "--no-install-recommends", "chromium"]]
    {
        let _ = Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive").status();
    }
}
