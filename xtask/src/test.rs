//! `cargo xtask test`: what a change has to pass, in the order in which it fails fastest.
//!
//! Every step runs even when an earlier one failed, so that one run tells everything; the command fails if any did.
//! Only what runs the simulators' seeds is built optimised, which has nothing of the network in it: libp2p is compiled once,
//! in the dev profile, whatever the feature combination.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::browser;
use crate::cargo::{self, cargo};
use crate::licences;

/// Seeds of the simulator in a default run, and in a long one.
const SEEDS: u64 = 1_000;
const LONG_SEEDS: u64 = 10_000;

/// Seeds of the two simulators of the strong path.
const STRONG_SEEDS: u64 = 2_000;

/// Feature sets of the library that people build, each checked on its own.
const FEATURES: [&str; 7] = ["", "redb", "sim", "coord", "net", "net,redb", "net,tower"];

/// Steps that are run with `--long`, or by name: every bundler and framework is installed from npm.
const LONG: [&str; 1] = ["bundlers"];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Many more seeds, kills and sizes
    #[arg(long)]
    long: bool,
    /// Stop at the first step that fails
    #[arg(long)]
    fail_fast: bool,
    /// Run only these steps (see --list)
    #[arg(long, value_name = "STEP", value_delimiter = ',')]
    only: Vec<String>,
    /// Name the steps and exit
    #[arg(long)]
    list: bool,
}

type Step = (&'static str, fn(&Options) -> anyhow::Result<()>);

const STEPS: [Step; 12] = [
    ("fmt", |_| cargo::run(cargo("fmt --all --check"))),
    ("clippy", |_| cargo::run(cargo("clippy --workspace --all-targets --quiet -- -D warnings"))),
    ("features", features),
    ("wasm32", wasm32),
    ("docs", docs),
    ("deny", deny),
    ("doctest", |_| cargo::run(cargo("test --doc"))),
    ("sim", simulator),
    ("tests", tests),
    ("browser", |options| browser::test(options.long)),
    ("demo", |_| browser::demo()),
    ("bundlers", |options| browser::bundlers(options.long)),
];

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    if options.list {
        STEPS.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(());
    }
    if let Some(unknown) = options.only.iter().find(|name| STEPS.iter().all(|(step, _)| step != name)) {
        bail!("there is no step {unknown:?}; `cargo xtask test --list` names them");
    }
    let mut report = Vec::new();
    let wanted = |name: &str| match options.only.as_slice() {
        [] => options.long || !LONG.contains(&name),
        only => only.iter().any(|step| step == name),
    };
    for (name, step) in STEPS.iter().filter(|(name, _)| wanted(name)) {
        println!("\n── {name} ──");
        let began = Instant::now();
        let outcome = step(options);
        if let Err(error) = &outcome {
            println!("{name} FAILED: {error:#}");
        }
        let failed = outcome.is_err();
        report.push((*name, began.elapsed(), failed));
        if failed && options.fail_fast {
            break;
        }
    }
    if options.only.is_empty() && !options.long {
        println!("\nnot run without --long: {}", LONG.join(", "));
    }
    close(&report)
}

