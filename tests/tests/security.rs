//! The threat model names tests: they exist, and every exception of the supply chain has a date.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Names of all functions below a directory.
fn functions(directory: &Path, into: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let named = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
            into.extend(named.map(str::to_owned));
        }
    }
}

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let mut known = BTreeSet::new();
    for directory in ["core/src", "node/src", "node/tests", "tests/tests"] {
        functions(&root().join(directory), &mut known);
    }
    let model = std::fs::read_to_string(root().join("docs/security.md")).unwrap();
    let threats = model.split("## Threats").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows: Vec<&str> = threats.lines().filter(|line| line.starts_with('|')).skip(2).collect();
    let mut off = 0;
    for row in &rows {
        let proofs = row.trim_end_matches([' ', '|']).rsplit(" | ").next().unwrap();
        let names: Vec<&str> = proofs.split('`').skip(1).step_by(2).filter(|name| !name.contains(' ')).collect();
        assert!(!names.is_empty(), "no test: {row}");
        for name in names {
            assert!(known.contains(name), "there is no test {name}");
        }
        off += usize::from(proofs.contains("**off**"));
    }
    assert!(rows.len() >= 20, "{}", rows.len());
    assert!(off >= 12, "{off} rows have a test that leaves the defence out to see that it can fail");
}

#[test]
fn every_exception_of_the_supply_chain_has_a_date_and_a_reason() {
    let text = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    let ignored = text.split("ignore = [").nth(1).unwrap().split("\n]").next().unwrap();
    let exceptions: Vec<&str> = ignored.lines().map(str::trim).filter(|line| line.starts_with('{')).collect();
    assert!(!exceptions.is_empty());
    for exception in exceptions {
        let reason = exception.split("reason = \"").nth(1).unwrap();
        let (date, why) = reason.split_once(": ").unwrap();
        let digits = date.bytes().filter(u8::is_ascii_digit).count();
        assert!(digits == 8 && date.len() == 10 && why.len() > 20, "{exception}");
    }
    assert!(ignored.matches("looked at again by 20").count() >= 2);
}
