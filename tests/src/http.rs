//! What tests of the HTTP door need: a peer that has it open, and whether the clients that nobody here wrote are there.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value as Json;
use tempfile::TempDir;

use crate::netns::{Process, clean};

/// A `foreshore run` with its door open to this machine.
#[derive(Debug)]
pub struct Door {
    /// Where it answers, as `127.0.0.1:4800`.
    pub address: String,
    /// Its data directory.
    pub data: PathBuf,
    _process: Process,
    _home: TempDir,
}

impl Door {
    /// Starts one that keeps nothing.
    pub fn start(binary: &str, more: &[&str]) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let data = home.path().join("data");
        let mut command = Command::new(binary);
        clean(&mut command).arg("--data").arg(&data).args(["--json", "run", "--http", "127.0.0.1:0", "--http-api"]);
        command.args(["--storage", "memory", "--listen", "/ip4/127.0.0.1/tcp/0"]).args(more);
        let mut child = command.spawn().expect("the binary is there");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line).expect("a line");
        let process = Process(child);
        let ready: Json = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        let address = ready["status"]["http"].as_str().expect("it has an HTTP port").to_owned();
        Self { address, data, _process: process, _home: home }
    }
}

/// Schemathesis, or why there is none. `cargo xtask test` installs it, beside what cargo keeps for tests.
pub fn schemathesis(temporary: &str) -> Result<PathBuf, String> {
    let program = Path::new(temporary).with_file_name("schemathesis").join("bin/st");
    if program.exists() { Ok(program) } else { Err(format!("{} is not there", program.display())) }
}

/// Whether there is a `curl` that can stream, patch and speak HTTP/2.
pub fn curl() -> Result<(), String> {
    let told = Command::new("curl").arg("--version").output();
    let told = told.map_err(|error| format!("curl does not start: {error}"))?;
    match String::from_utf8_lossy(&told.stdout).contains("HTTP2") {
        true => Ok(()),
        false => Err("this curl does not speak HTTP/2".into()),
    }
}
