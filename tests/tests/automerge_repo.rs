//! automerge-repo's door, by its own clients from npm (`tests/automerge-repo`), which `cargo xtask test` installs.

use std::path::Path;
use std::process::Command;

const PEER: &str = env!("CARGO_BIN_EXE_foreshore-peer");

#[test]
fn clients_of_automerge_repo_work_unchanged() {
    // Beside what cargo keeps for tests.
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("automerge-repo");
    if !home.join("node_modules/@automerge/automerge-repo").exists() {
        return println!("NOT TESTED: automerge-repo's clients are not installed in {}", home.display());
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("automerge-repo/clients.test.mjs");
    std::fs::copy(source, home.join("clients.test.mjs")).expect("the test is copied to where the clients are");
    let output = Command::new("node")
        // Adapters go on trying to reach peers that have ended.
        .args(["--test", "--test-force-exit", "--test-reporter=tap", "clients.test.mjs"])
        .current_dir(&home)
        .env("FORESHORE_BIN", PEER)
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => return println!("NOT TESTED: automerge-repo's clients: node does not start: {error}"),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "a test of the clients failed");
    let passed = said.lines().find_map(|line| line.strip_prefix("# pass ")).and_then(|count| count.parse::<u32>().ok());
    assert!(passed.is_some_and(|passed| passed >= 9), "{passed:?} tests passed");
}
