//! `wasm`: what the npm package costs a page: its download, and the main thread of a real browser.
//!
//! `cargo xtask bench` builds the package, in release, and says where it is; the measuring is `bench/wasm.mjs` in it.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::Scale;
use crate::report::Report;

/// The figures: name, goal if there is one, unit.
const FIGURES: [(&str, Option<f64>, &str); 9] = [
    ("wasm_brotli_kb", Some(850.0), "kB"),
    ("js_gzip_kb", Some(20.0), "kB"),
    ("main_thread_longest_task_ms", Some(50.0), "ms"),
    ("warm_open_ms_p95", Some(150.0), "ms"),
    ("warm_open_ms_median", None, "ms"),
    ("large_document_mb", None, "MB"),
    ("large_open_ms", None, "ms"),
    ("main_thread_longest_task_cpu_ms", None, "ms"),
    ("wasm_raw_kb", None, "kB"),
];

pub(crate) fn run(scale: Scale, report: &mut Report) -> anyhow::Result<()> {
    let Some(package) = std::env::var_os("FORESHORE_PACKAGE") else {
        report
            .missing("wasm_brotli_kb", "FORESHORE_PACKAGE names no built package; `cargo xtask bench wasm` builds one");
        return Ok(());
    };
    let mut node = Command::new("node");
    node.arg("bench/wasm.mjs").current_dir(Path::new(&package)).stderr(Stdio::inherit());
    if scale.quick {
        node.arg("--quick");
    }
    let output = node.output().context("node measures the package")?;
    ensure!(output.status.success(), "bench/wasm.mjs ended with {}", output.status);
    let measured: Value = serde_json::from_slice(&output.stdout).context("reading what bench/wasm.mjs found")?;
    for (name, goal, unit) in FIGURES {
        match (measured[name].as_f64(), goal) {
            (Some(value), Some(goal)) => report.at_most(name, goal, value, unit),
            (Some(value), None) => report.figure(name, value, unit),
            (None, _) => report.missing(name, "bench/wasm.mjs did not say"),
        }
    }
    report.note("kB are 1,000 bytes; brotli at 11, gzip at 9; the scripts are the page's and the worker's together");
    report
        .note("a task is as long as the clock had it; what other programs took of it is in it, and not in ..._cpu_ms");
    Ok(())
}
