//! `cargo xtask npm`: the npm package `foreshore`.
//!
//! Everything happens in `target/npm`: sources are copied there, and what the build needs from npm is installed beside them
//! by the committed lock file, so that the clone itself stays clean. The JavaScript around the wasm is made by
//! wasm-bindgen's own library at exactly the version that the wasm was compiled with.
//!
//! | in `dist` | from |
//! |---|---|
//! | `*.js`, `*.d.ts` | `wasm/js/src`, by TypeScript |
//! | `core.js`, `core.wasm` | the crate `foreshore-wasm`, by wasm-bindgen |
//! | `core-base64.js` | `core.wasm` once more, inside a script, for places that cannot fetch |

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
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
    let tarball = pack(&package)?;
    println!("packed into {}", tarball.display());
    let mut sizes = Command::new("node");
    sizes.arg("test/sizes.mjs").current_dir(&package);
    cargo::run(sizes)
}

/// Packs a built package as it would be published.
pub(crate) fn pack(package: &Path) -> anyhow::Result<PathBuf> {
    let mut pack = npm(package);
    pack.args(["pack", "--silent", "--pack-destination", ".."]);
    let name = String::from_utf8(cargo::output(pack)?).context("npm says what it has packed")?;
    Ok(package.parent().unwrap_or(package).join(name.trim()))
}

/// Builds the package and says where it is.
pub(crate) fn build(dev: bool) -> anyhow::Result<PathBuf> {
    let package = cargo::target_dir().join("npm").join("foreshore");
    let wasm = compile(dev)?;
    copy_sources(&cargo::root().join("wasm/js"), &package)?;
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        std::fs::copy(cargo::root().join(licence), package.join(licence)).with_context(|| licence.to_owned())?;
    }
    // What native tests check, and the package's own as well.
    let vectors = package.join("test/vectors");
    std::fs::create_dir_all(&vectors)?;
    std::fs::copy(cargo::root().join("tests/vectors/storage.json"), vectors.join("storage.json")).context("vectors")?;
    install(&package)?;
    let dist = package.join("dist");
    let mut tsc = Command::new("node");
    tsc.args(["node_modules/typescript/bin/tsc", "-p", "tsconfig.json"]).current_dir(&package);
    cargo::run(tsc)?;
    bind(&wasm, &dist)?;
    if !dev {
        shrink(&package)?;
    }
    embed(&dist, if dev { Compression::fast() } else { Compression::best() })?;
    Ok(package)
}

fn compile(dev: bool) -> anyhow::Result<PathBuf> {
    const TARGET: &str = cargo::WASM;
    cargo::have_wasm()?;
    let profile = if dev { "dev" } else { "wasm" };
    let mut build = cargo(&format!("build --quiet --package foreshore-wasm --target {TARGET} --profile {profile}"));
    if dev {
        // What only tests call.
        build.args(["--features", "vectors"]);
    }
    cargo::run(build)?;
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
    std::fs::rename(dist.join("core_bg.wasm"), dist.join("core.wasm")).context("naming the wasm")?;
    serve_anywhere(&dist.join("core.js"))
}

/// libp2p's WebSockets take their timers from a window or a worker's scope and panic where there is neither, as in Node,
/// whose timers serve as well: it is told of a scope there, by the one place that asks for it.
fn serve_anywhere(script: &Path) -> anyhow::Result<()> {
    const ASKS: &str = ".WorkerGlobalScope;";
    let text = std::fs::read_to_string(script)?;
    if text.matches(ASKS).count() != 1 {
        bail!("{} does not ask for a worker's scope in one place any more", script.display());
    }
    std::fs::write(script, text.replace(ASKS, ".WorkerGlobalScope ?? true;")).context("writing core.js")
}

/// WebAssembly as every browser of the last years takes it, which is what the compiler makes as well.
const FEATURES: [&str; 6] =
    ["bulk-memory", "multivalue", "mutable-globals", "nontrapping-float-to-int", "reference-types", "sign-ext"];

fn shrink(package: &Path) -> anyhow::Result<()> {
    let mut opt = Command::new("node");
    opt.arg("node_modules/binaryen/bin/wasm-opt").args(FEATURES.map(|feature| format!("--enable-{feature}")));
    opt.args(["-Oz", "--strip-debug", "--strip-producers", "dist/core.wasm", "-o", "dist/core.wasm"]);
    opt.current_dir(package);
    cargo::run(opt)?;
    // File by file: bundlers still see what imports what, and leave out what is not used.
    let mut minify = Command::new("node");
    minify.args(["node_modules/esbuild/bin/esbuild"]);
    minify.args(scripts(&package.join("dist"))?);
    minify.args(["--minify", "--target=es2022", "--log-level=warning", "--outdir=dist", "--allow-overwrite"]);
    minify.current_dir(package);
    cargo::run(minify)
}

fn scripts(dist: &Path) -> anyhow::Result<Vec<String>> {
    let entries = std::fs::read_dir(dist).context("reading what was built")?;
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
    let mut scripts: Vec<_> = names.filter(|name| name.ends_with(".js")).map(|name| format!("dist/{name}")).collect();
    scripts.sort();
    Ok(scripts)
}

/// The wasm inside a script.
fn embed(dist: &Path, level: Compression) -> anyhow::Result<()> {
    let wasm = std::fs::read(dist.join("core.wasm")).context("the wasm is built")?;
    let mut packed = GzEncoder::new(Vec::new(), level);
    packed.write_all(&wasm)?;
    let script = format!("export default\"{}\";\n", STANDARD.encode(packed.finish()?));
    std::fs::write(dist.join("core-base64.js"), script).context("embedding the wasm")
}

/// Whether the packed package is what npm, TypeScript and bundlers take it for.
pub(crate) fn check(package: &Path, tarball: &Path) -> anyhow::Result<()> {
    let tool = |script: &str| {
        let mut tool = Command::new("node");
        tool.arg(script).current_dir(package);
        tool
    };
    let mut publint = tool("node_modules/publint/src/cli.js");
    publint.args(["--strict", "--pack", "npm"]);
    cargo::run(publint)?;
    let mut attw = tool("node_modules/@arethetypeswrong/cli/dist/index.js");
    // Modules only: what cannot import them is told so by Node itself.
    attw.arg(tarball).args(["--profile", "esm-only", "--exclude-entrypoints", "core.wasm", "--format", "ascii"]);
    cargo::run(attw)?;
    let declarations = std::fs::read_dir(package.join("dist"))?.filter_map(|entry| Some(entry.ok()?.path()));
    for path in declarations.filter(|path| path.to_string_lossy().ends_with(".d.ts")) {
        let text = std::fs::read_to_string(&path)?;
        if let Some(line) = text.lines().find(|line| has_any(line)) {
            bail!("{} says `any`: {line}", path.display());
        }
    }
    Ok(())
}

/// Whether a line of TypeScript has the type `any`, outside of comments.
fn has_any(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or(line);
    let comment = code.trim_start().starts_with(['*', '/']);
    !comment && code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "any")
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
