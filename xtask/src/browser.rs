//! The steps of `cargo xtask test` that take a real Chromium: the package in it, against real native peers, as it is built and
//! as bundlers leave it, and the demo.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::cargo::{self, cargo};
use crate::{npm, web};

/// Where Debian puts it.
const CHROMIUM: &str = "/usr/bin/chromium";

/// Builds the package and a native peer, and runs the tests in `wasm/js/test`. `long`: a tab that hosts is killed more often.
pub(crate) fn test(long: bool) -> anyhow::Result<()> {
    let package = prepare()?;
    let mut types = Command::new("node");
    types.args(["node_modules/typescript/bin/tsc", "-p", "tsconfig.types.json"]).current_dir(&package);
    cargo::run(types).context("the public types, as programs use them")?;
    let mut node = tests(&package, long)?;
    node.args(test_files(&package)?);
    cargo::run(node)
}

/// Builds the demo and its native peers, and clicks it through. What it looked like is kept.
pub(crate) fn demo() -> anyhow::Result<()> {
    chromium()?;
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
    let package = page.parent().context("the page lies in its package")?;
    let mut node = tests(package, false)?;
    node.args(test_files(package)?);
    node.env("FORESHORE_STAGE", cargo::target_dir().join("debug/stage")).env("FORESHORE_SHOTS", &shots);
    let outcome = cargo::run(node);
    println!("what the demo looked like: {}", shots.display());
    outcome
}

/// The test files of a package, in the order of their names.
fn test_files(package: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files: Vec<_> = std::fs::read_dir(package.join("test"))
        .context("the package has tests")?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(".test.mjs"))
        .collect();
    files.sort();
    Ok(files)
}

/// Packs the package, looks whether it is one, and installs it into small apps: bundlers, Node, and without either.
pub(crate) fn bundlers(long: bool) -> anyhow::Result<()> {
    let package = prepare()?;
    let tarball = npm::pack(&package)?;
    npm::check(&package, &tarball)?;
    let mut node = tests(&package, long)?;
    node.arg("fixtures/bundlers.test.mjs");
    node.env("FORESHORE_TARBALL", tarball).env("FORESHORE_APPS", cargo::target_dir().join("npm/fixtures"));
    cargo::run(node)
}

/// The package and a native peer, built for tests; says where the package is.
fn prepare() -> anyhow::Result<PathBuf> {
    chromium()?;
    // Over the same members as the other steps, so that what they share is compiled once.
    cargo::run(cargo("build --quiet --bins"))?;
    npm::build(true)
}

/// A browser for tests.
pub(crate) fn chromium() -> anyhow::Result<String> {
    let chromium = std::env::var("CHROMIUM").unwrap_or_else(|_| CHROMIUM.into());
    if !Path::new(&chromium).exists() && chromium == CHROMIUM {
        install();
    }
    if !Path::new(&chromium).exists() {
        bail!("no browser at {chromium}: install Debian's chromium, or name one in CHROMIUM");
    }
    Ok(chromium)
}

/// Node's test runner in a built package.
fn tests(package: &Path, long: bool) -> anyhow::Result<Command> {
    let mut node = Command::new("node");
    // One at a time: each starts a browser and native peers.
    node.args(["--experimental-websocket", "--test", "--test-concurrency=1", "--test-reporter=spec"]);
    node.current_dir(package);
    node.env("FORESHORE_BIN", cargo::target_dir().join("debug/foreshore")).env("CHROMIUM", chromium()?);
    if std::env::var_os("FORESHORE_TRACES").is_none() {
        node.env("FORESHORE_TRACES", cargo::root().join("../shared/traces"));
    }
    if long {
        node.env("FORESHORE_LONG", "1");
    }
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