fn close(report: &[(&str, Duration, bool)]) -> anyhow::Result<()> {
    println!();
    for (name, took, failed) in report {
        println!("{:>8}  {:>5} s  {}", name, took.as_secs(), if *failed { "FAILED" } else { "ok" });
    }
    let failed: Vec<&str> = report.iter().filter(|(.., failed)| *failed).map(|(name, ..)| *name).collect();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn features(_: &Options) -> anyhow::Result<()> {
    for set in FEATURES {
        let mut command = cargo("clippy --package foreshore --no-default-features --quiet");
        if !set.is_empty() {
            command.args(["--features", set]);
        }
        command.args(["--", "-D", "warnings"]);
        cargo::run(command)?;
    }
    Ok(())
}

/// The pure side builds for the browser: no clock, no socket, no thread crept in.
fn wasm32(_: &Options) -> anyhow::Result<()> {
    cargo::have_wasm()?;
    for set in ["", "sim", "coord"] {
        let mut command = cargo("clippy --package foreshore --no-default-features --quiet");
        command.args(["--target", cargo::WASM, "--features", set, "--", "-D", "warnings"]);
        cargo::run(command)?;
    }
    Ok(())
}

fn docs(_: &Options) -> anyhow::Result<()> {
    let mut command = cargo("doc --no-deps --lib --quiet");
    command.env("RUSTDOCFLAGS", "-Dwarnings");
    cargo::run(command)
}

/// Licences, sources and bans by `cargo deny`, which is installed where it is missing; advisories where their database can be had.
fn deny(_: &Options) -> anyhow::Result<()> {
    let Some(program) = cargo_deny() else {
        println!("cargo-deny cannot be installed: advisories, sources and bans were NOT checked, only licences.");
        return licences::check();
    };
    let deny = |words: &str| {
        let mut command = Command::new(&program);
        command.args(["--all-features"]).args(words.split(' ')).current_dir(cargo::root());
        command
    };
    cargo::run(deny("check bans licenses sources"))?;
    if cargo::run(deny("fetch db")).is_err() {
        println!("the database of advisories cannot be had from here: advisories were NOT checked.");
        return Ok(());
    }
    cargo::run(deny("check advisories"))
}

/// The program, from the path or beside what is built.
fn cargo_deny() -> Option<PathBuf> {
    if cargo::has("deny") {
        return Some("cargo-deny".into());
    }
    let tools = cargo::target_dir().join("tools");
    let program = tools.join("bin/cargo-deny");
    if !program.exists() {
        let mut install = cargo("install --locked --debug --quiet cargo-deny --root");
        install.arg(&tools).env("CARGO_TARGET_DIR", tools.join("target"));
        cargo::run(install).inspect_err(|error| println!("{error}")).ok()?;
        // Some hundred megabytes that nobody needs any more.
        let _ = std::fs::remove_dir_all(tools.join("target"));
    }
    Some(program)
}

fn simulator(options: &Options) -> anyhow::Result<()> {
    let times = if options.long { LONG_SEEDS / SEEDS } else { 1 };
    crate::sim::seeds(None, times * SEEDS)?;
    ["consensus", "coord"].into_iter().try_for_each(|name| crate::sim::seeds(Some(name), times * STRONG_SEEDS))
}

/// Unit, property, process and crash tests. Process tests start the programs that are built here first.
fn tests(options: &Options) -> anyhow::Result<()> {
    let namespaces = namespaces();
    let clients = [
        ("kazoo through ZooKeeper's door", kazoo()),
        ("beside Debian's ZooKeeper", zookeeper()),
        ("the HTTP door by Schemathesis", schemathesis()),
        ("the lines of docs/http.md", curl()),
        ("automerge-repo's clients", automerge_repo()),
    ];
    cargo::run(cargo("build --bins --quiet"))?;
    let nextest = cargo::has("nextest");
    let mut command = match (nextest, options.long) {
        (true, false) => cargo("nextest run"),
        (true, true) => cargo("nextest run --profile long"),
        (false, _) => cargo("test --lib --bins --tests --no-fail-fast"),
    };
    if !nextest {
        println!("cargo-nextest is not installed: `cargo test` runs the same tests, less side by side.");
    }
    if options.long {
        command.env("FORESHORE_LONG", "1");
    }
    let outcome = cargo::run(command);
    if let Err(why) = namespaces {
        println!("\nNOT TESTED: peers in network namespaces (cuts, stops): {why}");
    }
    for (what, there) in clients {
        if let Err(why) = there {
            println!("\nNOT TESTED: {what}: {why}");
        }
    }
    outcome
}

fn is_root() -> bool {
    let user = Command::new("id").arg("-u").output();
    user.is_ok_and(|user| String::from_utf8_lossy(&user.stdout).trim() == "0")
}

/// Whether there is a Python with kazoo, ZooKeeper's client of PyPI.
fn kazoo() -> Result<(), String> {
    from_pypi("kazoo", "kazoo==2.11.0", &["bin/python", "-c", "import kazoo"])
}

/// Whether there is Schemathesis, which tries the HTTP door by its description.
fn schemathesis() -> Result<(), String> {
    from_pypi("schemathesis", "schemathesis==4.32.5", &["bin/st", "--version"])
}

/// Whether automerge-repo's clients of npm are there; installs them beside what is built.
fn automerge_repo() -> Result<(), String> {
    let home = cargo::target_dir().join("automerge-repo");
    let installed = || {
        std::fs::create_dir_all(&home)?;
        for file in ["package.json", "package-lock.json"] {
            std::fs::copy(cargo::root().join("tests/automerge-repo").join(file), home.join(file))?;
        }
        crate::npm::install(&home)
    };
    installed().map_err(|error| format!("they could not be installed from npm: {error:#}"))
}

/// Whether a package of PyPI is there and `check` runs; makes a Python with it beside what is built where that is possible.
fn from_pypi(name: &str, package: &str, check: &[&str]) -> Result<(), String> {
    let home = cargo::target_dir().join(name);
    let works = || Command::new(home.join(check[0])).args(&check[1..]).output().is_ok_and(|it| it.status.success());
    if works() {
        return Ok(());
    }
    println!("installing {name} from PyPI into {}", home.display());
    let _ = Command::new("python3").args(["-m", "venv"]).arg(&home).status();
    let _ = Command::new(home.join("bin/python")).args(["-m", "pip", "install", "--quiet", package]).status();
    if works() {
        return Ok(());
    }
    // The tests take a Python that is there for one that works.
    let _ = std::fs::remove_dir_all(&home);
    Err(format!("{name} could not be installed from PyPI (that takes python3 with venv, and the network)"))
}

/// Whether there is a curl that speaks HTTP/2; installs one where that is possible.
fn curl() -> Result<(), String> {
    let works = || {
        let told = Command::new("curl").arg("--version").output();
        told.is_ok_and(|told| String::from_utf8_lossy(&told.stdout).contains("HTTP2"))
    };
    if !works() && is_root() {
        println!("installing curl for the lines of docs/http.md");
        let _ = Command::new("apt-get").args(["install", "--yes", "--quiet", "curl"]).status();
    }
    if works() { Ok(()) } else { Err("there is no curl that speaks HTTP/2, and installing one takes root".into()) }
}

/// Whether Debian's ZooKeeper is there, the server and its command line; installs it where that is possible.
fn zookeeper() -> Result<(), String> {
    let files = ["/usr/share/java/zookeeper.jar", "/usr/bin/java"];
    let is_there = || files.iter().all(|file| std::path::Path::new(file).exists());
    if !is_there() && is_root() {
        println!("installing zookeeper and default-jre-headless for the tests beside it");
        let packages = ["zookeeper", "default-jre-headless"];
        let _ = Command::new("apt-get").args(["install", "--yes", "--quiet"]).args(packages).status();
    }
    match is_there() {
        true => Ok(()),
        false => Err("it is not there, and installing packages zookeeper and default-jre-headless takes root".into()),
    }
}

/// Whether the test with network namespaces can run; installs what it needs where that is possible.
fn namespaces() -> Result<(), String> {
    let has_ip = || Command::new("ip").arg("-V").output().is_ok_and(|output| output.status.success());
    if !is_root() {
        return Err("that takes root".into());
    }
    if !has_ip() {
        println!("installing iproute2 for the test with network namespaces");
        let _ = Command::new("apt-get").args(["install", "--yes", "--quiet", "iproute2"]).status();
    }
    if !has_ip() {
        return Err("there is no `ip`, and it could not be installed (package iproute2)".into());
    }
    let name = format!("fs-{}-probe", std::process::id());
    let probe = |what: &str| Command::new("ip").args(["netns", what, &name]).output();
    match probe("add") {
        Ok(added) if added.status.success() => drop(probe("del")),
        Ok(added) => return Err(String::from_utf8_lossy(&added.stderr).trim().to_owned()),
        Err(error) => return Err(error.to_string()),
    }
    Ok(())
}
